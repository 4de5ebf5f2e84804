"""Two small envs as a user writes them, for tables of what settings learn; importing the module registers them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

Reset = tuple[np.int64, dict[str, Any]]
Step = tuple[np.int64, float, bool, bool, dict[str, Any]]


class NumbersShown(gym.Env[np.int64, np.int64]):
    """Numbers are shown one after the other; a reward of 1 for naming the one of ``lag`` steps before.

    Args:
        count: How many numbers there are.
        lag: Steps between a number and when it is to be named: 0 for the one that is seen.
    """

    def __init__(self, count: int, lag: int) -> None:
        self.observation_space, self.action_space = spaces.Discrete(count), spaces.Discrete(count)
        self.count, self.lag = count, lag

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Reset:
        """Show the first number."""
        super().reset(seed=seed)
        self.shown = [self.np_random.integers(self.count)]
        return self.shown[-1], {}

    def step(self, action: np.int64) -> Step:
        """Reward the number that was right, and show the next one."""
        reward = float(len(self.shown) > self.lag and action == self.shown[-1 - self.lag])
        self.shown.append(self.np_random.integers(self.count))
        return self.shown[-1], reward, False, False, {}


_PLACE = f"{__name__}:NumbersShown"
gym.register("small/Bit-v0", _PLACE, max_episode_steps=10, kwargs={"count": 2, "lag": 0})
gym.register("small/Echo-v0", _PLACE, max_episode_steps=32, kwargs={"count": 4, "lag": 1})
