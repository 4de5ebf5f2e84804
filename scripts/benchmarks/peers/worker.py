"""What every process of the comparison shares: its task, its cores and threads, and the lines of JSON that it prints.

A process trains without end. Its first line names versions; then each update gives a line with its environment steps
and the clock at its end. ``scripts.benchmarks.recurrent_ppo`` starts such processes from several virtual environments,
so this module needs torch and Gymnasium (0.29 or newer) alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from typing import Any

import gymnasium as gym
import numpy as np
import torch

NUM_STEPS, EPOCHS, MINIBATCHES, ENCODER, HIDDEN = 128, 4, 4, 64, 128


class PositionsOnly(gym.ObservationWrapper):
    """CartPole's position and angle."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        self.observation_space = gym.spaces.Box(space.low[[0, 2]], space.high[[0, 2]], dtype=np.float32)

    def observation(self, observation: Any) -> Any:
        """Leave out the velocities."""
        return observation[[0, 2]]


def make_env() -> gym.Env[Any, Any]:
    """Make one single env of the task."""
    return PositionsOnly(gym.make("CartPole-v1"))


class Reporter:
    """Prints lines of JSON to what was the standard output; other output goes to the standard error from now on."""

    def __init__(self, *packages: str) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        sys.stdout.flush()
        os.dup2(2, 1)
        found = {name: version(name) for name in ("torch", "numpy", "gymnasium")}
        self._print(python=platform.python_version(), package=" ".join(f"{n} {version(n)}" for n in packages), **found)

    def update(self, steps: int, **seconds: float) -> None:
        """Report an update that ends now.

        Args:
            steps: Environment steps that it learned from.
            seconds: Of its phases, by name.
        """
        self._print(steps=steps, clock=time.monotonic(), **seconds)

    def _print(self, **line: Any) -> None:
        self._out.write(json.dumps(line) + "\n")


def read_arguments(description: str | None, *forms: str) -> argparse.Namespace:
    """Read the flags of a process, and give it as many cores as threads, with denormals flushed.

    Args:
        description: The module's docstring.
        forms: In which the implementation is measured.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--num-threads", type=int, default=1, help="threads, and cores that the process may use")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--form", choices=forms, default=forms[0])
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= arguments.num_threads <= len(cores):
        parser.error(f"--num-threads is {arguments.num_threads}; it must be 1 to {len(cores)}, the cores there are")
    if arguments.num_envs % MINIBATCHES:
        parser.error(f"--num-envs is {arguments.num_envs}; it must be a multiple of {MINIBATCHES}, the minibatches")
    os.sched_setaffinity(0, cores[-arguments.num_threads :])
    torch.set_flush_denormal(True)
    torch.set_num_threads(arguments.num_threads)
    torch.manual_seed(arguments.seed)
    return arguments
