"""The LSTM with forget gate.

Source: Hochreiter & Schmidhuber 1997; forget gate by Gers, Schmidhuber & Cummins 2000. Parameters have the names, the
shapes and the gate order (input, forget, cell, output) of ``torch.nn.LSTMCell``.
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
from rlstm.kernels.reset_steps import lstm_sequence
from rlstm.kernels.triton.support import TritonKernel

__all__ = ["LSTMCell", "LSTMState"]


class LSTMState(NamedTuple):
    """What an LSTM carries: its output and its memory."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)


class LSTMCell(RecurrentCell):
    """LSTM with forget gate.

    With h̄, c̄ the state after any erase, [i, f, g, o] = W x + b + R h̄ + b', the gates i, f, o through the logistic
    function and g through tanh::

        c = f c̄ + i g,    h = o tanh(c)

    R starts orthogonal for each gate, W uniform (Xavier), the forget bias at 1 (Jozefowicz et al. 2015).

    Args:
        input_size: Width I of the inputs.
        hidden_size: Width H of the memory.
        memory_length: Longest lag in steps to bridge: b_f spreads time scales up to it, b_i = -b_f (Tallec & Ollivier
            2018). ``None`` leaves the forget bias at 1.
        memory_init: How: see ``memory_bias``.

    Raises:
        ValueError: If the memory length is out of range, or ``memory_init`` is given without it.
    """

    source = "Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000"
    redundant_parameters: ClassVar[Mapping[str, str]] = {"bias_hh": "bias_ih"}
    triton = TritonKernel("rlstm.kernels.triton.lstm", "lstm")
    state_type: ClassVar[type] = LSTMState

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_memory_length(memory_length, memory_init)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(4 * hidden_size))
        self.bias_hh = nn.Parameter(torch.zeros(4 * hidden_size))
        self._initialise(memory_length, memory_init)

    @torch.no_grad()
    def _initialise(self, memory_length: int | None, memory_init: MemoryInit) -> None:
        for block in self.weight_ih.chunk(4):
            nn.init.xavier_uniform_(block)
        orthogonal_blocks(self.weight_hh, 4)
        # The two biases are summed, so the forget bias goes into one of them only.
        input_bias, forget_bias, _, _ = self.bias_ih.chunk(4)
        if memory_length is None:
            forget_bias.fill_(1.0)
        else:
            forget_bias.copy_(memory_bias(self.hidden_size, memory_length, memory_init))
            input_bias.copy_(-forget_bias)

    def init_state(self, batch_size: int) -> LSTMState:
        """Return zeros: h and c ``(batch_size, H)``."""
        zeros = self.weight_hh.new_zeros(batch_size, self.hidden_size)
        return LSTMState(zeros, zeros.clone())

    def step(self, inputs: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        gates = torch.addmm(self.bias_ih, inputs, self.weight_ih.t())
        gates = gates + torch.addmm(self.bias_hh, state.h, self.weight_hh.t())
        input_gate, forget_gate, cell_input, output_gate = gates.chunk(4, dim=1)
        c = torch.sigmoid(forget_gate) * state.c + torch.sigmoid(input_gate) * torch.tanh(cell_input)
        h = torch.sigmoid(output_gate) * torch.tanh(c)
        return h, LSTMState(h, c)

    def sequence(self, inputs: Tensor, state: LSTMState, is_first: Tensor) -> tuple[Tensor, LSTMState]:
        """Run T steps with resets through the dense kernel; shapes as in the base class."""
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        outputs, h, c = lstm_sequence(inputs, state.h, state.c, is_first, *weights)
        if not torch.isfinite(outputs.detach().sum()):  # In the dense kernel NaN survives a gate that is closed.
            return self.reference_sequence(inputs, state, is_first)
        return outputs, LSTMState(h, c)

    @torch.no_grad()
    def acting_snapshot(self) -> CellStep:
        """Return a step with one matrix product on [x | h] and one logistic call over everything.

        tanh(x) = 2 σ(2x) - 1, and 2x comes from weights that are twice as large, which is exact. So all four parts pass
        one contiguous logistic, several times faster than a tanh on a strided quarter of them.
        """
        weight = torch.cat([self.weight_ih, self.weight_hh], dim=1) * self._doubling().unsqueeze(1)
        weight = weight.t().contiguous()  # (I + H, 4H)
        bias = (self.bias_ih + self.bias_hh) * self._doubling()

        def step(inputs: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
            return _from_gates(torch.addmm(bias, torch.cat([inputs, state.h], dim=1), weight), state.c)

        return step

    @torch.no_grad()
    def population_snapshot(self, parameters: Mapping[str, Tensor]) -> CellStep:
        """Return ``acting_snapshot`` for P cells: one product on [x | h]; shapes as in the base class."""
        weight = torch.cat([parameters["weight_ih"], parameters["weight_hh"]], dim=2) * self._doubling().unsqueeze(1)
        product = PopulationLinear(weight, (parameters["bias_ih"] + parameters["bias_hh"]) * self._doubling())

        def step(inputs: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
            return _from_gates(product(torch.cat([inputs, state.h], dim=1)), state.c, many=True)

        return step

    def _doubling(self) -> Tensor:
        """Return ``(4H,)``, 2 at the cell's input and 1 at the gates."""
        doubling = torch.ones_like(self.bias_ih)
        doubling[2 * self.hidden_size : 3 * self.hidden_size] = 2.0
        return doubling

    def sequence_path(self, device: torch.device) -> str:
        """Name the path: reset steps into the dense kernel of the device."""
        return "reset steps into cuDNN" if device.type == "cuda" else "reset steps into the dense kernel"


def _from_gates(gates: Tensor, c: Tensor, *, many: bool = False) -> tuple[Tensor, LSTMState]:
    """Return the outputs from what enters the gates, ``(B, 4H)``, where the cell's input is doubled; writes to it.

    With many rows in float32 on the CPU, tanh(c) too comes from the logistic, as 1 - 2 σ(-2c): a third of the time, and
    right to 1e-7 as the cell's input is already. In float64, where readouts are fitted to outputs however small, tanh
    keeps every digit.
    """
    input_gate, forget_gate, half_cell_input, output_gate = gates.sigmoid_().chunk(4, dim=1)
    c = (forget_gate * c).addcmul_(input_gate, half_cell_input.sub_(0.5), value=2.0)
    if many and c.dtype == torch.float32 and c.device.type == "cpu":
        h = torch.addcmul(output_gate, output_gate, (c * -2.0).sigmoid_(), value=-2.0)
    else:
        h = output_gate * c.tanh()
    return h, LSTMState(h, c)
