"""Compare cells: PPO on four memory tasks with every cell, at equal steps and an equal number of weights.

    python -m scripts.experiments.which_cell                                   # the tasks and the cells' widths
    python -m scripts.experiments.which_cell tmaze-50 --cells lstm gru --seeds 0 1
    python -m scripts.experiments.which_cell all                               # every task and cell, seeds 0, 1, 2
    python -m scripts.experiments.which_cell --tables  # the table of docs/cells.md from the rows, nothing is trained

The tasks' settings are the same for every cell; they were found with an LSTM, which favours it. The width of a cell
gives it nearly as many parameters as an LSTM of 64 units that reads 64 numbers has, in steps of 4 units. If a task has
a memory length, cells get it whose gates can begin with it; the others begin as they do. The measure is the return at
the end, of the likeliest actions, over 200 episodes on seeds never trained on. Steps a second are of whole runs.

Rows are in ``scripts/results/which_cell.csv``; one that is there is not run again.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlstm.cells import CELLS, make_cell
from scripts.experiments.training_run import MACHINE_COLUMNS, machine, make_parser, refuse_unknown, train
from scripts.results_table import ROOT, append_row, markdown_table, marked, read_rows, write_between

RESULTS = ROOT / "scripts" / "results" / "which_cell.csv"
BEGIN, END = "<!-- which cell: written by scripts/experiments/which_cell.py -->", "<!-- end of which cell -->"
WIDTH, LSTM_UNITS, STEP = 64, 64, 4
COLUMNS = ("task", "cell", "seed", "units", "parameters", "return", "steps", "seconds", "steps_per_second", "command")
COLUMNS = (*COLUMNS, *MACHINE_COLUMNS)
ALL = "--num-envs 64 --learning-rate 1e-3 --anneal-lr --encoder-sizes 64 --eval-episodes 200 --eval-every 0"
ALL += " --value-bias zero --eval-actions likeliest"  # As when the first rows were made.


@dataclass(frozen=True)
class Task:
    """A task to learn, with its settings."""

    title: str
    flags: str
    memory_length: int | None = None


TASKS = {
    "tmaze-50": Task(
        "T-maze 50",
        "--env rlstm/TMaze-v0 --env-kwargs corridor_length=50 --total-steps 1000000 --num-steps 128 --gae-lambda 0.98 "
        "--ent-coef 0.03 --final-ent-coef 0.001 --target-kl 0.02",
        memory_length=100,
    ),
    "repeat-previous": Task(
        "RepeatPrevious Medium",
        "--env rlstm/RepeatPreviousMedium-v0 --total-steps 1000000 --num-steps 128 --ent-coef 0.02 --final-ent-coef 0",
    ),
    "count-recall": Task(
        "CountRecall Easy",
        "--env rlstm/CountRecallEasy-v0 --total-steps 500000 --num-steps 128 --ent-coef 0.02 --final-ent-coef 0",
    ),
    "noisy-cartpole": Task(
        "noisy position-only CartPole",
        "--env rlstm/NoisyPositionOnlyCartPoleEasy-v0 --total-steps 500000 --num-steps 128 --ent-coef 0.005",
    ),
}


def parameters(name: str, units: int) -> int:
    """Return the parameters of a cell that reads 64 numbers."""
    cell = make_cell(name, WIDTH + CELLS[name].reads_elapsed_time, units)
    return sum(parameter.numel() for parameter in cell.parameters())


def units_of(name: str) -> int:
    """Return the width at which a cell has nearest to as many parameters as the LSTM."""
    wanted = parameters("lstm", LSTM_UNITS)
    units = STEP
    while parameters(name, units + STEP) <= wanted:
        units += STEP
    return min((units, units + STEP), key=lambda size: abs(parameters(name, size) - wanted))


def has_memory_length(name: str) -> bool:
    """Return whether a cell's gates can begin with a memory length."""
    try:
        make_cell(name, STEP, STEP, memory_length=10)
    except ValueError:
        return False
    return True


def compared() -> list[str]:
    """Return the cells that read vectors."""
    return [name for name, cell in CELLS.items() if not cell.reads_maps]


def words(task: str, cell: str, seed: int, num_threads: int) -> list[str]:
    """Return the words of a run but for its folder."""
    one = TASKS[task]
    text = f"train ppo {one.flags} {ALL} --cell {cell} --hidden-size {units_of(cell)} --seed {seed}"
    if one.memory_length is not None and has_memory_length(cell):
        text += f" --memory-length {one.memory_length}"
    return shlex.split(f"{text} --num-threads {num_threads}")


def run_one(task: str, cell: str, seed: int, num_threads: int) -> dict[str, Any]:
    """Train one seed and return its row."""
    command = words(task, cell, seed, num_threads)
    with tempfile.TemporaryDirectory() as folder:
        last = train(command, Path(folder) / "run")[-1]
    steps, seconds = int(last["step"]), float(last["time/time_elapsed"])
    units = units_of(cell)
    return {
        "task": task,
        "cell": cell,
        "seed": seed,
        "units": units,
        "parameters": parameters(cell, units),
        "return": f"{float(last['eval/mean_reward']):.5g}",
        "steps": steps,
        "seconds": f"{seconds:.1f}",
        "steps_per_second": f"{steps / seconds:.0f}",
        "command": f"rlstm {shlex.join(command)}",
        **machine(num_threads),
    }


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the Markdown table, a line a cell, a column a task; nothing if there are no rows."""
    head = ["cell", "units", "parameters", *(task.title for task in TASKS.values()), "steps/s", "runs"]
    lines = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        own = [row for row in rows if row["cell"] == cell]
        cells = [marked(cell, own), own[0]["units"], f"{int(own[0]['parameters']):,}"]
        for task in TASKS:
            values = np.array([float(row["return"]) for row in own if row["task"] == task])
            spread = f" [{values.min():.3g}, {values.max():.3g}]" if len(values) > 1 else ""
            cells.append(f"{values.mean():.3g}{spread}" if len(values) else "")
        speed = np.median([float(row["steps_per_second"]) for row in own])
        lines.append([*cells, f"{speed:,.0f}", str(len(own))])
    return markdown_table(head, lines)


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, range(3))
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"all, or of {', '.join(TASKS)}")
    parser.add_argument("--cells", nargs="+", choices=compared(), default=compared())
    arguments = parser.parse_args()
    refuse_unknown(parser, arguments.tasks, [*TASKS, "all"])
    tasks = list(TASKS) if "all" in arguments.tasks else arguments.tasks
    if not tasks and not arguments.tables:
        for name, task in TASKS.items():
            print(f"{name:16s} {task.title}: {task.flags}")
        for cell in compared():
            print(f"{cell:18s} {units_of(cell):4d} units, {parameters(cell, units_of(cell)):7,} parameters")
        return
    there = {(row["task"], row["cell"], row["seed"]) for row in read_rows(RESULTS)}
    for seed in arguments.seeds:
        for task in tasks:
            for cell in arguments.cells:
                if (task, cell, str(seed)) in there:
                    continue
                row = run_one(task, cell, seed, arguments.num_threads)
                append_row(RESULTS, COLUMNS, row)
                print(f"{task} {cell} seed {seed}: {row['return']}, {row['seconds']} s", flush=True)
    write_between(ROOT / "docs" / "cells.md", BEGIN, END, table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
