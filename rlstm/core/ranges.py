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
    for name in _declared(config.__class__):
        check_value(config.__class__, name, getattr(config, name), prefix)


def check_value(config_type: Any, name: str, value: Any, prefix: str = "") -> None:
    """Refuse one value of a field of a config class, as ``check_ranges`` does."""
    ranges, choices = _declared(config_type).get(name, ((), ()))
    if choices and value is not None and value not in choices:
        raise ValueError(f"{prefix}{name} is '{value}'; it must be one of {', '.join(choices)}.")
    items, subject = (value, "every width") if isinstance(value, tuple) else ((value,), "it")
    for one in ranges:
        if not all(item is None or item in one for item in items):
            raise ValueError(f"{prefix}{name} is {value}; {subject} must {one.demand}.")


def literals(hint: Any) -> list[str]:
    """Return the choices of a ``Literal``, alone or as a part of a type."""
    found = [one for one in (hint, *typing.get_args(hint)) if typing.get_origin(one) is Literal]
    return [choice for one in found for choice in typing.get_args(one)]


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
        found[name] = (ranges, literals(hint))
    return {name: one for name, one in found.items() if any(one)}
