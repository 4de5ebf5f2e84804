"""Checkpoints: everything a run needs to go on, or to act, in files that can be read without running any code.

    checkpoints/step_<N>/model.safetensors    the weights (and normalisers): name -> tensor
    checkpoints/step_<N>/trainer.pt           optimiser, random generators, counters, ...: a tree without classes
    checkpoints/step_<N>/meta.json            format and rlstm version, step, size and sha256 of both files, `meta`
    checkpoints/latest, checkpoints/best      text files that hold the name of a folder, such as "step_4096"

Conventions: a step is an environment step. A folder appears under its name only when it is complete; the pointers
follow, then old folders go. Every change is one rename, so a crash at any point leaves a checkpoint that can be loaded.
Folders whose name begins with a dot are the unfinished business of a crash; the next save clears them up.
A trainer tree is made of dict (keys: str or int), list, tuple, str, int, float, bool, None, tensors, numpy arrays and
numpy scalars of numbers. Tensors are stored, and come back, on the CPU.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from rlstm.core.errors import CheckpointError
from rlstm.core.files import json_ready, write_atomically, write_json
from rlstm.core.plain_data import decode, encode, plain_tensor
from rlstm.core.version import __version__
from rlstm.training.run_directory import RunDirectoryError, read_json

FORMAT_VERSION = 1
MODEL_FILE, TRAINER_FILE, META_FILE = "model.safetensors", "trainer.pt", "meta.json"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint. `meta` is the caller's own, as JSON gives it back: tuples are lists there."""

    step: int
    model: dict[str, Tensor]
    trainer: Any
    meta: dict[str, Any]
    path: Path


def save_checkpoint(
    run_dir: str | os.PathLike[str],
    step: int,
    model: Mapping[str, Tensor],
    trainer: Any,
    meta: Mapping[str, Any],
    *,
    keep: int,
    best: bool = False,
) -> Path:
    """Write a checkpoint, point `latest` (and `best`) to it, and remove old ones. Return its folder.

    Args:
        run_dir: The run directory.
        step: Environment steps so far. A checkpoint of the same step is replaced.
        model: Name -> tensor, as from `state_dict()`; views and shared tensors are stored as tensors of their own.
        trainer: A tree, see the head of this file.
        meta: What to check on loading (`check_meta`) and to show: anything JSON holds.
        keep: How many of the newest to keep, at least 1; the targets of `latest` and `best` always stay. Those later
            than `step` were left by a run that was then resumed from before them: they count as the oldest.
        best: Whether this is the best so far.

    Raises:
        CheckpointError: If the model or trainer holds what can't be stored, `keep` or `step` is out of range, or
            writing failed; the earlier checkpoints are as before.
        TypeError: If `meta` holds what JSON can't.
    """
    if keep < 1 or step < 0:
        raise CheckpointError(f"keep must be at least 1 and step at least 0, not keep={keep} and step={step}.")
    meta, buffer = json_ready(meta), io.BytesIO()
    torch.save(encode(trainer, "trainer"), buffer)
    folder = Path(run_dir) / "checkpoints"
    target = folder / f"step_{step}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear_up(folder)
        _write_folder(target, step, {MODEL_FILE: _model_bytes(model), TRAINER_FILE: buffer.getvalue()}, meta)
        for pointer in ("latest", "best") if best else ("latest",):
            write_atomically(folder / pointer, f"{target.name}\n".encode())
        _sync(folder)
        _clear_up(folder)
        _prune(folder, step, keep)
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
    path = which if isinstance(which, Path) else _find(Path(run_dir) / "checkpoints", which)
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
            f"{path / MODEL_FILE} is no safetensors file ({error}), so rlstm didn't write it. {_remedy(path.parent)}"
        ) from error
    return Checkpoint(head["step"], model, _load_trainer(path / TRAINER_FILE, trainer_bytes), head["meta"], path)


def list_checkpoints(run_dir: str | os.PathLike[str]) -> list[int]:
    """Return the steps of all checkpoints of a run, ascending."""
    return sorted(_steps(Path(run_dir) / "checkpoints"))


def checkpoint_step(run_dir: str | os.PathLike[str], which: Literal["latest", "best"] | int) -> int:
    """Return the step of a checkpoint.

    Raises:
        CheckpointError: If it is missing.
    """
    return int(_find(Path(run_dir) / "checkpoints", which).name.removeprefix("step_"))


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


def _write_folder(target: Path, step: int, contents: dict[str, bytes], meta: Mapping[str, Any]) -> None:
    """Write all files into a hidden folder, then give it its name; one of that name is first moved aside."""
    temporary = target.with_name(f".new_{target.name}")
    temporary.mkdir()
    for name, data in contents.items():
        write_atomically(temporary / name, data)
    files = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()}
    head = {"format_version": FORMAT_VERSION, "rlstm_version": __version__, "step": step, "files": files, "meta": meta}
    write_json(temporary / META_FILE, head)
    _sync(temporary)
    if target.exists():
        target.rename(target.with_name(f".old_{target.name}"))
    temporary.rename(target)
    _sync(target.parent)


def _steps(folder: Path) -> dict[int, Path]:
    """Map the step of every complete checkpoint to its folder; ".old_" is one a crash kept from being replaced."""
    steps = {}
    for prefix in (".old_", ""):
        for path in folder.glob(f"{prefix}step_*"):
            digits = path.name.removeprefix(f"{prefix}step_")
            if digits.isdecimal() and path.is_dir():
                steps[int(digits)] = path
    return steps


def _pointer(folder: Path, name: str) -> int | None:
    """Return the step a pointer file names; None if there is no such file or it names none."""
    try:
        found = re.fullmatch(r"step_(\d+)\s*", (folder / name).read_bytes().decode("ascii", "replace"))
    except FileNotFoundError:
        return None
    return int(found[1]) if found else None


def _find(folder: Path, which: str | int) -> Path:
    if isinstance(which, str) and which not in ("latest", "best"):
        raise CheckpointError(f"there is no checkpoint {which!r}: give latest, best, a step or the path of a folder.")
    step = _pointer(folder, which) if isinstance(which, str) else which
    steps = _steps(folder)
    if step not in steps:
        pointer = folder / str(which)
        missing = f"step_{step} does not exist in {folder}"
        if isinstance(which, str):
            missing = f"{pointer} names {missing}" if step is not None else f"{pointer} does not exist or is damaged"
        raise CheckpointError(f"{missing}. {_remedy(folder)}")
    return steps[step]


def _remedy(folder: Path) -> str:
    steps = ", ".join(str(step) for step in sorted(_steps(folder)))
    return (
        f"Name another checkpoint; steps there are: {steps}." if steps else "There is no checkpoint yet: train first."
    )


def _clear_up(folder: Path) -> None:
    """Remove what a crash left behind, and bring back a checkpoint that was moved aside but not replaced."""
    for path in (path for path in folder.iterdir() if re.match(r"\.(new_|old_|gone_|latest\.|best\.)", path.name)):
        original = folder / path.name.removeprefix(".old_")
        if path.name.startswith(".old_") and not original.exists():
            path.rename(original)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _prune(folder: Path, step: int, keep: int) -> None:
    protected = {step, _pointer(folder, "latest"), _pointer(folder, "best")}
    newest_first = sorted(_steps(folder), key=lambda other: (other <= step, other), reverse=True)
    for old in newest_first[keep:]:
        if old not in protected:
            # Renamed first: a crash while files are removed would leave half a checkpoint under a good name.
            shutil.rmtree((folder / f"step_{old}").rename(folder / f".gone_step_{old}"))


def _sync(folder: Path) -> None:
    """Make renames within the folder survive a power cut. Only POSIX can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read_head(path: Path) -> dict[str, Any]:
    try:
        head = read_json(path / META_FILE)
    except RunDirectoryError as error:
        raise CheckpointError(f"{path} can't be loaded: {error} {_remedy(path.parent)}") from error
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
    if not complete:
        raise CheckpointError(f"{path / META_FILE} is damaged: step, files or meta is missing. {_remedy(path.parent)}")
    return head


def _read_checked(path: Path, head: dict[str, Any]) -> bytes:
    """Read a whole file and check that it is the one that was saved; what is parsed later are these very bytes."""
    expected = head["files"][path.name]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}. {_remedy(path.parent.parent)}") from error
    if path.name == TRAINER_FILE and data[:1] == b"\x80":
        reason = "is a plain pickle, which could run any code when read, so it was not read"
    elif len(data) < expected["bytes"]:
        reason = f"is truncated: {len(data)} of {expected['bytes']} bytes"
    elif hashlib.sha256(data).hexdigest() != expected["sha256"]:
        reason = f"is not the file that was saved (damaged or replaced): its sha256 differs from {META_FILE}"
    else:
        return data
    raise CheckpointError(f"{path} {reason}. {_remedy(path.parent.parent)}")


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
        f"Nothing in it was executed. {_remedy(path.parent.parent)}"
    )


def _model_bytes(model: Mapping[str, Tensor]) -> bytes:
    tensors = {}
    for name, tensor in model.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"model[{name!r}] is {type(tensor).__name__}, not a tensor. Put it into the trainer.")
        tensors[name] = plain_tensor(tensor, f"model[{name!r}]").contiguous()
    return safetensors.torch.save(tensors)
