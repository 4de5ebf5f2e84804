"""The folder of a run that is to begin: its name, whether it is free, and who holds it."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlstm.core.errors import RunDirectoryError
from rlstm.training.manifest import MANIFEST_FILE
from rlstm.training.run_lock import LOCK_FILE, locked

_BEFORE_CONFIG = ("checkpoints", "env_spec.json", "spaces.json", "curriculum.toml", "versions.json", "command.txt")
"""What is made before ``config.json``, in this order; the manifest comes last."""


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold a folder that is missing, empty or left by a start that failed, so that no other process takes it.

    Raises:
        RunDirectoryError: If it holds something else, another process holds it, or it can't be made.
    """
    with folder_errors(path):
        if path.exists():
            refuse_occupied(path)
        path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        yield


@contextmanager
def folder_errors(path: Path) -> Iterator[None]:
    """Say which run directory can't be written."""
    try:
        yield
    except OSError as error:
        reason = "it is a file" if path.is_file() else (error.strerror or str(error))
        raise RunDirectoryError(
            f"can't write the run directory {path}: {reason}. Choose a folder you may write to with --run-dir."
        ) from error


def default_run_directory(root: str | os.PathLike[str], agent: str, env_id: str, seed: int) -> Path:
    """Make an empty folder `root/<env>/<agent>-<timestamp>-s<seed>`, which claims the name, and return it.

    Raises:
        RunDirectoryError: If the folder can't be made.
    """
    return make_new_folder(root, agent, env_id, f"s{seed}")


def make_new_folder(root: str | os.PathLike[str], agent: str, env_id: str, ending: str) -> Path:
    """Make an empty folder ``root/<env>/<agent>-<timestamp>-<ending>``, which claims the name, and return it."""
    env_name = re.sub(r"[^\w.-]+", "-", env_id, flags=re.ASCII).strip(".-") or "env"
    name = f"{agent}-{time.strftime('%Y%m%d-%H%M%S')}-{ending}"
    for attempt in itertools.count(1):
        path = Path(root) / env_name / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise RunDirectoryError(f"can't make {path}: {error.strerror}. Name a folder with --run-dir.") from error
    return path


def refuse_occupied(path: Path) -> None:
    """Raise `RunDirectoryError` if a folder holds a run, or files that a start that failed can't have left."""
    names = sorted(entry.name for entry in path.iterdir() if entry.name != LOCK_FILE)
    if "config.json" in names:
        count = len(list(path.glob("checkpoints/step_*")))
        raise RunDirectoryError(
            f"{path} already holds a run with {count} checkpoint{'' if count == 1 else 's'}. "
            f"Go on with it by `rlstm resume {path}`, or name another --run-dir."
        )
    if names and not _are_leftovers(path, names):
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise RunDirectoryError(f"{path} is not empty: it holds {listed}. Name a new or empty folder with --run-dir.")


def _are_leftovers(path: Path, names: Sequence[str]) -> bool:
    """Whether a folder without a config holds nothing but what a start had written when it failed."""
    written = [name for name in names if not is_temporary(name)]
    needed = {"checkpoints"} if set(written) <= {"checkpoints"} else {"checkpoints", "env_spec.json"}
    return (
        needed <= set(written) <= {*_BEFORE_CONFIG, MANIFEST_FILE}
        and (path / "checkpoints").is_dir()
        and not any((path / "checkpoints").iterdir())
    )


def remove_leftovers(path: Path) -> None:
    """Remove what a start that failed has left in a folder; to be asked for after ``refuse_occupied``."""
    for entry in path.iterdir():
        if entry.name == "checkpoints":
            entry.rmdir()
        elif entry.name != LOCK_FILE:
            entry.unlink()


def is_temporary(name: str) -> bool:
    """Return whether a file of this name is one of ``write_atomically`` that a crash left in a run's folder."""
    found = re.fullmatch(r"\.(.+)\.[0-9]+\.tmp", name)
    ours = (*_BEFORE_CONFIG, MANIFEST_FILE, "config.json", "progress.csv", "evaluations.npz", "README.md")
    return found is not None and found[1] in ours
