"""Processes that train one seed each, so many at a time, and what a signal means to them.

A process has a group of its own, so that Ctrl-C in a terminal reaches the parent alone, which passes it on as one
signal. Its stdin is a pipe that nothing is written to: when that ends, the parent has gone, and the process stops as if
it had been asked to. On stdout it writes one JSON object at its end; what it says goes to its log.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

INTERRUPTED = 130
_POLL_SECONDS = 0.2
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """One seed to train."""

    seed: int
    module: str  # That ``python -m`` runs.
    task: dict[str, Any]  # Its one argument, as JSON.
    log: Path


@dataclass(frozen=True)
class Ended:
    """How a process ended: the object that it wrote, or none, and why it failed, or that it was asked to stop."""

    seed: int
    answer: dict[str, Any] | None
    error: str | None
    stopped: bool


@dataclass
class _Signals:
    """How many signals there have been: two ask the processes, the third ends them."""

    count: int = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    signals: int = 0  # That it was sent.

    def pass_on(self, count: int) -> None:
        """Send it what it has not had of so many signals."""
        while self.signals < count:
            self.signals += 1
            if self.signals > 2:
                self.process.kill()
            else:
                self.process.send_signal(signal.SIGTERM)

    def ended(self) -> Ended:
        """Return how it ended, and close its pipes."""
        code, answer = self.process.returncode, _last_object(self.process)
        error = None if answer is None else answer.pop("error", None)
        asked = code == INTERRUPTED or (self.signals > 0 and code in (0, -signal.SIGTERM, -signal.SIGKILL))
        if error is None and not asked and (answer is None or code):
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            memory = ", as Linux does where memory is short" if code == -signal.SIGKILL else ""
            error = f"Its process {how}{memory}; its last words are in {self.job.log}."
        return Ended(self.job.seed, answer if error is None else None, error, asked and error is None)


@dataclass
class Pool:
    """Runs jobs, so many at a time, in order.

    Args:
        jobs: What is to be done.
        at_once: How many at a time.
        num_threads: Of each, for the libraries that read it from the environment.
    """

    jobs: Sequence[Job]
    at_once: int
    num_threads: int
    _running: list[_Running] = field(default_factory=list)

    def run(
        self,
        *,
        began: Callable[[int], None],
        ended: Callable[[Ended], None],
        asked: Callable[[int], None],
        watch: Callable[[], None],
    ) -> bool:
        """Run all jobs; return whether a signal has asked to stop.

        Args:
            began: Is told the seed of a process that was started.
            ended: Is told how one ended.
            asked: Is told how many signals there have been, at each one.
            watch: Is called about five times a second.
        """
        waiting, told = list(self.jobs), 0
        with _signals() as signals:
            try:
                while self._running or (waiting and not signals.count):
                    while waiting and len(self._running) < self.at_once and not signals.count:
                        self._running.append(_start(waiting.pop(0), self.num_threads))
                        began(self._running[-1].job.seed)
                    time.sleep(_POLL_SECONDS)
                    if signals.count > told:
                        told = signals.count
                        asked(told)
                    for one in list(self._running):
                        if one.process.poll() is None:
                            one.pass_on(signals.count)
                        else:
                            self._running.remove(one)
                            ended(one.ended())
                    watch()
            finally:
                self._end_all()
        return signals.count > 0

    def _end_all(self) -> None:
        """End what still runs after an error here: each process saves first, as if it had been asked to stop."""
        for one in self._running:
            one.process.terminate()
        for one in self._running:
            one.process.wait()
            _last_object(one.process)  # Closes its pipes.


def _start(job: Job, num_threads: int) -> _Running:
    """Start the process of a job; it finds the modules that this one finds."""
    paths = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    threads = {name: os.environ.get(name, str(num_threads)) for name in _THREADS}
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", job.module, json.dumps(job.task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **threads, "PYTHONPATH": paths},
            process_group=0,
        )
    return _Running(job, process)


def _last_object(process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """Return the JSON object on the last line of what an ended process wrote; its own children may still hold on."""
    if process.stdin is not None:
        process.stdin.close()
    if process.stdout is None:
        return None
    os.set_blocking(process.stdout.fileno(), False)
    written = process.stdout.read() or b""
    process.stdout.close()
    try:
        found = json.loads(written.splitlines()[-1])
    except (IndexError, ValueError):
        return None
    return found if isinstance(found, dict) else None


@contextmanager
def _signals() -> Iterator[_Signals]:
    """Count Ctrl-C and requests to terminate, in the main thread; elsewhere leave signals alone."""
    signals = _Signals()
    try:
        previous = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # Not the main thread.
        yield signals
        return
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
