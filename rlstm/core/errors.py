"""Errors of wrong usage that several modules raise: unknown names with the nearest valid one, unsupported spaces."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_ALIKE = 0.6  # From here on, of 1, two names are near enough that one may be meant by the other.
_MAX_LISTED = 20  # A longer list of valid names hides the nearest one.


class UnknownNameError(ValueError):
    """A name that is in no table."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UnknownNameError:
    """Return the error for an unknown ``name`` of a ``kind`` ("cell", "preset", ...), ready to be raised.

    It names the nearest valid name, and all of them unless they are many.
    """
    names = sorted(valid)
    near = get_close_matches(name, names, n=1, cutoff=_ALIKE)
    hints = [f"Did you mean '{near[0]}'?"] if near else []
    if not near or len(names) <= _MAX_LISTED:
        hints.append(f"Valid: {', '.join(names)}.")
    return UnknownNameError(f"Unknown {kind} '{name}'. {' '.join(hints)}")


class UnsupportedSpaceError(ValueError):
    """An observation or action space that no network here can read or write."""


class MissingExtraError(ImportError):
    """An optional package is not installed; the message names what pip is to install."""


def missing_extra(what: str, package: str, extra: str) -> MissingExtraError:
    """Return the error that ``what`` needs a package of an extra, ready to be raised."""
    return MissingExtraError(f"{what} needs {package}, which is not installed: pip install 'rlstm-torch[{extra}]'.")


class CheckpointError(Exception):
    """A checkpoint can't be written, found, read or used; the message names the file, the reason and the remedy."""


class RunDirectoryError(Exception):
    """A run directory can't be made, read or written; the message names the file, the reason and the remedy."""


class DemonstrationsError(Exception):
    """Demonstrations can't be written, found, read or used; the message names the file, the reason and the remedy."""


class FigureError(Exception):
    """A figure can't be drawn or written; the message names the file, the reason and the remedy."""


class EnvironmentFailure(RuntimeError):
    """An env that can't be made, or that broke while it ran."""


class RankFailure(RuntimeError):
    """A rank that can't go on since another one has ended."""


class NonFiniteError(RuntimeError):
    """A loss, a gradient or a rollout holds something that is not a number."""


class TuningError(Exception):
    """A search for settings can't be shared, or found nothing; the message names the reason and the remedy."""


class ExportError(Exception):
    """A policy can't be exported; the message names the reason and the remedy."""
