"""Time whole commands, from the start of the process to its end, beside the import of what the command line is made of.

    python -m scripts.benchmarks.commands                       # written to scripts/results/command_times.csv
    python -m scripts.benchmarks.commands --checkout ../before  # another checkout beside this one, in turns
    python -m scripts.benchmarks.commands cells "train ppo"     # those that contain one of these words, only printed

Before each command runs ``python -c 'import tyro, rich'``, the floor: "ratio" is the median over the runs of the
command's wall time by that of the floor just before it, which depends less on the machine and on what else it computes.
"processor ratio" compares the least processor times of the two. Commands of all checkouts take turns. Compiled modules
lie in a temporary folder, so a first run of each, which compiles them, does not count. A checkout comes first on
PYTHONPATH; the interpreter is the same for all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scripts.experiments.training_run import MACHINE_COLUMNS, machine
from scripts.results_table import ROOT, commit, write_rows

RESULTS = ROOT / "scripts" / "results" / "command_times.csv"
FLOOR = ["-c", "import tyro, rich"]
COMMANDS = (
    *("--version", "--help", "train --help"),
    *(f"train {agent} --help" for agent in ("ppo", "reinforce", "evolino", "random")),
    *(f"{verb} --help" for verb in ("evaluate", "resume", "record", "check-env")),
    *("envs", "presets", "cells", "envs --json", "presets --json", "cells --json"),
    "check-env CartPole-v1",
)
SLOW_RUNS = 3  # Of a command that takes longer than ``SLOW_SECONDS`` in its first run.
SLOW_SECONDS = 5.0
COLUMNS = (
    *("command", "runs", "median_seconds", "least_seconds", "processor_seconds"),
    *("floor_median_seconds", "floor_processor_seconds", "ratio", "processor_ratio", "load", *MACHINE_COLUMNS),
)


class Times(NamedTuple):
    """What a process took, in seconds."""

    wall: float
    processor: float


def run(words: Sequence[str], environment: Mapping[str, str], folder: str) -> Times:
    """Run the interpreter with these words to its end.

    Raises:
        SystemExit: If it fails, with what it said.
    """
    began, before = time.perf_counter(), os.times()
    process = subprocess.run([sys.executable, *words], env=environment, cwd=folder, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, os.times()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(words)} failed with exit code {process.returncode}: {process.stderr}")
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return Times(wall, processor)


def environment_for(checkout: Path, folder: str) -> dict[str, str]:
    """Return the environment in which a checkout's commands run, its compiled modules in the folder."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": str(checkout), "PYTHONPYCACHEPREFIX": str(Path(folder) / "compiled")}


def measure(command: str, checkouts: Sequence[Path], runs: int, folder: str) -> list[list[tuple[Times, Times]]]:
    """Return for each checkout the times of the floor and of the command right after it, one pair a run."""
    environments = [environment_for(checkout, folder) for checkout in checkouts]
    words = ["-m", "rlstm", *command.split()]
    for environment in environments:
        run(FLOOR, environment, folder)
        run(words, environment, folder)
    first = [run(words, environment, folder).wall for environment in environments]
    count = min(runs, SLOW_RUNS) if max(first) > SLOW_SECONDS else runs
    found: list[list[tuple[Times, Times]]] = [[] for _ in checkouts]
    for turn in range(count):
        order = range(len(checkouts)) if turn % 2 == 0 else reversed(range(len(checkouts)))
        for index in order:
            floor = run(FLOOR, environments[index], folder)
            found[index].append((floor, run(words, environments[index], folder)))
    return found


def row_of(command: str, pairs: Sequence[tuple[Times, Times]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of one command in one checkout."""
    floors, commands = zip(*pairs, strict=True)
    floor_processor, processor = min(one.processor for one in floors), min(one.processor for one in commands)
    values = {
        "median_seconds": statistics.median(one.wall for one in commands),
        "least_seconds": min(one.wall for one in commands),
        "processor_seconds": processor,
        "floor_median_seconds": statistics.median(one.wall for one in floors),
        "floor_processor_seconds": floor_processor,
        "ratio": statistics.median(one.wall / floor.wall for floor, one in pairs),
        "processor_ratio": processor / floor_processor,
        "load": os.getloadavg()[0],
    }
    return {"command": command, "runs": len(pairs)} | {name: f"{value:.3f}" for name, value in values.items()} | facts


def main() -> None:
    """Measure, print, and write the whole table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, action="append", default=[], help="another one, beside this")
    parser.add_argument("names", nargs="*", help="time the commands that contain one of these; default: all")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    checkouts = [ROOT, *(path.resolve() for path in arguments.checkout)]
    named = [command for command in COMMANDS if any(name in command for name in arguments.names)]
    facts = [machine(os.cpu_count() or 1) | {"commit": commit(path)} for path in checkouts]
    rows = []
    head = "{:24} {:18} {:>8} {:>8} {:>10} {:>8} {:>16}".format
    print(head("command", "commit", "median s", "least s", "processor s", "ratio", "processor ratio"))
    with tempfile.TemporaryDirectory() as folder:
        for command in named or COMMANDS:
            for pairs, fact in zip(measure(command, checkouts, arguments.runs, folder), facts, strict=True):
                row = row_of(command, pairs, fact)
                shown = ("command", "commit", "median_seconds", "least_seconds", "processor_seconds", "ratio")
                print(head(*(str(row[name]) for name in shown), row["processor_ratio"]), flush=True)
                rows.append(row)
    if not arguments.names:
        write_rows(RESULTS, COLUMNS, rows)


if __name__ == "__main__":
    main()
