"""The library's own account of episodes: raw returns, lengths and successes, whatever the env's wrappers say."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from rlstm.memory import BoolArray

__all__ = ["EpisodeStatistics"]

_WINDOW = 100  # Episodes behind a running mean, as in Stable-Baselines3.


class EpisodeStatistics:
    """Sums over the running episodes of every lane, and the last finished ones.

    Args:
        num_envs: Lanes B.
        window: Finished episodes to remember.
    """

    def __init__(self, num_envs: int, window: int = _WINDOW) -> None:
        self.returns = np.zeros(num_envs)
        self.lengths = np.zeros(num_envs, dtype=np.int64)
        self.trial_returns = np.zeros(num_envs)
        self.num_episodes = 0
        self.finished: dict[str, deque[float]] = {
            name: deque(maxlen=window) for name in ("returns", "lengths", "successes", "trial_returns")
        }

    def add(
        self,
        rewards: npt.NDArray[np.float64],
        finished: npt.NDArray[np.intp],
        successes: npt.NDArray[np.float64],
        trial_ends: BoolArray,
    ) -> None:
        """Take in one step of every lane.

        Args:
            rewards: ``(B,)``.
            finished: ``(N,)`` lanes whose episode ended with this step.
            successes: ``(N,)`` 1, 0, or NaN where unknown.
            trial_ends: ``(B,)`` lanes whose trial ended too.
        """
        self.returns += rewards
        self.lengths += 1
        self.trial_returns += rewards
        if not len(finished):
            return
        self.num_episodes += len(finished)
        self.finished["returns"].extend(self.returns[finished].tolist())
        self.finished["lengths"].extend(self.lengths[finished].tolist())
        self.finished["successes"].extend(successes[~np.isnan(successes)].tolist())
        self.finished["trial_returns"].extend(self.trial_returns[trial_ends].tolist())
        self.returns[finished] = 0.0
        self.lengths[finished] = 0
        self.trial_returns[trial_ends] = 0.0

    def metrics(self, *, trials: bool) -> dict[str, float]:
        """Return the means over the window by their tags; nothing where nothing has finished."""
        names = {"ep_rew_mean": "returns", "ep_len_mean": "lengths", "success_rate": "successes"}
        if trials:
            names["trial_rew_mean"] = "trial_returns"
        means = {tag: self.finished[name] for tag, name in names.items()}
        return {f"rollout/{tag}": float(np.mean(values)) for tag, values in means.items() if values}

    def state_dict(self) -> dict[str, Any]:
        """Return everything, unfinished episodes included."""
        return {
            "returns": self.returns.copy(),
            "lengths": self.lengths.copy(),
            "trial_returns": self.trial_returns.copy(),
            "num_episodes": self.num_episodes,
            "finished": {name: list(values) for name, values in self.finished.items()},
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take everything back."""
        self.returns, self.lengths = values["returns"], values["lengths"]
        self.trial_returns, self.num_episodes = values["trial_returns"], values["num_episodes"]
        for name, finished in values["finished"].items():
            self.finished[name].clear()
            self.finished[name].extend(finished)
