"""Cells on top of each other (Graves 2013): each layer reads the outputs of the one below."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from rlstm.cells.base import CellStep, RecurrentCell, SequenceRun, State
from rlstm.core.cell_options import SequencePath


class LayeredCell(RecurrentCell):
    """A cell that runs cells from bottom to top; the state is a tuple with one state a layer."""

    layers_name: ClassVar[str] = "layers"
    """The ``torch.nn.ModuleList`` of the cells."""

    @property
    def _cells(self) -> list[RecurrentCell]:
        return [layer for layer in getattr(self, self.layers_name) if isinstance(layer, RecurrentCell)]

    def init_state(self, batch_size: int) -> State:
        """Return one initial state a layer."""
        return tuple(cell.init_state(batch_size) for cell in self._cells)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance every layer one step, ``(B, I)`` to ``(B, H)``."""
        return self._run([cell.step for cell in self._cells], inputs, state)

    def sequence(self, inputs: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """Run T steps layer by layer, each by its own fast path."""
        return self._run([partial(_call, cell.sequence, is_first) for cell in self._cells], inputs, state)

    def gates(self, inputs: Tensor, state: State) -> dict[str, Tensor]:
        """Return those of every layer, as ``layer0.forget`` from the bottom."""
        found: dict[str, Tensor] = {}

        def step(index: int, cell: RecurrentCell, inputs: Tensor, state: State) -> tuple[Tensor, State]:
            found.update({f"layer{index}.{name}": gate for name, gate in cell.gates(inputs, state).items()})
            return cell.step(inputs, state)

        self._run([partial(step, index, cell) for index, cell in enumerate(self._cells)], inputs, state)
        return found

    def _run(self, runs: Sequence[CellStep], inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Run the layers from bottom to top over a step or a sequence."""
        outputs, states = inputs, []
        for index, (run, layer_state) in enumerate(zip(runs, state, strict=True)):
            if index and self.reads_elapsed_time:
                outputs = torch.cat([outputs, inputs[..., -1:]], -1)
            outputs, layer_state = run(outputs, layer_state)
            states.append(layer_state)
        return outputs, tuple(states)


class StackedCell(LayeredCell):
    """A stack of cells. Every layer gets the same ``is_first``; the state is a tuple with one state a layer.

    Args:
        layers: The cells from bottom to top; the input width of each is the output width of the one below, and one
            more where it reads the elapsed time, which all of them then get.

    Raises:
        ValueError: If there is no layer or two widths don't meet.
    """

    def __init__(self, layers: Sequence[RecurrentCell]) -> None:
        if not layers:
            raise ValueError("A stack needs at least one layer.")
        super().__init__(layers[0].input_size, layers[-1].hidden_size)
        for index, (lower, upper) in enumerate(itertools.pairwise(layers)):
            if lower.output_size + upper.reads_elapsed_time != upper.input_size:
                raise ValueError(
                    f"Layer {index} puts out {lower.output_size} values, layer {index + 1} takes {upper.input_size}."
                )
        self.source = layers[0].source  # type: ignore[misc]
        self.reads_elapsed_time = layers[0].reads_elapsed_time  # type: ignore[misc]
        self.redundant_parameters = {  # type: ignore[misc]
            f"layers.{index}.{name}": f"layers.{index}.{other}"
            for index, layer in enumerate(layers)
            for name, other in layer.redundant_parameters.items()
        }
        self.layers = nn.ModuleList(layers)
        self.output_size = layers[-1].output_size

    def sequence_by(self, path: SequencePath) -> SequenceRun:
        """Return a run layer by layer, each by its own path of that name."""
        layers = [cell.sequence_by(path) for cell in self._cells]

        def run(inputs: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
            return self._run([partial(_call, layer, is_first) for layer in layers], inputs, state)

        return run

    def acting_snapshot(self) -> CellStep:
        """Return the snapshots of the layers as one."""
        snapshots = [cell.acting_snapshot() for cell in self._cells]
        return lambda inputs, state: self._run(snapshots, inputs, state)

    def population_snapshot(self, parameters: Mapping[str, Tensor]) -> CellStep:
        """Return those of the layers as one."""
        snapshots = []
        for index, cell in enumerate(self._cells):
            prefix = f"layers.{index}."
            own = {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}
            snapshots.append(cell.population_snapshot(own))
        return lambda inputs, state: self._run(snapshots, inputs, state)

    def sequence_path(self, device: torch.device) -> str:
        """Name the path of the layers."""
        return self._cells[0].sequence_path(device)


def _call(run: SequenceRun, is_first: Tensor, inputs: Tensor, state: State) -> tuple[Tensor, State]:
    return run(inputs, state, is_first)
