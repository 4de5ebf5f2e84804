"""Transforms that show the same in another form, or another thing in its place, one class each; see `transform.py`.

Letters in shapes: B lanes, S numbers of a hidden state, R = the lanes that a call is about.
"""

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlstm.core.arrays import ACTION_MASK_KEY, Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.checks import State, check_integer, check_state
from rlstm.envs.wrappers.transform import Observations, Transform, empty, map_numbers


class MaskBox(Transform):
    """Only the entries `keep` of a vector are seen, in this order: control without velocities, and the like."""

    stream = "MaskBoxChange"

    def __init__(self, env: Any, keep: Sequence[int]) -> None:
        super().__init__(env)
        space = self.inner_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"mask keeps entries of a vector, but the observations are {space}: leave the mask out.")
        for index in keep:
            check_integer("an index of mask", index, 0)
        if not keep or len(set(keep)) < len(keep) or max(keep) >= space.shape[0]:
            raise ValueError(
                f"mask keeps {list(keep)}; it must list one or more different indices from 0 to {space.shape[0] - 1}."
            )
        self.keep = list(keep)
        self.observation_space = spaces.Box(space.low[self.keep], space.high[self.keep], dtype=space.dtype.type)

    def see(self, rows: IntArray, observations: Observations) -> Observations:
        """Keep the entries."""
        return observations[:, self.keep]


class OneHot(Transform):
    """Every whole number of a Box, 0 <= i < `count`, is seen as a one-hot vector.

    For numbers that are symbols and no sizes, as in MiniGrid. A Box of W numbers becomes MultiBinary(W * count), the
    vectors one after the other.
    """

    stream = "OneHotChange"

    def __init__(self, env: Any, count: int) -> None:
        super().__init__(env)
        check_integer("the count of one_hot", count, 2)
        self.count = count
        seen: list[bool] = []
        map_numbers(lambda space, leaf: seen.append(_is_whole(space)), self.inner_space, empty(self.inner_space, (1,)))
        if not any(seen):
            raise ValueError(f"one_hot reads whole numbers of a Box, but the observations are {self.inner_space}.")
        self.observation_space = self._changed(self.inner_space)

    def _changed(self, space: gym.Space[Any]) -> gym.Space[Any]:
        if isinstance(space, spaces.Dict):
            parts = {key: part if key == ACTION_MASK_KEY else self._changed(part) for key, part in space.spaces.items()}
            return spaces.Dict(parts)
        if isinstance(space, spaces.Tuple):
            return spaces.Tuple([self._changed(part) for part in space.spaces])
        return spaces.MultiBinary(math.prod(space.shape or ()) * self.count) if _is_whole(space) else space

    def see(self, rows: IntArray, observations: Observations) -> Observations:
        """Write the numbers as one-hot vectors."""

        def one_hots(space: gym.Space[Any], leaf: Array) -> Array:
            if not _is_whole(space):
                return leaf
            if leaf.size and (leaf.min() < 0 or leaf.max() >= self.count):
                raise ValueError(
                    f"one_hot={self.count} reads the numbers 0 to {self.count - 1}, but {leaf.min()} to {leaf.max()} "
                    f"are seen: use one_hot={max(2, int(leaf.max()) + 1)} or more, for numbers from 0 on."
                )
            width = math.prod(space.shape or ())
            vectors: Array = leaf.reshape(len(leaf), width, 1) == np.arange(self.count)
            return vectors.reshape(len(leaf), width * self.count).astype(np.int8)

        return map_numbers(one_hots, self.inner_space, observations)


def _is_whole(space: gym.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and space.dtype.kind in "iu"


class MarkovianView(Transform):
    """The task's hidden state, (S,), takes the place of the observation: is it memory that fails, or control?

    A policy without memory that learns here shows how much of a failure on the task itself is one of memory. Only
    environments whose task has `hidden_state()` can be seen so.
    """

    stream = "MarkovianView"

    def __init__(self, env: Any) -> None:
        if not callable(getattr(getattr(env.unwrapped, "task", None), "hidden_state", None)):
            raise ValueError(
                "markovian shows `env.unwrapped.task.hidden_state()`, which "
                f"{type(env.unwrapped).__name__} doesn't have: leave it out, or take one of our environments "
                "('rlstm envs')."
            )
        super().__init__(env)
        self.task = env.unwrapped.task
        self.observation_space = spaces.Box(-math.inf, math.inf, self.task.hidden_state().shape[1:], np.float32)
        # A vector env resets finished lanes within its step; only the task sees the states in which they end.
        self._before_reset: Array | None = None
        self._reset_task, self.task.reset = self.task.reset, self._remember_and_reset

    def _remember_and_reset(self, rows: IntArray, new_task: BoolArray) -> None:
        self._before_reset = self.task.hidden_state()
        self._reset_task(rows, new_task)

    def begin(self, rows: IntArray, observations: Observations) -> Observations:
        """Show the states in which the episodes begin."""
        self._before_reset = None
        return self.task.hidden_state()[rows]

    def advance(self, observations: Observations, actions: Array, rewards: FloatArray) -> Observations:
        """Show the states that the step led to, before any lane was reset."""
        arrived, self._before_reset = self._before_reset, None
        return self.task.hidden_state() if arrived is None else arrived

    def get_state(self) -> State:
        """Return nothing: all is in the environment."""
        return {}

    def set_state(self, state: State) -> None:
        """Take over nothing."""
        check_state(state, {})
