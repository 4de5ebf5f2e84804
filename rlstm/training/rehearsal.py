"""A run's acting step and update on copies, in envs that don't exist, to time them with one thread and with more.

Nothing of the run is touched: no env is stepped, no weight, optimiser or normaliser changes, and nothing is drawn from
its generators. What an env takes for its own step is left out, as it doesn't depend on the threads here.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from rlstm.core.errors import NonFiniteError
from rlstm.core.threads import ThreadChoice, candidates, choose
from rlstm.core.trees import Tree, tree_map
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.collect import collect, start
from rlstm.training.config import ExperimentConfig
from rlstm.vector.adapter import EnvStep, VectorEnvs

_FIRST_STEPS = 8  # Steps T of a first look at how long an update takes.
_DEFAULT_STEPS = 64  # Where the agent's rollouts have no fixed length.
_PASS_SECONDS = 0.05  # What one pass should take.
_MOST_ROUNDS, _LEAST_ROUNDS, _ENOUGH_SECONDS = 5, 3, 1.0
_HOPELESS = 3.0  # So many times the seconds of one thread: not tried again.


class Rehearsed(Protocol):
    """What is rehearsed of a run."""

    config: ExperimentConfig[Any]
    device: torch.device
    policy: RecurrentPolicy
    agent: Any  # An ``OnPolicyAgent``.
    envs: VectorEnvs  # Only their number.


def measured_choice(training: Rehearsed, limit: int) -> ThreadChoice:
    """Choose the number of threads, ``limit`` at most, by rehearsing updates of a run; takes about half a second.

    The rounds go through all numbers of threads, so that a disturbance meets all of them. Of a long update only some
    steps are rehearsed. torch's number of threads is another one afterwards.
    """
    try:
        rehearse = Rehearsal(training)
        seconds = time_in_turns(rehearse, rehearse.num_steps, candidates(limit), torch.set_num_threads)
    except NonFiniteError:  # Made-up observations may be too much for some policies.
        return ThreadChoice(1, "measuring failed: the numbers were not finite")
    return choose(seconds)


def time_in_turns(
    rehearse: Callable[[int], float], most_steps: int, counts: Sequence[int], set_threads: Callable[[int], None]
) -> dict[int, list[float]]:
    """Return what a pass takes with each number of threads, 1 the first of them: one value a round.

    Args:
        rehearse: Takes the steps of a pass and returns its seconds.
        most_steps: Steps of a whole update.
        counts: The numbers of threads.
        set_threads: Makes torch compute with so many.
    """
    began, num_steps = time.perf_counter(), min(_FIRST_STEPS, most_steps)
    first: dict[int, float] = {}
    for count in counts:
        set_threads(count)
        first[count] = min(rehearse(num_steps), rehearse(num_steps))  # The first pass starts threads, makes buffers.
    hopeful = [count for count in counts if first[count] < _HOPELESS * first[1]]
    if hopeful == [1]:
        return {count: [first[count]] for count in counts}
    seconds: dict[int, list[float]] = {count: [] for count in hopeful}
    num_steps = max(num_steps, min(most_steps, int(num_steps * _PASS_SECONDS / first[1])))
    for turn in range(_MOST_ROUNDS):
        if turn >= _LEAST_ROUNDS and time.perf_counter() - began > _ENOUGH_SECONDS:
            break
        for count in hopeful if turn % 2 == 0 else hopeful[::-1]:
            set_threads(count)
            seconds[count].append(rehearse(num_steps))
    return seconds


class Rehearsal:
    """Collects a rollout and learns from it, each time from the same weights, one update past those of the run.

    Calling it with a number of steps returns the seconds that this took.
    """

    def __init__(self, training: Rehearsed) -> None:
        config, num_envs = training.config, training.envs.num_envs
        actions = torch.Generator(training.device).manual_seed(0)
        self._policy = copy.deepcopy(training.policy, {id(training.policy.generator): actions})
        with torch.random.fork_rng(devices=[]):
            self._agent = type(training.agent)(
                self._policy,
                config.algorithm.rehearsed(),
                num_envs=num_envs,
                total_steps=config.run.total_steps,
                generator=torch.Generator().manual_seed(0),
            )
        self._envs = _MadeUpEnvs(self._policy.observation_space, num_envs)
        self.num_steps: int = getattr(config.algorithm, "num_steps", _DEFAULT_STEPS)
        self._weights = copy.deepcopy(self._policy.state_dict())
        self(_FIRST_STEPS)  # A first update may only fill the normalisers and begin the values.
        self._weights = copy.deepcopy(self._policy.state_dict())

    def __call__(self, num_steps: int) -> float:
        """Collect so many steps and learn from them; returns the seconds."""
        with torch.random.fork_rng(devices=[]):
            self._policy.load_state_dict(self._weights)
            state = start(self._policy, self._envs, [])
            began = time.perf_counter()
            rollout = collect(self._policy, self._envs, state, num_steps, onward=self._agent.reads_onward)
            self._agent.update(rollout)
            self._agent.refresh(rollout, state)
            return time.perf_counter() - began


class _MadeUpEnvs:
    """Envs of a space that show random observations and never end; ``SteppedEnvs``."""

    def __init__(self, space: spaces.Space[Any], num_envs: int) -> None:
        self.num_envs = num_envs
        self.log_info: tuple[str, ...] = ()
        self._rng = np.random.default_rng(0)
        batch = batch_space(copy.deepcopy(space), num_envs)
        batch.seed(0)
        self._observations: Tree = tree_map(self._tame, batch.sample())

    def _tame(self, leaf: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return numbers of [0, 1) in place of floats, whose bounds may be those of their type."""
        return self._rng.random(leaf.shape).astype(leaf.dtype) if leaf.dtype.kind == "f" else leaf

    def reset(self, seeds: Sequence[int]) -> EnvStep:
        """Return the step after which all begins."""
        return self._step(np.zeros(self.num_envs))

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        """Return another step."""
        return self._step(self._rng.random(self.num_envs))

    def _step(self, rewards: npt.NDArray[np.float64]) -> EnvStep:
        nothing, nobody = np.zeros(self.num_envs, dtype=bool), np.zeros(0, dtype=np.intp)
        ends = (nothing, nothing, nothing, nothing)
        return EnvStep(self._observations, rewards, *ends, None, nobody, None, np.zeros(0))
