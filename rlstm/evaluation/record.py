"""Recording: complete trajectories as demonstrations, played exactly as an evaluation plays."""

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


class _RecordedEnvs:
    """Envs that keep the observations they return and the actions they are given."""

    def __init__(self, envs: SteppedEnvs) -> None:
        self._envs, self.num_envs, self.log_info = envs, envs.num_envs, envs.log_info
        self._ages = np.zeros(envs.num_envs, dtype=np.int64)
        self._shown: Tree = None
        # One entry a step, leaves (B, ...).
        self.observations: list[Tree] = []
        self.actions: list[npt.NDArray[Any]] = []
        self.rewards: list[npt.NDArray[np.float64]] = []

    def reset(self, seeds: Sequence[int]) -> EnvStep:
        """Reset the envs."""
        return self._show(self._envs.reset(seeds))

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        """Step the envs, and keep the actions with the observations that they answer.

        Raises:
            EnvironmentFailure: If an episode doesn't end.
        """
        outcome = self._envs.step(actions)
        self.observations.append(self._shown)
        self.actions.append(np.array(actions))
        self.rewards.append(np.array(outcome.rewards))
        self._ages = np.where(outcome.episode_ends, 0, self._ages + 1)
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

    Trajectories are ordered by env, those of an env in the order in which they were played.

    Args:
        policy: Acts; its weights and normalisers don't change.
        envs: The envs, reset here.
        episodes: How many; with trials rounded up to whole ones.
        seed: Decides the envs' seeds, from a stream that neither training nor evaluation uses.
        deterministic: Take the likeliest action instead of sampling.

    Raises:
        EnvironmentFailure: If an episode doesn't end.
    """
    quotas = episode_quotas(episodes, envs.num_envs, policy.memory)

    def play(recording: SteppedEnvs) -> EvaluationResult:
        return evaluate(policy, recording, episodes, seed=seed, deterministic=deterministic, stream="demonstrations")

    return recorded(play, envs, quotas, policy.memory, {"seed": seed, "deterministic": deterministic})


def recorded(
    play: Callable[[SteppedEnvs], EvaluationResult],
    envs: VectorEnvs,
    quotas: npt.NDArray[np.int64],
    memory: MemoryConfig,
    metadata: Mapping[str, Any],
) -> Demonstrations:
    """Call ``play`` and return what was seen and done in it, env after env.

    Args:
        play: Plays complete episodes in the envs that it is given, resetting them once.
        envs: What is played.
        quotas: The episodes of each env, ``(B,)``; those of the result.
        memory: Decides where trajectories end.
        metadata: Of the actor, as ``Demonstrations`` keeps it.

    Raises:
        EnvironmentFailure: If an episode doesn't end.
    """
    recording = _RecordedEnvs(envs)
    result = play(recording)
    trajectories = _trajectories(result, quotas, memory)
    lengths = [one.length for one in trajectories]
    valid = np.arange(max(lengths))[:, None] < lengths
    episode_starts = np.zeros_like(valid)
    for index, one in enumerate(trajectories):
        episode_starts[one.episode_starts, index] = True
    return Demonstrations(
        tree_map(lambda *rows: _columns(rows, trajectories), *recording.observations),
        _columns(recording.actions, trajectories).astype(envs.action_space.dtype, copy=False),
        _columns(recording.rewards, trajectories),
        valid,
        episode_starts,
        np.array([one.success for one in trajectories]),
        describe_space(envs.observation_space),
        describe_space(envs.action_space, bounds=True),
        {**metadata, "episodes_played": len(result.returns), "success_rate": result.success_rate},
    )


class _Trajectory(NamedTuple):
    """Where a trajectory stands among the recorded steps."""

    env: int
    begin: int  # Its first step.
    length: int
    episode_starts: npt.NDArray[np.int64]  # Counted from its first step.
    success: float  # Of its last episode.


def _trajectories(result: EvaluationResult, quotas: npt.NDArray[np.int64], memory: MemoryConfig) -> list[_Trajectory]:
    """Return the trajectories that the episodes of a result make up, in their order."""
    trajectories: list[_Trajectory] = []
    episode = 0
    for env, quota in enumerate(quotas.tolist()):
        size = {"episode": 1, "trial": memory.episodes_per_trial or 1, "lifelong": quota}[memory.lifetime]
        begin = 0
        for _ in range(quota // size if quota else 0):
            ends = result.lengths[episode : episode + size].cumsum()
            length, success = int(ends[-1]), float(result.successes[episode + size - 1])
            trajectories.append(_Trajectory(env, begin, length, np.array([0, *ends[:-1]]), success))
            begin, episode = begin + length, episode + size
    return trajectories


def _columns(rows: Sequence[npt.NDArray[Any]], trajectories: Sequence[_Trajectory]) -> npt.NDArray[Any]:
    """Return the rows ``(B, ...)`` of all steps, a column for each trajectory, ``(T, N, ...)``; zeros past its end."""
    played = np.stack(rows)
    longest = max(one.length for one in trajectories)
    columns = np.zeros((longest, len(trajectories), *played.shape[2:]), dtype=played.dtype)
    for index, one in enumerate(trajectories):
        columns[: one.length, index] = played[one.begin : one.begin + one.length, one.env]
    return columns
