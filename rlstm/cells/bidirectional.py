"""Two memories over a whole sequence, one from each end (Schuster & Paliwal 1997): for reading, not for acting."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from rlstm.cells.base import CellStep, RecurrentCell, SequenceRun, State
from rlstm.core.cell_options import SequencePath

_NO_ACTING = (
    "A bidirectional memory reads what comes later, so it can't act step by step. Use it for whole sequences, and for "
    "acting one of the cells that 'rlstm cells' lists."
)


class Bidirectional(RecurrentCell):
    """A memory of the past beside one of the future, up to the next reset and no further than the sequence.

    ``is_first`` parts the sequence into trajectories. The second cell reads each of them from its end: going back, it
    is reset at the last step of every trajectory. Nothing of it is carried to another sequence.

    Args:
        past: Reads from the first step on; its state is carried.
        future: Reads from the last step back.

    Raises:
        ValueError: If the two read inputs of different widths, maps, or the time since the step before.
    """

    def __init__(self, past: RecurrentCell, future: RecurrentCell) -> None:
        if past.input_size != future.input_size:
            raise ValueError(
                f"The cells read {past.input_size} and {future.input_size} values; they must read the same."
            )
        for one in (past, future):
            if one.reads_elapsed_time or one.output_maps is not None:
                raise ValueError(
                    f"{type(one).__name__} reads {'the elapsed time' if one.reads_elapsed_time else 'maps'}, which has "
                    "no meaning from the end back here: take another cell, 'lstm' for instance."
                )
        super().__init__(past.input_size, past.hidden_size)
        self.source = past.source  # type: ignore[misc]
        self.redundant_parameters = {  # type: ignore[misc]
            f"{part}.{name}": f"{part}.{other}"
            for part, cell in (("past", past), ("future", future))
            for name, other in cell.redundant_parameters.items()
        }
        self.past, self.future = past, future
        self.output_size = past.output_size + future.output_size

    def init_state(self, batch_size: int) -> State:
        """Return the state of a past that has seen nothing, leaves ``(batch_size, ...)``."""
        return self.past.init_state(batch_size)

    def sequence(self, inputs: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """Run T steps as a cell does; the state is that of the past.

        Returns:
            Outputs ``(T, B, H + H')``, of the past and of the future, and the state of the past after step T - 1.
        """
        return self._run(self.past.sequence, self.future.sequence, inputs, state, is_first)

    def sequence_by(self, path: SequencePath) -> SequenceRun:
        """Return a run of both by their own paths of that name."""
        return partial(self._run, self.past.sequence_by(path), self.future.sequence_by(path))

    def _run(
        self, past_run: SequenceRun, future_run: SequenceRun, inputs: Tensor, state: State, is_first: Tensor
    ) -> tuple[Tensor, State]:
        past, state = past_run(inputs, state, is_first)
        is_last = torch.cat([is_first[1:], torch.ones_like(is_first[:1])])
        nothing = self.future.init_state(inputs.shape[1])
        future, _ = future_run(inputs.flip(0), nothing, is_last.flip(0))
        return torch.cat([past, future.flip(0)], -1), state

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Refuse.

        Raises:
            TypeError: Always.
        """
        raise TypeError(_NO_ACTING)

    def acting_snapshot(self) -> CellStep:
        """Refuse as ``step`` does, before anything is played.

        Raises:
            TypeError: Always.
        """
        raise TypeError(_NO_ACTING)

    def sequence_path(self, device: torch.device) -> str:
        """Name the path of the past."""
        return self.past.sequence_path(device)
