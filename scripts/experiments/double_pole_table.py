"""Write the tables of double pole balancing: evaluations until a network passes the tests, ours and published."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scripts.experiments.double_pole_settings import FITNESSES, PUBLISHED
from scripts.results_table import PAGE, markdown_table, marked, write_between

__all__ = ["table", "write_page"]

BEGIN, END = "<!-- double pole: written by scripts/experiments/double_pole.py -->", "<!-- end of double pole -->"
TITLES = {
    "damping": "**Damping fitness**, 1000 steps from 200 of 625 starts, and 100,000 steps",
    "standard": "**Steps balanced**, 100,000 steps",
}
HEAD = ("", "network", "evaluations, mean", "median", "most", "solved", "source")


def table(rows: Sequence[dict[str, str]], fitness: str, least_runs: int = 50) -> str:
    """Return the Markdown table of a fitness, fewest evaluations first; nothing without rows of ours.

    A strategy has a line once it has ``least_runs`` rows: short runs are over first, so fewer would flatter it.
    """
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        if row["fitness"] == fitness:
            groups.setdefault((row["strategy"], row["network"], row["settings"]), []).append(row)
    groups = {key: own for key, own in groups.items() if len(own) >= least_runs}
    if not groups:
        return ""
    lines = [own_line(name, network, own) for (name, network, _), own in groups.items()]
    for one in PUBLISHED[fitness]:
        cells = [one.name, one.network, f"{one.mean:,}", one.median, one.most, one.solved, one.source]
        lines.append((float(one.mean), cells))
    return markdown_table(HEAD, [line for _, line in sorted(lines)])


def own_line(name: str, network: str, rows: Sequence[dict[str, str]]) -> tuple[float, list[str]]:
    """Return the mean evaluations over runs, and the line of a strategy.

    Runs that were given up count with the evaluations until then, so that their mean is a lower bound, marked as such.
    """
    evaluations = np.array([int(row["evaluations"]) for row in rows])
    solved = np.array([row["solved"] == "True" for row in rows])
    bound = "" if solved.all() else "> "
    median = float(np.sort(np.where(solved, evaluations, np.inf))[[(len(rows) - 1) // 2, len(rows) // 2]].mean())
    cells = [
        marked(f"**{name}**", rows),
        network,
        f"{bound}{evaluations.mean():,.0f}",
        f"{median:,.0f}" if np.isfinite(median) else "never",
        f"{bound}{evaluations.max():,}",
        f"{solved.sum()} of {len(rows)}",
        "here",
    ]
    return float(evaluations.mean()), cells


def write_page(rows: Sequence[dict[str, str]]) -> None:
    """Put the tables between their marks in RESULTS.md."""
    tables = [f"{TITLES[fitness]}:\n\n{one}" for fitness in FITNESSES if (one := table(rows, fitness))]
    write_between(PAGE, BEGIN, END, "\n\n".join(tables))
