"""What every wrapper is made of: `Transform`, written once for a batch of lanes.

`views.py`, `selections.py`, `sensors.py` and `actions.py` have the transforms there are; `adapters.py` puts one around
a single env or a vector env.

A transform sees what an environment returns and gives what the policy shall see instead. The order of calls is

    seed      at every reset of all lanes, for those that got a seed
    begin     for the lanes in which an episode begins, with its first observation
    act       for all lanes, with the policy's actions; returns those that are carried out
    advance   for all lanes, with what that step led to: for a finished lane the episode's last observation

so that a lane gives the same whether it is alone or one of many. Observations are arrays (B, ...), or dicts and tuples
of them. Text in a dict, and a dict's "action_mask", pass through unchanged: the one can't be changed, the other is the
environment's word on what is allowed now. Only a transform of the actions themselves changes a mask with them, here and
in infos (`tell`).

Letters in shapes: B lanes, R = the lanes that a call is about.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from rlstm.core.arrays import ACTION_MASK_KEY, Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.checks import State, check_state
from rlstm.envs.base.lane_random import LaneRandom

Observations = Any  # An array (B, ...), or a dict or tuple of observations.

NUMBERS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def is_text(space: gym.Space[Any]) -> bool:
    """Return whether a space is one of text: `Text`, or a package's own such as MiniGrid's missions."""
    return space.dtype is not None and space.dtype.kind == "U"


def map_numbers(function: Callable[..., Any], space: gym.Space[Any], *trees: Observations) -> Observations:
    """Apply `function(leaf_space, *leaves)` to the leaves that hold numbers; the others stay those of `trees[0]`.

    Raises:
        ValueError: The space has a part that is neither numbers, text, nor a dict or tuple of them.
    """
    if isinstance(space, spaces.Dict):
        return {
            key: trees[0][key]
            if key == ACTION_MASK_KEY
            else map_numbers(function, part, *(tree[key] for tree in trees))
            for key, part in space.spaces.items()
        }
    if isinstance(space, spaces.Tuple):
        parts = enumerate(space.spaces)
        return tuple(map_numbers(function, part, *(tree[index] for tree in trees)) for index, part in parts)
    if isinstance(space, NUMBERS):
        return function(space, *trees)
    if is_text(space):
        return trees[0]
    raise ValueError(
        f"observations of {space} can't be changed; wrappers change numbers, and dicts and tuples of them."
    )


def empty(space: gym.Space[Any], leading: tuple[int, ...]) -> Observations:
    """Return zeros `(*leading, ...)` in the types of the space, None where there are no numbers."""
    if isinstance(space, spaces.Dict):
        return {key: empty(part, leading) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(empty(part, leading) for part in space.spaces)
    return np.zeros((*leading, *(space.shape or ())), space.dtype) if isinstance(space, NUMBERS) else None


def choose(where: BoolArray, one: Array, other: Array) -> Array:
    """Return `one` in the lanes `where` (B,), `other` (B, ...) elsewhere, in its type."""
    chosen: Array = np.where(where.reshape(-1, *(1,) * (other.ndim - 1)), one, other)
    return chosen.astype(other.dtype, copy=False)


class Transform:
    """What a wrapper does to B lanes; this base class changes nothing.

    Args:
        env: The single env, of one lane, or the vector env that is wrapped.

    Attributes:
        inner_space: Of observations of one lane, as it is without the transform.
        observation_space: The same, as the transform makes it.
        inner_action_space: Of one lane, as it is without the transform.
        action_space: The same, as the transform makes it: of the policy's actions.
        random: The lanes' streams. They are no environment's, although they hang on the same seeds.
    """

    stream: ClassVar[str]
    """Seeds the random streams, together with the seeds of the lanes: another one for each class, and never changed."""

    state_arrays: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes that, with the random streams, are the whole state."""

    def __init__(self, env: gym.Env[Any, Any] | VectorEnv[Any, Any, Any]) -> None:
        if isinstance(env, VectorEnv):
            num_lanes, space, action_space = env.num_envs, env.single_observation_space, env.single_action_space
        else:
            num_lanes, space, action_space = 1, env.observation_space, env.action_space
        self.inner_space = self.observation_space = space
        self.inner_action_space = self.action_space = action_space
        self.every_lane: IntArray = np.arange(num_lanes)
        self.random = LaneRandom(num_lanes)
        self._entropy = np.random.default_rng()
        map_numbers(lambda space, leaf: leaf, space, empty(space, (1,)))  # Refuses its parts.

    def seed(self, seeds: Sequence[int | None], depth: int) -> None:
        """Seed the streams of the lanes that got a seed; one that never had one begins anywhere.

        Args:
            seeds: One entry a lane.
            depth: How many wrappers of the same kind lie within, so that no two share a stream.
        """
        kind = zlib.crc32(self.stream.encode())
        entropies = [None if seed is None else np.random.SeedSequence([seed, kind, depth]) for seed in seeds]
        words = [None if one is None else int(one.generate_state(1, np.uint64)[0]) for one in entropies]
        self.random.seed_lanes(words, self._entropy)

    def check_info(self, info: Mapping[str, Any]) -> None:
        """Raise ValueError if the info of a reset shows that the transform doesn't fit the environment."""

    def tell(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return the info of a reset or a step as the policy shall be told it; `info` itself stays as it is."""
        return info

    def see(self, rows: IntArray, observations: Observations) -> Observations:
        """Return what the lanes `rows` (R,) see in place of `observations` (R, ...), at whatever step of an episode."""
        return observations

    def begin(self, rows: IntArray, observations: Observations) -> Observations:
        """Change the first observations (R, ...) of the episodes that begin in `rows` (R,)."""
        return self.see(rows, observations)

    def act(self, actions: Array) -> Array:
        """Return the actions (B, ...) that are carried out in place of the policy's."""
        return actions

    def advance(self, observations: Observations, actions: Array, rewards: FloatArray) -> Observations:
        """Change what the step with the policy's `actions` led to, (B, ...); `rewards` (B,)."""
        return self.see(self.every_lane, observations)

    def get_state(self) -> State:
        """Return copies of all that the transform's future depends on."""
        return {**{name: getattr(self, name).copy() for name in self.state_arrays}, **self.random.get_state()}

    def set_state(self, state: State) -> None:
        """Take over a state of `get_state`.

        Raises:
            ValueError: The state is not one of this kind of wrapper.
        """
        check_state(state, self.get_state())
        for name in self.state_arrays:
            getattr(self, name)[...] = state[name]
        self.random.set_state(state)
