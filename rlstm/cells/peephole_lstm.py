"""The LSTM whose gates see the memory through peepholes.

Source: Gers & Schmidhuber 2000, *Recurrent nets that time and count*; Gers, Schraudolph & Schmidhuber 2002, *Learning
precise timing with LSTM recurrent networks*. Weights have the shapes and the gate order (input, forget, cell, output)
of ``torch.nn.LSTMCell``; there is one bias.
"""

from __future__ import annotations

from typing import NamedTuple

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
from rlstm.kernels.bptt.gated import bptt_sequence
from rlstm.kernels.bptt.peephole import PeepholeKernel
from rlstm.kernels.triton.support import TritonKernel

__all__ = ["PeepholeLSTMCell", "PeepholeLSTMState"]


class PeepholeLSTMState(NamedTuple):
    """What a peephole LSTM carries: its output and its memory."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)


class PeepholeLSTMCell(RecurrentCell):
    """LSTM with forget gate and peepholes: each gate sees the memory of its own unit.

    With h̄, c̄ the state after any erase and [a_i, a_f, a_g, a_o] = W x + R h̄ + b::

        i = σ(a_i + p_i c̄),    f = σ(a_f + p_f c̄),    g = tanh(a_g)
        c = f c̄ + i g,         o = σ(a_o + p_o c),    h = o tanh(c)

    The output gate sees the new memory, the others the old one. With p = 0 it is the LSTM. R starts orthogonal for each
    gate, W uniform (Xavier), the forget bias at 1, the peepholes at 0.

    Args:
        input_size: Width I of the inputs.
        hidden_size: Width H of the memory.
        memory_length: Longest lag in steps to bridge: b_f spreads time scales up to it, b_i = -b_f (Tallec & Ollivier
            2018). ``None`` leaves the forget bias at 1.
        memory_init: How: see ``memory_bias``.

    Raises:
        ValueError: If the memory length is out of range, or ``memory_init`` is given without it.
    """

    source = "Gers & Schmidhuber 2000; Gers, Schraudolph & Schmidhuber 2002"
    triton = TritonKernel("rlstm.kernels.triton.lstm", "peephole_lstm")

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_memory_length(memory_length, memory_init)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        self.peepholes = nn.Parameter(torch.zeros(3 * hidden_size))  # Of the gates i, f, o.
        self._initialise(memory_length, memory_init)

    @torch.no_grad()
    def _initialise(self, memory_length: int | None, memory_init: MemoryInit) -> None:
        for block in self.weight_ih.chunk(4):
            nn.init.xavier_uniform_(block)
        orthogonal_blocks(self.weight_hh, 4)
        input_bias, forget_bias, _, _ = self.bias.chunk(4)
        if memory_length is None:
            forget_bias.fill_(1.0)
        else:
            forget_bias.copy_(memory_bias(self.hidden_size, memory_length, memory_init))
            input_bias.copy_(-forget_bias)

    def init_state(self, batch_size: int) -> PeepholeLSTMState:
        """Return zeros: h and c ``(batch_size, H)``."""
        zeros = self.weight_hh.new_zeros(batch_size, self.hidden_size)
        return PeepholeLSTMState(zeros, zeros.clone())

    def step(self, inputs: Tensor, state: PeepholeLSTMState) -> tuple[Tensor, PeepholeLSTMState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        gates = torch.addmm(self.bias, inputs, self.weight_ih.t()) + state.h @ self.weight_hh.t()
        return _from_gates(gates, state.c, self.peepholes)

    def sequence(self, inputs: Tensor, state: PeepholeLSTMState, is_first: Tensor) -> tuple[Tensor, PeepholeLSTMState]:
        """Run T steps with resets; shapes as in the base class."""
        parameters = (self.weight_ih, self.weight_hh, self.bias, self.peepholes)
        outputs, leaves = bptt_sequence(PeepholeKernel, inputs, state, is_first, parameters)
        return outputs, PeepholeLSTMState(*leaves)

    @torch.no_grad()
    def acting_snapshot(self) -> CellStep:
        """Return a step with one matrix product on [x | h]."""
        weight = torch.cat([self.weight_ih, self.weight_hh], dim=1).t().contiguous()  # (I + H, 4H)
        bias, peepholes = self.bias.clone(), self.peepholes.clone()

        def step(inputs: Tensor, state: PeepholeLSTMState) -> tuple[Tensor, PeepholeLSTMState]:
            gates = torch.addmm(bias, torch.cat([inputs, state.h], dim=1), weight)
            return _from_gates(gates, state.c, peepholes)

        return step

    def sequence_path(self, device: torch.device) -> str:
        """Name the path, the same on every device."""
        return "hand-written backpropagation through time"


def _from_gates(gates: Tensor, c: Tensor, peepholes: Tensor) -> tuple[Tensor, PeepholeLSTMState]:
    """Return the outputs from what enters the gates without the peepholes, ``(B, 4H)``."""
    see_input, see_forget, see_output = peepholes.chunk(3)
    input_gate, forget_gate, cell_input, output_gate = gates.chunk(4, dim=1)
    input_gate = torch.sigmoid(torch.addcmul(input_gate, see_input, c))
    forget_gate = torch.sigmoid(torch.addcmul(forget_gate, see_forget, c))
    c = forget_gate * c + input_gate * torch.tanh(cell_input)
    h = torch.sigmoid(torch.addcmul(output_gate, see_output, c)) * torch.tanh(c)
    return h, PeepholeLSTMState(h, c)
