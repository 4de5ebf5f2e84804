"""Recording: complete lives of an actor as demonstrations, played exactly as an evaluation plays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.trees import Tree, tree_map
from rlstm.evaluation.demonstrations import Demonstrations, describe_space
from rlstm.evaluation.evaluate import MAX_LENGTH, EvaluationResult, episode_quotas, evaluate
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.adapter import EnvStep, SteppedEnvs, VectorEnvs

__all__ = ["on_tape", "record"]


class _TapedLanes:
    """Envs that keep what they show and what they are given; the one who plays can't tell the difference.

    Args:
        envs: The lanes.
    """

    def __init__(self, envs: SteppedEnvs) -> None:
        self._envs, self.num_envs = envs, envs.num_envs
        self._ages = np.zeros(envs.num_envs, dtype=np.int64)
        self._shown: Tree = None
        # One entry a step, leaves (B, ...).
        self.observations: list[Tree] = []
        self.actions: list[npt.NDArray[Any]] = []
        self.rewards: list[npt.NDArray[np.float64]] = []

    def reset(self, seeds: Sequence[int]) -> EnvStep:
        """Reset the lanes."""
        return self._show(self._envs.reset(seeds))

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        """Step the lanes, and keep what was answered to what they showed.

        Raises:
            EnvironmentFailure: If an episode doesn't end.
        """
        outcome = self._envs.step(actions)
        self.observations.append(self._shown)
        self.actions.append(np.array(actions))
        self.rewards.append(np.array(outcome.rewards))
        self._ages = np.where(outcome.terminated | outcome.truncated, 0, self._ages + 1)
        if self._ages.max() >= MAX_LENGTH:
            raise EnvironmentFailure(
                f"An episode has not ended after {MAX_LENGTH:,} steps, and only complete ones are demonstrations. Give "
                "the env a time limit (max_episode_steps when it is registered)."
            )
        return self._show(outcome)

    def _show(self, outcome: EnvStep) -> EnvStep:
        # Copied before the step is taken: an env may write its next observation into the same array.
        self._shown = tree_map(np.array, outcome.observations)
        return outcome


def record(
    policy: RecurrentPolicy, envs: VectorEnvs, episodes: int, *, seed: int, deterministic: bool = True
) -> Demonstrations:
    """Play complete episodes and return what was seen and done.

    Lives stand lane after lane, each lane's in the order in which they were played.

    Args:
        policy: Acts; its weights and normalisers don't change.
        envs: The lanes, reset here.
        episodes: How many; with trials rounded up to whole ones.
        seed: Decides the lanes' seeds, from a stream that neither training nor evaluation uses.
        deterministic: Take the likeliest action instead of sampling.

    Raises:
        EnvironmentFailure: If an episode doesn't end.
    """
    quotas = episode_quotas(episodes, envs.num_envs, policy.memory)

    def play(lanes: SteppedEnvs) -> EvaluationResult:
        return evaluate(policy, lanes, episodes, seed=seed, deterministic=deterministic, stream="demonstrations")

    return on_tape(play, envs, quotas, policy.memory, {"seed": seed, "deterministic": deterministic})


def on_tape(
    play: Callable[[SteppedEnvs], EvaluationResult],
    envs: VectorEnvs,
    quotas: npt.NDArray[np.int64],
    memory: MemoryConfig,
    metadata: Mapping[str, Any],
) -> Demonstrations:
    """Let somebody play and return what was seen and done, lane after lane.

    Args:
        play: Plays complete episodes in the lanes that it is given, resetting them once.
        envs: The lanes.
        quotas: The episodes of each lane, ``(B,)``; those of the result.
        memory: What a life is.
        metadata: Who played, as ``Demonstrations`` keeps it.

    Raises:
        EnvironmentFailure: If an episode doesn't end.
    """
    tape = _TapedLanes(envs)
    result = play(tape)
    lives = _lives(result, quotas, memory)
    valid = np.arange(max(life.length for life in lives))[:, None] < [life.length for life in lives]
    episode_starts = np.zeros_like(valid)
    for index, life in enumerate(lives):
        episode_starts[life.episode_starts, index] = True
    return Demonstrations(
        tree_map(lambda *rows: _columns(rows, lives), *tape.observations),
        _columns(tape.actions, lives).astype(envs.action_space.dtype, copy=False),
        _columns(tape.rewards, lives),
        valid,
        episode_starts,
        np.array([life.success for life in lives]),
        describe_space(envs.observation_space),
        describe_space(envs.action_space, bounds=True),
        {**metadata, "episodes_played": len(result.returns), "success_rate": result.success_rate},
    )


class _Life(NamedTuple):
    """Where on the tape a life is."""

    lane: int
    begin: int  # Its first step.
    length: int
    episode_starts: npt.NDArray[np.int64]  # Counted from its first step.
    success: float  # Of its last episode.


def _lives(result: EvaluationResult, quotas: npt.NDArray[np.int64], memory: MemoryConfig) -> list[_Life]:
    """Return the lives that the episodes of a result make up, in their order."""
    lives, episode = [], 0
    for lane, quota in enumerate(quotas.tolist()):
        size = {"episode": 1, "trial": memory.episodes_per_trial or 1, "lifelong": quota}[memory.lifetime]
        begin = 0
        for _ in range(quota // size if quota else 0):
            ends = result.lengths[episode : episode + size].cumsum()
            length, success = int(ends[-1]), float(result.successes[episode + size - 1])
            lives.append(_Life(lane, begin, length, np.array([0, *ends[:-1]]), success))
            begin, episode = begin + length, episode + size
    return lives


def _columns(rows: Sequence[npt.NDArray[Any]], lives: Sequence[_Life]) -> npt.NDArray[Any]:
    """Return the rows ``(B, ...)`` of all steps as one column a life, ``(T, N, ...)``, with zeros past its end."""
    played = np.stack(rows)
    columns = np.zeros((max(life.length for life in lives), len(lives), *played.shape[2:]), dtype=played.dtype)
    for index, life in enumerate(lives):
        columns[: life.length, index] = played[life.begin : life.begin + life.length, life.lane]
    return columns
