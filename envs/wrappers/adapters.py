"""The two adapters of a `Transform`: one wraps a single env, the other a vector env.

Random numbers hang on the seed of the reset, and `get_state` gives what a wrapper itself remembers, so that runs are
repeated and resumed exactly. A lane with a seed gives what the single environment with that seed gives.

A vector environment must reset finished lanes in the same step. The last observations of finished lanes,
`infos["final_obs"]`, are changed as all others, before the transform begins anew with the first ones of the next
episodes.

Letters in shapes: B lanes, R = finished lanes.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from rlstm.core.arrays import BoolArray, IntArray
from rlstm.envs.base.checks import State, lane_seeds, load_class
from rlstm.envs.wrappers.transform import Observations, Transform, is_text

Seeds = int | Sequence[int | None] | None


def wrap(env: Any, transform: str | type[Transform], **arguments: Any) -> Any:
    """Wrap a single or a vector environment in a transform.

    Args:
        env: A Gymnasium environment or vector environment.
        transform: The class, or "module:Class".
        **arguments: Of the transform.

    Raises:
        ValueError: An argument is impossible, for itself or for this environment.
    """
    adapter = TransformedVectorEnv if isinstance(env, VectorEnv) else TransformedEnv
    return adapter(env, transform, **arguments)


class TransformedEnv(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """A transform as the wrapper of any environment whose spaces it can read; arguments are as of `wrap`."""

    vector_entry_point: ClassVar[str] = "rlstm.envs.wrappers.adapters:TransformedVectorEnv"
    """Of the adapter for vector environments."""

    def __init__(self, env: gym.Env[Any, Any], transform: str | type[Transform], **arguments: Any) -> None:
        kind: type[Transform] = load_class("transform", transform, Transform)
        name = f"{kind.__module__}:{kind.__qualname__}"  # A string, as Gymnasium can write only such specs as JSON.
        gym.utils.RecordConstructorArgs.__init__(self, transform=name, **arguments)
        gym.Wrapper.__init__(self, env)
        self.transform = kind(env, **arguments)
        self.observation_space = self.transform.observation_space
        self.action_space = self.transform.action_space
        self._depth = _same_within(env, kind)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; without a seed the random stream goes on."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.transform.check_info(info)
        self.transform.seed([seed], self._depth)
        seen = self.transform.begin(self.transform.every_lane, _batch(observation))
        return _single(seen), self.transform.tell(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take one step."""
        actions = np.asarray(action)[None]
        observation, reward, terminated, truncated, info = self.env.step(self.transform.act(actions)[0])
        seen = self.transform.advance(_batch(observation), actions, np.array([reward], dtype=np.float64))
        return _single(seen), reward, terminated, truncated, self.transform.tell(info)

    def get_state(self) -> State:
        """Return what this wrapper itself remembers; the environment within has a state of its own."""
        return self.transform.get_state()

    def set_state(self, state: State) -> None:
        """Go on from a state of `get_state`.

        Raises:
            ValueError: The state is not one of this kind of wrapper.
        """
        self.transform.set_state(state)


class TransformedVectorEnv(VectorWrapper[Any, Any, Any, Any, Any]):
    """A transform as the wrapper of a vector environment with SAME_STEP autoreset; arguments are as of `wrap`.

    Raises:
        ValueError: The environment doesn't reset finished lanes in the same step, or an argument is impossible.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], transform: str | type[Transform], **arguments: Any) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"The vector environment autoresets in mode {mode}; the wrapper needs SAME_STEP.")
        super().__init__(env)
        if _has_text(env.single_observation_space):
            raise ValueError(
                "The observations have text, which vector environments don't return as arrays: wrap single ones."
            )
        kind: type[Transform] = load_class("transform", transform, Transform)
        self.transform = kind(env, **arguments)
        self.single_observation_space = self.transform.observation_space
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        if self.transform.action_space is not self.transform.inner_action_space:
            self.single_action_space = self.transform.action_space
            self.action_space = batch_space(self.single_action_space, env.num_envs)
        self._depth = _same_within(env, kind)

    def reset(self, *, seed: Seeds = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every lane; seeds are as those of `BatchedVectorEnv`."""
        inner: Any = self.env
        observations, infos = inner.reset(seed=seed, options=options)
        self.transform.check_info(infos)
        self.transform.seed(lane_seeds(seed, self.num_envs), self._depth)
        return self.transform.begin(self.transform.every_lane, observations), self.transform.tell(infos)

    def step(self, actions: Any) -> tuple[Any, Any, BoolArray, BoolArray, dict[str, Any]]:
        """Take one step in every lane; finished lanes begin their next episode."""
        actions = np.asarray(actions)
        observations, rewards, terminated, truncated, infos = self.env.step(self.transform.act(actions))
        rows = np.flatnonzero(terminated | truncated)
        arrived = _with_rows(observations, rows, _final_rows(infos["final_obs"], rows)) if rows.size else observations
        seen = self.transform.advance(arrived, actions, np.asarray(rewards, dtype=np.float64))
        if rows.size:
            first = self.transform.begin(rows, _rows(observations, rows))
            infos, seen = {**infos, "final_obs": seen}, _with_rows(seen, rows, first)
        return seen, rewards, terminated, truncated, self.transform.tell(infos)

    def get_state(self) -> dict[str, Any] | None:
        """Return all that the lanes' future depends on, or None if the environment within can't say."""
        inner: Any = self.env
        state = inner.get_state() if hasattr(inner, "get_state") else None
        return None if state is None else {"wrapper": self.transform.get_state(), "env": state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state of `get_state`.

        Raises:
            ValueError: The state is not one of this kind of wrapper and environment.
        """
        inner: Any = self.env
        if state.keys() != {"wrapper", "env"}:
            raise ValueError(f"The state has {sorted(state)} and no place for that of a wrapper: pass get_state()'s.")
        inner.set_state(state["env"])
        self.transform.set_state(state["wrapper"])


def _same_within(env: Any, kind: type[Transform]) -> int:
    """Return how many wrappers with the same transform an environment already has."""
    count = 0
    while (inner := getattr(env, "env", None)) is not None:
        count += isinstance(env, TransformedEnv | TransformedVectorEnv) and type(env.transform) is kind
        env = inner
    return count


def _has_text(space: gym.Space[Any]) -> bool:
    """Return whether some part of a space is text."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return any(map(_has_text, space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces))
    return is_text(space)


def _map_leaves(function: Callable[..., Any], *trees: Observations) -> Observations:
    """Apply `function(*leaves)` to the leaves of dicts and tuples of the same structure."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: _map_leaves(function, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, tuple):
        return tuple(_map_leaves(function, *parts) for parts in zip(*trees, strict=True))
    return function(*trees)


def _batch(observation: Any) -> Observations:
    """Return one observation as a batch of one."""
    return _map_leaves(lambda leaf: np.asarray(leaf)[None], observation)


def _single(observations: Observations) -> Any:
    """Return the one observation of a batch of one."""
    return _map_leaves(lambda leaf: leaf[0], observations)


def _rows(observations: Observations, rows: IntArray) -> Observations:
    """Return the observations (R, ...) of the lanes `rows`."""
    return _map_leaves(lambda leaf: np.asarray(leaf)[rows], observations)


def _with_rows(observations: Observations, rows: IntArray, values: Observations) -> Observations:
    """Return a copy of the observations (B, ...) with `values` (R, ...) in the lanes `rows`."""

    def replaced(leaf: Any, new: Any) -> Any:
        result = np.array(leaf)
        result[rows] = new
        return result

    return _map_leaves(replaced, observations, values)


def _final_rows(final: Any, rows: IntArray) -> Observations:
    """Return the last observations (R, ...), whether they come as full arrays or one by one, in an array of objects."""
    if not (isinstance(final, np.ndarray) and final.dtype == object):
        return _rows(final, rows)
    return _map_leaves(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *(final[row] for row in rows))
