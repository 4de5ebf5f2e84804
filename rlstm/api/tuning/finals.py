"""The final round: the best trials and the settings that the search began with, again on fresh seeds.

A search takes the best of many noisy values, so the value of its best trial is too high, and a lucky seed may have made
it the best. Fresh seeds, the same for all finalists, tell how good settings are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlstm.api.tuning.plan import Plan
from rlstm.api.tuning.records import Record


@dataclass(frozen=True)
class Finalist:
    """Settings, and what they reached on the fresh seeds."""

    trial: int | None
    """The trial that found them; None for the settings that the search began with."""

    values: dict[str, Any]
    """The searched settings."""

    search_value: float | None
    """The value of that trial."""

    seeds: tuple[int, ...]
    returns: tuple[float | None, ...]
    """Mean return of the evaluation at the end, for each seed; None if the run failed."""

    steps: tuple[int, ...] = ()
    """Environment steps that each run took."""

    seconds: tuple[float, ...] = ()
    """Wall time of each."""

    def on(self) -> str:
        """Return which seeds they are, in words."""
        first, *others = self.seeds
        return f"seeds {first} to {others[-1]}" if others else f"seed {first}"

    @property
    def mean(self) -> float | None:
        """The mean over the seeds; None if a run failed."""
        kept = [value for value in self.returns if value is not None]
        return statistics.fmean(kept) if kept and len(kept) == len(self.returns) else None

    @property
    def error(self) -> float | None:
        """The standard error of the mean; None for a single seed."""
        kept = [value for value in self.returns if value is not None]
        return None if self.mean is None or len(kept) < 2 else statistics.stdev(kept) / math.sqrt(len(kept))


@dataclass(frozen=True)
class Comparison:
    """A finalist beside the settings that the search began with."""

    difference: float
    error: float | None
    """Standard error of the difference; None for a single seed."""

    @property
    def is_clear(self) -> bool:
        """Whether the difference is more than twice its standard error."""
        return self.error is not None and abs(self.difference) > 2 * self.error


def candidates(plan: Plan, trials: Sequence[Record]) -> list[Record | None]:
    """Return the best trials, the best first, and None for the settings that the search began with."""
    done = [one for one in trials if one.outcome == "done" and not one.is_start]
    best = sorted(done, key=lambda one: (-(one.value or 0.0), one.number))
    return [*best[: plan.options.finalists], None]


def planned_runs(plan: Plan, trials: Sequence[Record]) -> list[tuple[int | None, int]]:
    """Return the candidate and the seed of every run of the final round; one seed after the other."""
    seeds = range(plan.options.final_seeds)
    names = [None if one is None else one.number for one in candidates(plan, trials)]
    return [(name, plan.final_seed(index)) for index in seeds for name in names]


def finalists(plan: Plan, trials: Sequence[Record], runs: Sequence[Record]) -> list[Finalist]:
    """Return the finalists, the winner first: the best mean; a failed run loses, of equals the start wins."""
    played = {(run.candidate, run.seed): run for run in runs if run.outcome in ("done", "failed")}
    starts = [one.value for one in trials if one.is_start and one.outcome == "done"]
    found = []
    for one in candidates(plan, trials):
        number = None if one is None else one.number
        seeds = tuple(plan.final_seed(index) for index in range(plan.options.final_seeds))
        own = [played.get((number, seed)) for seed in seeds]
        found.append(
            Finalist(
                trial=number,
                values=plan.values() if one is None else one.values,
                search_value=one.value if one is not None else next(iter(starts), None),
                seeds=seeds,
                returns=tuple(None if run is None else run.value for run in own),
                steps=tuple(0 if run is None else run.steps for run in own),
                seconds=tuple(0.0 if run is None else run.seconds for run in own),
            )
        )
    return sorted(found, key=lambda one: (-math.inf if one.mean is None else one.mean, one.trial is None), reverse=True)


def compare(one: Finalist, start: Finalist) -> Comparison | None:
    """Compare a finalist with the start; None if a run of either failed."""
    if one.mean is None or start.mean is None:
        return None
    errors = (one.error, start.error)
    error = None if None in errors else math.hypot(*(error or 0.0 for error in errors))
    return Comparison(one.mean - start.mean, error)
