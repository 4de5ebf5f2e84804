"""Learning curves of runs, from their ``progress.csv``, grouped by their settings.

    from rlstm.api.curves import read_curves

    for group in read_curves(["runs"]).groups:
        print(group.label, group.final, group.final_interval)

Runs that differ in nothing but their seed and their folder are a group, one curve a seed. The x-axis is environment
steps. The line of a group is the interquartile mean over its seeds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rlstm.api.found_runs import FoundRun, differing, find_runs, pick, telling
from rlstm.api.references import run_references
from rlstm.core.errors import unknown_name
from rlstm.core.statistics import Floats, Steps, align, interquartile_mean, interval
from rlstm.training.config import ConfigError
from rlstm.training.run_directory import RunDirectoryError
from rlstm.vector.references import REFERENCES

EVALUATED, TRAINED = "eval/mean_reward", "rollout/ep_rew_mean"
RETURNS = (EVALUATED, TRAINED)
"""Metrics that are returns of episodes: an env's references can stand next to them."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed, S of them."""

    label: str
    """What tells it apart from the others."""

    settings: Mapping[str, str]
    """The settings that differ among the groups."""

    runs: tuple[Path, ...]
    seeds: tuple[int, ...]

    steps: Steps
    """Environment steps, (N,), that all the runs have reached."""

    values: Floats
    """The metric, (S, N), interpolated between the steps at which it is known."""

    references: Mapping[str, float | None]
    """``memoryless_return`` and ``optimal_return`` of the env, None where unknown."""

    @cached_property
    def line(self) -> Floats:
        """Interquartile mean over seeds, (N,)."""
        return np.asarray(interquartile_mean(self.values, axis=0))

    @cached_property
    def band(self) -> tuple[Floats, Floats] | None:
        """Ends of the 95 % bootstrap interval of the line, (N,) each; None for a single seed."""
        return interval(self.values) if len(self.seeds) > 1 else None

    @property
    def finals(self) -> Floats:
        """The last value of each seed, (S,)."""
        return self.values[:, -1]

    @property
    def final(self) -> float:
        """The last value of the line."""
        return float(self.line[-1])

    @property
    def final_interval(self) -> tuple[float, float] | None:
        """Its 95 % bootstrap interval; None for a single seed."""
        return None if self.band is None else (float(self.band[0][-1]), float(self.band[1][-1]))

    @property
    def highest(self) -> tuple[float, int]:
        """The highest value of the line, and the step where it is first reached."""
        place = int(self.line.argmax())
        return float(self.line[place]), int(self.steps[place])

    def reaches(self, threshold: float) -> int | None:
        """Return the first step at which the line is at the threshold or above, or None."""
        there = np.flatnonzero(self.line >= threshold)
        return int(self.steps[there[0]]) if len(there) else None


@dataclass(frozen=True)
class Curves:
    """One metric of groups of runs on one env."""

    env: str
    metric: str
    groups: tuple[Group, ...]

    notes: tuple[str, ...]
    """Sentences on what a reader must know."""

    @property
    def references(self) -> dict[str, float | None]:
        """The references that the envs of all groups share; None where they don't."""
        found = {name: {group.references[name] for group in self.groups} for name in REFERENCES}
        return {name: next(iter(values)) if len(values) == 1 else None for name, values in found.items()}


def read_curves(
    paths: Iterable[str | os.PathLike[str]],
    metric: str | None = None,
    *,
    by_folder: bool = False,
    trust: bool = False,
) -> Curves:
    """Read runs and group them.

    Args:
        paths: Runs, or folders that are searched for runs. A run that is found there, but has no value of the metric
            yet, is left out with a note.
        metric: A column of ``progress.csv``; by default the return of evaluations where there is any, else that of
            training.
        trust: Import the modules that the runs name, to know the best returns of their env.
        by_folder: Keep the runs of a folder that was searched apart from others like them, if all of them are alike.

    Raises:
        ConfigError: If the runs are of different envs.
        RunDirectoryError: If a run can't be read, or a path holds none with a value of the metric.
        UnknownNameError: If no run has such a metric.
    """
    runs = find_runs(paths)
    envs = sorted({run.env for run in runs})
    if len(envs) > 1:
        raise ConfigError(f"The runs are of different envs: {', '.join(envs)}. Give runs of one env at a time.")
    metric = _choose_metric(runs, metric)
    kept, notes = _with_values(runs, metric)
    kinds: dict[object, list[FoundRun]] = {}
    for run in kept:
        is_alike = len({other.kind for other in kept if other.argument == run.argument}) == 1
        folder = run.argument if by_folder and is_alike and run.argument != run.path else None
        kinds.setdefault((run.kind, folder), []).append(run)
    groups, more = _groups(list(kinds.values()), metric, trust)
    return Curves(envs[0], metric, groups, (*notes, *more))


def _choose_metric(runs: Sequence[FoundRun], metric: str | None) -> str:
    if metric is None:
        return EVALUATED if any(run.columns.get(EVALUATED) for run in runs) else TRAINED
    known = {name for run in runs for name in run.columns}
    if known and metric not in known:
        raise unknown_name("metric", metric, known)
    return metric


def _with_values(runs: Sequence[FoundRun], metric: str) -> tuple[list[FoundRun], list[str]]:
    """Return the runs that have the metric, and a note on those that were found and don't."""
    kept = [run for run in runs if run.columns.get(metric)]
    left = [run for run in runs if not run.columns.get(metric)]
    for run in left:
        if all(other.argument != run.argument for other in kept):
            reason = "nothing was evaluated so far" if metric.startswith("eval/") else "none is logged so far"
            other = "" if metric == TRAINED else f", or take another metric: --metric {TRAINED}"
            raise RunDirectoryError(f"{run.argument} has no value of '{metric}': {reason}. Leave it out{other}.")
    names = ", ".join(str(run.path) for run in left)
    return kept, [f"Left out, because they have no value of '{metric}' so far: {names}."] if left else []


def _groups(kinds: Sequence[Sequence[FoundRun]], metric: str, trust: bool) -> tuple[tuple[Group, ...], list[str]]:
    """Return a group for each kind of runs, and notes."""
    names = differing([runs[0].settings for runs in kinds])
    labels, notes = _labels(kinds, names)
    groups = []
    for label, runs in zip(labels, kinds, strict=True):
        seeds = tuple(run.seed for run in runs)
        twice = sorted({str(seed) for seed in seeds if seeds.count(seed) > 1})
        if twice:
            notes.append(f"{label}: runs of the same seed ({', '.join(twice)}) are not independent of each other.")
        steps, values = _align(label, runs, metric)
        ends = {int(run.curve(metric)[0][-1]) for run in runs}
        if len(ends) > 1:
            notes.append(
                f"{label}: shown up to step {min(ends):,}, which all runs have reached; one is at {max(ends):,}."
            )
        references, complaint = _references(runs[0].path, metric, trust)
        notes += [complaint] if complaint else []
        settings, paths = pick(runs[0].settings, names), tuple(run.path for run in runs)
        groups.append(Group(label, settings, paths, seeds, steps, values, references))
    if len({tuple(group.references.items()) for group in groups}) > 1:
        notes.append("The best return with or without memory is not the same for all groups and is left out.")
    return tuple(groups), list(dict.fromkeys(notes))


def _align(label: str, runs: Sequence[FoundRun], metric: str) -> tuple[Steps, Floats]:
    try:
        return align([run.curve(metric) for run in runs])
    except ValueError as error:
        names = ", ".join(str(run.path) for run in runs)
        raise RunDirectoryError(
            f"{label}: the runs have no steps in common. {error} Leave one out: {names}."
        ) from error


def _references(path: Path, metric: str, trust: bool) -> tuple[dict[str, float | None], str | None]:
    """Return the references of a run's env where the metric is a return, and a note if it can't be made."""
    if metric not in RETURNS:
        return dict.fromkeys(REFERENCES), None
    try:
        return run_references(path, trust=trust), None
    except Exception as error:  # Whatever an env raises.
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return dict.fromkeys(REFERENCES), f"The best returns are left out, because the env can't be made: {reason}."


def _labels(kinds: Sequence[Sequence[FoundRun]], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what tells the groups apart, and a note on the settings that differ too."""
    if len(kinds) == 1:
        first, *others = kinds[0]
        return [first.settings["agent"] if others else first.path.resolve().name], []
    settings = [runs[0].settings for runs in kinds]
    chosen = telling(settings, names)
    labels = [", ".join(f"{name}={value}" for name, value in pick(one, chosen).items()) for one in settings]
    labels = [
        label if labels.count(label) == 1 else f"{label}, {runs[0].argument}".removeprefix(", ")
        for label, runs in zip(labels, kinds, strict=True)
    ]
    also = [name for name in names if name not in chosen]
    return labels, [f"The groups differ in {', '.join(also)} too."] if also else []
