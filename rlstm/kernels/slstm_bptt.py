"""The sLSTM over a sequence with resets, backpropagation through time written by hand.

The stabiliser m scales c and n alike and cancels in h = o c / n, so it is a constant for the gradient. With h̄, c̄, n̄ the
state after any erase, i' and f' the stabilised gates, φ = 1 - σ(f̃) (1 for the exponential forget gate), dh the gradient
of h_t from output and t + 1, and dc, dn those of c_t and n_t from t + 1::

    dc += o dh / n              dn -= h dh / n              δo = dh h (1 - o)
    δi = i' (z dc + dn)         δf = f' φ (c̄ dc + n̄ dn)     δz = i' dc (1 - z²)
    dc̄ = f' dc                  dn̄ = f' dn                  dh̄ = δ R

Source: the equations of ``rlstm.cells.slstm``, differentiated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["NEVER", "across_heads", "slstm_bptt_sequence"]

NEVER = -1e30
"""m of a memory that has seen nothing: the logarithm of 0, but finite."""


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
    projections: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    is_first: Tensor,
    weight_hh: Tensor,
    *,
    exponential: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run an sLSTM with resets.

    Args:
        projections: What enters the gates i, f, z, o beside R h̄, ``(T, B, 4H)``.
        state: h, c, n, m before step 0, ``(B, H)`` each.
        is_first: ``(T, B)`` bool.
        weight_hh: ``(4H, H/N)``, as for ``across_heads``.
        exponential: Whether the forget gate is exp instead of the logistic function.

    Returns:
        Outputs ``(T, B, H)``, and c, n, m after step T - 1. Once differentiable; m has no gradient.
    """
    results: tuple[Tensor, Tensor, Tensor, Tensor] = _SLSTMSequence.apply(  # type: ignore[no-untyped-call]
        projections, *state, is_first, weight_hh, exponential
    )
    return results


class _SLSTMSequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        projections: Tensor,
        h: Tensor,
        c: Tensor,
        n: Tensor,
        m: Tensor,
        is_first: Tensor,
        weight_hh: Tensor,
        exponential: bool,
    ) -> tuple[Tensor, ...]:
        num_steps, num_rows, width = projections.shape
        hidden = width // 4
        gates = projections.new_empty(num_steps, num_rows, 4, hidden)  # i', f', z, o
        log_forget = None if exponential else projections.new_empty(num_steps, num_rows, hidden)
        memories = projections.new_empty(num_steps, num_rows, 2, hidden)  # c, n
        outputs = projections.new_empty(num_steps, num_rows, hidden)
        weight = across_heads(weight_hh).t().contiguous()
        resets = is_first.any(1).tolist()
        memory = start = torch.stack([c, n], dim=1)
        last = h
        for t in range(num_steps):
            if resets[t]:
                mask = is_first[t].unsqueeze(1)
                last, m = last.masked_fill(mask, 0.0), m.masked_fill(mask, NEVER)
                memory = memory.masked_fill(mask.unsqueeze(2), 0.0)
            gate = gates[t]
            torch.addmm(projections[t], last, weight, out=gate.view(num_rows, width))
            admit, forget, new, opened = gate.unbind(1)
            kept = forget
            if log_forget is not None:
                kept = log_forget[t].copy_(torch.nn.functional.logsigmoid(forget))
            torch.add(kept, m, out=forget)
            m = torch.maximum(admit, forget)
            gate[:, :2].sub_(m.unsqueeze(1)).exp_()
            new.tanh_()
            opened.sigmoid_()
            memory = torch.mul(memory, forget.unsqueeze(1), out=memories[t])
            memory[:, 0].addcmul_(admit, new)
            memory[:, 1].add_(admit)
            last = torch.div(memory[:, 0], memory[:, 1], out=outputs[t]).mul_(opened)
        ctx.resets = resets
        ctx.save_for_backward(is_first, weight_hh, h, start, gates, log_forget, memories, outputs)
        ctx.mark_non_differentiable(m)
        return outputs, memory[:, 0].clone(), memory[:, 1].clone(), m

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_outputs: Tensor, grad_c: Tensor, grad_n: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        is_first, weight_hh, h, start, gates, log_forget, memories, outputs = ctx.saved_tensors
        num_steps, num_rows, hidden = outputs.shape
        admit, forget, new, opened = gates.unbind(2)
        erased = is_first.unsqueeze(2)
        before = torch.cat([start.unsqueeze(0), memories[:-1]]).masked_fill_(erased.unsqueeze(3), 0.0)
        # δ = dc · from_c + dn · from_n + dh · from_h, the factors for all steps before the loop.
        fading = forget if log_forget is None else forget * torch.expm1(log_forget).neg_()  # f' φ
        from_c = torch.stack([admit * new, fading * before[:, :, 0], admit * (1 - new * new)], dim=2)
        from_n = torch.stack([admit, fading * before[:, :, 1]], dim=2)
        from_h = outputs * (1 - opened)
        into_memory = torch.stack([opened, -outputs], dim=2).div_(memories[:, :, 1:])
        deltas = torch.empty_like(gates)
        weight = across_heads(weight_hh)
        grad_memory = torch.stack([grad_c, grad_n], dim=1)
        carry: Tensor | None = None
        for t in range(num_steps - 1, -1, -1):
            grad = grad_outputs[t] if carry is None else carry.add_(grad_outputs[t])
            grad_memory.addcmul_(into_memory[t], grad.unsqueeze(1))
            delta = deltas[t]
            torch.mul(from_c[t], grad_memory[:, :1], out=delta[:, :3])
            delta[:, :2].addcmul_(from_n[t], grad_memory[:, 1:])
            torch.mul(from_h[t], grad, out=delta[:, 3])
            carry = delta.view(num_rows, 4 * hidden) @ weight
            grad_memory.mul_(forget[t].unsqueeze(1))
            if ctx.resets[t]:
                carry.masked_fill_(is_first[t].unsqueeze(1), 0.0)
                grad_memory.masked_fill_(is_first[t].view(-1, 1, 1), 0.0)
        previous = torch.cat([h.unsqueeze(0), outputs[:-1]]).masked_fill_(erased, 0.0)
        grad_weight = _grad_of_heads(deltas, previous, weight_hh.shape[1])
        grad_c, grad_n = grad_memory.unbind(1)
        return deltas.view(num_steps, num_rows, -1), carry, grad_c, grad_n, None, None, grad_weight, None


def _grad_of_heads(deltas: Tensor, previous: Tensor, width: int) -> Tensor:
    """Return Σ δᵀ h̄ within each head, ``(4H, H/N)``, for deltas ``(T, B, 4, H)`` and h̄ ``(T, B, H)``."""
    apart = deltas.flatten(0, 1).unflatten(2, (-1, width))  # (T·B, 4, N, H/N)
    seen = previous.flatten(0, 1).unflatten(1, (-1, width))
    return torch.einsum("xgni,xnj->gnij", apart, seen).reshape(-1, width)
