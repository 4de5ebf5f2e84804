"""Repeat learning results by name: train every seed, write a row a seed, and regenerate the tables in RESULTS.md.

    python -m scripts.experiments.reproduce                            # what there is
    python -m scripts.experiments.reproduce tmaze --seeds 0 1 2        # add seeds; rows are written one by one
    python -m scripts.experiments.reproduce tmaze tmaze-70 --jobs 2    # so many seeds at once, a process each
    python -m scripts.experiments.reproduce tmaze-70 --runs runs       # keep the run directories: runs/tmaze-70-seed0
    python -m scripts.experiments.reproduce --tables  # the tables of RESULTS.md from the rows, nothing is trained

Experiments are in ``scripts/experiments/catalogue.py``, rows in ``scripts/results/learning.csv``: the command that
repeats the run, commit, seed, steps, wall time, device and versions. A seed that is there is not run again, so a long
table can be filled over several sittings. The criterion is met at the first evaluation (greedy, on seeds that are never
trained on) whose mean reaches it; a seed counts as solved if it is met there **and** at the end.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from rlstm.core.statistics import interquartile_mean, interval
from scripts.experiments.catalogue import EXPERIMENTS, GROUPS, MEASURES, Experiment
from scripts.experiments.training_run import (
    MACHINE_COLUMNS,
    machine,
    make_parser,
    read_progress,
    refuse_unknown,
    train,
)
from scripts.results_table import (
    LEAST_SEEDS,
    PAGE,
    ROOT,
    append_row,
    markdown_table,
    marked,
    read_rows,
    write_between,
)

RESULTS = ROOT / "scripts" / "results" / "learning.csv"
BEGIN, END = (
    "<!-- learning results: written by scripts/experiments/reproduce.py -->",
    "<!-- end of learning results -->",
)
EVALUATION_EPISODES = 200
HEAD = ("", "solved", "final, IQM [95 % interval]", "worst", "steps to criterion, median", "wall", "steps", "published")

COLUMNS = (
    "experiment",
    "seed",
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


def run_seed(name: str, seed: int, num_threads: int, runs: str | None) -> dict[str, Any]:
    """Train one seed and return its row; the run directory is kept in the folder ``runs``, if there is one."""
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
        outcome = read_outcome(run_dirs, experiment)
    # The folder of the last run does not matter, but those that hand on weights have to be named.
    command = " && ".join(f"rlstm {shlex.join(words)}" for words in commands)
    command = command.replace(str(run_dirs[0].parent), "runs")
    return {
        "experiment": name,
        "seed": seed,
        "measure": experiment.measure,
        "criterion": experiment.criterion,
        **outcome,
        "command": command,
        **machine(num_threads),
    }


def read_outcome(run_dirs: Sequence[Path], experiment: Experiment) -> dict[str, Any]:
    """Return what the last of the runs reached, and when, from their progress; steps and seconds are of all of them."""
    *earlier, last = [read_progress(run_dir) for run_dir in run_dirs]
    steps_before = sum(int(progress[-1]["step"]) for progress in earlier)
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


def run_all(names: Sequence[str], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train every seed of every experiment that is not there yet; yield each row as soon as it is known."""
    there = {(row["experiment"], int(row["seed"])) for row in read_rows(RESULTS)}
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


def table(rows: list[dict[str, str]], group: str) -> str:
    """Return the Markdown table of a group's rows, or nothing if there are none."""
    lines = []
    titles = {experiment.title: experiment for experiment in EXPERIMENTS.values() if experiment.group == group}
    for title, experiment in titles.items():
        names = [name for name, one in EXPERIMENTS.items() if (one.group, one.title) == (group, title)]
        own = [row for row in rows if row["experiment"] in names]
        if not own:
            continue
        finals = np.array([float(row["final"]) for row in own])
        reached = [int(row["reached_at"]) for row in own if row["reached_at"]]
        seconds = [float(row["seconds_to_criterion"]) for row in own if row["seconds_to_criterion"]]
        solved = sum(row["solved"] == "True" for row in own)
        final = f"{interquartile_mean(finals):.4g}"
        if len(finals) >= LEAST_SEEDS:
            final += " [{:.4g}, {:.4g}]".format(*interval(finals))
        often = len(reached) > len(own) / 2
        totals = sorted({int(row["total_steps"]) for row in own})
        cells = [
            marked(f"{experiment.title} ({experiment.measure} ≥ {experiment.criterion:g})", own),
            f"{solved} of {len(own)}",
            final,
            f"{finals.min():.4g}",
            f"{np.median(reached):,.0f}" if often else "never",
            f"{np.median(seconds):,.0f} s" if often and len(seconds) == len(reached) else "",
            " to ".join(f"{total:,}" for total in (totals[0], totals[-1])[: len(totals)]),
            experiment.published,
        ]
        lines.append(cells)
    text = markdown_table(HEAD, lines)
    return f"**{group}**. {GROUPS[group]}\n\n{text}" if text else ""


def write_page(rows: list[dict[str, str]]) -> None:
    """Put the tables between their marks in RESULTS.md."""
    tables = "\n\n".join(filter(None, (table(rows, group) for group in GROUPS)))
    write_between(PAGE, BEGIN, END, tables)


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, range(5))
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments; none lists them")
    parser.add_argument("--jobs", type=int, default=1, help="seeds trained at once, a process each")
    parser.add_argument("--runs", metavar="DIR", help="keep the run directories in this folder")
    arguments = parser.parse_args()
    refuse_unknown(parser, arguments.names, EXPERIMENTS)
    if not arguments.names and not arguments.tables:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:24s} {experiment.title}: {experiment.measure} >= {experiment.criterion:g}")
        return
    for row in run_all(arguments.names, arguments):
        append_row(RESULTS, COLUMNS, row)
        reached = row["reached_at"] or "never"
        print(f"{row['experiment']} seed {row['seed']}: reached at {reached}, final {row['final']}", flush=True)
        write_page(read_rows(RESULTS))
    write_page(read_rows(RESULTS))


if __name__ == "__main__":
    main()
