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
HEAD = ("", "solved", "sequences, median", "range", "published", "test sequences wrong, median", "seconds")


@dataclass(frozen=True)
class Task:
    """A task, how it is learnt and when it counts as solved."""

    title: str
    flags: str
    published: str
    criterion: float = 1.0  # Of what is measured at evaluations: by default the share of sequences that are all right.
    measure: str = "eval/success_rate"
    tested: int = 2560


def _flags(env: str, steps: int, every: int, episodes: int, *, lag: int, batch: int = 4, rate: str = "5e-3") -> str:
    """Return the flags of a memory for so many steps, which learns for so many and is evaluated every so often."""
    sizes = f"--hidden-size 16 --batch-size {batch} --learning-rate {rate} --adam-epsilon 1e-8 --memory-length {lag}"
    return f"--env {env} {sizes} --total-steps {steps} --eval-every {every} --eval-episodes {episodes} --num-envs 50"


_ADDING, _LAG, _ORDER = "rlstm/Adding-v0", "rlstm/LongLag-v0", "rlstm/TemporalOrder-v0"
TASKS = {
    "reber": Task(
        "Embedded Reber grammar, all of 256 right",
        _flags("rlstm/EmbeddedReber-v0", 250_000, 3_000, 256, lag=20, rate="2e-2"),
        "8,440 (3 blocks of 2 cells)",
        tested=256,
    ),
    "lag-100": Task(
        "2a: long lag, p = 100, all of 1,000 right, by an xLSTM",
        f"--env {_LAG} --env-kwargs p=100 --cell xlstm --cell-kwargs num_blocks=2 slstm_at=[] --hidden-size 32 "
        "--batch-size 4 --learning-rate 3e-3 --memory-length 1000 --total-steps 1000000 --eval-every 20000 "
        "--eval-episodes 1000 --num-envs 50",
        "5,040",
    ),
    "lag-1000": Task(
        "2c: lag and distractors of 1,000, all of 500 right, lags of 30, 100 and 300 before",
        "--preset long-lag-1000 --total-steps 49000000 --eval-episodes 500 --num-envs 50",
        "49,000",
    ),
    "adding-100": Task(
        "4: adding, T = 100, 998 of 1,000 within .04",
        _flags(_ADDING, 7_800_000, 200_000, 1_000, lag=100),
        "74,000",
        criterion=0.998,
    ),
    "adding-500": Task(
        "4: adding, T = 500",
        _flags(f"{_ADDING} --env-kwargs length=500", 110_000_000, 2_000_000, 1_000, lag=500),
        "209,000",
        criterion=0.998,
    ),
    "adding-1000": Task(
        "4: adding, T = 1000, lengths of 100 and 300 before",
        "--preset adding-1000 --total-steps 450000000 --eval-episodes 1000 --num-envs 50",
        "853,000",
        criterion=0.998,
    ),
    "multiplication-100": Task(
        "5: multiplication, T = 100, 13 of 2,000 wrong at most",
        _flags("rlstm/Multiplication-v0", 67_000_000, 1_000_000, 2_000, lag=100, batch=8, rate="3e-3"),
        "1,273,000",
        criterion=0.9935,
    ),
    "order-6a": Task(
        "6a: temporal order of two, 999 of 1,000 right",
        _flags(_ORDER, 3_300_000, 100_000, 1_000, lag=100, rate="1e-2"),
        "31,390",
        criterion=0.999,
    ),
    "order-6b": Task(
        "6b: temporal order of three, 999 of 1,000 right",
        _flags(f"{_ORDER} --env-kwargs num_markers=3", 60_000_000, 200_000, 1_000, lag=100),
        "571,100",
        criterion=0.999,
    ),
    "quadratics": Task(
        "quadratics (ICANN 2001): mean squared error at examples 31 to 40 at most 0.001",
        "--env rlstm/Quadratics-v0 --hidden-size 64 --batch-size 32 --learning-rate 5e-3 --anneal-lr "
        "--adam-epsilon 1e-8 --memory-length 40 --total-steps 24000000 --eval-every 1000000 --eval-episodes 1000 "
        "--num-envs 50",
        "",
        criterion=-1e-3,
        measure="eval/mean_reward",
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
            return float(metrics[task.measure]) < task.criterion

        result = train_config(config, ui="none", on_evaluation=goes_on)
        evaluated = [row for row in read_progress(run_dir) if row[task.measure]]
        tested = rlstm.evaluate(run_dir, episodes=task.tested, seed=1_000_000, checkpoint="latest")
    last, solved = evaluated[-1], float(evaluated[-1][task.measure]) >= task.criterion
    return {
        "task": name,
        "seed": seed,
        "sequences": int(float(last["teacher/sequences"])),
        "steps": result.steps,
        "seconds": round(result.wall_seconds, 1),
        "best": max(float(row[task.measure]) for row in evaluated),
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
