"""The LSTM with forget gate.

Source: Hochreiter & Schmidhuber 1997; forget gate by Gers, Schmidhuber & Cummins 2000. Parameters have the names, the
shapes and the gate order (input, forget, cell, output) of ``torch.nn.LSTMCell``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import linear

from rlstm.cells.base import lstm_biases
from rlstm.cells.product_cell import LSTMState, ProductCell, Weights
from rlstm.core.cell_options import MemoryInit
from rlstm.kernels.reset_steps import lstm_sequence
from rlstm.kernels.triton.support import TritonKernel

__all__ = ["LSTMCell", "LSTMState"]


class LSTMCell(ProductCell):
    """LSTM with forget gate.

    With h̄, c̄ the state after any reset, [i, f, g, o] = W x + b + R h̄ + b', the gates i, f, o through the logistic
    function and g through tanh::

        c = f c̄ + i g,    h = o tanh(c)

    R starts orthogonal for each gate, W uniform (Xavier), the forget bias at 1 (Jozefowicz et al. 2015); with a memory
    length b_f spreads time scales up to it, and b_i = -b_f (Tallec & Ollivier 2018).
    """

    source = "Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000"
    redundant_parameters: ClassVar[Mapping[str, str]] = {"bias_hh": "bias_ih"}
    triton = TritonKernel("rlstm.kernels.triton.lstm", "lstm")
    state_type = LSTMState

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.make_gates(4, input_size, "bias_ih", "bias_hh")
        lstm_biases(self.bias_ih, memory_length, memory_init)  # The two biases are summed: one of them is enough.

    def step(self, inputs: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``, in the plain form with which ``equations`` are compared."""
        gates = linear(inputs, self.weight_ih, self.bias_ih) + linear(state.h, self.weight_hh, self.bias_hh)
        input_gate, forget_gate, cell_input, output_gate = gates.chunk(4, dim=1)
        c = torch.sigmoid(forget_gate) * state.c + torch.sigmoid(input_gate) * torch.tanh(cell_input)
        h = torch.sigmoid(output_gate) * torch.tanh(c)
        return h, LSTMState(h, c)

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return one product for all gates, in which the cell's input is twice as large."""
        doubling = torch.ones_like(self.bias_ih)
        doubling[2 * self.hidden_size : 3 * self.hidden_size] = 2.0
        weight_ih, weight_hh = (parameters[name] * doubling.unsqueeze(1) for name in ("weight_ih", "weight_hh"))
        return {"gates": ((weight_ih, parameters["bias_ih"] * doubling), (weight_hh, parameters["bias_hh"] * doubling))}

    def equations(self, by: Any, inputs: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Advance one step with one logistic call over everything, for the snapshots.

        tanh(x) = 2 σ(2x) - 1, and 2x comes from weights that are twice as large, which is exact. So all four parts pass
        one contiguous logistic instead of a tanh on a strided quarter of them. In float32 on the CPU, tanh(c) too comes
        from the logistic, as 1 - 2 σ(-2c), right to 1e-7 as the cell's input is already. In float64, where readouts
        are fitted to outputs however small, tanh keeps every digit.

        On one core an acting step takes .94 to .97 of the time of the plain form (8 to 64 rows, H = 64 and 128), and
        that of 256 networks with 4 rows and H = 16 takes .64.
        """
        input_gate, forget_gate, half_cell_input, output_gate = by.gates(inputs, state.h).sigmoid_().chunk(4, dim=1)
        c = (forget_gate * state.c).addcmul_(input_gate, half_cell_input.sub_(0.5), value=2.0)
        if c.dtype == torch.float32 and c.device.type == "cpu":
            h = torch.addcmul(output_gate, output_gate, (c * -2.0).sigmoid_(), value=-2.0)
        else:
            h = output_gate * c.tanh()
        return h, LSTMState(h, c)

    def gates(self, inputs: Tensor, state: LSTMState) -> dict[str, Tensor]:
        """Return i, f and o."""
        i, f, _, o = self.products().gates(inputs, state.h).sigmoid().chunk(4, dim=1)
        return {"input": i, "forget": f, "output": o}

    def sequence(self, inputs: Tensor, state: LSTMState, is_first: Tensor) -> tuple[Tensor, LSTMState]:
        """Run T steps with resets through the dense kernel of the device."""
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        outputs, h, c = lstm_sequence(inputs, state.h, state.c, is_first, *weights)
        if not torch.isfinite(outputs.detach().sum()):  # In the dense kernel NaN survives a gate that is closed.
            return self.reference_sequence(inputs, state, is_first)
        return outputs, LSTMState(h, c)

    def sequence_path(self, device: torch.device) -> str:
        """Name the path: reset steps into the dense kernel of the device."""
        return "reset steps into cuDNN" if device.type == "cuda" else "reset steps into the dense kernel"
