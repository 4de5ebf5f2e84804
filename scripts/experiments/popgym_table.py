"""Write POPGym's table: a line a task, a column a level, our mean beside what others reached.

The title of an experiment is its task and its level, "RepeatPrevious Hard"; ``published`` has the return of the GRU at
3 million steps and in brackets the best of 13 models at 15 million, "-.470 (.191)", either of which may be missing. If
several experiments have the same title, the last one that has rows stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.experiments import learning_curves
from scripts.experiments.catalogue import Experiment
from scripts.results_table import markdown_table, marked

LEVELS = ("Easy", "Medium", "Hard")
HEAD = ("ours; GRU at 3 million (best of 13 at 15 million)", *LEVELS)

_PUBLISHED = re.compile(r"(?P<gru>-?\d*\.?\d+)?(?:\s*\((?P<best>-?\d*\.?\d+)\))?")
_EQUAL = 1e-9  # A mean of equal numbers may differ from them in its last digit.

Rows = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Cell:
    """What our seeds reached on a task at a level, and what others did."""

    rows: Rows
    gru: float | None
    best: float | None
    bests: tuple[float, ...] = ()
    """The best evaluation of every seed whose curve is kept."""

    @property
    def finals(self) -> list[float]:
        """The last evaluation of every seed."""
        return [float(row["final"]) for row in self.rows]

    def reaches(self, mark: float | None, *, at_best: bool = False) -> bool:
        """Return whether the mean of the seeds, at their end or at their best, is at the mark or above."""
        values = (self.bests or self.finals) if at_best else self.finals
        return mark is not None and float(np.mean(values)) >= mark - _EQUAL

    @property
    def text(self) -> str:
        """Our mean, bold if it reaches the GRU, and the published returns."""
        ours = f"{np.mean(self.finals):.3f}"
        ours = f"**{ours}**" if self.reaches(self.gru) else ours
        best = "" if self.best is None else f"({self.best:.3f})"
        published = " ".join(filter(None, ("" if self.gru is None else f"{self.gru:.3f}", best)))
        return f"{ours}; {published}" if published else ours


def published(text: str) -> tuple[float | None, float | None]:
    """Return the GRU's return at 3 million steps and the best of 13 models at 15 million, None where not known.

    Raises:
        ValueError: If the text is not of this form.
    """
    match = _PUBLISHED.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' must be a return, another one in brackets, or both: '-.470 (.191)'.")
    gru, best = (None if one is None else float(one) for one in match.group("gru", "best"))
    return gru, best


def cells_of(experiments: Mapping[str, Experiment], rows: Rows) -> dict[tuple[str, str], Cell]:
    """Return the cells that have rows, by task and level.

    Raises:
        ValueError: If a title doesn't end in a level.
    """
    cells: dict[tuple[str, str], Cell] = {}
    for name, experiment in experiments.items():
        own = [row for row in rows if row["experiment"] == name]
        task, _, level = experiment.title.rpartition(" ")
        if level not in LEVELS:
            raise ValueError(f"'{experiment.title}' must end in one of {', '.join(LEVELS)}.")
        if own:
            seeds = {int(row["seed"]) for row in own}
            bests = tuple(learning_curves.bests(name, seeds).values())
            cells[task, level] = Cell(own, *published(experiment.published), bests)
    return cells


def table(cells: Mapping[tuple[str, str], Cell]) -> str:
    """Return the Markdown table with the counts below it, or nothing if there are no cells."""
    lines = []
    for task in dict.fromkeys(task for task, _ in cells):
        here = [cells.get((task, level)) for level in LEVELS]
        used = [row for cell in here if cell for row in cell.rows]
        lines.append([marked(task, used), *(cell.text if cell else "" for cell in here)])
    return f"{markdown_table(HEAD, lines)}\n\n{_counts(cells)}" if lines else ""


def reached(cells: Iterable[Cell], *, at_best: bool = False) -> tuple[str, str]:
    """Return how many cells reach the GRU at 3 million steps and the best of 13 models at 15 million: "2 of 5"."""
    cells = list(cells)
    low = [cell.reaches(cell.gru, at_best=at_best) for cell in cells if cell.gru is not None]
    high = [cell.reaches(cell.best, at_best=at_best) for cell in cells if cell.best is not None]
    return f"{sum(low)} of {len(low)}", f"{sum(high)} of {len(high)}"


def _counts(cells: Mapping[tuple[str, str], Cell]) -> str:
    low, high = reached(cells.values())
    seeds = sorted({len(cell.rows) for cell in cells.values()})
    counts = " to ".join(str(count) for count in (seeds[0], seeds[-1])[: len(seeds)])
    text = (
        f"At or above the GRU at 3 million steps: {low} cells. At or above the best of 13 models at 15 million steps: "
        f"{high} cells. Seeds a cell: {counts}."
    )
    if any(cell.bests for cell in cells.values()):
        low, high = reached(cells.values(), at_best=True)
        text += f" By the best evaluation of a run, as published figures are by the best epoch: {low} and {high}."
    split = []
    for (task, level), cell in cells.items():
        above = sum(final >= cell.gru for final in cell.finals) if cell.gru is not None else 0
        if 0 < above < len(cell.rows):
            split.append(f"{task} {level} ({above} of {len(cell.rows)})")
    return f"{text} Seeds on both sides of the GRU's mark, so many at or above: {', '.join(split)}." if split else text
