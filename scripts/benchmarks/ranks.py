"""Speed of ranks beside one process: the same envs, the same steps, other ways to share them.

    python -m scripts.benchmarks.ranks [--turns 3] [--settings ppo evolino] [--ways "1 x 2" "2 x 1" "4 x 1"]

A way is processes x threads of each; more than one process are ranks of torchrun on this machine. Every figure is a run
of ``rlstm train`` of its own, without evaluations before the end; its speed is that of the run's JSON, which leaves out
the start of the processes. A generation of few genomes in a batched env is one shard, which nobody can share: that of
"evolino" is large, and in "evolino sync" envs are stepped one by one. The ways take turns, every second time in reverse
order. A row of ``scripts/results/rank_speed.csv``: median, least and most steps/s over the turns, and the ratio of
medians to the first way. Nothing else should compute on the machine meanwhile; the load before the first run is in the
rows.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from scripts.experiments.training_run import MACHINE_COLUMNS, machine
from scripts.results_table import ROOT, put_row

RESULTS = ROOT / "scripts" / "results" / "rank_speed.csv"
SETTINGS = {
    "ppo": "ppo --env rlstm/TMaze-v0 --num-envs 64 --num-steps 128 --total-steps 163840",
    "ppo wide": "ppo --env rlstm/TMaze-v0 --num-envs 64 --num-steps 128 --hidden-size 256 --total-steps 81920",
    "evolino": "evolino --env rlstm/DoublePoleNoVel-v0 --population 512 --num-envs 8 --total-steps 3000000",
    "evolino sync": "evolino --env rlstm/DoublePoleNoVel-v0 --vectorization sync --num-envs 2 --total-steps 50000",
}
WAYS = ("1 x 2", "1 x 1", "2 x 1", "4 x 1")
TRAIN = "--ui none --json --eval-every 0 --eval-episodes 1 --checkpoint-every 0 --seed 0 --device cpu"
KEYS = ("settings", "way")
COLUMNS = (*KEYS, "median", "least", "most", "ratio", "turns", "load", "command", *MACHINE_COLUMNS)


def speed(words: str, way: str) -> float:
    """Return the steps per second of one run."""
    processes, threads = map(int, way.split(" x "))
    with tempfile.TemporaryDirectory() as folder:
        flags = [*shlex.split(words), *TRAIN.split(), "--num-threads", str(threads), "--run-dir", f"{folder}/run"]
        start = [sys.executable, "-m", "rlstm", "train"]
        if processes > 1:
            torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
            start = [sys.executable, *torchrun, "-m", "rlstm", "train"]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run([*start, *flags], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(flags)} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["steps_per_second"])


def measure(settings: str, ways: Sequence[str], turns: int) -> dict[str, list[float]]:
    """Return the speeds of each way, one a turn."""
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(turns):
        for way in ways if turn % 2 == 0 else list(ways)[::-1]:
            speeds[way].append(speed(SETTINGS[settings], way))
            print(f"{settings:10s} {way:6s} {speeds[way][-1]:12,.0f} steps/s", flush=True)
    return speeds


def main() -> None:
    """Measure, write the rows, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), metavar="'PROCESSES x THREADS'")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    for settings in arguments.settings:
        speeds = measure(settings, arguments.ways, arguments.turns)
        first = statistics.median(speeds[arguments.ways[0]])
        for way, values in speeds.items():
            median = statistics.median(values)
            row = {
                "settings": settings,
                "way": way,
                "median": f"{median:.0f}",
                "least": f"{min(values):.0f}",
                "most": f"{max(values):.0f}",
                "ratio": f"{median / first:.2f}",
                "turns": arguments.turns,
                "load": f"{load:.2f}",
                "command": "python -m scripts.benchmarks.ranks",
                **machine(int(way.split(" x ")[1])),
            }
            put_row(RESULTS, COLUMNS, row, KEYS)
            print(f"{settings:10s} {way:6s} {median:12,.0f} steps/s, {median / first:.2f} of {arguments.ways[0]}")


if __name__ == "__main__":
    main()
