"""Run directories written by an earlier version are evaluated as that version did, and can be resumed.

The runs in ``tests/fixtures/runs`` were made at commit 86ce3a9, before modules, settings and classes were renamed. Each
holds what that commit's ``rlstm evaluate`` and ``rlstm resume`` gave, in float64. Evolution goes on to what it gave
then; agents that sample actions go on with other ones, because random numbers become actions in another way now.
"""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from rlstm.api.experiments import resume
from rlstm.api.finished_runs import evaluate_run
from rlstm.training.checkpoints import load_checkpoint
from rlstm.training.run_directory import RunDirectory

RUNS = Path(__file__).parents[1] / "fixtures" / "runs"
NAMES = sorted(path.name for path in RUNS.iterdir())
EVOLVED = [name for name in NAMES if name.startswith("evolino")]


@pytest.fixture(params=NAMES)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy of a stored run, and what is expected of it."""
    run_dir = tmp_path / request.param
    shutil.copytree(RUNS / request.param, run_dir)
    return run_dir, json.loads((run_dir / "expected.json").read_text())


def check_weights(run_dir: Path, expected: dict[str, float]) -> None:
    model = load_checkpoint(RunDirectory.open(run_dir), "latest").model
    assert {name: float(tensor.double().sum()) for name, tensor in model.items()} == pytest.approx(
        expected, rel=1e-7, abs=1e-9
    )


def check_evaluation(run_dir: Path, expected: dict[str, Any], episodes: int, **options: Any) -> None:
    summary = evaluate_run(run_dir, episodes=episodes, checkpoint="latest", **options).summary()
    assert summary.pop("cut") == 0  # Which was not told then.
    assert summary == pytest.approx({name: expected[name] for name in summary}, rel=1e-6)


def rows_of(run_dir: Path) -> list[dict[str, float]]:
    """The logged metrics of every update, without what was not logged in it."""
    with (run_dir / "progress.csv").open(newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def test_a_stored_run_is_evaluated_as_before(stored: tuple[Path, dict[str, Any]]) -> None:
    run_dir, expected = stored
    check_weights(run_dir, expected["before"]["tensor_sums"])
    check_evaluation(run_dir, expected["before"]["evaluate"], expected["episodes"])
    check_evaluation(run_dir, expected["before"]["evaluate_ablated"], expected["episodes"], ablate_memory=True)


@pytest.mark.parametrize("stored", EVOLVED, indirect=True)
def test_a_stored_run_of_evolution_is_resumed_as_before(stored: tuple[Path, dict[str, Any]]) -> None:
    run_dir, expected = stored
    resume(run_dir, total_steps=expected["total_steps"], ui="none")
    check_weights(run_dir, expected["resumed"]["tensor_sums"])
    check_evaluation(run_dir, expected["resumed"]["evaluate"], expected["episodes"])


@pytest.mark.parametrize("stored", sorted(set(NAMES) - set(EVOLVED)), indirect=True)
def test_a_stored_run_of_gradients_goes_on_with_actions_of_its_own(stored: tuple[Path, dict[str, Any]]) -> None:
    """Actions are sampled from other random numbers than at that commit, so what follows is another run, not its own.

    Its rows go on where the stored ones end, its numbers are finite, and its first ratio is 1.
    """
    run_dir, expected = stored
    before = rows_of(run_dir)
    resume(run_dir, total_steps=expected["total_steps"], ui="none")
    after = rows_of(run_dir)
    assert after[: len(before)] == before
    added = after[len(before) :]
    assert added
    assert [row["time/iterations"] for row in added] == [len(before) + 1.0 + index for index in range(len(added))]
    updates = [row["train/n_updates"] for row in (before[-1], *added)]
    assert updates == [updates[0] + index for index in range(len(updates))]
    assert all(row["train/first_ratio_error"] <= 1e-9 for row in added)  # They compute in float64.
    assert all(math.isfinite(number) for row in added for number in row.values())
    assert load_checkpoint(RunDirectory.open(run_dir), "latest").step == added[-1]["step"] >= expected["total_steps"]
    assert not math.isnan(evaluate_run(run_dir, episodes=expected["episodes"]).summary()["mean_return"])
    with pytest.raises(AssertionError):  # It has learnt.
        check_weights(run_dir, expected["before"]["tensor_sums"])
