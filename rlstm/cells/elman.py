"""The simple recurrent network of Elman 1990, *Finding structure in time*, with tanh in place of the logistic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rlstm.cells.base import CellStep, MemoryInit, RecurrentCell, orthogonal_blocks, refuse_memory_length
from rlstm.cells.population_linear import PopulationLinear
from rlstm.kernels.bptt.elman import ElmanKernel
from rlstm.kernels.bptt.gated import bptt_sequence

__all__ = ["ElmanCell", "ElmanState"]


class ElmanState(NamedTuple):
    """What an Elman network carries: its output."""

    h: Tensor  # (B, H)


class ElmanCell(RecurrentCell):
    """Elman network: h = tanh(W x + b + R h̄ + b'), h̄ the state after any erase.

    R starts orthogonal, W uniform (Xavier), the biases at 0. Parameters are named as in ``torch.nn.RNNCell``.

    Args:
        input_size: Width I of the inputs.
        hidden_size: Width H of the memory.
        memory_length: Must be ``None``: the cell has no gate whose bias could hold a time scale.
        memory_init: Must be left as it is, for the same reason.

    Raises:
        ValueError: If one of them is given.
    """

    source = "Elman 1990"
    redundant_parameters: ClassVar[Mapping[str, str]] = {"bias_hh": "bias_ih"}

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        refuse_memory_length(memory_length, memory_init, "cell 'elman' has no gates")
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(hidden_size))
        self.bias_hh = nn.Parameter(torch.zeros(hidden_size))
        nn.init.xavier_uniform_(self.weight_ih)
        orthogonal_blocks(self.weight_hh, 1)

    def init_state(self, batch_size: int) -> ElmanState:
        """Return zeros: h ``(batch_size, H)``."""
        return ElmanState(self.weight_hh.new_zeros(batch_size, self.hidden_size))

    def step(self, inputs: Tensor, state: ElmanState) -> tuple[Tensor, ElmanState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        from_input = torch.addmm(self.bias_ih, inputs, self.weight_ih.t())
        h = torch.tanh(from_input + torch.addmm(self.bias_hh, state.h, self.weight_hh.t()))
        return h, ElmanState(h)

    def sequence(self, inputs: Tensor, state: ElmanState, is_first: Tensor) -> tuple[Tensor, ElmanState]:
        """Run T steps with resets; shapes as in the base class."""
        parameters = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        outputs, leaves = bptt_sequence(ElmanKernel, inputs, state, is_first, parameters)
        return outputs, ElmanState(*leaves)

    @torch.no_grad()
    def acting_snapshot(self) -> CellStep:
        """Return a step with one matrix product on [x | h]."""
        weight = torch.cat([self.weight_ih, self.weight_hh], dim=1).t().contiguous()  # (I + H, H)
        bias = self.bias_ih + self.bias_hh

        def step(inputs: Tensor, state: ElmanState) -> tuple[Tensor, ElmanState]:
            h = torch.addmm(bias, torch.cat([inputs, state.h], dim=1), weight).tanh_()
            return h, ElmanState(h)

        return step

    @torch.no_grad()
    def population_snapshot(self, parameters: Mapping[str, Tensor]) -> CellStep:
        """Return ``acting_snapshot`` for P cells: one product on [x | h]; shapes as in the base class."""
        weight = torch.cat([parameters["weight_ih"], parameters["weight_hh"]], dim=2)
        product = PopulationLinear(weight, parameters["bias_ih"] + parameters["bias_hh"])

        def step(inputs: Tensor, state: ElmanState) -> tuple[Tensor, ElmanState]:
            h = product(torch.cat([inputs, state.h], dim=1)).tanh_()
            return h, ElmanState(h)

        return step

    def sequence_path(self, device: torch.device) -> str:
        """Name the path, the same on every device."""
        return "hand-written backpropagation through time"
