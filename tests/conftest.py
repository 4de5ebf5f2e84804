"""Fixtures that many folders share; what else they share is in ``tests.kit``."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import pytest

pytest.register_assert_rewrite("tests.kit")


@pytest.fixture(scope="session")
def kit() -> ModuleType:
    """Return ``tests.kit``."""
    return importlib.import_module("tests.kit")


USER_MODULE = '''
"""Envs of a user, in a module of their own."""
import random

import gymnasium as gym
import numpy as np
import torch


class Signal(gym.Env):
    """Shows a sign at the start, then noise; pays for repeating the sign after four steps. Breaks when told to."""

    action_space = gym.spaces.Discrete(2)
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, raise_at=None, nan_reward_at=None, huge_reward_at=None):
        self.raise_at, self.nan_reward_at, self.huge_reward_at = raise_at, nan_reward_at, huge_reward_at
        self.lived = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.sign = 0, int(self.np_random.integers(2))
        return np.array([2 * self.sign - 1, 1], dtype=np.float32), {}

    def step(self, action):
        self.t, self.lived = self.t + 1, self.lived + 1
        if self.lived == self.raise_at:
            raise OSError("the cable is out")
        right = self.t == 4 and action == self.sign
        reward = float(right)
        if self.lived == self.nan_reward_at:
            reward = float("nan")
        if self.lived == self.huge_reward_at:
            reward = 1e30
        noise = self.np_random.uniform(-1, 1)
        return np.array([noise, 0], dtype=np.float32), reward, self.t == 4, False, {"is_success": bool(right)}


class Dice(Signal):
    """Draws its noise from the global generators, and can be resumed."""

    def step(self, action):
        observation, *rest = super().step(action)
        observation[0] = (random.random() + np.random.random() + float(torch.rand(()))) / 3
        return observation, *rest

    def get_state(self):
        return {"t": self.t, "sign": self.sign, "lived": self.lived, "rng": self.np_random.bit_generator.state}

    def set_state(self, state):
        self.t, self.sign, self.lived = state["t"], state["sign"], state["lived"]
        self.np_random.bit_generator.state = state["rng"]


gym.register("user/Signal-v0", "rlstm_user_envs:Signal")
gym.register("user/Dice-v0", "rlstm_user_envs:Dice")
'''


@pytest.fixture
def user_module(tmp_path_factory, monkeypatch):
    """The name of a module that registers ``user/Signal-v0`` and ``user/Dice-v0``; forgotten after the test."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "rlstm_user_envs.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(folder)
    yield "rlstm_user_envs"
    sys.modules.pop("rlstm_user_envs", None)
    for env_id in ("user/Signal-v0", "user/Dice-v0"):
        gym.registry.pop(env_id, None)


ROOT = Path(__file__).parents[1]


class _Scripts:
    """The scripts as attributes, imported when first used."""

    def __getattr__(self, name: str) -> Any:
        (path,) = [path for path in (ROOT / "scripts").rglob(f"{name}.py") if path.parent.name != "benchmarks"]
        return importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


@pytest.fixture(scope="module")
def scripts():
    """The modules under ``scripts`` (but for its benchmarks), by name; they are forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield _Scripts()
    for name in [name for name in sys.modules if name == "scripts" or name.startswith("scripts.")]:
        sys.modules.pop(name)
