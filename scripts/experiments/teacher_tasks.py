"""Repeat the classics that LSTM learnt from a teacher: sequences read until all are right, for several seeds.

    python -m scripts.experiments.teacher_tasks                                 # what there is
    python -m scripts.experiments.teacher_tasks reber adding-100 --seeds 0 1    # rows are written one by one
    python -m scripts.experiments.teacher_tasks --tables                        # the table from the rows

A seed is trained until an evaluation on ``--eval-episodes`` sequences that are never learnt from meets the criterion,
or its steps are over. Then other sequences, as many as the papers tested, are read once: how many of them are wrong is
the last column. A published figure is the mean over the networks of the paper; sequences are drawn anew for ever here.
Rows are in ``scripts/results/teacher.csv``, with the command that trains the run.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from scripts.experiments.training_run import MACHINE_COLUMNS, machine, make_parser, read_progress, refuse_unknown
from scripts.results_table import PAGE, ROOT, markdown_table, marked, put_row, read_rows, write_between

RESULTS = ROOT / "scripts" / "results" / "teacher.csv"
KEYS = ("task", "seed")
COLUMNS = (*KEYS, "sequences", "steps", "seconds", "best", "tested", "wrong", "solved", "command", *MACHINE_COLUMNS)
BEGIN = "<!-- teacher tasks: written by scripts/experiments/teacher_tasks.py -->"
END = "<!-- end of teacher tasks -->"
HEAD = ("", "solved", "sequences, median", "range", "asked or published", "test sequences wrong, median", "seconds")


@dataclass(frozen=True)
class Task:
    """A task, how it is learnt and when it counts as solved."""

    title: str
    flags: str
    published: str
    criterion: float = 1.0  # Share of the evaluation's sequences that are all right.
    tested: int = 2560


def _lag(q: int) -> str:
    return f"--env rlstm/LongLag-v0 --env-kwargs form=variable p={q} num_distractors={q}"


_COMMON = "--encoder-sizes --eval-episodes 1000"
TASKS = {
    "reber": Task(
        "Embedded Reber grammar, all of 256",
        "--env rlstm/EmbeddedReber-v0 --hidden-size 16 --batch-size 8 --learning-rate 0.02 --total-steps 250000 "
        "--eval-every 3000 --eval-episodes 256",
        "8,440: LSTM, 3 blocks of 2 cells",
        tested=256,
    ),
    "adding-100": Task(
        "Adding, 100 steps",
        "--env rlstm/Adding-v0 --hidden-size 16 --batch-size 16 --learning-rate 0.01 --total-steps 8000000 "
        f"--eval-every 100000 {_COMMON}",
        "74,000",
        criterion=0.999,
    ),
}


def run_seed(name: str, seed: int, num_threads: int) -> dict[str, Any]:
    """Train one seed until it meets the criterion, test it, and return its row."""
    import rlstm
    from rlstm.api.experiments import train_config
    from rlstm.cli.train import experiment

    task = TASKS[name]
    words = ["train", "teacher", *task.flags.split(), "--seed", str(seed), "--num-threads", str(num_threads)]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        config, _ = experiment("teacher", [*words[2:], "--run-dir", str(run_dir)])

        def goes_on(step: int, metrics: Any) -> bool:
            return float(metrics["eval/success_rate"]) < task.criterion

        result = train_config(config, ui="none", on_evaluation=goes_on)
        evaluated = [row for row in read_progress(run_dir) if row["eval/success_rate"]]
        tested = rlstm.evaluate(run_dir, episodes=task.tested, seed=1_000_000, checkpoint="latest")
    last, solved = evaluated[-1], float(evaluated[-1]["eval/success_rate"]) >= task.criterion
    return {
        "task": name,
        "seed": seed,
        "sequences": int(float(last["teacher/sequences"])),
        "steps": result.steps,
        "seconds": round(result.wall_seconds, 1),
        "best": max(float(row["eval/success_rate"]) for row in evaluated),
        "tested": task.tested,
        "wrong": int((tested.successes != 1).sum()),
        "solved": solved,
        "command": f"rlstm {shlex.join(words)}",
        **machine(num_threads),
    }


def run_all(names: Sequence[str], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train every seed of every task that is not there yet; yield each row as it is known."""
    there = {(row["task"], int(row["seed"])) for row in read_rows(RESULTS)}
    left = [(name, seed) for name in names for seed in arguments.seeds if (name, seed) not in there]
    # Each in a process of its own, so that no run inherits anything from the one before.
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = [pool.submit(run_seed, name, seed, arguments.num_threads) for name, seed in left]
        for run in as_completed(runs):
            yield run.result()


def line(task: Task, rows: Sequence[dict[str, str]]) -> list[str]:
    """Return the line of a task; a seed that never met the criterion counts as infinitely many sequences."""
    solved = [row for row in rows if row["solved"] == "True"]
    sequences = sorted(int(row["sequences"]) for row in solved)
    middle = np.median([*sequences, *([np.inf] * (len(rows) - len(solved)))])
    return [
        marked(task.title, rows),
        f"{len(solved)} of {len(rows)}",
        f"{middle:,.0f}" if np.isfinite(middle) else "never",
        f"{sequences[0]:,} to {sequences[-1]:,}" if sequences else "",
        task.published,
        f"{np.median([int(row['wrong']) for row in rows]):g} of {task.tested:,}",
        f"{np.median([float(row['seconds']) for row in rows]):,.0f}",
    ]


def write_page() -> None:
    """Put the table between its marks in RESULTS.md."""
    rows = read_rows(RESULTS)
    every = {name: [row for row in rows if row["task"] == name] for name in TASKS}
    write_between(
        PAGE, BEGIN, END, markdown_table(HEAD, [line(TASKS[name], own) for name, own in every.items() if own])
    )


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, range(5))
    parser.add_argument("names", nargs="*", metavar="NAME", help="tasks, or all; none lists them")
    parser.add_argument("--jobs", type=int, default=1, help="seeds trained at once, a process each")
    arguments = parser.parse_args()
    names = list(TASKS) if arguments.names == ["all"] else arguments.names
    refuse_unknown(parser, names, TASKS)
    if not (names or arguments.tables):
        for name, task in TASKS.items():
            print(f"{name:20s} {task.title}; published {task.published}")
        return
    for row in run_all(names, arguments):
        put_row(RESULTS, COLUMNS, row, KEYS)
        print(f"{row['task']} seed {row['seed']}: {row['sequences']:,} sequences, solved {row['solved']}", flush=True)
        write_page()
    write_page()


if __name__ == "__main__":
    main()
