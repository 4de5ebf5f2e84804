"""Trained policies as files for other programs. Adding a format is one file here and one line in ``FORMATS``.

``step`` is one step of a policy as a function of tensors, which a format writes; ``check`` compares what was written
with the policy; ``write`` puts both together, whole or not at all. This module is light: it imports no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from rlstm.core.errors import unknown_name

if TYPE_CHECKING:
    from pathlib import Path

    from rlstm.core.arrays import Array
    from rlstm.export.step import ExportedStep

__all__ = ["FORMATS", "SOURCES", "Format", "Runner", "open_format"]

FORMATS: dict[str, tuple[str, str]] = {
    # name: its module in this folder, what reads it.
    "onnx": ("onnx", "read by onnxruntime and much else, and by rlstm.runtime, which needs no torch"),
    "pt2": ("pt2", "read by torch.export.load"),
}

SOURCES: dict[str, tuple[str, str]] = {
    "c": ("c", "C99 without dependencies, for microcontrollers and other programs"),
}
"""Formats that are source code: their modules offer ``write_c``, ``can_write_c`` and ``check_c``."""

Runner = Callable[[Mapping[str, "Array"]], dict[str, Any]]
"""A step that was written and read back: from arrays by the names of its inputs to arrays by those of its outputs."""


class Format(Protocol):
    """What the module of a format offers."""

    def check_installed(self) -> None:
        """Raise ``ExportError`` with the remedy if a package is missing."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that write it."""

    def write(self, step: ExportedStep, folder: Path) -> None:
        """Write the step into an empty folder; raise ``ExportError`` if the format can't express it."""

    def read(self, folder: Path) -> Runner:
        """Return what ``write`` wrote, ready to run."""


def open_format(name: str) -> Format:
    """Return the module of a format.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    if name not in FORMATS:
        raise unknown_name("format", name, (*FORMATS, *SOURCES))
    return cast(Format, importlib.import_module(f"rlstm.export.{FORMATS[name][0]}"))
