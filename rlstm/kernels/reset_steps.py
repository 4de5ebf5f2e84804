"""Reset steps: sequences with resets anywhere, through the dense kernels that know nothing of resets.

Before each reset one synthetic time step is inserted for that row. Its input is zero but for a flag with the fixed
weight -1e4 into the gates that admit and keep: they saturate to exactly 0, so the step clears the state, and no
gradient passes through it. On real steps the flag is 0 and adds nothing. After its last real step a row of the batch is
padded with HOLD steps, whose flag keeps the state exactly, so the final state of the kernel is the state after step T -
1.

A reset at t = 0 needs no step: it resets the state that is passed in.

Shapes: inputs ``(T, B, I)``, states ``(B, H)``, ``is_first`` ``(T, B)``; L is the padded length.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlstm.kernels.resets import check_rows

_SATURATE = 1e4  # The logistic of -1e4 is exactly 0 in every floating type.
_LENGTH_MULTIPLE = 8  # Dense CPU kernels are cached for each shape: few lengths, few kernels.


class ResetPlan(NamedTuple):
    """Where the real steps lie in the padded sequence."""

    rows: Tensor  # (T·B,) position of step (t, b) in the flattened (L·B) padded sequence, all different.
    kinds: Tensor  # (L, B, 2) bool: an inserted step that clears; padding that keeps.
    length: int  # L


def plan_reset_steps(is_first: Tensor) -> ResetPlan | None:
    """Plan the insertions for ``is_first`` ``(T, B)``; resets at t = 0 are not counted.

    Returns:
        The plan, or ``None`` where no reset lies after t = 0.
    """
    num_steps, num_rows = is_first.shape
    if not num_rows:
        return None
    shift = is_first.cpu().numpy().cumsum(0)  # On the host: a plan is some ten operations on few numbers.
    shift -= shift[0]
    largest = int(shift[-1].max())
    if largest == 0:
        return None
    length = -(-(num_steps + largest) // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
    positions = np.arange(num_steps)[:, np.newaxis] + shift  # (T, B)
    rows = (positions * num_rows + np.arange(num_rows)).reshape(-1)
    kinds = np.zeros((length, num_rows, 2), dtype=np.bool_)
    kinds[..., 1] = np.arange(length)[:, np.newaxis] > positions[-1]
    kinds[..., 0] = ~kinds[..., 1]
    kinds.reshape(-1, 2)[rows] = False
    return ResetPlan(torch.from_numpy(rows).to(is_first.device), torch.from_numpy(kinds).to(is_first.device), length)


@lru_cache(maxsize=8)
def _lstm_flag_weights(hidden: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the weights of the flags, ``(4·H, 2)``: a reset closes i, f and o; a hold opens f and closes i and o."""
    weights = torch.full((4, hidden, 2), -_SATURATE, dtype=dtype, device=device)  # Gates i, f, g, o.
    weights[1, :, 1] = _SATURATE
    weights[2] = 0.0
    return weights.flatten(0, 1)


class _Insert(torch.autograd.Function):
    """Rows ``(N, F)`` to their different places in a zero ``(M, F)``, beside flags ``(M, K)``: ``(M, F + K)``."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, rows: Tensor, flags: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.width = source.shape[1]
        spread = source.new_zeros(len(flags), source.shape[1] + flags.shape[1])
        spread[:, : ctx.width].index_copy_(0, rows, source)
        spread[:, ctx.width :] = flags
        return spread

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        return grad[:, : ctx.width].index_select(0, rows), None, None


class _Gather(torch.autograd.Function):
    """Different rows of ``(M, F)`` to ``(N, F)``; the gradient scatters them back without the cost of adding."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.num_places = source.shape[0]
        return source.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        return grad.new_zeros(ctx.num_places, grad.shape[1]).index_copy_(0, rows, grad.contiguous()), None


def _insert(inputs: Tensor, flags: Tensor, plan: ResetPlan) -> Tensor:
    """Spread ``(T, B, I)`` over the padded sequence, beside flags ``(L, B, K)``: ``(L, B, I + K)``."""
    spread: Tensor = _Insert.apply(inputs.flatten(0, 1), plan.rows, flags.flatten(0, 1))  # type: ignore[no-untyped-call]
    return spread.view(plan.length, inputs.shape[1], -1)


def _extract(outputs: Tensor, plan: ResetPlan, num_steps: int) -> Tensor:
    """Pick the real steps out of ``(L, B, H)``: ``(T, B, H)``."""
    num_rows, width = outputs.shape[1:]
    picked: Tensor = _Gather.apply(outputs.reshape(-1, width), plan.rows)  # type: ignore[no-untyped-call]
    return picked.view(num_steps, num_rows, width)


def _reset_first(state: Tensor, is_first: Tensor) -> Tensor:
    return state.masked_fill(is_first[0].unsqueeze(1), 0.0)


def lstm_sequence(
    inputs: Tensor, h: Tensor, c: Tensor, is_first: Tensor, *weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Run an LSTM over ``(T, B, I)`` with resets; weights W, R, b, b' in PyTorch's layout.

    Returns:
        Outputs ``(T, B, H)``, and h and c after step T - 1, ``(B, H)`` each.
    """
    check_rows(inputs, h, is_first)
    start = (_reset_first(h, is_first).unsqueeze(0), _reset_first(c, is_first).unsqueeze(0))
    plan = plan_reset_steps(is_first)
    if plan is None:
        outputs, h_end, c_end = _dense(torch.lstm, inputs, start, weights)
        return outputs, h_end[0], c_end[0]
    weight_ih, *others = weights
    flag_weights = _lstm_flag_weights(h.shape[1], weight_ih.dtype, weight_ih.device)
    spread = _insert(inputs, plan.kinds, plan)
    padded, _, c_end = _dense(torch.lstm, spread, start, [torch.cat([weight_ih, flag_weights], dim=1), *others])
    outputs = _extract(padded, plan, len(inputs))
    # A hold step closes the output gate, so h is taken from the last real step; c is kept to the end.
    return outputs, outputs[-1], c_end[0]


def gru_sequence(inputs: Tensor, h: Tensor, is_first: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """Run a GRU over ``(T, B, I)`` with resets; weights W, R, b, b' in PyTorch's layout.

    The input bias of the candidate enters as the weight of a column that is 1 on real steps and 0 on inserted ones, so
    a reset step yields tanh(0) = 0 exactly.

    Returns:
        Outputs ``(T, B, H)`` and h after step T - 1, ``(B, H)``.
    """
    check_rows(inputs, h, is_first)
    start = _reset_first(h, is_first).unsqueeze(0)
    plan = plan_reset_steps(is_first)
    if plan is None:
        outputs, h_end = _dense(torch.gru, inputs, start, weights)
        return outputs, h_end[0]
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    hidden = weight_hh.shape[1]
    inserted = plan.kinds.any(-1)  # The output is the whole state, so what follows the last step is free.
    flags = torch.stack([inserted, ~inserted], dim=-1)
    reset_column = weight_ih.new_full((3 * hidden, 1), -_SATURATE)  # gates r, z, n
    reset_column[2 * hidden :] = 0.0
    gate_bias, new_bias = bias_ih[: 2 * hidden], bias_ih[2 * hidden :]
    bias_column = torch.cat([torch.zeros_like(gate_bias), new_bias]).unsqueeze(1)
    wider = [
        torch.cat([weight_ih, reset_column, bias_column], dim=1),
        weight_hh,
        torch.cat([gate_bias, torch.zeros_like(new_bias)]),
        bias_hh,
    ]
    padded, _ = _dense(torch.gru, _insert(inputs, flags, plan), start, wider)
    outputs = _extract(padded, plan, len(inputs))
    return outputs, outputs[-1]


def _dense(kernel: Any, inputs: Tensor, start: Any, weights: Sequence[Tensor]) -> Any:
    """Call PyTorch's one-layer kernel; cuDNN keeps what its backward pass needs only when told that it trains."""
    return kernel(inputs, start, weights, True, 1, 0.0, torch.is_grad_enabled(), False, False)
