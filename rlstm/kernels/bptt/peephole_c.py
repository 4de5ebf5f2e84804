"""The LSTM whose gates read the whole memory, over a sequence with resets, gradient written by hand.

The output feeds nothing back, so dh is the output's own gradient, and all but the carry of dc is computed for several
steps at once. With φ the output's activation::

    δo = dh φ(c) o (1 - o)              e = dh o φ'(c)               p = δo U_o           for several steps, before them
    dc = e + carry                      δi = dc [g i (1 - i)]        δf = dc [c̄ f (1 - f)]
    carry = dc f + p + [δi, δf] U_if                                                      in the loop
    δg = dc i (1 - g²)                                                                    for all steps, after it

Source: the equations of ``rlstm.cells.peephole_lstm_c``, differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from rlstm.kernels.bptt.gated import BPTTKernel, ProductSums, logistic_slope, tanh_slope

__all__ = ["PeepholeCKernel"]


class PeepholeCKernel(BPTTKernel):
    """Parameters: W ``(4H, I)``, U ``(3H, H)``, b ``(4H,)``; gates i, f, o, g; leaf c.

    The option is the output's activation, ``tanh`` or ``identity``.
    """

    fills = (0.0,)
    saved = ("gates", "cell_input", "activated")

    gates: Tensor  # (T, B, 3H): i, f, o.
    cell_input: Tensor  # (T, B, H): g.
    activated: Tensor  # (T, B, H): φ(c).

    def begin(self) -> None:
        """Project the inputs; the cell's input is ready for all steps."""
        num_steps, num_rows, width = self.inputs.shape
        weight_ih, weight_ch, bias = self.parameters
        hidden = weight_ch.shape[1]
        flat, opening = self.inputs.reshape(-1, width), 3 * hidden
        self.recurrent = weight_ch.t()
        gates = torch.addmm(bias[:opening], flat, weight_ih[:opening].t())
        self.gates = gates.view(num_steps, num_rows, opening)
        cell_input = torch.addmm(bias[opening:], flat, weight_ih[opening:].t()).tanh_()
        self.cell_input = cell_input.view(num_steps, num_rows, hidden)
        self.outputs, c = torch.empty_like(self.cell_input), torch.empty_like(self.cell_input)
        self.activated = torch.empty_like(c) if self.option == "tanh" else c
        self.after = [c]
        parts = (self.gates, *self.gates.split(hidden, dim=-1), self.cell_input, c, self.activated, self.outputs)
        self.views = list(zip(*(one.unbind() for one in parts), strict=True))

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Open the gates by c̄; the memory, and the output from it."""
        (c,) = before
        gates, i, f, o, g, c_after, activated, output = self.views[t]
        gates.addmm_(c, self.recurrent).sigmoid_()
        torch.mul(f, c, out=c_after).addcmul_(i, g)
        if self.option == "tanh":
            torch.tanh(c_after, out=activated)
        torch.mul(o, activated, out=output)
        return [c_after]

    def begin_back(self, grad_outputs: Tensor) -> None:
        """Begin the sums."""
        weight_ih, weight_ch, _ = self.parameters
        self.grad_outputs, self.sums = grad_outputs, ProductSums(self.inputs, weight_ih, weight_ch.shape[1])

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Compute all that no later step changes."""
        grad_outputs, activated, weight_ch = self.grad_outputs[steps], self.activated[steps], self.parameters[1]
        hidden = weight_ch.shape[1]
        i, f, o = self.gates[steps].split(hidden, dim=-1)
        self.c_before = self.before(0, steps)
        deltas = self.deltas = i.new_empty(*i.shape[:2], 4 * hidden)
        delta_o = deltas[..., 2 * hidden : 3 * hidden]
        torch.mul(logistic_slope(activated, o), grad_outputs, out=delta_o)
        self.grads_c = (tanh_slope(o, activated) if self.option == "tanh" else o) * grad_outputs
        from_output = (delta_o.reshape(-1, hidden) @ weight_ch[2 * hidden :]).view_as(f)
        factors = f.new_empty(*f.shape[:2], 2, hidden)
        logistic_slope(self.cell_input[steps], i, out=factors[:, :, 0])
        logistic_slope(self.c_before, f, out=factors[:, :, 1])
        first_two = deltas[..., : 2 * hidden]
        return self.grads_c, factors, f, from_output, first_two, first_two.unflatten(-1, (2, hidden))

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Add the carry, and pass it on."""
        (carry,) = grads
        dc, into_gates, f, from_output, delta, delta_parts = factors
        if carry is not None:
            dc.add_(carry)
        torch.mul(into_gates, dc.unsqueeze(1), out=delta_parts)
        return [torch.addcmul(from_output, dc, f).addmm_(delta, self.parameters[1][: delta.shape[1]])]

    def gather(self, steps: slice) -> None:
        """Compute δ of the cell's input, which nothing waited for; add to the sums."""
        hidden = self.grads_c.shape[-1]
        into_g = tanh_slope(self.gates[steps][..., :hidden], self.cell_input[steps])
        torch.mul(self.grads_c, into_g, out=self.deltas[..., 3 * hidden :])
        self.sums.add(steps, self.deltas, self.c_before)

    def finish_back(self) -> list[Tensor]:
        """Return the sums; the cell's input has no weights on the memory."""
        grad_inputs, grad_weight_ih, grad_weight_ch, grad_bias = self.sums.gradients()
        return [grad_inputs, grad_weight_ih, grad_weight_ch[: len(self.parameters[1])], grad_bias]
