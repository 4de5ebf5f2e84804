"""Train every agent on thirteen tasks with nothing but an env and a number of steps.

    python -m scripts.experiments.defaults                           # the tasks, and what counts as learnt
    python -m scripts.experiments.defaults ppo --tasks bit --seeds 0
    python -m scripts.experiments.defaults all                       # every agent and task, seeds 0 to 4
    python -m scripts.experiments.defaults --tables                  # the table of docs/defaults.md from the rows

A user's own env has no preset, so the defaults are what its first run has. The measure is the return at the end, of the
likeliest actions, over 100 episodes on seeds never trained on. ``--flags`` adds flags to every command, to try other
defaults; such rows are printed and not kept.

Rows are in ``scripts/results/defaults.csv``; one that is there is not run again.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.experiments.training_run import MACHINE_COLUMNS, machine, make_parser, refuse_unknown, train
from scripts.results_table import ROOT, append_row, markdown_table, marked, read_rows, write_between

RESULTS = ROOT / "scripts" / "results" / "defaults.csv"
PAGE = ROOT / "docs" / "defaults.md"
BEGIN, END = "<!-- defaults: written by scripts/experiments/defaults.py -->", "<!-- end of defaults -->"
COLUMNS = ("agent", "task", "seed", "return", "learnt", "steps", "seconds", "command", *MACHINE_COLUMNS)
AGENTS = ("ppo", "reinforce", "evolino")


@dataclass(frozen=True)
class Task:
    """A task, its steps, and from which return on it is learnt."""

    title: str
    flags: str
    total_steps: int
    learnt: float
    because: str
    agents: tuple[str, ...] = ("ppo", "reinforce")


_SMALL = "--env-import scripts.experiments.small_envs"
_ALL = AGENTS
TASKS = {
    "bit": Task("the bit seen now", f"--env small/Bit-v0 {_SMALL}", 100_000, 9.5, "10 is perfect, 5 chance"),
    "echo": Task("Echo of README", f"--env small/Echo-v0 {_SMALL}", 200_000, 29.0, "31 is perfect, 8 chance"),
    "tmaze-10": Task(
        "T-maze 10",
        "--env rlstm/TMaze-v0 --env-kwargs corridor_length=10",
        200_000,
        3.9,
        "4 is perfect, 1.95 without memory",
        _ALL,
    ),
    "tmaze-20": Task(
        "T-maze 20",
        "--env rlstm/TMaze-v0 --env-kwargs corridor_length=20",
        500_000,
        3.9,
        "4 is perfect, 1.95 without memory",
        _ALL,
    ),
    "repeat-previous": Task(
        "RepeatPrevious Easy", "--env rlstm/RepeatPreviousEasy-v0", 500_000, 0.8, "1 is perfect, -.49 without memory"
    ),
    "cartpole": Task("CartPole, no velocities", "--env rlstm/CartPoleNoVel-v0", 200_000, 475.0, "500 is perfect"),
    "pendulum": Task("Pendulum, no velocity", "--env rlstm/PendulumNoVel-v0", 200_000, -300.0, "-1200 is chance"),
    "mountain-car": Task(
        "MountainCar, no velocity", "--env rlstm/MountainCarContinuousNoVel-v0", 200_000, 85.0, "0 is standing still"
    ),
    "bandit": Task(
        "5-armed bandit, 10 pulls",
        "--env rlstm/BernoulliBandit-v0 --env-kwargs num_arms=5 --memory.lifetime trial --memory.episodes-per-trial 10",
        300_000,
        0.64,
        "UCB1 .666, chance .5, a pull",
    ),
    "pole": Task("one pole, no velocities", "--env rlstm/SinglePoleNoVel-v0", 300_000, 950.0, "1000 is perfect"),
    "sines": Task(
        "sum of 2 sines, answers fed back",
        "--env rlstm/Sines-v0 --env-kwargs feedback=true",
        500_000,
        -7.5,
        "0 is perfect, -75 without memory",
        _ALL,
    ),
    "anbncn": Task("a^n b^n c^n", "--env rlstm/AnBnCn-v0", 300_000, 0.97, "1 is perfect, .886 without memory", _ALL),
    "reber": Task(
        "embedded Reber grammar",
        "--env rlstm/EmbeddedReber-v0",
        500_000,
        0.9,
        "1 is perfect, .545 without memory",
        _ALL,
    ),
}


def words(agent: str, task: str, seed: int, num_threads: int) -> list[str]:
    """Return the words of a run but for its folder."""
    one = TASKS[task]
    text = f"train {agent} {one.flags} --total-steps {one.total_steps} --seed {seed} --num-threads {num_threads}"
    return shlex.split(f"{text} --eval-every 0 --eval-episodes 100 --eval-actions likeliest")


def run_one(agent: str, task: str, seed: int, num_threads: int, flags: Sequence[str]) -> dict[str, Any]:
    """Train one seed and return its row."""
    command = [*words(agent, task, seed, num_threads), *flags]
    with tempfile.TemporaryDirectory() as folder:
        last = train(command, Path(folder) / "run")[-1]
    reached = float(last["eval/mean_reward"])
    return {
        "agent": agent,
        "task": task,
        "seed": seed,
        "return": f"{reached:.5g}",
        "learnt": int(reached >= TASKS[task].learnt),
        "steps": int(last["step"]),
        "seconds": f"{float(last['time/time_elapsed']):.1f}",
        "command": f"rlstm {shlex.join(command)}",
        **machine(num_threads),
    }


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the Markdown table, a line a task, two columns an agent; nothing if there are no rows."""
    head = ["task", "steps", "learnt from", *(text for agent in AGENTS for text in (agent, "seeds that learnt"))]
    lines = []
    for name, task in TASKS.items():
        own = [row for row in rows if row["task"] == name]
        if not own:
            continue
        cells = [marked(task.title, own), f"{task.total_steps:,}", f"{task.learnt:g} ({task.because})"]
        for agent in AGENTS:
            mine = [row for row in own if row["agent"] == agent]
            returns = np.array([float(row["return"]) for row in mine])
            spread = f" [{returns.min():.3g}, {returns.max():.3g}]" if len(returns) > 1 else ""
            cells.append(f"{returns.mean():.3g}{spread}" if mine else "")
            cells.append(f"{sum(int(row['learnt']) for row in mine)} of {len(mine)}" if mine else "")
        lines.append(cells)
    return markdown_table(head, lines)


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, range(5))
    parser.add_argument("agents", nargs="*", metavar="AGENT", help=f"all, or of {', '.join(AGENTS)}")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--flags", default="", help="more flags for every command, as one word")
    arguments = parser.parse_args()
    refuse_unknown(parser, arguments.agents, [*AGENTS, "all"])
    agents = AGENTS if "all" in arguments.agents else arguments.agents
    if not agents and not arguments.tables:
        for name, task in TASKS.items():
            print(f"{name:16s} {task.flags} --total-steps {task.total_steps}: from {task.learnt:g} on ({task.because})")
        return
    flags = shlex.split(arguments.flags)
    there = set() if flags else {(row["agent"], row["task"], row["seed"]) for row in read_rows(RESULTS)}
    for seed in arguments.seeds:
        for task in arguments.tasks:
            for agent in agents:
                if (agent, task, str(seed)) in there or agent not in TASKS[task].agents:
                    continue
                row = run_one(agent, task, seed, arguments.num_threads, flags)
                if not flags:
                    append_row(RESULTS, COLUMNS, row)
                print(f"{agent} {task} seed {seed}: {row['return']}, {row['seconds']} s", flush=True)
    write_between(PAGE, BEGIN, END, table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
