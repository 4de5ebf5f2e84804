"""The minimal GRU and the minimal LSTM as one Triton kernel forwards and one backwards.

No gate sees the state, so every unit is alone, there is no product in the time loop and any width fits. A program holds
some rows and 64 units, and goes through all steps. The equations are those of ``rlstm.cells.min_gru`` and
``rlstm.cells.min_lstm``: with the factor A of the old state and the candidate h̃, h = A h̄ + (1 - A) h̃. Only W x + b and
h are kept. With dh the gradient of h_t from output and t + 1::

    dh̄ = A dh      dh̃ = (1 - A) dh      s = dh (h̄ - h̃) A (1 - A)
    minimal GRU: δz = -s                minimal LSTM: δf = s (1 - f), δi = -s (1 - i)

See ``rlstm.kernels.triton.recurrence`` for the buffers.

Source: Feng et al. 2024 (arXiv 2410.01201), differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlstm.kernels.triton.language import tl, triton
from rlstm.kernels.triton.ops import log_logistic, logistic, tile
from rlstm.kernels.triton.recurrence import Kernels, Recurrence, Storage, run_recurrence


def minimal(
    inputs: Tensor,
    state: tuple[Tensor],
    is_first: Tensor,
    *,
    weight_ih: Tensor,
    bias_ih: Tensor,
    candidate: str,
    storage: Storage = torch.float32,
) -> tuple[Tensor, list[Tensor]]:
    """Run a minimal cell: a GRU for W of ``(2H, I)``, z and h̃; an LSTM for ``(3H, I)``, f, i and h̃.

    The candidate is ``positive`` for h̃ = x + ½ where x ≥ 0, else σ(x), or ``identity`` for x itself; the rest is as in
    ``run_recurrence``.
    """
    num_gates = len(bias_ih) // state[0].shape[1]
    constants = {"GATES": num_gates, "POSITIVE": candidate == "positive"}
    recurrence = Recurrence(Kernels(_forward, _backward), num_gates=num_gates, constants=constants)
    return run_recurrence(recurrence, inputs, state, is_first, (weight_ih, bias_ih, None, None), storage=storage)


@triton.jit
def _keep_and_candidate(at, inside, HIDDEN: tl.constexpr, GATES: tl.constexpr, POSITIVE: tl.constexpr):
    """Return A, h̃, h̃'s slope, and 1 - f and 1 - i (those of the LSTM; anything for the GRU)."""
    one = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    x = tl.load(at + (GATES - 1) * HIDDEN, mask=inside, other=0.0).to(tl.float32)
    if GATES == 2:
        keep = logistic(-one)
        closed_f = keep
        closed_i = keep
    else:
        two = tl.load(at + HIDDEN, mask=inside, other=0.0).to(tl.float32)
        keep = logistic(log_logistic(one) - log_logistic(two))
        closed_f = logistic(-one)
        closed_i = logistic(-two)
    if POSITIVE:
        squashed = logistic(x)
        fresh = tl.where(x >= 0.0, x + 0.5, squashed)
        slope = tl.where(x >= 0.0, 1.0, squashed * (1.0 - squashed))
    else:
        fresh = x
        slope = tl.full(x.shape, 1.0, tl.float32)
    return keep, fresh, slope, closed_f, closed_i


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _forward(
    gates, is_first, weight, extra, begin, hidden, memory, end, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    KEEP: tl.constexpr, GATES: tl.constexpr, POSITIVE: tl.constexpr,
):  # fmt: skip
    rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)
    place = rows[:, None] * HIDDEN + units[None, :]
    h = tl.load(begin + place, mask=inside, other=0.0)
    index = rows  # t · B + b
    for _ in range(num_steps):
        first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
        h = tl.where(first, 0.0, h)
        at = gates + index[:, None] * (GATES * HIDDEN) + units[None, :]
        keep, fresh, _slope, _closed_f, _closed_i = _keep_and_candidate(at, inside, HIDDEN, GATES, POSITIVE)
        h = fresh + keep * (h - fresh)
        index += num_rows
        tl.store(hidden + index[:, None] * HIDDEN + units[None, :], h, mask=inside)
    tl.store(end + place, h, mask=inside)


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _backward(
    gates, is_first, weight, extra, hidden, memory, grad_outputs, grad_end, deltas, grad_begin, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    GATES: tl.constexpr, POSITIVE: tl.constexpr,
):  # fmt: skip
    rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)
    place = rows[:, None] * HIDDEN + units[None, :]
    dh = tl.load(grad_end + place, mask=inside, other=0.0)
    index = rows + (num_steps - 1).to(tl.int64) * num_rows
    for _ in range(num_steps):
        here = index[:, None] * HIDDEN + units[None, :]
        offsets = index[:, None] * (GATES * HIDDEN) + units[None, :]
        first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
        before = tl.load(hidden + here, mask=inside, other=0.0).to(tl.float32)
        before = tl.where(first, 0.0, before)
        keep, fresh, slope, closed_f, closed_i = _keep_and_candidate(gates + offsets, inside, HIDDEN, GATES, POSITIVE)
        dh += tl.load(grad_outputs + here, mask=inside, other=0.0)
        through = dh * (before - fresh) * keep * (1.0 - keep)
        if GATES == 2:
            tl.store(deltas + offsets, -through, mask=inside)
        else:
            tl.store(deltas + offsets, through * closed_f, mask=inside)
            tl.store(deltas + offsets + HIDDEN, -through * closed_i, mask=inside)
        tl.store(deltas + offsets + (GATES - 1) * HIDDEN, dh * (1.0 - keep) * slope, mask=inside)
        dh = tl.where(first, 0.0, dh * keep)
        index -= num_rows
    tl.store(grad_begin + place, dh, mask=inside)
