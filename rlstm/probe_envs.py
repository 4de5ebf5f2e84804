"""Probe envs: tasks so small that the value a critic must learn is known, each of which one kind of mistake breaks.

A learner that fails ``ConstantValueEnv`` can't fit a value at all; one that passes it and fails ``DiscountEnv`` gets
time wrong; and so on down to ``ForgetEnv``, which only a memory that is really erased passes. Actions are 0 or 1. The
envs are registered nowhere: register the class, or make it directly. γ is the learner's discount.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

__all__ = [
    "ActionEnv",
    "ConstantValueEnv",
    "DiscountEnv",
    "ForgetEnv",
    "ObservationValueEnv",
    "ProbeEnv",
    "RecallEnv",
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

    def _sign(self) -> float:
        return float(self.np_random.integers(2) * 2 - 1)


def _observe(*values: float) -> Observation:
    return np.array(values, dtype=np.float32)


class ConstantValueEnv(ProbeEnv):
    """One step, one observation, reward 1. V = 1. Tests that the critic learns at all."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Any]:
        """Show 0."""
        super().reset(seed=seed)
        return _observe(0.0), {}

    def step(self, action: np.int64) -> Step:
        """End with reward 1."""
        return _observe(0.0), 1.0, True, False, {}


class ObservationValueEnv(ProbeEnv):
    """One step, a random sign is seen and paid. V(s) = s. Tests the way from the observation to the value."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Any]:
        """Show the sign."""
        super().reset(seed=seed)
        self._cue = self._sign()
        return _observe(self._cue), {}

    def step(self, action: np.int64) -> Step:
        """Pay the sign."""
        return _observe(0.0), self._cue, True, False, {}


class DiscountEnv(ProbeEnv):
    """Two steps, the second pays 1. V(0) = γ, V(1) = 1, where 0 and 1 are the observations. Tests bootstrapping."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Any]:
        """Show 0."""
        super().reset(seed=seed)
        self._time = 0
        return _observe(0.0), {}

    def step(self, action: np.int64) -> Step:
        """Show 1 and pay nothing; then pay 1 and end."""
        self._time += 1
        done = self._time == 2
        return _observe(1.0), float(done), done, False, {}


class ActionEnv(ProbeEnv):
    """One step, action 1 pays 1 and action 0 pays -1. V = 1 once action 1 is always taken. Tests the policy's sign."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Any]:
        """Show 0."""
        super().reset(seed=seed)
        return _observe(0.0), {}

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

    Raises:
        ValueError: If ``num_steps`` is smaller than 1.
    """

    num_observations = 2

    def __init__(self, num_steps: int = 1) -> None:
        if num_steps < 1:
            raise ValueError(f"num_steps is {num_steps}; a sign that is asked for at once needs no memory: at least 1.")
        super().__init__()
        self.num_steps = num_steps

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Any]:
        """Show the sign."""
        super().reset(seed=seed)
        self._time, self._cue = 0, self._sign()
        return _observe(self._cue, 0.0), {}

    def step(self, action: np.int64) -> Step:
        """Show nothing, then the question; pay the answer to it."""
        done = self._time == self.num_steps
        self._time += 1
        reward = (1.0 if (action == 1) == (self._cue > 0) else -1.0) if done else 0.0
        return _observe(0.0, float(self._time == self.num_steps)), reward, done, False, {}


class ForgetEnv(ProbeEnv):
    """One step that pays the sign shown in the episode **before**. Tests that a reset erases.

    Signs are independent, so with memory erased at every episode V = 0 whatever is seen. A memory that leaks across
    the reset lets the critic learn V = ±1, the sign before: exactly what it should learn where memory is meant to
    outlive the episode (``memory.lifetime`` trial or lifelong). Leave previous rewards out of the policy's inputs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cue: float | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, Any]:
        """Show a fresh sign and remember the one before, which a seed draws anew."""
        super().reset(seed=seed)
        self._previous = self._sign() if self._cue is None or seed is not None else self._cue
        self._cue = self._sign()
        return _observe(self._cue), {}

    def step(self, action: np.int64) -> Step:
        """Pay the sign of the episode before."""
        return _observe(0.0), self._previous, True, False, {}
