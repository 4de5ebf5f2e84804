"""The folder of a study: made by the first process, joined by all others, if they are after the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlstm.api.tuning.plan import Plan
from rlstm.core.errors import TuningError
from rlstm.core.files import read_json, write_json
from rlstm.training.run_directory import RunDirectoryError, default_run_directory

_FILE = "study.json"
_MOST_DIFFERENCES = 6


def check_folder(path: Path, plan: Plan) -> None:
    """Refuse a folder that holds anything but a study of this plan.

    Raises:
        RunDirectoryError: If the folder holds something else, or can't be read.
        TuningError: If it holds the study of another plan, with the differences.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise RunDirectoryError(f"{path} is a file. Name a folder with --study-dir.")
    if (path / _FILE).is_file():
        _check_same(path, plan, read_json(path / _FILE).get("definition", {}))
    elif any(not entry.name.startswith(".") for entry in path.iterdir()):  # Half-written files are hidden.
        raise RunDirectoryError(f"{path} is no study: it has no {_FILE}. Name a new folder, or that of a study.")


def _check_same(path: Path, plan: Plan, theirs: dict[str, Any]) -> None:
    ours = plan.definition()
    differing = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    if not differing:
        return
    told = [
        f"{name} is {theirs.get(name, 'not there')} there and {ours.get(name, 'not there')} here" for name in differing
    ]
    more = f"; and {len(told) - _MOST_DIFFERENCES} more" if len(told) > _MOST_DIFFERENCES else ""
    raise TuningError(
        f"{path} is the study of something else: {'; '.join(told[:_MOST_DIFFERENCES])}{more}. Give the command that it "
        "was begun with, or another --study-dir."
    )


def open_folder(study_dir: str | None, plan: Plan) -> Path:
    """Make the folder of a study, or join the study that it holds, and return its path.

    Raises:
        RunDirectoryError: If it can't be written.
        TuningError: If it holds the study of another plan.
    """
    if study_dir is None:
        path = default_run_directory("runs", f"tune-{plan.base.agent}", plan.base.env.env, plan.base.run.seed)
    else:
        path = Path(study_dir)
    check_folder(path, plan)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not (path / _FILE).exists():  # First of all: others that begin at once take a folder without it for another.
            write_json(path / _FILE, {"definition": plan.definition()})
        for name in ("alive", "trials", "final"):
            (path / name).mkdir(exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(
            f"can't write the study {path}: {error.strerror or error}. Choose a folder you may write to with "
            "--study-dir."
        ) from error
    _check_same(path, plan, read_json(path / _FILE).get("definition", {}))
    return path
