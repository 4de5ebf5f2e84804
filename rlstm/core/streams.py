"""Text streams whose reader may be gone or whose disk may be full: a display is worth less than the run it shows."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any


class SteadyStream:
    """A text stream that never raises: once it can't be written, what comes is dropped, and ``error`` says why.

    Args:
        stream: The stream; None, as Python has it for one that was closed, is one that can't be written.
        replace: Lead its descriptor into nothing on an error: Python flushes stdout and stderr once more at exit, which
            fails again and makes the exit code 120.
    """

    def __init__(self, stream: Any, *, replace: bool = False) -> None:
        self._stream, self._replace = stream, replace
        self.error: Exception | None = None if stream is not None else BrokenPipeError("it is closed")

    def write(self, text: str) -> int:
        """Write what can be written; what the encoding doesn't know is written as its number."""
        if self.error is None:
            try:
                self._stream.write(text)
            except UnicodeEncodeError as error:
                self._try("write", text.encode(error.encoding, "backslashreplace").decode(error.encoding))
            except (OSError, ValueError) as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Flush if there is something to be flushed to."""
        self._try("flush")

    def _try(self, method: str, *arguments: Any) -> None:
        if self.error is None:
            try:
                getattr(self._stream, method)(*arguments)
            except (OSError, ValueError) as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.error = error
        if self._replace:
            drop(self._stream)

    def isatty(self) -> bool:
        """Return whether it is a terminal that can be written."""
        return self.error is None and bool(self._stream.isatty())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def drop(stream: Any) -> None:
    """Lead the descriptor of a stream into nothing, what it has kept included."""
    with suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
        stream.flush()


def open_standard_descriptors() -> None:
    """Open to nothing what is closed of stdin, stdout and stderr.

    The next file, a checkpoint perhaps, would get the number, and what a library prints would be written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest number that is free: this one.
