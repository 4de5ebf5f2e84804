"""The LSTM of 1997 over a sequence with resets, backpropagation through time written by hand.

A block of S cells shares one input and one output gate. With q = 2 σ(c) - 1 = tanh(c / 2), Σ the sum over a block, and
every factor in brackets computed for several steps at once::

    δo = Σ dh [q o (1 - o)]          dc += dh [o (1 - q²) / 2]
    δi = Σ dc [g i (1 - i)]          δg = dc [i (1 - (g / 2)²)]
    dc̄ = dc                          dh̄ = δ R, or 0 where the gradient is truncated

Truncated, dh is the output's own gradient, and no step back has a matrix product.

Source: the equations of ``rlstm.cells.lstm_1997``, differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from rlstm.kernels.bptt.gated import BPTTKernel, ProductSums, logistic_slope, tanh_slope

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
        self.gates = flat.view(num_steps, num_rows, len(weight_hh))
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
        """Begin the sums."""
        weight_ih, weight_hh, _ = self.parameters
        self.grad_outputs, self.sums = grad_outputs, ProductSums(self.inputs, weight_ih, weight_hh.shape[1])

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Compute the factors in brackets above."""
        i, o, quarter_g = self._split(self.gates[steps])
        squashed, self.deltas = self._blocks(self.squashed[steps]), torch.empty_like(self.gates[steps])
        i, o = i.expand_as(squashed), o.expand_as(squashed)
        into_i, into_o = logistic_slope(quarter_g * 4.0, i), logistic_slope(squashed, o)
        into_c, into_g = tanh_slope(o * 0.5, squashed), tanh_slope(i, quarter_g * 2.0)
        places = (self.deltas, *self._split(self.deltas))
        return self._blocks(self.grad_outputs[steps]), into_c, into_i, into_o, into_g, *places

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Multiply by the factors, and sum over the cells of a block what enters its gates."""
        grad, into_c, into_i, into_o, into_g, delta, delta_i, delta_o, delta_g = factors
        dh, dc = (one if one is None else self._blocks(one) for one in grads)
        dh = grad if dh is None else dh + grad
        dc = dh * into_c if dc is None else torch.addcmul(dc, dh, into_c)
        _sum_of_block(dc, into_i, out=delta_i)
        _sum_of_block(dh, into_o, out=delta_o)
        torch.mul(dc, into_g, out=delta_g)
        return [None if self.option == "truncated" else delta @ self.parameters[1], dc.flatten(1)]

    def gather(self, steps: slice) -> None:
        """Add to the sums."""
        self.sums.add(steps, self.deltas, self.before(0, steps))

    def finish_back(self) -> list[Tensor]:
        """Return the sums."""
        return list(self.sums.gradients())

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


def _sum_of_block(grad: Tensor, factor: Tensor, *, out: Tensor) -> None:
    """Write the sums of grad · factor over the cells of each block, ``(B, N, 1)``."""
    if grad.shape[-1] == 1:
        torch.mul(grad, factor, out=out)
    else:
        torch.sum(grad * factor, dim=-1, keepdim=True, out=out)
