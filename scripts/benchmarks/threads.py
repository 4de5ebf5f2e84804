"""Speed by number of threads: the default beside fixed numbers, undisturbed and with one busy process a core.

    python -m scripts.benchmarks.threads [--turns 3] [--threads 1 2] [--settings tmaze large] [--checkout PATH]

Every figure is a run of ``rlstm train`` in a process of its own, without evaluations before the end; its speed is that
of the run's JSON, which leaves out the start of the process. The ways take turns, every second time in reverse order,
first undisturbed, then with busy processes beside each, which this script starts and ends itself. ``--checkout`` adds
the default and the fixed numbers of another checkout, computed by the same interpreter.

ways: default     no --num-threads: measured where the checkout does so
      1, 2, ...   --num-threads N
      2 spinning  the same with OMP_WAIT_POLICY=ACTIVE, so that waiting threads spin; only of this checkout

A row of ``scripts/results/thread_speed.csv``: median, least and most steps/s over the turns, and two ratios of medians:
to the best fixed number of the same checkout and load, and to the same way undisturbed. Nothing else should compute on
the machine meanwhile; the load before the first run is in the rows.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scripts.experiments.training_run import machine
from scripts.results_table import ROOT

RESULTS = ROOT / "scripts" / "results" / "thread_speed.csv"
SETTINGS = {
    # Words after `rlstm train`, and steps undisturbed; disturbed runs take a fifth of them.
    "tmaze": ("ppo --preset tmaze", 102_400),
    "large": (
        "ppo --env rlstm/TMaze-v0 --env-kwargs corridor_length=20 --num-envs 64 --num-steps 128 --hidden-size 256",
        81_920,
    ),
}
TRAIN = "--ui none --json --eval-every 0 --eval-episodes 1 --checkpoint-every 0 --seed 0 --device cpu"
DISTURBED_SHARE = 5
OPENMP = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep so many processes busy."""
    # They end with this process too, however it ends.
    code = "import os; parent = os.getppid()\nwhile os.getppid() == parent: sum(range(10**6))"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def speed(words: str, checkout: Path, way: str) -> float:
    """Return the steps per second of one run."""
    count = way.split()[0]
    flags = [] if count == "default" else ["--num-threads", count]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OPENMP)}
    environment = {**kept, "PYTHONPATH": str(checkout)}
    if way.endswith("spinning"):
        environment["OMP_WAIT_POLICY"] = "ACTIVE"
    with tempfile.TemporaryDirectory() as folder:
        command = ["train", *shlex.split(f"{words} {TRAIN}"), *flags, "--run-dir", f"{folder}/run"]
        done = subprocess.run(
            [sys.executable, "-m", "rlstm", *command], env=environment, cwd=folder, capture_output=True, text=True
        )
    if done.returncode:
        raise SystemExit(f"{checkout}: rlstm {shlex.join(command)}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1])["steps_per_second"])


def commit_of(checkout: Path) -> str:
    """Return the short hash of a checkout's commit."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short=10", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def in_turns(
    words: str, sides: Sequence[tuple[Path, str]], turns: int, num_busy: int
) -> dict[tuple[Path, str], list[float]]:
    """Return the speeds of every way of every checkout."""
    found: dict[tuple[Path, str], list[float]] = {side: [] for side in sides}
    for turn in range(turns):
        for checkout, way in sides if turn % 2 == 0 else sides[::-1]:
            with busy_processes(num_busy):
                found[checkout, way].append(speed(words, checkout, way))
            print(f"  busy {num_busy}, {checkout.name}, {way}: {found[checkout, way][-1]:,.0f}", flush=True)
    return found


def rows_of(name: str, sides: Sequence[tuple[Path, str]], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one setting and return its rows."""
    words, steps = SETTINGS[name]
    rows: list[dict[str, Any]] = []
    undisturbed: dict[tuple[Path, str], float] = {}
    for num_busy in (0, arguments.cores):
        total = max(1, round(steps * arguments.scale / (DISTURBED_SHARE if num_busy else 1)))
        command = f"{words} --total-steps {total}"
        speeds = in_turns(command, sides, arguments.turns, num_busy)
        medians = {side: statistics.median(values) for side, values in speeds.items()}
        undisturbed = undisturbed or medians
        for (checkout, way), values in speeds.items():
            fixed = [value for (other, one), value in medians.items() if other == checkout and one.isdecimal()]
            rows.append(
                {
                    "setting": name,
                    "way": way,
                    "busy_processes": num_busy,
                    "steps_per_second": round(medians[checkout, way], 1),
                    "least": round(min(values), 1),
                    "most": round(max(values), 1),
                    "to_best_fixed": round(medians[checkout, way] / max(fixed), 3),
                    "to_undisturbed": round(medians[checkout, way] / undisturbed[checkout, way], 3),
                    "turns": arguments.turns,
                    "run": f"rlstm train {command}",
                    "commit_measured": commit_of(checkout),
                }
            )
    return rows


def main() -> None:
    """Measure, print the ratios, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, 2, min(4, cores)}), help="fixed numbers")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--checkout", type=Path, help="measured too: one from before a change, for instance")
    parser.add_argument("--scale", type=float, default=1.0, help="of the steps of each run")
    parser.add_argument("--csv", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.cores = cores
    fixed = [str(count) for count in arguments.threads]
    sides = [(ROOT, way) for way in ("default", *fixed, f"{max(arguments.threads)} spinning")]
    if arguments.checkout is not None:
        sides += [(arguments.checkout.resolve(), way) for way in ("default", *fixed)]
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else ""
    facts = {key: value for key, value in machine(0).items() if key != "threads"}
    common = {"cores": cores, "load_before": load, **facts}
    before = str(arguments.checkout or "")  # A folder of this machine, which is no part of the command.
    words = ["BEFORE" if word == before else word for word in sys.argv[1:]]
    command = f"python -m scripts.benchmarks.threads {shlex.join(words)}".strip()
    rows = [
        row | {"command": command} | common for name in arguments.settings for row in rows_of(name, sides, arguments)
    ]
    head = f"{'setting':8s} {'commit':11s} {'way':11s} {'busy':>4s} {'steps/s':>9s} "
    print(f"{head}{'to best fixed':>14s} {'to undisturbed':>15s}")
    for row in rows:
        print(
            f"{row['setting']:8s} {row['commit_measured']:11s} {row['way']:11s} {row['busy_processes']:4d} "
            f"{row['steps_per_second']:9,.0f} {row['to_best_fixed']:14.3f} {row['to_undisturbed']:15.3f}"
        )
    with arguments.csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"written: {arguments.csv}")


if __name__ == "__main__":
    main()
