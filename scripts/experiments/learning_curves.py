"""Keep learning curves as small CSV files, from which pictures are drawn anew.

A file is ``scripts/results/curves/<experiment>.csv``, a row an evaluation. The row of ``learning.csv`` and its curve
are written together; rows that are older than these files have none. An experiment of several stages has the
evaluations of its last one, the only ones of its task, at steps that count those of the earlier stages too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlstm.core.statistics import Floats, Steps
from scripts.results_table import ROOT, read_rows, write_rows

CURVES = ROOT / "scripts" / "results" / "curves"
COLUMNS = ("seed", "step", "eval_return", "eval_success", "training_return")
METRICS = {
    "eval_return": "eval/mean_reward",
    "eval_success": "eval/success_rate",
    "training_return": "rollout/ep_rew_mean",
}
"""Columns of a run's progress, by ours."""

MOST_POINTS = 50
"""Evaluations of a run that are kept at most, evenly spaced, the first and the last among them."""

Point = dict[str, Any]


def evaluations(progress: Sequence[Mapping[str, str]], steps_before: int, seed: int) -> list[Point]:
    """Return the evaluations of a run.

    Args:
        progress: The rows of its progress.
        steps_before: Steps of the stages before it, which are added to its own.
        seed: Of the run.

    Returns:
        Rows by ``COLUMNS``, numbers with 4 significant digits; empty where a metric is not known.
    """
    measured = [row for row in progress if row["eval/mean_reward"]]
    count = len(measured)
    kept = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))
    points: list[Point] = []
    for row in (measured[place] for place in kept):
        values = {name: _number(row.get(column, "")) for name, column in METRICS.items()}
        points.append({"seed": seed, "step": steps_before + int(row["step"]), **values})
    return points


def _number(text: str) -> str:
    return f"{float(text):.4g}" if text else ""


def store(name: str, points: Sequence[Point]) -> None:
    """Write the curve of a run into the file of its experiment, in place of one of the same seed."""
    path = CURVES / f"{name}.csv"
    seeds = {str(point["seed"]) for point in points}
    kept: list[Mapping[str, Any]] = [row for row in read_rows(path) if row["seed"] not in seeds]
    rows = sorted([*kept, *points], key=lambda row: (int(row["seed"]), int(row["step"])))
    write_rows(path, COLUMNS, rows)


def read(name: str, column: str) -> list[tuple[Steps, Floats]]:
    """Return steps ``(N,)`` and values ``(N,)`` of every seed of an experiment that has any in this column."""
    by_seed: dict[str, list[tuple[int, float]]] = {}
    for row in read_rows(CURVES / f"{name}.csv"):
        if row[column]:
            by_seed.setdefault(row["seed"], []).append((int(row["step"]), float(row[column])))
    curves = []
    for pairs in by_seed.values():
        steps, values = zip(*pairs, strict=True)
        curves.append((np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)))
    return curves


def bests(name: str, seeds: Collection[int]) -> dict[int, float]:
    """Return the best mean return of an evaluation of some seeds, of those that have a curve."""
    found: dict[int, float] = {}
    for row in read_rows(CURVES / f"{name}.csv"):
        seed = int(row["seed"])
        if seed in seeds and row["eval_return"]:
            found[seed] = max(found.get(seed, -math.inf), float(row["eval_return"]))
    return found


def curve_files() -> list[Path]:
    """Return the files there are."""
    return sorted(CURVES.glob("*.csv"))
