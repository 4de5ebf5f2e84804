"""The LSTM that knows how much time has passed between its inputs.

Source: Baytas et al. 2017, *Patient subtyping via time-aware LSTM networks*. Weights have the shapes and the gate order
(input, forget, cell, output) of ``torch.nn.LSTMCell``; there is one bias.
"""

from __future__ import annotations

import math
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
from rlstm.kernels.bptt.gated import bptt_sequence
from rlstm.kernels.bptt.time_aware import TimeAwareKernel

__all__ = ["TimeAwareLSTMCell", "TimeAwareLSTMState"]


class TimeAwareLSTMState(NamedTuple):
    """What a time-aware LSTM carries: its output and its memory."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)


class TimeAwareLSTMCell(RecurrentCell):
    """LSTM whose memory ages with the time Δt since the last input, which is the last column of the inputs.

    With h̄, c̄ the state after any erase and x the other columns, the short-term part C of the memory is discounted::

        C = tanh(W_d c̄ + b_d),    γ = 1 / log(e + Δt),    c* = c̄ - C + γ C
        [i, f, g, o] = W x + R h̄ + b,    c = f c* + i g,    h = o tanh(c)

    the gates i, f, o through the logistic function and g through tanh. No time (Δt = 0, γ = 1) makes it the LSTM. The
    time is taken as 0 where it is negative, and where the memory of a row is blank, all zeros: what has just begun has
    no past that could age, and C is not 0 there. So c* = 0 after an erase, whatever Δt says at that step.

    In a stack every layer reads the same time. R and W_d start orthogonal for each block, W uniform (Xavier), the
    forget bias at 1.

    Args:
        input_size: Width I of the inputs, Δt included; at least 2.
        hidden_size: Width H of the memory.
        memory_length: Longest lag in steps to bridge: b_f spreads time scales up to it, b_i = -b_f (Tallec & Ollivier
            2018). ``None`` leaves the forget bias at 1.
        memory_init: How: see ``memory_bias``.

    Raises:
        ValueError: If there is no input beside the time, the memory length is out of range, or ``memory_init`` is given
            without it.
    """

    source = "Baytas et al. 2017"
    reads_elapsed_time: ClassVar[bool] = True

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        if input_size < 2:
            raise ValueError(
                f"input_size is {input_size}; cell 'time_aware_lstm' needs at least 2: the last column is the time."
            )
        check_memory_length(memory_length, memory_init)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size - 1))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        self.weight_decay = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias_decay = nn.Parameter(torch.zeros(hidden_size))
        self._initialise(memory_length, memory_init)

    @torch.no_grad()
    def _initialise(self, memory_length: int | None, memory_init: MemoryInit) -> None:
        for block in self.weight_ih.chunk(4):
            nn.init.xavier_uniform_(block)
        orthogonal_blocks(self.weight_hh, 4)
        orthogonal_blocks(self.weight_decay, 1)
        input_bias, forget_bias, _, _ = self.bias.chunk(4)
        if memory_length is None:
            forget_bias.fill_(1.0)
        else:
            forget_bias.copy_(memory_bias(self.hidden_size, memory_length, memory_init))
            input_bias.copy_(-forget_bias)

    def init_state(self, batch_size: int) -> TimeAwareLSTMState:
        """Return zeros: h and c ``(batch_size, H)``."""
        zeros = self.weight_hh.new_zeros(batch_size, self.hidden_size)
        return TimeAwareLSTMState(zeros, zeros.clone())

    def step(self, inputs: Tensor, state: TimeAwareLSTMState) -> tuple[Tensor, TimeAwareLSTMState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        gates = torch.addmm(self.bias, inputs[:, :-1], self.weight_ih.t()) + state.h @ self.weight_hh.t()
        short_term = torch.tanh(torch.addmm(self.bias_decay, state.c, self.weight_decay.t()))
        return _from_gates(gates, _aged(state.c, short_term, inputs[:, -1:]))

    def sequence(
        self, inputs: Tensor, state: TimeAwareLSTMState, is_first: Tensor
    ) -> tuple[Tensor, TimeAwareLSTMState]:
        """Run T steps with resets; shapes as in the base class."""
        parameters = (self.weight_ih, self.weight_hh, self.bias, self.weight_decay, self.bias_decay)
        outputs, leaves = bptt_sequence(TimeAwareKernel, inputs, state, is_first, parameters)
        return outputs, TimeAwareLSTMState(*leaves)

    @torch.no_grad()
    def acting_snapshot(self) -> CellStep:
        """Return a step with one matrix product on [x | h] and one on c̄."""
        weight = torch.cat([self.weight_ih, self.weight_hh], dim=1).t().contiguous()  # (I - 1 + H, 4H)
        bias, bias_decay = self.bias.clone(), self.bias_decay.clone()
        weight_decay = self.weight_decay.t().contiguous()

        def step(inputs: Tensor, state: TimeAwareLSTMState) -> tuple[Tensor, TimeAwareLSTMState]:
            gates = torch.addmm(bias, torch.cat([inputs[:, :-1], state.h], dim=1), weight)
            short_term = torch.addmm(bias_decay, state.c, weight_decay).tanh_()
            return _from_gates(gates, _aged(state.c, short_term, inputs[:, -1:]))

        return step

    def sequence_path(self, device: torch.device) -> str:
        """Name the path, the same on every device."""
        return "hand-written backpropagation through time"


def _aged(c: Tensor, short_term: Tensor, elapsed: Tensor) -> Tensor:
    """Return the memory ``(B, H)`` after its short-term part was discounted for the elapsed time ``(B, 1)``."""
    lived = c.any(dim=1, keepdim=True)
    discount = 1.0 / torch.log(elapsed.clamp(min=0.0) + math.e) - 1.0
    return c + torch.where(lived, discount, 0.0) * short_term


def _from_gates(gates: Tensor, aged: Tensor) -> tuple[Tensor, TimeAwareLSTMState]:
    """Return the outputs from what enters the gates, ``(B, 4H)``, and the aged memory."""
    input_gate, forget_gate, cell_input, output_gate = gates.chunk(4, dim=1)
    c = torch.sigmoid(forget_gate) * aged + torch.sigmoid(input_gate) * torch.tanh(cell_input)
    h = torch.sigmoid(output_gate) * torch.tanh(c)
    return h, TimeAwareLSTMState(h, c)
