"""Memory cells as lines of a step. A cell is one function in ``functions`` and one line in ``CELL_FORMS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from rlstm.cells import CELLS, RecurrentCell
from rlstm.cells.residual import ResidualCell
from rlstm.cells.stacked import StackedCell
from rlstm.export.c.program import Program, Vector


@dataclass(frozen=True)
class CellForm:
    """How a cell is called in C: function(arrays, inputs, leaves, size, gates, options)."""

    function: str
    arrays: Callable[[Any], Mapping[str, Tensor]]
    """From the cell to its constants by name, in the order of the arguments."""
    leaves: tuple[str, ...]
    """What it carries, ``(H,)`` each, 0 at first; its output is the first."""
    gates: int
    """How many numbers a unit it computes in between."""
    options: Callable[[Any], tuple[str, ...]] = lambda cell: ()


def _parameters(*names: str) -> Callable[[Any], Mapping[str, Tensor]]:
    return lambda cell: {name: getattr(cell, name) for name in names}


def _with_one_bias(cell: Any) -> Mapping[str, Tensor]:
    return {"weight_ih": cell.weight_ih, "weight_hh": cell.weight_hh, "bias": cell.bias_ih + cell.bias_hh}


def _candidate(cell: Any) -> tuple[str, ...]:
    return (str(int(cell.candidate == "positive")),)


_of_gru = _parameters("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_of_ln_gru = _parameters("weight_ih", "weight_hh", "gain_ih", "bias_ih", "gain_hh", "bias_hh")
_of_peepholes = _parameters("weight_ih", "weight_hh", "bias", "peepholes")
_of_minimal = _parameters("weight_ih", "bias_ih")

CELL_FORMS: dict[str, CellForm] = {
    "lstm": CellForm("lstm", _with_one_bias, ("h", "c"), 4),
    "gru": CellForm("gru", _of_gru, ("h",), 6),
    "elman": CellForm("elman", _with_one_bias, ("h",), 1),
    "ln_gru": CellForm("ln_gru", _of_ln_gru, ("h",), 6),
    "peephole_lstm": CellForm("peephole_lstm", _of_peepholes, ("h", "c"), 4),
    "min_gru": CellForm("min_gru", _of_minimal, ("h",), 2, _candidate),
    "min_lstm": CellForm("min_lstm", _of_minimal, ("h",), 3, _candidate),
    "none": CellForm("tanh_layer", _parameters("weight", "bias"), (), 0),
}
"""The cells that can be written, by their names in ``CELLS``."""


def name_of_form(cell: RecurrentCell) -> str | None:
    """Return the name of a single cell in ``CELL_FORMS``; None if it has none."""
    return next((name for name in CELL_FORMS if type(cell) is CELLS[name]), None)


def layers_of(cell: RecurrentCell) -> list[RecurrentCell]:
    """Return the layers of a stack, or the cell alone."""
    return [one for one in cell.layers if isinstance(one, RecurrentCell)] if type(cell) is StackedCell else [cell]


def bare(layer: RecurrentCell) -> RecurrentCell:
    """Return a layer without what is around it."""
    return layer.cell if type(layer) is ResidualCell else layer


def write_cell(program: Program, name: str, cell: RecurrentCell, x: Vector) -> Vector:
    """Add a cell or a stack, and return where its output is."""
    for index, layer in enumerate(layers_of(cell)):
        own = f"{name}_{index}"
        y = _write_single(program, own, bare(layer), _normed(program, own, layer, x))
        if isinstance(layer, ResidualCell) and layer.residual:
            total = program.buffer(f"{own}_sum", y.length)
            program.call("add", y.expression, x.expression, total)
            y = total
        x = y
    return x


def _normed(program: Program, name: str, layer: RecurrentCell, x: Vector) -> Vector:
    if not isinstance(layer, ResidualCell) or not isinstance(layer.norm, nn.LayerNorm):
        return x
    arrays = [program.array(f"{name}_norm_{key}", getattr(layer.norm, key)) for key in ("weight", "bias")]
    y = program.buffer(f"{name}_normed", x.length)
    program.call("layer_norm", *arrays, x.expression, y)
    return y


def _write_single(program: Program, name: str, cell: RecurrentCell, x: Vector) -> Vector:
    form = CELL_FORMS[name_of_form(cell) or ""]
    arrays = [program.array(f"{name}_{key}", value) for key, value in form.arrays(cell).items()]
    if not form.leaves:
        y = program.buffer(name, cell.output_size)
        program.call(form.function, *arrays, x, y)
        return y
    *others, last = [program.memory(f"{name}_{leaf}", cell.hidden_size, f"Memory, {leaf}.") for leaf in form.leaves]
    gates = program.buffer(f"{name}_gates", form.gates * cell.hidden_size)
    leaves: list[str | Vector] = [*(one.expression for one in others), last]
    program.call(form.function, *arrays, x, *leaves, gates.expression, *form.options(cell))
    return others[0] if others else last
