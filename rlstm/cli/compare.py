"""``rlstm compare A B ...``: which runs are better, how surely, how fast, and what each loses without its memory."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlstm.cli.answers import Answer, UsageError
from rlstm.cli.curves import described, ended, head, spread, values_of
from rlstm.cli.parsing import CurvesFlags, Json, parse
from rlstm.cli.tables import markdown, table
from rlstm.core.number_text import number

if TYPE_CHECKING:
    from rlstm.api.comparison import Ablation, Compared


@dataclass(frozen=True, kw_only=True)
class CompareFlags(CurvesFlags):
    """Compare groups of runs with the first; higher is better. Runs that differ in their seed alone are a group."""

    threshold: float | None = None
    """Say after how many steps each group reaches this value. Default: 90 % of the way from the worst final to the
    best."""

    ablate: Json = False
    """Also evaluate every run with its state reset before every step: what it loses without its memory."""

    episodes: int = 50
    """Episodes of each of these evaluations."""

    markdown: Json = False
    """Print the table as Markdown."""


def run(words: list[str]) -> Answer:
    """Compare the runs."""
    flags = parse(CompareFlags, words, "compare")
    if flags.episodes < 1:
        raise UsageError(f"--episodes is {flags.episodes}; it must be at least 1.")
    curves = flags.curves(by_folder=True)
    if len(curves.groups) < 2 and not flags.ablate:
        raise UsageError("There is one group: the runs differ in nothing but their seed. Name others to compare with.")
    from rlstm.api.comparison import ablate, compare, default_threshold

    threshold = default_threshold(curves.groups) if flags.threshold is None else flags.threshold
    compared = compare(curves, threshold)
    ablations = []
    for group in curves.groups if flags.ablate else ():
        if not flags.json:
            print(f"evaluating {group.label} with and without its memory ...", file=sys.stderr, flush=True)
        ablations.append(ablate(group, flags.episodes, trust=flags.trust))
    rule = "given" if flags.threshold is not None else "90 % of the way from the worst final to the best"
    groups = [_values(one) for one in compared]
    for values, ablation in zip(groups, ablations, strict=False):
        values |= _ablation_values(ablation)
    shown = (markdown if flags.markdown else _table)(*_cells(compared, ablations, threshold))
    lines = [head(curves), "", shown, "", *_explained(compared, threshold, rule), *curves.notes]
    values = {**values_of(curves), "threshold": threshold, "threshold_is": rule, "groups": groups}
    return Answer("\n".join(lines), values)


def _table(header: list[str], rows: list[list[str]]) -> str:
    return table(header, rows, wrapped=("group",))


def _cells(compared: list[Compared], ablations: list[Ablation], threshold: float) -> tuple[list[str], list[list[str]]]:
    header = ["group", "seeds", "final, IQM [95 %]", "P(better)", f"steps to {number(threshold)}", "steps"]
    rows = []
    for one in compared:
        better = "" if one.improvement is None else spread(one.improvement, one.improvement_interval)
        reached = "never" if one.steps_to_threshold is None else f"{one.steps_to_threshold:,}"
        group = one.group
        final = spread(group.final, group.final_interval)
        rows.append([group.label, str(len(group.seeds)), final, better, reached, f"{group.steps[-1]:,}"])
    if ablations:
        header.append("lost without memory")
        for row, ablation in zip(rows, ablations, strict=True):
            row.append(spread(ablation.loss, ablation.loss_interval))
    return header, rows


def _explained(compared: list[Compared], threshold: float, rule: str) -> list[str]:
    first = compared[0].group.label
    better = f"P(better): the probability that a seed ends above one of {first}; ties count half."
    return [*([better] if len(compared) > 1 else []), f"Threshold {number(threshold)}: {rule}."]


def _values(one: Compared) -> dict[str, Any]:
    return {
        **described(one.group),
        **ended("improvement", one.improvement, one.improvement_interval),
        "steps_to_threshold": one.steps_to_threshold,
    }


def _ablation_values(ablation: Ablation) -> dict[str, Any]:
    returns = {"intact_returns": ablation.intact, "ablated_returns": ablation.ablated}
    return {**returns, **ended("memory_loss", ablation.loss, ablation.loss_interval)}
