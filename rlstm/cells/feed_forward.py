"""The control: a layer of the same width without memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlstm.cells.base import CellStep, RecurrentCell
from rlstm.cells.population_linear import PopulationLinear
from rlstm.core.cell_options import MemoryInit, refuse_memory_length


class NoState(NamedTuple):
    """What a layer without memory carries: nothing."""


class FeedForwardCell(RecurrentCell):
    """Feed-forward control: h = tanh(W x + b). What an agent reaches with it, it reaches without memory.

    A memory length, and a ``memory_init``, are refused: there is no memory to set a length for.
    """

    source = "feed-forward control"
    path_name = "all steps at once"

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        refuse_memory_length(memory_length, memory_init, "cell 'none' has no memory")
        self.weight = nn.Parameter(torch.empty(hidden_size, input_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        nn.init.orthogonal_(self.weight, gain=2**0.5)

    def init_state(self, batch_size: int) -> NoState:
        """Return the empty state."""
        return NoState()

    def step(self, inputs: Tensor, state: NoState) -> tuple[Tensor, NoState]:
        """Apply the layer, ``(B, I)`` to ``(B, H)``."""
        return torch.tanh(nn.functional.linear(inputs, self.weight, self.bias)), state

    def sequence(self, inputs: Tensor, state: NoState, is_first: Tensor) -> tuple[Tensor, NoState]:
        """Apply the layer to all steps at once; ``is_first`` has nothing to reset."""
        return self.step(inputs, state)

    @torch.no_grad()
    def population_snapshot(self, parameters: Mapping[str, Tensor]) -> CellStep:
        """Return ``step`` for P layers in one product."""
        product = PopulationLinear(parameters["weight"], parameters["bias"])
        return lambda inputs, state: (product(inputs).tanh_(), state)
