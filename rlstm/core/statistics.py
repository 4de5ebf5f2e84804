"""Statistics over seeds (Agarwal et al. 2021, arXiv:2108.13264, and its code rliable). Free of torch.

Axes: S seeds come first, ``(S, ...)``, unless said otherwise. Intervals are those between the 2.5 % and the 97.5 %
quantile of 2,000 bootstrap samples, which draw as many seeds as there are, with replacement. They are the same each
time: the draws begin with the seed 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]

_NUM_RESAMPLES = 2000
_QUANTILES = (2.5, 97.5)  # Percent.
MOST_POINTS = 300
"""Points of an aligned curve at most."""


def interquartile_mean(values: Floats, axis: int = -1) -> Any:
    """Return the mean of the middle half, fractions of the outer values counted in part.

    Of 4, 8, ... values it is rliable's; of other numbers, rliable cuts off the next smaller whole number at each end.
    """
    count = values.shape[axis]
    weights = np.clip(np.minimum(np.arange(1, count + 1), np.arange(count, 0, -1)) - count / 4, 0, 1)
    return np.average(np.sort(values, axis=axis), axis=axis, weights=weights)


def interval(values: Floats) -> tuple[Any, Any]:
    """Return the 95 % bootstrap interval of the interquartile mean over seeds.

    Args:
        values: One value a seed, or a curve a seed, ``(S, ...)``.

    Returns:
        The lower and the upper ends, ``(...)``.
    """
    draws = _draws(np.random.default_rng(0), len(values))
    # Column by column: all the samples of a long curve at once would take gigabytes.
    columns = values.reshape(len(values), -1).T
    means = np.stack([interquartile_mean(column[draws]) for column in columns], axis=-1)
    low, high = np.percentile(means, _QUANTILES, axis=0)
    return low.reshape(values.shape[1:])[()], high.reshape(values.shape[1:])[()]


def improvement(values: Floats, baseline: Floats) -> float:
    """Return the probability that a seed of ``values`` (S,) is above one of ``baseline`` (S',); ties count half.

    It is the Mann-Whitney statistic divided by S S', rliable's probability of improvement.
    """
    return float(_wins(values, baseline).mean())


def improvement_interval(values: Floats, baseline: Floats) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of ``improvement``; the seeds of both are drawn, independently."""
    rng = np.random.default_rng(0)
    rows, columns = _draws(rng, len(values)), _draws(rng, len(baseline))
    means = _wins(values, baseline)[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    low, high = np.percentile(means, _QUANTILES)
    return float(low), float(high)


def align(curves: Sequence[tuple[Steps, Floats]]) -> tuple[Steps, Floats]:
    """Interpolate curves to common steps: all steps of all curves, from where the last begins to where the first ends.

    Where they are more than ``MOST_POINTS``, so many evenly spaced steps take their place.

    Args:
        curves: For each seed increasing steps ``(N_s,)``, and values ``(N_s,)``.

    Returns:
        The steps ``(N,)``, and the values ``(S, N)``.

    Raises:
        ValueError: If no step lies within all curves.
    """
    first, last = max(int(steps[0]) for steps, _ in curves), min(int(steps[-1]) for steps, _ in curves)
    if first > last:
        raise ValueError(f"One curve begins at step {first:,}, another ends at step {last:,} already.")
    common = np.unique(np.concatenate([steps for steps, _ in curves]))
    common = common[(common >= first) & (common <= last)]
    if len(common) > MOST_POINTS:
        common = np.linspace(first, last, MOST_POINTS).round().astype(np.int64)
    return common, np.stack([np.interp(common, steps, values) for steps, values in curves])


def _draws(rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Return the seeds of every bootstrap sample, ``(_NUM_RESAMPLES, count)``."""
    return rng.integers(0, count, (_NUM_RESAMPLES, count))


def _wins(values: Floats, baseline: Floats) -> Floats:
    """Return 1, 1/2 or 0 for every pair of seeds, ``(S, S')``."""
    return (1 + np.sign(values[:, None] - baseline[None, :])) / 2
