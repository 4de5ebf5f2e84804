"""Draw the learning curves of some experiments into docs/images/learning.svg: ``reproduce --picture``.

The curves are those of ``scripts/results/curves``. A line is the mean over seeds, and its band the 95 % bootstrap
interval of that mean, from three seeds on. Panels without a curve are left out. The picture has a white ground and dark
text, so that it reads the same on light and dark pages. Needs matplotlib: ``pip install 'rlstm-torch[plot]'``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlstm.core.errors import missing_extra
from rlstm.core.files import write_atomically
from rlstm.core.statistics import Floats, Steps, align
from scripts.experiments import learning_curves
from scripts.experiments.catalogue import EXPERIMENTS
from scripts.results_table import LEAST_SEEDS, PAGE, ROOT, write_between

PICTURE = ROOT / "docs" / "images" / "learning.svg"
BEGIN = "<!-- learning picture: written by scripts/experiments/reproduce.py -->"
END = "<!-- end of learning picture -->"
CAPTION = (
    "Lines are means over seeds of greedy evaluations, bands their 95 % bootstrap intervals from three seeds on; the "
    "dashed line is the criterion. `python -m scripts.experiments.reproduce --picture`"
)
COLUMNS = 3
COLOURS = ("#0072b2", "#d55e00", "#009e73")  # Of Okabe and Ito; the colour-blind tell them apart.
_INK, _GREY = "#222222", "#666666"
_SETTINGS: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _GREY,
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "font.size": 10,
    "grid.color": "#e5e5e5",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # Text stays text.
    "svg.hashsalt": "rlstm",  # The same curves make the same file.
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_AXES = {"eval_success": "success rate", "eval_return": "mean return", "training_return": "mean return of training"}
_NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Panel:
    """A pair of axes: an experiment for each label."""

    title: str
    column: str  # Of the curves.
    lines: Mapping[str, str]


LEVELS = ("Easy", "Medium", "Hard")


def _popgym(title: str, kebab: str) -> Panel:
    return Panel(f"POPGym {title}", "eval_return", {level: f"popgym-{kebab}-{level.lower()}" for level in LEVELS})


PANELS = (
    Panel("T-maze, corridor 20", "eval_success", {"LSTM": "tmaze", "no memory": "tmaze-none"}),
    Panel("Passive T-maze", "eval_success", {length: f"passive-{length}" for length in ("100", "250", "1000")}),
    Panel("MiniGrid Memory", "eval_return", {size: f"minigrid-memory-{size.lower()}" for size in ("S7", "S9", "S13")}),
    _popgym("RepeatFirst", "repeat-first"),
    _popgym("Autoencode", "autoencode"),
    _popgym("CountRecall", "count-recall"),
    _popgym("MultiarmedBandit", "multiarmed-bandit"),
    Panel(
        "CartPole without velocities", "eval_return", {"LSTM": "cartpole-no-vel", "no memory": "cartpole-no-vel-none"}
    ),
)


@dataclass(frozen=True)
class Line:
    """The curve of an experiment over its seeds, ``(S, N)``."""

    label: str
    name: str
    steps: Steps
    values: Floats


def mean_with_interval(values: Floats) -> tuple[Floats, tuple[Floats, Floats] | None]:
    """Return the mean over seeds ``(N,)`` of ``(S, N)`` and the ends of its 95 % interval; None below three seeds."""
    mean = np.asarray(values.mean(axis=0))
    if len(values) < LEAST_SEEDS:
        return mean, None
    draws = np.random.default_rng(0).integers(0, len(values), (_NUM_RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5), axis=0)
    return mean, (low, high)


def lines_of(panel: Panel) -> list[Line]:
    """Return the lines of a panel that have curves."""
    lines = []
    for label, name in panel.lines.items():
        if curves := learning_curves.read(name, panel.column):
            lines.append(Line(label, name, *align(curves)))
    return lines


def write_page() -> None:
    """Draw the picture and name it between its marks in RESULTS.md; say so if there is nothing to draw."""
    drawn = draw(PICTURE)
    if not drawn:
        print(f"No curves of {len(PANELS)} panels in {learning_curves.CURVES}: run an experiment first.")
        return
    titles = "; ".join(drawn)
    write_between(PAGE, BEGIN, END, f"![Learning curves: {titles}](docs/images/{PICTURE.name})\n\n{CAPTION}")
    print(f"{PICTURE}: {titles}")


def draw(path: Path) -> list[str]:
    """Draw every panel that has a curve and return their titles; nothing is written if there are none.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    drawn = [(panel, lines) for panel in PANELS if (lines := lines_of(panel))]
    if not drawn:
        return []
    try:
        import matplotlib.figure
        import matplotlib.ticker
    except ImportError:
        raise missing_extra("A figure", "matplotlib", "plot") from None
    content = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        columns = min(COLUMNS, len(drawn))
        rows = -(-len(drawn) // columns)
        figure = matplotlib.figure.Figure(figsize=(3.4 * columns, 2.6 * rows), layout="constrained")
        for place, (panel, lines) in enumerate(drawn, start=1):
            axes = figure.add_subplot(rows, columns, place)
            axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))  # 20k, 1.5M.
            _draw_panel(axes, panel, lines)
        figure.savefig(content, format="svg", metadata={"Date": None})
    write_atomically(path, content.getvalue())
    return [panel.title for panel, _ in drawn]


def _draw_panel(axes: Any, panel: Panel, lines: list[Line]) -> None:
    for line, colour in zip(lines, COLOURS, strict=False):
        mean, band = mean_with_interval(line.values)
        count = len(line.values)
        marker = "o" if len(line.steps) == 1 else None  # A line of one point is invisible.
        label = f"{line.label} ({count} seed{'' if count == 1 else 's'})"
        axes.plot(line.steps, mean, color=colour, linewidth=1.8, marker=marker, markersize=3.5, label=label, zorder=3)
        if band is not None:
            axes.fill_between(line.steps, *band, color=colour, alpha=0.2, linewidth=0, zorder=2)
    criteria = {EXPERIMENTS[line.name].criterion for line in lines if line.name in EXPERIMENTS}
    if len(criteria) == 1:
        axes.axhline(criteria.pop(), color=_GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_title(panel.title, loc="left", size=10, weight="bold")
    axes.set_xlabel("environment steps")
    axes.set_ylabel(_AXES[panel.column])
    axes.set_xlim(0, 1.01 * max(int(line.steps[-1]) for line in lines) or 1)
    if panel.column == "eval_success":
        axes.set_ylim(-0.03, 1.03)
    axes.legend(frameon=False, fontsize=8, labelcolor=_INK)
