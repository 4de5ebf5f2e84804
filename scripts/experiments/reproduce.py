"""Repeat learning results by name: train every seed, write a row and a curve a seed, and regenerate the tables.

    python -m scripts.experiments.reproduce                            # what there is
    python -m scripts.experiments.reproduce tmaze --seeds 0 1 2        # add seeds; rows are written one by one
    python -m scripts.experiments.reproduce tmaze --seeds 0 --again    # replace the row of a seed that is there
    python -m scripts.experiments.reproduce --group T-maze             # all the experiments of a table
    python -m scripts.experiments.reproduce tmaze tmaze-70 --jobs 2    # so many seeds at once, a process each
    python -m scripts.experiments.reproduce tmaze-70 --runs runs       # keep the run directories: runs/tmaze-70-seed0
    python -m scripts.experiments.reproduce --tables   # the tables from the rows, nothing is trained
    python -m scripts.experiments.reproduce --picture  # docs/images/learning.svg from the curves, nothing is trained

Experiments are in ``scripts/experiments/catalogue.py``, rows in ``scripts/results/learning.csv``: the command that
repeats the run, commit, seed, steps, wall time, device and versions. Beside each row the run's evaluations are written
to ``scripts/results/curves``; rows from before there were curves have none. The tables are those of RESULTS.md and the
short one of README. A seed that is there is not run again without ``--again``, so a long table can be filled over
several sittings; with it, the old row and the old curve stay until the new ones are known. The criterion is met at the
first evaluation (greedy, on seeds that are never trained on) whose mean reaches it; a seed counts as solved if it is
met there **and** at the end.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from scripts.experiments import learning_curves, learning_picture, learning_tables, short_table
from scripts.experiments.catalogue import EXPERIMENTS, GROUPS, MEASURES, Experiment
from scripts.experiments.training_run import (
    MACHINE_COLUMNS,
    machine,
    make_parser,
    read_progress,
    refuse_unknown,
    train,
)
from scripts.results_table import ROOT, put_row, read_rows

RESULTS = ROOT / "scripts" / "results" / "learning.csv"
EVALUATION_EPISODES = 200
KEYS = ("experiment", "seed")
COLUMNS = (
    *KEYS,
    "measure",
    "criterion",
    "reached_at",
    "seconds_to_criterion",
    "final",
    "total_steps",
    "steps_per_second",
    "seconds",
    "solved",
    "command",
    *MACHINE_COLUMNS,
)


class Result(NamedTuple):
    """What is kept of a seed."""

    row: dict[str, Any]
    curve: list[learning_curves.Point]


def run_seed(name: str, seed: int, num_threads: int, runs: str | None) -> Result:
    """Train one seed and return its result; the run directory is kept in the folder ``runs``, if there is one."""
    experiment = EXPERIMENTS[name]
    common = ["--seed", str(seed), "--eval-episodes", str(EVALUATION_EPISODES), "--num-threads", str(num_threads)]
    commands: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        run_dirs: list[Path] = []
        for stage, flags in enumerate(experiment.runs, start=1):
            words = ["train", experiment.agent, "--preset", experiment.preset, *flags, *common]
            if run_dirs:
                words += ["--init-from", str(run_dirs[-1])]
            last = stage == len(experiment.runs)
            run_dirs.append(Path(runs or folder) / f"{name}-seed{seed}{'' if last else f'-stage{stage}'}")
            train(words, run_dirs[-1])
            commands.append(words if last else [*words, "--run-dir", str(run_dirs[-1])])
        outcome, curve = read_outcome(run_dirs, experiment), read_curve(run_dirs, seed)
    # The folder of the last run does not matter, but those that hand on weights have to be named.
    command = " && ".join(f"rlstm {shlex.join(words)}" for words in commands)
    command = command.replace(str(run_dirs[0].parent), "runs")
    row = {
        "experiment": name,
        "seed": seed,
        "measure": experiment.measure,
        "criterion": experiment.criterion,
        **outcome,
        "command": command,
        **machine(num_threads),
    }
    return Result(row, curve)


def count_steps(stages: Sequence[Sequence[dict[str, str]]]) -> int:
    """Return the steps of some runs, from their progress."""
    return sum(int(progress[-1]["step"]) for progress in stages)


def read_curve(run_dirs: Sequence[Path], seed: int) -> list[learning_curves.Point]:
    """Return the evaluations of the last of the runs, at steps that count those of the runs before it."""
    *earlier, last = [read_progress(run_dir) for run_dir in run_dirs]
    return learning_curves.evaluations(last, count_steps(earlier), seed)


def read_outcome(run_dirs: Sequence[Path], experiment: Experiment) -> dict[str, Any]:
    """Return what the last of the runs reached, and when, from their progress; steps and seconds are of all of them."""
    *earlier, last = [read_progress(run_dir) for run_dir in run_dirs]
    steps_before = count_steps(earlier)
    seconds_before = sum(float(progress[-1]["time/time_elapsed"]) for progress in earlier)
    measured = [row for row in last if row["eval/mean_reward"]]
    values = [float(row[MEASURES[experiment.measure].column]) for row in measured]
    reached = [row for row, value in zip(measured, values, strict=True) if value >= experiment.criterion]
    steps = steps_before + int(last[-1]["step"])
    seconds = seconds_before + float(last[-1]["time/time_elapsed"])
    return {
        "reached_at": steps_before + int(reached[0]["step"]) if reached else "",
        "seconds_to_criterion": round(seconds_before + float(reached[0]["time/time_elapsed"]), 1) if reached else "",
        "final": f"{values[-1]:.4g}",
        "total_steps": steps,
        "steps_per_second": round(steps / seconds),
        "seconds": round(seconds, 1),
        "solved": bool(reached) and values[-1] >= experiment.criterion,
    }


def run_all(names: Sequence[str], arguments: argparse.Namespace) -> Iterator[Result]:
    """Train every seed of every experiment that is not there yet, or all of them again; yield each as it is known."""
    there = set() if arguments.again else {(row["experiment"], int(row["seed"])) for row in read_rows(RESULTS)}
    wanted = [(name, seed) for name in names for seed in arguments.seeds]
    for name, seed in wanted:
        if (name, seed) in there:
            print(f"{name} seed {seed}: already there")
    left = [one for one in wanted if one not in there]
    # Each in a process of its own, so that no run inherits anything from the one before.
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = [pool.submit(run_seed, name, seed, arguments.num_threads, arguments.runs) for name, seed in left]
        for run in as_completed(runs):
            yield run.result()


def store(result: Result) -> None:
    """Write the row and the curve of a seed, in place of older ones."""
    put_row(RESULTS, COLUMNS, result.row, KEYS)
    learning_curves.store(result.row["experiment"], result.curve)


def write_pages() -> None:
    """Write the tables of RESULTS.md and README."""
    learning_tables.write_page(read_rows(RESULTS))
    short_table.write_page()


def chosen(arguments: argparse.Namespace) -> list[str]:
    """Return the experiments that are named, and those of the groups that are."""
    grouped = (name for name, experiment in EXPERIMENTS.items() if experiment.group in arguments.group)
    return list(dict.fromkeys([*arguments.names, *grouped]))


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, range(5))
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments; none lists them")
    parser.add_argument("--group", nargs="+", default=[], metavar="GROUP", help="all the experiments of these tables")
    parser.add_argument("--again", action="store_true", help="run seeds anew that are there, and replace their rows")
    parser.add_argument("--jobs", type=int, default=1, help="seeds trained at once, a process each")
    parser.add_argument("--runs", metavar="DIR", help="keep the run directories in this folder")
    parser.add_argument("--picture", action="store_true", help="only draw the learning curves there are")
    arguments = parser.parse_args()
    refuse_unknown(parser, arguments.names, EXPERIMENTS)
    refuse_unknown(parser, arguments.group, GROUPS)
    names = chosen(arguments)
    if not (names or arguments.tables or arguments.picture):
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:24s} {experiment.title}: {experiment.measure} >= {experiment.criterion:g}")
        return
    for result in run_all(names, arguments):
        store(result)
        row = result.row
        reached = row["reached_at"] or "never"
        print(f"{row['experiment']} seed {row['seed']}: reached at {reached}, final {row['final']}", flush=True)
        write_pages()
    if names or arguments.tables:
        write_pages()
    if arguments.picture:
        learning_picture.write_page()


if __name__ == "__main__":
    main()
