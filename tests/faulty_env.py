"""An env that breaks at its n-th step or reset in a process, as users' envs do, and that can be resumed exactly."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

ID = "tests/Faulty-v0"


class FaultyEnv(gym.Env[Any, Any]):
    """Rewards the action that was shown two steps before; what is to happen is arranged for the whole process."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    fault: ClassVar[tuple[str, str, int] | None] = None  # What happens at which call, and at its how manieth.
    counts: ClassVar[dict[str, int]] = {}
    made_in: ClassVar[int] = os.getpid()  # Where faults that end a process would end the tests.

    @classmethod
    def arrange(cls, fault: tuple[str, str, int] | None) -> None:
        """Arrange a fault; calls are counted anew."""
        cls.fault, cls.counts = fault, {"step": 0, "reset": 0}

    def _count(self, call: str) -> None:
        self.counts[call] = self.counts.get(call, 0) + 1
        if self.fault is None or (call, self.counts[call]) != self.fault[1:]:
            return
        what = self.fault[0]
        if what == "raise":
            raise OSError("the simulator has gone")
        if what == "sys.exit":
            sys.exit("no licence")
        if what == "hang":
            time.sleep(0.05)
        if what == "die" and os.getpid() != self.made_in:
            os._exit(5)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._count("reset")
        self.shown: list[int] = []
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._count("step")
        reward = float(len(self.shown) > 2 and self.shown[-3] == action)
        return self._observe(), reward, len(self.shown) >= 6, False, {}

    def _observe(self) -> Any:
        self.shown.append(int(self.np_random.integers(2)))
        return np.array([self.shown[-1], len(self.shown) / 6], dtype=np.float32)

    def get_state(self) -> dict[str, Any]:
        """Return all that goes on."""
        return {"shown": list(self.shown), "generator": self.np_random.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.shown = list(state["shown"])
        self.np_random.bit_generator.state = state["generator"]


if ID not in gym.registry:
    gym.register(ID, entry_point="tests.faulty_env:FaultyEnv")
