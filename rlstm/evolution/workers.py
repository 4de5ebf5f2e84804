"""Parts of a computation in several processes, with the result of one process to the last bit.

What the parts are is the caller's choice, never a matter of how many workers there are; every worker computes with one
thread. A worker that dies is named with its exit code and replaced, and its part alone is computed again. No pool of
the standard library offers that: one dead worker breaks all futures of a ``ProcessPoolExecutor``, which tells no exit
code, and a ``multiprocessing.Pool`` waits for ever for what its dead worker was to return.
"""

from __future__ import annotations

import atexit
import multiprocessing
import pickle
import time
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from rlstm.core.child_processes import (
    end_processes,
    how_it_ended,
    prepare_worker,
    signals_held,
    start_remedy,
    too_long,
)
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.interrupts import seconds_since_request
from rlstm.core.process import prepare_process

_MOST_DEATHS = 3  # Of workers over one part.
_TICK_SECONDS, _CLOSING_SECONDS = 1.0, 5.0


class _Worker(NamedTuple):
    """A process and the pipe to it."""

    process: Any
    pipe: Connection


class Workers:
    """N processes that compute parts.

    Args:
        count: N.
        compute: Computes a part from its arguments; picklable. Each worker has its own copy.
    """

    def __init__(self, count: int, compute: Callable[..., Any]) -> None:
        self._context = multiprocessing.get_context("spawn")
        # Plain pickles: torch's own way between processes shares memory, of which there may be little.
        self._compute = pickle.dumps(compute)
        self._workers: list[_Worker] = []
        _open_workers.add(self)
        try:
            for number in range(count):
                self._workers.append(self._start(number))
        except BaseException:
            self.close()
            raise

    def _start(self, number: int) -> _Worker:
        name = f"rlstm worker {number}"
        try:
            here, there = self._context.Pipe()
            process = self._context.Process(target=_work, args=(there, self._compute), name=name, daemon=True)
            with signals_held():
                process.start()
        except OSError as error:
            remedy = start_remedy(error)
            raise EnvironmentFailure(
                f"{name} could not be started: {error.strerror or error}{f' ({remedy})' if remedy else ''}. Raise the "
                "limit, or take fewer --workers."
            ) from error
        there.close()
        return _Worker(process, here)

    def map(self, parts: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return what comes of the parts, in their order.

        Args:
            parts: The arguments of each.

        Raises:
            EnvironmentFailure: If an env breaks, or workers die over a part again and again; if one is stopped, or
                silent for a minute, after the run was asked to stop.
        """
        waiting = deque(range(len(parts)))
        deaths, results = [0] * len(parts), dict[int, Any]()
        busy: dict[int, int] = {}  # The part that each worker computes.
        while len(results) < len(parts):
            for number in range(len(self._workers)):
                if waiting and number not in busy:
                    busy[number] = waiting.popleft()
                    self._send(number, parts[busy[number]])
            ready = self._wait(list(busy))
            for number in list(busy):
                worker = self._workers[number]
                if worker.pipe not in ready and worker.process.sentinel not in ready:
                    continue
                part = busy.pop(number)
                answer = self._receive(number)
                if answer is None:
                    deaths[part] += 1
                    self._replace(number, part, deaths[part])
                    waiting.appendleft(part)
                elif isinstance(answer, BaseException):
                    raise answer
                else:
                    results[part] = answer
        return [results[index] for index in range(len(parts))]

    def _wait(self, busy: Sequence[int]) -> list[Any]:
        """Return the pipes of the busy workers that have answered, and the sentinels of those that have ended."""
        began = time.monotonic()
        working = [self._workers[number] for number in busy]
        items = [item for worker in working for item in (worker.pipe, worker.process.sentinel)]
        while not (ready := wait(items, _TICK_SECONDS)):
            for worker in working:
                if reason := too_long(worker.process, time.monotonic() - began, seconds_since_request()):
                    raise EnvironmentFailure(f"{worker.process.name} (process {worker.process.pid}) {reason}.")
        return list(ready)

    def _send(self, number: int, part: tuple[Any, ...]) -> None:
        """Send a part; that the worker may be dead shows when its answer is read."""
        process, pipe = self._workers[number]
        try:
            pipe.send_bytes(pickle.dumps(part))
        except OSError:
            end_processes([process], _CLOSING_SECONDS)

    def _receive(self, number: int) -> Any:
        """Return the answer, or None if the worker died before it could give one."""
        pipe = self._workers[number].pipe
        try:
            return pickle.loads(pipe.recv_bytes()) if pipe.poll() else None
        except (EOFError, OSError):
            return None

    def _replace(self, number: int, part: int, deaths: int) -> None:
        process, pipe = self._workers[number]
        end_processes([process], _CLOSING_SECONDS)
        message = f"{process.name} died {how_it_ended(process)} over part {part}"
        if deaths >= _MOST_DEATHS:
            raise EnvironmentFailure(f"{message}, as {deaths - 1} did before it. Try --workers 1 to see why.")
        warnings.warn(f"{message}; another worker computes it again.", stacklevel=4)
        pipe.close()
        self._workers[number] = self._start(number)

    def close(self) -> None:
        """Stop the workers: they keep nothing, so none is waited for."""
        _open_workers.discard(self)
        workers, self._workers = self._workers, []
        for _, pipe in workers:
            pipe.close()
        end_processes([process for process, _ in workers], 0.0)


_open_workers: weakref.WeakSet[Workers] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End the workers that nobody stopped: multiprocessing, which comes later, would wait for them for ever."""
    for workers in list(_open_workers):
        workers.close()


def _work(pipe: Connection, pickled: bytes) -> None:
    """Compute parts until the pipe is closed."""
    prepare_worker()
    prepare_process(1)
    compute = pickle.loads(pickled)
    while True:
        try:
            part = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer = compute(*part)
        except EnvironmentFailure as error:
            answer = error
        except (Exception, SystemExit):
            answer = EnvironmentFailure(f"A worker failed:\n{traceback.format_exc()}")
        except KeyboardInterrupt as error:  # An env raised it: Ctrl-C is left to the main process.
            answer = error
        try:
            pipe.send_bytes(pickle.dumps(answer))
        except OSError:
            return
