"""The LSTM of 1997, without a forget gate, in memory blocks.

Source: Hochreiter & Schmidhuber 1997, *Long short-term memory*, Neural Computation 9(8): memory blocks whose cells
share an input and an output gate, the squashing functions g in [-2, 2] and h in [-1, 1], the truncated gradient.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from rlstm.cells.base import CellStep, MemoryInit, RecurrentCell, orthogonal_blocks, refuse_memory_length
from rlstm.kernels.bptt.gated import bptt_sequence
from rlstm.kernels.bptt.lstm_1997 import LSTM1997Kernel

__all__ = ["Gradient", "LSTM1997Cell", "LSTM1997State"]

Gradient = Literal["full", "truncated"]


class LSTM1997State(NamedTuple):
    """What the cell carries: its output and its memory."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)


class LSTM1997Cell(RecurrentCell):
    """LSTM without forget gate, its memory in blocks of S cells that share an input and an output gate.

    With h̄, c̄ the state after any erase and [a_i, a_o, a_g] = W x + b + R h̄, N = H / S values for each gate::

        i = σ(a_i),    o = σ(a_o),    g = 4 σ(a_g) - 2,    c = c̄ + i g,    h = o (2 σ(c) - 1)

    Units k S .. k S + S - 1 are block k. What enters a memory stays there until it is erased, so c has no bound, and
    resets matter. Gates start nearly closed, against abuse and drift, as in the paper: the input biases at -1, the
    output biases from -1 at the first block to -4 at the last, evenly. R starts orthogonal for g, and with orthogonal
    rows for each gate; W uniform (Xavier).

    Args:
        input_size: Width I of the inputs.
        hidden_size: Width H of the memory.
        memory_length: Must be ``None``: without a forget gate nothing is forgotten, so there is no time scale to set.
        memory_init: Must be left as it is, for the same reason.
        cells_per_block: S, a divisor of H.
        gradient: ``full``, or ``truncated`` as in the paper: what reaches the gates and the cell's input goes into the
            weights and the inputs, but not back through R, so errors travel through time in the memories alone. Then
            ``step``, and all that is compared with it, has this gradient too.

    Raises:
        ValueError: If a memory length is given, S does not divide H, or the gradient is unknown.
    """

    source = "Hochreiter & Schmidhuber 1997"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        *,
        cells_per_block: int = 1,
        gradient: Gradient = "full",
    ) -> None:
        super().__init__(input_size, hidden_size)
        refuse_memory_length(memory_length, memory_init, "cell 'lstm_1997' has no forget gate: it never forgets")
        if cells_per_block < 1 or hidden_size % cells_per_block:
            raise ValueError(
                f"cells_per_block is {cells_per_block}; it must be at least 1 and divide hidden_size, {hidden_size}."
            )
        if gradient not in get_args(Gradient):
            raise ValueError(f"gradient is '{gradient}'; it must be one of {', '.join(get_args(Gradient))}.")
        self.gradient = gradient
        self.cells_per_block = cells_per_block
        self.num_blocks = hidden_size // cells_per_block
        rows = 2 * self.num_blocks + hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias = nn.Parameter(torch.zeros(rows))
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        parts = [self.num_blocks, self.num_blocks, self.hidden_size]
        for block in self.weight_ih.split(parts):
            nn.init.xavier_uniform_(block)
        for block in self.weight_hh.split(parts):
            orthogonal_blocks(block, 1)
        input_bias, output_bias, _ = self.bias.split(parts)
        input_bias.fill_(-1.0)
        output_bias.copy_(torch.linspace(-1.0, -4.0, self.num_blocks))

    def init_state(self, batch_size: int) -> LSTM1997State:
        """Return zeros: h and c ``(batch_size, H)``."""
        zeros = self.weight_hh.new_zeros(batch_size, self.hidden_size)
        return LSTM1997State(zeros, zeros.clone())

    def step(self, inputs: Tensor, state: LSTM1997State) -> tuple[Tensor, LSTM1997State]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        h = state.h.detach() if self.gradient == "truncated" else state.h
        gates = torch.addmm(self.bias, inputs, self.weight_ih.t()) + h @ self.weight_hh.t()
        return self._from_gates(torch.sigmoid(gates), state.c)

    def sequence(self, inputs: Tensor, state: LSTM1997State, is_first: Tensor) -> tuple[Tensor, LSTM1997State]:
        """Run T steps with resets; shapes as in the base class."""
        parameters = (self.weight_ih, self.weight_hh, self.bias)
        outputs, leaves = bptt_sequence(LSTM1997Kernel, inputs, state, is_first, parameters, self.gradient)
        return outputs, LSTM1997State(*leaves)

    @torch.no_grad()
    def acting_snapshot(self) -> CellStep:
        """Return a step with one matrix product on [x | h]."""
        weight = torch.cat([self.weight_ih, self.weight_hh], dim=1).t().contiguous()  # (I + H, 2N + H)
        bias = self.bias.clone()

        def step(inputs: Tensor, state: LSTM1997State) -> tuple[Tensor, LSTM1997State]:
            gates = torch.addmm(bias, torch.cat([inputs, state.h], dim=1), weight)
            return self._from_gates(gates.sigmoid_(), state.c)

        return step

    def _from_gates(self, gates: Tensor, c: Tensor) -> tuple[Tensor, LSTM1997State]:
        """Return the outputs from σ(a) ``(B, 2N + H)``."""
        input_gate, output_gate, half = gates.split([self.num_blocks, self.num_blocks, self.hidden_size], dim=1)
        cell_input = (4.0 * half - 2.0).unflatten(1, (self.num_blocks, self.cells_per_block))
        c = c + (input_gate.unsqueeze(2) * cell_input).flatten(1)
        squashed = torch.tanh(0.5 * c).unflatten(1, (self.num_blocks, self.cells_per_block))  # 2 σ(c) - 1
        h = (output_gate.unsqueeze(2) * squashed).flatten(1)
        return h, LSTM1997State(h, c)

    def sequence_path(self, device: torch.device) -> str:
        """Name the path, the same on every device."""
        truncated = ", truncated" if self.gradient == "truncated" else ""
        return f"hand-written backpropagation through time{truncated}"
