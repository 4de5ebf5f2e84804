"""Transforms about actions: the last one is repeated, or is shown with its reward, one class each; see `transform.py`.

Letters in shapes: B lanes, W the width of an action's one-hot vectors, R = the lanes that a call is about.
"""

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlstm.core.arrays import ACTION_MASK_KEY, Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.checks import check_actions, check_number
from rlstm.envs.wrappers.transform import NUMBERS, Observations, Transform, choose, empty


class StickyAction(Transform):
    """With `probability` the action carried out last is carried out once more; never at an episode's first step.

    Source: Machado et al., "Revisiting the Arcade Learning Environment", 2018, section 5, with 0.25.
    """

    stream = "StickyActionChange"
    state_arrays = ("last", "has_last")

    def __init__(self, env: Any, probability: float = 0.25) -> None:
        super().__init__(env)
        check_number("the probability of sticky", probability, 0.0, 1.0)
        self.check_info(self.inner_space.spaces if isinstance(self.inner_space, spaces.Dict) else {})
        self.probability = probability
        self.last: Array = empty(self.action_space, (len(self.every_lane),))
        if not isinstance(self.last, np.ndarray):
            raise ValueError(f"sticky repeats numbers, but the actions are {self.action_space}: leave it out.")
        self.has_last: BoolArray = np.zeros(len(self.every_lane), dtype=np.bool_)

    def check_info(self, info: Mapping[str, Any]) -> None:
        """Refuse environments that forbid actions."""
        if ACTION_MASK_KEY in info:
            raise ValueError("sticky could repeat what the environment's action mask forbids: leave it out.")

    def begin(self, rows: IntArray, observations: Observations) -> Observations:
        """Forget what was done in the episode before."""
        self.has_last[rows] = False
        return observations

    def act(self, actions: Array) -> Array:
        """Put the last action in place of the present one where that is drawn."""
        # Before choosing, which would broadcast and truncate what the environment itself refuses.
        if isinstance(self.action_space, spaces.Discrete | spaces.MultiDiscrete | spaces.Box):
            actions = check_actions(self.action_space, actions, len(self.every_lane))
        again = (self.random.uniform(self.every_lane) < self.probability) & self.has_last
        self.last = choose(again, self.last, actions).astype(self.last.dtype)
        self.has_last[:] = True
        return self.last.copy()


class PreviousActionReward(Transform):
    """The last action, as a one-hot vector where it is a choice, and the last reward are part of the observation.

    A vector of floats gets them appended; a dict gets the keys "previous_action" and "previous_reward"; anything else
    becomes a dict in which it is "observation". Both are zero at an episode's first step.
    """

    stream = "PreviousActionRewardChange"

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        if not isinstance(self.action_space, NUMBERS):
            raise ValueError(f"previous shows numbers, but the actions are {self.action_space}: leave it out.")
        inner, width = self.inner_space, spaces.flatdim(self.action_space)
        self.is_vector = isinstance(inner, spaces.Box) and len(inner.shape) == 1 and inner.dtype.kind == "f"
        dtype: Any = inner.dtype.type if self.is_vector and inner.dtype is not None else np.float32
        low, high = np.zeros(width, dtype), np.ones(width, dtype)
        if isinstance(self.action_space, spaces.Box):
            # Zero is what stands there at first, whether or not it is an action.
            low, high = np.minimum(self.action_space.low.ravel(), 0), np.maximum(self.action_space.high.ravel(), 0)
        limits = (np.append(low, -np.inf).astype(dtype), np.append(high, np.inf).astype(dtype))
        self.extra_space = spaces.Box(*limits, dtype=dtype)
        self.observation_space = self._joined_space()

    def _joined_space(self) -> gym.Space[Any]:
        inner, extra = self.inner_space, self.extra_space
        if self.is_vector and isinstance(inner, spaces.Box):
            limits = (np.concatenate([inner.low, extra.low]), np.concatenate([inner.high, extra.high]))
            return spaces.Box(*limits, dtype=extra.dtype.type)
        added = {
            "previous_action": spaces.Box(extra.low[:-1], extra.high[:-1], dtype=np.float32),
            "previous_reward": spaces.Box(-math.inf, math.inf, (1,), np.float32),
        }
        parts = dict(inner.spaces) if isinstance(inner, spaces.Dict) else {"observation": inner}
        if parts.keys() & added.keys():
            raise ValueError(f"previous adds {list(added)}, but the observations have {sorted(parts)}: leave it out.")
        return spaces.Dict({**parts, **added})

    def _join(self, observations: Observations, extras: Array) -> Observations:
        extras = extras.astype(self.extra_space.dtype)
        if self.is_vector:
            return np.concatenate([observations, extras], axis=1).astype(self.extra_space.dtype, copy=False)
        parts = observations if isinstance(self.inner_space, spaces.Dict) else {"observation": observations}
        return {**parts, "previous_action": extras[:, :-1], "previous_reward": extras[:, -1:]}

    def begin(self, rows: IntArray, observations: Observations) -> Observations:
        """Append zeros."""
        return self._join(observations, np.zeros((len(rows), *self.extra_space.shape)))

    def advance(self, observations: Observations, actions: Array, rewards: FloatArray) -> Observations:
        """Append the action and the reward."""
        parts = np.concatenate([_one_hots(self.action_space, actions), rewards[:, None]], axis=1)
        return self._join(observations, parts)


def _one_hots(space: gym.Space[Any], actions: Array) -> Array:
    """Return choices (B, ...) as one-hot vectors side by side, (B, W), and other actions as they are, flat."""
    flat = actions.reshape(len(actions), -1)
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return flat.astype(np.float64)
    counts = [space.n] if isinstance(space, spaces.Discrete) else space.nvec.ravel()
    choices = flat - np.ravel(space.start)
    parts = [choices[:, [index]] == np.arange(count) for index, count in enumerate(counts)]
    return np.concatenate(parts, axis=1).astype(np.float64)
