"""The script of counting languages: the largest n handled is exact, and what it runs and tells of its rows."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rlstm.api import experiments as api
from rlstm.cli.train import experiment as parse_experiment
from rlstm.training.presets import PRESETS

S, A, B, C, T = range(5)


class Counter:
    """Acts by counting: a's up to ``most``, and for one n, if told, says wrong what follows one of the letters."""

    def __init__(self, most: int = 10**6, wrong_n: int | None = None, wrong_letter: int = C) -> None:
        self.most, self.wrong_n, self.wrong_letter = most, wrong_n, wrong_letter

    def act(self, inputs: Any, state: Any, is_first: torch.Tensor, *, deterministic: bool) -> tuple[torch.Tensor, Any]:
        symbols = inputs.observations
        symbols = symbols.argmax(-1) if symbols.dim() > 1 else symbols.long()
        a, letter, count = torch.where(is_first, torch.zeros_like(state), state)
        a = torch.where(symbols == A, (a + 1).clamp(max=self.most), a)
        count = torch.where(symbols == letter, count + 1, 1)
        last = (count == a) & (symbols > A)
        following = torch.where(symbols == S, A, symbols + last.long())
        legal = torch.nn.functional.one_hot(following - 1, 4)
        legal[symbols == A] = torch.tensor([1, 1, 0, 0])
        legal[(a == self.wrong_n) & (symbols == self.wrong_letter) & last] = 0
        return legal, torch.stack([a, symbols, count])


@pytest.fixture
def script(scripts):
    return scripts.counting


@pytest.fixture
def policy():
    """A policy of the task whose snapshot a test may choose."""
    training, _ = api._make_training(api.make_config("evolino", "anbncn"))
    made = training.policy
    training.close()

    def with_snapshot(counter: Counter):
        return SimpleNamespace(
            acting_snapshot=lambda: counter,
            init_state=lambda count: torch.zeros(3, count, dtype=torch.int64),
            **{name: getattr(made, name) for name in ("memory", "distribution", "device", "dtype", "inputs")},
            observation_space=made.observation_space,
        )

    return with_snapshot


@pytest.mark.parametrize(
    ("counter", "largest"),
    [
        (Counter(), 100),
        (Counter(most=12), 12),
        (Counter(wrong_n=13), 12),
        (Counter(wrong_n=1, wrong_letter=B), 0),
        (Counter(wrong_n=33, wrong_letter=B), 32),
        (Counter(wrong_n=64), 63),
        (Counter(wrong_n=100), 99),
        (Counter(wrong_n=101), 100),
    ],
)
def test_the_largest_n_is_that_below_the_first_string_with_a_wrong_set(script, policy, counter, largest) -> None:
    chosen = policy(counter)
    assert script.largest_n(lambda some: script.accepted(chosen, "anbncn", some), 100) == largest


def test_every_env_reads_the_string_of_its_own_n(script, policy) -> None:
    found = script.accepted(policy(Counter(wrong_n=7)), "anbncn", [9, 7, 1, 30])
    np.testing.assert_array_equal(found, [True, False, True, True])


def test_no_n_is_asked_twice_or_left_out(script) -> None:
    asked: list[int] = []

    def accepts(some):
        asked.extend(some)
        return np.ones(len(some), dtype=bool)

    assert script.largest_n(accepts, 777) == 777
    assert asked == list(range(1, 778))


def test_every_run_is_one_that_rlstm_accepts(script) -> None:
    first, second, longer, control = (
        parse_experiment("evolino", script.words("anbncn", 40, strategy, 3, second=second)[2:])[0]
        for strategy, second in (("evolution", False), ("evolution", True), ("longer", True), ("random", True))
    )
    assert first.algorithm == api.make_config("evolino", "anbncn").algorithm
    assert first.algorithm.population == script.POPULATION
    assert PRESETS["anbncn"].settings["env_kwargs"] == {"max_n": 10}
    assert [one.env.env_kwargs["max_n"] for one in (first, second, longer, control)] == [10, 40, 40, 40]
    assert longer.run.total_steps == 5 * second.run.total_steps
    assert control.algorithm.population == script.GENOMES
    assert control.algorithm.sigma == first.algorithm.sigma


def test_the_other_language_has_its_own_env_and_strings(script, tmp_path, monkeypatch) -> None:
    words = script.words
    short = ["--total-steps", "40", "--batch-size", "2"]
    monkeypatch.setattr(script, "words", lambda *args, **kwargs: [*words(*args, **kwargs), *short])
    row = script.run_one("anbn", 2, "filter", 0, tmp_path)  # The length of each string it is asked for is checked.
    assert row["language"] == "anbn"
    assert "--env rlstm/AnBn-v0" in row["command"]
    assert "--env" not in words("anbncn", 2, "filter", 0, second=True)


def test_a_row_holds_the_largest_n_of_the_second_runs_champion(script, tmp_path, monkeypatch) -> None:
    short = ["--total-steps", "1", "--population", "8"]
    words = script.words
    monkeypatch.setattr(script, "words", lambda *args, **kwargs: [*words(*args, **kwargs), *short])
    rows = [script.run_one("anbncn", max_n, "evolution", 0, tmp_path) for max_n in (2, 3)]
    assert [row["max_n"] for row in rows] == [2, 3]
    assert {path.name for path in tmp_path.iterdir()} == {"first-0", "evolution-2-0", "evolution-3-0"}
    assert all(row["generations"] == 2 and set(row) == set(script.COLUMNS) for row in rows)
    assert all(0 <= row["largest_n"] < 10 for row in rows)


@pytest.mark.parametrize("strategy", ["filter", "gradient", "joint"])
def test_what_nothing_goes_on_from_is_one_run(script, strategy: str, tmp_path, monkeypatch) -> None:
    words = script.words
    short = ["--total-steps", "60", *(["--batch-size", "2"] if strategy != "joint" else ["--population", "4"])]
    monkeypatch.setattr(script, "words", lambda *args, **kwargs: [*words(*args, **kwargs), *short])
    row = script.run_one("anbncn", 2, strategy, 0, tmp_path)
    assert set(row) == set(script.COLUMNS)
    assert (row["sequences"] == "") == (row["genomes"] != "") == (strategy == "joint")
    assert "max_n=2" in row["command"]
    assert "FIRST" not in row["command"]


def test_what_is_there_is_not_run_again_and_seeds_come_first(script) -> None:
    rows = [{"language": "anbncn", "max_n": "10", "strategy": "random", "seed": "0"}]
    left = [(40, "random", 0), (10, "random", 1), (40, "random", 1)]
    assert script.left(rows, "anbncn", [10, 40], ["random"], [0, 1]) == left
    assert script.left(rows, "anbn", [10, 40], ["random"], [0, 1]) == [(10, "random", 0), *left]


def test_the_table_has_median_best_and_worst_and_marks_where_measuring_stopped(script) -> None:
    names = {"language": "anbncn", "max_n": "10", "strategy": "evolution", "genomes": "9000", "seconds": "4"}
    rows = [{**names, "largest_n": value} for value in ("10", "60", "1000")]
    *_, line = script.table(rows).splitlines()
    assert line == "| aⁿbⁿcⁿ, 1 to 10 | SNES, readout solved | 60 | 1000 or more | 10 | 2 of 3 | 9,000 genomes | 4 s |"
    rows = [{**row, "strategy": "filter", "genomes": "", "sequences": "2000"} for row in rows]
    *_, line = script.table(rows).splitlines()
    assert line == "| aⁿbⁿcⁿ, 1 to 10 | Kalman filter | 60 | 1000 or more | 10 | 2 of 3 | 2,000 sequences | 4 s |"
    assert script.table([]) == ""
