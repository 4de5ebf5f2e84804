"""Checkpoints: everything a run needs to go on, or to act, in files that can be read without running any code.

    checkpoints/step_<N>/model.safetensors    the weights (and normalisers): name -> tensor
    checkpoints/step_<N>/trainer.pt           optimiser, random generators, counters, ...: a tree without classes
    checkpoints/step_<N>/meta.json            format and rlstm version, step, number of the save, step of the best so
                                              far, size and sha256 of both files, `meta`, `histories`, seal
    checkpoints/latest, checkpoints/best      text files that hold the name of a folder, such as "step_4096"

Conventions: a step is an environment step. A folder appears under its name only when it is complete; the pointers
follow, then old folders go. Every change is one rename, so a crash at any point leaves a checkpoint that can be loaded.
Folders whose name begins with a dot are the unfinished business of a crash; the next save clears them up. The seal is
the hash of all else in `meta.json`; checkpoints of earlier versions lack it, the number and the step of the best.
A trainer tree is made of dict (keys: str or int), list, tuple, str, int, float, bool, None, tensors, numpy arrays and
numpy scalars of numbers. Tensors are stored, and come back, on the CPU.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from rlstm.core.errors import CheckpointError, RunDirectoryError
from rlstm.core.files import (
    is_sealed,
    json_ready,
    read_json,
    sealed,
    sha256,
    sync_folder,
    write_atomically,
    write_json,
)
from rlstm.core.plain_data import decode, encode, plain_tensor
from rlstm.core.version import __version__
from rlstm.training.checkpoint_folder import (
    META_FILE,
    clear_up,
    find,
    next_save,
    point,
    prune,
    remedy,
    repair,
    step_of,
    steps_of,
)
from rlstm.training.checkpoint_folder import best_step as _best_step

FORMAT_VERSION = 1
MODEL_FILE, TRAINER_FILE = "model.safetensors", "trainer.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint. `meta` and `histories` are the caller's, as JSON gives them: tuples are lists there."""

    step: int
    model: dict[str, Tensor]
    trainer: Any
    meta: dict[str, Any]
    path: Path
    histories: dict[str, Any] | None = None


def save_checkpoint(
    run_dir: str | os.PathLike[str],
    step: int,
    model: Mapping[str, Tensor],
    trainer: Any,
    meta: Mapping[str, Any],
    *,
    keep: int,
    best_step: int | None = None,
    histories: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint, point `latest` to it and `best` to the best, and remove old ones. Return its folder.

    Args:
        run_dir: The run directory.
        step: Environment steps so far. A checkpoint of the same step is replaced.
        model: Name -> tensor, as from `state_dict()`; views and shared tensors are stored as tensors of their own.
        trainer: A tree, see the head of this file.
        meta: What to check on loading (`check_meta`) and to show: anything JSON holds.
        keep: How many of the newest to keep, at least 1; the targets of `latest` and `best` always stay. Those later
            than `step` were left by a run that was then resumed from before them: they count as the oldest.
        best_step: Step of the best checkpoint so far, which may be this one; None if it is as before.
        histories: What the run's growing files held at this step: anything JSON holds.

    Raises:
        CheckpointError: If the model or trainer holds what can't be stored, `keep` or `step` is out of range, or
            writing failed; the earlier checkpoints are as before.
        TypeError: If `meta` holds what JSON can't.
    """
    if keep < 1 or step < 0:
        raise CheckpointError(f"keep must be at least 1 and step at least 0, not keep={keep} and step={step}.")
    extra = {"best_step": best_step, "meta": json_ready(meta), "histories": json_ready(histories)}
    buffer = io.BytesIO()
    torch.save(encode(trainer, "trainer"), buffer)
    contents = {MODEL_FILE: _model_bytes(model), TRAINER_FILE: buffer.getvalue()}
    folder = Path(run_dir) / "checkpoints"
    target = folder / f"step_{step}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_up(folder)
        _write_folder(target, contents, {"step": step, "save": next_save(folder), **extra})
        point(folder, step, best_step)
        sync_folder(folder)
        clear_up(folder)
        prune(folder, step, keep)
    except OSError as error:
        reason = f"can't write {target}: {error.strerror or error}"
        raise CheckpointError(
            f"{reason}. Earlier checkpoints are intact: free some space, then `rlstm resume`."
        ) from error
    return target


def load_checkpoint(run_dir: str | os.PathLike[str], which: Literal["latest", "best"] | int | Path) -> Checkpoint:
    """Read a checkpoint, checking every byte against `meta.json`; nothing in it is ever executed.

    Args:
        run_dir: The run directory.
        which: "latest", "best", a step, or the path of a checkpoint folder.

    Raises:
        CheckpointError: If it is missing, truncated or damaged, of another format version, or holds more than data.
    """
    path = which if isinstance(which, Path) else find(Path(run_dir) / "checkpoints", which)
    if not path.is_dir():
        raise CheckpointError(
            f"{path} is not a folder. Give the folder of a checkpoint, the one that holds {META_FILE}."
        )
    head = _read_head(path)
    model_bytes, trainer_bytes = (_read_checked(path / name, head) for name in (MODEL_FILE, TRAINER_FILE))
    try:
        model = safetensors.torch.load(model_bytes)
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path / MODEL_FILE} is no safetensors file ({error}), so rlstm didn't write it. {remedy(path.parent)}"
        ) from error
    trainer = _load_trainer(path / TRAINER_FILE, trainer_bytes)
    return Checkpoint(head["step"], model, trainer, head["meta"], path, head.get("histories"))


def list_checkpoints(run_dir: str | os.PathLike[str]) -> list[int]:
    """Return the steps of all checkpoints of a run, ascending."""
    return sorted(steps_of(Path(run_dir) / "checkpoints"))


def has_best(run_dir: str | os.PathLike[str]) -> bool:
    """Return whether there has been a best checkpoint so far."""
    return _best_step(Path(run_dir) / "checkpoints") is not None


def repair_checkpoints(run_dir: str | os.PathLike[str]) -> None:
    """Clear up what a crash left behind, and bring the pointers up to date.

    Raises:
        OSError: If something can't be written.
    """
    repair(Path(run_dir) / "checkpoints")


def checkpoint_step(run_dir: str | os.PathLike[str], which: Literal["latest", "best"] | int) -> int:
    """Return the step of a checkpoint.

    Raises:
        CheckpointError: If it is missing.
    """
    return int(find(Path(run_dir) / "checkpoints", which).name.rpartition("_")[2])


def check_meta(checkpoint: Checkpoint, expected: Mapping[str, Any]) -> None:
    """Check that the checkpoint's `meta` agrees with `expected` in all keys of the latter, nested ones too.

    Raises:
        CheckpointError: If they differ; the message names each key with both values.
    """
    found, wanted = json_ready(checkpoint.meta), json_ready(expected)
    lines = "".join(line for key in wanted for line in _differences(key, found.get(key), wanted[key]))
    if lines:
        raise CheckpointError(f"{checkpoint.path} doesn't fit this run:{lines}\nUse the config it was made with.")


def _differences(name: str, found: Any, wanted: Any) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {**wanted, **found}:
            yield from _differences(f"{name}.{key}", found.get(key), wanted.get(key))
    elif found != wanted:
        yield f"\n  {name}: the checkpoint has {found!r}, expected {wanted!r}"


def _write_folder(target: Path, contents: dict[str, bytes], head: Mapping[str, Any]) -> None:
    """Write all files into a hidden folder, then give it its name; one of that name is first moved aside."""
    temporary = target.with_name(f".new_{target.name}")
    temporary.mkdir()
    for name, data in contents.items():
        write_atomically(temporary / name, data)
    files = {name: {"bytes": len(data), "sha256": sha256(data)} for name, data in contents.items()}
    versions = {"format_version": FORMAT_VERSION, "rlstm_version": __version__}
    write_json(temporary / META_FILE, sealed({**versions, **head, "files": files}))
    sync_folder(temporary)
    if target.exists():
        target.rename(target.with_name(f".old_{target.name}"))
    temporary.rename(target)
    sync_folder(target.parent)


def _read_head(path: Path) -> dict[str, Any]:
    try:
        head = read_json(path / META_FILE)
    except RunDirectoryError as error:
        raise CheckpointError(f"{path} can't be loaded: {error} {remedy(path.parent)}") from error
    version, writer = head.get("format_version"), head.get("rlstm_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path / META_FILE} has format_version {version!r} (written by rlstm {writer}); rlstm {__version__} reads "
            f"{FORMAT_VERSION}. Load it with that version of rlstm."
        )
    try:
        sizes = [
            head["files"][name]["bytes"] + len(head["files"][name]["sha256"]) for name in (MODEL_FILE, TRAINER_FILE)
        ]
        complete = all(isinstance(number, int) for number in (head["step"], *sizes)) and isinstance(head["meta"], dict)
    except (KeyError, TypeError):
        complete = False
    named = step_of(path.name.removeprefix(".old_"))
    if not complete:
        reason = "step, files or meta is missing"
    elif named not in (None, head["step"]):
        reason = f"it is of step {head['step']}"
    elif not is_sealed(head):
        reason = "it is not as it was written"
    else:
        return head
    raise CheckpointError(f"{path / META_FILE} is damaged: {reason}. {remedy(path.parent)}")


def _read_checked(path: Path, head: dict[str, Any]) -> bytes:
    """Read a whole file and check that it is the one that was saved; what is parsed later are these very bytes."""
    expected = head["files"][path.name]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}. {remedy(path.parent.parent)}") from error
    if path.name == TRAINER_FILE and data[:1] == b"\x80":
        reason = "is a plain pickle, which could run any code when read, so it was not read"
    elif len(data) < expected["bytes"]:
        reason = f"is truncated: {len(data)} of {expected['bytes']} bytes"
    elif sha256(data) != expected["sha256"]:
        reason = f"is not the file that was saved (damaged or replaced): its sha256 differs from {META_FILE}"
    else:
        return data
    raise CheckpointError(f"{path} {reason}. {remedy(path.parent.parent)}")


def _load_trainer(path: Path, data: bytes) -> Any:
    reason = "it is no torch archive"
    if data[:2] == b"PK":
        try:
            return decode(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
        except Exception as error:  # Of many types; torch's text is left out: it advises to switch the protection off.
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            reason = f"it refers to {found[1]}" if found else f"{type(error).__name__} on reading"
    raise CheckpointError(
        f"{path} holds more than tensors and plain values ({reason}), so rlstm didn't write it. "
        f"Nothing in it was executed. {remedy(path.parent.parent)}"
    )


def _model_bytes(model: Mapping[str, Tensor]) -> bytes:
    tensors = {}
    for name, tensor in model.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"model[{name!r}] is {type(tensor).__name__}, not a tensor. Put it into the trainer.")
        tensors[name] = plain_tensor(tensor, f"model[{name!r}]").contiguous()
    return safetensors.torch.save(tensors)
