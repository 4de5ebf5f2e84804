"""The time-aware LSTM over a sequence with resets, backpropagation through time written by hand.

With the aged memory c* = c̄ + (γ - 1) C, its short-term part C = tanh(W_d c̄ + b_d), and every factor in brackets
computed for several steps at once::

    δo = dh [tanh(c) o (1 - o)]          dc += dh [o (1 - tanh²(c))]
    δi = dc [g i (1 - i)]                δf = dc [c* f (1 - f)]              δg = dc [i (1 - g²)]
    dc* = dc [f]                         δ_d = dc [f (γ - 1) (1 - C²)]
    dc̄ = dc* + δ_d W_d                   dh̄ = δ R

and after it dγ = Σ dc* C over the units.

Source: the equations of ``rlstm.cells.time_aware_lstm``, differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from rlstm.kernels.bptt.gated import BPTTKernel, ProductSums, doubled_block, logistic_slope, tanh_slope

__all__ = ["TimeAwareKernel"]


class TimeAwareKernel(BPTTKernel):
    """Leaves h, c; gates i, f, g, o; the last column of the inputs is the elapsed time.

    Parameters: W ``(4H, I - 1)``, R ``(4H, H)``, b ``(4H,)``, W_d ``(H, H)``, b_d ``(H,)``.
    """

    fills = (0.0, 0.0)
    saved = ("gates", "tanh_c", "half_short", "aged", "discount", "lived")

    gates: Tensor  # (T, B, 4H): i, f, g / 2, o.
    tanh_c: Tensor  # (T, B, H)
    half_short: Tensor  # (T, B, H): C / 2.
    aged: Tensor  # (T, B, H): c*.
    discount: Tensor  # (T, B, 1): γ - 1, before it is known where c̄ is blank.
    lived: Tensor  # (T, B, 1) bool: c̄ is not blank.

    def begin(self) -> None:
        """Project the inputs; the cell's input and the short-term part are doubled: logistic functions do for all."""
        num_steps, num_rows, width = self.inputs.shape
        weight_ih, weight_hh, bias, weight_d, bias_d = self.parameters
        hidden = weight_hh.shape[1]
        self.recurrent, self.short, self.short_bias = (
            doubled_block(weight_hh, 2, 4).t(),
            weight_d.t() * 2.0,
            bias_d * 2.0,
        )
        flat = self.inputs.reshape(-1, width)[:, :-1]
        flat = torch.addmm(doubled_block(bias, 2, 4), flat, doubled_block(weight_ih, 2, 4).t())
        self.gates = flat.view(num_steps, num_rows, 4 * hidden)
        self.outputs, c, *rest = (flat.new_empty(num_steps, num_rows, hidden) for _ in range(5))
        self.tanh_c, self.half_short, self.aged = rest
        self.after = [self.outputs, c]
        self.discount = (self.inputs[..., -1:].clamp(min=0.0) + math.e).log_().reciprocal_().sub_(1.0)
        self.lived = torch.empty_like(self.discount, dtype=torch.bool)
        self.ones, self.no_discount = flat.new_ones(hidden, 1), flat.new_zeros(())
        parts = (self.gates, self.outputs, c, *rest, self.discount, self.lived, *self.gates.split(hidden, dim=-1))
        self.views = list(zip(*(one.unbind() for one in parts), strict=True))

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Age the memory, then step as the LSTM does."""
        h, c = before
        gates, h_after, c_after, tanh_c, half_short, aged, discount, lived, i, f, half_g, o = self.views[t]
        torch.ne(c.abs() @ self.ones, self.no_discount, out=lived)
        torch.addmm(self.short_bias, c, self.short, out=half_short).sigmoid_().sub_(0.5)
        torch.addcmul(c, half_short, torch.where(lived, discount, self.no_discount), value=2.0, out=aged)
        gates.addmm_(h, self.recurrent).sigmoid_()
        torch.mul(f, aged, out=c_after).addcmul_(i, half_g.sub_(0.5), value=2.0)
        torch.mul(o, torch.tanh(c_after, out=tanh_c), out=h_after)
        return [h_after, c_after]

    def begin_back(self, grad_outputs: Tensor) -> None:
        """Begin the sums."""
        weight_ih, weight_hh, _, weight_d, bias_d = self.parameters
        self.grad_outputs, self.grad_inputs = grad_outputs, self.inputs.new_empty(self.inputs.shape)
        out = self.grad_inputs[..., :-1]
        self.sums = ProductSums(self.inputs[..., :-1], weight_ih, weight_hh.shape[1], out)
        self.grad_weight_d, self.grad_bias_d = torch.zeros_like(weight_d), torch.zeros_like(bias_d)

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Compute the factors in brackets above."""
        tanh_c, short_term = self.tanh_c[steps], self.half_short[steps] * 2.0
        deltas = self.deltas = torch.empty_like(self.gates[steps])
        self.deltas_d, self.grads_aged = torch.empty_like(tanh_c), torch.empty_like(tanh_c)
        hidden = tanh_c.shape[-1]
        i, f, half_g, o = self.gates[steps].split(hidden, dim=-1)
        g = half_g * 2.0
        factors = g.new_empty(*g.shape[:2], 3, hidden)
        logistic_slope(g, i, out=factors[:, :, 0])
        logistic_slope(self.aged[steps], f, out=factors[:, :, 1])
        tanh_slope(i, g, out=factors[:, :, 2])
        into_d = tanh_slope(f, short_term).mul_(torch.where(self.lived[steps], self.discount[steps], 0.0))
        first_three = deltas[..., : 3 * hidden].unflatten(-1, (3, hidden))
        places = (deltas, first_three, deltas[..., 3 * hidden :], self.deltas_d, self.grads_aged)
        into_o, into_c = logistic_slope(tanh_c, o), tanh_slope(o, tanh_c)
        return self.grad_outputs[steps], into_o, into_c, factors, into_d, f, *places

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Multiply by the factors."""
        dh, dc = grads
        grad, into_o, into_c, into_gates, into_d, f, delta, first_three, delta_o, delta_d, grad_aged = factors
        _, weight_hh, _, weight_d, _ = self.parameters
        dh = grad if dh is None else dh.add(grad)
        torch.mul(dh, into_o, out=delta_o)
        dc = dh * into_c if dc is None else torch.addcmul(dc, dh, into_c)
        torch.mul(into_gates, dc.unsqueeze(1), out=first_three)
        torch.mul(dc, into_d, out=delta_d)
        return [delta @ weight_hh, torch.addmm(torch.mul(dc, f, out=grad_aged), delta_d, weight_d)]

    def gather(self, steps: slice) -> None:
        """Add to the sums."""
        self.sums.add(steps, self.deltas, self.before(0, steps))
        flat = self.deltas_d.flatten(0, 1)
        self.grad_weight_d.addmm_(flat.t(), self.before(1, steps).flatten(0, 1))
        self.grad_bias_d.add_(flat.sum(0))
        self.grad_inputs[steps][..., -1:] = self._grad_elapsed(steps)

    def _grad_elapsed(self, steps: slice) -> Tensor:
        """Return dΔt ``(steps, B, 1)``: γ = 1 / log(e + Δt), so dγ/dΔt = -γ² / (e + Δt), and 0 where none counts."""
        elapsed = self.inputs[steps][..., -1:]
        grad_gamma = (self.grads_aged * self.half_short[steps]).sum(-1, keepdim=True).mul_(2.0)
        slope = -((self.discount[steps] + 1.0) ** 2) / (elapsed + math.e)
        return torch.where(self.lived[steps] & (elapsed >= 0.0), grad_gamma * slope, 0.0)

    def finish_back(self) -> list[Tensor]:
        """Return the sums."""
        _, *grads = self.sums.gradients()
        return [self.grad_inputs, *grads, self.grad_weight_d, self.grad_bias_d]
