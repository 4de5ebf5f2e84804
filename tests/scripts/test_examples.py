"""Claims about `scripts/examples/`: they are short, their data are as they say, and they learn what they say."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "scripts" / "examples").glob("*.py"))
PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")

needs_statsmodels = pytest.mark.skipif(
    importlib.util.find_spec("statsmodels") is None,
    reason="statsmodels is not installed: pip install 'rlstm-torch[examples]'",
)


def figures(output: str) -> dict[str, list[float]]:
    """The numbers after the colon of every indented line, by the words before it."""
    lines = re.findall(r"^  ([^:\n]+): (.*)$", output, re.MULTILINE)
    return {name: [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", rest)] for name, rest in lines}


def run(name: str) -> dict[str, list[float]]:
    """The figures that an example prints, run as a user runs it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", f"scripts.examples.{name}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return figures(done.stdout)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_can_be_imported(scripts, name) -> None:
    assert callable(getattr(scripts, name).main)
    assert len((ROOT / "scripts" / "examples" / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 80


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_shows_an_example_with_its_output(scripts, name) -> None:
    command = f"python -m scripts.examples.{name}"
    assert command in PAGE
    assert command in getattr(scripts, name).__doc__
    shown = PAGE.partition(command)[2].partition("```text")[2].partition("```")[0]
    assert len(figures(shown)) >= 2


def test_the_series_that_is_missing_is_named_with_its_extra(scripts, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels.datasets", None)
    with pytest.raises(SystemExit, match=r"rlstm-torch\[examples\]"):
        scripts.sunspots.yearly_sunspots()


def test_no_forecast_is_made_of_the_years_to_come(scripts) -> None:
    """A linear process is forecast without an error, and a change of a value changes later forecasts only."""
    series = np.sin(0.7 * np.arange(60))
    is_train = np.arange(60) < 40
    forecasts = scripts.sunspots.autoregression(series, is_train)
    np.testing.assert_allclose(forecasts[scripts.sunspots.LAGS :], series[scripts.sunspots.LAGS :], atol=1e-9)
    changed = series.copy()
    changed[50] += 1.0
    differs = ~np.isclose(scripts.sunspots.autoregression(changed, is_train), forecasts)
    assert not differs[:51].any()
    assert differs[51]


def test_a_stretch_of_the_series_asks_for_its_next_values(scripts) -> None:
    series = np.arange(200.0)
    env = scripts.sunspots.Forecast(series)
    seen, _ = env.reset(seed=3)
    for step in range(1, scripts.sunspots.STRETCH + 1):
        after, reward, over, _, info = env.step(seen)
        assert info["target"] == after == seen + 1
        assert reward == -1.0
        assert over == (step == scripts.sunspots.STRETCH)
        seen = after


def test_means_and_variances_of_steps_and_stairs_are_alike(scripts) -> None:
    """Their distributions: the difference of their averages is small beside their deviations."""
    rng = np.random.default_rng(0)
    drawn = {
        name: np.stack([scripts.activities.window(rng, name) for _ in range(400)]) for name in ("walking", "stairs")
    }
    for statistic in (np.mean, np.var):
        one, other = (statistic(windows, axis=1) for windows in drawn.values())
        assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) < 0.25 * one.std(axis=0)).all()


def test_an_activity_is_asked_for_at_the_last_reading_alone(scripts) -> None:
    env = scripts.activities.Activity()
    env.reset(seed=0)
    steps = [env.step(env.label) for _ in range(scripts.activities.LENGTH)]
    assert [step[4]["target"] for step in steps] == [-1] * (len(steps) - 1) + [env.label]
    assert [step[1] for step in steps] == [0.0] * (len(steps) - 1) + [1.0]
    assert [step[2] for step in steps] == [False] * (len(steps) - 1) + [True]


def test_faults_are_no_larger_values_and_come_when_memory_is_warm(scripts) -> None:
    module = scripts.anomalies
    largest = {None: 0.0}
    for fault in module.FAULTS:
        faulty = np.stack([module.signal(np.random.default_rng(seed), fault) for seed in range(300)])
        usual = np.stack([module.signal(np.random.default_rng(seed)) for seed in range(300)])
        differs = ~np.isclose(faulty, usual)
        assert differs.any(axis=1).all()
        assert not differs[:, : module.WARM_UP + 1].any()
        largest[fault], largest[None] = np.abs(faulty).max(), np.abs(usual).max()
    assert all(value < 1.1 * largest[None] for value in largest.values())


def test_the_expert_of_the_maze_turns_right_and_is_recorded_as_runs_are(scripts, tmp_path) -> None:
    recorded = scripts.cloning_tmaze.demonstrations()
    assert recorded.successes.all()
    assert (recorded.num_trajectories, len(recorded.valid)) == (500, 101)
    recorded.save(tmp_path / "walks.safetensors")
    assert (type(recorded).load(tmp_path / "walks.safetensors").returns == 4.0).all()


def test_the_expert_of_the_pole_sees_velocities_that_are_not_written_down(scripts) -> None:
    module = scripts.cloning_pole
    recorded = module.demonstrations(np.random.default_rng(0))
    assert recorded.observations.shape == (module.LENGTH, module.EPISODES, 2)
    by_what_is_seen = recorded.observations @ module.RULE[module.SEEN] > 0
    assert np.mean(by_what_is_seen == recorded.actions) < 0.9


@needs_statsmodels
@pytest.mark.slow
def test_sunspots_are_forecast_as_well_as_by_an_autoregression() -> None:
    found = run("sunspots")
    assert found["LSTM"][0] < 0.75 * found["as this year"][0]
    assert found["LSTM"][0] < 1.1 * found["linear, of 9 years"][0]


@pytest.mark.slow
def test_faults_are_found_that_values_do_not_show() -> None:
    found = run("anomalies")
    assert max(found["largest value"]) < 0.1
    assert min(found["LSTM"]) > 0.8


@pytest.mark.slow
def test_spikes_are_made_in_time() -> None:
    found = run("rhythm")
    assert found["LSTM with peepholes"][1] > 0.95
    assert found["the same without its memory"][1] == 0.0
    assert found["the same without its memory"][0] >= 0.99 * found["the least possible without a memory"][0]


@pytest.mark.slow
def test_longer_strings_are_read_than_those_learnt_from() -> None:
    found = run("grammar")
    assert found["LSTM with peepholes"][0] > found["in training"][0] == 10
    assert found["the same without its memory"][0] <= 1


@pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None,
    reason="scikit-learn is not installed: pip install 'rlstm-torch[examples]'",
)
@pytest.mark.slow
def test_digits_are_read_that_columns_alone_hardly_show() -> None:
    found = run("handwriting")
    assert found["bidirectional LSTM"][0] < 0.25
    assert found["without memory"][0] > 0.6


@pytest.mark.slow
def test_activities_are_told_apart_that_means_and_variances_confuse() -> None:
    found = run("activities")
    assert found["LSTM"][0] > 0.9
    assert found["linear, by means and variances"][0] < 0.75


@pytest.mark.slow
def test_a_clone_finds_its_way_through_the_maze() -> None:
    found = run("cloning_tmaze")
    assert found["clone"] == found["expert"] == [1.0]
    assert found["clone without its memory"][0] < 0.65


@pytest.mark.slow
def test_a_clone_balances_without_the_velocities_of_its_expert() -> None:
    found = run("cloning_pole")
    assert found["clone with a memory"][0] > 0.9 * found["expert"][0]
    assert found["clone without one"][0] < 0.5 * found["expert"][0]
