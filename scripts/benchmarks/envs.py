"""Measure steps per second of the environments, beside popgym's and Gymnasium's own on the same task, in one run.

    python -m scripts.benchmarks.envs  # the table below, written to scripts/results/env_speed.csv
    python -m scripts.benchmarks.envs TMaze RepeatPrevious    # some of them, only printed

Ours are stepped in their batched form with 1,024 envs in one process, one thread, with random actions drawn
beforehand, resets included. Peers are what a user has otherwise: single envs in Gymnasium's SyncVectorEnv (16 of them;
its speed doesn't depend on their number), and Gymnasium's own batched CartPole. popgym's tasks need
`pip install rlstm-torch[envs]`; without it their column stays empty.
"""

import argparse
import csv
import importlib
import importlib.util
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from rlstm.envs import ENVS

RESULTS = Path(__file__).parents[1] / "results" / "env_speed.csv"
NUM_ENVS, NUM_PEER_ENVS, NUM_ACTIONS = 1024, 16, 64
GYMNASIUM_SINGLE = {
    "rlstm/CartPoleNoVel-v0": "CartPole-v1",
    "rlstm/PendulumNoVel-v0": "Pendulum-v1",
    "rlstm/MountainCarContinuousNoVel-v0": "MountainCarContinuous-v0",
}
GYMNASIUM_NATIVE = {"rlstm/CartPoleNoVel-v0": "CartPole-v1"}
HEADER = ("env", "rlstm steps/s", "popgym steps/s", "Gymnasium sync steps/s", "Gymnasium native steps/s")


def draw_actions(space: gym.Space[Any], num_envs: int) -> Any:
    """Draw random actions (NUM_ACTIONS, num_envs, ...)."""
    space.seed(0)
    return np.array([[space.sample() for _ in range(num_envs)] for _ in range(NUM_ACTIONS)])


def steps_per_second(env: Any, seconds: float) -> float:
    """Return the median rate over several stretches of play, resets included."""
    actions, num_envs, rates = draw_actions(env.single_action_space, env.num_envs), env.num_envs, []
    env.reset(seed=0)
    for action in actions:  # Desynchronises the envs and warms up.
        env.step(action)
    for _ in range(5):
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < seconds / 5:
            for action in actions:
                env.step(action)
            steps += NUM_ACTIONS * num_envs
        rates.append(steps / (time.perf_counter() - began))
    env.close()
    return float(np.median(rates))


def make_native(env_id: str, num_envs: int) -> Any:
    """Make the batched form of an environment."""
    return gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point")


def make_sync(env_id: str) -> Any:
    """Make single environments side by side."""
    kwargs = {"autoreset_mode": AutoresetMode.SAME_STEP}
    return gym.make_vec(env_id, num_envs=NUM_PEER_ENVS, vectorization_mode="sync", vector_kwargs=kwargs)


def measure(env_id: str, seconds: float) -> dict[str, Any]:
    """Return one row of the table; a peer that doesn't exist stays empty."""
    row: dict[str, Any] = dict.fromkeys(HEADER, "")
    row["env"], row["rlstm steps/s"] = env_id, round(steps_per_second(make_native(env_id, NUM_ENVS), seconds))
    # popgym writes MineSweeper and Cartpole.
    popgym_id = next((one for one in gym.registry if one.lower() == f"popgym-{env_id.partition('/')[2]}".lower()), None)
    if popgym_id is not None:
        row["popgym steps/s"] = round(steps_per_second(make_sync(popgym_id), seconds))
    if env_id in GYMNASIUM_SINGLE:
        row["Gymnasium sync steps/s"] = round(steps_per_second(make_sync(GYMNASIUM_SINGLE[env_id]), seconds))
    if env_id in GYMNASIUM_NATIVE:
        row["Gymnasium native steps/s"] = round(
            steps_per_second(make_native(GYMNASIUM_NATIVE[env_id], NUM_ENVS), seconds)
        )
    return row


def main() -> None:
    """Measure, print, and write the whole table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", help="measure the ids that contain one of these; default: the first of each task"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="of play for each number")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # popgym's and Gymnasium's about spaces and versions.
    if importlib.util.find_spec("popgym"):
        importlib.import_module("popgym")
    first_of_each_task = list({row.task: row.id for row in reversed(ENVS.values())}.values())[::-1]
    named = [env_id for env_id in ENVS if any(name in env_id for name in arguments.names)]
    rows = []
    print(" | ".join(HEADER))
    for env_id in named or first_of_each_task:
        rows.append(measure(env_id, arguments.seconds))
        print(
            " | ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in rows[-1].values()),
            flush=True,
        )
    if not arguments.names:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, HEADER)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
