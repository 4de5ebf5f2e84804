"""Options by name: what a class takes beside what the library gives it."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any


def check_options(kind: str, name: str, made: type, options: Mapping[str, Any], given: Collection[str]) -> None:
    """Refuse options that a class has not, and what is no whole number where one is needed.

    Args:
        kind: What the class is ("cell"), for the message.
        name: How it is called.
        made: The class.
        options: By their names.
        given: Arguments of its constructor that are no options.

    Raises:
        ValueError: With the option and those that there are.
    """
    parameters = inspect.signature(made.__init__).parameters  # type: ignore[misc]
    known = {one: str(parameter.annotation) for one, parameter in parameters.items() if one not in ("self", *given)}
    for one, value in options.items():
        if one not in known:
            has = f"Its options: {', '.join(known)}." if known else "It has none."
            raise ValueError(f"The {kind} '{name}' has no option '{one}'. {has}")
        if known[one].startswith("int") and type(value) is not int and not (value is None and "None" in known[one]):
            raise ValueError(f"{one} is {value!r}; it must be a whole number.")
