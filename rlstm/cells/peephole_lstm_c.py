"""The LSTM whose gates read the whole memory in place of the output.

Source: the peephole LSTM as encyclopedias state it, after Gers & Schmidhuber 2000: there c takes the place of h,
through full matrices. The peepholes of the paper itself are those of ``rlstm.cells.peephole_lstm``, another cell.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

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
from rlstm.kernels.bptt.peephole_c import PeepholeCKernel

__all__ = ["OutputActivation", "PeepholeLSTMCCell", "PeepholeLSTMCState"]

OutputActivation = Literal["tanh", "identity"]


class PeepholeLSTMCState(NamedTuple):
    """What the cell carries: its memory alone."""

    c: Tensor  # (B, H)


class PeepholeLSTMCCell(RecurrentCell):
    """LSTM with forget gate whose gates see the old memory through full matrices, and whose output feeds nothing back.

    With c̄ the state after any erase and φ the output's activation::

        [i, f, o] = σ(W x + b + U c̄),    g = tanh(W_g x + b_g),    c = f c̄ + i g,    h = o φ(c)

    All three gates see the old memory, and the cell's input sees none. U starts orthogonal for each gate, W uniform
    (Xavier), the forget bias at 1. Rows of W and b are in the order i, f, o, g, those of U i, f, o.

    Args:
        input_size: Width I of the inputs.
        hidden_size: Width H of the memory.
        memory_length: Longest lag in steps to bridge: b_f spreads time scales up to it, b_i = -b_f (Tallec & Ollivier
            2018). ``None`` leaves the forget bias at 1.
        memory_init: How: see ``memory_bias``.
        output_activation: φ, ``tanh`` or ``identity``. With the latter the output grows with the memory.

    Raises:
        ValueError: If the memory length is out of range, ``memory_init`` is given without it, or the activation is
            unknown.
    """

    source = "Gers & Schmidhuber 2000, in the form of encyclopedias: gates read c"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        *,
        output_activation: OutputActivation = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_memory_length(memory_length, memory_init)
        if output_activation not in get_args(OutputActivation):
            choices = ", ".join(get_args(OutputActivation))
            raise ValueError(f"output_activation is '{output_activation}'; it must be one of {choices}.")
        self.output_activation = output_activation
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_ch = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        self._initialise(memory_length, memory_init)

    @torch.no_grad()
    def _initialise(self, memory_length: int | None, memory_init: MemoryInit) -> None:
        for block in self.weight_ih.chunk(4):
            nn.init.xavier_uniform_(block)
        orthogonal_blocks(self.weight_ch, 3)
        input_bias, forget_bias, _, _ = self.bias.chunk(4)
        if memory_length is None:
            forget_bias.fill_(1.0)
        else:
            forget_bias.copy_(memory_bias(self.hidden_size, memory_length, memory_init))
            input_bias.copy_(-forget_bias)

    def init_state(self, batch_size: int) -> PeepholeLSTMCState:
        """Return zeros: c ``(batch_size, H)``."""
        return PeepholeLSTMCState(self.weight_ch.new_zeros(batch_size, self.hidden_size))

    def step(self, inputs: Tensor, state: PeepholeLSTMCState) -> tuple[Tensor, PeepholeLSTMCState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        from_input = torch.addmm(self.bias, inputs, self.weight_ih.t())
        gates, cell_input = from_input.split([3 * self.hidden_size, self.hidden_size], dim=1)
        return self._from_gates(torch.sigmoid(gates + state.c @ self.weight_ch.t()), torch.tanh(cell_input), state.c)

    def sequence(
        self, inputs: Tensor, state: PeepholeLSTMCState, is_first: Tensor
    ) -> tuple[Tensor, PeepholeLSTMCState]:
        """Run T steps with resets; shapes as in the base class."""
        parameters = (self.weight_ih, self.weight_ch, self.bias)
        outputs, leaves = bptt_sequence(PeepholeCKernel, inputs, state, is_first, parameters, self.output_activation)
        return outputs, PeepholeLSTMCState(*leaves)

    @torch.no_grad()
    def acting_snapshot(self) -> CellStep:
        """Return a step with one matrix product on [x | c], in which c adds 0 to the cell's input."""
        hidden = self.hidden_size
        from_memory = torch.cat([self.weight_ch, self.weight_ch.new_zeros(hidden, hidden)])
        weight = torch.cat([self.weight_ih, from_memory], dim=1).t().contiguous()  # (I + H, 4H)
        bias = self.bias.clone()

        def step(inputs: Tensor, state: PeepholeLSTMCState) -> tuple[Tensor, PeepholeLSTMCState]:
            gates = torch.addmm(bias, torch.cat([inputs, state.c], dim=1), weight)
            opened, cell_input = gates.split([3 * hidden, hidden], dim=1)
            return self._from_gates(opened.sigmoid_(), cell_input.tanh_(), state.c)

        return step

    def _from_gates(self, gates: Tensor, cell_input: Tensor, c: Tensor) -> tuple[Tensor, PeepholeLSTMCState]:
        """Return the outputs from the gates i, f, o ``(B, 3H)`` and g ``(B, H)``."""
        input_gate, forget_gate, output_gate = gates.chunk(3, dim=1)
        c = forget_gate * c + input_gate * cell_input
        h = output_gate * (torch.tanh(c) if self.output_activation == "tanh" else c)
        return h, PeepholeLSTMCState(c)

    def sequence_path(self, device: torch.device) -> str:
        """Name the path, the same on every device."""
        return "hand-written backpropagation through time"
