"""The words of a command line before they are parsed."""

from __future__ import annotations

from collections.abc import Sequence


def given_value(words: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag before anything is parsed, or None; of several the last."""
    value = None
    for word, following in zip(words, [*words, None][1:], strict=True):
        if word == flag:
            value = following
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value


def has_flag(words: Sequence[str], flag: str) -> bool:
    """Return whether a flag is among the words."""
    return any(flag_name(word) == flag for word in words)


def without_flags(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Return the words without some flags and what each was given, up to the next flag."""
    kept, leaving = [], False
    for word in words:
        if word.startswith("-"):
            leaving = flag_name(word) in flags
        if not leaving:
            kept.append(word)
    return kept


def flag_name(word: str) -> str:
    """Return the name of a flag with dashes, without its value."""
    return word.partition("=")[0].replace("_", "-")
