"""Ranges of settings, declared next to the field: ``num_steps: Annotated[int, AtLeast(1)] = 128``."""

from __future__ import annotations

import functools
import math
import typing
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Range:
    """The numbers above ``above``, from ``least`` to ``most``; ``demand`` words it after "it must"."""

    demand: str
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and value > self.above


def AtLeast(least: int) -> Range:  # noqa: N802
    """Return the range of the numbers from ``least`` on."""
    return Range(f"be at least {least}", least)


def Between(least: float, most: float) -> Range:  # noqa: N802
    """Return the range of the numbers from ``least`` to ``most``."""
    return Range(f"lie in [{least}, {most}]", least, most)


NotNegative = Range("not be negative", 0)
Positive = Range("be positive", above=0)


def check_ranges(config: Any, prefix: str = "") -> None:
    """Refuse what is outside the range of its field, or none of the choices of a ``Literal``.

    None is in every range; of a tuple (widths of layers) every item has to be. ``prefix`` stands before the names.

    Raises:
        ValueError: If a value is refused; the message names the setting, its value, and what would be right.
    """
    for name, (ranges, choices) in _declared(config.__class__).items():
        value = getattr(config, name)
        if choices and value is not None and value not in choices:
            raise ValueError(f"{prefix}{name} is '{value}'; it must be one of {', '.join(choices)}.")
        items, subject = (value, "every width") if isinstance(value, tuple) else ((value,), "it")
        for one in ranges:
            if not all(item is None or item in one for item in items):
                raise ValueError(f"{prefix}{name} is {value}; {subject} must {one.demand}.")


def check_path(name: str, path: str | None) -> None:
    """Refuse a path that no file can have, or that can't be written into a text.

    Raises:
        ValueError: If it can't be encoded as UTF-8 or has a NUL; the message names the setting.
    """
    try:
        encoded = (path or "").encode()
    except UnicodeEncodeError as error:
        letter = error.object[error.start : error.end]
        raise ValueError(f"{name} is {path!a}, where {letter!a} is no letter: name a path in UTF-8.") from None
    if b"\0" in encoded:
        raise ValueError(f"{name} is {path!a}, but no path has a NUL: leave it out.")


@functools.cache  # One entry a config class.
def _declared(config_type: type[Any]) -> dict[str, tuple[list[Range], list[str]]]:
    """Return the ranges and the choices of the fields that have some."""
    found = {}
    for name, hint in typing.get_type_hints(config_type, include_extras=True).items():
        ranges = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range)]
        literals = [one for one in (hint, *typing.get_args(hint)) if typing.get_origin(one) is Literal]
        found[name] = (ranges, [choice for one in literals for choice in typing.get_args(one)])
    return {name: one for name, one in found.items() if any(one)}
