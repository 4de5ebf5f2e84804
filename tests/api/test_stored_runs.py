"""Run directories written by an earlier version are evaluated and resumed as that version did.

The runs in ``tests/fixtures/runs`` were made at commit 86ce3a9, before modules, settings and classes were renamed. Each
holds what that commit's ``rlstm evaluate`` and ``rlstm resume`` gave, in float64.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rlstm.api.experiments import resume
from rlstm.api.finished_runs import evaluate_run
from rlstm.training.checkpoints import load_checkpoint
from rlstm.training.run_directory import RunDirectory

RUNS = Path(__file__).parents[1] / "fixtures" / "runs"


@pytest.fixture(params=sorted(path.name for path in RUNS.iterdir()))
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
    summary = evaluate_run(run_dir, episodes=episodes, **options).summary()
    assert summary == pytest.approx({name: expected[name] for name in summary}, rel=1e-6)


def test_a_stored_run_is_evaluated_as_before(stored: tuple[Path, dict[str, Any]]) -> None:
    run_dir, expected = stored
    check_weights(run_dir, expected["before"]["tensor_sums"])
    check_evaluation(run_dir, expected["before"]["evaluate"], expected["episodes"])
    check_evaluation(run_dir, expected["before"]["evaluate_ablated"], expected["episodes"], ablate_memory=True)


def test_a_stored_run_is_resumed_as_before(stored: tuple[Path, dict[str, Any]]) -> None:
    run_dir, expected = stored
    resume(run_dir, total_steps=expected["total_steps"], ui="none")
    check_weights(run_dir, expected["resumed"]["tensor_sums"])
    check_evaluation(run_dir, expected["resumed"]["evaluate"], expected["episodes"])
