"""The GRU over a sequence with resets, backpropagation through time written by hand.

CPUs have no dense kernel for the GRU: the stock one and autograd's loop spend their time in small operations. Here the
input projection of all steps is one matrix product, the time loop does only what must be sequential, the backward loop
carries one coefficient tensor, and every weight gradient is one matrix product after the loop.

With h̄ = h_{t-1}, erased where ``is_first``, q = R_n h̄ + b'_n, and dh the gradient of h_t from output and t + 1::

    δn = dh (1 - z)(1 - n²)     δz = dh (h̄ - n) z (1 - z)     δr = δn q r (1 - r)
    dh̄ = dh z + [δr, δz, δn r] R,    on the input's side [δr, δz, δn]

Source: the equations of ``rlstm.cells.gru``, differentiated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["gru_bptt_sequence"]


def gru_bptt_sequence(
    inputs: Tensor,
    h: Tensor,
    is_first: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
) -> tuple[Tensor, Tensor]:
    """Run a GRU over ``(T, B, I)`` with resets, weights in PyTorch's layout.

    Args:
        inputs: ``(T, B, I)``.
        h: State before step 0, ``(B, H)``.
        is_first: ``(T, B)`` bool.
        weight_ih: ``(3H, I)``, gates r, z, n.
        weight_hh: ``(3H, H)``.
        bias_ih: ``(3H,)``.
        bias_hh: ``(3H,)``.

    Returns:
        Outputs ``(T, B, H)`` and h after step T - 1, ``(B, H)``. Once differentiable.
    """
    outputs: Tensor = _GRUSequence.apply(inputs, h, is_first, weight_ih, weight_hh, bias_ih, bias_hh)  # type: ignore[no-untyped-call]
    return outputs, outputs[-1]


class _GRUSequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        h: Tensor,
        is_first: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
    ) -> Tensor:
        num_steps, num_rows, width = inputs.shape
        hidden = h.shape[1]
        flat = inputs.reshape(-1, width)
        gates = torch.addmm(bias_ih, flat, weight_ih.t()).view(num_steps, num_rows, 3 * hidden)
        recurrent = inputs.new_empty(num_steps, num_rows, 3 * hidden)  # R h̄ + b'
        previous = inputs.new_empty(num_steps, num_rows, hidden)  # h̄
        outputs = inputs.new_empty(num_steps, num_rows, hidden)
        weight = weight_hh.t()
        resets = is_first.any(1).tolist()
        last = h
        for t in range(num_steps):
            before = previous[t].copy_(last)
            if resets[t]:
                before.masked_fill_(is_first[t].unsqueeze(1), 0.0)
            from_state = torch.addmm(bias_hh, before, weight, out=recurrent[t])
            opened = gates[t, :, : 2 * hidden].add_(from_state[:, : 2 * hidden]).sigmoid_()
            new = gates[t, :, 2 * hidden :].addcmul_(opened[:, :hidden], from_state[:, 2 * hidden :]).tanh_()
            last = torch.lerp(new, before, opened[:, hidden:], out=outputs[t])
        ctx.resets = resets
        ctx.save_for_backward(inputs, is_first, weight_ih, weight_hh, gates, recurrent, previous)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        inputs, is_first, weight_ih, weight_hh, gates, recurrent, previous = ctx.saved_tensors
        num_steps, num_rows, hidden = previous.shape
        reset, update, new = gates.split(hidden, dim=-1)
        candidate = recurrent[..., 2 * hidden :]  # q
        # δ = dh · coefficients on the state's side, for all steps before the loop.
        into_new = (1 - update) * (1 - new * new)
        coefficients = torch.stack(
            [into_new * candidate * reset * (1 - reset), (previous - new) * update * (1 - update), into_new * reset],
            dim=2,
        )  # (T, B, 3, H)
        deltas = torch.empty_like(gates)  # [δr, δz, δn r]
        grads = torch.empty_like(previous)  # dh
        carry: Tensor | None = None
        for t in range(num_steps - 1, -1, -1):
            grad = grads[t].copy_(grad_outputs[t])
            if carry is not None:
                grad.add_(carry)
            delta = deltas[t]
            torch.mul(coefficients[t], grad.unsqueeze(1), out=delta.view(num_rows, 3, hidden))
            carry = torch.addmm(grad * update[t], delta, weight_hh)
            if ctx.resets[t]:
                carry.masked_fill_(is_first[t].unsqueeze(1), 0.0)
        state_side = deltas.view(-1, 3 * hidden)
        input_side = torch.cat([deltas[..., : 2 * hidden], grads * into_new], dim=-1).view(-1, 3 * hidden)
        return (
            (input_side @ weight_ih).view_as(inputs),
            carry,
            None,
            input_side.t() @ inputs.reshape(-1, inputs.shape[-1]),
            state_side.t() @ previous.view(-1, hidden),
            input_side.sum(0),
            state_side.sum(0),
        )
