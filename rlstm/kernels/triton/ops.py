"""What the Triton kernels share: the tile of a program, logistic function and tanh, four gates, blocks of weights.

Imported by the kernels alone, never before Triton is asked for. Nothing of ``triton.language.standard`` is used: its
functions are compiled or interpreted for good when Triton is first imported, those here when a kernel is.
"""

from __future__ import annotations

from rlstm.kernels.triton.language import tl, triton


@triton.jit
def logistic(x):
    """Return σ(x); exact 0 and 1 far out, and no overflow matters on the way."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):
    """Return the hyperbolic tangent as 2 σ(2x) - 1, right to 1e-7."""
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@triton.jit
def log_logistic(x):
    """Return log σ(x) without overflow."""
    return tl.minimum(x, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def tile(
    num_rows, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_UNITS: tl.constexpr, part=0
):
    """Return the rows of a program, int64, its units, and where both exist, ``(BLOCK_ROWS, BLOCK_UNITS)``.

    The first axis of the grid counts blocks of rows, the second groups of ``WIDTH`` units that don't mix. A group wider
    than ``BLOCK_UNITS`` is gone through in parts.
    """
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    lane = part * BLOCK_UNITS + tl.arange(0, BLOCK_UNITS)
    units = tl.program_id(1) * WIDTH + lane
    inside = (rows < num_rows)[:, None] & ((lane < WIDTH) & (units < HIDDEN))[None, :]
    return rows, units, inside


@triton.jit
def load_four(at, inside, apart):
    """Return four blocks that lie ``apart``, in float32."""
    a = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(at + apart, mask=inside, other=0.0).to(tl.float32)
    c = tl.load(at + 2 * apart, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(at + 3 * apart, mask=inside, other=0.0).to(tl.float32)
    return a, b, c, d


@triton.jit
def store_four(at, a, b, c, d, inside, apart):
    """Store four blocks ``apart``."""
    tl.store(at, a, mask=inside)
    tl.store(at + apart, b, mask=inside)
    tl.store(at + 2 * apart, c, mask=inside)
    tl.store(at + 3 * apart, d, mask=inside)


@triton.jit
def load_block(
    weight,
    block: tl.constexpr, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, TURN: tl.constexpr,
    to_part=0, from_part=0,
):  # fmt: skip
    """Return the weights R ``(WIDTH, WIDTH)`` of one gate and one group of units, padded with zeros to ``BLOCK``.

    All weights are ``(gates·HIDDEN, WIDTH)``, and ``block`` is the gate. With ``TURN`` the transpose is returned, for
    δa = h R^T; without it R is for dh = δ R. ``BLOCK`` is a power of 2; below ``WIDTH`` a part of the weights is
    returned, ``(BLOCK, BLOCK)``: from those units that are read to those that are written to, the rows of R.
    """
    one = tl.arange(0, BLOCK)[:, None]
    other = tl.arange(0, BLOCK)[None, :]
    to_unit = to_part * BLOCK + (other if TURN else one)
    from_unit = from_part * BLOCK + (one if TURN else other)
    offsets = (block * HIDDEN + tl.program_id(1) * WIDTH + to_unit) * WIDTH + from_unit
    return tl.load(weight + offsets, mask=(to_unit < WIDTH) & (from_unit < WIDTH), other=0.0)


@triton.jit
def load_four_blocks(weight, HIDDEN: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, TURN: tl.constexpr):
    """Return the weights of four gates and one group of units."""
    a = load_block(weight, 0, HIDDEN, WIDTH, BLOCK, TURN)
    b = load_block(weight, 1, HIDDEN, WIDTH, BLOCK, TURN)
    c = load_block(weight, 2, HIDDEN, WIDTH, BLOCK, TURN)
    d = load_block(weight, 3, HIDDEN, WIDTH, BLOCK, TURN)
    return a, b, c, d
