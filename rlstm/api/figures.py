"""Figures of learning curves, drawn by matplotlib: ``pip install 'rlstm-torch[plot]'``. Nothing else imports it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from rlstm.api.curves import EVALUATED, TRAINED, Curves, Group
from rlstm.core.errors import FigureError, missing_extra
from rlstm.core.files import write_atomically
from rlstm.core.number_text import number
from rlstm.training.config import ConfigError

FORMATS = (".png", ".svg", ".pdf")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Those of Okabe and Ito, which the colour-blind tell apart, without yellow, which is faint on white."""

_STYLES = ("-", "--", ":", "-.")  # The next one after each round of colours.
_CHARACTERS = 90  # That fit into the width of a figure.
_GREY = "#666666"
_SETTINGS = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.color": "#e5e5e5",
    "svg.fonttype": "none",  # Text stays text.
    "svg.hashsalt": "rlstm",  # The same curves make the same file.
}
_NAMES = {EVALUATED: "mean return of evaluations", TRAINED: "mean return of training"}
_REFERENCES = {  # Their names, and which side of the text is at the line: that without memory stands below it.
    "memoryless_return": ("best without memory", "top"),
    "optimal_return": ("best possible", "bottom"),
}


def check_output(path: str | os.PathLike[str]) -> None:
    """Refuse a file that can't become a figure.

    Raises:
        ConfigError: If its name has another ending than ``FORMATS``.
        FigureError: If its folder doesn't exist.
        MissingExtraError: If matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise ConfigError(f"'{path}' has no known format; its name must end in one of {', '.join(FORMATS)}.")
    if not Path(path).parent.is_dir():
        raise FigureError(f"{path} can't be written: the folder {Path(path).parent} doesn't exist. Make it first.")
    _import_matplotlib()


def draw_curves(curves: Curves, path: str | os.PathLike[str]) -> None:
    """Draw the line and the band of every group into a file, which is replaced as a whole.

    Raises:
        ConfigError, FigureError: As ``check_output`` does, or if the file can't be written.
    """
    check_output(path)
    matplotlib = _import_matplotlib()
    path, content = Path(path), io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        figure = _figure(matplotlib, curves)
        kind = path.suffix.lower().removeprefix(".")
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        figure.savefig(content, format=kind, dpi=150, metadata=undated)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise FigureError(f"{path} can't be written: {error.strerror}. Name another file with --out.") from error


def _import_matplotlib() -> Any:
    try:
        import matplotlib.figure
        import matplotlib.ticker
    except ImportError:
        raise missing_extra("A figure", "matplotlib", "plot") from None
    return matplotlib


def _figure(matplotlib: Any, curves: Curves) -> Any:
    figure = matplotlib.figure.Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for index, group in enumerate(curves.groups):
        style = _STYLES[index // len(COLOURS) % len(_STYLES)]
        _draw_group(axes, group, COLOURS[index % len(COLOURS)], style)
    for name, value in curves.references.items():
        if value is not None:
            _draw_reference(axes, value, *_REFERENCES[name])
    axes.set_title(curves.env, loc="left", weight="bold")
    if any(group.band is not None for group in curves.groups):
        axes.set_title("IQM over seeds, 95 % bootstrap interval", loc="right", size=8, color=_GREY)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(_NAMES.get(curves.metric, curves.metric))
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))  # 20k, 1.5M.
    axes.set_xlim(0, 1.01 * max(int(group.steps[-1]) for group in curves.groups) or 1)
    longest = max(len(group.label) for group in curves.groups)
    columns = max(1, min(len(curves.groups), _CHARACTERS // (longest + len(" (10 seeds)  --  "))))
    figure.legend(loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _draw_group(axes: Any, group: Group, colour: str, style: str) -> None:
    count = len(group.seeds)
    marker = "o" if len(group.steps) == 1 else None  # A line of one point is invisible.
    label = f"{group.label} ({count} seed{'' if count == 1 else 's'})"
    look = {"color": colour, "linestyle": style, "marker": marker, "markersize": 3.5}
    axes.plot(group.steps, group.line, linewidth=1.8, label=label, zorder=3, **look)
    if group.band is not None:
        axes.fill_between(group.steps, *group.band, color=colour, alpha=0.18, linewidth=0, zorder=2)


def _draw_reference(axes: Any, value: float, name: str, side: str) -> None:
    axes.axhline(value, color=_GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        f"{name} {number(value)}",
        xy=(1, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2 if side == "bottom" else -2),
        textcoords="offset points",
        ha="right",
        va=side,
        size=8,
        color=_GREY,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
        zorder=4,
    )
