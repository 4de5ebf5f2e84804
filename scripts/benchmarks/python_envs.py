"""Measure single Python envs in this process (sync) and in worker processes (async): stepping alone, and PPO.

    python -m scripts.benchmarks.python_envs  # written to scripts/results/python_envs.csv and docs/speed.md

16 single envs each: Gymnasium's CartPole-v1, and one that sleeps 2 ms in every step besides, as an env does that waits
for a simulator. Stepping is ``VectorEnvs.step`` with random actions drawn beforehand; training has the settings of
``scripts.benchmarks.recurrent_ppo`` with rollouts of 32 steps. The cases take turns of about ``--turn-seconds``, there
and back, and a row is one turn; workers that don't have the turn wait. Torch has ``--num-threads``; workers run on all
cores that the process may use.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

from scripts.benchmarks.peers.rlstm_ppo import make_training
from scripts.benchmarks.recurrent_ppo import gemm_rate
from scripts.experiments.training_run import MACHINE_COLUMNS, machine
from scripts.results_table import ROOT, markdown_table, read_rows, write_between, write_rows

RESULTS = ROOT / "scripts" / "results" / "python_envs.csv"
BEGIN, END = "<!-- Python envs: written by scripts/benchmarks/python_envs.py -->", "<!-- end of Python envs -->"
NUM_ENVS, NUM_STEPS, NUM_ACTIONS, SLEEP = 16, 32, 64, 2e-3  # Seconds.
KINDS, QUANTITIES = ("sync", "async"), ("stepping", "training")
ENVS = {"CartPole-v1": "CartPole-v1", "CartPole-v1 that sleeps 2 ms a step": "SleepingCartPole-v0"}
COLUMNS = ("env", "kind", "quantity", "turn", "num_envs", "steps", "seconds", "steps_per_second", "gflops", "cores")
COLUMNS = (*COLUMNS, "command", *MACHINE_COLUMNS)
Case = tuple[str, str, str]  # Env, kind, quantity.


class SleepingCartPole(CartPoleEnv):
    """CartPole whose every step takes 2 ms longer, without computing."""

    def step(self, action: Any) -> Any:
        """Sleep, and step."""
        time.sleep(SLEEP)
        return super().step(action)


def register() -> None:
    """Register the sleeping env, once."""
    if "SleepingCartPole-v0" not in gym.registry:
        entry_point = "scripts.benchmarks.python_envs:SleepingCartPole"
        gym.register("SleepingCartPole-v0", entry_point=entry_point, max_episode_steps=500)


def stepping(env_id: str, kind: str, stack: ExitStack) -> Callable[[], int]:
    """Return a function that steps the envs ``NUM_ACTIONS`` times and returns their steps."""
    from rlstm.core.memory_boundaries import MemoryConfig
    from rlstm.vector.make import EnvConfig, make, resolve_spec

    config = EnvConfig(env=env_id, num_envs=NUM_ENVS, vectorization=kind)
    envs = make(resolve_spec(config), config, MemoryConfig())
    stack.callback(envs.close)
    envs.reset(range(NUM_ENVS))
    actions = np.random.default_rng(0).integers(2, size=(NUM_ACTIONS, NUM_ENVS))

    def play() -> int:
        for action in actions:
            envs.step(action)
        return NUM_ACTIONS * NUM_ENVS

    return play


def training(env_id: str, kind: str, stack: ExitStack, num_threads: int) -> Callable[[], int]:
    """Return a function that makes an update and returns the steps it learned from."""
    env = {"env": env_id, "vectorization": kind, "num_steps": NUM_STEPS, "num_threads": num_threads}
    run = make_training(NUM_ENVS, 0, **env)
    stack.callback(run.close)

    def update() -> int:
        run.update()
        return NUM_ENVS * NUM_STEPS

    return update


def turn(play: Callable[[], int], seconds: float) -> dict[str, Any]:
    """Play for about so long, at least once, after one call that doesn't count."""
    play()
    began, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - began < seconds:
        steps += play()
    took = time.perf_counter() - began
    return {"steps": steps, "seconds": f"{took:.3f}", "steps_per_second": f"{steps / took:.0f}"}


def measure(turns: int, length: float, num_threads: int) -> list[dict[str, Any]]:
    """Return a row for each turn of each case."""
    rows = []
    with ExitStack() as stack:
        cases: dict[Case, Callable[[], int]] = {}
        for env, env_id in ENVS.items():
            for kind in KINDS:
                cases[env, kind, "stepping"] = stepping(env_id, kind, stack)
                cases[env, kind, "training"] = training(env_id, kind, stack, num_threads)
        for number in range(turns):
            facts = {"turn": number, "num_envs": NUM_ENVS, "cores": len(os.sched_getaffinity(0))}
            facts |= {"gflops": f"{gemm_rate(1) / 1e9:.1f}", **machine(prepare(num_threads))}
            for case in list(cases)[:: 1 if number % 2 == 0 else -1]:
                names = dict(zip(("env", "kind", "quantity"), case, strict=True))
                rows.append({**names, **turn(cases[case], length), **facts})
    return rows


def prepare(num_threads: int) -> int:
    """Set torch's threads, which the matrix product changes; returns their number."""
    from rlstm.core.process import prepare_process

    return prepare_process(num_threads)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table of medians over turns; the ratio is async / sync: median (least to most) of turns."""
    rates: dict[Case, dict[str, float]] = {}
    for row in rows:
        rates.setdefault((row["env"], row["kind"], row["quantity"]), {})[str(row["turn"])] = float(
            row["steps_per_second"]
        )
    lines = []
    for env in dict.fromkeys(row["env"] for row in rows):
        for quantity in QUANTITIES:
            sync, workers = (rates[env, kind, quantity] for kind in KINDS)
            ratios = [workers[one] / sync[one] for one in sync]
            shown = [f"{statistics.median(values.values()):,.0f}" for values in (sync, workers)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            lines.append([env, quantity, *shown, ratio])
    return markdown_table(("16 single envs", "steps/s of", "sync", "async", "async / sync"), lines)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--turn-seconds", type=float, default=1.0)
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--dry-run", action="store_true", help="only print")
    parser.add_argument("--table", action="store_true", help="only write the table, from the rows there are")
    arguments = parser.parse_args()
    page, rows = ROOT / "docs" / "speed.md", read_rows(RESULTS)
    if not arguments.table:
        register()
        prepare(arguments.num_threads)
        rows = measure(arguments.turns, arguments.turn_seconds, arguments.num_threads)
        command = "python -m scripts.benchmarks.python_envs"
        command += "" if arguments.num_threads == 1 else f" --num-threads {arguments.num_threads}"
        rows = [{**row, "command": command} for row in rows]
        print(table(rows))
    if not arguments.dry_run:
        write_rows(RESULTS, COLUMNS, rows)
        write_between(page, BEGIN, END, table(rows))


if __name__ == "__main__":
    main()
