"""How a run shows itself while it trains: a live display on a terminal, lines elsewhere, or nothing. Always on stderr.

If stderr can't be written any more, as after `2>&1 | head -1` or when a terminal is closed, the run goes on unseen.

Conventions: steps are environment steps. `phase_seconds` are totals and metrics the latest values, not increments, so
it doesn't matter how often `update` is called or anything is drawn.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Literal, Self, get_args

from rich import progress as bars
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rlstm.core.streams import SteadyStream

UI = Literal["auto", "rich", "plain", "none"]

_RETURN = "rollout/ep_rew_mean"
_PLAIN_NAMES = {_RETURN: "return", "rollout/success_rate": "success", "eval/mean_reward": "eval return"}
_PREFIXES = ("rollout", "eval", "evolino", "teacher", "train", "recurrent")  # The order in which metrics are shown.
_HIDDEN_PREFIX = "time/"  # Shown in the other panels already.
_LINE_SECONDS, _LINE_FRACTION = 5.0, 0.05  # A plain line is due after so many seconds, or so much of all steps.
_RATE_SECONDS = 30.0  # Speed is measured over the last so many seconds, and over one update at least.
_MAX_HISTORY = 512
_BARS = "▁▂▃▄▅▆▇█"
_STEPS = "{task.percentage:.0f} %  {task.completed:,} / {task.total:,} steps"
_TIMES = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
_WIDTH = 120  # Of a line of facts that is not on a terminal, unless a fact alone is longer.


class _Status:
    """What is known about the run, for either display."""

    def __init__(
        self, summary: Mapping[str, str], total_steps: int, initial_step: int, clock: Callable[[], float]
    ) -> None:
        self.summary = dict(summary)
        self.metrics: dict[str, float] = {}
        self.phase_seconds: dict[str, float] = {}
        self.returns: list[float] = []
        self.bar = bars.Progress(bars.BarColumn(None), bars.TextColumn(_STEPS), expand=True, get_time=clock)
        self.bar.add_task("", total=total_steps, completed=initial_step)
        (self.task,) = self.bar.tasks
        self._updated = clock()
        self.bar.advance(self.task.id, 0)  # Steps done before are no speed of this process.

    def update(self, step: int, metrics: Mapping[str, float | None], phase_seconds: Mapping[str, float]) -> None:
        now = self.task.get_time()
        self.bar.speed_estimate_period = max(_RATE_SECONDS, now - self._updated)
        self.bar.advance(self.task.id, step - self.task.completed)
        self._updated, self.phase_seconds = now, dict(phase_seconds)
        self.metrics |= {name: float(value) for name, value in metrics.items() if value is not None}
        mean_return = metrics.get(_RETURN)
        if mean_return is not None and math.isfinite(mean_return):
            self.returns.append(float(mean_return))
        if len(self.returns) > _MAX_HISTORY:
            self.returns = [
                (one + other) / 2 for one, other in zip(self.returns[::2], self.returns[1::2], strict=False)
            ]

    def speed(self) -> list[str]:
        """Return the steps per second, the time so far, and the time left."""
        elapsed, left = (column.render(self.task) for column in _TIMES)
        return [f"{self.task.speed or 0:,.0f} steps/s", f"elapsed {elapsed}", f"left {left}"]


class Progress:
    """Prints a line at the start, at the end, and about every 5 seconds or 5 % of the steps, whichever comes first.

    As a context manager it closes itself, which restores the terminal, also after Ctrl-C.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._status: _Status | None = None
        self._printed: tuple[float, int] | None = None  # Time and step of the last line.

    def start(self, summary: Mapping[str, str], total_steps: int, initial_step: int = 0) -> None:
        """Begin: what is trained (env, agent, cell, run dir, ...), how many steps in total, how many done before."""
        self._status, self._printed = _Status(summary, total_steps, initial_step, self._clock), None
        line = ""
        for fact in (*(f"{key} {value}" for key, value in summary.items()), f"{total_steps:,} steps"):
            if line and len(line) + len(fact) + 3 > _WIDTH:
                self.message(line)
                line = ""
            line = f"{line} | {fact}" if line else fact
        self.message(line)

    def update(self, step: int, metrics: Mapping[str, float | None], phase_seconds: Mapping[str, float]) -> None:
        """Take the steps so far, the newest metrics (others keep their value) and the total seconds of each phase."""
        status = self._status
        if status is None:
            return
        status.update(step, metrics, phase_seconds)
        if self._printed is not None and not status.task.finished:
            then, printed_step = self._printed
            if self._clock() - then < _LINE_SECONDS and step - printed_step < _LINE_FRACTION * (status.task.total or 0):
                return
        self._print_line(status)

    def _print_line(self, status: _Status) -> None:
        task = status.task
        self._printed = (self._clock(), int(task.completed))
        known = [
            f"{name} {_number(status.metrics[metric])}"
            for metric, name in _PLAIN_NAMES.items()
            if metric in status.metrics
        ]
        head = f"step {task.completed:,}/{task.total:,} ({task.percentage:.0f} %)"
        self.message(" | ".join([head, *known, *status.speed()]))

    def message(self, text: str) -> None:
        """Show a line of text without disturbing the display."""
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        """Show the last state and give the terminal back; a second call does nothing."""
        status, self._status = self._status, None
        if status is not None and self._printed is not None and self._printed[1] != status.task.completed:
            self._print_line(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class RichProgress(Progress):
    """Draws panels four times a second at the bottom of a terminal; what others print scrolls by above them."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock)
        self._live: Live | None = None
        self._lock = threading.Lock()  # Drawing happens in a thread of its own.

    def start(self, summary: Mapping[str, str], total_steps: int, initial_step: int = 0) -> None:
        """Begin to draw."""
        self.close()
        self._status = _Status(summary, total_steps, initial_step, self._clock)
        # What is printed to stdout joins the display only if it goes to the same terminal; a pipe gets it untouched.
        same_terminal = os.isatty(1) and os.isatty(2)
        self._live = Live(
            get_renderable=self._render, console=self._console, refresh_per_second=4, redirect_stdout=same_terminal
        )
        self._live.start()

    def update(self, step: int, metrics: Mapping[str, float | None], phase_seconds: Mapping[str, float]) -> None:
        """Take the news; they are drawn when their time comes."""
        with self._lock:
            if self._status is not None:
                self._status.update(step, metrics, phase_seconds)

    def close(self) -> None:
        """Draw the last state, which stays, and show the cursor again."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _render(self) -> RenderableType:
        with self._lock:
            return Text() if self._status is None else render(self._status, *self._console.size)


def make_progress(
    ui: UI = "auto", *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
) -> Progress:
    """Choose the display.

    Args:
        ui: "rich" is the live display, "plain" a line from time to time, "none" silence (no messages either); "auto" is
            "rich" on a terminal outside continuous integration. "rich" becomes "plain" where nothing can be drawn.
        console: Where to draw; stderr by default.
        clock: Returns seconds; only differences count.

    Raises:
        ValueError: `ui` is none of these.
    """
    if ui not in get_args(UI):
        raise ValueError(f"ui is {ui!r}, which is none of {', '.join(get_args(UI))}.")
    if ui == "none":
        return Progress(Console(quiet=True), clock)
    console = Console(file=SteadyStream(sys.stderr)) if console is None else console  # type: ignore[arg-type]
    can_draw = console.is_terminal and not console.is_dumb_terminal and not console.is_jupyter
    can_draw = can_draw and console.encoding.lower().startswith("utf")
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    is_live = can_draw and (ui == "rich" or (ui == "auto" and not in_ci))
    return RichProgress(console, clock) if is_live else Progress(console, clock)


def render(status: _Status, width: int, height: int) -> RenderableType:
    """Build the three panels, no wider and no higher than the terminal."""
    inner = width - 4  # Within a border and one column of space on either side.
    speed = _fit("   ".join(status.speed()), inner)
    lines: list[RenderableType] = [*_fact_lines(status.summary, inner), status.bar, speed]
    if status.returns:
        label = f"mean return {_number(status.returns[-1])}  "
        curve = sparkline(status.returns, max(0, inner - len(label)))
        lines.append(Text.assemble(label, (curve, "green"), no_wrap=True, overflow="crop"))
    top = Panel(Group(*lines), title="rlstm", title_align="left", border_style="cyan")
    rows = height - (len(lines) + 2) - 3
    if rows < 1:
        return top
    phases, metrics = _phase_rows(status), _metric_rows(status.metrics, rows)
    rows = min(rows, max(len(phases), len(metrics), 1))
    bottom = Table.grid(expand=True)
    bottom.add_column(ratio=2)
    bottom.add_column(ratio=3)
    bottom.add_row(_panel("time", phases[:rows], rows), _panel("metrics", metrics, rows))
    return Group(top, bottom)


def _panel(title: str, rows: Sequence[Sequence[str]], num_rows: int) -> Panel:
    table = Table.grid(expand=True, padding=(0, 2, 0, 0))
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    return Panel(table, title=title, title_align="left", border_style="cyan", height=num_rows + 2)


def _phase_rows(status: _Status) -> list[tuple[str, str, str]]:
    measured = sum(status.phase_seconds.values())
    elapsed = max(status.task.elapsed or 0.0, measured, 1e-9)
    phases = status.phase_seconds | {"other": elapsed - measured}
    return [
        (name, str(timedelta(seconds=round(seconds))).removeprefix("0:"), f"{100 * seconds / elapsed:.0f} %")
        for name, seconds in phases.items()
    ]


def _metric_rows(metrics: Mapping[str, float], max_rows: int) -> list[tuple[str, str]]:
    def rank(name: str) -> int:
        prefix = name.split("/")[0]
        return _PREFIXES.index(prefix) if prefix in _PREFIXES else len(_PREFIXES)

    names = sorted((name for name in metrics if not name.startswith(_HIDDEN_PREFIX)), key=rank)
    rows = [(name, _number(metrics[name])) for name in names]
    return rows if len(rows) <= max_rows else [*rows[: max_rows - 1], (f"and {len(rows) - max_rows + 1} more", "")]


def _fact_lines(summary: Mapping[str, str], width: int) -> list[Text]:
    """Lay the summary out in two columns; what is too long for a column has a line of its own."""
    key_width = max((cell_len(key) for key in summary), default=0) + 2
    half = width // 2
    lines: list[Text] = []
    for key, value in summary.items():
        fact = Text.assemble((key.ljust(key_width), "bold"), _clip(value, width - key_width))
        is_short = fact.cell_len < half
        if is_short and lines and lines[-1].cell_len == half:
            lines[-1].append(fact)
            continue
        if is_short:
            fact.align("left", half)
        lines.append(fact)
    return [_fit(line, width) for line in lines]


def _fit(text: str | Text, width: int) -> Text:
    fitted = Text(text, no_wrap=True) if isinstance(text, str) else text
    fitted.truncate(max(width, 1), overflow="ellipsis")
    fitted.no_wrap = True
    return fitted


def _clip(value: str, width: int) -> str:
    """Shorten a path at its beginning: its end is what tells it apart."""
    return f"…{value[-max(width - 1, 1) :]}" if "/" in value and len(value) > width else value


def sparkline(values: Sequence[float], width: int, bounds: tuple[float, float] | None = None) -> str:
    """Draw values as a curve of at most `width` characters, each the mean of its share.

    It spans from the lowest to the highest of these means, or between `bounds`, which no value may exceed.
    """
    count = min(width, len(values))
    if count < 1:
        return ""
    edges = [index * len(values) // count for index in range(count + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in itertools.pairwise(edges)]
    low, high = bounds or (min(means), max(means))
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def _number(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) and abs(value) >= 10_000 else f"{value:.4g}"
