"""Cells whose gates don't see the state, over a sequence with resets: one short operation a step.

With a keep factor A and a candidate h̃ that depend on the inputs alone, h = A h̄ + (1 - A) h̃. Both are computed for all
steps at once; only the mixing is sequential. With dh the gradient of h_t from output and t + 1::

    dh̄ = A dh,    dh̃ = (1 - A) dh,    dA = dh (h̄ - h̃)

and A (h̄ - h̃) = h - h̃, so the old state need not be kept beside the outputs.

Source: Feng et al. 2024 (arXiv 2410.01201), differentiated.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlstm.kernels.resets import check_rows, rows_of_resets

Candidate = Literal["positive", "identity"]


def keep_and_candidate(projections: Tensor, hidden: int, candidate: Candidate) -> tuple[Tensor, Tensor]:
    """Return the factor A of the old state and the candidate h̃, ``(..., H)`` each.

    Args:
        projections: ``(..., 2H)``: z and h̃ before they are squashed; or ``(..., 3H)``: f, i and h̃.
        hidden: H.
        candidate: ``positive``: g(x) = x + ½ where x ≥ 0, else σ(x). ``identity``: x itself.
    """
    before = projections[..., -hidden:]
    if projections.shape[-1] == 2 * hidden:
        keep = torch.sigmoid(-projections[..., :hidden])  # 1 - z
    else:  # f / (f + i), from logarithms: neither overflows.
        log_gates = torch.nn.functional.logsigmoid(projections[..., : 2 * hidden])
        keep = torch.sigmoid(log_gates[..., :hidden] - log_gates[..., hidden:])
    if candidate == "identity":
        return keep, before
    return keep, torch.where(before >= 0, before + 0.5, torch.sigmoid(before))


def min_scan(projections: Tensor, h: Tensor, is_first: Tensor, candidate: Candidate) -> Tensor:
    """Run T steps with resets.

    Args:
        projections: ``(T, B, 2H)`` or ``(T, B, 3H)``, as for ``keep_and_candidate``.
        h: State before step 0, ``(B, H)``.
        is_first: ``(T, B)`` bool.
        candidate: As for ``keep_and_candidate``.

    Returns:
        Outputs ``(T, B, H)``. Once differentiable.
    """
    check_rows(projections, h, is_first)
    outputs: Tensor = _MinScan.apply(projections, h, is_first, candidate)  # type: ignore[no-untyped-call]
    return outputs


class _MinScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projections: Tensor, h: Tensor, is_first: Tensor, candidate: Candidate) -> Tensor:
        hidden = h.shape[1]
        keep, fresh = keep_and_candidate(projections, hidden, candidate)
        outputs = torch.empty_like(keep)
        steps = zip(outputs.unbind(), keep.unbind(), fresh.unbind(), rows_of_resets(is_first), strict=True)
        last = h
        for output, keep_t, fresh_t, resets in steps:
            before = last if resets is None else last.index_fill(0, resets, 0.0)
            last = torch.lerp(fresh_t, before, keep_t, out=output)
        ctx.candidate = candidate
        gates = projections[..., : 2 * hidden] if projections.shape[-1] == 3 * hidden else None
        ctx.save_for_backward(is_first, gates, keep, fresh, outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        is_first, gates, keep, fresh, outputs = ctx.saved_tensors
        hidden = keep.shape[2]
        kept = keep.clone()
        kept.flatten(0, 1).index_fill_(0, is_first.flatten().nonzero()[:, 0], 0.0)
        grads = grad_outputs.clone(memory_format=torch.contiguous_format)  # dh
        steps, factors = grads.unbind(), kept.unbind()
        for t in range(len(steps) - 2, -1, -1):
            steps[t].addcmul_(factors[t + 1], steps[t + 1])
        into_fresh = torch.addcmul(grads, grads, keep, value=-1.0)  # dh (1 - A)
        into_keep = (outputs - fresh).mul_(into_fresh)  # dA A (1 - A)
        deltas = grads.new_empty(*grads.shape[:2], (2 if gates is None else 3) * hidden)
        if gates is None:
            torch.neg(into_keep, out=deltas[..., :hidden])
        else:
            closed = torch.sigmoid(-gates)  # 1 - f, 1 - i
            torch.mul(into_keep, closed[..., :hidden], out=deltas[..., :hidden])
            torch.mul(into_keep, closed[..., hidden:].neg_(), out=deltas[..., hidden : 2 * hidden])
        slope = 1.0 if ctx.candidate == "identity" else torch.where(fresh >= 0.5, 1.0, fresh * (1 - fresh))
        torch.mul(into_fresh, slope, out=deltas[..., -hidden:])
        return deltas, kept[0] * grads[0], None, None
