"""Numbers as text for people. Free of torch."""

from __future__ import annotations


class Bound(float):
    """A value that nothing exceeds, and that may not be attained."""


def number(value: float | int | None, unknown: str = "unknown") -> str:
    """Return a number in few digits."""
    if value is None:
        return unknown
    text = f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"
    return f"≤ {text}" if isinstance(value, Bound) else text


def percent(value: float | None, unknown: str = "unknown") -> str:
    """Return a share as percent."""
    return unknown if value is None else f"{100 * value:.1f} %"
