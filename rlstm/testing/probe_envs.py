"""Probe envs: tasks so small that the value a critic must learn is known, each of which one kind of mistake breaks.

A learner that fails ``ConstantValueEnv`` can't fit a value at all; one that passes it and fails ``DiscountEnv`` gets
time wrong; and so on down to ``ForgetEnv``, which only a memory that is really reset passes. Actions are 0 or 1.
``LockEnv`` asks for exploration: chance meets no reward. The envs are registered nowhere: register the class, or make
it directly. γ is the learner's discount.

The last three go over the end of an episode, one for each use of the boundaries of ``rlstm.core.memory_boundaries``.
They are solved where the boundary lets through what they need, and not above chance, or not above the myopic optimum,
where it cuts:

===================  ============================================================================================
env                  needs
===================  ============================================================================================
``CarriedSignEnv``   a state that outlives the episode; with many steps, a gradient that does too
``KeyEnv``           credit that outlives the episode
``SecretEnv``        a state that outlives every episode and every trial
===================  ============================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

__all__ = [
    "ActionEnv",
    "CarriedSignEnv",
    "ConstantValueEnv",
    "DiscountEnv",
    "ForgetEnv",
    "KeyEnv",
    "LockEnv",
    "ObservationValueEnv",
    "ProbeEnv",
    "RecallEnv",
    "SecretEnv",
]

Observation = npt.NDArray[np.float32]
Step = tuple[Observation, float, bool, bool, dict[str, Any]]


class ProbeEnv(gym.Env[Observation, np.int64]):
    """What the probes share: vectors of numbers in [-1, 1] as observations, two actions."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]
    num_observations = 1

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (self.num_observations,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Any]:
        """Begin an episode as the class says."""
        super().reset(seed=seed)
        return _observe(*self._begin(seed is not None, options or {})), {}

    def _begin(self, seeded: bool, options: dict[str, Any]) -> Sequence[float]:
        """Return the first observation; 0 unless a subclass shows something else."""
        return (0.0,) * self.num_observations

    def _sign(self) -> float:
        return float(self.np_random.integers(2) * 2 - 1)


def _observe(*values: float) -> Observation:
    return np.array(values, dtype=np.float32)


class ConstantValueEnv(ProbeEnv):
    """One step, one observation, reward 1. V = 1. Tests that the critic learns at all."""

    def step(self, action: np.int64) -> Step:
        """End with reward 1."""
        return _observe(0.0), 1.0, True, False, {}


class ObservationValueEnv(ProbeEnv):
    """One step, a random sign is seen and paid. V(s) = s. Tests the way from the observation to the value."""

    def _begin(self, seeded: bool, options: dict[str, Any]) -> Sequence[float]:
        self._cue = self._sign()
        return (self._cue,)

    def step(self, action: np.int64) -> Step:
        """Pay the sign."""
        return _observe(0.0), self._cue, True, False, {}


class DiscountEnv(ProbeEnv):
    """Two steps, the second pays 1. V(0) = γ, V(1) = 1, where 0 and 1 are the observations. Tests bootstrapping."""

    def _begin(self, seeded: bool, options: dict[str, Any]) -> Sequence[float]:
        self._time = 0
        return (0.0,)

    def step(self, action: np.int64) -> Step:
        """Show 1 and pay nothing; then pay 1 and end."""
        self._time += 1
        done = self._time == 2
        return _observe(1.0), float(done), done, False, {}


class ActionEnv(ProbeEnv):
    """One step, action 1 pays 1 and action 0 pays -1. V = 1 once action 1 is always taken. Tests the policy's sign."""

    def step(self, action: np.int64) -> Step:
        """Pay the action."""
        return _observe(0.0), 1.0 if action == 1 else -1.0, True, False, {}


class RecallEnv(ProbeEnv):
    """A sign is shown at step 0 and asked for at step ``num_steps``: action 1 for +1, action 0 for -1.

    Observations are (sign or 0, question). The right answer pays 1, the wrong one -1, and ends the episode of
    ``num_steps`` + 1 steps. With memory V = γ^(num_steps - t) at step t; without, no policy gets more than 0 on
    average, and V = 0.

    Args:
        num_steps: Steps k from the sign to the question, at least 1.
    """

    num_observations = 2

    def __init__(self, num_steps: int = 1) -> None:
        if num_steps < 1:
            raise ValueError(f"num_steps is {num_steps}; a sign that is asked for at once needs no memory: at least 1.")
        super().__init__()
        self.num_steps = num_steps

    def _begin(self, seeded: bool, options: dict[str, Any]) -> Sequence[float]:
        self._time, self._cue = 0, self._sign()
        return self._cue, 0.0

    def step(self, action: np.int64) -> Step:
        """Show nothing, then the question; pay the answer to it."""
        done = self._time == self.num_steps
        self._time += 1
        reward = (1.0 if (action == 1) == (self._cue > 0) else -1.0) if done else 0.0
        return _observe(0.0, float(self._time == self.num_steps)), reward, done, False, {}


class ForgetEnv(ProbeEnv):
    """One step that pays the sign shown in the episode **before**. Tests that a reset clears the memory.

    Signs are independent, so with memory reset at every episode V = 0 whatever is seen. A memory that leaks across
    the reset lets the critic learn V = ±1, the sign before: exactly what it should learn where memory is meant to
    outlive the episode (``memory.lifetime`` trial or lifelong). Leave previous rewards out of the policy's inputs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cue: float | None = None

    def _begin(self, seeded: bool, options: dict[str, Any]) -> Sequence[float]:
        """Show a fresh sign and remember the one before, which a seed draws anew."""
        self._previous = self._sign() if self._cue is None or seeded else self._cue
        self._cue = self._sign()
        return (self._cue,)

    def step(self, action: np.int64) -> Step:
        """Pay the sign of the episode before."""
        return _observe(0.0), self._previous, True, False, {}


class LockEnv(ProbeEnv):
    """A combination lock: only so many right actions in a row open it, for a reward of 1; a wrong one ends the episode.

    The observation tells how many were right, as a one-hot vector. Random play opens it in one of 2^num_steps episodes,
    and nothing else pays, so a learner has to be drawn to what is new. The code is fixed.

    Args:
        num_steps: Right actions in a row, at least 1.
    """

    def __init__(self, num_steps: int = 20) -> None:
        if num_steps < 1:
            raise ValueError(f"num_steps is {num_steps}; a lock that is open is none: at least 1.")
        self.num_steps, self.num_observations = num_steps, num_steps + 1
        super().__init__()
        self.code = np.random.default_rng(0).integers(2, size=num_steps)

    def _begin(self, seeded: bool, options: dict[str, Any]) -> Sequence[float]:
        self._right = 0
        return self._seen()

    def step(self, action: np.int64) -> Step:
        """Go on after a right action, end after a wrong one."""
        is_right = bool(action == self.code[self._right])
        self._right += is_right
        is_open = self._right == self.num_steps
        return _observe(*self._seen()), float(is_open), is_open or not is_right, False, {"is_success": is_open}

    def _seen(self) -> Sequence[float]:
        return [float(place == self._right) for place in range(self.num_observations)]


class _TrialProbeEnv(ProbeEnv):
    """Trials of a first episode and later ones of the same task; of two in all, unless ``new_task`` says otherwise."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "supports_new_task": True}  # type: ignore[misc]
    _is_first_episode, _time = False, -1  # The time is -1 before there is any task.

    def _begins_trial(self, seeded: bool, options: dict[str, Any]) -> bool:
        """Begin an episode, and return whether it begins a trial."""
        otherwise = seeded or not self._is_first_episode
        self._is_first_episode = self._time < 0 or bool(options.get("new_task", otherwise))
        self._time = 0
        return self._is_first_episode


class CarriedSignEnv(_TrialProbeEnv):
    """A sign shown in the first episode of a trial is asked for in the others: action 1 for +1, action 0 for -1.

    Observations are (number, 1 where it is the sign, question). The first episode shows the sign at its first step, and
    then distractors, random signs of 0.7, for ``num_steps`` - 1 steps; it pays nothing. Each of the others asks
    ``num_questions`` times, a step each, and pays 1 / ``num_questions`` for a right answer and as much less than 0 for
    a wrong one. A state that outlives the episode earns 1 in each of them; without, no policy gets more than 0 on
    average. The more steps, the less of the sign reaches the questions by itself: at 20 a memory must be trained to
    carry it, by a gradient from the second episode to the first.

    Args:
        num_steps: Steps of the first episode, at least 1.
        num_questions: Steps of the others, at least 1.
    """

    num_observations = 3

    def __init__(self, num_steps: int = 1, num_questions: int = 1) -> None:
        if num_steps < 1 or num_questions < 1:
            raise ValueError(f"num_steps is {num_steps}, num_questions is {num_questions}; they must be at least 1.")
        super().__init__()
        self.num_steps, self.num_questions = num_steps, num_questions

    def _begin(self, seeded: bool, options: dict[str, Any]) -> Sequence[float]:
        if not self._begins_trial(seeded, options):
            return 0.0, 0.0, 1.0
        self._cue = self._sign()
        return self._cue, 1.0, 0.0

    def step(self, action: np.int64) -> Step:
        """Show a distractor and pay nothing; or pay the answer and ask again."""
        self._time += 1
        if self._is_first_episode:
            return _observe(0.7 * self._sign(), 0.0, 0.0), 0.0, self._time == self.num_steps, False, {}
        reward = (1.0 if (action == 1) == (self._cue > 0) else -1.0) / self.num_questions
        return _observe(0.0, 0.0, 1.0), reward, self._time == self.num_questions, False, {}


class KeyEnv(_TrialProbeEnv):
    """In the first episode of a trial action 1 buys a key for 0.1; the others pay 1 if it was bought. A step each.

    The observation is 0 in the first episode and 1 in the others. Where credit outlives the episode the key is bought,
    and a trial of two episodes returns 0.9. Where it is cut there a key is a loss and nothing else, and the best policy
    returns 0. Memory is needed for neither.
    """

    def _begin(self, seeded: bool, options: dict[str, Any]) -> Sequence[float]:
        if not self._begins_trial(seeded, options):
            return (1.0,)
        self._has_key = False
        return (0.0,)

    def step(self, action: np.int64) -> Step:
        """Sell the key, or pay for it."""
        if not self._is_first_episode:
            return _observe(1.0), float(self._has_key), True, False, {}
        self._has_key = bool(action == 1)
        return _observe(0.0), -0.1 if self._has_key else 0.0, True, False, {}


class SecretEnv(ProbeEnv):
    """A sign is shown in one of ``num_episodes`` episodes and asked for in all others, whatever trials there are.

    Episodes are of one step; observations are (sign or 0, question). The right answer, action 1 for +1 and action 0 for
    -1, pays 1, the wrong one -1. A state that is never reset earns 1 in every episode that asks; one that is reset
    after K episodes earns it in those of a sign's first K alone, and 0 on average in the others. The env keeps its own
    count and heeds no ``new_task``, so trials, for credit, must be insisted on (``memory.insist_on_trials``).

    Args:
        num_episodes: Episodes from one sign to the next, at least 2.
    """

    num_observations = 2

    def __init__(self, num_episodes: int = 4) -> None:
        if num_episodes < 2:
            raise ValueError(
                f"num_episodes is {num_episodes}; a sign that is never asked for is no secret: at least 2."
            )
        super().__init__()
        self.num_episodes = num_episodes
        self._episode = -1

    def _begin(self, seeded: bool, options: dict[str, Any]) -> Sequence[float]:
        """Show a new sign, or ask for the one shown; a seed begins with a new one."""
        self._episode = 0 if seeded else (self._episode + 1) % self.num_episodes
        if self._episode > 0:
            return 0.0, 1.0
        self._cue = self._sign()
        return self._cue, 0.0

    def step(self, action: np.int64) -> Step:
        """Pay the answer where there was a question."""
        reward = 1.0 if (action == 1) == (self._cue > 0) else -1.0
        return _observe(0.0, 0.0), reward if self._episode > 0 else 0.0, True, False, {}
