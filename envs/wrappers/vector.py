"""The wrappers of `wrappers.py` for vector environments that reset finished lanes in the same step.

The last observations of finished lanes, `infos["final_obs"]`, are changed as all others, before the wrapper begins anew
with the first ones of the next episodes.

Letters in shapes: B lanes, R = finished lanes.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.checks import check_state, lane_seeds
from rlstm.envs.wrappers.single import hidden_space, hidden_task, same_within
from rlstm.envs.wrappers.transform import LaneChange, Observations, is_text
from rlstm.envs.wrappers.transforms import (
    DelayChange,
    FlickerChange,
    MaskBoxChange,
    NoiseChange,
    OneHotChange,
    PreviousActionRewardChange,
    StickyActionChange,
)

Seeds = int | Sequence[int | None] | None


class StatefulVectorWrapper(VectorWrapper[Any, Any, Any, Any, Any]):
    """A vector wrapper whose state is its own and that of the environment within.

    Raises:
        ValueError: The environment doesn't reset finished lanes in the same step.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"The vector environment autoresets in mode {mode}; the wrapper needs SAME_STEP.")
        super().__init__(env)

    def own_state(self) -> dict[str, Any]:
        """What the wrapper itself remembers."""
        return {}

    def set_own_state(self, state: dict[str, Any]) -> None:
        """Takes over a state of `own_state`."""
        check_state(state, {})

    def get_state(self) -> dict[str, Any] | None:
        """All that the lanes' future depends on, or None where the environment within can't say."""
        inner: Any = self.env
        state = inner.get_state() if hasattr(inner, "get_state") else None
        return None if state is None else {"wrapper": self.own_state(), "env": state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a state of `get_state`.

        Raises:
            ValueError: The state is not one of this kind of wrapper and environment.
        """
        inner: Any = self.env
        if state.keys() != {"wrapper", "env"}:
            raise ValueError(f"The state has {sorted(state)} and no place for that of a wrapper: pass get_state()'s.")
        inner.set_state(state["env"])
        self.set_own_state(state["wrapper"])


class VectorLaneWrapper(StatefulVectorWrapper):
    """A change as the wrapper of a vector environment.

    Args:
        env: A vector environment with SAME_STEP autoreset whose spaces the change can read.
        **arguments: Of the change, `change_class`.

    Raises:
        ValueError: An argument is impossible, for itself or for this environment.
    """

    change_class: ClassVar[type[LaneChange]]

    def __init__(self, env: VectorEnv[Any, Any, Any], **arguments: Any) -> None:
        super().__init__(env)
        if has_text(env.single_observation_space):
            raise ValueError(
                "The observations have text, which vector environments don't return as arrays: wrap single ones."
            )
        self.change = self.change_class(
            env.single_observation_space, env.single_action_space, env.num_envs, **arguments
        )
        self.single_observation_space = self.change.observation_space
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._depth = same_within(env, VectorLaneWrapper, self.change_class)

    def reset(self, *, seed: Seeds = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in every lane; seeds are as those of `BatchedVectorEnv`."""
        inner: Any = self.env
        observations, infos = inner.reset(seed=seed, options=options)
        self.change.check_info(infos)
        self.change.seed(lane_seeds(seed, self.num_envs), self._depth)
        return self.change.begin(self.change.every_lane, observations), infos

    def step(self, actions: Any) -> tuple[Any, Any, BoolArray, BoolArray, dict[str, Any]]:
        """Takes one step in every lane; finished lanes begin their next episode."""
        actions = np.asarray(actions)
        observations, rewards, terminated, truncated, infos = self.env.step(self.change.act(actions))
        rows = np.flatnonzero(terminated | truncated)
        arrived = _with_rows(observations, rows, _final_rows(infos["final_obs"], rows)) if rows.size else observations
        seen = self.change.advance(arrived, actions, np.asarray(rewards, dtype=np.float64))
        if rows.size:
            first = self.change.begin(rows, _rows(observations, rows))
            infos, seen = {**infos, "final_obs": seen}, _with_rows(seen, rows, first)
        return seen, rewards, terminated, truncated, infos

    def own_state(self) -> dict[str, Any]:
        """What the change remembers."""
        return self.change.get_state()

    def set_own_state(self, state: dict[str, Any]) -> None:
        """Takes over a state of `own_state`."""
        self.change.set_state(state)


def has_text(space: gym.Space[Any]) -> bool:
    """Whether some part of a space is text."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return any(map(has_text, space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces))
    return is_text(space)


def _rows(observations: Observations, rows: IntArray) -> Observations:
    if isinstance(observations, dict):
        return {key: _rows(part, rows) for key, part in observations.items()}
    if isinstance(observations, tuple):
        return tuple(_rows(part, rows) for part in observations)
    return np.asarray(observations)[rows]


def _with_rows(observations: Observations, rows: IntArray, values: Observations) -> Observations:
    """A copy of the observations (B, ...) with `values` (R, ...) in the lanes `rows`."""
    if isinstance(observations, dict):
        return {key: _with_rows(part, rows, values[key]) for key, part in observations.items()}
    if isinstance(observations, tuple):
        return tuple(_with_rows(part, rows, value) for part, value in zip(observations, values, strict=True))
    result = np.array(observations)
    result[rows] = values
    return result


def _final_rows(final: Any, rows: IntArray) -> Observations:
    """The last observations (R, ...), whether they come as full arrays or as an array of single observations."""
    if not (isinstance(final, np.ndarray) and final.dtype == object):
        return _rows(final, rows)

    def stack(parts: list[Any]) -> Observations:
        if isinstance(parts[0], dict):
            return {key: stack([part[key] for part in parts]) for key in parts[0]}
        if isinstance(parts[0], tuple):
            return tuple(stack(list(column)) for column in zip(*parts, strict=True))
        return np.stack([np.asarray(part) for part in parts])

    return stack([final[row] for row in rows])


class VectorMaskBox(VectorLaneWrapper):
    """Only the entries `keep` of a vector are seen."""

    change_class = MaskBoxChange


class VectorOneHot(VectorLaneWrapper):
    """Every whole number of a Box, 0 <= i < `count`, is seen as a one-hot vector: symbols, not sizes."""

    change_class = OneHotChange


class VectorFlicker(VectorLaneWrapper):
    """The whole observation is zero with `probability` (0.5) at every step."""

    change_class = FlickerChange


class VectorNoise(VectorLaneWrapper):
    """Gaussian noise of standard deviation `std` on Box observations."""

    change_class = NoiseChange


class VectorDelay(VectorLaneWrapper):
    """The observation of `steps` steps ago is seen."""

    change_class = DelayChange


class VectorStickyAction(VectorLaneWrapper):
    """The last action is carried out once more with `probability` (0.25)."""

    change_class = StickyActionChange


class VectorPreviousActionReward(VectorLaneWrapper):
    """The last action of the policy and the last reward are part of the observation."""

    change_class = PreviousActionRewardChange


class VectorMarkovianView(StatefulVectorWrapper):
    """The task's hidden states, (B, S), take the place of the observations; see `wrappers.MarkovianView`.

    Raises:
        ValueError: The environment has none.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self.task = hidden_task(env)
        self.single_observation_space = hidden_space(self.task)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._final: Array = self.task.hidden_state()
        # The shell resets finished lanes within its step; only the task sees the states in which they end.
        self._reset_task, self.task.reset = self.task.reset, self._remember_and_reset

    def _remember_and_reset(self, rows: IntArray, new_task: BoolArray) -> None:
        self._final = self.task.hidden_state()
        self._reset_task(rows, new_task)

    def reset(self, *, seed: Seeds = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Begins an episode in every lane."""
        inner: Any = self.env
        infos = inner.reset(seed=seed, options=options)[1]
        return self.task.hidden_state(), infos

    def step(self, actions: Any) -> tuple[Array, Any, BoolArray, BoolArray, dict[str, Any]]:
        """Takes one step in every lane; finished lanes begin their next episode."""
        _, rewards, terminated, truncated, infos = self.env.step(actions)
        if np.any(terminated | truncated):
            infos = {**infos, "final_obs": self._final}
        return self.task.hidden_state(), rewards, terminated, truncated, infos
