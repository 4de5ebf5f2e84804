"""From a verb to an exit code: what is printed on success and on failure, as text or as JSON.

Results go to stdout, errors and the display to stderr. With ``--json`` the last line of stdout is one JSON object, on
failure too, and nothing else is there: whatever an env prints goes to stderr. That one of them can't be written, since
its reader is gone or its disk full, ends nothing; that an answer can't be given is an error, unless a reader of text
has read enough.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlstm.core.ranks import torchrun_ranks
from rlstm.core.streams import SteadyStream

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


class UsageError(Exception):
    """A command line that can't be understood; the message says what would be right."""


_VERBS_OF_RANKS = ("train", "resume")


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
    with contextlib.redirect_stderr(SteadyStream(sys.stderr, replace=True)):
        return _answer(verb, words)


def _answer(verb: str, words: Sequence[str]) -> int:
    asks_for_help = bool({"-h", "--help"} & set(words))
    as_json = "--json" in words and not asks_for_help
    _see_the_current_folder()
    stdout = sys.stderr if as_json else SteadyStream(sys.stdout, replace=True)
    try:
        with contextlib.redirect_stdout(stdout):
            found = _run(verb, words)
    except SystemExit as stop:
        if not asks_for_help:
            return _fail(f"The code of an env or of a module called sys.exit({stop.code!r}).", FAILED, as_json)
        stdout.flush()  # Help has been printed, perhaps not yet to its reader.
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return _fail("Interrupted.", INTERRUPTED, as_json)
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            if as_json:
                _print_json({"error": f"{type(error).__name__}: {error}"})
            raise
        return _fail(" ".join([_message(error), *getattr(error, "__notes__", ())]), code, as_json)
    if torchrun_ranks()[0] > 0:
        return found.exit_code  # Rank 0 speaks for all.
    printed = _print_json(found.values) if as_json else show(found.text)
    return found.exit_code if printed else FAILED


def _run(verb: str, words: Sequence[str]) -> Answer:
    from rlstm.cli import VERBS
    from rlstm.core.errors import unknown_name

    if verb.startswith("-"):
        raise UsageError(f"The verb comes first, then its flags; '{verb}' is none. Verbs: {', '.join(VERBS)}.")
    if verb not in VERBS:
        raise unknown_name("verb", verb, VERBS)
    if torchrun_ranks()[1] > 1 and (verb not in _VERBS_OF_RANKS or "--seeds" in words):
        raise UsageError(
            f"rlstm {verb} is for one process, but torchrun has started {torchrun_ranks()[1]}: ranks share only train "
            "and resume of one seed. Leave torchrun out."
        )
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
        RankFailure,
        TuningError,
        UnknownNameError,
        UnsupportedSpaceError,
    )
    from rlstm.training.config import ConfigError
    from rlstm.training.run_directory import RunDirectoryError

    if isinstance(error, (ConfigError, UnknownNameError, UnsupportedSpaceError)):
        return WRONG_USAGE
    failures = (
        *(EnvironmentFailure, NonFiniteError, RankFailure, RunDirectoryError, MissingExtraError),
        *(CheckpointError, DemonstrationsError, ExportError, FigureError, TuningError),
    )
    return FAILED if isinstance(error, failures) or _is_of_the_system(error) else None


_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EFBIG}


def _is_of_the_system(error: Exception) -> bool:
    """Return whether a disk, a limit or a permission is to blame, which no traceback explains."""
    return isinstance(error, OSError) and error.errno in _SYSTEM


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and _is_of_the_system(error):
        return f"{error.filename or 'A file'} can't be read or written: {error.strerror}."
    return str(error)


def _fail(message: str, code: int, as_json: bool) -> int:
    print(f"error: {message}", file=sys.stderr)
    if as_json:
        _print_json({"error": message})
    return code


def _print_json(values: Mapping[str, Any]) -> bool:
    from rlstm.core.files import json_ready

    return show(json.dumps(json_ready(values), allow_nan=False), must_be_read=True)


def show(text: str, *, must_be_read: bool = False) -> bool:
    """Print to stdout; return whether it could be.

    A pipe that was closed, as in ``rlstm envs | head -1``, has read enough, unless it is a program that must read this.
    """
    stream = SteadyStream(sys.stdout, replace=True)
    stream.write(f"{text}\n")
    stream.flush()
    if stream.error is None or (isinstance(stream.error, BrokenPipeError) and not must_be_read):
        return True
    reason = getattr(stream.error, "strerror", None) or stream.error
    SteadyStream(sys.stderr).write(f"error: the answer could not be written to stdout: {reason}.\n")
    return False
