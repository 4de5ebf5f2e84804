"""The folder of a run's checkpoints: which there are, which is the latest and the best, and which may go.

    step_<N>/          a complete checkpoint
    latest, best       pointers: text files that hold the name of a folder
    .new_, .old_, .gone_step_<N>/    unfinished business of a crash

The pointers are for people and other programs. What counts is `meta.json`: `save` is the number of a checkpoint
among all saves of the run, so the greatest is the latest; `best_step` is the step of the best so far. A pointer that
a crash kept from being written is thus no loss: `repair` writes it again. Checkpoints of earlier versions lack both;
among those the pointers count.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlstm.core.errors import CheckpointError, RunDirectoryError
from rlstm.core.files import is_sealed, read_json, write_atomically

META_FILE = "meta.json"


def steps_of(folder: Path) -> dict[int, Path]:
    """Map the step of every complete checkpoint to its folder; ".old_" is one a crash kept from being replaced."""
    steps = {}
    for prefix in (".old_", ""):
        for path in folder.glob(f"{prefix}step_*"):
            if (step := step_of(path.name.removeprefix(prefix))) is not None and path.is_dir():
                steps[step] = path
    return steps


def step_of(name: str) -> int | None:
    """Return the step that the name of a folder tells, or None."""
    found = re.fullmatch(r"step_(0|[1-9][0-9]{0,18})", name)
    return int(found[1]) if found else None


def find(folder: Path, which: str | int) -> Path:
    """Return the checkpoint that is the latest, the best, or of a step.

    Raises:
        CheckpointError: If there is none.
    """
    if isinstance(which, str) and which not in ("latest", "best"):
        raise CheckpointError(f"there is no checkpoint {which!r}: give latest, best, a step or the path of a folder.")
    steps = steps_of(folder)
    step = which if isinstance(which, int) else latest_step(folder) if which == "latest" else best_step(folder)
    if step in steps:
        return steps[step]
    missing = f"step_{step} does not exist in {folder}"
    if isinstance(which, str):
        missing = f"{folder / which} does not exist or is damaged" if step is None else f"the {which} one, {missing}"
    raise CheckpointError(f"{missing}. {remedy(folder)}")


def latest_step(folder: Path) -> int | None:
    """Return the step of the checkpoint that was saved last; None if there is none.

    One whose `meta.json` is damaged is taken if the pointer names it, so that whoever reads it is told.
    """
    steps, named = steps_of(folder), _pointer(folder, "latest")
    heads = {step: _head(path) for step, path in steps.items()}
    if named in steps and heads[named] is None:
        return named
    readable = [step for step, head in heads.items() if head is not None]
    return max(
        readable or steps, key=lambda step: (_number(heads[step], "save") or 0, step == named, step), default=None
    )


def best_step(folder: Path) -> int | None:
    """Return the step of the best checkpoint so far; None if there has been none."""
    steps, latest = steps_of(folder), latest_step(folder)
    known = None if latest is None else _number(_head(steps[latest]), "best_step")
    return _pointer(folder, "best") if known is None else known


def next_save(folder: Path) -> int:
    """Return the number of the next save, from 1 on."""
    return 1 + max((_number(_head(path), "save") or 0 for path in steps_of(folder).values()), default=0)


def point(folder: Path, step: int, best: int | None) -> None:
    """Write the pointers; None leaves that to the best as it is. Raises `OSError`."""
    for pointer, target in (("latest", step), ("best", best)):
        if target is not None and target != _pointer(folder, pointer):
            write_atomically(folder / pointer, f"step_{target}\n".encode())


def repair(folder: Path) -> None:
    """Clear up what a crash left behind and bring the pointers up to date. Raises `OSError`."""
    if folder.is_dir():
        clear_up(folder)
        latest, best = latest_step(folder), best_step(folder)
        if latest is not None:
            point(folder, latest, best)


def clear_up(folder: Path) -> None:
    """Remove what a crash left behind, and bring back a checkpoint that was moved aside but not replaced."""
    for path in (path for path in folder.iterdir() if re.match(r"\.(new_|old_|gone_|latest\.|best\.)", path.name)):
        original = folder / path.name.removeprefix(".old_")
        if path.name.startswith(".old_") and not original.exists():
            path.rename(original)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def prune(folder: Path, step: int, keep: int) -> None:
    """Remove all but the newest checkpoints, this one, the latest and the best; later ones count as the oldest."""
    protected = {step, latest_step(folder), best_step(folder)}
    newest_first = sorted(steps_of(folder), key=lambda other: (other <= step, other), reverse=True)
    for old in newest_first[keep:]:
        if old not in protected:
            # Renamed first: a crash while files are removed would leave half a checkpoint under a good name.
            shutil.rmtree((folder / f"step_{old}").rename(folder / f".gone_step_{old}"))


def remedy(folder: Path) -> str:
    """Return what can be done where a checkpoint can't be had."""
    steps = ", ".join(str(step) for step in sorted(steps_of(folder)))
    return (
        f"Name another checkpoint; steps there are: {steps}." if steps else "There is no checkpoint yet: train first."
    )


def _pointer(folder: Path, name: str) -> int | None:
    """Return the step a pointer file names; None if there is no such file or it names none."""
    try:
        return step_of((folder / name).read_bytes().decode("ascii", "replace").strip())
    except OSError:
        return None


def _head(path: Path) -> dict[str, Any] | None:
    """Return what `meta.json` of a checkpoint holds; None if it is missing or damaged."""
    try:
        head = read_json(path / META_FILE)
    except RunDirectoryError:
        return None
    is_whole = isinstance(head.get("step"), int) and isinstance(head.get("files"), dict) and is_sealed(head)
    return head if is_whole else None


def _number(head: Mapping[str, Any] | None, name: str) -> int | None:
    value = None if head is None else head.get(name)
    return value if isinstance(value, int) else None
