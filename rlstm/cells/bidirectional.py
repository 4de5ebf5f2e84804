"""Two memories over a whole sequence, one from each end (Schuster & Paliwal 1997): for reading, not for acting."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlstm.cells.base import RecurrentCell, State


class Bidirectional(nn.Module):
    """A memory of the past beside one of the future, up to the next reset and no further than the sequence.

    ``is_first`` parts the sequence into trajectories. The second cell reads each of them from its end: going back, it
    is reset at the last step of every trajectory. Nothing of it is carried to another sequence.

    Args:
        past: Reads from the first step on; its state is carried.
        future: Reads from the last step back.

    Raises:
        ValueError: If the two read inputs of different widths.
    """

    def __init__(self, past: RecurrentCell, future: RecurrentCell) -> None:
        super().__init__()
        if past.input_size != future.input_size:
            raise ValueError(
                f"The cells read {past.input_size} and {future.input_size} values; they must read the same."
            )
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
        past, state = self.past.sequence(inputs, state, is_first)
        is_last = torch.cat([is_first[1:], torch.ones_like(is_first[:1])])
        nothing = self.future.init_state(inputs.shape[1])
        future, _ = self.future.sequence(inputs.flip(0), nothing, is_last.flip(0))
        return torch.cat([past, future.flip(0)], -1), state

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Refuse.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "A bidirectional memory reads what comes later, so it can't act step by step. Use it for whole sequences, "
            "and for acting one of the cells that 'rlstm cells' lists."
        )
