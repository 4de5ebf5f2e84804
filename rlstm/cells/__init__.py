"""Memory cells. Adding one is one file in this folder and one line in ``CELLS``."""

from __future__ import annotations

from typing import Any

from rlstm.cells.base import MemoryInit, RecurrentCell, State, Stepper
from rlstm.cells.elman import ElmanCell
from rlstm.cells.feed_forward import FeedForwardCell
from rlstm.cells.gru import GRUCell
from rlstm.cells.lstm import LSTMCell
from rlstm.cells.stacked import StackedCell
from rlstm.errors import unknown_name

__all__ = ["CELLS", "MemoryInit", "RecurrentCell", "State", "Stepper", "make_cell"]

CELLS: dict[str, type[RecurrentCell]] = {
    "lstm": LSTMCell,
    "gru": GRUCell,
    "elman": ElmanCell,
    "none": FeedForwardCell,
}


def make_cell(
    name: str,
    input_size: int,
    hidden_size: int,
    *,
    num_layers: int = 1,
    memory_length: int | None = None,
    memory_init: MemoryInit = "chrono",
) -> RecurrentCell:
    """Build the cell called ``name``, stacked ``num_layers`` high.

    Args:
        name: A key of ``CELLS``.
        input_size: Width I of the inputs.
        hidden_size: Width H of each layer.
        num_layers: Height of the stack.
        memory_length: Longest lag in steps that every layer's initialisation should bridge; ``None`` for the plain one.
        memory_init: How the time scales up to it are spread.

    Returns:
        The cell; a ``StackedCell`` where ``num_layers`` is more than 1.

    Raises:
        ValueError: If the name is unknown or a number is out of range.
    """
    if name not in CELLS:
        raise unknown_name("cell", name, CELLS)
    if num_layers < 1:
        raise ValueError(f"num_layers is {num_layers}; it must be at least 1.")
    given = {"memory_length": (memory_length, None), "memory_init": (memory_init, "chrono")}
    # Defaults are not passed on, so a cell without gates need not know of them.
    options: dict[str, Any] = {key: value for key, (value, default) in given.items() if value != default}
    sizes = [input_size] + [hidden_size] * (num_layers - 1)
    layers = [CELLS[name](size, hidden_size, **options) for size in sizes]
    return layers[0] if num_layers == 1 else StackedCell(layers)
