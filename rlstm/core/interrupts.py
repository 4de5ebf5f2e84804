"""Requests to stop: once asks a loop to stop in good order, Ctrl-C twice stops it at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SAME_REQUEST_SECONDS = 2.0  # `timeout` and shells that close send their signal twice.


class Interrupt:
    """The first signal asks the loop to stop after the update; a second one stops at once.

    Of the signals to terminate and to hang up, a second one within 2 seconds is the same request once more.
    """

    def __init__(self) -> None:
        self.count = 0  # Of signals so far.
        self.asked_at: float | None = None  # When the first came, by ``time.monotonic``.

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        now = time.monotonic()
        if self.asked_at is None:
            self.asked_at = now
        elif signum != signal.SIGINT and now - self.asked_at < _SAME_REQUEST_SECONDS:
            return
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt

    def requested(self) -> bool:
        """Whether the loop shall stop."""
        return self.count > 0


_handling: list[Interrupt] = []  # The innermost last.


def seconds_since_request() -> float | None:
    """Return how long ago the running loop was asked to stop, or None if it wasn't."""
    asked_at = _handling[-1].asked_at if _handling else None
    return None if asked_at is None else time.monotonic() - asked_at


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Handle Ctrl-C and the requests to terminate and to hang up, in the main thread; elsewhere leave signals alone.

    A signal that is ignored already, as hanging up is under ``nohup``, stays ignored.
    """
    interrupt = Interrupt()
    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    numbers = [number for number in numbers if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
    try:
        previous = {number: signal.signal(number, interrupt) for number in numbers}
    except ValueError:  # Not the main thread.
        yield interrupt
        return
    _handling.append(interrupt)
    try:
        yield interrupt
    finally:
        _handling.remove(interrupt)
        for number, handler in previous.items():
            signal.signal(number, handler)
