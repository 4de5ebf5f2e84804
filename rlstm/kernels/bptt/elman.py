"""The Elman network over a sequence with resets, backpropagation through time written by hand.

With dh the gradient of h_t from output and t + 1::

    δ = dh [1 - h²]        dh̄ = δ R

Source: the equation of ``rlstm.cells.elman``, differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from rlstm.kernels.bptt.gated import BPTTKernel, ProductSums, tanh_slope

__all__ = ["ElmanKernel"]


class ElmanKernel(BPTTKernel):
    """Parameters: W ``(H, I)``, R ``(H, H)``, b and b' ``(H,)``; the leaf h."""

    fills = (0.0,)
    saved = ()

    def begin(self) -> None:
        """Project the inputs; the outputs take the place of the projections."""
        num_steps, num_rows, width = self.inputs.shape
        weight_ih, weight_hh, bias_ih, bias_hh = self.parameters
        self.recurrent = weight_hh.t()
        flat = torch.addmm(bias_ih + bias_hh, self.inputs.reshape(-1, width), weight_ih.t())
        self.outputs = flat.view(num_steps, num_rows, len(weight_hh))
        self.after = [self.outputs]
        self.views = self.outputs.unbind()

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Add R h̄."""
        (h,) = before
        return [self.views[t].addmm_(h, self.recurrent).tanh_()]

    def begin_back(self, grad_outputs: Tensor) -> None:
        """Begin the sums."""
        self.grad_outputs = grad_outputs
        self.sums = ProductSums(self.inputs, self.parameters[0], len(self.parameters[0]))

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Nothing is worth preparing."""
        outputs = self.after[0][steps]
        self.deltas = torch.empty_like(outputs)
        return self.grad_outputs[steps], outputs, self.deltas

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Multiply by the slope of tanh."""
        grad, output, delta = factors
        (dh,) = grads
        tanh_slope(grad if dh is None else dh + grad, output, out=delta)
        return [delta @ self.parameters[1]]

    def gather(self, steps: slice) -> None:
        """Add to the sums."""
        self.sums.add(steps, self.deltas, self.before(0, steps))

    def finish_back(self) -> list[Tensor]:
        """Return the sums."""
        *grads, grad_bias = self.sums.gradients()
        return [*grads, grad_bias, grad_bias.clone()]
