"""A layer of a stack that adds to what it reads, reads it normalised, or both."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rlstm.cells.base import CellStep, RecurrentCell, SequenceRun, State
from rlstm.core.cell_options import SequencePath


class ResidualCell(RecurrentCell):
    """A cell between a layer norm and a residual connection: y = cell(norm(x)) + x.

    Sources: He et al. 2016 (arXiv 1512.03385), for the connection; Ba, Kiros & Hinton 2016 (arXiv 1607.06450), for the
    norm, here before the cell as in Xiong et al. 2020 (arXiv 2002.04745). The state is that of the cell.

    Args:
        cell: What is wrapped.
        residual: Whether x is added; the cell must put out as much as it reads.
        layer_norm: Whether x is normalised over its features before the cell reads it.

    Raises:
        ValueError: If x can't be added to what the cell puts out.
    """

    def __init__(self, cell: RecurrentCell, *, residual: bool, layer_norm: bool) -> None:
        super().__init__(cell.input_size, cell.hidden_size)
        if cell.reads_elapsed_time:
            raise ValueError("A layer that reads the elapsed time can be neither residual nor normalised.")
        if residual and cell.input_size != cell.output_size:
            raise ValueError(
                f"A residual layer must put out as many values as it reads, but this one reads {cell.input_size} and "
                f"puts out {cell.output_size}."
            )
        self.source = cell.source  # type: ignore[misc]
        self.cell, self.residual = cell, residual
        self.norm = nn.LayerNorm(cell.input_size) if layer_norm else nn.Identity()
        self.output_size = cell.output_size
        self.redundant_parameters = {  # type: ignore[misc]
            f"cell.{name}": f"cell.{other}" for name, other in cell.redundant_parameters.items()
        }

    def init_state(self, batch_size: int) -> State:
        """Return that of the cell."""
        return self.cell.init_state(batch_size)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        return self._around(self.cell.step)(inputs, state)

    def gates(self, inputs: Tensor, state: State) -> dict[str, Tensor]:
        """Return those of the cell."""
        return self.cell.gates(self.norm(inputs), state)

    def sequence(self, inputs: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """Run T steps by the cell's own fast path."""
        return self.sequence_by("auto")(inputs, state, is_first)

    def sequence_by(self, path: SequencePath) -> SequenceRun:
        """Return the cell's path of that name, with the norm before it and the connection around it."""
        return self._around(self.cell.sequence_by(path))

    @torch.no_grad()
    def acting_snapshot(self) -> CellStep:
        """Return the cell's, with the norm before it and the connection around it."""
        return self._around(self.cell.acting_snapshot())

    def _around(self, inner: Callable[..., tuple[Tensor, State]]) -> Callable[..., tuple[Tensor, State]]:
        """Return a step or a sequence of the cell with the norm before it and the connection around it."""

        def run(inputs: Tensor, state: State, *is_first: Tensor) -> tuple[Tensor, State]:
            outputs, state = inner(self.norm(inputs), state, *is_first)
            return outputs + inputs if self.residual else outputs, state

        return run

    def sequence_path(self, device: torch.device) -> str:
        """Name the cell's path."""
        return self.cell.sequence_path(device)
