"""The gated recurrent unit, in the form whose reset gate acts after the matrix product.

Source: Cho et al. 2014 (arXiv 1406.1078). Parameters have the names, the shapes and the gate order (reset, update, new)
of ``torch.nn.GRUCell``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rlstm.cells.base import (
    CellStep,
    MemoryInit,
    RecurrentCell,
    check_memory_length,
    memory_bias,
    orthogonal_blocks,
)
from rlstm.cells.population_linear import PopulationLinear
from rlstm.kernels.bptt.gru import gru_bptt_sequence
from rlstm.kernels.reset_steps import gru_sequence
from rlstm.kernels.triton.support import TritonKernel

__all__ = ["GRUCell", "GRUState"]


class GRUState(NamedTuple):
    """What a GRU carries: its output."""

    h: Tensor  # (B, H)


class GRUCell(RecurrentCell):
    """Gated recurrent unit.

    With h̄ the state after any erase::

        r, z = σ(W x + b + R h̄ + b'),    n = tanh(W_n x + b_n + r (R_n h̄ + b'_n)),    h = (1 - z) n + z h̄

    R starts orthogonal for each gate, W uniform (Xavier), the biases at 0.

    Args:
        input_size: Width I of the inputs.
        hidden_size: Width H of the memory.
        memory_length: Longest lag in steps to bridge: b_z spreads time scales up to it (Tallec & Ollivier 2018).
            ``None`` leaves it at 0.
        memory_init: How: see ``memory_bias``.

    Raises:
        ValueError: If the memory length is out of range, or ``memory_init`` is given without it.
    """

    source = "Cho et al. 2014"
    triton = TritonKernel("rlstm.kernels.triton.gru", "gru")
    state_type: ClassVar[type] = GRUState

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_memory_length(memory_length, memory_init)
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(3 * hidden_size))
        self.bias_hh = nn.Parameter(torch.zeros(3 * hidden_size))
        self._initialise(memory_length, memory_init)

    @torch.no_grad()
    def _initialise(self, memory_length: int | None, memory_init: MemoryInit) -> None:
        for block in self.weight_ih.chunk(3):
            nn.init.xavier_uniform_(block)
        orthogonal_blocks(self.weight_hh, 3)
        if memory_length is not None:
            self.bias_ih.chunk(3)[1].copy_(memory_bias(self.hidden_size, memory_length, memory_init))

    def init_state(self, batch_size: int) -> GRUState:
        """Return zeros: h ``(batch_size, H)``."""
        return GRUState(self.weight_hh.new_zeros(batch_size, self.hidden_size))

    def step(self, inputs: Tensor, state: GRUState) -> tuple[Tensor, GRUState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        return _gru_step(inputs, state, self.weight_ih.t(), self.weight_hh.t(), self.bias_ih, self.bias_hh)

    def sequence(self, inputs: Tensor, state: GRUState, is_first: Tensor) -> tuple[Tensor, GRUState]:
        """Run T steps with resets; shapes as in the base class.

        CPUs have no dense kernel for the GRU, so there the backward pass is written by hand.
        """
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        run = gru_sequence if inputs.device.type == "cuda" else gru_bptt_sequence
        outputs, h = run(inputs, state.h, is_first, *weights)
        return outputs, GRUState(h)

    @torch.no_grad()
    def acting_snapshot(self) -> CellStep:
        """Return a step on weights that are already transposed."""
        weight_ih, weight_hh = self.weight_ih.t().contiguous(), self.weight_hh.t().contiguous()
        bias_ih, bias_hh = self.bias_ih.clone(), self.bias_hh.clone()

        def step(inputs: Tensor, state: GRUState) -> tuple[Tensor, GRUState]:
            return _gru_step(inputs, state, weight_ih, weight_hh, bias_ih, bias_hh)

        return step

    @torch.no_grad()
    def population_snapshot(self, parameters: Mapping[str, Tensor]) -> CellStep:
        """Return ``acting_snapshot`` for P cells, two products; shapes as in the base class."""
        input_product = PopulationLinear(parameters["weight_ih"], parameters["bias_ih"])
        state_product = PopulationLinear(parameters["weight_hh"], parameters["bias_hh"])

        def step(inputs: Tensor, state: GRUState) -> tuple[Tensor, GRUState]:
            return _from_products(input_product(inputs), state_product(state.h), state)

        return step

    def sequence_path(self, device: torch.device) -> str:
        """Name the path: reset steps into cuDNN, or backpropagation through time written by hand."""
        return "reset steps into cuDNN" if device.type == "cuda" else "hand-written backpropagation through time"


def _gru_step(
    inputs: Tensor, state: GRUState, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> tuple[Tensor, GRUState]:
    """One step on transposed weights ``(I, 3H)`` and ``(H, 3H)``.

    The two products can't become one on [x | h]: the reset gate multiplies the recurrent part alone.
    """
    return _from_products(torch.addmm(bias_ih, inputs, weight_ih), torch.addmm(bias_hh, state.h, weight_hh), state)


def _from_products(from_input: Tensor, from_state: Tensor, state: GRUState) -> tuple[Tensor, GRUState]:
    """Return the outputs from what enters the gates, ``(B, 3H)`` from the input and from the state."""
    hidden = state.h.shape[1]
    gates = torch.sigmoid(from_input[:, : 2 * hidden] + from_state[:, : 2 * hidden])
    new = torch.tanh(torch.addcmul(from_input[:, 2 * hidden :], gates[:, :hidden], from_state[:, 2 * hidden :]))
    h = torch.lerp(new, state.h, gates[:, hidden:])  # (1 - z) n + z h̄
    return h, GRUState(h)
