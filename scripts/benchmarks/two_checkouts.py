"""Speed of two checkouts, in turns: before and after a change.

    python -m scripts.benchmarks.two_checkouts A B [--turns 6] [--figures NAME ...] [--csv FILE]

A and B: CHECKOUT, or PYTHON:CHECKOUT (by default CHECKOUT/.venv/bin/python); the checkout comes first on PYTHONPATH.
Every figure is measured in a process of its own, A B B A A B ..., with one thread on one core (--core; none leaves that
to the system). All goes through the command line; the phases of PPO are timed by wrapping ``collect``, ``update`` and
``refresh`` of the agent's class and ``Rollout.select``, so that checkouts whose modules have other names compare.

All quantities are rates, more is better; the ratio is B/A of the two processes of a turn: median, least and most. If
both take the same steps in the same order, "best B/A" compares, update by update, the fastest of all turns.
--clock cpu (the default) counts processor time, --clock wall the wall's. The CSV has a row for each quantity and clock.

figures: ppo-8, ppo-16, ppo-64   CartPole without velocities, encoder 64, LSTM 128, rollouts of 128 steps, 4 epochs, 4
                                 minibatches: learning (steps/s of the whole), collect, update, select, refresh
         evaluate                64 envs of the T-maze, complete episodes, LSTM 64
         population              256 LSTMs of 16 units evolve in the T-maze, 4 envs each
         sines                   Evolino with a teacher, preset sines
         reinforce               preset tmaze-reinforce
         wrapped                 PPO, wrapped CartPole-v1 in single envs (sync), 8 envs
         startup                 1 / seconds of ``rlstm train ppo --help`` and of ``rlstm envs``, subprocesses
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRAIN = "--num-threads 1 --ui none --json --eval-every 0 --checkpoint-every 0 --seed 0"
BENCHMARK = (
    "ppo --env rlstm/CartPoleNoVel-v0 --num-steps 128 --update-epochs 4 --num-minibatches 4 --encoder-sizes 64 "
    "--hidden-size 128 --no-normalize-observations --no-scale-rewards --eval-episodes 1"
)
FIGURES: dict[str, dict[str, Any]] = {
    # Words after `rlstm train`; the first `skip` updates don't count.
    "ppo-8": {"train": f"{BENCHMARK} --num-envs 8 --total-steps 20480", "skip": 3},
    "ppo-16": {"train": f"{BENCHMARK} --num-envs 16 --total-steps 32768", "skip": 3},
    "ppo-64": {"train": f"{BENCHMARK} --num-envs 64 --total-steps 73728", "skip": 2},
    "evaluate": {
        "train": "ppo --preset tmaze --total-steps 4096 --eval-episodes 1",
        "evaluate": "--episodes 1280 --json",
    },
    "population": {
        "train": "evolino --preset tmaze-evolino --population 256 --hidden-size 16 --total-steps 1500000 "
        "--eval-episodes 1",
        "skip": 2,
    },
    "sines": {"train": "evolino --preset sines --total-steps 200000 --eval-episodes 1", "skip": 1},
    "reinforce": {"train": "reinforce --preset tmaze-reinforce --total-steps 60000 --eval-episodes 1", "skip": 2},
    "wrapped": {
        "train": "ppo --env CartPole-v1+mask=0,2 --env-wrappers flicker=0.3 delay=2 --vectorization sync --num-envs 8 "
        "--hidden-size 64 --total-steps 15360 --eval-episodes 1",
        "skip": 2,
    },
    "startup": {},
}
Series = dict[str, list[float]]
"""``steps`` and, by clock, seconds of each update."""
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


# In the process that measures.


def call(words: str) -> dict[str, Any]:
    """Call ``rlstm`` in this process; returns its JSON."""
    import contextlib
    import io

    from rlstm.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(words.split())
    if code:
        raise SystemExit(f"rlstm {words}: {out.getvalue()}")
    return json.loads(out.getvalue().strip().splitlines()[-1])


def classes(name: str, method: str) -> list[type[Any]]:
    """Return the classes of a name that define a method, wherever they are."""
    found = []
    for module_name, module in list(sys.modules.items()):
        one = getattr(module, name, None) if module_name.startswith("rlstm") else None
        if isinstance(one, type) and method in vars(one) and one not in found:
            found.append(one)
    return found


class Phases:
    """Seconds of each call of some methods, by both clocks."""

    def __init__(self) -> None:
        self.calls: dict[str, list[dict[str, float]]] = defaultdict(list)

    def watch(self, owner: type[Any], method: str) -> None:
        """Time every call of a method."""
        original, calls = vars(owner)[method], self.calls[method]

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = {name: clock() for name, clock in CLOCKS.items()}
            try:
                return original(*args, **kwargs)
            finally:
                calls.append({name: clock() - began[name] for name, clock in CLOCKS.items()})

        setattr(owner, method, timed)

    def series(self, steps: list[int], skip: int) -> dict[str, Series]:
        """Return what each phase took in each update, and all of them."""
        found: dict[str, Series] = {}
        for method, calls in self.calls.items():
            if not calls or len(calls) % len(steps):
                continue
            each = len(calls) // len(steps)  # Select is called several times an update, each as often.
            groups = [calls[i * each : (i + 1) * each] for i in range(skip, len(steps))]
            found[method] = {clock: [sum(call[clock] for call in group) for group in groups] for clock in CLOCKS}
            found[method]["steps"] = [float(count) for count in steps[skip:]]
        parts = [one for method, one in found.items() if method != "select"]
        if parts:
            whole = {
                clock: [sum(times) for times in zip(*(one[clock] for one in parts), strict=True)] for clock in CLOCKS
            }
            found = {"learning": {**whole, "steps": parts[0]["steps"]}, **(found if len(parts) > 1 else {})}
        return found


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def repeated(steps: float, function: Callable[[], Any], repeats: int) -> Series:
    found: Series = {"steps": [steps] * repeats, **{clock: [] for clock in CLOCKS}}
    for _ in range(repeats):
        began, before = {name: clock() for name, clock in CLOCKS.items()}, os.times()
        function()
        after = os.times()
        for name, clock in CLOCKS.items():
            found[name].append(clock() - began[name])
        found["cpu"][-1] += after.children_user + after.children_system - before.children_user - before.children_system
    return found


def watch(agent: str, phases: Phases) -> None:
    """Time the agent's methods, or those of its kind of run where that has its own."""
    from rlstm.agents import load_agent

    kind = load_agent(agent)[0]
    run = getattr(kind, "training_type", None)  # In checkouts before agents owned their update.
    for owner, method in [(run, "update")] if run else [(kind, name) for name in ("collect", "update", "refresh")]:
        if method in vars(owner):
            phases.watch(owner, method)
    if agent == "ppo":
        for owner in classes("Rollout", "select"):
            phases.watch(owner, "select")


def worker(name: str, checkout: str) -> dict[str, Series]:
    """Measure a figure here."""
    figure = FIGURES[name]
    if name == "startup":
        found = {}
        for quantity, words in (("train --help", "train ppo --help"), ("envs", "envs --json")):
            command = [sys.executable, "-m", "rlstm", *words.split()]
            found[quantity] = repeated(1.0, lambda c=command: subprocess.run(c, check=True, capture_output=True), 3)
        return found
    import rlstm

    assert Path(rlstm.__file__).resolve().is_relative_to(checkout), rlstm.__file__
    skip = figure.get("skip", 0)
    with tempfile.TemporaryDirectory() as folder:
        run, phases = Path(folder) / "run", Phases()
        if "evaluate" not in figure:
            watch(figure["train"].split()[0], phases)
        call(f"train {figure['train']} {TRAIN} --run-dir {run}")
        if "evaluate" in figure:
            words = f"evaluate {run} {figure['evaluate']}"
            played = call(words)
            return {"evaluate": repeated(played["mean_length"] * played["episodes"], lambda: call(words), 3)}
        rows = rows_of(run)
        ends = [0, *(int(row["step"]) for row in rows)]
        steps = [now - before for before, now in itertools.pairwise(ends)]
        found = phases.series(steps, skip)
        if not found:  # Nothing to wrap is where it was: the run's own clock.
            wall = [count / float(row["time/fps"]) for count, row in zip(steps, rows, strict=True)][skip:]
            found = {"learning": {"steps": [float(n) for n in steps[skip:]], "wall": wall, "cpu": wall}}
        return found


# In the process that compares.


class Side:
    """A checkout and its interpreter."""

    def __init__(self, words: str) -> None:
        python, _, path = words.rpartition(":")
        self.path = Path(path).resolve()
        self.python = Path(python).absolute() if python else self.path / ".venv" / "bin" / "python"

    def measure(self, figure: str, core: int | None) -> dict[str, Series]:
        """Measure a figure in a process of its own."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = {**kept, **threads, "PYTHONPATH": str(self.path), "CUDA_VISIBLE_DEVICES": ""}
        answer = subprocess.run(
            [str(self.python), str(Path(__file__).resolve()), "--worker", figure, str(self.path)],
            env=environment,
            cwd=tempfile.gettempdir(),
            capture_output=True,
            text=True,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        if answer.returncode:
            raise SystemExit(f"{self.path}, {figure}: exit {answer.returncode}\n{answer.stderr[-3000:]}")
        return json.loads(answer.stdout.strip().splitlines()[-1])


def compared(figure: str, quantity: str, clock: str, turns: list[dict[str, dict[str, Series]]]) -> dict[str, Any]:
    """Return a quantity of both sides: the rates of turns, and those of the fastest of all turns in each update."""
    series = {side: [turn[side][quantity] for turn in turns if quantity in turn[side]] for side in "AB"}
    rates = {side: [sum(one["steps"]) / sum(one[clock]) for one in all_] for side, all_ in series.items()}
    ratios = [b / a for a, b in zip(rates["A"], rates["B"], strict=False)]
    best = {
        side: sum(all_[0]["steps"]) / sum(map(min, zip(*(one[clock] for one in all_), strict=True)))
        for side, all_ in series.items()
        if all_ and all(one["steps"] == all_[0]["steps"] for one in all_)
    }
    same = ratios and len(best) == 2 and series["A"][0]["steps"] == series["B"][0]["steps"]
    return {
        "figure": figure,
        "quantity": quantity,
        "unit": "1/s" if figure == "startup" else "steps/s",
        "clock": clock,
        **{side: statistics.median(values) if values else None for side, values in rates.items()},
        "ratio": statistics.median(ratios) if ratios else None,
        "least": min(ratios, default=None),
        "most": max(ratios, default=None),
        "best_A": best.get("A"),
        "best_B": best.get("B"),
        "best_ratio": best["B"] / best["A"] if same else None,
        "turns": len(ratios),
    }


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(worker(*sys.argv[2:4])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Side)
    parser.add_argument("b", type=Side)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--figures", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--clock", choices=list(CLOCKS), default="cpu")
    parser.add_argument("--core", default="1", help="number of the core, or none")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    core = None if arguments.core == "none" else int(arguments.core)
    table: list[dict[str, Any]] = []
    print(f"A {arguments.a.path}, B {arguments.b.path}; clock {arguments.clock}, {arguments.turns} turns, core {core}")
    print(f"{'figure':12s} {'quantity':14s} {'A':>12s} {'B':>12s}    B/A  (least..most)    best B/A", flush=True)
    for figure in arguments.figures:
        sides = {"A": arguments.a, "B": arguments.b}
        turns: list[dict[str, dict[str, Series]]] = []
        for turn in range(arguments.turns):
            order = ("A", "B") if turn % 2 == 0 else ("B", "A")
            turns.append({side: sides[side].measure(figure, core) for side in order})
        for quantity in {**turns[0]["A"], **turns[0]["B"]}:
            for clock in CLOCKS:
                row = compared(figure, quantity, clock, turns)
                table.append(row)
                if clock == arguments.clock:
                    shown = [f"{row[side]:12,.6g}" if row[side] is not None else f"{'-':>12s}" for side in "AB"]
                    ratio = "  not in both"
                    if row["ratio"] is not None:
                        ratio = f"{row['ratio']:6.3f} ({row['least']:.3f}..{row['most']:.3f})"
                        ratio += f"   {row['best_ratio']:6.3f}" if row["best_ratio"] is not None else "  other steps"
                    print(f"{figure:12s} {quantity:14s} {shown[0]} {shown[1]} {ratio}", flush=True)
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
        print(f"written: {arguments.csv}")


if __name__ == "__main__":
    main()
