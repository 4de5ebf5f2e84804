"""The sLSTM as one Triton kernel forwards and one backwards.

A program holds some rows of the batch and one head, whose units see no others, and goes through all steps; R of the
head is loaded before the first. A head of more than 128 units is gone through in parts by another pair of kernels: see
``rlstm.kernels.triton.wide``. The equations are those of ``rlstm.cells.slstm``. m only keeps the exponentials in range
and is a constant for the gradient. With i', f' the stabilised gates, φ = 1 - σ(f̃) (1 for the exponential forget gate),
and dh, dc, dn the gradient at step t from output and t + 1::

    dc += o dh / n              dn -= h dh / n              δo = dh h (1 - o)
    δi = i' (z dc + dn)         δf = f' φ (c̄ dc + n̄ dn)     δz = i' dc (1 - z²)
    dc̄ = f' dc                  dn̄ = f' dn                  dh̄ = δ R

A memory that has seen nothing has m = -1e30, so f' = 0 and i' = 1 at its first step, and n is 1 or above for ever.
Gates come in the order i, f, z, o; what is kept of a step is i', f', z, o and, as memories, c, n, φ. See
``rlstm.kernels.triton.recurrence`` for the buffers.

Source: the equations of the cell, differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlstm.kernels.triton.language import tl, triton
from rlstm.kernels.triton.ops import (
    load_block,
    load_four,
    load_four_blocks,
    log_logistic,
    logistic,
    store_four,
    tanh,
    tile,
)
from rlstm.kernels.triton.recurrence import Kernels, Recurrence, Storage, run_recurrence
from rlstm.kernels.triton.wide import add_recurrent_gradients, add_recurrent_sums, copy_leaves


def slstm(
    inputs: Tensor,
    state: tuple[Tensor, Tensor, Tensor, Tensor],
    is_first: Tensor,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    forget_gate: str,
    storage: Storage = torch.float32,
    precision: str | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run an sLSTM with R ``(4H, H / N)`` of N heads; the rest as in ``run_recurrence``."""
    weights = (weight_ih, bias_ih, weight_hh, None)
    recurrence = _EXPONENTIAL if forget_gate == "exponential" else _SIGMOID
    return run_recurrence(recurrence, inputs, state, is_first, weights, storage=storage, precision=precision)


@triton.jit
def _advance(i, f, z, o, c, n, m, EXPONENTIAL: tl.constexpr):
    """Return i', f', z, o, then φ, then h, c, n, m from the gates' sums and c̄, n̄, m̄."""
    z = tanh(z)
    o = logistic(o)
    kept = m + (f if EXPONENTIAL else log_logistic(f))
    slope = tl.full(f.shape, 1.0, tl.float32) if EXPONENTIAL else logistic(-f)
    m = tl.maximum(kept, i)
    i = tl.exp(i - m)
    f = tl.exp(kept - m)
    c = f * c + i * z
    n = f * n + i
    return i, f, z, o, slope, o * c / n, c, n, m


@triton.jit
def _differentiate(dh, dc, dn, i, f, z, o, slope, h, c_bar, n_bar, n):
    """Return δ of the gates, dc̄ and dn̄."""
    scaled = dh / n
    dc += o * scaled
    dn -= h * scaled
    delta_i = i * (z * dc + dn)
    delta_f = f * (c_bar * dc + n_bar * dn) * slope
    delta_z = i * dc * (1.0 - z * z)
    delta_o = dh * h * (1.0 - o)
    return delta_i, delta_f, delta_z, delta_o, dc * f, dn * f


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _forward(
    gates, is_first, weight, extra, begin, hidden, memory, end, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    RESIDENT: tl.constexpr, PRECISION: tl.constexpr, KEEP: tl.constexpr, EXPONENTIAL: tl.constexpr,
):  # fmt: skip
    rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)
    if RESIDENT:
        weight_i, weight_f, weight_z, weight_o = load_four_blocks(weight, HIDDEN, WIDTH, BLOCK_UNITS, True)
    place = rows[:, None] * HIDDEN + units[None, :]
    leaf = num_rows.to(tl.int64) * HIDDEN
    slots = (num_steps + 1).to(tl.int64) * leaf
    h = tl.load(begin + place, mask=inside, other=0.0)
    c = tl.load(begin + leaf + place, mask=inside, other=0.0)
    n = tl.load(begin + 2 * leaf + place, mask=inside, other=0.0)
    m = tl.load(begin + 3 * leaf + place, mask=inside, other=0.0)
    index = rows  # t · B + b
    for _ in range(num_steps):
        first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
        h = tl.where(first, 0.0, h)
        c = tl.where(first, 0.0, c)
        n = tl.where(first, 0.0, n)
        m = tl.where(first, -1e30, m)
        at = gates + index[:, None] * (4 * HIDDEN) + units[None, :]
        i, f, z, o = load_four(at, inside, HIDDEN)
        before = h.to(weight.dtype.element_ty)
        if not RESIDENT:
            weight_i = load_block(weight, 0, HIDDEN, WIDTH, BLOCK_UNITS, True)
        i = tl.dot(before, weight_i, i, input_precision=PRECISION)
        if not RESIDENT:
            weight_f = load_block(weight, 1, HIDDEN, WIDTH, BLOCK_UNITS, True)
        f = tl.dot(before, weight_f, f, input_precision=PRECISION)
        if not RESIDENT:
            weight_z = load_block(weight, 2, HIDDEN, WIDTH, BLOCK_UNITS, True)
        z = tl.dot(before, weight_z, z, input_precision=PRECISION)
        if not RESIDENT:
            weight_o = load_block(weight, 3, HIDDEN, WIDTH, BLOCK_UNITS, True)
        o = tl.dot(before, weight_o, o, input_precision=PRECISION)
        i, f, z, o, slope, h, c, n, m = _advance(i, f, z, o, c, n, m, EXPONENTIAL)
        index += num_rows
        here = index[:, None] * HIDDEN + units[None, :]  # After step t.
        tl.store(hidden + here, h, mask=inside)
        if KEEP:
            tl.store(memory + here, c, mask=inside)
            tl.store(memory + slots + here, n, mask=inside)
            if not EXPONENTIAL:
                tl.store(memory + 2 * slots + here, slope, mask=inside)
            store_four(at, i, f, z, o, inside, HIDDEN)
    tl.store(end + place, h, mask=inside)
    tl.store(end + leaf + place, c, mask=inside)
    tl.store(end + 2 * leaf + place, n, mask=inside)
    tl.store(end + 3 * leaf + place, m, mask=inside)


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _backward(
    gates, is_first, weight, extra, hidden, memory, grad_outputs, grad_end, deltas, grad_begin, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    RESIDENT: tl.constexpr, PRECISION: tl.constexpr, EXPONENTIAL: tl.constexpr,
):  # fmt: skip
    rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)
    if RESIDENT:
        weight_i, weight_f, weight_z, weight_o = load_four_blocks(weight, HIDDEN, WIDTH, BLOCK_UNITS, False)
    place = rows[:, None] * HIDDEN + units[None, :]
    leaf = num_rows.to(tl.int64) * HIDDEN
    slots = (num_steps + 1).to(tl.int64) * leaf
    dh = tl.load(grad_end + place, mask=inside, other=0.0)
    dc = tl.load(grad_end + leaf + place, mask=inside, other=0.0)
    dn = tl.load(grad_end + 2 * leaf + place, mask=inside, other=0.0)
    index = rows + (num_steps - 1).to(tl.int64) * num_rows
    n = tl.load(memory + slots + leaf + index[:, None] * HIDDEN + units[None, :], mask=inside, other=1.0)
    for _ in range(num_steps):
        here = index[:, None] * HIDDEN + units[None, :]
        at = index[:, None] * (4 * HIDDEN) + units[None, :]
        first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
        c_bar = tl.where(first, 0.0, tl.load(memory + here, mask=inside, other=0.0))
        before = tl.load(memory + slots + here, mask=inside, other=1.0)
        n_bar = tl.where(first, 0.0, before)
        h = tl.load(hidden + leaf + here, mask=inside, other=0.0).to(tl.float32)
        i, f, z, o = load_four(gates + at, inside, HIDDEN)
        slope = 1.0 if EXPONENTIAL else tl.load(memory + 2 * slots + leaf + here, mask=inside, other=0.0)
        dh += tl.load(grad_outputs + here, mask=inside, other=0.0)
        delta_i, delta_f, delta_z, delta_o, dc, dn = _differentiate(dh, dc, dn, i, f, z, o, slope, h, c_bar, n_bar, n)
        if not RESIDENT:
            weight_i = load_block(weight, 0, HIDDEN, WIDTH, BLOCK_UNITS, False)
        dh = tl.dot(delta_i.to(weight.dtype.element_ty), weight_i, input_precision=PRECISION)
        if not RESIDENT:
            weight_f = load_block(weight, 1, HIDDEN, WIDTH, BLOCK_UNITS, False)
        dh = tl.dot(delta_f.to(weight.dtype.element_ty), weight_f, dh, input_precision=PRECISION)
        if not RESIDENT:
            weight_z = load_block(weight, 2, HIDDEN, WIDTH, BLOCK_UNITS, False)
        dh = tl.dot(delta_z.to(weight.dtype.element_ty), weight_z, dh, input_precision=PRECISION)
        if not RESIDENT:
            weight_o = load_block(weight, 3, HIDDEN, WIDTH, BLOCK_UNITS, False)
        dh = tl.dot(delta_o.to(weight.dtype.element_ty), weight_o, dh, input_precision=PRECISION)
        dh = tl.where(first, 0.0, dh)
        dc = tl.where(first, 0.0, dc)
        dn = tl.where(first, 0.0, dn)
        store_four(deltas + at, delta_i, delta_f, delta_z, delta_o, inside, HIDDEN)
        n = before
        index -= num_rows
    tl.store(grad_begin + place, dh, mask=inside)
    tl.store(grad_begin + leaf + place, dc, mask=inside)
    tl.store(grad_begin + 2 * leaf + place, dn, mask=inside)
    tl.store(grad_begin + 3 * leaf + place, tl.full(dh.shape, 0.0, tl.float32), mask=inside)


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _wide_forward(
    gates, is_first, weight, extra, begin, hidden, memory, end, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    PARTS: tl.constexpr, PRECISION: tl.constexpr, KEEP: tl.constexpr, EXPONENTIAL: tl.constexpr,
):  # fmt: skip
    copy_leaves(begin, end, num_rows, 4, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, PARTS)
    leaf = num_rows.to(tl.int64) * HIDDEN
    slots = (num_steps + 1).to(tl.int64) * leaf
    index, _units, _inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)  # t · B + b
    for _ in range(num_steps):
        for part in range(PARTS):
            rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
            first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
            at = gates + index[:, None] * (4 * HIDDEN) + units[None, :]
            i, f, z, o = load_four(at, inside, HIDDEN)
            i, f, z, o = add_recurrent_sums(
                i, f, z, o, hidden, index, first, weight, num_rows, part,
                4, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, PARTS, PRECISION,
            )  # fmt: skip
            place = end + rows[:, None] * HIDDEN + units[None, :]
            c = tl.load(place + leaf, mask=inside & ~first, other=0.0)
            n = tl.load(place + 2 * leaf, mask=inside & ~first, other=0.0)
            m = tl.load(place + 3 * leaf, mask=inside & ~first, other=-1e30)
            i, f, z, o, slope, h, c, n, m = _advance(i, f, z, o, c, n, m, EXPONENTIAL)
            store_four(place, h, c, n, m, inside, leaf)
            here = (index + num_rows)[:, None] * HIDDEN + units[None, :]  # After step t.
            tl.store(hidden + here, h, mask=inside)
            if KEEP:
                tl.store(memory + here, c, mask=inside)
                tl.store(memory + slots + here, n, mask=inside)
                if not EXPONENTIAL:
                    tl.store(memory + 2 * slots + here, slope, mask=inside)
                store_four(at, i, f, z, o, inside, HIDDEN)
        index += num_rows
        tl.debug_barrier()


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _wide_backward(
    gates, is_first, weight, extra, hidden, memory, grad_outputs, grad_end, deltas, grad_begin, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    PARTS: tl.constexpr, PRECISION: tl.constexpr, EXPONENTIAL: tl.constexpr,
):  # fmt: skip
    copy_leaves(grad_end, grad_begin, num_rows, 3, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, PARTS)
    leaf = num_rows.to(tl.int64) * HIDDEN
    slots = (num_steps + 1).to(tl.int64) * leaf
    for part in range(PARTS):
        rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
        place = grad_begin + rows[:, None] * HIDDEN + units[None, :]
        tl.store(place + 3 * leaf, tl.full(inside.shape, 0.0, tl.float32), mask=inside)  # m is a constant.
    index, _units, _inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)
    index += (num_steps - 1).to(tl.int64) * num_rows
    for _ in range(num_steps):
        for part in range(PARTS):
            rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
            first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
            here = index[:, None] * HIDDEN + units[None, :]
            at = index[:, None] * (4 * HIDDEN) + units[None, :]
            place = grad_begin + rows[:, None] * HIDDEN + units[None, :]
            c_bar = tl.load(memory + here, mask=inside & ~first, other=0.0)
            n_bar = tl.load(memory + slots + here, mask=inside & ~first, other=0.0)
            n = tl.load(memory + slots + leaf + here, mask=inside, other=1.0)
            h = tl.load(hidden + leaf + here, mask=inside, other=0.0).to(tl.float32)
            i, f, z, o = load_four(gates + at, inside, HIDDEN)
            slope = 1.0 if EXPONENTIAL else tl.load(memory + 2 * slots + leaf + here, mask=inside, other=0.0)
            dh = tl.load(place, mask=inside, other=0.0) + tl.load(grad_outputs + here, mask=inside, other=0.0)
            dc = tl.load(place + leaf, mask=inside, other=0.0)
            dn = tl.load(place + 2 * leaf, mask=inside, other=0.0)
            delta_i, delta_f, delta_z, delta_o, dc, dn = _differentiate(
                dh, dc, dn, i, f, z, o, slope, h, c_bar, n_bar, n
            )
            store_four(deltas + at, delta_i, delta_f, delta_z, delta_o, inside, HIDDEN)
            tl.store(place + leaf, tl.where(first, 0.0, dc), mask=inside)
            tl.store(place + 2 * leaf, tl.where(first, 0.0, dn), mask=inside)
        tl.debug_barrier()
        for part in range(PARTS):
            rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
            first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
            dh = add_recurrent_gradients(
                tl.full(inside.shape, 0.0, tl.float32), deltas, index, weight, num_rows, part,
                4, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, PARTS, PRECISION,
            )  # fmt: skip
            tl.store(grad_begin + rows[:, None] * HIDDEN + units[None, :], tl.where(first, 0.0, dh), mask=inside)
        index -= num_rows
        tl.debug_barrier()


_KERNELS = Kernels(_forward, _backward, _wide_forward, _wide_backward)
_SIGMOID = Recurrence(_KERNELS, num_gates=4, num_memories=3, constants={"EXPONENTIAL": False})
_EXPONENTIAL = Recurrence(_KERNELS, num_gates=4, num_memories=3, constants={"EXPONENTIAL": True})
