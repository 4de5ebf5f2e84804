"""``rlstm plot RUN_OR_FOLDER ...``: learning curves over seeds, in the terminal or as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from rlstm.cli.answers import Answer
from rlstm.cli.curves import described, head, spread, values_of
from rlstm.cli.parsing import CurvesFlags, named, parse
from rlstm.cli.tables import table
from rlstm.core.number_text import number

if TYPE_CHECKING:
    from rlstm.api.curves import Curves, Group

_WIDTH = 30  # Of a curve in the terminal.


@dataclass(frozen=True, kw_only=True)
class PlotFlags(CurvesFlags):
    """Show learning curves; runs that differ in nothing but their seed are one curve, with a band over seeds."""

    out: Annotated[str | None, named("FILE.png|.svg|.pdf")] = None
    """Draw a figure into this file, which is replaced; needs rlstm-torch[plot]."""


def run(words: list[str]) -> Answer:
    """Plot the runs."""
    flags = parse(PlotFlags, words, "plot")
    if flags.out is not None:
        from rlstm.api.figures import check_output, draw_curves

        check_output(flags.out)  # Before anything is read.
    curves = flags.curves(by_folder=False)
    if flags.out is not None:
        draw_curves(curves, flags.out)
    groups = [
        {**described(group), "curve": {"steps": group.steps, "iqm": group.line, "low": low, "high": high}}
        for group in curves.groups
        for low, high in [group.band or (None, None)]
    ]
    return Answer(_text(curves, flags.out), {**values_of(curves), "groups": groups, "file": flags.out})


def _text(curves: Curves, out: str | None) -> str:
    from rlstm.training.progress import sparkline

    lines = [group.line for group in curves.groups]
    bounds = min(float(line.min()) for line in lines), max(float(line.max()) for line in lines)
    most = max(int(group.steps[-1]) for group in curves.groups)
    rows = [
        (
            group.label,
            str(len(group.seeds)),
            spread(group.final, group.final_interval),
            f"{number(group.highest[0])} at {group.highest[1]:,}",
            f"{group.steps[-1]:,}",
            sparkline(_evenly(group, round(_WIDTH * group.steps[-1] / most)), _WIDTH, bounds),
        )
        for group in curves.groups
    ]
    header = ("group", "seeds", "final, IQM [95 %]", "highest, at step", "steps", "curve")
    scale = f"Curves go up to step {most:,}, and from {number(bounds[0])} to {number(bounds[1])}."
    written = [] if out is None else [f"Written to {out}."]
    return "\n".join([head(curves), "", table(header, rows, wrapped=("group",)), "", scale, *curves.notes, *written])


def _evenly(group: Group, count: int) -> list[float]:
    """Return the line at so many evenly spaced steps, at least one."""
    import numpy as np

    steps = np.linspace(group.steps[0], group.steps[-1], max(1, count))
    return list(np.interp(steps, group.steps, group.line))
