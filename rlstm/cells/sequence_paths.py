"""The paths of a cell over a sequence by their names, which of them there are, and whether they can be taken here.

``auto`` is the fastest way that has been measured on a device, ``loop`` the reference, ``triton`` one persistent
kernel for all steps. A cell has the last where its class names a ``TritonKernel``.
"""

from __future__ import annotations

import torch

from rlstm.cells.base import RecurrentCell
from rlstm.cells.bidirectional import Bidirectional
from rlstm.cells.residual import ResidualCell
from rlstm.cells.stacked import StackedCell
from rlstm.core.cell_options import SequencePath
from rlstm.kernels.triton.support import why_never, why_not_here


def sequence_paths_of(cell: RecurrentCell) -> list[SequencePath]:
    """Return the paths that the cell has at its size, on whatever device."""
    has_triton = all(why_never(one) is None for one in _parts(cell))
    return ["auto", "loop", "triton"] if has_triton else ["auto", "loop"]


def check_sequence_path(cell: RecurrentCell, path: SequencePath, name: str) -> None:
    """Refuse a path that the cell called ``name`` has on no device.

    Raises:
        ValueError: With the reason and what would be right.
    """
    if path != "triton":
        return
    from rlstm.cells import CELLS

    for one in _parts(cell):
        if one.triton is None:
            having = ", ".join(name for name, known in CELLS.items() if known.triton is not None)
            reason = f"the cell '{name}' has no Triton kernel. Those that have one: {having}"
        else:
            reason = why_never(one) or ""
        if reason:
            raise ValueError(f"sequence is 'triton', but {reason}. With 'auto' it runs as the device allows.")


def name_sequence_path(cell: RecurrentCell, path: SequencePath, device: torch.device, dtype: torch.dtype) -> str:
    """Name the implementation that ``cell.sequence_by(path)`` is on a device, for weights of a type.

    Raises:
        ValueError: If it can't run there, with the reason and what would run instead.
    """
    if path == "loop":
        return "loop of steps"
    usual = cell.sequence_path(device)
    if path == "auto":
        return usual
    reason = why_not_here(device, dtype)
    if reason is not None:
        raise ValueError(f"sequence is 'triton', but {reason}. With 'auto' it would be: {usual}.")
    return "persistent Triton kernel" if device.type == "cuda" else "persistent Triton kernel, interpreted"


def _parts(cell: torch.nn.Module) -> list[RecurrentCell]:
    """Return the cells that a stack holds, without the residual layers around them; else the cell itself."""
    if isinstance(cell, ResidualCell):
        return _parts(cell.cell)
    if isinstance(cell, Bidirectional):
        return [*_parts(cell.past), *_parts(cell.future)]
    if isinstance(cell, StackedCell):
        return [one for layer in cell.layers for one in _parts(layer)]
    return [cell] if isinstance(cell, RecurrentCell) else []
