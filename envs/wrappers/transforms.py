"""The transforms that wrappers make of what a policy sees and does, one class each; see `transform.py`.

Letters in shapes: B lanes, R = the lanes that a call is about.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlstm.core.arrays import ACTION_MASK_KEY, Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.checks import State, check_actions, check_integer, check_number, check_state
from rlstm.envs.wrappers.transform import NUMBERS, Observations, Transform, choose, empty, map_numbers


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
