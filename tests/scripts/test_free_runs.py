"""The script of free runs: what it runs, what it reads from returns, and what it tells of its rows."""

import numpy as np
import pytest

from rlstm.api.configs import make_config
from rlstm.cli.train import experiment as parse_experiment
from rlstm.training.presets import PRESETS


@pytest.fixture
def script(scripts):
    return scripts.free_runs


def test_errors_are_relative_to_the_signals_deviation(script) -> None:
    # Squared errors of 0.01 at each of 300 steps: a tenth, and the deviation is a half.
    found = script.errors(np.array([-3.0, 0.0, 1e-18]), 300, 0.25)
    np.testing.assert_allclose(found, [0.2, 0.0, 0.0])
    assert script.variance("sines-5") == 0.1
    assert script.variance("mackey-glass") == pytest.approx(0.0511)


def test_the_error_at_the_end_is_what_one_step_more_costs(script) -> None:
    shorter, longer = np.array([-1.0, -2.0]), np.array([-1.0, -2.08])
    assert script.error_at_end(shorter, longer, 0.04) == pytest.approx(1.0)


def test_every_run_is_one_that_rlstm_accepts_and_is_the_preset_of_its_task(script) -> None:
    for name, task in script.TASKS.items():
        for strategy in script.STRATEGIES:
            config, _ = parse_experiment("evolino", task.words(strategy))
            assert config.algorithm.population == (task.genomes if strategy == "random" else task.population)
        preset = name.removesuffix("-2")
        if preset in PRESETS:
            config, _ = parse_experiment("evolino", task.words("snes"))
            assert config == make_config("evolino", preset)


def test_what_is_there_is_not_run_again_and_seeds_come_first(script) -> None:
    rows = [{"task": "sines-2", "strategy": "esp", "seed": "0"}]
    assert script.left(rows, ["sines-2", "sines-3"], ["esp"], [0, 1]) == [
        ("sines-3", "esp", 0),
        ("sines-2", "esp", 1),
        ("sines-3", "esp", 1),
    ]


def test_the_table_counts_seeds_under_the_mark_as_they_are_measured(script) -> None:
    names = {"task": "mackey-glass", "strategy": "esp", "nrmse_median": "1", "genomes": "20"}
    rows = [{**names, "nrmse84": value, "seconds": "4"} for value in ("0.01", "0.03", "0.018")]
    *_, rule, line = script.table(rows).splitlines()
    assert set(rule) == {"|", "-"}
    assert line.endswith("| ESP | NRMSE84 | 1.8e-02 | 1.0e-02 | 3.0e-02 | 0.02 | 2 of 3 | 20 | 4.0 s |")
    assert script.table([]) == ""
