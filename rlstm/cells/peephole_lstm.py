"""The LSTM whose gates see the memory through peepholes.

Source: Gers & Schmidhuber 2000, *Recurrent nets that time and count*; Gers, Schraudolph & Schmidhuber 2002, *Learning
precise timing with LSTM recurrent networks*. Weights have the shapes and the gate order (input, forget, cell, output)
of ``torch.nn.LSTMCell``; there is one bias.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlstm.cells.base import RecurrentCell, lstm_biases
from rlstm.cells.product_cell import LSTMState, ProductCell, Weights
from rlstm.core.cell_options import MemoryInit
from rlstm.kernels.bptt.gated import BPTTKernel, by_step, doubled_block, logistic_slope, tanh_slope
from rlstm.kernels.triton.support import TritonKernel


class PeepholeKernel(BPTTKernel):
    """The arithmetic of a peephole LSTM.

    With p the peepholes::

        δo = dh [tanh(c) o (1 - o)]          dc += dh [o (1 - tanh²(c)) + tanh(c) o (1 - o) p_o]
        δi = dc [g i (1 - i)]                δf = dc [c̄ f (1 - f)]               δg = dc [i (1 - g²)]
        dc̄ = dc [f + g i (1 - i) p_i + c̄ f (1 - f) p_f]                          dh̄ = δ R

    and after it dp_i = Σ δi c̄, dp_f = Σ δf c̄, dp_o = Σ δo c.

    Parameters: W ``(4H, I)``, R ``(4H, H)``, b ``(4H,)``, p ``(3H,)``; gates i, f, g, o; leaves h, c.
    """

    fills = (0.0, 0.0)
    saved = ("gates", "tanh_c")

    gates: Tensor  # (T, B, 4H): i, f, g / 2, o.
    tanh_c: Tensor  # (T, B, H)

    def begin(self) -> None:
        """Project the inputs; the cell's input is doubled, for one logistic function over i, f and it."""
        weight_ih, weight_hh, bias, peepholes = self.parameters
        hidden = weight_hh.shape[1]
        self.peepholes = peepholes.view(3, hidden)
        self.recurrent = doubled_block(weight_hh, 2, 4).t()
        self.gates = self.project(doubled_block(weight_ih, 2, 4), doubled_block(bias, 2, 4))
        self.outputs, c, self.tanh_c = self.buffers(3, hidden)
        self.after = [self.outputs, c]
        see_before = self.gates[..., : 2 * hidden].unflatten(-1, (2, hidden))
        parts = (see_before, self.gates[..., : 3 * hidden], *self.gates.split(hidden, dim=-1))
        self.views = by_step((self.gates, self.outputs, c, self.tanh_c, *parts))

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Compute i, f, g from c̄, then c, then o from c."""
        h, c = before
        gates, h_after, c_after, tanh_c, see_before, first_three, i, f, half_g, o = self.views[t]
        gates.addmm_(h, self.recurrent)
        see_before.addcmul_(c.unsqueeze(1), self.peepholes[:2])
        first_three.sigmoid_()
        torch.mul(f, c, out=c_after).addcmul_(i, half_g.sub_(0.5), value=2.0)
        o.addcmul_(c_after, self.peepholes[2]).sigmoid_()
        torch.mul(o, torch.tanh(c_after, out=tanh_c), out=h_after)
        return [h_after, c_after]

    def begin_back(self, grad_outputs: Tensor) -> None:
        """Begin the sums."""
        super().begin_back(grad_outputs)
        self.grad_peepholes = torch.zeros_like(self.parameters[3]).view(3, -1)

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Compute the factors in brackets above."""
        tanh_c, self.c_before = self.tanh_c[steps], self.before(1, steps)
        deltas = self.deltas = torch.empty_like(self.gates[steps])
        hidden = tanh_c.shape[-1]
        i, f, half_g, o = self.gates[steps].split(hidden, dim=-1)
        g, see_input, see_forget, see_output = half_g * 2.0, *self.parameters[3].view(3, hidden)
        factors = g.new_empty(*g.shape[:2], 3, hidden)
        into_i = logistic_slope(g, i, out=factors[:, :, 0])
        into_f = logistic_slope(self.c_before, f, out=factors[:, :, 1])
        tanh_slope(i, g, out=factors[:, :, 2])
        into_o = logistic_slope(tanh_c, o)
        into_c = tanh_slope(o, tanh_c).addcmul_(into_o, see_output)
        kept = torch.addcmul(f, into_i, see_input).addcmul_(into_f, see_forget)
        first_three = deltas[..., : 3 * hidden].unflatten(-1, (3, hidden))
        places = (deltas, first_three, deltas[..., 3 * hidden :])
        return self.grad_outputs[steps], into_o, into_c, factors, kept, *places

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Multiply by the factors."""
        dh, dc = grads
        grad, into_o, into_c, into_gates, kept, delta, first_three, delta_o = factors
        dh = grad if dh is None else dh.add(grad)
        torch.mul(dh, into_o, out=delta_o)
        dc = dh * into_c if dc is None else torch.addcmul(dc, dh, into_c)
        torch.mul(into_gates, dc.unsqueeze(1), out=first_three)
        return [delta @ self.parameters[1], dc * kept]

    def gather(self, steps: slice) -> None:
        """Add to the sums."""
        delta_i, delta_f, _, delta_o = self.deltas.chunk(4, dim=-1)
        seen = ((delta_i, self.c_before), (delta_f, self.c_before), (delta_o, self.after[1][steps]))
        self.grad_peepholes += torch.stack([(delta * c).sum((0, 1)) for delta, c in seen])
        super().gather(steps)

    def finish_back(self) -> list[Tensor]:
        """Return the sums."""
        return [*super().finish_back(), self.grad_peepholes.flatten()]


class PeepholeLSTMCell(ProductCell):
    """LSTM with forget gate and peepholes: each gate sees the memory of its own unit.

    With h̄, c̄ the state after any reset and [a_i, a_f, a_g, a_o] = W x + R h̄ + b::

        i = σ(a_i + p_i c̄),    f = σ(a_f + p_f c̄),    g = tanh(a_g)
        c = f c̄ + i g,         o = σ(a_o + p_o c),    h = o tanh(c)

    The output gate sees the new memory, the others the old one. With p = 0 it is the LSTM. R starts orthogonal for each
    gate, W uniform (Xavier), the peepholes at 0, the biases as those of ``LSTMCell``.
    """

    source = "Gers & Schmidhuber 2000; Gers, Schraudolph & Schmidhuber 2002"
    triton = TritonKernel("rlstm.kernels.triton.lstm", "peephole_lstm")
    state_type = LSTMState
    kernel = PeepholeKernel

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.make_gates(4, input_size, "bias")
        self.peepholes = nn.Parameter(torch.zeros(3 * hidden_size))  # Of the gates i, f, o.
        lstm_biases(self.bias, memory_length, memory_init)

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return one product for all gates."""
        p = parameters
        return {"gates": ((p["weight_ih"], p["bias"]), (p["weight_hh"], None)), "peepholes": p["peepholes"]}

    def equations(self, by: Any, inputs: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        _, _, output_gate, c = self._opened(by, inputs, state)
        h = output_gate * torch.tanh(c)
        return h, LSTMState(h, c)

    def gates(self, inputs: Tensor, state: LSTMState) -> dict[str, Tensor]:
        """Return i, f and o."""
        i, f, o, _ = self._opened(self.products(), inputs, state)
        return {"input": i, "forget": f, "output": o}

    def _opened(self, by: Any, inputs: Tensor, state: LSTMState) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return i, f, o and c, all ``(B, H)``: o sees what i and f have made of c."""
        c = state.c
        see_input, see_forget, see_output = by.peepholes.chunk(3, dim=-1)
        input_gate, forget_gate, cell_input, output_gate = by.gates(inputs, state.h).chunk(4, dim=1)
        input_gate = torch.sigmoid(torch.addcmul(input_gate, see_input, c))
        forget_gate = torch.sigmoid(torch.addcmul(forget_gate, see_forget, c))
        c = forget_gate * c + input_gate * torch.tanh(cell_input)
        return input_gate, forget_gate, torch.sigmoid(torch.addcmul(output_gate, see_output, c)), c

    population_snapshot = RecurrentCell.population_snapshot  # In ``torch.func.vmap``, whose rounding runs so far have.
