"""What a policy is made of in C, gathered part by part: members, sizes, weights, functions, and the lines of a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rlstm.core.arrays import Array

NUMPY_TYPES: dict[str, type[np.generic]] = {
    "float": np.float32,
    "double": np.float64,
    "uint8_t": np.uint8,
    "int8_t": np.int8,
    "uint16_t": np.uint16,
    "int16_t": np.int16,
    "uint32_t": np.uint32,
    "int32_t": np.int32,
    "int64_t": np.int64,
}
"""Numpy's types of C's."""

_DIGITS = {"float": 9, "double": 17}  # So many decide every number.
_NUMBERS_A_LINE = 8


@dataclass(frozen=True)
class Member:
    """A member of one of the three structures."""

    name: str
    c_type: str  # Of one number.
    size: int | None  # How many numbers; None for one that is no array.
    meaning: str
    is_pointer: bool = False  # To ``size`` numbers, or NULL.


@dataclass(frozen=True)
class Vector:
    """Floats that C code can name."""

    expression: str  # Of the pointer to the first.
    size: str  # Name of their number.
    length: int


@dataclass
class Program:
    """The C of one policy. Every other module of the folder adds its part."""

    name: str  # What every public name begins with.
    state: list[Member] = field(default_factory=list)
    input: list[Member] = field(default_factory=list)
    output: list[Member] = field(default_factory=list)
    arrays: list[str] = field(default_factory=list)  # Definitions of constants.
    array_bytes: int = 0
    sizes: dict[str, int] = field(default_factory=dict)  # Of the buffers.
    buffers: list[str] = field(default_factory=list)  # Declarations.
    functions: set[str] = field(default_factory=set)  # Those of ``FUNCTIONS`` that are called.
    own_functions: list[str] = field(default_factory=list)  # Those of this policy alone.
    lines: list[str] = field(default_factory=list)  # Of the step.

    def array(self, name: str, values: torch.Tensor | Array | Sequence[int], c_type: str = "float") -> str:
        """Add constants, laid flat in C order, and return their name."""
        numbers = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
        numbers = numbers.astype(NUMPY_TYPES[c_type]).reshape(-1)
        texts = [number(value, c_type) for value in numbers.tolist()]
        rows = [texts[at : at + _NUMBERS_A_LINE] for at in range(0, len(texts), _NUMBERS_A_LINE)]
        body = ",\n".join("    " + ", ".join(row) for row in rows)
        self.arrays.append(f"static const {c_type} {name}[{len(texts)}] = {{\n{body}\n}};\n")
        self.array_bytes += numbers.nbytes
        return name

    def buffer(self, name: str, length: int) -> Vector:
        """Add floats that live for one step."""
        size = f"{name.upper()}_SIZE"
        self.sizes[size] = length
        self.buffers.append(f"float {name}[{size}];")
        return Vector(name, size, length)

    def memory(self, name: str, length: int, meaning: str) -> Vector:
        """Add floats that the state holds."""
        self.state.append(Member(name, "float", length, meaning))
        return Vector(f"state->{name}", self.size_of(name), length)

    def size_of(self, member: str) -> str:
        """Return the name of a member's size."""
        return f"{self.name}_{member}_size".upper()

    def call(self, function: str, *arguments: str | Vector) -> None:
        """Add the call of one of ``FUNCTIONS`` to the step; a vector is two arguments, pointer and size."""
        self.functions.add(function)
        words = [(one,) if isinstance(one, str) else (one.expression, one.size) for one in arguments]
        self.lines.append(f"{function}({', '.join(word for pair in words for word in pair)});")


def number(value: Any, c_type: str) -> str:
    """Return a number as a constant of C, from which it can be read back exactly."""
    if c_type not in _DIGITS:
        return str(int(value))
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = f"{value:.{_DIGITS[c_type]}g}"
    text = text if "." in text or "e" in text else f"{text}.0"
    return f"{text}f" if c_type == "float" else text
