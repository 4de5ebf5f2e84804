"""Single envs in worker processes, one each: ``gymnasium.vector.AsyncVectorEnv``, but no worker can hang or lose a run.

A worker that ends, is stopped or can't be started is named, and the others are ended; nothing is waited for without a
bound. A worker whose main process is gone closes its env and ends. Observations lie in shared memory.
"""

from __future__ import annotations

import atexit
import copy
import multiprocessing
import os
import select
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import (
    CloudpickleWrapper,
    batch_space,
    clear_mpi_env_vars,
    create_shared_memory,
    iterate,
    read_from_shared_memory,
)

from rlstm.core.child_processes import (
    end_processes,
    how_it_ended,
    is_stopped,
    signals_held,
    start_remedy,
    too_long,
)
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.interrupts import seconds_since_request
from rlstm.vector.worker_process import Answer, open_pipes, work

_TICK_MILLISECONDS = 1000
_TOLD_SECONDS = 60.0  # Of silence, after which it is told whom the run waits for.
_CLOSING_SECONDS = 10.0  # That envs have to close.
_MOST_NAMED = 8

_open_envs: weakref.WeakSet[WorkerEnvs] = weakref.WeakSet()


class WorkerFailure(EnvironmentFailure):
    """A worker that ended, or can't be waited for; without the full stop, so that the step can be added."""


class _RaisedInWorker(Exception):
    """The traceback of a worker, for those who read the chain of errors."""


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, lane: int, process: Any, pipe: Connection) -> None:
        self.lane, self.process, self._pipe = lane, process, pipe
        self._poller = select.poll()
        for descriptor in (pipe.fileno(), process.sentinel):
            self._poller.register(descriptor, select.POLLIN)

    def send(self, command: str, arguments: Any = None) -> None:
        try:
            self._pipe.send((command, arguments))
        except OSError:
            raise self._ended() from None

    def receive(self) -> Answer:
        """Return its answer, as soon as there is one.

        Raises:
            WorkerFailure: If it ended; if it is stopped, or silent for a minute, after the run was asked to stop.
        """
        began, told = time.monotonic(), False
        while not (ready := self._poller.poll(_TICK_MILLISECONDS)):
            silent = time.monotonic() - began
            if (reason := too_long(self.process, silent, seconds_since_request())) is not None:
                raise WorkerFailure(f"The worker process {self.process.pid} of env {self.lane} {reason}")
            if silent > _TOLD_SECONDS and not told:
                told, stopped = True, " (it is stopped)" if is_stopped(self.process) else ""
                name = f"The worker process {self.process.pid} of env {self.lane}{stopped}"
                warnings.warn(f"{name} has not answered for {silent:.0f} s; still waiting.", stacklevel=2)
        if self._pipe.fileno() not in (descriptor for descriptor, _ in ready) and not self._pipe.poll():
            raise self._ended()
        try:
            answer: Answer = self._pipe.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        return answer

    def _ended(self) -> WorkerFailure:
        self.process.join(1.0)  # Its exit code may come a moment later.
        how = "left its pipe" if self.process.is_alive() else f"ended {how_it_ended(self.process)}"
        return WorkerFailure(f"The worker process of env {self.lane} {how}")

    def leave(self) -> None:
        """Tell it that nothing more will come."""
        with suppress(OSError):
            self._pipe.send(("close", None))
        self._pipe.close()


class WorkerEnvs(gym.vector.VectorEnv[Any, Any, Any]):
    """Single envs in worker processes, in ``AutoresetMode.SAME_STEP``.

    Args:
        functions: Make the envs, each in its worker; their spaces must be alike.
        observation_space: Of each env.
        action_space: Of each env.
        metadata: Of each env.
        context: Start method of the workers: fork, spawn or forkserver; None for the platform's own.

    Raises:
        EnvironmentFailure: If a worker can't be started, or its env not be made.
    """

    def __init__(
        self,
        functions: Sequence[Callable[[], gym.Env[Any, Any]]],
        *,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        metadata: dict[str, Any] | None = None,
        context: str | None = None,
    ) -> None:
        self.num_envs = len(functions)
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, self.num_envs)
        self.action_space = batch_space(action_space, self.num_envs)
        self.metadata = {**(metadata or {}), "autoreset_mode": AutoresetMode.SAME_STEP}
        self._workers: list[_Worker] = []
        self._failure: EnvironmentFailure | None = None  # That ended the workers.
        self._creator = os.getpid()  # A forked process has a copy of this object.
        _open_envs.add(self)
        try:
            self._start(functions, multiprocessing.get_context(context))
            self._ask("spaces", [(observation_space, action_space)] * self.num_envs)
        except BaseException:
            self.close()
            raise

    @property
    def processes(self) -> list[Any]:
        """The workers."""
        return [worker.process for worker in self._workers]

    def _start(self, functions: Sequence[Callable[[], gym.Env[Any, Any]]], context: Any) -> None:
        try:
            space = self.single_observation_space
            self._memory = create_shared_memory(space, n=self.num_envs, ctx=context)
            self._observations = read_from_shared_memory(space, self._memory, n=self.num_envs)
            with clear_mpi_env_vars(), signals_held():
                for lane, function in enumerate(functions):
                    here, there = context.Pipe()
                    open_pipes.add(here)
                    process = context.Process(
                        target=work,
                        args=(lane, CloudpickleWrapper(function), there, self._memory),
                        name=f"rlstm env {lane}",
                        daemon=True,
                    )
                    process.start()
                    there.close()
                    self._workers.append(_Worker(lane, process, here))
        except OSError as error:
            remedy = start_remedy(error)
            raise EnvironmentFailure(
                f"The worker process of env {len(self._workers)}, of {self.num_envs}, could not be started: "
                f"{error.strerror or error}{f' ({remedy})' if remedy else ''}. Raise the limit, or take fewer "
                "--num-envs or --vectorization sync."
            ) from error

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset every env; a list of seeds has one for each, a number is that of the first."""
        seeds = [None] * self.num_envs if seed is None else seed
        if isinstance(seeds, int):
            seeds = [seeds + lane for lane in range(self.num_envs)]
        infos: dict[str, Any] = {}
        for lane, info in enumerate(self._ask("reset", [(one, options) for one in seeds])):
            infos = self._add_info(infos, info, lane)
        return copy.deepcopy(self._observations), infos

    def step(self, actions: Any) -> tuple[Any, npt.NDArray[np.float64], npt.NDArray[Any], npt.NDArray[Any], Any]:
        """Step every env; one whose episode ends is reset in the same step."""
        answers = self._ask("step", list(iterate(self.action_space, actions)))
        infos: dict[str, Any] = {}
        for lane, (*_, info) in enumerate(answers):
            infos = self._add_info(infos, info, lane)
        rewards, terminated, truncated = (np.array(column) for column in list(zip(*answers, strict=True))[:3])
        return copy.deepcopy(self._observations), rewards.astype(np.float64), terminated, truncated, infos

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        """Return what the method of every env returns."""
        return tuple(self._ask("call", [(name, arguments)] * self.num_envs))

    def _ask(self, command: str, arguments: Sequence[Any]) -> list[Any]:
        """Send every worker a command and return all answers; after a failure no worker is left."""
        if self.closed:
            raise self._failure or EnvironmentFailure("The envs are closed.")
        try:
            for worker, one in zip(self._workers, arguments, strict=True):
                worker.send(command, one)
            return [_value(worker.receive()) for worker in self._workers]
        except BaseException as error:  # Answers that are still on their way would be taken for later ones.
            self._failure = error if isinstance(error, EnvironmentFailure) else None
            self.close()
            raise

    def close_extras(self, **kwargs: Any) -> None:
        """Let the workers close their envs and end; kill those that take too long or are stopped."""
        if self._creator != os.getpid():
            return
        self.closed = True
        _open_envs.discard(self)
        for worker in self._workers:
            worker.leave()
        if late := end_processes(self.processes, _CLOSING_SECONDS):
            names = f"{', '.join(map(str, late[:_MOST_NAMED]))}{', ...' if len(late) > _MOST_NAMED else ''}"
            told = f"did not end within {_CLOSING_SECONDS:.0f} s and were killed"
            warnings.warn(f"The worker processes of these envs {told}: {names}.", stacklevel=2)


def _value(answer: Answer) -> Any:
    """Return what was answered.

    Raises:
        EnvironmentFailure: If the env, or the worker around it, failed.
        KeyboardInterrupt: If the env raised it.
    """
    kind, value, trace = answer
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "failure":
        raise EnvironmentFailure(value) from _RaisedInWorker(trace)
    return value


@atexit.register
def _close_all() -> None:
    """End the workers of envs that nobody closed: multiprocessing, which comes later, would wait for them for ever."""
    for envs in list(_open_envs):
        envs.close()
