"""How many threads a run computes with: what may be chosen, and the choice from measured seconds.

This module imports no torch: what must be in the environment before torch is loaded is put there by ``wait_passively``.

More threads than one pay only where matrices are large, and they cost most where other programs compute on the same
cores: each product ends when the last thread has done its share, so a thread that waits for its core holds up all.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MOST_THREADS = 4  # A recurrent policy of usual size gains nothing from more.
_LEAST_GAIN = 1.05  # By what more threads must be faster: less is noise, and not worth a core.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_WINDOW_SECONDS, _WINDOW_UPDATES = 5.0, 5  # Speed is the median over so long, and over so many updates at least.
_FALL = 0.5  # Of the best speed.


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait, instead of spinning on a core that others could use.

    Where the environment says how to wait, that stands. It is read when torch is loaded: if torch is there already,
    nothing is done.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


@dataclass(frozen=True)
class ThreadChoice:
    """A number of threads, and why it is this one."""

    count: int
    reason: str

    def __str__(self) -> str:
        return f"{self.count} ({self.reason})"


def num_cores() -> int:
    """Return how many cores the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_limit() -> tuple[int, str]:
    """Return how many threads may be chosen without being asked for, and what sets this limit.

    These are the cores that the process may use, 4 at most; ``OMP_NUM_THREADS`` lowers the limit.
    """
    cores = num_cores()
    limits = {f"{cores} core{'s' * (cores > 1)}": cores, f"never more than {MOST_THREADS}": MOST_THREADS}
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # A list gives one number a nesting level.
    if first.isdecimal() and int(first):
        limits["OMP_NUM_THREADS"] = int(first)
    reason = min(limits, key=lambda name: limits[name])
    return limits[reason], reason


def candidates(limit: int) -> list[int]:
    """Return the numbers of threads that are tried: 1, 2, and the limit."""
    return sorted({count for count in (1, 2, limit) if count <= limit})


def known_choice(asked: int, kept: int | None) -> ThreadChoice | None:
    """Return the choice that needs no measuring, or None.

    Args:
        asked: What ``num_threads`` says; 0 leaves the choice to measuring.
        kept: What the run computed with up to here, if it is resumed; more than the limit can't be kept.
    """
    limit, reason = thread_limit()
    if asked:
        return ThreadChoice(asked, "num_threads")
    if kept is not None and kept <= limit:
        return ThreadChoice(kept, "as before")
    return ThreadChoice(1, reason) if limit == 1 else None


def choose(seconds: Mapping[int, Sequence[float]]) -> ThreadChoice:
    """Choose by what the same work took.

    Args:
        seconds: By number of threads, 1 among them: one value a round. Those of a round stand beside each other in
            time, so they are compared with each other, and the median over rounds counts.

    Returns:
        The fewest threads of which no larger number is 5 % faster.
    """
    gains = {
        count: statistics.median(one / other for one, other in zip(seconds[1], values, strict=True))
        for count, values in sorted(seconds.items())
    }
    best = 1
    for count, gain in gains.items():
        if gain >= _LEAST_GAIN * gains[best]:
            best = count
    if best > 1:
        return ThreadChoice(best, f"{gains[best]:.2f} times as fast as 1")
    others = ", ".join(f"{count} are {gain:.2f}" for count, gain in gains.items() if count > 1)
    return ThreadChoice(1, f"{others} times as fast")


@dataclass
class SpeedWatch:
    """Notices when speed has fallen below half of its best, and stays there."""

    best: float = 0.0
    _rates: list[float] = field(default_factory=list)
    _seconds: float = 0.0

    def has_fallen(self, rate: float, seconds: float) -> bool:
        """Take the speed of an update that took so long; whether a whole window of updates was too slow.

        A window is 5 seconds, and 5 updates at least; its speed is the median of theirs, so one slow update is no fall.
        """
        self._rates.append(rate)
        self._seconds += seconds
        if self._seconds < _WINDOW_SECONDS or len(self._rates) < _WINDOW_UPDATES:
            return False
        median = statistics.median(self._rates)
        self._rates, self._seconds = [], 0.0
        self.best = max(self.best, median)
        return median < _FALL * self.best
