"""How good an actor is: complete episodes on seeds of their own.

Every env plays a quota fixed beforehand, so short episodes are not over-represented, and an env's later episodes count
for nothing. The state is reset as ``memory.lifetime`` says, as in training.

Under trials of K episodes a trial curve shows learning within a trial: a mean for each of its K episodes, over trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.envs.registration import EnvSpec

from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.seeding import Stream, generator, integer_seeds
from rlstm.evaluation.reading import Reader
from rlstm.policies.acting import SnapshotActor
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.inputs import PolicyInputsTracker
from rlstm.rollouts.play import ChooseActions, play_step
from rlstm.rollouts.statistics import InfoMeans
from rlstm.vector.adapter import SteppedEnvs, VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make

_NO_STRING = float("nan"), float("nan")
_BLOCK = 64  # Steps whose noise is drawn at once.
_MAX_ENVS = 64
# Steps after which an episode counts as it stands, since in some envs a policy can go on for ever; what is left of it
# counts as the env's next one.
MAX_LENGTH = 100_000
_METRICS = {
    "mean_return": "eval/mean_reward",
    "mean_length": "eval/mean_ep_length",
    "success_rate": "eval/success_rate",
    "mean_trial_return": "eval/mean_trial_reward",
    "label_error_rate": "eval/label_error_rate",
}
_ACTIONS: dict[str, Stream] = {
    "evaluation": "evaluation_actions",
    "training_evaluation": "training_evaluation_actions",
    "demonstrations": "demonstrations_actions",
}


@dataclass(frozen=True, repr=False)
class EvaluationResult:
    """Complete episodes, env after env, each env's in the order in which they were played."""

    returns: npt.NDArray[np.float64]  # (N,)
    lengths: npt.NDArray[np.int64]  # (N,)
    successes: npt.NDArray[np.float64]  # (N,) 1, 0, or NaN where the env doesn't say
    trial_returns: npt.NDArray[np.float64]  # (N / K,) or empty
    regrets: npt.NDArray[np.float64]  # (N,) info["regret"] summed over the episode, NaN where the env doesn't say
    clipped: npt.NDArray[np.int64]  # (N,) steps whose action was clipped to the bounds of its space
    cut: npt.NDArray[np.bool_]  # (N,) episodes that had not ended after ``max_steps`` and count as they stand
    infos: Mapping[str, npt.NDArray[np.float64]]  # By name (N,): means over the steps of the numbers that are logged.
    label_errors: npt.NDArray[np.float64] | None = None  # (N, 2) edit distance and labels of strings; None: no strings

    def __repr__(self) -> str:
        """Return the summary, not the arrays."""
        known = {name: value for name, value in self.summary().items() if value is not None}
        return f"EvaluationResult({', '.join(f'{name}={value:.4g}' for name, value in known.items())})"

    @property
    def mean_return(self) -> float:
        """Mean over episodes."""
        return float(self.returns.mean())

    @property
    def success_rate(self) -> float | None:
        """Share of successes, or None where the env doesn't say; an episode that was cut is none."""
        known = ~np.isnan(self.successes)
        return float(np.nansum(self.successes) / (known | self.cut).sum()) if known.any() else None

    @property
    def label_error_rate(self) -> float | None:
        """Sum of the edit distances over the sum of the labels (Graves et al. 2006), or None where no string is known.

        Episodes that were cut don't count.
        """
        if self.label_errors is None or np.isnan(self.label_errors).all():
            return None
        errors, labels = np.nansum(self.label_errors, axis=0)
        return float(errors / labels)

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
        """Return the curves over the episodes of a trial by metric name, (K,) each; nothing where K is not above 1."""
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
            "cut": int(self.cut.sum()),
        }
        if self.label_error_rate is not None:
            summary["label_error_rate"] = self.label_error_rate
        for name, values in self.infos.items():
            known = values[~np.isnan(values)]
            summary[f"info/{name}"] = float(known.mean()) if len(known) else None
        if len(self.trial_returns):
            summary["mean_trial_return"] = float(self.trial_returns.mean())
        return summary

    def metrics(self) -> dict[str, float | None]:
        """Return the means by metric name."""
        summary = self.summary()
        infos = {f"eval/{name}": value for name, value in summary.items() if name.startswith("info/")}
        return {metric: summary[name] for name, metric in _METRICS.items() if name in summary} | infos


def evaluation_envs(spec: EnvSpec, config: EnvConfig, memory: MemoryConfig, episodes: int) -> VectorEnvs:
    """Make envs for an evaluation: as many as have something to play, 64 at most."""
    per_trial = memory.episodes_per_trial or 1
    return make(spec, config, memory, num_envs=min(_MAX_ENVS, config.num_envs, -(-episodes // per_trial)))


def evaluate(
    policy: RecurrentPolicy,
    envs: SteppedEnvs,
    episodes: int,
    *,
    seed: int,
    deterministic: bool = True,
    ablate_memory: bool = False,
    stream: Literal["evaluation", "training_evaluation", "demonstrations"] = "evaluation",
    max_steps: int = MAX_LENGTH,
    on_step: Callable[[], Any] | None = None,
) -> EvaluationResult:
    """Play complete episodes; where the memory is bidirectional they are read before they are answered.

    Args:
        policy: Acts; its weights and normalisers don't change.
        envs: The envs, reset here.
        episodes: How many; with trials rounded up to whole ones.
        seed: Decides the envs' seeds and the sampled actions.
        deterministic: Take the likeliest action instead of sampling.
        ablate_memory: Reset the state before every step: what the actor is worth without its memory.
        stream: Where the seeds are from; training uses none of them.
        max_steps: Steps after which an episode counts as it stands; what is left of it is the env's next one.
        on_step: Called after every step of the envs, for a display.

    Returns:
        The episodes.
    """
    quotas = episode_quotas(episodes, envs.num_envs, policy.memory)
    source = generator(seed, _ACTIONS[stream], policy.device)

    def play(choose: ChooseActions) -> Player:
        player = Player(policy, envs, integer_seeds(seed, stream, envs.num_envs), max_steps)
        with torch.inference_mode():
            while (player.played < quotas).any():
                player.step(choose)
                if on_step is not None:
                    on_step()
        return player

    if policy.config.bidirectional:
        options = {"deterministic": deterministic, "ablate_memory": ablate_memory}
        reader = Reader(policy, envs.num_envs, generator=source, **options)
        play(reader.see)
        with torch.inference_mode():
            reader.read()
        return play(reader.answer).result(quotas)
    snapshot = policy.acting_snapshot(source, block=_BLOCK)
    state = policy.init_state(envs.num_envs)
    return play(SnapshotActor(snapshot, state, deterministic=deterministic, ablate_memory=ablate_memory)).result(quotas)


def episode_quotas(episodes: int, num_envs: int, memory: MemoryConfig) -> npt.NDArray[np.int64]:
    """Return how many episodes each env plays, ``(B,)``; with trials whole ones, so rounded up."""
    per_trial = memory.episodes_per_trial or 1
    return _quotas(-(-episodes // per_trial), num_envs) * per_trial


def _quotas(total: int, num_envs: int) -> npt.NDArray[np.int64]:
    quotas = np.full(num_envs, total // num_envs)
    quotas[: total % num_envs] += 1
    return quotas


class Player:
    """Plays envs, which it resets, and counts their episodes.

    The policy decides what is seen, the form of actions, and where memory ends.
    """

    def __init__(
        self, policy: RecurrentPolicy, envs: SteppedEnvs, seeds: Sequence[int], max_steps: int = MAX_LENGTH
    ) -> None:
        self.policy, self.envs, self._max_steps = policy, envs, max_steps
        self.tracker = PolicyInputsTracker(policy, envs.reset(seeds))
        self.returns, self.lengths = np.zeros(envs.num_envs), np.zeros(envs.num_envs, dtype=np.int64)
        self.regrets, self.clipped = np.zeros(envs.num_envs), np.zeros(envs.num_envs, dtype=np.int64)
        self.info = InfoMeans(envs.num_envs, envs.log_info)
        self.played = np.zeros(envs.num_envs, dtype=np.int64)
        self.episodes: list[list[tuple[float, ...]]] = [[] for _ in range(envs.num_envs)]

    def step(self, choose: ChooseActions) -> None:
        """Take a step in every env and count it."""
        outcome = play_step(self.policy, self.envs, self.tracker, choose)
        self.returns += outcome.rewards
        self.lengths += 1
        self.info.add(outcome.logged)
        self.regrets += np.nan if outcome.regrets is None else outcome.regrets
        if self.policy.distribution.clips:
            shares = self.policy.distribution.clipped_share(self.tracker.previous_actions)
            self.clipped += (shares > 0).cpu().numpy()
        successes = dict(zip(outcome.finished.tolist(), outcome.successes.tolist(), strict=True))
        found = [] if outcome.label_errors is None else outcome.label_errors.tolist()
        label_errors = dict(zip(outcome.finished.tolist() if found else [], found, strict=True))
        cut = (self.lengths >= self._max_steps) & ~outcome.episode_ends
        done = np.flatnonzero(outcome.episode_ends | cut)
        if not len(done):
            return
        infos = np.stack(list(self.info.means(done).values()), -1) if self.info.names else np.zeros((len(done), 0))
        for env, means in zip(done.tolist(), infos.tolist(), strict=True):
            success = successes.get(env, float("nan"))
            sums = float(self.regrets[env]), int(self.clipped[env]), bool(cut[env]), *label_errors.get(env, _NO_STRING)
            self.episodes[env].append((float(self.returns[env]), int(self.lengths[env]), success, *sums, *means))
        self.info.forget(done)
        for count in (self.returns, self.regrets, self.lengths, self.clipped):
            count[done] = 0
        self.played[done] += 1

    def result(self, quotas: npt.NDArray[np.int64]) -> EvaluationResult:
        """Return the first ``quotas`` ``(B,)`` episodes of the envs."""
        rows = [row for env, quota in enumerate(quotas) for row in self.episodes[env][:quota]]
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        returns, lengths, successes, regrets, clipped, cut, errors, labels, *infos = columns
        per_trial = self.policy.memory.episodes_per_trial
        trial_returns = np.zeros(0) if per_trial is None else returns.reshape(-1, per_trial).sum(1)
        by_name = dict(zip(self.info.names, infos, strict=True))
        label_errors = None if np.isnan(labels).all() else np.stack([errors, labels], axis=-1)
        return EvaluationResult(
            returns, lengths, successes, trial_returns, regrets, clipped, cut, by_name, label_errors
        )
