"""From words to a dataclass of flags: one call of tyro, whose complaints become one line each."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

import tyro

from rlstm.cli.answers import UsageError
from rlstm.cli.flag_types import REGISTRY

__all__ = ["Flat", "Json", "Positional", "given_value", "is_given", "named", "parse"]

FlagsT = TypeVar("FlagsT")
ItemT = TypeVar("ItemT")
Flat: Any = tyro.conf.OmitArgPrefixes
"""Marks a nested dataclass whose flags have no prefix."""

Positional = Annotated[ItemT, tyro.conf.Positional]
"""Marks a field that is given without a flag."""

Json = Annotated[bool, tyro.conf.FlagCreatePairsOff]
"""A switch without its negative."""


def named(metavar: str) -> Any:
    """Return the mark that names a value in the help."""
    return tyro.conf.arg(metavar=metavar)


_REPEATABLE = ("--env-import", "--env-kwargs", "--env-wrappers")


def parse(
    flags_type: type[FlagsT], words: Sequence[str], *, prog: str, description: str, default: FlagsT | None = None
) -> FlagsT:
    """Read the command line into a dataclass; the docstrings of its fields are the help.

    Args:
        flags_type: The dataclass; nested ones give prefixed flags, or flat ones if marked ``Flat``.
        words: What follows the verb.
        prog: What the user typed so far, e.g. ``rlstm train ppo``.
        description: The first lines of the help.
        default: Holds the defaults, where they are not those of the type.

    Raises:
        UsageError: If a flag is unknown, with the nearest valid one, or a value is wrong.
        SystemExit: If help was asked for, after it has been printed.
    """
    words = _gather(words)
    _refuse_unknown(words, set(_flag_names(flags_type)), prog)
    defaults: dict[str, Any] = {} if default is None else {"default": default}
    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints):
            flags: FlagsT = tyro.cli(
                flags_type, args=words, prog=prog, description=description, registry=REGISTRY, **defaults
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(f"{_first_sentence(complaints.getvalue())} See '{prog} --help'.") from None
    return flags


def given_value(words: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag before anything is parsed, or None; of several the last."""
    value = None
    for word, following in zip(words, [*words, None][1:], strict=True):
        if word == flag:
            value = following
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value


def is_given(words: Iterable[str], flag: str) -> bool:
    """Whether a flag is on the command line."""
    return any(_normal(word) == flag for word in words)


def _normal(word: str) -> str:
    """Return the name of a flag with dashes, without its value."""
    return word.partition("=")[0].replace("_", "-")


def _gather(words: Sequence[str]) -> list[str]:
    """Join what repeated flags that take several values were given, so that the last does not replace the others."""
    kept: list[str] = []
    gathered: dict[str, list[str]] = {}
    current: list[str] | None = None
    for word in words:
        name = _normal(word)
        if name in _REPEATABLE:
            current = gathered.setdefault(name, [])
            current += [word.partition("=")[2]] if "=" in word else []
        elif current is None or word.startswith("-"):
            current = None
            kept.append(word)
        else:
            current.append(word)
    return kept + [word for name, values in gathered.items() for word in (name, *values)]


def _flag_names(flags_type: type[Any], prefix: str = "") -> Iterator[str]:
    """Yield every flag of a dataclass of flags."""
    hints = typing.get_type_hints(flags_type, include_extras=True)
    for field in dataclasses.fields(flags_type):
        hint, *markers = typing.get_args(hints[field.name]) if _is_annotated(hints[field.name]) else [hints[field.name]]
        name = field.name.replace("_", "-")
        if dataclasses.is_dataclass(hint):
            yield from _flag_names(typing.cast(type[Any], hint), prefix if Flat in markers else f"{prefix}{name}.")
        elif tyro.conf.Positional not in markers:
            yield f"--{prefix}{name}"
            if hint is bool and tyro.conf.FlagCreatePairsOff not in markers:
                yield f"--{prefix}no-{name}"


def _is_annotated(hint: Any) -> bool:
    return typing.get_origin(hint) is Annotated


def _refuse_unknown(words: Sequence[str], known: set[str], prog: str) -> None:
    for word in words:
        name = _normal(word)
        if not word.startswith("--") or name in known or name == "--help" or name.startswith("--tyro-"):
            continue
        # A setting whose prefix was left out, or put where there is none, is nearer than any spelling.
        near = [flag for flag in sorted(known) if flag.rpartition(".")[2] == name.lstrip("-").rpartition(".")[2]]
        near = near or [flag for flag in known if flag == f"--{name.rpartition('.')[2]}"]
        near = near or get_close_matches(name, sorted(known), n=1, cutoff=0.5)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"Unknown flag '{name}'. {hint}See '{prog} --help'.")


def _first_sentence(box: str) -> str:
    """Return what tyro says in the first part of its box, as one line that begins with the flag."""
    rows: list[str] = []
    for line in box.splitlines():
        row = line.strip("│ ").strip()
        if row.startswith("───") and rows:
            break
        if line.startswith("│") and row:
            rows.append(row)
    text = " ".join(rows) or box.strip() or "The command line can't be read."
    text = re.sub(r"^Missing from [^:]*: (\S+) .*", r"\1 is missing.", text)
    text = re.sub(r"^Error parsing (\S+):", r"\1:", text)
    return text[:1].upper() + text[1:] if text.endswith(".") else f"{text[:1].upper()}{text[1:]}."
