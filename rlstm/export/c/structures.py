"""The structures of the C interface: as text, and in memory."""

from __future__ import annotations

import ctypes
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlstm.export.c.program import NUMPY_TYPES, Member, Program

_WIDTH = 110


def declaration(program: Program, kind: str, members: Sequence[Member]) -> str:
    """Return the definition of a structure, every member with its meaning."""
    lines = ["typedef struct {"]
    for member in members:
        comment = f"/* {member.meaning} */"
        lines += [f"    {line}" for line in textwrap.wrap(comment, _WIDTH, subsequent_indent="   ")]
        if member.is_pointer:
            lines.append(f"    const {member.c_type} *{member.name};  /* {program.size_of(member.name)} numbers */")
        else:
            size = "" if member.size is None else f"[{program.size_of(member.name)}]"
            lines.append(f"    {member.c_type} {member.name}{size};")
    return "\n".join([*lines, f"}} {program.name}_{kind};\n"])


def sizes(program: Program) -> str:
    """Return the constants of the sizes of all members."""
    members = [one for one in (*program.input, *program.output, *program.state) if one.size is not None]
    found = {program.size_of(one.name): one.size for one in members}  # An action has one size wherever it stands.
    return "".join(f"#define {name} {size}\n" for name, size in found.items())


def structure(members: Sequence[Member]) -> type[ctypes.Structure]:
    """Return the structure as ctypes lays it out, which is as a C compiler here does."""
    return type("Laid", (ctypes.Structure,), {"_fields_": [(one.name, _type(one)) for one in members]})


def _type(member: Member) -> Any:
    numpy_type: Any = NUMPY_TYPES[member.c_type]
    single: Any = np.ctypeslib.as_ctypes_type(numpy_type)
    if member.is_pointer:
        return ctypes.POINTER(single)
    return single if member.size is None else single * member.size
