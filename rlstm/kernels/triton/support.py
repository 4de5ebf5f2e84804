"""Which cells have Triton kernels, and whether they can run here. Triton itself is imported when a sequence runs.

A cell names its kernel in one line::

    triton = TritonKernel("rlstm.kernels.triton.lstm", "lstm")

The function gets inputs, state, ``is_first`` and, by their names, the parameters of the cell and the options listed; it
returns outputs and the leaves of the next state.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlstm.kernels.resets import check_rows

WIDEST_PROGRAM = 256
"""Most units that see each other in one program. Above 128 it reads all of R at every step, (H / N)² of each gate."""


@dataclass(frozen=True)
class TritonKernel:
    """Where the Triton sequence of a cell is, and what it needs of the cell beside the parameters."""

    module: str
    """The module, imported at the first use."""

    function: str
    """Its function."""

    options: tuple[str, ...] = ()
    """Attributes of the cell that it gets too."""

    recurrent: str | None = "weight_hh"
    """The parameter R ``(blocks·H, H / N)`` for N groups of units that don't mix; ``None`` where each is alone."""


def why_never(cell: nn.Module) -> str | None:
    """Return why the cell has no Triton kernel on any device, as a part of a sentence; ``None`` where it has one."""
    kernel: TritonKernel | None = getattr(cell, "triton", None)
    if kernel is None:
        return "the cell has no Triton kernel"
    for one in type(cell).__mro__:
        if "triton" in vars(one):
            break
        if changed := {"step", "equations", "weights", "reset", "init_state"} & vars(one).keys():
            return f"{one.__name__} has a {min(changed)} of its own, and its Triton kernel is that of another class"
    if kernel.recurrent is None:
        return None
    width = getattr(cell, kernel.recurrent).shape[1]
    if width <= WIDEST_PROGRAM:
        return None
    return f"its kernels hold at most {WIDEST_PROGRAM} units that see each other, and these are {width}"


def why_not_here(device: torch.device, dtype: torch.dtype) -> str | None:
    """Return why no Triton kernel runs here, as a part of a sentence; ``None`` where they do."""
    if dtype != torch.float32:
        return f"its kernels compute in float32, and this is {str(dtype).removeprefix('torch.')}"
    if "triton" not in sys.modules and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed; it comes with torch for CUDA on Linux"
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return (
            f"its kernels run on CUDA devices, and this is {device.type}; with TRITON_INTERPRET=1 in the environment "
            "they are interpreted, slowly and for tests"
        )
    return None


def run_triton(cell: nn.Module, inputs: Tensor, state: Any, is_first: Tensor) -> tuple[Tensor, Any]:
    """Run the Triton sequence of a cell; arguments and results are those of its ``sequence``.

    Raises:
        ValueError: If it has none or can't run here.
    """
    reason = why_never(cell) or why_not_here(inputs.device, inputs.dtype)
    if reason is not None:
        raise ValueError(f"sequence is 'triton', but {reason}. Use 'auto'.")
    check_rows(inputs, state[0], is_first)
    kernel: TritonKernel = cell.triton  # type: ignore[assignment]
    run = getattr(importlib.import_module(kernel.module), kernel.function)
    options = {name: getattr(cell, name) for name in kernel.options}
    outputs, leaves = run(inputs, state, is_first, **dict(cell.named_parameters()), **options)
    return outputs, type(state)(*leaves)
