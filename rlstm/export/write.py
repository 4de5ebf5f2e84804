"""Exporting: write the model, read it back, compare it with the policy, and only then give the folder its name."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rlstm.core.errors import ExportError
from rlstm.core.files import write_json
from rlstm.export import SOURCES, open_format
from rlstm.export.check import check
from rlstm.export.sidecar import FILE, describe, describe_policy
from rlstm.export.step import ExportedStep
from rlstm.policies.policy import RecurrentPolicy


@dataclass(frozen=True)
class Export:
    """What was written."""

    folder: Path
    files: dict[str, int]
    """Bytes of each file."""

    largest_error: float | None
    """Of all outputs in the comparison with the policy; None if there was no compiler to compare with."""

    description: Mapping[str, Any]
    """What ``policy.json`` says."""


def refuse_occupied(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        ExportError: With the remedy.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} exists already and is no empty folder. Name another with --out, or move it away.")


def export_policy(policy: RecurrentPolicy, name: str, out: Path, facts: Mapping[str, Any]) -> Export:
    """Write a policy, on the CPU, into a new folder, whole or not at all.

    Args:
        policy: It is not changed.
        name: A key of ``FORMATS`` or ``SOURCES``.
        out: The folder; its parents are made too.
        facts: What else ``policy.json`` should tell.

    Raises:
        ExportError: If the format can't express it, the file does not do what the policy does, something is in the
            folder, or it can't be written.
    """
    write = partial(_write_source, name) if name in SOURCES else partial(_write_program, name)
    refuse_occupied(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            folder = Path(temporary) / "export"
            folder.mkdir()
            largest, description = write(policy, folder, facts)
            write_json(folder / FILE, description)
            files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
            refuse_occupied(out)  # It may have been filled meanwhile.
            if out.exists():
                out.rmdir()
            folder.rename(out)
    except OSError as error:
        raise ExportError(f"can't write {out}: {error.strerror or error}. Name another folder with --out.") from error
    return Export(out, files, largest, description)


def _write_program(
    name: str, policy: RecurrentPolicy, folder: Path, facts: Mapping[str, Any]
) -> tuple[float, dict[str, Any]]:
    written = open_format(name)
    written.check_installed()
    step = ExportedStep(policy)
    written.write(step, folder)
    largest = check(step, policy, written.read(folder))
    return largest, describe(step, policy, folder, written.versions(), facts)


def _write_source(
    name: str, policy: RecurrentPolicy, folder: Path, facts: Mapping[str, Any]
) -> tuple[float | None, dict[str, Any]]:
    from rlstm.export.c import CExportError, can_write_c, check_c, write_c

    if policy.dtype == torch.float64:  # Of evolution: C has float32 weights, as close as they are.
        policy = copy.deepcopy(policy).float()
    if reason := can_write_c(policy):
        raise ExportError(reason)
    write_c(policy, folder)
    try:
        largest = check_c(policy, folder)
    except CExportError as error:
        raise ExportError(str(error)) from error
    return largest, describe_policy(policy, folder, {}, facts)
