"""Measure steps per second of recurrent PPO, beside sb3-contrib, CleanRL's pattern and Sample Factory, in one run.

    make bench                                               # without Sample Factory: printed
    make bench-sample-factory                                # all: written to scripts/results and docs/speed.md
    python -m scripts.benchmarks.recurrent_ppo --envs 16 --num-threads 1 --python sample-factory=PATH/bin/python

Task and network: CartPole without velocities, encoder 64, LSTM 128, rollouts of 128 steps, 4 epochs, 4 minibatches.
The modules of ``scripts.benchmarks.peers`` say what each implementation can't have equal.

Each implementation is a process of its own, in the interpreter of its own virtual environment (``--python NAME=PATH``),
that trains without end and prints a line of JSON an update. It has as many threads as cores, with flushed denormals
and, by the environment's variables, the same memory allocator: one that keeps what is freed. The processes take turns
of about ``--turn-seconds``, there and back; those whose turn it isn't are stopped by a signal. The first update of a
turn doesn't count, so all figures are of the steady state. A row is one turn.

In every turn a product of float32 matrices of 1024 x 1024 is timed with one thread: ``gflops`` tells machines and
their loads apart. The floor of our update is the LSTM's training arithmetic, 24·T·B·H·(H + I) a pass, at the rate of
that product with as many threads; ``floor_share`` is the share of it that the update reaches.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch

from scripts.benchmarks.peers.worker import ENCODER, EPOCHS, HIDDEN
from scripts.experiments.training_run import MACHINE_COLUMNS, machine
from scripts.results_table import ROOT, markdown_table, read_rows, write_between, write_rows

RESULTS = ROOT / "scripts" / "results" / "recurrent_ppo.csv"
BEGIN, END = "<!-- recurrent PPO: written by scripts/benchmarks/recurrent_ppo.py -->", "<!-- end of recurrent PPO -->"
SIZES, THREADS, WARM_UP = (8, 16, 64), (1, 2), 2
COLUMNS = ("implementation", "num_envs", "turn", "steps", "seconds", "steps_per_second", "collect_ms", "update_ms")
COLUMNS = (*COLUMNS, "floor_share", "gflops", "package", "command", *MACHINE_COLUMNS)
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}


class Implementation(NamedTuple):
    """One that is measured."""

    title: str
    venv: str  # The name of its interpreter on the command line.
    module: str  # Of scripts.benchmarks.peers.
    form: str


OURS = Implementation("rlstm", "rlstm", "rlstm_ppo", "native")
IMPLEMENTATIONS = (
    OURS,
    Implementation("rlstm, single envs", "rlstm", "rlstm_ppo", "sync"),
    Implementation("sb3-contrib, shared", "sb3-contrib", "sb3_contrib_ppo", "shared"),
    Implementation("sb3-contrib, default", "sb3-contrib", "sb3_contrib_ppo", "default"),
    Implementation("CleanRL's pattern", "cleanrl", "cleanrl_pattern", "sync"),
    Implementation("Sample Factory, serial", "sample-factory", "sample_factory_appo", "serial"),
    Implementation("Sample Factory, async", "sample-factory", "sample_factory_appo", "async"),
)
PACKAGES = {"rlstm": "torch", "sb3-contrib": "sb3_contrib", "cleanrl": "gymnasium", "sample-factory": "sample_factory"}
"""By the name of an interpreter: what it must be able to import."""


class Worker:
    """A process that trains; it is stopped but for its turns.

    Args:
        command: That starts it.
        folder: Where it may put files.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.words = shlex.join(command)
        self._log = (folder / "stderr").open("w+")
        environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        environment |= {**ALLOCATOR, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # Signals reach the processes that it starts.
        )
        self.versions: dict[str, str] = {}

    def warm_up(self) -> None:
        """Read its versions, let it make some updates, and stop it."""
        self.versions = self._line()
        for _ in range(WARM_UP):
            self._line()
        self._signal(signal.SIGSTOP)

    def turn(self, seconds: float) -> dict[str, float]:
        """Let it go on for about so long, at least two updates; returns sums over all but the first of them."""
        began = time.monotonic()
        self._signal(signal.SIGCONT)
        line = self._line()
        while line["clock"] < began:  # Printed before it was stopped.
            line = self._line()
        first, counted = line["clock"], []
        while not counted or counted[-1]["clock"] - first < seconds:
            counted.append(self._line())
        self._signal(signal.SIGSTOP)
        sums = {name: sum(one[name] for one in counted) for name in counted[0] if name != "clock"}
        return {**sums, "seconds": counted[-1]["clock"] - first, "updates": len(counted)}

    def close(self) -> None:
        """End it and all that it started."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text:
            self._log.seek(0)
            raise SystemExit(f"{self.words} ended by itself:\n{self._log.read()[-3000:]}")
        return json.loads(text)


def gemm_rate(num_threads: int, size: int = 1024, repeats: int = 15) -> float:
    """Return the rate of a large float32 matrix product in FLOP/s, the best of several."""
    torch.set_num_threads(num_threads)
    left, right, best = torch.randn(size, size), torch.randn(size, size), float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def figures(implementation: Implementation, num_envs: int, turn: dict[str, float], rate: float) -> dict[str, Any]:
    """Return what a row tells of a turn.

    Args:
        implementation: Whose turn it was.
        num_envs: Its envs.
        turn: Of ``Worker.turn``.
        rate: Of the matrix product with as many threads, in FLOP/s.
    """
    row: dict[str, Any] = {"implementation": implementation.title, "num_envs": num_envs, "steps": int(turn["steps"])}
    row |= {"seconds": f"{turn['seconds']:.3f}", "steps_per_second": f"{turn['steps'] / turn['seconds']:.0f}"}
    if "update" in turn:
        row |= {f"{phase}_ms": f"{turn[phase] / turn['updates'] * 1e3:.1f}" for phase in ("collect", "update")}
    if implementation.venv == "rlstm":
        flops = EPOCHS * 24 * turn["steps"] * HIDDEN * (HIDDEN + ENCODER)
        row["floor_share"] = f"{flops / turn['update'] / rate:.3f}"
    return row


def measure(
    chosen: Sequence[Implementation],
    pythons: dict[str, str],
    num_envs: int,
    num_threads: int,
    turns: int,
    length: float,
) -> list[dict[str, Any]]:
    """Let all take turns of about ``length`` seconds; returns a row for each turn of each."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        # Entered first, so that it is left last: its threads end when the processes that they read from have ended.
        pool, workers = stack.enter_context(ThreadPoolExecutor(len(chosen))), []
        for number, one in enumerate(chosen):
            words = f"-m scripts.benchmarks.peers.{one.module} --form {one.form} --num-envs {num_envs}"
            own = Path(folder) / str(number)
            own.mkdir()
            worker = Worker([pythons[one.venv], *words.split(), "--num-threads", str(num_threads)], own)
            stack.callback(worker.close)
            workers.append((one, worker))
        # They start side by side, and each is stopped once it is warm.
        list(pool.map(lambda pair: pair[1].warm_up(), workers))
        for turn in range(turns):
            gflops, rate = gemm_rate(1) / 1e9, gemm_rate(num_threads)
            for one, worker in workers if turn % 2 == 0 else reversed(workers):
                row = figures(one, num_envs, worker.turn(length), rate)
                rows.append({**row, "turn": turn, "gflops": f"{gflops:.1f}", **machine(num_threads), **worker.versions})
    return rows


def medians(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, int, int], float]:
    """Return the median of the turns' steps per second by implementation, threads and envs."""
    groups: dict[tuple[str, int, int], list[float]] = {}
    for row in rows:
        key = (row["implementation"], int(row["threads"]), int(row["num_envs"]))
        groups.setdefault(key, []).append(float(row["steps_per_second"]))
    return {key: statistics.median(values) for key, values in groups.items()}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table: steps per second, and how many times as fast ours is; "-" where nothing was measured.

    Rates are medians over turns, and ratios those of medians.
    """
    found = medians(rows)
    cases = sorted({key[1:] for key in found})
    head = ["", *(f"{envs} envs, {threads} thread{'s' * (threads > 1)}" for threads, envs in cases)]
    lines = []
    for title in dict.fromkeys(one.title for one in IMPLEMENTATIONS):
        cells = []
        for case in cases:
            own, ours = found.get((title, *case)), found.get((OURS.title, *case))
            ratio = f" ({ours / own:.1f}x)" if own and ours and title != OURS.title else ""
            cells.append("-" if own is None else f"{own:,.0f}{ratio}")
        if set(cells) != {"-"}:
            lines.append([title, *cells])
    return markdown_table(head, lines)


def page_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table, and below it how fast the machine was meanwhile."""
    rates = [float(row["gflops"]) for row in rows]
    versions = dict.fromkeys(row["package"] for row in rows if row["package"])
    return (
        f"{table(rows)}\n\nMeanwhile a product of float32 matrices of 1024 x 1024 ran at {min(rates):.0f} to "
        f"{max(rates):.0f} GFLOP/s on one thread, median {statistics.median(rates):.0f}.\n{', '.join(versions)}; torch "
        f"{', '.join(dict.fromkeys(row['torch'] for row in rows))}."
    )


def find_pythons(given: Sequence[str]) -> dict[str, str]:
    """Return the interpreters by name: those given as NAME=PATH, else this one; only such as import what they must.

    Raises:
        SystemExit: If a name is unknown, or an interpreter that was given can't import its package.
    """
    named = dict(one.partition("=")[::2] for one in given)
    if unknown := set(named) - set(PACKAGES):
        raise SystemExit(f"--python has the unknown name '{min(unknown)}'; there are {', '.join(PACKAGES)}")
    found = {}
    for name, package in PACKAGES.items():
        python = str(Path(named.get(name) or sys.executable).absolute())  # Not resolved: a venv's is a link.
        check = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{package}') is None)"
        try:
            can_import = subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0
        except OSError as error:
            raise SystemExit(f"--python {name}={python} can't be started: {error}") from error
        if can_import:
            found[name] = python
        elif name in named:
            raise SystemExit(f"--python {name}={python} has no package '{package}'; install it there")
        else:
            print(f"{name} is left out: no package '{package}' here; name another with --python {name}=PATH")
    return found


def main() -> None:
    """Measure and print the table, and write it if nothing is left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--num-threads", type=int, nargs="+", default=list(THREADS))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--turn-seconds", type=float, default=1.5)
    parser.add_argument("--python", nargs="+", default=[], metavar="NAME=PATH", help=f"names: {', '.join(PACKAGES)}")
    parser.add_argument("--table", action="store_true", help="only write the table, from the rows there are")
    arguments = parser.parse_args()
    page = ROOT / "docs" / "speed.md"
    if arguments.table:
        write_between(page, BEGIN, END, page_text(read_rows(RESULTS)))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # So that the processes are ended.
    pythons = find_pythons(arguments.python)
    chosen = [one for one in IMPLEMENTATIONS if one.venv in pythons]
    rows: list[dict[str, Any]] = []
    for threads in arguments.num_threads:
        for num_envs in arguments.envs:
            size = measure(chosen, pythons, num_envs, threads, arguments.turns, arguments.turn_seconds)
            print(f"\nmatrix product, 1 thread: {', '.join(dict.fromkeys(row['gflops'] for row in size))} GFLOP/s")
            print(table(size), flush=True)
            rows += size
    complete = len(chosen) == len(IMPLEMENTATIONS) and set(SIZES) <= set(arguments.envs)
    if complete and set(THREADS) <= set(arguments.num_threads):
        write_rows(RESULTS, COLUMNS, [{**row, "command": "make bench-sample-factory"} for row in rows])
        write_between(page, BEGIN, END, page_text(rows))


if __name__ == "__main__":
    main()
