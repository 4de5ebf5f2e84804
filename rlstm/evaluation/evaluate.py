"""How good an actor is: complete episodes on seeds of their own.

Every lane plays a quota fixed beforehand, so short episodes are not over-represented, and a lane's later episodes count
for nothing. The state is erased as ``memory.lifetime`` says, as in training.

Under trials of K episodes a trial curve shows learning within a trial: a mean for each of its K episodes, over trials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.envs.registration import EnvSpec
from torch import Tensor

from rlstm.core.memory_boundaries import MemoryConfig, crosses
from rlstm.core.seeding import Stream, generator, integer_seeds
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.inputs import PolicyInputsTracker
from rlstm.vector.adapter import SteppedEnvs, VectorEnvs
from rlstm.vector.make import EnvConfig, make

__all__ = [
    "MAX_LENGTH",
    "EvaluationResult",
    "Player",
    "episode_quotas",
    "evaluate",
    "evaluation_envs",
]

_MAX_LANES = 64
# Steps after which an episode counts as it stands, since in some envs a policy can go on for ever; what is left of it
# counts as the lane's next one.
MAX_LENGTH = 100_000
_ACTIONS: dict[str, Stream] = {"evaluation": "evaluation_actions", "demonstrations": "demonstrations_actions"}


@dataclass(frozen=True)
class EvaluationResult:
    """Complete episodes, lane after lane, each lane's in the order in which they were played."""

    returns: npt.NDArray[np.float64]  # (N,)
    lengths: npt.NDArray[np.int64]  # (N,)
    successes: npt.NDArray[np.float64]  # (N,) 1, 0, or NaN where the env doesn't say
    trial_returns: npt.NDArray[np.float64]  # (N / K,) or empty
    regrets: npt.NDArray[np.float64]  # (N,) info["regret"] summed over the episode, NaN where the env doesn't say
    clipped: npt.NDArray[np.int64]  # (N,) steps whose action was clipped to the bounds of its space

    @property
    def mean_return(self) -> float:
        """Mean over episodes."""
        return float(self.returns.mean())

    @property
    def success_rate(self) -> float | None:
        """Share of successes, or None where the env doesn't say."""
        known = self.successes[~np.isnan(self.successes)]
        return float(known.mean()) if len(known) else None

    @property
    def trial_curve(self) -> npt.NDArray[np.float64] | None:
        """Mean return of the i-th episode of a trial, (K,); None where there are no trials."""
        return self._by_place(self.returns).mean(axis=0) if len(self.trial_returns) else None

    @property
    def regret_curve(self) -> npt.NDArray[np.float64] | None:
        """Mean regret of the i-th episode of a trial, (K,), over the trials in which every episode's is known.

        None where there are no trials, or none whose regrets are known.
        """
        if not len(self.trial_returns):
            return None
        regrets = self._by_place(self.regrets)
        known = ~np.isnan(regrets).any(axis=1)
        return regrets[known].mean(axis=0) if known.any() else None

    def _by_place(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return values of episodes as (trials, K)."""
        return values.reshape(len(self.trial_returns), -1)

    def trial_curves(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the curves over the episodes of a trial by their tags, (K,) each; nothing where K is not above 1."""
        returns, regrets = self.trial_curve, self.regret_curve
        if returns is None or len(returns) < 2:
            return {}
        curves = {"trial/return": returns}
        if regrets is not None:
            curves["trial/cumulative_regret"] = regrets.cumsum()
        return curves

    def summary(self) -> dict[str, float | int | None]:
        """Return what the command line prints."""
        summary: dict[str, float | int | None] = {
            "episodes": len(self.returns),
            "mean_return": self.mean_return,
            "std_return": float(self.returns.std()),
            "mean_length": float(self.lengths.mean()),
            "success_rate": self.success_rate,
        }
        if len(self.trial_returns):
            summary["mean_trial_return"] = float(self.trial_returns.mean())
        return summary

    def metrics(self) -> dict[str, float | None]:
        """Return the means by their tags."""
        metrics: dict[str, float | None] = {
            "eval/mean_reward": self.mean_return,
            "eval/mean_ep_length": float(self.lengths.mean()),
            "eval/success_rate": self.success_rate,
        }
        if len(self.trial_returns):
            metrics["eval/mean_trial_reward"] = float(self.trial_returns.mean())
        return metrics


def evaluation_envs(spec: EnvSpec, config: EnvConfig, memory: MemoryConfig, episodes: int) -> VectorEnvs:
    """Make lanes for an evaluation: as many as have something to play, 64 at most."""
    per_trial = memory.episodes_per_trial or 1
    return make(spec, config, memory, num_envs=min(_MAX_LANES, config.num_envs, -(-episodes // per_trial)))


def evaluate(
    policy: RecurrentPolicy,
    envs: SteppedEnvs,
    episodes: int,
    *,
    seed: int,
    deterministic: bool = True,
    ablate_memory: bool = False,
    stream: Literal["evaluation", "demonstrations"] = "evaluation",
    on_step: Callable[[], Any] | None = None,
) -> EvaluationResult:
    """Play complete episodes.

    Args:
        policy: Acts; its weights and normalisers don't change.
        envs: The lanes, reset here.
        episodes: How many; with trials rounded up to whole ones.
        seed: Decides the lanes' seeds and the sampled actions.
        deterministic: Take the likeliest action instead of sampling.
        ablate_memory: Erase the state before every step: what the actor is worth without its memory.
        stream: Where the seeds are from; training uses neither.
        on_step: Called after every step of the lanes, for a display.

    Returns:
        The episodes.
    """
    quotas = episode_quotas(episodes, envs.num_envs, policy.memory)
    player = Player(policy, envs, integer_seeds(seed, stream, envs.num_envs))
    snapshot = policy.acting_snapshot(generator(seed, _ACTIONS[stream], policy.device))
    state = policy.init_state(envs.num_envs)

    def act(inputs: PolicyInputs, is_first: Tensor) -> Tensor:
        nonlocal state
        is_first = torch.ones_like(is_first) if ablate_memory else is_first
        actions, state = snapshot.act(inputs, state, is_first, deterministic=deterministic)
        return actions

    with torch.inference_mode():
        while (player.played < quotas).any():
            player.step(act)
            if on_step is not None:
                on_step()
    return player.result(quotas)


def episode_quotas(episodes: int, num_envs: int, memory: MemoryConfig) -> npt.NDArray[np.int64]:
    """Return how many episodes each lane plays, ``(B,)``; with trials whole ones, so rounded up."""
    per_trial = memory.episodes_per_trial or 1
    return _quotas(-(-episodes // per_trial), num_envs) * per_trial


def _quotas(total: int, num_envs: int) -> npt.NDArray[np.int64]:
    quotas = np.full(num_envs, total // num_envs)
    quotas[: total % num_envs] += 1
    return quotas


class Player:
    """Envs in play, and what they have reached.

    Args:
        policy: Decides what is seen, the form of actions, and where memory ends.
        envs: The lanes, reset here.
        seeds: One a lane.
    """

    def __init__(self, policy: RecurrentPolicy, envs: SteppedEnvs, seeds: Sequence[int]) -> None:
        self.policy, self.envs = policy, envs
        self.view = PolicyInputsTracker(policy, envs.reset(seeds))
        self.returns, self.lengths = np.zeros(envs.num_envs), np.zeros(envs.num_envs, dtype=np.int64)
        self.regrets, self.clipped = np.zeros(envs.num_envs), np.zeros(envs.num_envs, dtype=np.int64)
        self.played = np.zeros(envs.num_envs, dtype=np.int64)
        self.episodes: list[list[tuple[float, int, float, float, int]]] = [[] for _ in range(envs.num_envs)]

    def step(self, act: Callable[[PolicyInputs, Tensor], Tensor]) -> None:
        """Take a step in every lane.

        Args:
            act: From what is seen and ``is_first`` ``(B,)`` to actions ``(B, ...)``; memory is the caller's.
        """
        view = self.view
        actions = act(view.inputs(), torch.as_tensor(view.is_first, device=self.policy.device))
        distribution = self.policy.distribution
        outcome = self.envs.step(distribution.to_env(actions))
        episode_ends = outcome.terminated | outcome.truncated
        trial_ends = episode_ends & outcome.trial_starts
        view.advance(outcome, actions, crosses(self.policy.memory.lifetime, episode_ends, trial_ends))
        self.returns += outcome.rewards
        self.lengths += 1
        self.regrets += np.nan if outcome.regrets is None else outcome.regrets
        if distribution.clips:
            self.clipped += distribution.beyond_bounds(actions)
        successes = dict(zip(outcome.finished.tolist(), outcome.successes.tolist(), strict=True))
        done = np.flatnonzero(episode_ends | (self.lengths >= MAX_LENGTH))
        for lane in done.tolist():
            success = successes.get(lane, float("nan"))
            sums = float(self.regrets[lane]), int(self.clipped[lane])
            self.episodes[lane].append((float(self.returns[lane]), int(self.lengths[lane]), success, *sums))
        for count in (self.returns, self.regrets, self.lengths, self.clipped):
            count[done] = 0
        self.played[done] += 1

    def result(self, quotas: npt.NDArray[np.int64]) -> EvaluationResult:
        """Return the first ``quotas`` ``(B,)`` episodes of the lanes."""
        rows = [row for lane, quota in enumerate(quotas) for row in self.episodes[lane][:quota]]
        returns, lengths, successes, regrets, clipped = (np.array(column) for column in zip(*rows, strict=True))
        per_trial = self.policy.memory.episodes_per_trial
        trial_returns = np.zeros(0) if per_trial is None else returns.reshape(-1, per_trial).sum(1)
        return EvaluationResult(returns, lengths, successes, trial_returns, regrets, clipped)
