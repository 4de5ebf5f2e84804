"""Wrappers that make memory needed, or needless, in any environment; `WRAPPERS` is the table of what there is.

On the command line `--env-wrappers mask=0,2 flicker=0.3`, or in the id `CartPole-v1+mask=0,2+flicker=0.3`; the first is
the innermost. In Python they wrap single Gymnasium environments:

    env = Flicker(MaskBox(gymnasium.make("CartPole-v1"), keep=[0, 2]), probability=0.3)

Each has a twin in `vector_wrappers.py` for vector environments, and both are shells over the same rules (`changes.py`):
a lane with a seed lives through what the single environment with that seed does. Random numbers hang on the seed of the
reset, and `get_state` gives what a wrapper itself remembers, so that runs are repeated and resumed exactly.

`previous` or the policy's own `inputs.previous_action` and `inputs.previous_reward`? Take the policy's: it knows where
memory begins, so in trials they reach over the ends of episodes. Take the wrapper where the observation itself must
hold them: for a policy that isn't ours, or inside another wrapper (with `previous delay=2` they come late too).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlstm.envs.base.checks import State, check_state
from rlstm.envs.wrappers.transform import LaneChange, Observations
from rlstm.envs.wrappers.transforms import (
    DelayChange,
    FlickerChange,
    MaskBoxChange,
    NoiseChange,
    OneHotChange,
    PreviousActionRewardChange,
    StickyActionChange,
)

_LANE = np.zeros(1, dtype=np.int64)


class LaneWrapper(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """A change as the wrapper of one environment.

    Args:
        env: Any environment whose spaces the change can read.
        **arguments: Of the change, `change_class`.

    Raises:
        ValueError: An argument is impossible, for itself or for this environment.
    """

    change_class: ClassVar[type[LaneChange]]
    vector_entry_point: ClassVar[str]
    """Of the twin for vector environments."""

    def __init__(self, env: gym.Env[Any, Any], **arguments: Any) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, **arguments)
        gym.Wrapper.__init__(self, env)
        self.change = self.change_class(env.observation_space, env.action_space, 1, **arguments)
        self.observation_space = self.change.observation_space
        self._depth = same_within(env, LaneWrapper, self.change_class)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; without a seed the random stream goes on."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.change.check_info(info)
        self.change.seed([seed], self._depth)
        return _single(self.change.begin(_LANE, _batch(observation))), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes one step."""
        actions = np.asarray(action)[None]
        observation, reward, terminated, truncated, info = self.env.step(self.change.act(actions)[0])
        seen = self.change.advance(_batch(observation), actions, np.array([reward], dtype=np.float64))
        return _single(seen), reward, terminated, truncated, info

    def get_state(self) -> State:
        """What this wrapper itself remembers; the environment within has a state of its own."""
        return self.change.get_state()

    def set_state(self, state: State) -> None:
        """Goes on from a state of `get_state`.

        Raises:
            ValueError: The state is not one of this kind of wrapper.
        """
        self.change.set_state(state)


def same_within(env: Any, shell: type[Any], change_class: type[LaneChange]) -> int:
    """How many wrappers of the same kind an environment already has."""
    count = 0
    while (inner := getattr(env, "env", None)) is not None:
        count += isinstance(env, shell) and type(env.change) is change_class
        env = inner
    return count


def _batch(observation: Any) -> Observations:
    """One observation as a batch of one."""
    if isinstance(observation, dict):
        return {key: _batch(part) for key, part in observation.items()}
    return tuple(map(_batch, observation)) if isinstance(observation, tuple) else np.asarray(observation)[None]


def _single(observations: Observations) -> Any:
    if isinstance(observations, dict):
        return {key: _single(part) for key, part in observations.items()}
    return tuple(map(_single, observations)) if isinstance(observations, tuple) else observations[0]


class MaskBox(LaneWrapper):
    """Only the entries `keep` of a vector are seen."""

    change_class = MaskBoxChange
    vector_entry_point = "rlstm.envs.wrappers.vector:VectorMaskBox"


class OneHot(LaneWrapper):
    """Every whole number of a Box, 0 <= i < `count`, is seen as a one-hot vector: symbols, not sizes."""

    change_class = OneHotChange
    vector_entry_point = "rlstm.envs.wrappers.vector:VectorOneHot"


class Flicker(LaneWrapper):
    """The whole observation is zero with `probability` (0.5) at every step."""

    change_class = FlickerChange
    vector_entry_point = "rlstm.envs.wrappers.vector:VectorFlicker"


class Noise(LaneWrapper):
    """Gaussian noise of standard deviation `std` on Box observations."""

    change_class = NoiseChange
    vector_entry_point = "rlstm.envs.wrappers.vector:VectorNoise"


class Delay(LaneWrapper):
    """The observation of `steps` steps ago is seen."""

    change_class = DelayChange
    vector_entry_point = "rlstm.envs.wrappers.vector:VectorDelay"


class StickyAction(LaneWrapper):
    """The last action is carried out once more with `probability` (0.25)."""

    change_class = StickyActionChange
    vector_entry_point = "rlstm.envs.wrappers.vector:VectorStickyAction"


class PreviousActionReward(LaneWrapper):
    """The last action of the policy and the last reward are part of the observation."""

    change_class = PreviousActionRewardChange
    vector_entry_point = "rlstm.envs.wrappers.vector:VectorPreviousActionReward"


class MarkovianView(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """The task's hidden state, (S,), takes the place of the observation: is it memory that fails, or control?

    A policy without memory that learns here shows how much of a failure on the task itself is one of memory.

    Args:
        env: One of our environments, whose task has `hidden_state()`.

    Raises:
        ValueError: The environment has none.
    """

    vector_entry_point: ClassVar[str] = "rlstm.envs.wrappers.vector:VectorMarkovianView"

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self.task = hidden_task(env)
        self.observation_space = hidden_space(self.task)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        info = self.env.reset(seed=seed, options=options)[1]
        return self.task.hidden_state()[0], info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes one step."""
        outcome = self.env.step(action)
        return self.task.hidden_state()[0], *outcome[1:]

    def get_state(self) -> State:
        """Nothing: all is in the environment."""
        return {}

    def set_state(self, state: State) -> None:
        """Takes over nothing."""
        check_state(state, {})


def hidden_task(env: Any) -> Any:
    """The task of an environment, single or vector; ValueError where it has no hidden state to show."""
    task = getattr(env.unwrapped, "task", None)
    if not callable(getattr(task, "hidden_state", None)):
        raise ValueError(
            f"markovian shows `env.unwrapped.task.hidden_state()`, which {type(env.unwrapped).__name__} doesn't have: "
            "leave it out, or take one of our environments ('rlstm envs')."
        )
    return task


def hidden_space(task: Any) -> spaces.Box:
    """The space of a task's hidden state, (S,)."""
    return spaces.Box(-math.inf, math.inf, task.hidden_state().shape[1:], np.float32)


@dataclass(frozen=True)
class WrapperRow:
    """A wrapper by its name on the command line.

    Attributes:
        entry_point: "module:Class" of the wrapper of single environments; its class names its vector twin.
        read: From the text after "=", None where there is none, to arguments. ValueError says what it must be.
        usage: How it is written.
        effect: What it does.
    """

    entry_point: str
    read: Callable[[str | None], dict[str, Any]]
    usage: str
    effect: str


def _indices(text: str | None) -> dict[str, Any]:
    words = (text or "").split(",")
    if not all(word.strip().isdecimal() for word in words) or len(set(map(int, words))) < len(words):
        raise ValueError("mask needs different indices of the vector to keep, from 0 up, such as mask=0,2")
    return {"keep": [int(word) for word in words]}


def _count(text: str | None) -> dict[str, Any]:
    if text is None or not text.strip().isdecimal() or int(text) < 2:
        raise ValueError("one_hot needs the count of different numbers, 2 or more, such as one_hot=11")
    return {"count": int(text)}


def _steps(text: str | None) -> dict[str, Any]:
    if text is None or not text.strip().isdecimal() or int(text) < 1:
        raise ValueError("delay needs a whole number of steps >= 1, such as delay=2")
    return {"steps": int(text)}


def _nothing(name: str) -> Callable[[str | None], dict[str, Any]]:
    def read(text: str | None) -> dict[str, Any]:
        if text is not None:
            raise ValueError(f"{name} takes no value")
        return {}

    return read


def _number(name: str, argument: str, high: float, example: str, *, optional: bool) -> Callable[..., dict[str, Any]]:
    def read(text: str | None) -> dict[str, Any]:
        if text is None and optional:
            return {}
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not 0.0 <= value <= high or math.isinf(value):
            limits = f"in [0, {high:g}]" if high < math.inf else ">= 0"
            raise ValueError(f"{name} needs a number {limits}, such as {example}")
        return {argument: value}

    return read


def _row(wrapper: type[Any], read: Callable[..., dict[str, Any]], usage: str, effect: str) -> WrapperRow:
    return WrapperRow(f"{wrapper.__module__}:{wrapper.__name__}", read, usage, effect)


_FLICKER = _number("flicker", "probability", 1.0, "flicker=0.3", optional=True)
_NOISE = _number("noise", "std", math.inf, "noise=0.1", optional=False)
_STICKY = _number("sticky", "probability", 1.0, "sticky=0.25", optional=True)

WRAPPERS: dict[str, WrapperRow] = {
    "mask": _row(MaskBox, _indices, "mask=0,2", "only these entries of a vector are seen"),
    "one_hot": _row(OneHot, _count, "one_hot=11", "whole numbers of a Box are seen as one-hot vectors, so many each"),
    "flicker": _row(Flicker, _FLICKER, "flicker=0.5", "the whole observation is zero with this probability"),
    "noise": _row(Noise, _NOISE, "noise=0.1", "Gaussian noise of this standard deviation on Box observations"),
    "delay": _row(Delay, _steps, "delay=2", "the observation of so many steps ago is seen"),
    "sticky": _row(StickyAction, _STICKY, "sticky=0.25", "the last action is repeated with this probability"),
    "previous": _row(PreviousActionReward, _nothing("previous"), "previous", "the last action and reward are seen too"),
    "markovian": _row(MarkovianView, _nothing("markovian"), "markovian", "the hidden state is seen instead"),
}
"""Every wrapper, by its name on the command line."""
