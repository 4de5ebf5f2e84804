"""Learning results by name: train every seed, write a row a seed, and regenerate the table in README.

    python scripts/reproduce.py                      # what there is
    python scripts/reproduce.py tmaze --seeds 0 1 2  # add seeds; a row is written as soon as its seed is done
    python scripts/reproduce.py --tables             # the README's table from the rows, nothing is trained

Rows are in ``scripts/results/learning.csv``: the command that repeats the run, commit, seed, steps, wall time, device
and versions. A seed that is there is not run again. The criterion is met at the first evaluation (greedy, on seeds that
are never trained on) whose mean reaches it; a seed counts as solved if it is met there **and** at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import platform
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SCRIPTS = Path(__file__).resolve().parent
RESULTS = SCRIPTS / "results" / "learning.csv"
README = SCRIPTS.parent / "README.md"
BEGIN, END = "<!-- learning results: written by scripts/reproduce.py -->", "<!-- end of learning results -->"
EVALUATION_EPISODES = 200


@dataclass(frozen=True)
class Experiment:
    """A preset with some flags, and what it has to reach."""

    title: str
    preset: str
    flags: tuple[str, ...]
    measure: str  # "success" or "return"
    criterion: float


EXPERIMENTS = {
    "tmaze": Experiment("T-maze, corridor 20, LSTM", "tmaze", (), "success", 0.99),
    "tmaze-gru": Experiment("T-maze, corridor 20, GRU", "tmaze", ("--cell", "gru"), "success", 0.99),
    "tmaze-none": Experiment(
        "T-maze, corridor 20, no memory", "tmaze", ("--cell", "none", "--memory-length", "none"), "success", 0.99
    ),
    "cartpole-no-vel": Experiment("CartPole without velocities, LSTM", "cartpole-no-vel", (), "return", 475.0),
    "cartpole-no-vel-none": Experiment(
        "CartPole without velocities, no memory", "cartpole-no-vel", ("--cell", "none"), "return", 475.0
    ),
}
COLUMNS = (
    "experiment",
    "seed",
    "measure",
    "criterion",
    "reached_at",
    "final",
    "total_steps",
    "steps_per_second",
    "seconds",
    "solved",
    "command",
    "commit",
    "device",
    "threads",
    "python",
    "torch",
    "numpy",
    "gymnasium",
)


def read_rows() -> list[dict[str, str]]:
    """Return the rows there are."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_seed(name: str, seed: int, num_threads: int) -> dict[str, Any]:
    """Train one seed and return its row."""
    import gymnasium
    import torch

    from rlstm.cli import main as rlstm_command
    from rlstm.run_directory import RunDirectory

    experiment = EXPERIMENTS[name]
    words = ["ppo", "--preset", experiment.preset, *experiment.flags, "--seed", str(seed)]
    words += ["--eval-episodes", str(EVALUATION_EPISODES), "--num-threads", str(num_threads)]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = str(Path(folder) / "run")
        with contextlib.redirect_stdout(io.StringIO()):
            code = rlstm_command(["train", *words, "--run-dir", run_dir, "--ui", "none"])
        if code != 0:
            raise SystemExit(f"The run failed with exit code {code}: rlstm train {shlex.join(words)}")
        directory = RunDirectory(run_dir)
        with directory.progress_path.open(newline="", encoding="utf-8") as file:
            progress = list(csv.DictReader(file))
    tag = {"success": "eval/success_rate", "return": "eval/mean_reward"}[experiment.measure]
    curve = [(int(row["step"]), float(row[tag])) for row in progress if row[tag]]
    reached = [step for step, value in curve if value >= experiment.criterion]
    step, final = curve[-1]
    seconds = float(progress[-1]["time/time_elapsed"])
    return {
        "experiment": name,
        "seed": seed,
        "measure": experiment.measure,
        "criterion": experiment.criterion,
        "reached_at": reached[0] if reached else "",
        "final": f"{final:.4g}",
        "total_steps": step,
        "steps_per_second": round(step / seconds),
        "seconds": round(seconds, 1),
        "solved": bool(reached) and final >= experiment.criterion,
        "command": f"rlstm train {shlex.join(words)}",
        "commit": commit(),
        "device": f"cpu, {platform.machine()}",
        "threads": num_threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "gymnasium": gymnasium.__version__,
    }


def commit() -> str:
    """Return the checkout's commit, marked where code that a run depends on was changed since."""
    git = ["git", "-C", str(README.parent)]
    name = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True)
    clean = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "rlstm", "agents", "envs"], check=False)
    return name.stdout.strip() + ("-changed" if clean.returncode else "")


def append_row(row: dict[str, Any]) -> None:
    """Add a row to the file."""
    RESULTS.parent.mkdir(exist_ok=True)
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def interquartile_mean(values: np.ndarray) -> float:
    """Return the mean of the middle half, fractions of the outer values counted in part (Agarwal et al. 2021)."""
    weights = np.clip(np.minimum(np.arange(1, len(values) + 1), np.arange(len(values), 0, -1)) - len(values) / 4, 0, 1)
    return float(np.average(np.sort(values), weights=weights))


def interval(values: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the interquartile mean over seeds."""
    draws = np.random.default_rng(0).choice(values, (resamples, len(values)))
    low, high = np.percentile([interquartile_mean(draw) for draw in draws], [2.5, 97.5])
    return float(low), float(high)


def table(rows: list[dict[str, str]]) -> str:
    """Return the Markdown table of all rows."""
    lines = [
        "| task and cell | seeds solved | final, IQM [95 % interval] | worst | steps to criterion, median | steps |",
        "|---|---|---|---|---|---|",
    ]
    for name, experiment in EXPERIMENTS.items():
        own = [row for row in rows if row["experiment"] == name]
        if not own:
            continue
        finals = np.array([float(row["final"]) for row in own])
        reached = [int(row["reached_at"]) for row in own if row["reached_at"]]
        solved = sum(row["solved"] == "True" for row in own)
        low, high = interval(finals)
        median = f"{np.median(reached):,.0f}" if len(reached) > len(own) / 2 else "never"
        lines.append(
            f"| {experiment.title} ({experiment.measure} ≥ {experiment.criterion:g}) | {solved} of {len(own)} | "
            f"{interquartile_mean(finals):.4g} [{low:.4g}, {high:.4g}] | {finals.min():.4g} | {median} | "
            f"{int(own[0]['total_steps']):,} |"
        )
    return "\n".join(lines)


def write_readme(rows: list[dict[str, str]]) -> None:
    """Put the table between its marks in README."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments; none lists them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--tables", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in EXPERIMENTS:
            parser.error(f"unknown experiment '{name}'; there are {', '.join(EXPERIMENTS)}")
    if not arguments.names and not arguments.tables:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:22s} {experiment.title}: {experiment.measure} >= {experiment.criterion:g}")
        return
    for name in arguments.names:
        for seed in arguments.seeds:
            if any(row["experiment"] == name and int(row["seed"]) == seed for row in read_rows()):
                print(f"{name} seed {seed}: already there")
                continue
            row = run_seed(name, seed, arguments.num_threads)
            append_row(row)
            print(f"{name} seed {seed}: reached at {row['reached_at'] or 'never'}, final {row['final']}", flush=True)
    write_readme(read_rows())


if __name__ == "__main__":
    main()
