"""What the Triton kernels share where more units see each other than one program can hold at once.

Such a program still owns some rows of the batch and one group of units, and runs through all T steps alone, but goes
through the units in ``PARTS`` of ``BLOCK_UNITS``. R does not stay on chip: each pair of parts is loaded when it is
needed, at every step, from the L2 cache if there is room. What is carried from step to step is in buffers instead of
registers: the leaves of the state in ``end``, their gradients in ``grad_begin``, in float32; what enters a product is
read from ``hidden`` and ``deltas``, rounded to the storage type as it would be without parts.

All threads of a program see what others of it have stored after ``tl.debug_barrier()``, and not before. A step has one
forwards, after h of all parts; backwards it has two, after δ of all parts and after dh of all parts::

    forwards     for every part:  gates + h̄ R^T over all parts  ->  h, state  |
    backwards    for every part:  δ  |  for every part:  dh̄ = δ R over all parts  |

Neither the interpreter nor the compiler notices one that is missing; a test follows what is stored and read between.
Between the load of an element and its replacement none is needed: what is stored depends on what was loaded, and a part
has no fewer elements than the program has threads, so that no two threads load the same one.
"""

from __future__ import annotations

from rlstm.kernels.triton.language import tl, triton
from rlstm.kernels.triton.ops import load_block, tile


@triton.jit
def copy_leaves(
    source, target, num_rows,
    LEAVES: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_UNITS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Copy the program's share of ``(LEAVES, B, H)``, and wait until all threads see it."""
    leaf = num_rows.to(tl.int64) * HIDDEN
    for part in range(PARTS):
        rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
        place = rows[:, None] * HIDDEN + units[None, :]
        for _ in range(LEAVES):
            tl.store(target + place, tl.load(source + place, mask=inside, other=0.0), mask=inside)
            place += leaf
    tl.debug_barrier()


@triton.jit
def add_recurrent_sums(
    a, b, c, d, hidden, index, is_reset, weight, num_rows, to_part,
    BLOCKS: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_UNITS: tl.constexpr, PARTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the sums of part ``to_part`` of the units, of ``PARTS``, with R h̄ added, block by block.

    The sums a, b, c, d are ``(BLOCK_ROWS, BLOCK_UNITS)`` float32, and d is returned as it is where ``BLOCKS`` is 3, not
    4. ``hidden`` is ``(T + 1, B, H)``, ``index`` t · B + b, ``(BLOCK_ROWS,)``. Where ``is_reset`` ``(BLOCK_ROWS, 1)``,
    h̄ is 0 and nothing is read. The rest is as in ``tile``.
    """
    for part in range(PARTS):
        _rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
        before = tl.load(hidden + index[:, None] * HIDDEN + units[None, :], mask=inside & ~is_reset, other=0.0)
        weight_a = load_block(weight, 0, HIDDEN, WIDTH, BLOCK_UNITS, True, to_part, part)  # All in flight together.
        weight_b = load_block(weight, 1, HIDDEN, WIDTH, BLOCK_UNITS, True, to_part, part)
        weight_c = load_block(weight, 2, HIDDEN, WIDTH, BLOCK_UNITS, True, to_part, part)
        if BLOCKS == 4:
            weight_d = load_block(weight, 3, HIDDEN, WIDTH, BLOCK_UNITS, True, to_part, part)
        a = tl.dot(before, weight_a, a, input_precision=PRECISION)
        b = tl.dot(before, weight_b, b, input_precision=PRECISION)
        c = tl.dot(before, weight_c, c, input_precision=PRECISION)
        if BLOCKS == 4:
            d = tl.dot(before, weight_d, d, input_precision=PRECISION)
    return a, b, c, d


@triton.jit
def add_recurrent_gradients(
    dh, deltas, index, weight, num_rows, from_part,
    BLOCKS: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_UNITS: tl.constexpr, PARTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return dh̄ of one part of the units with δ R added; ``deltas`` is ``(T, B, 4, H)``, the rest as above."""
    for part in range(PARTS):
        _rows, units, inside = tile(num_rows, HIDDEN, WIDTH, BLOCK_ROWS, BLOCK_UNITS, part)
        at = deltas + index[:, None] * (4 * HIDDEN) + units[None, :]
        weight_a = load_block(weight, 0, HIDDEN, WIDTH, BLOCK_UNITS, False, part, from_part)
        weight_b = load_block(weight, 1, HIDDEN, WIDTH, BLOCK_UNITS, False, part, from_part)
        weight_c = load_block(weight, 2, HIDDEN, WIDTH, BLOCK_UNITS, False, part, from_part)
        if BLOCKS == 4:
            weight_d = load_block(weight, 3, HIDDEN, WIDTH, BLOCK_UNITS, False, part, from_part)
        delta_a = tl.load(at, mask=inside, other=0.0)
        delta_b = tl.load(at + HIDDEN, mask=inside, other=0.0)
        delta_c = tl.load(at + 2 * HIDDEN, mask=inside, other=0.0)
        if BLOCKS == 4:
            delta_d = tl.load(at + 3 * HIDDEN, mask=inside, other=0.0)
        dh = tl.dot(delta_a, weight_a, dh, input_precision=PRECISION)
        dh = tl.dot(delta_b, weight_b, dh, input_precision=PRECISION)
        dh = tl.dot(delta_c, weight_c, dh, input_precision=PRECISION)
        if BLOCKS == 4:
            dh = tl.dot(delta_d, weight_d, dh, input_precision=PRECISION)
    return dh
