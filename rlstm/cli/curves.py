"""What ``plot`` and ``compare`` say alike of groups of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlstm.core.number_text import number

if TYPE_CHECKING:
    from rlstm.api.curves import Curves, Group

Interval = tuple[float, float] | None


def head(curves: Curves) -> str:
    """Return the first line: env, metric and references."""
    beside = {"best without memory": "memoryless_return", "best possible": "optimal_return"}
    known = {text: curves.references[name] for text, name in beside.items() if curves.references[name] is not None}
    return "; ".join([f"{curves.env}, {curves.metric}", *(f"{text} {number(value)}" for text, value in known.items())])


def spread(value: float, ends: Interval) -> str:
    """Return a value with its interval, if there is one."""
    return number(value) if ends is None else f"{number(value)} [{number(ends[0])}, {number(ends[1])}]"


def ended(name: str, value: float | None, ends: Interval) -> dict[str, float | None]:
    """Return a value with its interval for programs."""
    low, high = ends or (None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def values_of(curves: Curves) -> dict[str, Any]:
    """Return what holds for all groups, for programs."""
    return {"env": curves.env, "metric": curves.metric, **curves.references, "notes": curves.notes}


def described(group: Group) -> dict[str, Any]:
    """Return a group for programs."""
    highest, highest_step = group.highest
    return {
        "label": group.label,
        "settings": group.settings,
        "runs": group.runs,
        "seeds": group.seeds,
        "steps": int(group.steps[-1]),
        "finals": group.finals,
        **ended("final", group.final, group.final_interval),
        "highest": highest,
        "highest_step": highest_step,
        **group.references,
    }
