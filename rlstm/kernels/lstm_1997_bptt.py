"""The LSTM of 1997 over a sequence with resets, backpropagation through time written by hand.

A block of S cells shares one input and one output gate. With q = 2 σ(c) - 1 = tanh(c / 2), Σ the sum over a block, and
every factor in brackets computed for all steps before the loop::

    δo = Σ dh [q o (1 - o)]          dc += dh [o (1 - q²) / 2]
    δi = Σ dc [g i (1 - i)]          δg = dc [i (1 - (g / 2)²)]
    dc̄ = dc                          dh̄ = δ R, or 0 where the gradient is truncated

Truncated, dh is the output's own gradient, the loop only sums dc, and all δ are computed for all steps after it.

Source: the equations of ``rlstm.cells.lstm_1997``, differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlstm.kernels.gated_bptt import BPTTKernel, logistic_slope, tanh_slope

__all__ = ["LSTM1997Kernel"]


class LSTM1997Kernel(BPTTKernel):
    """Parameters: W ``(2N + H, I)``, R ``(2N + H, H)``, b ``(2N + H,)``; gates i, o of N blocks, g; leaves h, c.

    The option is the gradient, ``full`` or ``truncated``. Inside, units are ``(N, S)``: blocks and cells.
    """

    fills = (0.0, 0.0)
    saved = ("gates", "squashed")

    gates: Tensor  # (T, B, 2N + H): i, o, g / 4.
    squashed: Tensor  # (T, B, H): q.

    def begin(self) -> None:
        """Project the inputs."""
        num_steps, num_rows, width = self.inputs.shape
        weight_ih, weight_hh, bias = self.parameters
        self.recurrent = weight_hh.t()
        flat = torch.addmm(bias, self.inputs.reshape(-1, width), weight_ih.t())
        self.gates = flat.view(num_steps, num_rows, -1)
        self.outputs, c, self.squashed = (flat.new_empty(num_steps, num_rows, weight_hh.shape[1]) for _ in range(3))
        self.after = [self.outputs, c]
        blocks = [self._blocks(one) for one in (self.outputs, c, self.squashed)]
        parts = (self.gates, self.outputs, c, *blocks, *self._split(self.gates))
        self.views = list(zip(*(one.unbind() for one in parts), strict=True))

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """One logistic function over everything, as g = 4 σ - 2."""
        h, c = before
        gates, h_after, c_after, h_blocks, c_blocks, squashed, i, o, quarter_g = self.views[t]
        gates.addmm_(h, self.recurrent).sigmoid_()
        torch.addcmul(self._blocks(c), i, quarter_g.sub_(0.5), value=4.0, out=c_blocks)
        torch.mul(o, torch.mul(c_blocks, 0.5, out=squashed).tanh_(), out=h_blocks)
        return [h_after, c_after]

    def begin_back(self, grad_outputs: Tensor) -> None:
        """Compute the factors in brackets above."""
        i, o, quarter_g = self._split(self.gates)
        squashed = self._blocks(self.squashed)
        i, o = i.expand_as(squashed), o.expand_as(squashed)
        self.into_i, self.into_o = logistic_slope(quarter_g * 4.0, i), logistic_slope(squashed, o)
        self.into_c, self.into_g = tanh_slope(o * 0.5, squashed), tanh_slope(i, quarter_g * 2.0)
        self.deltas = torch.empty_like(self.gates)
        factors = (self.into_o, self.into_c, self.into_i, self.into_g)
        if self.option == "truncated":
            self.grads_h, self.grads_c = grad_outputs, torch.empty_like(self.squashed)
            parts = [grad_outputs, self.into_c.flatten(2), self.grads_c]
        else:
            parts = [grad_outputs, *factors, self.deltas, *self._split(self.deltas)]
        self.back = list(zip(*(one.unbind() for one in parts), strict=True))

    def step_back(self, t: int, grads: list[Tensor | None]) -> list[Tensor | None]:
        """Multiply by the factors; truncated, only sum."""
        dh, dc = grads
        if self.option == "truncated":
            return [None, self._sum_back(t, dh, dc)]
        dh = self.back[t][0] if dh is None else dh + self.back[t][0]
        _, into_o, into_c, into_i, into_g, delta, *places = self.back[t]
        dh_blocks = self._blocks(dh)
        dc_blocks = dh_blocks * into_c if dc is None else torch.addcmul(self._blocks(dc), dh_blocks, into_c)
        _write_deltas((dh_blocks, dc_blocks), (into_i, into_o, into_g), places)
        return [delta @ self.parameters[1], dc_blocks.flatten(1)]

    def _sum_back(self, t: int, dh: Tensor | None, dc: Tensor | None) -> Tensor:
        """Return dc of step t, stored for later; there is a dh only where the final state has a gradient, at T - 1."""
        grad, into_c, grad_c = self.back[t]
        if dh is not None:
            grad = grad + dh
            self.grads_h = torch.cat([self.grads_h[:t], grad.unsqueeze(0)])
        return torch.mul(grad, into_c, out=grad_c) if dc is None else torch.addcmul(dc, grad, into_c, out=grad_c)

    def finish_back(self) -> list[Tensor]:
        """Sum over all steps."""
        weight_ih = self.parameters[0]
        if self.option == "truncated":
            grads = (self._blocks(self.grads_h), self._blocks(self.grads_c))
            _write_deltas(grads, (self.into_i, self.into_o, self.into_g), self._split(self.deltas))
        flat = self.deltas.flatten(0, 1)
        return [
            (flat @ weight_ih).view_as(self.inputs),
            flat.t() @ self.inputs.reshape(-1, weight_ih.shape[1]),
            flat.t() @ self.before(0).flatten(0, 1),
            flat.sum(0),
        ]

    def _num_blocks(self) -> int:
        rows, hidden = self.parameters[1].shape
        return (rows - hidden) // 2

    def _blocks(self, units: Tensor) -> Tensor:
        """Return ``(..., H)`` as ``(..., N, S)``."""
        blocks: Tensor = units.unflatten(-1, (self._num_blocks(), -1))
        return blocks

    def _split(self, gates: Tensor) -> list[Tensor]:
        """Return the parts of ``(..., 2N + H)``: i and o ``(..., N, 1)``, g ``(..., N, S)``."""
        num_blocks = self._num_blocks()
        i, o, g = gates.split([num_blocks, num_blocks, gates.shape[-1] - 2 * num_blocks], dim=-1)
        return [i.unsqueeze(-1), o.unsqueeze(-1), self._blocks(g)]


def _write_deltas(grads: tuple[Tensor, Tensor], factors: tuple[Tensor, Tensor, Tensor], places: list[Tensor]) -> None:
    """Write δi, δo, δg to ``places`` from dh, dc and the factors; the gates' are summed over the cells of a block."""
    dh, dc = grads
    for factor, grad, place in zip(factors, (dc, dh, dc), places, strict=True):
        if place.shape == grad.shape:
            torch.mul(grad, factor, out=place)
        else:
            torch.sum(grad * factor, dim=-1, keepdim=True, out=place)
