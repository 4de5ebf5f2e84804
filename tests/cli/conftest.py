"""A user's workplace: an empty folder, the command, and a small trained run."""

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import pytest
import torch

from rlstm.cli import main

# Single-threaded and quiet; 256 steps a rollout.
SMALL = ["--num-threads", "1", "--ui", "none", "--num-envs", "4", "--num-steps", "64", "--hidden-size", "8"]
SHORT = [*SMALL, "--total-steps", "256", "--eval-episodes", "2"]

MODULE = """
import gymnasium as gym
import numpy as np

class MyEnv(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, fault="", length=10):
        self.fault, self.length = fault, length
        print("hello from the env")
        self.leave("make")

    def leave(self, place):
        if self.fault == f"exit {place}":
            raise SystemExit("no licence")
        if self.fault == f"ctrl-c {place}":
            raise KeyboardInterrupt

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.leave("reset")
        self.t = 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        self.t += 1
        self.leave("step")
        if self.fault == "raise" and self.t == 9:
            raise OSError("the simulator has gone")
        observation = np.full(2, np.nan if self.fault == "gap" and self.t == 9 else 0.5, np.float32)
        if self.fault == "chance":
            observation[:] = np.random.default_rng().uniform()
        if self.fault == "float64":
            observation = observation.astype(np.float64)
        end = self.t >= self.length and self.fault != "endless"
        return observation, float("inf") if self.fault == "infinite" and self.t == 9 else 1.0, end, False, {}

gym.register("My-v0", entry_point="my_env:MyEnv")
"""


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The last line of stdout, which must be the only one, without NaN."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} in {self.out}")

        (line,) = self.out.splitlines()
        values = json.loads(line, parse_constant=refuse)
        assert isinstance(values, dict)
        return values


Command = Callable[..., Result]


@pytest.fixture(autouse=True, scope="session")
def _quick() -> Iterator[None]:
    """Leave out the wait for the disk, and find the docstrings of flags once for all command lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(inspect, "getsource", functools.cache(inspect.getsource))
        yield


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder that is not on the path; what a command changes in the process is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", os.curdir)])
    modules, threads = set(sys.modules), torch.get_num_threads()
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
    gym.registry.pop("My-v0", None)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture
def my_env(workplace: Path) -> None:
    """A user's env in the current folder: ``my_env:My-v0``, with faults on demand."""
    (workplace / "my_env.py").write_text(MODULE, encoding="utf-8")


@pytest.fixture
def rlstm(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command line; the words may be given in one string."""

    def run(words: str, *more: str) -> Result:
        capfd.readouterr()
        code = main([*words.split(), *more])
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture
def train(rlstm: Command) -> Command:
    """Train PPO for 256 steps; returns JSON."""

    def run(words: str, *more: str) -> Result:
        return rlstm("train ppo", *SHORT, "--json", *words.split(), *more)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a short T-maze; don't change it, copy it."""
    path = tmp_path_factory.mktemp("runs") / "trained"
    words = ["--env", "rlstm/TMaze-v0", "--env-kwargs", "corridor_length=3", "--run-dir", str(path)]
    assert main(["train", "ppo", *SHORT, *words]) == 0
    return path
