"""Claims about `rlstm.training.run_lock`: two processes never train in one folder."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import rlstm
from rlstm.training.run_directory import RunDirectoryError
from rlstm.training.run_lock import locked
from tests.training.test_resume import TINY, UPDATE, train

fcntl = pytest.importorskip("fcntl")

HOLD = """
    import os, sys, time
    from pathlib import Path
    from rlstm.training.run_lock import locked
    with locked(Path(sys.argv[1])):
        if sys.argv[2] == "alone" or os.fork() == 0:
            print("held", flush=True)  # A child says it: by then it has let go of the lock that it was born with.
        time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of ``tmp_path / "run"``, maybe with a child that outlives it."""
    (tmp_path / "run").mkdir(exist_ok=True)
    kind = getattr(request, "param", "alone")
    words = [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path / "run"), kind]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("held")
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_a_second_process_is_refused_and_touches_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    before = contents(tmp_path)
    with pytest.raises(RunDirectoryError, match=rf"process {holder.pid} is training in .*run.*two at once"):
        train(tmp_path / "run", total_steps=UPDATE)
    assert contents(tmp_path) == before


def test_resuming_a_run_that_trains_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    seen = []

    def resume_too(step: int, metrics: object) -> None:
        before = contents(tmp_path)
        with pytest.raises(RunDirectoryError, match=rf"process {os.getpid()} is training in"):
            rlstm.resume(tmp_path / "run", total_steps=5 * UPDATE, ui="none")
        assert contents(tmp_path) == before
        seen.append(step)

    train(tmp_path / "run", total_steps=2 * UPDATE, on_evaluation=resume_too)
    assert seen == [UPDATE, 2 * UPDATE]
    rlstm.resume(tmp_path / "run", total_steps=3 * UPDATE, ui="none")  # It is free again.


@pytest.mark.parametrize("holder", ["alone", "with a child"], indirect=True)
def test_a_process_that_dies_holds_no_lock_though_its_child_lives(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / "run.lock").read_text() == f"{os.getpid()}\n"


def test_without_locks_on_the_file_system_nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked(tmp_path), locked(tmp_path):
        pass
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with locked(tmp_path), locked(tmp_path):
        pass


def test_a_folder_of_another_kind_gets_no_lock(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunDirectoryError, match="is not empty"):
        rlstm.train("ppo", **{**TINY, "run_dir": str(tmp_path), "ui": "none"})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
