"""Shards of a generation in several processes, with the result of one process to the last bit.

What the shards are is the caller's choice, never a matter of how many workers there are; every worker computes with one
thread. A worker that dies is named and replaced, and its shard is judged again.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import traceback
import warnings
from collections import deque
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from gymnasium.envs.registration import EnvSpec
from torch import Tensor

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.process import prepare_process
from rlstm.evolution.fitness import FitnessEvaluator, FitnessResult
from rlstm.evolution.teacher_sequences import TeacherSequences
from rlstm.training.config import ExperimentConfig
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.make import make

__all__ = ["Workers"]

_MOST_DEATHS = 3  # Of workers over one shard.


class Workers:
    """N processes that judge shards.

    Args:
        count: N.
        judge: As in this process; each worker has its own copy.
        spec: The env.
        config: The experiment.
    """

    def __init__(self, count: int, judge: FitnessEvaluator, spec: EnvSpec, config: ExperimentConfig[Any]) -> None:
        self._context = multiprocessing.get_context("spawn")
        # Plain pickles: torch's own way between processes shares memory, of which there may be little.
        self._task = pickle.dumps((judge.policy, judge.genotype, judge.solve, spec, config))
        self._workers = [self._begin(number) for number in range(count)]

    def _begin(self, number: int) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(there, self._task), name=f"rlstm worker {number}", daemon=True
        )
        process.start()
        there.close()
        return _Worker(number, process, here)

    def judge(
        self,
        shards: Sequence[Tensor],
        lessons: TeacherSequences | None,
        seeds: Sequence[int],
        episodes: int,
        exam: TeacherSequences | None = None,
    ) -> list[FitnessResult]:
        """Return the verdicts of shards in their order; see ``FitnessEvaluator.judge``.

        Raises:
            EnvironmentFailure: If an env breaks, or workers die over a shard again and again.
        """
        waiting = deque(enumerate(shards))
        deaths = [0] * len(shards)
        verdicts: dict[int, FitnessResult] = {}
        busy: dict[int, tuple[int, Tensor]] = {}
        while len(verdicts) < len(shards):
            for worker in self._workers:
                if waiting and worker.number not in busy:
                    index, shard = waiting.popleft()
                    busy[worker.number] = (index, shard)
                    worker.send((shard, lessons, list(seeds), episodes, exam))
            ready = wait([item for worker in self._workers for item in (worker.pipe, worker.process.sentinel)])
            for worker in list(self._workers):
                if worker.number not in busy or not (worker.pipe in ready or worker.process.sentinel in ready):
                    continue
                index, shard = busy.pop(worker.number)
                answer = worker.receive()
                if answer is None:
                    deaths[index] += 1
                    self._replace(worker, index, deaths[index])
                    waiting.appendleft((index, shard))
                elif isinstance(answer, Exception):
                    raise answer
                else:
                    verdicts[index] = answer
        return [verdicts[index] for index in range(len(shards))]

    def _replace(self, worker: _Worker, shard: int, deaths: int) -> None:
        worker.process.join()
        message = (
            f"{worker.process.name} died with exit code {worker.process.exitcode} over shard {shard} of its generation"
        )
        if deaths >= _MOST_DEATHS:
            raise EnvironmentFailure(f"{message}, as {deaths - 1} did before it. Try --workers 1 to see why.")
        warnings.warn(f"{message}; another one judges it again.", stacklevel=4)
        worker.pipe.close()
        self._workers[worker.number] = self._begin(worker.number)

    def close(self) -> None:
        """Stop the workers."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
        self._workers = []


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, number: int, process: Any, pipe: Connection) -> None:
        self.number, self.process, self.pipe = number, process, pipe

    def send(self, job: Any) -> None:
        """Send a job; that the worker may be dead shows when its answer is read."""
        try:
            self.pipe.send_bytes(pickle.dumps(job))
        except OSError:
            self.process.join()

    def receive(self) -> Any:
        """Return the answer, or None if the worker died before it could give one."""
        try:
            return pickle.loads(self.pipe.recv_bytes()) if self.pipe.poll() else None
        except (EOFError, OSError):
            return None


def _work(pipe: Connection, task: bytes) -> None:
    """Evaluate shards until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer.
    prepare_process(1)
    policy, genotype, solve, spec, config = pickle.loads(task)
    judge = FitnessEvaluator(policy, genotype, partial(_make_envs, spec, config), solve)
    while True:
        try:
            shard, *job = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer: FitnessResult | Exception = judge.judge(shard, *job)
        except EnvironmentFailure as error:
            answer = error
        except Exception:
            answer = EnvironmentFailure(f"A worker failed:\n{traceback.format_exc()}")
        pipe.send_bytes(pickle.dumps(answer))


def _make_envs(spec: EnvSpec, config: ExperimentConfig[Any], num_lanes: int) -> VectorEnvs:
    return make(spec, config.env, config.memory, num_envs=num_lanes)
