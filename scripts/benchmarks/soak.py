"""Train for ten million steps, with evaluations and checkpoints, and watch what grows: memory, open files, the folder.

    python -m scripts.benchmarks.soak [--steps 10000000] [--agent ppo]

Samples are taken of ``rlstm train`` in a process of its own, four a second. The first tenth of the run is left out, in
which buffers and caches come to be. Exit status 1 if the memory of the last tenth is more than 2 % above that of the
second tenth, if more files are open at the end, or if the folder holds more checkpoints than are to be kept.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.results_table import ROOT

COMMON = (
    "--env rlstm/TMaze-v0 --env-kwargs corridor_length=5 --hidden-size 16 --encoder-sizes 16 --num-threads 1 --ui none"
)
AGENTS = {
    "ppo": f"ppo {COMMON} --num-envs 256 --num-steps 64 --eval-episodes 20",
    "reinforce": f"reinforce {COMMON} --num-envs 256 --num-episodes 1024 --eval-episodes 20",
    "evolino": f"evolino {COMMON} --num-envs 8 --eval-episodes 20",
}
EVENTS = 200  # Evaluations, and checkpoints, of a run.
GROWTH = 1.02
_EVERY = 0.25  # Seconds between samples.


class Sample(NamedTuple):
    """A look at the process."""

    seconds: float
    megabytes: float  # Resident.
    open_files: int
    folder_megabytes: float


def look(process: subprocess.Popen[bytes], folder: Path, began: float) -> Sample:
    """Return how much memory and how many files a process has, and how large its folder is."""
    place = Path(f"/proc/{process.pid}")
    status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size
        except FileNotFoundError:  # A checkpoint that was just removed.
            continue
    files = len(list((place / "fd").iterdir()))
    return Sample(time.monotonic() - began, int(status["VmRSS"].split()[0]) / 1024, files, size / 2**20)


def soak(agent: str, steps: int, folder: Path) -> list[Sample]:
    """Run the agent and return the samples."""
    every = str(max(1, steps // EVENTS))
    words = [*AGENTS[agent].split(), "--total-steps", str(steps), "--eval-every", every, "--checkpoint-every", every]
    process = subprocess.Popen([sys.executable, "-m", "rlstm", "train", *words, "--run-dir", str(folder)], cwd=ROOT)
    began, samples = time.monotonic(), list[Sample]()
    while process.poll() is None:
        try:
            samples.append(look(process, folder, began))
        except (FileNotFoundError, KeyError, ProcessLookupError):  # It has just ended.
            continue
        time.sleep(_EVERY)
    if process.returncode:
        raise SystemExit(f"The run failed with exit code {process.returncode}.")
    return samples


def main(argv: Sequence[str] | None = None) -> int:
    """Soak, and print a tenth a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--agent", choices=AGENTS, default="ppo")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        samples = soak(arguments.agent, arguments.steps, folder)
        checkpoints = len(list((folder / "checkpoints").glob("step_*")))
    if len(samples) < 20:
        raise SystemExit(f"The run was over after {len(samples)} samples, too few to compare: give more --steps.")
    tenth = len(samples) // 10
    tenths = [samples[place : place + tenth] for place in range(0, 10 * tenth, tenth)]
    for part in tenths:
        memory = statistics.median(one.megabytes for one in part)
        print(
            f"{part[-1].seconds:7.0f} s {memory:8.1f} MB resident {part[-1].open_files:4d} files open "
            f"{part[-1].folder_megabytes:7.2f} MB of folder"
        )
    first, last = (statistics.median(one.megabytes for one in part) for part in (tenths[1], tenths[-1]))
    files = tenths[-1][-1].open_files - tenths[1][-1].open_files
    print(f"memory {last / first:.4f} of that of the second tenth; {files:+d} files open; {checkpoints} checkpoints")
    return int(last > GROWTH * first or files > 0 or checkpoints > 5)


if __name__ == "__main__":
    sys.exit(main())
