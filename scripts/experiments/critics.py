"""Compare critics: PPO with five kinds of critic on seven tasks, with a small and a larger memory.

    python -m scripts.experiments.critics                              # the tasks and the critics
    python -m scripts.experiments.critics bit --critics popart --seeds 0
    python -m scripts.experiments.critics all                          # every task and critic, seeds 0 to 4
    python -m scripts.experiments.critics --tables                     # the table of docs/defaults.md from the rows

A critic that shares the memory can rule it: where a task is cut by a time limit, values lie far from 0 in units of
their deviation, and the gradient of their error, many times that of the policy, decides what a small memory keeps.
Everything but the critic has its default. The measure is the return at the end, of the likeliest actions, over 100
episodes on seeds never trained on.

Rows are in ``scripts/results/critics.csv``; one that is there is not run again.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.experiments.training_run import MACHINE_COLUMNS, machine, make_parser, refuse_unknown, train
from scripts.results_table import ROOT, append_row, markdown_table, marked, read_rows, write_between

RESULTS = ROOT / "scripts" / "results" / "critics.csv"
PAGE = ROOT / "docs" / "defaults.md"
BEGIN, END = "<!-- critics: written by scripts/experiments/critics.py -->", "<!-- end of critics -->"
COLUMNS = ("task", "critic", "units", "seed", "return", "steps", "seconds", "command", *MACHINE_COLUMNS)
SIZES = (16, 64)

TASKS = {
    "bit": "--env small/Bit-v0 --env-import scripts.experiments.small_envs --total-steps 32000 --num-envs 4 "
    "--num-steps 32 --learning-rate 3e-3",
    "tmaze-10": "--env rlstm/TMaze-v0 --env-kwargs corridor_length=10 --total-steps 100000",
    "repeat-previous": "--env rlstm/RepeatPreviousEasy-v0 --total-steps 150000",
    "count-recall": "--env rlstm/CountRecallEasy-v0 --total-steps 150000",
    "cartpole": "--env rlstm/CartPoleNoVel-v0 --total-steps 75000",
    "pendulum": "--env rlstm/PendulumNoVel-v0 --total-steps 150000",
    "bandit": "--env rlstm/BernoulliBandit-v0 --memory.lifetime trial --memory.episodes-per-trial 10 "
    "--total-steps 150000",
}
PLAIN = "--no-popart --value-bias zero"
CRITICS = {
    "shared": f"{PLAIN} --critic-memory shared",
    "bias": "--no-popart --value-bias returns --critic-memory shared",
    "popart": "--popart --value-bias zero --critic-memory shared",
    "detached": f"{PLAIN} --critic-memory detached",
    "separate": f"{PLAIN} --critic-memory separate",
    "popart-bias": "--popart --value-bias returns --critic-memory shared",
    "popart-detached": "--popart --value-bias zero --critic-memory detached",
    "popart-separate": "--popart --value-bias zero --critic-memory separate",
}


def words(task: str, critic: str, units: int, seed: int, num_threads: int) -> list[str]:
    """Return the words of a run but for its folder."""
    text = f"train ppo {TASKS[task]} {CRITICS[critic]} --hidden-size {units} --seed {seed} --num-threads {num_threads}"
    return shlex.split(f"{text} --eval-every 0 --eval-episodes 100 --eval-actions likeliest")


def run_one(task: str, critic: str, units: int, seed: int, num_threads: int) -> dict[str, Any]:
    """Train one seed and return its row."""
    command = words(task, critic, units, seed, num_threads)
    with tempfile.TemporaryDirectory() as folder:
        last = train(command, Path(folder) / "run")[-1]
    return {
        "task": task,
        "critic": critic,
        "units": units,
        "seed": seed,
        "return": f"{float(last['eval/mean_reward']):.5g}",
        "steps": int(last["step"]),
        "seconds": f"{float(last['time/time_elapsed']):.1f}",
        "command": f"rlstm {shlex.join(command)}",
        **machine(num_threads),
    }


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the Markdown table, a line a critic and size, a column a task; nothing if there are no rows."""
    lines = []
    for critic in CRITICS:
        for units in SIZES:
            own = [row for row in rows if (row["critic"], row["units"]) == (critic, str(units))]
            if not own:
                continue
            cells = [marked(critic, own), str(units)]
            for task in TASKS:
                values = np.array([float(row["return"]) for row in own if row["task"] == task])
                spread = f" [{values.min():.3g}, {values.max():.3g}]" if len(values) > 1 else ""
                cells.append(f"{values.mean():.3g}{spread}" if len(values) else "")
            lines.append(cells)
    return markdown_table(["critic", "units", *TASKS], lines)


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, range(5))
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"all, or of {', '.join(TASKS)}")
    parser.add_argument("--critics", nargs="+", choices=CRITICS, default=list(CRITICS))
    parser.add_argument("--sizes", nargs="+", type=int, choices=SIZES, default=SIZES)
    arguments = parser.parse_args()
    refuse_unknown(parser, arguments.tasks, [*TASKS, "all"])
    tasks = list(TASKS) if "all" in arguments.tasks else arguments.tasks
    if not tasks and not arguments.tables:
        for name, flags in (*TASKS.items(), *CRITICS.items()):
            print(f"{name:16s} {flags}")
        return
    there = {(row["task"], row["critic"], row["units"], row["seed"]) for row in read_rows(RESULTS)}
    for seed in arguments.seeds:
        for task in tasks:
            for critic in arguments.critics:
                for units in arguments.sizes:
                    if (task, critic, str(units), str(seed)) in there:
                        continue
                    row = run_one(task, critic, units, seed, arguments.num_threads)
                    append_row(RESULTS, COLUMNS, row)
                    print(f"{task} {critic} {units} seed {seed}: {row['return']}, {row['seconds']} s", flush=True)
    write_between(PAGE, BEGIN, END, table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
