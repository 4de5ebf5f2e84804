"""Memory cells. Adding one is one file in this folder and one line in ``CELLS``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rlstm.cells.base import CellStep, RecurrentCell, State
from rlstm.cells.bidirectional import Bidirectional
from rlstm.cells.conv_lstm import ConvLSTMCell
from rlstm.cells.elman import ElmanCell
from rlstm.cells.feed_forward import FeedForwardCell
from rlstm.cells.graph import GraphCell
from rlstm.cells.gru import GRUCell
from rlstm.cells.ln_gru import LNGRUCell
from rlstm.cells.lstm import LSTMCell
from rlstm.cells.lstm_1997 import LSTM1997Cell
from rlstm.cells.min_gru import MinGRUCell
from rlstm.cells.min_lstm import MinLSTMCell
from rlstm.cells.mlstm import MLSTMCell
from rlstm.cells.peephole_lstm import PeepholeLSTMCell
from rlstm.cells.peephole_lstm_c import PeepholeLSTMCCell
from rlstm.cells.residual import ResidualCell
from rlstm.cells.slstm import SLSTMCell
from rlstm.cells.stacked import StackedCell
from rlstm.cells.time_aware_lstm import TimeAwareLSTMCell
from rlstm.cells.xlstm import XLSTMCell
from rlstm.core.cell_graph_files import cell_of_file
from rlstm.core.cell_options import MemoryInit
from rlstm.core.errors import unknown_name
from rlstm.core.options import check_options

__all__ = ["CELLS", "CellStep", "MemoryInit", "RecurrentCell", "State", "make_cell"]

CELLS: dict[str, type[RecurrentCell]] = {
    "lstm": LSTMCell,
    "gru": GRUCell,
    "ln_gru": LNGRUCell,
    "elman": ElmanCell,
    "lstm_1997": LSTM1997Cell,
    "peephole_lstm": PeepholeLSTMCell,
    "peephole_lstm_c": PeepholeLSTMCCell,
    "time_aware_lstm": TimeAwareLSTMCell,
    "slstm": SLSTMCell,
    "mlstm": MLSTMCell,
    "xlstm": XLSTMCell,
    "min_gru": MinGRUCell,
    "min_lstm": MinLSTMCell,
    "conv_lstm": ConvLSTMCell,
    "graph": GraphCell,
    "none": FeedForwardCell,
}


def make_cell(
    name: str | os.PathLike[str],
    input_size: int,
    hidden_size: int,
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    residual: bool = False,
    layer_norm: bool = False,
    memory_length: int | None = None,
    memory_init: MemoryInit = "chrono",
    options: Mapping[str, Any] | None = None,
) -> RecurrentCell:
    """Build the cell called ``name``, stacked ``num_layers`` high.

    Args:
        name: A key of ``CELLS``, or a TOML file of a graph, see ``rlstm.core.cell_graphs``.
        input_size: Width I of the inputs.
        hidden_size: Width H of each layer.
        num_layers: Height of the stack.
        bidirectional: Whether each layer has a memory of the future beside that of the past.
        residual: Whether each layer but the first adds to what it reads.
        layer_norm: Whether each layer but the first reads it normalised.
        memory_length: Longest lag in steps that every layer's initialisation should bridge; ``None`` for the plain one.
        memory_init: How the time scales up to it are spread.
        options: More arguments of the cell, by their names.

    Returns:
        The cell; a ``StackedCell`` where ``num_layers`` is more than 1.

    Raises:
        ValueError: If the name is unknown, a number is out of range, the cell has no such option, or the file holds no
            cell.
    """
    name, options = cell_of_file(name, options or {})
    if name not in CELLS:
        raise unknown_name("cell", name, CELLS)
    if num_layers < 1:
        raise ValueError(f"num_layers is {num_layers}; it must be at least 1.")
    for option, is_set in (("residual", residual), ("layer_norm", layer_norm)):
        if is_set and num_layers == 1:
            raise ValueError(f"{option} is of the layers above the first, but num_layers is 1; leave it out.")
    given = {"memory_length": (memory_length, None), "memory_init": (memory_init, "chrono")}
    # Defaults are not passed on, so a cell without gates need not know of them.
    arguments: dict[str, Any] = {key: value for key, (value, default) in given.items() if value != default}
    common = ("input_size", "hidden_size", "memory_length", "memory_init")
    check_options("cell", name, CELLS[name], options, common)
    arguments |= options

    def make_layer(width: int, arguments: dict[str, Any]) -> RecurrentCell:
        one = CELLS[name](width, hidden_size, **arguments)
        return Bidirectional(one, CELLS[name](width, hidden_size, **arguments)) if bidirectional else one

    layers = [make_layer(input_size, arguments)]
    for _ in range(num_layers - 1):
        width = layers[-1].output_size + layers[0].reads_elapsed_time
        above = arguments if layers[0].output_maps is None else {**arguments, "map_shape": layers[0].output_maps}
        layer = make_layer(width, above)
        is_wrapped = residual or layer_norm
        layers.append(ResidualCell(layer, residual=residual, layer_norm=layer_norm) if is_wrapped else layer)
    return layers[0] if num_layers == 1 else StackedCell(layers)
