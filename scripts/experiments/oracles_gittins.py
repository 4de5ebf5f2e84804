"""Gittins indices of Bernoulli arms with a uniform prior, by calibration.

The index of an arm is the sure reward a pull that makes one indifferent between pulling the arm, with the right to stop
at any time, and that reward. Calibration (J. C. Gittins, "Multi-armed Bandit Allocation Indices", 1989, chapter 7; J.
Chakravorty and A. Mahajan, "Multi-Armed Bandits, Gittins Index, and Its Calculation", 2014, section 24.3) finds it by
dynamic programming over the counts for many such rewards, levels, at once.

With m pulls made, a of them paid, s pulls left, p = (a + 1) / (m + 2), discount d and level l:

    C(a, m, s; l) = p - l + d (p V(a + 1, m + 1, s - 1; l) + (1 - p) V(a, m + 1, s - 1; l)),
    V = max(C, 0), and 0 where s = 0,

and the index is the level where C is 0. C is convex and falling in l, so between two levels it is interpolated. Only
counts with the same N = m + s depend on each other. Without a discount the horizon bounds the sums; the policy that
pulls the arm of the highest index then is a very good one, but no longer optimal.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

NUM_LEVELS = 101


def gittins_indices(total: int, discount: float = 1.0, num_levels: int = NUM_LEVELS) -> list[FloatArray]:
    """Return the indices of an arm that is pulled ``total`` times at most.

    Args:
        total: N >= 1, the pulls made and those left.
        discount: d, in (0, 1].
        num_levels: Between 0 and 1.

    Returns:
        For every number m of pulls made, 0 to N - 1, the indices by how many of them paid, (m + 1,).
    """
    levels = np.linspace(0.0, 1.0, num_levels)
    values = np.zeros((num_levels, total + 1))  # V of m + 1 pulls made, by level and how many of them paid.
    indices: list[FloatArray] = []
    for pulls in range(total - 1, -1, -1):
        chances = np.arange(1, pulls + 2) / (pulls + 2)
        # p V(a + 1) + (1 - p) V(a), written so that nothing is computed twice.
        later = values[:, :-1] + chances * (values[:, 1:] - values[:, :-1])
        continuing = discount * later
        continuing += chances
        continuing -= levels[:, None]
        indices.append(_roots(continuing, levels))
        values = np.maximum(continuing, 0.0, out=continuing)
    return indices[::-1]


def _roots(heights: FloatArray, levels: FloatArray) -> FloatArray:
    """Return the level at which each column of ``heights`` (levels, K), falling from above 0 to below, is 0: (K,)."""
    below = (heights > 0.0).sum(axis=0)
    columns = np.arange(heights.shape[1])
    above, under = heights[below - 1, columns], heights[below, columns]
    roots: FloatArray = levels[below - 1] + (levels[below] - levels[below - 1]) * above / (above - under)
    return roots


class GittinsTable:
    """All indices that a trial of ``num_pulls`` pulls without a discount can need, packed: about n³ / 6 numbers.

    Args:
        num_pulls: n.
    """

    def __init__(self, num_pulls: int) -> None:
        self.num_pulls = num_pulls
        rows = [row for total in range(1, num_pulls + 1) for row in gittins_indices(total)]
        self._packed = np.concatenate(rows).astype(np.float32)

    def look_up(self, successes: npt.NDArray[np.int64], pulls: npt.NDArray[np.int64], pulls_left: int) -> FloatArray:
        """Return the indices of arms, in the shape of their counts.

        Args:
            successes: a, how often an arm has paid.
            pulls: m, how often it was pulled; together with those left n at most.
            pulls_left: s >= 1.
        """
        totals = pulls + pulls_left
        firsts = (totals - 1) * totals * (totals + 1) // 6  # Numbers packed for smaller totals.
        found: FloatArray = self._packed[firsts + pulls * (pulls + 1) // 2 + successes].astype(np.float64)
        return found


@functools.lru_cache(maxsize=1)
def gittins_table(num_pulls: int) -> GittinsTable:
    """Return the table for trials of ``num_pulls`` pulls; the latest one is kept."""
    return GittinsTable(num_pulls)
