"""The library's own account of episodes: raw returns, lengths and successes, whatever the env's wrappers say."""

from __future__ import annotations

import copy
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import BoolArray
from rlstm.core.ranks import ALONE, Ranks

_WINDOW = 100  # Episodes behind a running mean, as in Stable-Baselines3.


class InfoMeans:
    """Means of numbers of info over the steps of the running episodes.

    Args:
        num_envs: B.
        names: Of the numbers, K of them.
    """

    def __init__(self, num_envs: int, names: Sequence[str]) -> None:
        self.names = list(names)
        self.sums, self.counts = np.zeros((2, num_envs, len(names)))

    def add(self, logged: npt.NDArray[np.float64] | None) -> None:
        """Take in the numbers of a step, ``(B, K)``, NaN where unknown; None for none at all."""
        if logged is not None:
            self.sums += np.nan_to_num(logged)
            self.counts += ~np.isnan(logged)

    def means(self, envs: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[np.float64]]:
        """Return by name the means over the episodes of some envs ``(N,)``, NaN where nothing was said."""
        sums, counts = self.sums[envs], self.counts[envs]
        means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
        return dict(zip(self.names, means.T, strict=True))

    def forget(self, envs: npt.NDArray[np.intp]) -> None:
        """Begin anew for some envs."""
        self.sums[envs] = self.counts[envs] = 0.0


class Outcome(NamedTuple):
    """How an episode ended."""

    episode_return: float
    success: float  # 1, 0, or NaN where unknown.


class _Ended(NamedTuple):
    """The episodes that ended at a step: arrays ``(N,)``, and the returns of the trials that ended with them."""

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    successes: npt.NDArray[np.float64]
    trial_returns: npt.NDArray[np.float64]
    infos: dict[str, npt.NDArray[np.float64]]


class EpisodeStatistics:
    """Sums over the running episodes of every env, and the last finished ones.

    Episodes count once ``settle`` has been called: where ranks share the envs, those of all are counted then, in the
    order of steps and envs.

    Args:
        num_envs: SteppedEnvs B.
        window: Finished episodes to remember.
        log_info: Names of the numbers of info that are logged, K of them.
        num_outcomes: How many of the last outcomes to keep.
    """

    def __init__(
        self, num_envs: int, window: int = _WINDOW, log_info: Sequence[str] = (), num_outcomes: int = 0
    ) -> None:
        self.returns = np.zeros(num_envs)
        self.lengths = np.zeros(num_envs, dtype=np.int64)
        self.trial_returns = np.zeros(num_envs)
        self.num_episodes = 0
        self.sum_of_returns = 0.0  # Of all finished episodes.
        self.finished: dict[str, deque[float]] = {
            name: deque(maxlen=window)
            for name in ("returns", "lengths", "successes", "trial_returns", *(f"info/{name}" for name in log_info))
        }
        self.info = InfoMeans(num_envs, log_info)
        self._ended: list[tuple[int, _Ended]] = []  # Since the last settling, with the step at which they did.
        self._num_steps = 0  # Since then.
        self.outcomes: deque[Outcome] = deque(maxlen=num_outcomes)

    def begin_stage(self) -> None:
        """Forget the running and the last finished episodes: other envs are played from here on. Sums go on."""
        self.begin()
        self.outcomes.clear()
        for last in self.finished.values():
            last.clear()

    def begin(self) -> None:
        """Forget the running episodes: all envs are reset."""
        for sums in (self.returns, self.lengths, self.trial_returns):
            sums[:] = 0
        self._ended, self._num_steps = [], 0
        self.info.forget(np.arange(len(self.returns)))

    def add(
        self,
        rewards: npt.NDArray[np.float64],
        finished: npt.NDArray[np.intp],
        successes: npt.NDArray[np.float64],
        trial_ends: BoolArray,
        logged: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Take in one step of every env.

        Args:
            rewards: ``(B,)``.
            finished: ``(N,)`` envs whose episode ended with this step.
            successes: ``(N,)`` 1, 0, or NaN where unknown.
            trial_ends: ``(B,)`` envs whose trial ended too.
            logged: ``(B, K)`` numbers of info, NaN where unknown.
        """
        self.info.add(logged)
        self.returns += rewards
        self.lengths += 1
        self.trial_returns += rewards
        self._num_steps += 1
        if not len(finished):
            return
        ended = self.returns[finished], self.lengths[finished], successes, self.trial_returns[trial_ends]
        self._ended.append((self._num_steps, _Ended(*ended, self.info.means(finished))))
        self.info.forget(finished)
        self.returns[finished] = 0.0
        self.lengths[finished] = 0
        self.trial_returns[trial_ends] = 0.0

    def settle(self, ranks: Ranks = ALONE) -> None:
        """Count the episodes that have ended since the last time, those of all ranks."""
        by_step: dict[int, list[_Ended]] = defaultdict(list)
        for ended_there in ranks.gather(self._ended):
            for step, ended in ended_there:
                by_step[step].append(ended)
        for step in sorted(by_step):
            self._count(by_step[step])
        self._ended, self._num_steps = [], 0

    def _count(self, parts: list[_Ended]) -> None:
        """Count the episodes that ended at one step."""
        returns, lengths, successes, trial_returns = map(np.concatenate, list(zip(*parts, strict=True))[:4])
        self.num_episodes += len(returns)
        self.sum_of_returns += float(returns.sum())
        self.outcomes.extend(map(Outcome, returns.tolist(), successes.tolist()))
        self.finished["returns"].extend(returns.tolist())
        self.finished["lengths"].extend(lengths.tolist())
        self.finished["successes"].extend(successes[~np.isnan(successes)].tolist())
        self.finished["trial_returns"].extend(trial_returns.tolist())
        for name in parts[0].infos:
            means = np.concatenate([part.infos[name] for part in parts])
            self.finished[f"info/{name}"].extend(means[~np.isnan(means)].tolist())

    def metrics(self, *, trials: bool) -> dict[str, float]:
        """Return the means over the window and over all episodes so far, by metric name; nothing before the first."""
        names = {"ep_rew_mean": "returns", "ep_len_mean": "lengths", "success_rate": "successes"}
        names |= {name: name for name in self.finished if name.startswith("info/")}
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
        finished = {name: list(last) for name, last in self.finished.items()}
        outcomes = [tuple(outcome) for outcome in self.outcomes]
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return copy.deepcopy({**kept, "finished": finished, "info": vars(self.info), "outcomes": outcomes})

    def load_finished(self, values: dict[str, Any]) -> None:
        """Load from what ``state_dict`` returned all but the running episodes."""
        running = {name: vars(self)[name] for name in ("returns", "lengths", "trial_returns")}
        self.load_state_dict({**values, **running, "info": vars(self.info)})

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        lasts = {name: deque(last, self.finished[name].maxlen) for name, last in values["finished"].items()}
        vars(self.info).update(values.get("info", {}))  # Earlier versions logged none.
        outcomes = deque(map(Outcome._make, values.get("outcomes", ())), self.outcomes.maxlen)  # New in this version.
        vars(self).update({**values, "finished": {**self.finished, **lasts}, "info": self.info, "outcomes": outcomes})
