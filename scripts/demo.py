"""Train an agent that remembers, then take its memory away.

    make demo

A sign at the start of a T-maze tells which way to turn at the end of a corridor of 20 cells; it can't be seen on the
way. PPO with an LSTM learns it, and the same agent with a feed-forward layer in place of the LSTM can't do better than
toss a coin. Both are then evaluated on 200 mazes they have not seen, the first one also with its memory reset at every
step.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import rlstm
from rlstm.api.finished_runs import evaluate_run
from rlstm.training.run_directory import default_run_directory

PRESET, EPISODES = "tmaze", 200


def train(cell: str, arguments: argparse.Namespace) -> str:
    """Train one agent into a new run directory and return the directory."""
    run_dir = default_run_directory(arguments.root, f"ppo-{cell}", "rlstm/TMaze-v0", arguments.seed)
    # The control has no gates, so no memory length to initialise them for.
    settings = {} if cell == "lstm" else {"memory_length": None}
    if arguments.num_threads is not None:
        settings["num_threads"] = arguments.num_threads
    if arguments.total_steps is not None:
        settings["total_steps"] = arguments.total_steps
    result = rlstm.train(
        "ppo", PRESET, cell=cell, seed=arguments.seed, run_dir=str(run_dir), ui=arguments.ui, **settings
    )
    return result.run_dir


def success(run_dir: str, *, ablate_memory: bool = False) -> float:
    """Return the share of mazes in which the agent turned the right way.

    Actions are sampled: the likeliest one of an agent without its memory may keep it at the start until the episode is
    truncated.
    """
    result = evaluate_run(run_dir, episodes=EPISODES, deterministic=False, ablate_memory=ablate_memory)
    rate = result.success_rate
    return float("nan") if rate is None else rate


def main() -> None:
    """Train, evaluate, and print the success rates side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs/demo"), help="folder of the two runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--total-steps", type=int, default=None, help="default: the preset's")
    parser.add_argument("--num-threads", type=int, default=None, help="default: the preset's")
    parser.add_argument("--ui", default="auto", choices=["auto", "rich", "plain", "none"])
    arguments = parser.parse_args()
    began = time.perf_counter()
    with_memory = train("lstm", arguments)
    without_memory = train("none", arguments)
    rows = [
        ("PPO with an LSTM", success(with_memory)),
        ("the same agent, its memory reset at every step", success(with_memory, ablate_memory=True)),
        ("PPO without memory", success(without_memory)),
    ]
    print(f"\nT-maze, corridor of 20: right turns in {EPISODES} unseen mazes, actions sampled")
    for name, rate in rows:
        print(f"  {name:48s} {rate:6.1%}  {'#' * round(30 * rate)}")
    print(f"\nTook {time.perf_counter() - began:.0f} s. The learning curves are in {arguments.root}; look at them with")
    print("  source .venv/bin/activate")
    print(f"  tensorboard --logdir {arguments.root}")
    print("Evaluate an agent again, or take its memory away, with")
    print(f"  rlstm evaluate {with_memory} --actions sampled --ablate-memory")
    print("See what its memory holds, and open the page that this writes in a browser, with")
    print(f"  rlstm inspect {with_memory} --out inspection.html")


if __name__ == "__main__":
    main()
