"""Parts of a computation in several processes, with the result of one process to the last bit.

What the parts are is the caller's choice, never a matter of how many workers there are; every worker computes with one
thread. A worker that dies is named with its exit code and replaced, and its part alone is computed again. No pool of
the standard library offers that: one dead worker breaks all futures of a ``ProcessPoolExecutor``, which tells no exit
code, and a ``multiprocessing.Pool`` waits for ever for what its dead worker was to return.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.process import prepare_process

_MOST_DEATHS = 3  # Of workers over one part.


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
        self._workers = [self._start(number) for number in range(count)]

    def _start(self, number: int) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(there, self._compute), name=f"rlstm worker {number}", daemon=True
        )
        process.start()
        there.close()
        return _Worker(process, here)

    def map(self, parts: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return what comes of the parts, in their order.

        Args:
            parts: The arguments of each.

        Raises:
            EnvironmentFailure: If an env breaks, or workers die over a part again and again.
        """
        waiting = deque(range(len(parts)))
        deaths, results = [0] * len(parts), dict[int, Any]()
        busy: dict[int, int] = {}  # The part that each worker computes.
        while len(results) < len(parts):
            for number in range(len(self._workers)):
                if waiting and number not in busy:
                    busy[number] = waiting.popleft()
                    self._send(number, parts[busy[number]])
            ready = wait([item for worker in self._workers for item in (worker.pipe, worker.process.sentinel)])
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
                elif isinstance(answer, Exception):
                    raise answer
                else:
                    results[part] = answer
        return [results[index] for index in range(len(parts))]

    def _send(self, number: int, part: tuple[Any, ...]) -> None:
        """Send a part; that the worker may be dead shows when its answer is read."""
        process, pipe = self._workers[number]
        try:
            pipe.send_bytes(pickle.dumps(part))
        except OSError:
            process.join()

    def _receive(self, number: int) -> Any:
        """Return the answer, or None if the worker died before it could give one."""
        pipe = self._workers[number].pipe
        try:
            return pickle.loads(pipe.recv_bytes()) if pipe.poll() else None
        except (EOFError, OSError):
            return None

    def _replace(self, number: int, part: int, deaths: int) -> None:
        process, pipe = self._workers[number]
        process.join()
        message = f"{process.name} died with exit code {process.exitcode} over part {part}"
        if deaths >= _MOST_DEATHS:
            raise EnvironmentFailure(f"{message}, as {deaths - 1} did before it. Try --workers 1 to see why.")
        warnings.warn(f"{message}; another worker computes it again.", stacklevel=4)
        pipe.close()
        self._workers[number] = self._start(number)

    def close(self) -> None:
        """Stop the workers."""
        for process, _ in self._workers:
            process.terminate()
        for process, pipe in self._workers:
            process.join()
            pipe.close()
        self._workers = []


def _work(pipe: Connection, pickled: bytes) -> None:
    """Compute parts until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer.
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
        except Exception:
            answer = EnvironmentFailure(f"A worker failed:\n{traceback.format_exc()}")
        pipe.send_bytes(pickle.dumps(answer))
