"""The LSTM, with or without peepholes, as one Triton kernel forwards and one backwards.

A program holds some rows of the batch, h and c in registers, and goes through all steps; R is loaded before the first.
Above 128 units another pair of kernels goes through them in parts: see ``rlstm.kernels.triton.wide``. The equations are
those of ``rlstm.cells.lstm`` and, with peepholes p, of ``rlstm.cells.peephole_lstm``. With dh, dc the gradient at step
t from output and t + 1::

    δo = dh tanh(c) o (1 - o)        dc += dh o (1 - tanh²(c)) + p_o δo
    δi = dc g i (1 - i)              δf = dc c̄ f (1 - f)             δg = dc i (1 - g²)
    dc̄ = dc f + p_i δi + p_f δf      dh̄ = δ R

Gates come in PyTorch's order, i, f, g, o. See ``rlstm.kernels.triton.recurrence`` for the buffers.

Source: the equations of the cells, differentiated; Diamos et al. 2016, *Persistent RNNs*, for weights kept on chip.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlstm.kernels.triton.language import tl, triton
from rlstm.kernels.triton.ops import load_block, load_four, load_four_blocks, logistic, store_four, tanh, tile
from rlstm.kernels.triton.recurrence import Kept, Kernels, Recurrence, Storage, run_recurrence
from rlstm.kernels.triton.wide import add_recurrent_gradients, add_recurrent_sums, copy_leaves


def lstm(
    inputs: Tensor,
    state: tuple[Tensor, Tensor],
    is_first: Tensor,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    storage: Storage = torch.float32,
    precision: str | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run an LSTM, weights in PyTorch's layout; the rest as in ``run_recurrence``."""
    weights = (weight_ih, bias_ih + bias_hh, weight_hh, None)
    return run_recurrence(_LSTM, inputs, state, is_first, weights, storage=storage, precision=precision)


def peephole_lstm(
    inputs: Tensor,
    state: tuple[Tensor, Tensor],
    is_first: Tensor,
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    peepholes: Tensor,
    storage: Storage = torch.float32,
    precision: str | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run an LSTM with peepholes ``(3H,)`` of the gates i, f, o; the rest as in ``run_recurrence``."""
    weights = (weight_ih, bias, weight_hh, peepholes.view(3, -1))
    return run_recurrence(_PEEPHOLE_LSTM, inputs, state, is_first, weights, storage=storage, precision=precision)


@triton.jit
def _load_peepholes(extra, units, HIDDEN: tl.constexpr, PEEPHOLES: tl.constexpr):
    """Return p of i, f and o, ``(1, BLOCK_UNITS)``; unused zeros where there are none."""
    if PEEPHOLES:
        p_i = tl.load(extra + units, mask=units < HIDDEN, other=0.0)[None, :]
        p_f = tl.load(extra + HIDDEN + units, mask=units < HIDDEN, other=0.0)[None, :]
        p_o = tl.load(extra + 2 * HIDDEN + units, mask=units < HIDDEN, other=0.0)[None, :]
    else:
        p_i = tl.full([1, units.shape[0]], 0.0, tl.float32)
        p_f = p_i
        p_o = p_i
    return p_i, p_f, p_o


@triton.jit
def _advance(i, f, g, o, c, p_i, p_f, p_o, PEEPHOLES: tl.constexpr):
    """Return gates, c and h from the gates' sums and c̄."""
    if PEEPHOLES:
        i += p_i * c
        f += p_f * c
    i = logistic(i)
    f = logistic(f)
    g = tanh(g)
    c = f * c + i * g
    if PEEPHOLES:
        o += p_o * c
    o = logistic(o)
    return i, f, g, o, c, o * tanh(c)


@triton.jit
def _differentiate(dh, dc, i, f, g, o, c, c_bar, p_i, p_f, p_o, PEEPHOLES: tl.constexpr):
    """Return δ of the gates, and dc̄."""
    bent = tanh(c)
    delta_o = dh * bent * o * (1.0 - o)
    dc += dh * o * (1.0 - bent * bent)
    if PEEPHOLES:
        dc += p_o * delta_o
    delta_i = dc * g * i * (1.0 - i)
    delta_f = dc * c_bar * f * (1.0 - f)
    delta_g = dc * i * (1.0 - g * g)
    dc = dc * f
    if PEEPHOLES:
        dc += p_i * delta_i + p_f * delta_f
    return delta_i, delta_f, delta_g, delta_o, dc


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _forward(
    gates, is_first, weight, extra, begin, hidden, memory, end, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    KEEP: tl.constexpr, RESIDENT: tl.constexpr, PRECISION: tl.constexpr, PEEPHOLES: tl.constexpr,
):  # fmt: skip
    rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)
    if RESIDENT:
        weight_i, weight_f, weight_g, weight_o = load_four_blocks(weight, HIDDEN, WIDTH, BLOCK_UNITS, True)
    p_i, p_f, p_o = _load_peepholes(extra, units, HIDDEN, PEEPHOLES)
    h = tl.load(begin + rows[:, None] * HIDDEN + units[None, :], mask=inside, other=0.0)
    c = tl.load(begin + (rows + num_rows)[:, None] * HIDDEN + units[None, :], mask=inside, other=0.0)
    index = rows  # t · B + b
    for _ in range(num_steps):
        first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
        h = tl.where(first, 0.0, h)
        c = tl.where(first, 0.0, c)
        at = gates + index[:, None] * (4 * HIDDEN) + units[None, :]
        i, f, g, o = load_four(at, inside, HIDDEN)
        before = h.to(weight.dtype.element_ty)
        if not RESIDENT:
            weight_i = load_block(weight, 0, HIDDEN, WIDTH, BLOCK_UNITS, True)
        i = tl.dot(before, weight_i, i, input_precision=PRECISION)
        if not RESIDENT:
            weight_f = load_block(weight, 1, HIDDEN, WIDTH, BLOCK_UNITS, True)
        f = tl.dot(before, weight_f, f, input_precision=PRECISION)
        if not RESIDENT:
            weight_g = load_block(weight, 2, HIDDEN, WIDTH, BLOCK_UNITS, True)
        g = tl.dot(before, weight_g, g, input_precision=PRECISION)
        if not RESIDENT:
            weight_o = load_block(weight, 3, HIDDEN, WIDTH, BLOCK_UNITS, True)
        o = tl.dot(before, weight_o, o, input_precision=PRECISION)
        i, f, g, o, c, h = _advance(i, f, g, o, c, p_i, p_f, p_o, PEEPHOLES)
        index += num_rows
        here = index[:, None] * HIDDEN + units[None, :]  # After step t.
        tl.store(hidden + here, h, mask=inside)
        if KEEP:
            tl.store(memory + here, c, mask=inside)
            store_four(at, i, f, g, o, inside, HIDDEN)
    tl.store(end + rows[:, None] * HIDDEN + units[None, :], h, mask=inside)
    tl.store(end + (rows + num_rows)[:, None] * HIDDEN + units[None, :], c, mask=inside)


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _backward(
    gates, is_first, weight, extra, hidden, memory, grad_outputs, grad_end, deltas, grad_begin, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    RESIDENT: tl.constexpr, PRECISION: tl.constexpr, PEEPHOLES: tl.constexpr,
):  # fmt: skip
    rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)
    if RESIDENT:
        weight_i, weight_f, weight_g, weight_o = load_four_blocks(weight, HIDDEN, WIDTH, BLOCK_UNITS, False)
    p_i, p_f, p_o = _load_peepholes(extra, units, HIDDEN, PEEPHOLES)
    dh = tl.load(grad_end + rows[:, None] * HIDDEN + units[None, :], mask=inside, other=0.0)
    dc = tl.load(grad_end + (rows + num_rows)[:, None] * HIDDEN + units[None, :], mask=inside, other=0.0)
    index = rows + (num_steps - 1).to(tl.int64) * num_rows
    c = tl.load(memory + (index + num_rows)[:, None] * HIDDEN + units[None, :], mask=inside, other=0.0)
    for _ in range(num_steps):
        here = index[:, None] * HIDDEN + units[None, :]
        at = index[:, None] * (4 * HIDDEN) + units[None, :]
        first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
        before = tl.load(memory + here, mask=inside, other=0.0)
        c_bar = tl.where(first, 0.0, before)
        i, f, g, o = load_four(gates + at, inside, HIDDEN)
        dh += tl.load(grad_outputs + here, mask=inside, other=0.0)
        delta_i, delta_f, delta_g, delta_o, dc = _differentiate(dh, dc, i, f, g, o, c, c_bar, p_i, p_f, p_o, PEEPHOLES)
        if not RESIDENT:
            weight_i = load_block(weight, 0, HIDDEN, WIDTH, BLOCK_UNITS, False)
        dh = tl.dot(delta_i.to(weight.dtype.element_ty), weight_i, input_precision=PRECISION)
        if not RESIDENT:
            weight_f = load_block(weight, 1, HIDDEN, WIDTH, BLOCK_UNITS, False)
        dh = tl.dot(delta_f.to(weight.dtype.element_ty), weight_f, dh, input_precision=PRECISION)
        if not RESIDENT:
            weight_g = load_block(weight, 2, HIDDEN, WIDTH, BLOCK_UNITS, False)
        dh = tl.dot(delta_g.to(weight.dtype.element_ty), weight_g, dh, input_precision=PRECISION)
        if not RESIDENT:
            weight_o = load_block(weight, 3, HIDDEN, WIDTH, BLOCK_UNITS, False)
        dh = tl.dot(delta_o.to(weight.dtype.element_ty), weight_o, dh, input_precision=PRECISION)
        dh = tl.where(first, 0.0, dh)
        dc = tl.where(first, 0.0, dc)
        store_four(deltas + at, delta_i, delta_f, delta_g, delta_o, inside, HIDDEN)
        c = before
        index -= num_rows
    tl.store(grad_begin + rows[:, None] * HIDDEN + units[None, :], dh, mask=inside)
    tl.store(grad_begin + (rows + num_rows)[:, None] * HIDDEN + units[None, :], dc, mask=inside)


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _wide_forward(
    gates, is_first, weight, extra, begin, hidden, memory, end, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    KEEP: tl.constexpr, PARTS: tl.constexpr, PRECISION: tl.constexpr, PEEPHOLES: tl.constexpr,
):  # fmt: skip
    copy_leaves(begin, end, num_rows, 2, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, PARTS)
    index, _units, _inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)  # t · B + b
    for _ in range(num_steps):
        for part in range(PARTS):
            rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
            p_i, p_f, p_o = _load_peepholes(extra, units, HIDDEN, PEEPHOLES)
            first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
            at = gates + index[:, None] * (4 * HIDDEN) + units[None, :]
            i, f, g, o = load_four(at, inside, HIDDEN)
            i, f, g, o = add_recurrent_sums(
                i, f, g, o, hidden, index, first, weight, num_rows, part,
                4, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, PARTS, PRECISION,
            )  # fmt: skip
            of_h = end + rows[:, None] * HIDDEN + units[None, :]
            of_c = end + (rows + num_rows)[:, None] * HIDDEN + units[None, :]
            c = tl.load(of_c, mask=inside & ~first, other=0.0)
            i, f, g, o, c, h = _advance(i, f, g, o, c, p_i, p_f, p_o, PEEPHOLES)
            tl.store(of_h, h, mask=inside)
            tl.store(of_c, c, mask=inside)
            here = (index + num_rows)[:, None] * HIDDEN + units[None, :]  # After step t.
            tl.store(hidden + here, h, mask=inside)
            if KEEP:
                tl.store(memory + here, c, mask=inside)
                store_four(at, i, f, g, o, inside, HIDDEN)
        index += num_rows
        tl.debug_barrier()


@triton.jit(do_not_specialize=["num_steps", "num_rows"])
def _wide_backward(
    gates, is_first, weight, extra, hidden, memory, grad_outputs, grad_end, deltas, grad_begin, num_steps, num_rows,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr,
    PARTS: tl.constexpr, PRECISION: tl.constexpr, PEEPHOLES: tl.constexpr,
):  # fmt: skip
    copy_leaves(grad_end, grad_begin, num_rows, 2, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, PARTS)
    index, _units, _inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS)
    index += (num_steps - 1).to(tl.int64) * num_rows
    for _ in range(num_steps):
        for part in range(PARTS):
            rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
            p_i, p_f, p_o = _load_peepholes(extra, units, HIDDEN, PEEPHOLES)
            first = tl.load(is_first + index, mask=rows < num_rows, other=1)[:, None] != 0
            here = index[:, None] * HIDDEN + units[None, :]
            at = index[:, None] * (4 * HIDDEN) + units[None, :]
            of_h = grad_begin + rows[:, None] * HIDDEN + units[None, :]
            of_c = grad_begin + (rows + num_rows)[:, None] * HIDDEN + units[None, :]
            c_bar = tl.load(memory + here, mask=inside & ~first, other=0.0)
            c = tl.load(memory + here + num_rows.to(tl.int64) * HIDDEN, mask=inside, other=0.0)
            i, f, g, o = load_four(gates + at, inside, HIDDEN)
            dh = tl.load(of_h, mask=inside, other=0.0) + tl.load(grad_outputs + here, mask=inside, other=0.0)
            dc = tl.load(of_c, mask=inside, other=0.0)
            delta_i, delta_f, delta_g, delta_o, dc = _differentiate(
                dh, dc, i, f, g, o, c, c_bar, p_i, p_f, p_o, PEEPHOLES
            )
            store_four(deltas + at, delta_i, delta_f, delta_g, delta_o, inside, HIDDEN)
            tl.store(of_c, tl.where(first, 0.0, dc), mask=inside)
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


def _peephole_gradient(kept: Kept) -> Tensor:
    """Return dp ``(3, H)``: Σ δi c̄, Σ δf c̄, Σ δo c."""
    before = kept.memory[0, :-1].masked_fill(kept.is_first.unsqueeze(-1), 0.0)
    seen = torch.stack([before, before, kept.memory[0, 1:]], dim=2)  # (T, B, 3, H)
    return (kept.deltas[:, :, [0, 1, 3]].float() * seen).sum((0, 1))


_KERNELS = Kernels(_forward, _backward, _wide_forward, _wide_backward)
_LSTM = Recurrence(_KERNELS, num_gates=4, num_memories=1, constants={"PEEPHOLES": False})
_PEEPHOLE_LSTM = Recurrence(
    _KERNELS, num_gates=4, num_memories=1, extra_gradient=_peephole_gradient, constants={"PEEPHOLES": True}
)
