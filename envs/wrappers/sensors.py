"""Transforms of sensors that fail: they black out, are noisy, late, or drop out, one class each; see `transform.py`.

Letters in shapes: B lanes, R = the lanes that a call is about.
"""

import copy
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlstm.core.arrays import Array, FloatArray, IntArray
from rlstm.envs.base.checks import State, check_integer, check_number, check_state
from rlstm.envs.wrappers.transform import Observations, Transform, choose, empty, map_numbers


class Flicker(Transform):
    """With `probability`, at every step anew, the whole observation is zero (or what of its space is nearest to zero).

    Source: Hausknecht & Stone, "Deep recurrent Q-learning for partially observable MDPs", 2015, with 0.5.
    """

    stream = "FlickerChange"

    def __init__(self, env: Any, probability: float = 0.5) -> None:
        super().__init__(env)
        check_number("the probability of flicker", probability, 0.0, 1.0)
        self.probability = probability

    def see(self, rows: IntArray, observations: Observations) -> Observations:
        """Blank the lanes for which it is drawn."""
        blank = self.random.uniform(rows) < self.probability
        return map_numbers(lambda space, leaf: choose(blank, _nothing(space), leaf), self.inner_space, observations)


def _nothing(space: gym.Space[Any]) -> Array:
    nothing: Array = np.zeros(space.shape or ())
    if isinstance(space, spaces.Box):
        nothing = np.clip(nothing, space.low, space.high)
    elif isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        count = space.n if isinstance(space, spaces.Discrete) else space.nvec
        nothing = np.clip(nothing, space.start, space.start + count - 1)
    return nothing


class Noise(Transform):
    """Gaussian noise of standard deviation `std` on every Box, clipped to its bounds; integers are rounded."""

    stream = "NoiseChange"

    def __init__(self, env: Any, std: float) -> None:
        super().__init__(env)
        check_number("the standard deviation of noise", std, 0.0, float(np.finfo(np.float32).max))
        self.std = std
        boxes: list[gym.Space[Any]] = []
        map_numbers(lambda space, leaf: boxes.append(space), self.inner_space, empty(self.inner_space, (1,)))
        if not any(isinstance(space, spaces.Box) for space in boxes):
            raise ValueError(f"noise is added to a Box, but the observations are {self.inner_space}: leave it out.")

    def see(self, rows: IntArray, observations: Observations) -> Observations:
        """Add noise of its own to every number."""

        def noisy(space: gym.Space[Any], leaf: Array) -> Array:
            if not isinstance(space, spaces.Box):
                return leaf
            values = leaf + self.std * self.random.normal(rows, space.shape)
            values = values if space.dtype.kind == "f" else np.rint(values)
            return np.clip(values, space.low, space.high).astype(leaf.dtype)

        return map_numbers(noisy, self.inner_space, observations)


class _Keeping(Transform):
    """Keeps arrays of observations in `kept`, a tree as observations are; they are part of the state."""

    kept: Observations
    kept_name: ClassVar[str] = "kept"  # In the state.

    def _arrays(self) -> dict[str, Array]:
        arrays: list[Array] = []
        map_numbers(lambda space, array: arrays.append(array), self.inner_space, self.kept)
        return {f"{self.kept_name}_{index}": array for index, array in enumerate(arrays)}

    def get_state(self) -> State:
        """Return copies of the arrays too."""
        return {**super().get_state(), **{name: array.copy() for name, array in self._arrays().items()}}

    def set_state(self, state: State) -> None:
        """Take over a state of `get_state`."""
        check_state(state, self.get_state())
        for name, array in self._arrays().items():
            array[...] = state[name]
        self.random.set_state(state)


class Hold(_Keeping):
    """Numbers that are not finite, as of sensors that drop out, are seen as they were last.

    Where an episode begins with one, it is seen as the mean of all that was seen there in this lane, which says least;
    before there is any, as zero, or as what of its space is nearest to zero.
    """

    stream = "HoldChange"

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        floats: list[gym.Space[Any]] = []
        map_numbers(lambda space, leaf: floats.append(space), self.inner_space, empty(self.inner_space, (1,)))
        if not any(space.dtype is not None and space.dtype.kind == "f" for space in floats):
            raise ValueError(f"hold is for numbers that may not be finite, but observations are {self.inner_space}.")
        blank = _as_float64(self.inner_space, empty(self.inner_space, (len(self.every_lane),)))
        # For each number what was seen last, the mean of all, and how many they were.
        self.kept = blank, copy.deepcopy(blank), copy.deepcopy(blank)

    def begin(self, rows: IntArray, observations: Observations) -> Observations:
        """Begin to keep the lanes' numbers."""

        def fill(space: gym.Space[Any], leaf: Array, last: Array, mean: Array, count: Array) -> Array:
            last[rows] = np.where(count[rows] > 0, mean[rows], _nothing(space))
            return _held(leaf, last, mean, count, rows)

        return map_numbers(fill, self.inner_space, observations, *self.kept)

    def see(self, rows: IntArray, observations: Observations) -> Observations:
        """Put in what was seen last."""

        def fill(space: gym.Space[Any], leaf: Array, last: Array, mean: Array, count: Array) -> Array:
            return _held(leaf, last, mean, count, rows)

        return map_numbers(fill, self.inner_space, observations, *self.kept)

    def _arrays(self) -> dict[str, Array]:
        arrays: list[Array] = []
        for tree in self.kept:
            map_numbers(lambda space, array: arrays.append(array), self.inner_space, tree)
        return {f"{self.kept_name}_{index}": array for index, array in enumerate(arrays)}


def _as_float64(space: gym.Space[Any], tree: Observations) -> Observations:
    return map_numbers(lambda space, leaf: leaf.astype(np.float64), space, tree)


def _held(leaf: Array, last: Array, mean: Array, count: Array, rows: IntArray) -> Array:
    """Return a leaf with what is not finite as it was last, and keep it and the means."""
    if leaf.dtype.kind != "f":
        return leaf
    is_seen = np.isfinite(leaf)
    last[rows] = np.where(is_seen, leaf, last[rows])
    count[rows] += is_seen
    mean[rows] += np.where(is_seen, leaf - mean[rows], 0.0) / np.maximum(count[rows], 1)
    held: Array = last[rows].astype(leaf.dtype)
    return held


class Delay(_Keeping):
    """The observation of `steps` steps ago is seen; before there is one, the first of the episode."""

    stream = "DelayChange"
    kept_name = "ring"

    def __init__(self, env: Any, steps: int) -> None:
        super().__init__(env)
        check_integer("the steps of delay", steps, 1)
        self.steps = steps
        self._oldest = 0  # Place in the ring of what comes out next; lanes go in step, so one does for all.
        self.kept = empty(self.inner_space, (steps, len(self.every_lane)))  # A ring.

    def begin(self, rows: IntArray, observations: Observations) -> Observations:
        """Fill the lanes' rings with the first observation."""

        def fill(space: gym.Space[Any], leaf: Array, ring: Array) -> Array:
            ring[:, rows] = leaf
            return leaf

        return map_numbers(fill, self.inner_space, observations, self.kept)

    def advance(self, observations: Observations, actions: Array, rewards: FloatArray) -> Observations:
        """Take the oldest observations out and put the present ones in their place."""

        def exchange(space: gym.Space[Any], leaf: Array, ring: Array) -> Array:
            oldest: Array = ring[self._oldest].astype(leaf.dtype)
            ring[self._oldest] = leaf
            return oldest

        seen = map_numbers(exchange, self.inner_space, observations, self.kept)
        self._oldest = (self._oldest + 1) % self.steps
        return seen

    def get_state(self) -> State:
        """Return copies of the rings, and the place in them."""
        return {**super().get_state(), "oldest": np.array([self._oldest])}

    def set_state(self, state: State) -> None:
        """Take over a state of `get_state`."""
        super().set_state(state)
        self._oldest = int(state["oldest"][0])
