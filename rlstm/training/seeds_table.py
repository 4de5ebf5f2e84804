"""How several seeds show themselves while they train: a table on a terminal, lines elsewhere, or nothing; on stderr.

What a seed has reached is read from its ``progress.csv``, which its process writes: `ProgressTail` reads what is new.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlstm.core.number_text import number, percent
from rlstm.training.progress import UI, RichProgress, make_progress

State = Literal["waiting", "training", "done", "failed", "stopped"]
COLUMNS = ("seed", "steps", "steps/s", "return", "success", "evaluation", "state")
_COLOURS = {"training": "cyan", "done": "green", "failed": "red", "stopped": "yellow"}
_TENTHS = 10  # Of all steps, at each of which a plain line is due.


@dataclass
class Row:
    """What is known about one seed."""

    seed: int
    state: State = "waiting"
    steps: int = 0
    total_steps: int = 0
    steps_per_second: float | None = None
    mean_return: float | None = None
    success_rate: float | None = None
    eval_return: float | None = None
    error: str | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the columns."""
        return (
            str(self.seed),
            f"{self.steps:,} / {self.total_steps:,}",
            number(self.steps_per_second, unknown=""),
            number(self.mean_return, unknown=""),
            percent(self.success_rate, unknown=""),
            number(self.eval_return, unknown=""),
            self.state,
        )


class ProgressTail:
    """The last known value of every metric in a ``progress.csv`` that another process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, float] = {}
        self._place, self._file, self._columns = 0, 0, [""]

    def read(self) -> dict[str, float]:
        """Read the rows that are new; a file that was replaced is read anew, a missing one leaves all as it was."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                columns = file.readline().decode("utf-8", "replace").rstrip("\n").split(",")
                # A number of a file may be given again, so its header counts too.
                if (status.st_ino, columns) != (self._file, self._columns) or status.st_size < self._place:
                    self._file, self._columns = status.st_ino, columns
                    self.values, self._place = {}, file.tell()
                file.seek(self._place)
                content = file.read()
        except OSError:
            return self.values
        whole = content[: content.rfind(b"\n") + 1]
        self._place += len(whole)
        for cells in csv.reader(whole.decode("utf-8", "replace").splitlines()):
            self.values |= _numbers(self._columns, cells)
        return self.values

    def update(self, row: Row) -> None:
        """Bring a row up to date."""
        known = self.read()
        row.steps = int(known.get("step", row.steps))
        if known.get("time/time_elapsed"):
            row.steps_per_second = row.steps / known["time/time_elapsed"]
        row.mean_return = known.get("rollout/ep_rew_mean", row.mean_return)
        row.success_rate = known.get("rollout/success_rate", row.success_rate)
        row.eval_return = known.get("eval/mean_reward", row.eval_return)


def _numbers(columns: Sequence[str], cells: Sequence[str]) -> dict[str, float]:
    found = {}
    for name, cell in zip(columns, cells, strict=False):
        try:
            value = float(cell)
        except ValueError:
            continue
        if math.isfinite(value):
            found[name] = value
    return found


class SeedsDisplay:
    """Prints a line when the state of a seed changes, and at each tenth of its steps."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._shown: dict[int, tuple[str, int]] = {}

    def show(self, rows: Sequence[Row]) -> None:
        """Take what is known about all seeds."""
        for row in rows:
            state = row.state, _TENTHS * row.steps // max(1, row.total_steps) if row.state == "training" else 0
            if self._shown.get(row.seed, ("waiting", 0)) != state:
                self._shown[row.seed] = state
                self.message(_line(row))

    def message(self, text: str) -> None:
        """Show a line of text without disturbing the display."""
        self.console.print(Text(text), soft_wrap=True)


def _line(row: Row) -> str:
    known = {
        "{} steps/s": number(row.steps_per_second, unknown=""),
        "return {}": number(row.mean_return, unknown=""),
        "success {}": percent(row.success_rate, unknown=""),
        "evaluation {}": number(row.eval_return, unknown=""),
    }
    facts = [form.format(text) for form, text in known.items() if text]
    error = [] if row.error is None else [row.error]
    return " | ".join([f"seed {row.seed}: {row.state}", f"step {row.steps:,}/{row.total_steps:,}", *facts, *error])


class LiveSeedsDisplay(SeedsDisplay):
    """Draws the table at the bottom of a terminal; where the answer follows on the same, the table makes room."""

    def __init__(self, console: Console, live: Live) -> None:
        super().__init__(console)
        self._live = live

    def show(self, rows: Sequence[Row]) -> None:
        """Draw what is known about all seeds."""
        self._live.update(draw(rows))


def draw(rows: Sequence[Row]) -> Table:
    """Return the table of the seeds."""
    drawn = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in COLUMNS:
        drawn.add_column(title, justify="left" if title == "state" else "right", no_wrap=True)
    for row in rows:
        *cells, state = row.cells()
        drawn.add_row(*cells, Text(state, _COLOURS.get(state, "dim")))
    return drawn


@contextmanager
def seeds_display(ui: UI, console: Console | None = None) -> Iterator[SeedsDisplay]:
    """Give the display that ``ui`` names; see ``make_progress``.

    Raises:
        ValueError: `ui` is none of these.
    """
    console = Console(stderr=True) if console is None else console
    if isinstance(make_progress(ui, console=console), RichProgress):
        with Live(console=console, refresh_per_second=4, transient=os.isatty(1), redirect_stdout=False) as live:
            yield LiveSeedsDisplay(console, live)
    else:
        yield SeedsDisplay(Console(quiet=True) if ui == "none" else console)
