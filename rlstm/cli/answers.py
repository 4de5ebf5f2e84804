"""From a verb to an exit code: what is printed on success and on failure, as text or as JSON.

Results go to stdout, errors and the display to stderr. With ``--json`` the last line of stdout is one JSON object, on
failure too, and nothing else is there: whatever an env prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


class UsageError(Exception):
    """A command line that can't be understood; the message says what would be right."""


@dataclass(frozen=True)
class Answer:
    """What a verb has to say."""

    text: str
    """For people."""

    values: Mapping[str, Any]
    """For programs: the JSON object."""

    exit_code: int = 0
    """0 if all is well."""


def answer(verb: str, words: Sequence[str]) -> int:
    """Run a verb, or a word that should have been one, print what comes of it, and return the exit code.

    An unexpected error keeps its traceback.
    """
    asks_for_help = bool({"-h", "--help"} & set(words))
    as_json = "--json" in words and not asks_for_help
    _see_the_current_folder()
    try:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            found = _run(verb, words)
    except SystemExit as stop:  # Help was asked for and has been printed, perhaps not yet to its reader.
        show("", end="")
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return _fail("Interrupted.", INTERRUPTED, as_json)
    except Exception as error:
        if asks_for_help and isinstance(error, BrokenPipeError):
            _drop_stdout()
            return 0
        code = _exit_code(error)
        if code is None:
            if as_json:
                _print_json({"error": f"{type(error).__name__}: {error}"})
            raise
        return _fail(" ".join([str(error), *getattr(error, "__notes__", ())]), code, as_json)
    if as_json:
        _print_json(found.values)
    else:
        show(found.text)
    return found.exit_code


def _run(verb: str, words: Sequence[str]) -> Answer:
    from rlstm.cli import VERBS
    from rlstm.core.errors import unknown_name

    if verb.startswith("-"):
        raise UsageError(f"The verb comes first, then its flags; '{verb}' is none. Verbs: {', '.join(VERBS)}.")
    if verb not in VERBS:
        raise unknown_name("verb", verb, VERBS)
    module = importlib.import_module(f"rlstm.cli.{VERBS[verb][0]}")
    found: Answer = module.run(list(words))
    return found


def _see_the_current_folder() -> None:
    """Make modules in the current folder importable: ``--env-import my_env``.

    ``python -m rlstm`` does so by itself, an installed script does not. The folder comes last, so that no file of the
    user's takes the place of a library.
    """
    here = str(os.path.realpath(os.curdir))
    if here not in (os.path.realpath(entry) for entry in sys.path):
        sys.path.append(here)


def _exit_code(error: Exception) -> int | None:
    """Return the exit code of an error that the user can fix, or None."""
    if isinstance(error, UsageError):
        return WRONG_USAGE
    from rlstm.core.errors import (
        CheckpointError,
        DemonstrationsError,
        EnvironmentFailure,
        ExportError,
        FigureError,
        MissingExtraError,
        NonFiniteError,
        TuningError,
        UnknownNameError,
        UnsupportedSpaceError,
    )
    from rlstm.training.config import ConfigError
    from rlstm.training.run_directory import RunDirectoryError

    if isinstance(error, (ConfigError, UnknownNameError, UnsupportedSpaceError)):
        return WRONG_USAGE
    failures = (
        *(EnvironmentFailure, NonFiniteError, RunDirectoryError, MissingExtraError),
        *(CheckpointError, DemonstrationsError, ExportError, FigureError, TuningError),
    )
    return FAILED if isinstance(error, failures) else None


def _fail(message: str, code: int, as_json: bool) -> int:
    print(f"error: {message}", file=sys.stderr)
    if as_json:
        _print_json({"error": message})
    return code


def _print_json(values: Mapping[str, Any]) -> None:
    from rlstm.core.files import json_ready

    show(json.dumps(json_ready(values), allow_nan=False))


def show(text: str, end: str = "\n") -> None:
    """Print, also into a pipe that was closed, as in ``rlstm envs | head -1``."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        _drop_stdout()


def _drop_stdout() -> None:
    """Lead stdout into nothing: Python flushes it once more at exit, which must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
