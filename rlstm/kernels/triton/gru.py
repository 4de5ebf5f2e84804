"""The GRU as one Triton kernel forwards and one backwards.

A program holds some rows of the batch and goes through all steps; R is loaded before the first. Above 128 units another
pair of kernels goes through them in parts: see ``rlstm.kernels.triton.wide``. The equations are those of
``rlstm.cells.gru``. With h̄ = h_{t-1}, reset where ``is_first``, q = R_n h̄ + b'_n, and dh the gradient of h_t from
output and t + 1::

    δn = dh (1 - z)(1 - n²)     δz = dh (h̄ - n) z (1 - z)     δr = δn q r (1 - r)
    dh̄ = dh z + [δn r, δr, δz] R,    on the input's side [δr, δz, δn]

R comes with the gates in the order n, r, z, so that δ of both sides, [δn r, δr, δz, δn], are one buffer: the state's
side is its first three blocks, the input's side the last three. q is the memory kept. See
``rlstm.kernels.triton.recurrence`` for the buffers.

Source: the equations of the cell, differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlstm.kernels.triton.language import tl, triton
from rlstm.kernels.triton.ops import load_block, logistic, store_four, tanh, tile
from rlstm.kernels.triton.recurrence import Kept, Kernels, Recurrence, Storage, run_recurrence
from rlstm.kernels.triton.wide import add_recurrent_gradients, add_recurrent_sums, copy_leaves


def gru(
    inputs: Tensor,
    state: tuple[Tensor],
    is_first: Tensor,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    storage: Storage = torch.float32,
    precision: str | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run a GRU, weights in PyTorch's layout; the rest as in ``run_recurrence``."""
    size = weight_hh.shape[1]
    bias = bias_ih + torch.nn.functional.pad(bias_hh[: 2 * size], (0, size))
    weights = (weight_ih, bias, weight_hh.roll(size, 0), bias_hh[2 * size :])
    return run_recurrence(_GRU, inputs, state, is_first, weights, storage=storage, precision=precision)


@triton.jit
def _load_gates(at, inside, HIDDEN: tl.constexpr):
    """Return what lies at r, z and n, in float32."""
    r = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    z = tl.load(at + HIDDEN, mask=inside, other=0.0).to(tl.float32)
    n = tl.load(at + 2 * HIDDEN, mask=inside, other=0.0).to(tl.float32)
    return r, z, n


@triton.jit
def _store_gates(at, r, z, n, inside, HIDDEN: tl.constexpr):
    """Store r, z and n."""
    tl.store(at, r, mask=inside)
    tl.store(at + HIDDEN, z, mask=inside)
    tl.store(at + 2 * HIDDEN, n, mask=inside)


@triton.jit
def _advance(q, r, z, n, h):
    """Return gates and h from q, the sums of r and z, the input's side of n, and h̄."""
    r = logistic(r)
    z = logistic(z)
    n = tanh(n + r * q)
    return r, z, n, n + z * (h - n)


@triton.jit
def _differentiate(dh, q, r, z, n, before):
    """Return δ of q, r, z and n, and what of dh̄ does not come through R."""
    delta_n = dh * (1.0 - z) * (1.0 - n * n)
    delta_z = dh * (before - n) * z * (1.0 - z)
    delta_r = delta_n * q * r * (1.0 - r)
    return delta_n * r, delta_r, delta_z, delta_n, dh * z


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _forward(
    gates, is_first, weight, extra, begin, hidden, memory, end, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    RESIDENT: tl.constexpr, PRECISION: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)
    if RESIDENT:
        weight_n = load_block(weight, 0, HIDDEN, WIDTH, BLOCK_UNITS, True)
        weight_r = load_block(weight, 1, HIDDEN, WIDTH, BLOCK_UNITS, True)
        weight_z = load_block(weight, 2, HIDDEN, WIDTH, BLOCK_UNITS, True)
    bias = tl.load(extra + units, mask=units < HIDDEN, other=0.0)[None, :]
    place = rows[:, None] * HIDDEN + units[None, :]
    h = tl.load(begin + place, mask=inside, other=0.0)
    index = rows  # t · B + b
    for _ in range(num_steps):
        first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
        h = tl.where(first, 0.0, h)
        at = gates + index[:, None] * (3 * HIDDEN) + units[None, :]
        r, z, n = _load_gates(at, inside, HIDDEN)
        before = h.to(weight.dtype.element_ty)
        if not RESIDENT:
            weight_n = load_block(weight, 0, HIDDEN, WIDTH, BLOCK_UNITS, True)
        q = tl.dot(before, weight_n, input_precision=PRECISION) + bias
        if not RESIDENT:
            weight_r = load_block(weight, 1, HIDDEN, WIDTH, BLOCK_UNITS, True)
        r = tl.dot(before, weight_r, r, input_precision=PRECISION)
        if not RESIDENT:
            weight_z = load_block(weight, 2, HIDDEN, WIDTH, BLOCK_UNITS, True)
        z = tl.dot(before, weight_z, z, input_precision=PRECISION)
        r, z, n, h = _advance(q, r, z, n, h)
        index += num_rows
        here = index[:, None] * HIDDEN + units[None, :]  # After step t.
        tl.store(hidden + here, h, mask=inside)
        if KEEP:
            tl.store(memory + here, q, mask=inside)
            _store_gates(at, r, z, n, inside, HIDDEN)
    tl.store(end + place, h, mask=inside)


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _backward(
    gates, is_first, weight, extra, hidden, memory, grad_outputs, grad_end, deltas, grad_begin, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    RESIDENT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)
    if RESIDENT:
        weight_n = load_block(weight, 0, HIDDEN, WIDTH, BLOCK_UNITS, False)
        weight_r = load_block(weight, 1, HIDDEN, WIDTH, BLOCK_UNITS, False)
        weight_z = load_block(weight, 2, HIDDEN, WIDTH, BLOCK_UNITS, False)
    place = rows[:, None] * HIDDEN + units[None, :]
    dh = tl.load(grad_end + place, mask=inside, other=0.0)
    index = rows + (num_steps - 1).to(tl.int64) * num_rows
    for _ in range(num_steps):
        here = index[:, None] * HIDDEN + units[None, :]
        at = gates + index[:, None] * (3 * HIDDEN) + units[None, :]
        first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
        before = tl.load(hidden + here, mask=inside, other=0.0).to(tl.float32)
        before = tl.where(first, 0.0, before)
        q = tl.load(memory + here + num_rows.to(tl.int64) * HIDDEN, mask=inside, other=0.0)
        r, z, n = _load_gates(at, inside, HIDDEN)
        dh += tl.load(grad_outputs + here, mask=inside, other=0.0)
        delta_q, delta_r, delta_z, delta_n, dh = _differentiate(dh, q, r, z, n, before)
        if not RESIDENT:
            weight_n = load_block(weight, 0, HIDDEN, WIDTH, BLOCK_UNITS, False)
        dh = tl.dot(delta_q.to(weight.dtype.element_ty), weight_n, dh, input_precision=PRECISION)
        if not RESIDENT:
            weight_r = load_block(weight, 1, HIDDEN, WIDTH, BLOCK_UNITS, False)
        dh = tl.dot(delta_r.to(weight.dtype.element_ty), weight_r, dh, input_precision=PRECISION)
        if not RESIDENT:
            weight_z = load_block(weight, 2, HIDDEN, WIDTH, BLOCK_UNITS, False)
        dh = tl.dot(delta_z.to(weight.dtype.element_ty), weight_z, dh, input_precision=PRECISION)
        dh = tl.where(first, 0.0, dh)
        to = deltas + index[:, None] * (4 * HIDDEN) + units[None, :]
        store_four(to, delta_q, delta_r, delta_z, delta_n, inside, HIDDEN)
        index -= num_rows
    tl.store(grad_begin + place, dh, mask=inside)


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _wide_forward(
    gates, is_first, weight, extra, begin, hidden, memory, end, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    PARTS: tl.constexpr, PRECISION: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    copy_leaves(begin, end, num_rows, 1, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, PARTS)
    index, _units, _inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)  # t · B + b
    for _ in range(num_steps):
        for part in range(PARTS):
            rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
            first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
            at = gates + index[:, None] * (3 * HIDDEN) + units[None, :]
            r, z, n = _load_gates(at, inside, HIDDEN)
            q = tl.load(extra + units, mask=units < HIDDEN, other=0.0)[None, :] + tl.full(inside.shape, 0.0, tl.float32)
            q, r, z, n = add_recurrent_sums(
                q, r, z, n, hidden, index, first, weight, num_rows, part,
                3, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, PARTS, PRECISION,
            )  # fmt: skip
            of_h = end + rows[:, None] * HIDDEN + units[None, :]
            h = tl.load(of_h, mask=inside & ~first, other=0.0)
            r, z, n, h = _advance(q, r, z, n, h)
            tl.store(of_h, h, mask=inside)
            here = (index + num_rows)[:, None] * HIDDEN + units[None, :]  # After step t.
            tl.store(hidden + here, h, mask=inside)
            if KEEP:
                tl.store(memory + here, q, mask=inside)
                _store_gates(at, r, z, n, inside, HIDDEN)
        index += num_rows
        tl.debug_barrier()


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _wide_backward(
    gates, is_first, weight, extra, hidden, memory, grad_outputs, grad_end, deltas, grad_begin, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    PARTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    copy_leaves(grad_end, grad_begin, num_rows, 1, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, PARTS)
    index, _units, _inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)
    index += (num_steps - 1).to(tl.int64) * num_rows
    for _ in range(num_steps):
        for part in range(PARTS):
            rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
            first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
            here = index[:, None] * HIDDEN + units[None, :]
            of_h = grad_begin + rows[:, None] * HIDDEN + units[None, :]
            before = tl.load(hidden + here, mask=inside & ~first, other=0.0).to(tl.float32)
            q = tl.load(memory + here + num_rows.to(tl.int64) * HIDDEN, mask=inside, other=0.0)
            r, z, n = _load_gates(gates + index[:, None] * (3 * HIDDEN) + units[None, :], inside, HIDDEN)
            dh = tl.load(of_h, mask=inside, other=0.0) + tl.load(grad_outputs + here, mask=inside, other=0.0)
            delta_q, delta_r, delta_z, delta_n, dh = _differentiate(dh, q, r, z, n, before)
            to = deltas + index[:, None] * (4 * HIDDEN) + units[None, :]
            store_four(to, delta_q, delta_r, delta_z, delta_n, inside, HIDDEN)
            tl.store(of_h, dh, mask=inside)
        tl.debug_barrier()
        for part in range(PARTS):
            rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
            first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
            of_h = grad_begin + rows[:, None] * HIDDEN + units[None, :]
            dh = add_recurrent_gradients(
                tl.load(of_h, mask=inside, other=0.0), deltas, index, weight, num_rows, part,
                3, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, PARTS, PRECISION,
            )  # fmt: skip
            tl.store(of_h, tl.where(first, 0.0, dh), mask=inside)
        index -= num_rows
        tl.debug_barrier()


def _bias_gradient(kept: Kept) -> Tensor:
    """Return db'_n = Σ δn r."""
    return kept.deltas[:, :, 0].float().sum((0, 1))


_KERNELS = Kernels(_forward, _backward, _wide_forward, _wide_backward)
_GRU = Recurrence(_KERNELS, num_gates=3, num_memories=1, num_deltas=4, extra_gradient=_bias_gradient)
