"""Write the tables of learning results in RESULTS.md from the rows of ``scripts/results/learning.csv``.

A group of experiments has a table, and stands between the marks of its section. A line sums up the seeds of an
experiment, or of experiments with the same title; POPGym's table is in ``popgym_table.py``.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np

from rlstm.core.statistics import interquartile_mean, interval
from scripts.experiments import popgym_table
from scripts.experiments.catalogue import EXPERIMENTS, GROUPS, SECTIONS, Experiment
from scripts.results_table import LEAST_SEEDS, PAGE, markdown_table, marked, write_between

HEAD = ("", "solved", "final, IQM [95 % interval]", "worst", "steps to criterion, median", "wall", "steps", "published")

Rows = Sequence[dict[str, str]]


def marks(section: str) -> tuple[str, str]:
    """Return what stands above and below the tables of a section."""
    begin = f"<!-- learning results, {section}: written by scripts/experiments/reproduce.py -->"
    return begin, f"<!-- end of learning results, {section} -->"


def write_page(rows: Rows) -> None:
    """Put the tables between the marks of their sections in RESULTS.md."""
    for section in SECTIONS:
        tables = (table(rows, name) for name, group in GROUPS.items() if group.section == section)
        write_between(PAGE, *marks(section), "\n\n".join(filter(None, tables)))


def table(rows: Rows, group: str) -> str:
    """Return the heading, the command and the Markdown table of a group, or nothing if it has no rows."""
    experiments = {name: one for name, one in EXPERIMENTS.items() if one.group == group}
    used: Rows
    if group == "POPGym":
        cells = popgym_table.cells_of(experiments, rows)
        text, used = popgym_table.table(cells), [row for cell in cells.values() for row in cell.rows]
    else:
        text, used = _table(experiments, rows)
    return f"**{group}**. {GROUPS[group].text} `{command(group, used)}`\n\n{text}" if text else ""


def command(group: str, rows: Rows) -> str:
    """Return the command that repeats the rows of a group."""
    seeds = " ".join(str(seed) for seed in sorted({int(row["seed"]) for row in rows}))
    return f"python -m scripts.experiments.reproduce --group {shlex.quote(group)} --seeds {seeds} --again"


def _table(experiments: dict[str, Experiment], rows: Rows) -> tuple[str, Rows]:
    """Return the Markdown table and the rows that stand in it."""
    lines: list[list[str]] = []
    used: list[dict[str, str]] = []
    for title, experiment in {one.title: one for one in experiments.values()}.items():
        names = {name for name, one in experiments.items() if one.title == title}
        own = [row for row in rows if row["experiment"] in names]
        if own:
            lines.append(_line(experiment, own))
            used += own
    return markdown_table(HEAD, lines), used


def _line(experiment: Experiment, own: Rows) -> list[str]:
    finals = np.array([float(row["final"]) for row in own])
    reached = [int(row["reached_at"]) for row in own if row["reached_at"]]
    seconds = [float(row["seconds_to_criterion"]) for row in own if row["seconds_to_criterion"]]
    solved = sum(row["solved"] == "True" for row in own)
    final = f"{interquartile_mean(finals):.4g}"
    if len(finals) >= LEAST_SEEDS:
        final += " [{:.4g}, {:.4g}]".format(*interval(finals))
    often = len(reached) > len(own) / 2
    totals = sorted({int(row["total_steps"]) for row in own})
    return [
        marked(f"{experiment.title} ({experiment.measure} ≥ {experiment.criterion:g})", own),
        f"{solved} of {len(own)}",
        final,
        f"{finals.min():.4g}",
        f"{np.median(reached):,.0f}" if often else "never",
        f"{np.median(seconds):,.0f} s" if often and len(seconds) == len(reached) else "",
        " to ".join(f"{total:,}" for total in (totals[0], totals[-1])[: len(totals)]),
        experiment.published,
    ]
