"""Measure what it brings to collect while learning (``--overlap``), for envs of several kinds.

    python -m scripts.benchmarks.overlap

PPO with its defaults (LSTM 128, encoder 64, rollouts of 128 steps), one thread of torch: with GAE, with V-trace, and
with overlap too. They take turns, and the median ratio of neighbouring turns is printed, as the speed of a shared
machine drifts. ``waiting`` is CartPole with a pause of 1 ms a step, as an env has that computes elsewhere.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

import gymnasium as gym

import rlstm.envs  # noqa: F401 - registers our envs.
from rlstm.agents import load_agent
from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.core.process import prepare_process
from rlstm.training.on_policy import Training

PAUSE = 0.001  # Seconds.
VARIANTS: dict[str, dict[str, Any]] = {
    "gae": {},
    "vtrace": {"advantages": "vtrace"},
    "overlap": {"advantages": "vtrace", "overlap": True},
}
ENVS: dict[str, dict[str, Any]] = {
    "tmaze": {"env": "rlstm/TMaze-v0", "num_envs": 64},
    "cartpole sync": {"env": "CartPole-v1", "num_envs": 16, "vectorization": "sync"},
    "cartpole async": {"env": "CartPole-v1", "num_envs": 8, "vectorization": "async"},
    "waiting": {"env": "benchmarks/Waiting-v0", "num_envs": 4, "vectorization": "sync"},
}


class Waiting(gym.Wrapper[Any, Any, Any, Any]):
    """CartPole that pauses in each step, without holding Python up."""

    def __init__(self) -> None:
        super().__init__(gym.make("CartPole-v1"))

    def step(self, action: Any) -> Any:
        """Pause and step."""
        time.sleep(PAUSE)
        return super().step(action)


def make_run(env: str, variant: str) -> Training:
    """Return a run that is ready to update, its normalisers filled and its policy a little trained."""
    config = make_config("ppo", device="cpu", num_threads=1, **ENVS[env], **VARIANTS[variant])
    training = Training(config, load_agent("ppo")[0], resolve_env(config.env))
    for _ in range(3):
        training.update()
    return training


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", choices=ENVS, default=list(ENVS))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--updates", type=int, default=3, help="updates a turn")
    arguments = parser.parse_args()
    prepare_process(1)
    gym.register("benchmarks/Waiting-v0", Waiting, max_episode_steps=500)
    for env in arguments.envs:
        runs = {variant: make_run(env, variant) for variant in VARIANTS}
        speeds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        shares: dict[str, float] = {}
        for _ in range(arguments.turns):
            for variant, training in runs.items():
                steps, began, seconds = training.step, time.perf_counter(), {"collect": 0.0, "update": 0.0}
                for _ in range(arguments.updates):
                    for phase, duration in training.update()[1].items():
                        seconds[phase] += duration
                speeds[variant].append((training.step - steps) / (time.perf_counter() - began))
                shares[variant] = seconds["collect"] / sum(seconds.values())
        for variant, measured in speeds.items():
            ratio = statistics.median(one / base for one, base in zip(measured, speeds["gae"], strict=True))
            print(
                f"{env:15s}{variant:8s}{statistics.median(measured):9,.0f} steps/s   {ratio:.2f} of gae   "
                f"{shares[variant]:.0%} of it waiting for rollouts   load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        for training in runs.values():
            training.close()


if __name__ == "__main__":
    main()
