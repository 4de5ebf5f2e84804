"""A policy's C, compiled and loaded into this process."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlstm.core.arrays import Array
from rlstm.export.c.program import NUMPY_TYPES, Member, Program
from rlstm.export.c.structures import structure

_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-std=c99", "-O2", "-Wall", "-Werror", "-shared", "-fPIC")


class CExportError(RuntimeError):
    """C that doesn't compile, or that does something else than its policy."""


def find_compiler() -> list[str] | None:
    """Return the command of a C compiler, that of ``$CC`` first; None where there is none."""
    given = shlex.split(os.environ.get("CC", ""))
    for command in (given, *([name] for name in _COMPILERS)):
        if command and shutil.which(command[0]):
            return command
    return None


class CompiledPolicy:
    """The compiled files of a policy, with the state of one agent; ``$CFLAGS`` are added to the compiler's flags.

    Args:
        program: What the files were written from.
        source: The C file.
        folder: Where the library is written; one of the same path must not have been loaded before.
        compiler: See ``find_compiler``.

    Raises:
        CExportError: If they don't compile.
    """

    def __init__(self, program: Program, source: Path, folder: Path, compiler: Sequence[str]) -> None:
        library = folder / f"{program.name}.so"
        flags = [*_FLAGS, *shlex.split(os.environ.get("CFLAGS", ""))]
        command = [*compiler, *flags, "-o", str(library), str(source), "-lm"]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise CExportError(f"{shlex.join(command)} fails:\n{made.stderr.strip()}")
        self._library, self._program = ctypes.CDLL(str(library)), program
        self._state, self._output = structure(program.state)(), structure(program.output)()
        self._input_type = structure(program.input)
        self.reset()

    def reset(self) -> None:
        """Call the reset."""
        getattr(self._library, f"{self._program.name}_reset")(ctypes.byref(self._state))

    def step(self, values: Mapping[str, Any]) -> dict[str, Array]:
        """Call the step with members of the input by name, and return those of output and state, flat."""
        given: Any = self._input_type()
        kept = []  # What is pointed at must live as long as the call.
        for member in self._program.input:
            if (value := values.get(member.name)) is None:
                continue
            if member.size is None:
                setattr(given, member.name, value)
                continue
            numbers = np.ascontiguousarray(value, NUMPY_TYPES[member.c_type]).reshape(-1)
            kept.append(numbers)
            kind: Any = dict(given._fields_)[member.name]
            place = numbers.ctypes.data_as(kind) if member.is_pointer else kind.from_buffer_copy(numbers)
            setattr(given, member.name, place)
        step = getattr(self._library, f"{self._program.name}_step")
        step(ctypes.byref(self._state), ctypes.byref(given), ctypes.byref(self._output))
        return _values(self._output, self._program.output) | _values(self._state, self._program.state)

    def remember(self, memory: Mapping[str, Array]) -> None:
        """Replace members of the state, arrays of floats, by name."""
        for name, values in memory.items():
            getattr(self._state, name)[:] = values.tolist()


def _values(structure: Any, members: Sequence[Member]) -> dict[str, Array]:
    return {one.name: np.array(getattr(structure, one.name)).reshape(-1) for one in members}
