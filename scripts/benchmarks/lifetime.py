"""Measure what a memory that outlives the episode costs: steps per second by lifetime, in one run.

    python -m scripts.benchmarks.lifetime

The same PPO runs on the T-maze (corridor 20, 64 envs, rollouts of 128 steps, LSTM 128, encoder 64) once with a memory
for an episode, once for a trial of four and once for ever. All see their previous action and reward and the episode's
start, so that only the lifetime differs. They take turns, and the median ratio of neighbouring turns is printed, as
the speed of a shared machine drifts.
"""

from __future__ import annotations

import argparse
import statistics
import time

import rlstm.envs  # noqa: F401 - registers our envs.
from rlstm.agents import load_agent
from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.core.process import prepare_process
from rlstm.training.on_policy import Training

LIFETIMES: dict[str, dict[str, object]] = {
    "episode": {},
    "trial": {"memory.lifetime": "trial", "memory.episodes_per_trial": 4},
    "lifelong": {"memory.lifetime": "lifelong"},
}


def make_run(lifetime: str) -> Training:
    """Return a run that is ready to update, its normalisers filled and its policy a little trained."""
    seen = {f"inputs.{name}": True for name in ("previous_action", "previous_reward", "episode_start")}
    config = make_config("ppo", env="rlstm/TMaze-v0", num_envs=64, device="cpu", **seen, **LIFETIMES[lifetime])
    training = Training(config, load_agent("ppo")[0], resolve_env(config.env))
    for _ in range(3):
        training.update()
    return training


def steps_per_second(training: Training, updates: int) -> float:
    """Return how fast a run goes on for some updates."""
    steps, began = training.step, time.perf_counter()
    for _ in range(updates):
        training.update()
    return (training.step - steps) / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--updates", type=int, default=3, help="updates a turn")
    parser.add_argument("--num-threads", type=int, default=1)
    arguments = parser.parse_args()
    prepare_process(arguments.num_threads)
    runs = {lifetime: make_run(lifetime) for lifetime in LIFETIMES}
    speeds: dict[str, list[float]] = {lifetime: [] for lifetime in LIFETIMES}
    for _ in range(arguments.turns):
        for lifetime, training in runs.items():
            speeds[lifetime].append(steps_per_second(training, arguments.updates))
    for lifetime, measured in speeds.items():
        ratio = statistics.median(one / base for one, base in zip(measured, speeds["episode"], strict=True))
        print(f"{lifetime:10s}{statistics.median(measured):10,.0f} steps/s   {ratio:.2f} of episode")


if __name__ == "__main__":
    main()
