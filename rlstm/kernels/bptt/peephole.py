"""The peephole LSTM over a sequence with resets, backpropagation through time written by hand.

With p the peepholes, and every factor in brackets computed for several steps at once::

    δo = dh [tanh(c) o (1 - o)]          dc += dh [o (1 - tanh²(c)) + tanh(c) o (1 - o) p_o]
    δi = dc [g i (1 - i)]                δf = dc [c̄ f (1 - f)]               δg = dc [i (1 - g²)]
    dc̄ = dc [f + g i (1 - i) p_i + c̄ f (1 - f) p_f]                          dh̄ = δ R

and after it dp_i = Σ δi c̄, dp_f = Σ δf c̄, dp_o = Σ δo c.

Source: the equations of ``rlstm.cells.peephole_lstm``, differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from rlstm.kernels.bptt.gated import BPTTKernel, ProductSums, doubled_block, logistic_slope, tanh_slope

__all__ = ["PeepholeKernel"]


class PeepholeKernel(BPTTKernel):
    """Parameters: W ``(4H, I)``, R ``(4H, H)``, b ``(4H,)``, p ``(3H,)``; gates i, f, g, o; leaves h, c."""

    fills = (0.0, 0.0)
    saved = ("gates", "tanh_c")

    gates: Tensor  # (T, B, 4H): i, f, g / 2, o.
    tanh_c: Tensor  # (T, B, H)

    def begin(self) -> None:
        """Project the inputs; the cell's input is doubled, for one logistic function over i, f and it."""
        num_steps, num_rows, width = self.inputs.shape
        weight_ih, weight_hh, bias, peepholes = self.parameters
        hidden = weight_hh.shape[1]
        self.peepholes = peepholes.view(3, hidden)
        self.recurrent = doubled_block(weight_hh, 2, 4).t()
        flat = torch.addmm(
            doubled_block(bias, 2, 4), self.inputs.reshape(-1, width), doubled_block(weight_ih, 2, 4).t()
        )
        self.gates = flat.view(num_steps, num_rows, 4 * hidden)
        self.outputs, c, self.tanh_c = (flat.new_empty(num_steps, num_rows, hidden) for _ in range(3))
        self.after = [self.outputs, c]
        self.views = list(zip(*(one.unbind() for one in (self.gates, self.outputs, c, self.tanh_c)), strict=True))
        parts = (self.gates[..., : 2 * hidden].unflatten(-1, (2, hidden)), self.gates[..., : 3 * hidden])
        self.opened = list(zip(*(one.unbind() for one in (*parts, *self.gates.split(hidden, dim=-1))), strict=True))

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Compute i, f, g from c̄, then c, then o from c."""
        h, c = before
        gates, h_after, c_after, tanh_c = self.views[t]
        see_before, first_three, i, f, half_g, o = self.opened[t]
        gates.addmm_(h, self.recurrent)
        see_before.addcmul_(c.unsqueeze(1), self.peepholes[:2])
        first_three.sigmoid_()
        torch.mul(f, c, out=c_after).addcmul_(i, half_g.sub_(0.5), value=2.0)
        o.addcmul_(c_after, self.peepholes[2]).sigmoid_()
        torch.mul(o, torch.tanh(c_after, out=tanh_c), out=h_after)
        return [h_after, c_after]

    def begin_back(self, grad_outputs: Tensor) -> None:
        """Begin the sums."""
        weight_ih, weight_hh, _, peepholes = self.parameters
        self.grad_outputs, self.sums = grad_outputs, ProductSums(self.inputs, weight_ih, weight_hh.shape[1])
        self.grad_peepholes = torch.zeros_like(peepholes).view(3, -1)

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
        self.sums.add(steps, self.deltas, self.before(0, steps))

    def finish_back(self) -> list[Tensor]:
        """Return the sums."""
        return [*self.sums.gradients(), self.grad_peepholes.flatten()]
