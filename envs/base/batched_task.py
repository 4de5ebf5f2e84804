"""What every task is made of: `BatchedTask`, its `Transition`s and its `ReturnReference`s.

A task's dynamics are written once, for a batch: arrays whose first axis is the environments, "lanes", `(num_envs,
...)`, and no loop over lanes. `envs/base/batched.py` has the two adapters that make a Gymnasium environment and a
vector environment of a task. To write a task, derive from `BatchedTask`, as `envs/mazes/tmaze.py` does, and fill in
what is abstract.

Letters in shapes: B = num_envs lanes, R = the lanes that a call is about.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.checks import RENDER_MODES, State, check_integer, check_state
from rlstm.envs.base.lane_random import LaneRandom
from rlstm.envs.base.pictures import draw_text


@dataclass(frozen=True)
class ReturnReference:
    """The best expected, undiscounted return of an episode under some limitation.

    Attributes:
        value: The return; None where it isn't known.
        kind: "exact" if it is attained, "bound" if nothing exceeds it, "unknown" if there is no value.
        reason: Why it is so, in a sentence.
    """

    value: float | None
    kind: Literal["exact", "bound", "unknown"]
    reason: str

    def __post_init__(self) -> None:
        """Raise ValueError where `value` and `kind` contradict each other."""
        if (self.value is None) != (self.kind == "unknown"):
            raise ValueError(f"A return of kind {self.kind!r} can't have the value {self.value!r}: unknown means None.")


def exact(value: float, reason: str) -> ReturnReference:
    """Return a reference that is attained."""
    return ReturnReference(value, "exact", reason)


def bound(value: float, reason: str) -> ReturnReference:
    """Return a reference that nothing exceeds."""
    return ReturnReference(value, "bound", reason)


def unknown(reason: str) -> ReturnReference:
    """Return the reference of a return that isn't known."""
    return ReturnReference(None, "unknown", reason)


class Transition(NamedTuple):
    """The outcome of one step in all lanes; fresh arrays that the receiver may keep."""

    rewards: FloatArray  # (B,)
    terminated: BoolArray  # (B,)
    info: dict[str, Array]  # (B, ...) each; "is_success" is always there and counts at the last step of an episode.


class BatchedTask(ABC):
    """The rules of a task for a batch of independent lanes.

    The order of calls is `random.seed_lanes`, `reset` of all lanes, then `observe` and `step` in turn, with `reset`
    for lanes whose episode is over. A lane's episode ends when its `terminated` is True or its `elapsed_steps` reach
    `max_steps`.

    Attributes:
        num_envs: B, the number of lanes.
        observation_space: Of one lane.
        action_space: Of one lane, Discrete, MultiDiscrete or Box.
        max_steps: The step limit that belongs to the task, after which the adapters truncate; None if there is none. It
            stands here and not in the registration because it may depend on the task's arguments.
        step_limit: The same, with the largest integer for "never", so that a step needs no case distinction.
        every_lane: (B,) the numbers of all lanes.
        random: The lanes' random streams, the only source of randomness.
        elapsed_steps: (B,) steps taken in the episode; in `advance` the present step is already counted.
    """

    memory: ClassVar[str]
    """What must be remembered, in a phrase."""

    memory_length: int | None
    """For how many steps it must be remembered; None where that has no fixed value. Of the class or of an instance."""

    optimal_return: ReturnReference
    """The best that any policy can do. Of the class or of an instance."""

    memoryless_return: ReturnReference
    """The best that any policy can do that sees the present observation only, and no clock. Likewise."""

    source: ClassVar[str]
    """Where the task comes from."""

    supports_new_task: ClassVar[bool] = False
    """Whether a reset can keep the task drawn for the lane, so that trials of several episodes make sense.

    False where all episodes have the same dynamics, or where the rules draw all anew in each."""

    state_arrays: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes of shape (B, ...) that, with the base class's own, are the whole state of the lanes."""

    supports_teacher_forcing: bool = False
    """Whether episodes can be teacher-forced: what a policy sees of its own answers is then what they should be."""

    step_info: ClassVar[tuple[str, ...]] = ()
    """Names in `Transition.info` that mean something at every step, not only at the last of an episode."""

    render_fps: ClassVar[int] = 10
    """Frames per second at which a recording looks natural."""

    def __init__(
        self,
        num_envs: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        max_steps: int | None = None,
    ) -> None:
        check_integer("num_envs", num_envs, 1)
        if not isinstance(action_space, gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.Box):
            raise TypeError(f"The action space {action_space} isn't supported: make it Discrete, MultiDiscrete or Box.")
        self.num_envs = num_envs
        self.observation_space = observation_space
        self.action_space = action_space
        self.max_steps = max_steps
        self.step_limit = int(np.iinfo(np.int64).max) if max_steps is None else max_steps
        self.every_lane: IntArray = np.arange(num_envs)
        self.random = LaneRandom(num_envs)
        self.teacher_forcing = False  # Of episodes that begin from now on; an adapter sets it at its reset.
        self.elapsed_steps: IntArray = np.zeros(num_envs, dtype=np.int64)

    @abstractmethod
    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Put the lanes `rows` (R,) at the start of an episode; where `new_task` (R,) is True a task is drawn."""

    @abstractmethod
    def advance(self, actions: Array) -> Transition:
        """Move all lanes one step; `actions` (B, ...) are already checked. It must not draw from lanes unevenly."""

    @abstractmethod
    def observe(self) -> Array:
        """Return what the lanes see, a fresh array (B, ...). It changes and draws nothing: it may be called twice."""

    @abstractmethod
    def render_text(self, lane: int) -> str:
        """Show one lane as text."""

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """Draw one lane as an image, (height, width, 3): here its text."""
        return draw_text(self.render_text(lane))

    def hidden_state(self) -> npt.NDArray[np.float32]:
        """Return all that a policy would need to see so that it needs no memory, (B, S): a fresh array.

        Here the elapsed steps and all of `state_arrays`, flattened. A task may give less or another form.
        """
        parts = [self.elapsed_steps, *(getattr(self, name) for name in self.state_arrays)]
        return np.concatenate([part.reshape(self.num_envs, -1).astype(np.float32) for part in parts], axis=1)

    def reset(self, rows: IntArray, new_task: BoolArray) -> None:
        """Begin an episode in the lanes `rows` (R,), with a newly drawn task where `new_task` (R,) is True."""
        self.elapsed_steps[rows] = 0
        self.begin_episodes(rows, new_task)

    def step(self, actions: Array) -> Transition:
        """Move all lanes one step by `actions` (B, ...), of the dtype of the action space."""
        self.elapsed_steps += 1
        return self.advance(actions)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the adapters declare to Gymnasium."""
        return {
            "render_modes": list(RENDER_MODES),
            "render_fps": self.render_fps,
            "supports_new_task": self.supports_new_task,
            "supports_teacher_forcing": self.supports_teacher_forcing,
        }

    def frames(self, render_mode: str | None) -> tuple[Any, ...]:
        """Return all lanes as texts or images; ValueError if `render_mode` is None."""
        if render_mode is None:
            raise ValueError(f"render() needs a mode: make the environment with render_mode one of {RENDER_MODES}.")
        render = self.render_text if render_mode == "ansi" else self.render_pixels
        return tuple(render(lane) for lane in range(self.num_envs))

    def get_state(self) -> State:
        """Return copies of all arrays that the future of the lanes depends on."""
        state: State = {name: getattr(self, name).copy() for name in self.state_arrays}
        return {**state, "elapsed_steps": self.elapsed_steps.copy(), **self.random.get_state()}

    def set_state(self, state: State) -> None:
        """Take over a state of `get_state` from a task with the same arguments and as many lanes.

        Raises:
            ValueError: Arrays are missing, unknown, or of another shape or dtype.
        """
        check_state(state, self.get_state())
        for name in (*self.state_arrays, "elapsed_steps"):
            setattr(self, name, state[name].copy())
        self.random.set_state(state)
