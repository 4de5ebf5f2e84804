"""The library's own account of episodes: raw returns, lengths and successes, whatever the env's wrappers say."""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import BoolArray

_WINDOW = 100  # Episodes behind a running mean, as in Stable-Baselines3.


class EpisodeStatistics:
    """Sums over the running episodes of every env, and the last finished ones.

    Args:
        num_envs: SteppedEnvs B.
        window: Finished episodes to remember.
    """

    def __init__(self, num_envs: int, window: int = _WINDOW) -> None:
        self.returns = np.zeros(num_envs)
        self.lengths = np.zeros(num_envs, dtype=np.int64)
        self.trial_returns = np.zeros(num_envs)
        self.num_episodes = 0
        self.sum_of_returns = 0.0  # Of all finished episodes.
        self.finished: dict[str, deque[float]] = {
            name: deque(maxlen=window) for name in ("returns", "lengths", "successes", "trial_returns")
        }

    def begin(self) -> None:
        """Forget the running episodes: all envs are reset."""
        for sums in (self.returns, self.lengths, self.trial_returns):
            sums[:] = 0

    def add(
        self,
        rewards: npt.NDArray[np.float64],
        finished: npt.NDArray[np.intp],
        successes: npt.NDArray[np.float64],
        trial_ends: BoolArray,
    ) -> None:
        """Take in one step of every env.

        Args:
            rewards: ``(B,)``.
            finished: ``(N,)`` envs whose episode ended with this step.
            successes: ``(N,)`` 1, 0, or NaN where unknown.
            trial_ends: ``(B,)`` envs whose trial ended too.
        """
        self.returns += rewards
        self.lengths += 1
        self.trial_returns += rewards
        if not len(finished):
            return
        self.num_episodes += len(finished)
        self.sum_of_returns += float(self.returns[finished].sum())
        self.finished["returns"].extend(self.returns[finished].tolist())
        self.finished["lengths"].extend(self.lengths[finished].tolist())
        self.finished["successes"].extend(successes[~np.isnan(successes)].tolist())
        self.finished["trial_returns"].extend(self.trial_returns[trial_ends].tolist())
        self.returns[finished] = 0.0
        self.lengths[finished] = 0
        self.trial_returns[trial_ends] = 0.0

    def metrics(self, *, trials: bool) -> dict[str, float]:
        """Return the means over the window and over all episodes so far, by metric name; nothing before the first."""
        names = {"ep_rew_mean": "returns", "ep_len_mean": "lengths", "success_rate": "successes"}
        if trials:
            names["trial_rew_mean"] = "trial_returns"
        means = {metric: self.finished[name] for metric, name in names.items()}
        metrics = {f"rollout/{metric}": float(np.mean(values)) for metric, values in means.items() if values}
        if self.num_episodes:
            metrics["rollout/episodes"] = float(self.num_episodes)
            metrics["rollout/ep_rew_mean_of_all"] = self.sum_of_returns / self.num_episodes
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return everything, unfinished episodes included."""
        return copy.deepcopy({**vars(self), "finished": {name: list(last) for name, last in self.finished.items()}})

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        lasts = {name: deque(last, self.finished[name].maxlen) for name, last in values["finished"].items()}
        vars(self).update({**values, "finished": {**self.finished, **lasts}})
