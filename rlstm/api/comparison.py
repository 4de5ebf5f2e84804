"""How groups of runs compare: who is better and how surely, who is faster, and what each loses without its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlstm.api.curves import Curves, Group
from rlstm.api.finished_runs import evaluate_run
from rlstm.core.statistics import Floats, improvement, improvement_interval, interquartile_mean, interval

_NEAR_THE_BEST = 0.9


@dataclass(frozen=True)
class Ablation:
    """Mean returns of each run of a group with its memory, and with its state reset before every step; (S,) each."""

    intact: Floats
    ablated: Floats

    @property
    def loss(self) -> float:
        """Interquartile mean over seeds of what is lost; each run is compared with itself on the same episodes."""
        return float(interquartile_mean(self.intact - self.ablated))

    @property
    def loss_interval(self) -> tuple[float, float] | None:
        """Its 95 % bootstrap interval; None for a single seed."""
        if len(self.intact) < 2:
            return None
        low, high = interval(self.intact - self.ablated)
        return float(low), float(high)


@dataclass(frozen=True)
class Compared:
    """A group beside the first one."""

    group: Group

    improvement: float | None
    """Probability that a seed of it ends above one of the first group, ties counted half; None for the first."""

    improvement_interval: tuple[float, float] | None
    """Its 95 % bootstrap interval; None unless both groups have more than one seed."""

    steps_to_threshold: int | None


def default_threshold(groups: Sequence[Group]) -> float:
    """Return what lies 90 % of the way from the worst final value of a group to the best."""
    finals = [group.final for group in groups]
    return min(finals) + _NEAR_THE_BEST * (max(finals) - min(finals))


def compare(curves: Curves, threshold: float) -> list[Compared]:
    """Compare the groups with the first by their last values, and find when each line reaches the threshold."""
    first, *others = curves.groups
    found = [Compared(first, None, None, first.reaches(threshold))]
    for group in others:
        several = min(len(group.seeds), len(first.seeds)) > 1
        ends = improvement_interval(group.finals, first.finals) if several else None
        found.append(Compared(group, improvement(group.finals, first.finals), ends, group.reaches(threshold)))
    return found


def ablate(group: Group, episodes: int, *, trust: bool = False) -> Ablation:
    """Evaluate every run of a group with and without its memory, on the same episodes.

    Raises:
        ConfigError: If the number of episodes is out of range.
        CheckpointError, RunDirectoryError: If a run has no checkpoint, or one that is damaged.
    """
    intact, ablated = ([_mean_return(run, episodes, without, trust) for run in group.runs] for without in (False, True))
    return Ablation(np.array(intact), np.array(ablated))


def _mean_return(run: Path, episodes: int, without_memory: bool, trust: bool) -> float:
    return evaluate_run(run, episodes=episodes, ablate_memory=without_memory, trust=trust).mean_return
