"""Double pole balancing without velocities by neuroevolution: how many evaluations until a network passes the tests.

    python -m scripts.experiments.double_pole                                   # the strategies and their settings
    python -m scripts.experiments.double_pole cma-es snes --fitness damping     # 50 runs of each, seeds 0 to 49
    python -m scripts.experiments.double_pole cma-es --fitness standard --runs 10
    python -m scripts.experiments.double_pole --tables  # the tables from the rows, nothing is run

A generation plays `rlstm/DoublePoleNoVel-v0`, one episode a network: 1000 steps, the long pole leaning by 4 degrees at
the start. Each network counts as one evaluation. Its best network, if it balanced all 1000 steps, is then put to the
tests of `envs/control/pole_generalisation.py`, which are not counted:

    damping    fitness 0.1 t / 1000 + 0.9 f2; 1000 steps from 200 or more of the 625 starts, and 100,000 steps
    standard   fitness t, the steps balanced; 100,000 steps

A network that passes ends its run. The settings of the strategies were chosen on other seeds than those of the rows,
from 1000 on. Networks have no biases: the task is the same to the left and to the right, and so are they.

Runs are independent, but ``--together`` so many of them play in one batch, which changes nothing but the speed. One
with a candidate waits, while the longest test is played for all candidates together. Rows are in
``scripts/results/double_pole.csv``; a run that is there is not run again. ``seconds`` is a run's share of the time.

Sources: F. Gruau, D. Whitley, L. Pyeatt, GP 1996; F. Gomez, J. Schmidhuber, R. Miikkulainen, JMLR 9, 2008.

Letters in shapes: P = networks of a generation, N = genes, S = starts.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rlstm.envs.control.pole_generalisation import STARTS_FOR_A_PASS, balanced_starts, generalisation_starts
from rlstm.evolution.strategies import STRATEGIES, Strategy
from rlstm.evolution.strategies.restarts import Restarts
from scripts.experiments.double_pole_bench import MAX_STEPS, Actor, Bench
from scripts.experiments.double_pole_settings import FITNESSES, SETTINGS, Setting
from scripts.experiments.double_pole_table import write_page
from scripts.experiments.double_pole_trial import MANY_STEPS, LongTrial
from scripts.experiments.training_run import MACHINE_COLUMNS, machine, refuse_unknown
from scripts.results_table import ROOT, append_row, read_rows

RESULTS = ROOT / "scripts" / "results" / "double_pole.csv"

COLUMNS = (
    "strategy",
    "fitness",
    "seed",
    "network",
    "settings",
    "evaluations",
    "solved",
    "steps",
    "starts",
    "tests",
    "restarts",
    "seconds",
    *MACHINE_COLUMNS,
)


class Run:
    """One run of a strategy, and how far it is.

    Args:
        strategy: At its start.
        seed: Its name.
        limit: Evaluations after which it is given up.
    """

    def __init__(self, strategy: Strategy, seed: int, limit: int) -> None:
        self.strategy, self.seed, self.limit = strategy, seed, limit
        self.evaluations = self.num_tests = self.starts = 0
        self.candidate: Tensor | None = None  # (N,), what is put to the tests.
        self.solved = False
        self.seconds = 0.0

    @property
    def plays(self) -> bool:
        """Return whether it goes on evolving now."""
        return not self.solved and self.candidate is None and self.evaluations < self.limit

    @property
    def over(self) -> bool:
        """Return whether it has come to an end."""
        return self.solved or (self.candidate is None and self.evaluations >= self.limit)

    def tell(self, genomes: Tensor, fitness: Tensor, balanced: Tensor) -> None:
        """Take in a generation: genomes ``(P, N)``, fitness ``(P,)`` and which balanced all steps ``(P,)``."""
        self.strategy.tell(fitness)
        self.evaluations += len(genomes)
        best = int(fitness.argmax())
        if balanced[best]:
            self.candidate = genomes[best]


def evolve(bench: Bench, runs: Sequence[Run]) -> Iterator[Run]:
    """Let runs evolve side by side; yield each when it is over."""
    trial = LongTrial(bench)
    left, waiting = list(runs), list[Run]()  # Those on trial, in its order.
    while left:
        playing = [run for run in left if run.plays]
        if playing:
            with shared_time(playing):
                play_generation(bench, playing)
        for run in playing:
            if run.candidate is not None and passes_short_test(bench, run, run.candidate):
                trial.add(run.candidate)
                waiting.append(run)
        with shared_time(waiting):
            fallen, stood = trial.advance(MAX_STEPS if playing else MANY_STEPS)
        for run, failed, solved in zip(waiting, fallen, stood, strict=True):
            if failed:
                run.candidate = None
            run.solved = bool(solved)
        waiting = [run for run in waiting if run.candidate is not None and not run.solved]
        yield from (run for run in left if run.over)
        left = [run for run in left if not run.over]


def play_generation(bench: Bench, runs: Sequence[Run]) -> None:
    """Play the next generation of every run in one batch."""
    generations = [run.strategy.ask() for run in runs]
    result = bench.play(torch.cat(generations))
    fitness, balanced = torch.from_numpy(result.returns), torch.from_numpy(result.successes == 1)
    sizes = [len(genomes) for genomes in generations]
    for run, genomes, own, stood in zip(runs, generations, fitness.split(sizes), balanced.split(sizes), strict=True):
        run.tell(genomes, own, stood)


def passes_short_test(bench: Bench, run: Run, candidate: Tensor) -> bool:
    """Put a run's candidate to the test from 625 starts, if that counts; if it fails it is a candidate no more."""
    run.num_tests += 1
    if bench.fitness != "damping":
        return True
    with shared_time([run]):
        starts = generalisation_starts()
        act = Actor(bench, candidate.unsqueeze(0), len(starts))
        run.starts = int(balanced_starts(act, starts, MAX_STEPS, at_least=STARTS_FOR_A_PASS).sum())
    if run.starts < STARTS_FOR_A_PASS:
        run.candidate = None
    return run.candidate is not None


@contextlib.contextmanager
def shared_time(runs: Sequence[Run]) -> Iterator[None]:
    """Add to every run its share of the time that passes."""
    began = time.perf_counter()
    yield
    for run in runs:
        run.seconds += (time.perf_counter() - began) / len(runs)


def run_seeds(name: str, setting: Setting, fitness: str, seeds: Sequence[int], limit: int) -> Iterator[dict[str, Any]]:
    """Run a strategy under seeds, side by side; yield each row as soon as it is known."""
    bench = Bench(setting, fitness)
    for run in evolve(bench, [Run(bench.begin(setting, name, seed), seed, limit) for seed in seeds]):
        yield {
            "strategy": name,
            "fitness": fitness,
            "seed": run.seed,
            "network": setting.network,
            "settings": setting.describe(),
            "evaluations": run.evaluations,
            "solved": run.solved,
            "steps": MANY_STEPS if run.solved else "",
            "starts": run.starts if run.solved and fitness == "damping" else "",
            "tests": run.num_tests,
            "restarts": run.strategy.num_restarts if isinstance(run.strategy, Restarts) else "",
            "seconds": round(run.seconds, 1),
            **machine(torch.get_num_threads()),
        }


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="STRATEGY", help=f"of {', '.join(STRATEGIES)}; none lists them")
    parser.add_argument("--fitness", choices=FITNESSES, default="damping")
    parser.add_argument("--hidden-size", type=int, help="another than the setting's")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--together", type=int, default=50, help="runs that play in one batch")
    parser.add_argument("--limit", type=int, default=50_000, help="evaluations after which a run is given up")
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    arguments = parser.parse_args(words)
    refuse_unknown(parser, arguments.names, STRATEGIES)
    return arguments


def main(words: Sequence[str]) -> None:
    """Run what is asked for."""
    arguments = parse(words)
    torch.set_num_threads(arguments.num_threads)
    if not arguments.names and not arguments.tables:
        for fitness, settings in SETTINGS.items():
            for name, setting in settings.items():
                print(f"{fitness:9s} {name:11s} {setting.network}: {setting.describe()}")
        return
    for name in arguments.names:
        setting = SETTINGS[arguments.fitness][name]
        if arguments.hidden_size is not None:
            setting = dataclasses.replace(setting, hidden_size=arguments.hidden_size)
        left = seeds_left(name, setting, arguments)
        for begin in range(0, len(left), arguments.together):
            seeds = left[begin : begin + arguments.together]
            for row in run_seeds(name, setting, arguments.fitness, seeds, arguments.limit):
                append_row(RESULTS, COLUMNS, row)
                outcome = "solved" if row["solved"] else "given up"
                print(f"{name} seed {row['seed']}: {outcome} after {row['evaluations']}", flush=True)
            write_page(read_rows(RESULTS))
    write_page(read_rows(RESULTS))


def seeds_left(name: str, setting: Setting, arguments: argparse.Namespace) -> list[int]:
    """Return the seeds that have no row with these settings yet."""
    wanted = (name, arguments.fitness, setting.network, setting.describe())
    there = {
        int(row["seed"])
        for row in read_rows(RESULTS)
        if (row["strategy"], row["fitness"], row["network"], row["settings"]) == wanted
    }
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.runs)
    return [seed for seed in seeds if seed not in there]


if __name__ == "__main__":
    main(sys.argv[1:])
