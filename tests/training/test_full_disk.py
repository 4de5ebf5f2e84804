"""A disk that is full at any moment costs at most the work since the last checkpoint, never the run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import rlstm
from rlstm.core.errors import CheckpointError, RunDirectoryError
from rlstm.training.config import ConfigError
from tests.full_disk import full_disk
from tests.training.test_damage import SMALL, STEPS
from tests.training.test_resume import assert_same_run, everything, train

SAVED_TWICE = {**SMALL, "total_steps": 3 * STEPS, "eval_every": STEPS, "checkpoint_every": STEPS, "keep_checkpoints": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    train(path, **SAVED_TWICE)
    return path


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("half") / "run"
    train(path, **{**SAVED_TWICE, "total_steps": STEPS})
    return path


def go_on(run: Path) -> None:
    """What a user does who reads the message: resume where there is a run, else train."""
    if not (run / "config.json").exists():
        train(run, **SAVED_TWICE)
        return
    with suppress(ConfigError):  # Nothing is left to do if the fault came after the last checkpoint.
        rlstm.resume(run, total_steps=3 * STEPS, ui="none")


def check(use: Callable[[Path], object], run: Path, number: int, whole: Path) -> bool:
    """Use a run on a disk that is full at an operation, then go on; returns whether there was such an operation."""
    told = None
    with full_disk(run, number) as disk:
        try:
            use(run)
        except (RunDirectoryError, CheckpointError) as error:
            told = str(error)
    assert told is None or ("No space left on device" in told and str(run) in told), told
    go_on(run)
    assert_same_run(run, everything(whole))
    assert not [path for path in run.rglob(".*") if path.name.startswith(".")], disk.failed
    return disk.failed is not None


def check_all(use: Callable[[Path], object], half: Path | None, whole: Path, folder: Path, every: int) -> int:
    """Check every so many operations; returns the last one's number."""
    number = 1
    while True:
        run = folder / "run"
        if half is not None:
            shutil.copytree(half, run)
        if not check(use, run, number, whole):
            return number
        shutil.rmtree(run)
        number += every


EVERY = [pytest.param(53, id="some"), pytest.param(1, id="every operation", marks=pytest.mark.slow)]


@pytest.mark.parametrize("every", EVERY)
def test_a_run_that_met_a_full_disk_ends_as_if_it_had_not(whole: Path, tmp_path: Path, every: int) -> None:
    assert check_all(lambda run: train(run, **SAVED_TWICE), None, whole, tmp_path, every) > 100


@pytest.mark.parametrize("every", EVERY)
def test_a_run_that_meets_a_full_disk_when_it_is_resumed_does_too(
    whole: Path, half: Path, tmp_path: Path, every: int
) -> None:
    assert check_all(go_on, half, whole, tmp_path, every) > 60
