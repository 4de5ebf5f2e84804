"""Ctrl-C: once asks a loop to stop in good order, twice stops it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Ctrl-C once asks the loop to stop after the update; twice stops at once."""

    def __init__(self) -> None:
        self.count = 0  # Of signals so far.

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt

    def requested(self) -> bool:
        """Whether the loop shall stop."""
        return self.count > 0


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Handle Ctrl-C and the request to terminate, in the main thread; elsewhere leave signals alone."""
    interrupt = Interrupt()
    try:
        previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # Not the main thread.
        yield interrupt
        return
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
