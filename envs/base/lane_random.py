"""Random numbers for many lanes at once: `LaneRandom`.

A lane is one of the environments of a batch. Each lane owns a 64-bit key and a 64-bit counter, and its n-th random
word is a hash of the two, so that no state is carried from word to word:

    word(key, n) = mix(key XOR mix(n * GOLDEN)),    n = 0, 1, 2, ...

Two things follow. A lane's stream doesn't depend on which other lanes there are, so lane i of a vector environment
draws exactly what a single environment with the same seed draws. And resuming exactly is copying two arrays.

Source: `mix` is the output function of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014, with the constants of Stafford's variant 13). Keys go in between two rounds of it, not as
SplitMix64's seed: as seeds, two keys would be two places on the same sequence, and streams could overlap.
"""

import functools
import math
import operator
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import BoolArray, FloatArray, IntArray

WordArray = npt.NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_FIRST = np.uint64(0xBF58476D1CE4E5B9)
MIX_SECOND = np.uint64(0x94D049BB133111EB)
SHIFT_30, SHIFT_27, SHIFT_31, SHIFT_11 = (np.uint64(bits) for bits in (30, 27, 31, 11))
UNIT_IN_LAST_PLACE = 2.0**-53
LARGEST_INTEGER_RANGE = 2**32


def mix(words: WordArray) -> WordArray:
    """Scramble 64-bit words, one to one, in place, and return the same array."""
    words ^= words >> SHIFT_30
    words *= MIX_FIRST
    words ^= words >> SHIFT_27
    words *= MIX_SECOND
    words ^= words >> SHIFT_31
    return words


class LaneRandom:
    """One independent random stream per lane, drawn for many lanes by whole-array arithmetic.

    In every method `rows` is an integer array of distinct lane numbers, shape (R,), and only these lanes' streams
    advance.

    Attributes:
        keys: (num_lanes,) what tells one stream from another.
        counters: (num_lanes,) how many words each lane has drawn since it was seeded.
        seeded: (num_lanes,) whether the lane has been given a seed (or a state).
    """

    def __init__(self, num_lanes: int) -> None:
        self.keys: WordArray = np.zeros(num_lanes, dtype=np.uint64)
        self.counters: WordArray = np.zeros(num_lanes, dtype=np.uint64)
        self.seeded: BoolArray = np.zeros(num_lanes, dtype=np.bool_)

    def seed(self, rows: Sequence[int] | IntArray, seeds: Sequence[int]) -> None:
        """Start the streams of `rows` afresh, one seed (an integer >= 0) each.

        Raises:
            ValueError: A seed is negative or not an integer.
        """
        for row, seed in zip(rows, seeds, strict=True):
            self.keys[row] = np.random.SeedSequence(_checked_seed(seed)).generate_state(1, np.uint64)[0]
            self.counters[row] = 0
            self.seeded[row] = True

    def seed_lanes(self, seeds: Sequence[int | None], entropy: np.random.Generator) -> None:
        """Seed all lanes the way a reset does.

        Args:
            seeds: One entry per lane. None lets a lane go on with its stream.
            entropy: Where a lane that gets None, and never had a seed, takes its seed from.
        """
        for row, seed in enumerate(seeds):
            if seed is not None:
                self.seed([row], [seed])
            elif not self.seeded[row]:
                self.seed([row], [int(entropy.integers(2**63))])

    def words(self, rows: IntArray, size: tuple[int, ...] = ()) -> WordArray:
        """Return the next prod(size) words of each lane in `rows`, (R, *size)."""
        num_draws, offsets = _offsets(size)
        first, keys = self.counters[rows], self.keys[rows]
        self.counters[rows] = first + num_draws
        if size:
            shape = (-1, *(1,) * len(size))
            first, keys = first.reshape(shape), keys.reshape(shape)
        index = first + offsets
        index *= GOLDEN
        mix(index)
        index ^= keys
        return mix(index)

    def uniform(self, rows: IntArray, size: tuple[int, ...] = ()) -> FloatArray:
        """Draw uniformly on [0, 1), multiples of 2**-53, (R, *size)."""
        words = self.words(rows, size)
        words >>= SHIFT_11
        return words.astype(np.float64) * UNIT_IN_LAST_PLACE

    def integers(self, rows: IntArray, high: int, size: tuple[int, ...] = ()) -> IntArray:
        """Draw uniformly on 0, ..., high - 1, (R, *size); probabilities are off by less than high * 2**-53.

        Raises:
            ValueError: `high` is outside 1 ... 2**32.
        """
        if not 1 <= high <= LARGEST_INTEGER_RANGE:
            raise ValueError(f"high is {high}, but integers are drawn from 0 ... high - 1 with 1 <= high <= 2**32.")
        return (self.uniform(rows, size) * high).astype(np.int64)

    def normal(self, rows: IntArray, size: tuple[int, ...] = ()) -> FloatArray:
        """Draw standard normal numbers by Box and Muller's transform, two words each, (R, *size)."""
        pairs = self.uniform(rows, (*size, 2))
        # 1 - u is in (0, 1], where the logarithm is finite.
        radii = np.sqrt(-2.0 * np.log1p(-pairs[..., 0]))
        return np.asarray(radii * np.cos(2.0 * np.pi * pairs[..., 1]), dtype=np.float64)

    def permutation(self, rows: IntArray, length: int) -> IntArray:
        """Return a random order of 0, ..., length - 1 for each lane, (R, length)."""
        return np.argsort(self.words(rows, (length,)), axis=-1, kind="stable")

    def get_state(self) -> dict[str, WordArray]:
        """Return copies of the keys and the counters, all that the streams depend on."""
        return {"random_keys": self.keys.copy(), "random_counters": self.counters.copy()}

    def set_state(self, state: dict[str, WordArray]) -> None:
        """Go on exactly where the streams stood when `get_state` was called."""
        self.keys[:] = state["random_keys"]
        self.counters[:] = state["random_counters"]
        self.seeded[:] = True


@functools.cache
def _offsets(size: tuple[int, ...]) -> tuple[np.uint64, WordArray]:
    """Return the number of words of one lane's draw, and how far each is from the first, (*size)."""
    num_draws = math.prod(size)
    return np.uint64(num_draws), np.arange(num_draws, dtype=np.uint64).reshape(size)


def _checked_seed(seed: int) -> int:
    try:
        value = operator.index(seed)
    except TypeError:
        value = -1
    if value < 0:
        raise ValueError(f"A seed must be an integer >= 0, but got {seed!r}.")
    return value
