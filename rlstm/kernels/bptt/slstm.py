"""The sLSTM over a sequence with resets, backpropagation through time written by hand.

The stabiliser m scales c and n alike and cancels in h = o c / n, so it is a constant for the gradient. With i' and f'
the stabilised gates, φ = 1 - σ(f̃) (1 for the exponential forget gate), and every factor in brackets computed for
several steps at once::

    dc += dh [o / n]               dn -= dh [h / n]               δo = dh [h (1 - o)]
    δi = dc [i' z] + dn [i']       δf = dc [f' φ c̄] + dn [f' φ n̄]            δz = dc [i' (1 - z²)]
    dc̄ = dc [f']                   dn̄ = dn [f']                   dh̄ = δ R

Heads don't see each other, so inside the gates of a head lie together, ``(T, B, N, 4, H/N)``, and R is N products.

Source: the equations of ``rlstm.cells.slstm``, differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from rlstm.kernels.bptt.gated import BPTTKernel, bptt_sequence, by_step, tanh_slope
from rlstm.kernels.resets import NEVER

_LOG2_E = math.log2(math.e)


def across_heads(weight_hh: Tensor) -> Tensor:
    """Return the block-diagonal matrix ``(..., 4H, H)`` of recurrent weights ``(..., 4H, H/N)`` of N heads.

    Row g H + n H/N + j is unit j of head n in gate g; it sees the units of its own head alone.
    """
    rows, width = weight_hh.shape[-2:]
    hidden = rows // 4
    heads = torch.arange(hidden, device=weight_hh.device) // width
    same = (heads.unsqueeze(1) == heads).repeat(4, 1)  # (4H, H)
    tiled = weight_hh.repeat(*(1,) * (weight_hh.dim() - 1), hidden // width)
    return torch.where(same, tiled, torch.zeros_like(tiled))


def slstm_bptt_sequence(
    inputs: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    is_first: Tensor,
    weight_hh: Tensor,
    weight_ih: Tensor | None = None,
    bias_ih: Tensor | None = None,
    *,
    exponential: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run an sLSTM with resets.

    Args:
        inputs: ``(T, B, I)``, or without W all that enters the gates i, f, z, o beside R h̄, ``(T, B, 4H)``.
        state: h, c, n, m before step 0, ``(B, H)`` each.
        is_first: ``(T, B)`` bool.
        weight_hh: R ``(4H, H/N)``, as for ``across_heads``.
        weight_ih: W ``(4H, I)``, or ``None``.
        bias_ih: b ``(4H,)``, with W.
        exponential: Whether the forget gate is exp instead of the logistic function.

    Returns:
        Outputs ``(T, B, H)``, and c, n, m after step T - 1. Once differentiable; m has no gradient.
    """
    parameters = [one for one in (weight_hh, weight_ih, bias_ih) if one is not None]
    leaves = [leaf.unflatten(-1, (-1, weight_hh.shape[1])) for leaf in state]
    outputs, leaves = bptt_sequence(SLSTMKernel, inputs, leaves, is_first, parameters, exponential)
    _, c, n, m = (leaf.flatten(-2) for leaf in leaves)
    return outputs.flatten(-2), c, n, m.detach()


class SLSTMKernel(BPTTKernel):
    """Parameters: R ``(4H, H/N)`` and, unless inputs are what enters the gates, W ``(4H, I)``, b ``(4H,)``.

    Leaves h, c, n, m, here ``(B, N, H/N)``. The option is whether the forget gate is exponential.
    """

    fills = (0.0, 0.0, 0.0, NEVER)
    saved = ("gates", "log_forget")

    gates: Tensor  # (T, B, N, 4, H/N): i', f', z / 2, o.
    log_forget: Tensor  # (T, B, N, H/N): log σ(f̃); of no step for the exponential forget gate.

    def begin(self) -> None:
        """Project the inputs; z is doubled, for one logistic function over it and o."""
        weight_hh, *projection = self.parameters
        num_steps, num_rows, _ = self.inputs.shape
        width = weight_hh.shape[1]
        heads = (num_steps, num_rows, len(weight_hh) // (4 * width))
        if projection:
            weight, bias = (self._by_heads(one, 0) for one in projection)
            flat = torch.addmm(bias, self.inputs.flatten(0, 1), weight.t())
        else:
            flat = self._by_heads(self.inputs, 2)
        self.gates = flat.view(*heads, 4, width)
        self.recurrent = self._by_heads(weight_hh, 0).view(-1, 4 * width, width).transpose(1, 2).contiguous()
        self.outputs, c, n = self.after = [flat.new_empty(*heads, width) for _ in range(3)]
        self.log_forget = flat.new_empty(0 if self.option else num_steps, *heads[1:], width)
        self.workspace = flat.new_empty(0)
        parts = [self.gates.flatten(-2).transpose(1, 2), self.gates[..., :2, :], self.gates[..., 2:, :]]
        parts += [*self.gates.unbind(-2), self.outputs, c, n]
        self.views = by_step(parts)

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Open the gates by h̄, put i and f on a common scale, mix.

        exp2 is the faster exponential where results underflow, as they do at every reset.
        """
        h, c, n, m = before
        by_head, admit_and_forget, new_and_opened, admit, forget, half_new, opened, h_after, c_after, n_after = (
            self.views[t]
        )
        by_head.baddbmm_(h.transpose(0, 1), self.recurrent)
        new_and_opened.sigmoid_()
        kept = forget
        if not self.option:
            kept = self.log_forget[t]
            torch.ops.aten.log_sigmoid_forward.output(forget, output=kept, buffer=self.workspace)
        torch.add(kept, m, out=forget)
        m = torch.maximum(admit, forget)
        admit_and_forget.sub_(m.unsqueeze(-2)).mul_(_LOG2_E).exp2_()
        torch.mul(forget, c, out=c_after).addcmul_(admit, half_new.sub_(0.5), value=2.0)
        torch.mul(forget, n, out=n_after).add_(admit)
        torch.div(c_after, n_after, out=h_after).mul_(opened)
        return [h_after, c_after, n_after, m]

    def begin_back(self, grad_outputs: Tensor) -> None:
        """Begin the sums; inside, rows are (head, gate, unit)."""
        weight_hh, *projection = self.parameters
        width = weight_hh.shape[1]
        self.grad_outputs, self.grad_inputs = grad_outputs, self.inputs.new_empty(self.inputs.shape)
        self.back_to_state = self._by_heads(weight_hh, 0, 1.0).view(-1, 4 * width, width)
        self.grad_weight_hh = torch.zeros_like(self.back_to_state)
        self.back_to_inputs = self._by_heads(projection[0], 0, 1.0) if projection else None
        self.grad_projection = [torch.zeros_like(one) for one in projection]

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Compute the factors in brackets above."""
        admit, forget, half_new, opened = self.gates[steps].unbind(-2)
        outputs, n = self.after[0][steps], self.after[2][steps]
        fading = forget if self.option else torch.expm1(self.log_forget[steps]).neg_().mul_(forget)
        new = half_new * 2.0
        from_c = admit.new_empty(*admit.shape[:3], 3, admit.shape[-1])
        torch.mul(admit, new, out=from_c[..., 0, :])
        torch.mul(fading, self.before(1, steps), out=from_c[..., 1, :])
        tanh_slope(admit, new, out=from_c[..., 2, :])
        from_n = torch.stack([admit, fading * self.before(2, steps)], dim=-2)
        into_o = outputs - outputs * opened
        into_c, into_n = opened / n, outputs / n
        deltas = self.deltas = torch.empty_like(self.gates[steps])
        places = (deltas.flatten(-2).transpose(1, 2), deltas[..., :3, :], deltas[..., :2, :], deltas[..., 3, :])
        return self.grad_outputs[steps], into_o, into_c, into_n, from_c, from_n, forget, *places

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Multiply by the factors."""
        grad, into_o, into_c, into_n, from_c, from_n, forget, delta, first_three, first_two, delta_o = factors
        dh, dc, dn, _ = grads
        dh = grad if dh is None else dh + grad
        torch.mul(dh, into_o, out=delta_o)
        dc = dh * into_c if dc is None else torch.addcmul(dc, dh, into_c)
        dn = (dh * into_n).neg_() if dn is None else torch.addcmul(dn, dh, into_n, value=-1.0)
        torch.mul(from_c, dc.unsqueeze(-2), out=first_three)
        first_two.addcmul_(from_n, dn.unsqueeze(-2))
        before = torch.empty_like(dc)
        torch.bmm(delta, self.back_to_state, out=before.transpose(0, 1))
        return [before, dc * forget, dn * forget, None]

    def gather(self, steps: slice) -> None:
        """Add to the sums, R head by head."""
        flat, before = self.deltas.flatten(2).flatten(0, 1), self.before(0, steps).flatten(0, 1)
        of_heads = self.deltas.flatten(3).flatten(0, 1).permute(1, 2, 0)  # (N, 4H/N, steps·B)
        self.grad_weight_hh.baddbmm_(of_heads, before.transpose(0, 1))
        if self.back_to_inputs is None:
            self.grad_inputs[steps] = self._by_gates(self.deltas.flatten(2), 2)
            return
        torch.mm(flat, self.back_to_inputs, out=self.grad_inputs[steps].flatten(0, 1))
        grad_weight_ih, grad_bias = self.grad_projection
        grad_weight_ih.addmm_(flat.t(), self.inputs[steps].flatten(0, 1))
        grad_bias.add_(flat.sum(0))

    def finish_back(self) -> list[Tensor]:
        """Return the sums, rows as in the parameters."""
        grad_weight_hh = self.grad_weight_hh.view_as(self.parameters[0])
        return [self.grad_inputs, *(self._by_gates(one, 0) for one in (grad_weight_hh, *self.grad_projection))]

    def _by_heads(self, gates: Tensor, dim: int, scale: float = 2.0) -> Tensor:
        """Return a copy in which 4H rows (gate, head, unit) are (head, gate, unit), those of z scaled."""
        parts = (
            gates.unflatten(dim, (4, -1, self.parameters[0].shape[1]))
            .transpose(dim, dim + 1)
            .clone(memory_format=torch.contiguous_format)
        )
        if scale != 1.0:
            parts.select(dim + 1, 2).mul_(scale)
        arranged: Tensor = parts.flatten(dim, dim + 2)
        return arranged

    def _by_gates(self, heads: Tensor, dim: int) -> Tensor:
        """Return rows (gate, head, unit) for rows (head, gate, unit)."""
        parts = heads.unflatten(dim, (-1, 4, self.parameters[0].shape[1]))
        arranged: Tensor = parts.transpose(dim, dim + 1).flatten(dim, dim + 2)
        return arranged
