"""What a search tries of a setting, declared next to the field: ``gamma: Annotated[float, Among(0.9, 0.99)] = 0.99``.

The same as text, on the command line and in the files of a study: ``lstm,gru``, ``none,16,64``, ``1e-4..1e-2``. A range
is searched on a logarithmic scale if its ends are positive and the higher one is ten times the lower one or more, else
on a linear one; ``:log`` and ``:linear`` behind it say otherwise. Of a list of widths, ``64x32`` is one choice.
"""

from __future__ import annotations

import functools
import math
import typing
from dataclasses import dataclass
from typing import Any

from rlstm.core.ranges import literals

_SCALES = {"log": True, "linear": False}
_DECADE = 10


@dataclass(frozen=True)
class Choices:
    """Some values, in no order that matters."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ",".join(word_of(value) for value in self.values)

    def holds(self, value: Any) -> bool:
        """Return whether ``value`` may be drawn."""
        return word_of(value) in map(word_of, self.values)

    def including(self, value: Any) -> Choices:
        """Return these and ``value``."""
        return self if self.holds(value) else Choices((*self.values, value))


@dataclass(frozen=True)
class Span:
    """The numbers from ``low`` to ``high``."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        default = _spans_a_decade(self.low, self.high)
        scale = "" if self.log == default else f":{'log' if self.log else 'linear'}"
        return f"{word_of(self.low)}..{word_of(self.high)}{scale}"

    def holds(self, value: Any) -> bool:
        """Return whether ``value`` may be drawn."""
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high

    def including(self, value: Any) -> Span:
        """Return the span widened up to ``value``, if that is a number; a scale that can't hold it becomes linear."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return self
        return Span(min(self.low, value), max(self.high, value), self.log and value > 0)


Tried = Choices | Span


def Among(*values: Any) -> Choices:  # noqa: N802
    """Return the choice between some values."""
    return Choices(values)


def Within(low: float, high: float, *, log: bool = False) -> Span:  # noqa: N802
    """Return the numbers from ``low`` to ``high``."""
    return Span(low, high, log)


@functools.cache  # One entry a config class.
def declared(config_type: Any) -> dict[str, Tried]:
    """Return what a search tries of the fields of a config class that say so."""
    hints = typing.get_type_hints(config_type, include_extras=True)
    found = {
        name: [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Tried)]
        for name, hint in hints.items()
    }
    return {name: ones[0] for name, ones in found.items() if ones}


def word_of(value: Any) -> str:
    """Return a value as one word."""
    if isinstance(value, (tuple, list)):
        return "x".join(map(word_of, value)) or "none"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def read_word(word: str, hint: Any) -> Any:
    """Return the value that a word stands for, in a field with this type; a word that fits no type stays text."""
    kinds = [kind for option in (hint, *typing.get_args(hint)) for kind in (option, typing.get_origin(option))]
    if word == "none" and type(None) in kinds:
        return None
    if tuple in kinds:
        return () if word == "none" else tuple(_number(part) for part in word.split("x"))
    if bool in kinds and word in ("true", "false"):
        return word == "true"
    return _number(word) if {int, float} & set(kinds) and word not in literals(hint) else word


def parse_tried(text: str, hint: Any) -> Tried:
    """Read what is to be tried of a setting.

    Args:
        text: A range or choices, see the head of this module.
        hint: The type of its field.

    Raises:
        ValueError: If the text is empty or no range; the message goes on after the name of the setting.
    """
    if ".." not in text:
        words = [word.strip() for word in text.split(",")]
        if not all(words):
            raise ValueError(f"is searched in '{text}', which has an empty choice: give lstm,gru or 1e-4..1e-2.")
        return Choices(tuple(dict.fromkeys(read_word(word, hint) for word in words)))
    ends, _, scale = text.partition(":")
    low, high = (_number(word) for word in ends.split("..", 1))
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)) or scale not in ("", *_SCALES):
        raise ValueError(f"is searched in '{text}', which is no range: give LOW..HIGH, LOW..HIGH:log or :linear.")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"is searched in '{text}', but a range goes from a lower number to a higher one.")
    log = _SCALES.get(scale, _spans_a_decade(low, high))
    if log and low <= 0:
        raise ValueError(f"is searched in '{text}', but a logarithmic range begins above 0: add ':linear'.")
    return Span(low, high, log)


def _spans_a_decade(low: float, high: float) -> bool:
    return low > 0 and high >= _DECADE * low


def _number(word: str) -> int | float | str:
    """Return the number that a word is, a whole one where it can be, or the word."""
    try:
        value = float(word)
    except ValueError:
        return word
    return int(value) if value.is_integer() and "." not in word else value
