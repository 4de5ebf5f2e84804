"""Free runs: how far a network that has seen a signal for a while goes on with it alone, and what evolution adds.

    python -m scripts.experiments.free_runs                             # the tasks and their settings
    python -m scripts.experiments.free_runs sines-2 sines-5 --seeds 0 1 # every strategy, these seeds
    python -m scripts.experiments.free_runs mackey-glass --strategies snes
    python -m scripts.experiments.free_runs --tables  # the table of RESULTS.md from the rows, nothing is trained

A run is `rlstm train evolino` on `rlstm/Sines-v0` or `rlstm/MackeyGlass-v0` with feedback: 100 true values, then the
network's own. Its champion goes on with 100 signals whose starts are never trained on. The error is a signal's root
mean squared error over the free run, divided by the deviation of the signal (NRMSE); of Mackey-Glass also that of the
single prediction 84 steps after the last true value, over all 100 signals (NRMSE84). Its marked measure is the latter.

``random`` is the control without evolution: one generation of as many parameter vectors as the other strategies
evaluate, of the same deviation. Rows are in ``scripts/results/free_runs.csv``; one that is there is not run again.
Settings were chosen on other seeds, from 100 on.

Sources: Schmidhuber, Wierstra, Gagliolo, Gomez, *Training recurrent networks by Evolino*, Neural Computation 19(3),
2007, for the tasks. Ours have another scale and random starts, so that published errors are no more than a hint.
"""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scripts.experiments.training_run import MACHINE_COLUMNS, machine, make_parser, refuse_unknown, train
from scripts.results_table import PAGE, ROOT, append_row, markdown_table, marked, read_rows, write_between

RESULTS = ROOT / "scripts" / "results" / "free_runs.csv"
BEGIN, END = "<!-- free runs: written by scripts/experiments/free_runs.py -->", "<!-- end of free runs -->"
EPISODES = 100
AHEAD = 84  # Steps after the last true value at which Mackey-Glass is measured; it was seen one step late.
COLUMNS = (
    "task",
    "strategy",
    "seed",
    "nrmse_median",
    "nrmse_mean",
    "nrmse_worst",
    "nrmse84",
    "mark",
    "generations",
    "genomes",
    "steps",
    "seconds",
    "command",
    *MACHINE_COLUMNS,
)
STRATEGIES = {
    "snes": ("--strategy", "snes"),
    "esp": ("--strategy", "esp", "--mutation-scale", "0.001"),
    "random": ("--strategy", "snes"),
}
TITLES = {"snes": "SNES", "esp": "ESP", "random": "random memories"}


@dataclass(frozen=True)
class Task:
    """A signal, the settings of a run on it, and the error that counts as good."""

    title: str
    measure: str  # A column of the rows.
    mark: float
    flags: str
    population: int
    total_steps: int
    genomes: int  # That come of these steps, so many whole generations.

    def words(self, strategy: str) -> list[str]:
        """Return the flags of a run."""
        alone = strategy == "random"
        sizes = {
            "--population": self.genomes if alone else self.population,
            "--total-steps": 1 if alone else self.total_steps,
        }
        words = [*shlex.split(self.flags), *STRATEGIES[strategy]]
        return words + [word for name, value in sizes.items() for word in (name, str(value))]


def sines(num_sines: int, mark: float, hidden_size: int, sigma: float) -> Task:
    """Return the task of so many sines: small weights, nearly linear networks, no biases as sines are symmetric."""
    flags = (
        f"--env rlstm/Sines-v0 --env-kwargs feedback=true num_sines={num_sines} --dtype float64 --num-envs 2 "
        f"--hidden-size {hidden_size} --sigma {sigma} --input-gain 0.0001 --no-biases --washout 100 "
        "--teacher-sequences 6"
    )
    return Task(f"{num_sines} sines, {hidden_size} cells", "nrmse_median", mark, flags, 20, 60_000, 60)


TASKS = {
    "sines-2": sines(2, 1e-3, 10, 0.3),
    "sines-3": sines(3, 0.05, 15, 0.3),
    "sines-4": sines(4, 0.15, 20, 0.3),
    "sines-5": sines(5, 0.2, 40, 0.25),
    "mackey-glass": Task(
        "Mackey-Glass, 200 cells",
        "nrmse84",
        0.02,
        "--env rlstm/MackeyGlass-v0 --env-kwargs feedback=true free_run=84 --dtype float64 --num-envs 2 "
        "--hidden-size 200 --sigma 0.11 --input-gain 3 --washout 50 --teacher-sequences 30",
        10,
        20_000,
        20,
    ),
}


def variance(task: str) -> float:
    """Return the variance of a task's signal."""
    from rlstm.envs.sequences.mackey_glass import VARIANCE

    return VARIANCE if task == "mackey-glass" else 0.5 / int(task.removeprefix("sines-"))


def errors(returns: npt.NDArray[np.float64], steps: int, signal_variance: float) -> npt.NDArray[np.float64]:
    """Return the NRMSE of every episode, whose return is minus the sum of squared errors over ``steps``."""
    return np.asarray(np.sqrt(np.maximum(-returns, 0.0) / steps / signal_variance))


def error_at_end(shorter: npt.NDArray[np.float64], longer: npt.NDArray[np.float64], signal_variance: float) -> float:
    """Return the NRMSE over episodes at the last step, by which the longer free runs are longer than the shorter."""
    return float(np.sqrt(np.maximum(shorter - longer, 0.0).mean() / signal_variance))


def free_returns(run_dir: Path, seed: int, free_run: int) -> npt.NDArray[np.float64]:
    """Return the returns of a run's champion over held-out episodes, an env each."""
    from rlstm.api.finished_runs import open_run
    from rlstm.evaluation.evaluate import evaluate
    from rlstm.vector.make import make

    run = open_run(run_dir, env_kwargs={"free_run": free_run})
    with contextlib.closing(make(run.spec, run.config.env, run.config.memory, num_envs=EPISODES)) as envs:
        return np.asarray(evaluate(run.policy, envs, EPISODES, seed=seed).returns, dtype=np.float64)


def run_one(name: str, strategy: str, seed: int, num_threads: int = 1) -> dict[str, Any]:
    """Train one seed and return its row."""
    task = TASKS[name]
    words = ["train", "evolino", *task.words(strategy), "--seed", str(seed), "--eval-every", "0"]
    words += ["--eval-episodes", "1", "--num-threads", str(num_threads)]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        last = train(words, run_dir)[-1]
        steps = AHEAD if name == "mackey-glass" else 300
        found = errors(free_returns(run_dir, seed, steps), steps, variance(name))
        at_end = ""
        if name == "mackey-glass":
            shorter, longer = (free_returns(run_dir, seed, count) for count in (AHEAD - 2, AHEAD - 1))
            at_end = f"{error_at_end(shorter, longer, variance(name)):.4g}"
    generations = int(float(last["evolino/generations"]))
    return {
        "task": name,
        "strategy": strategy,
        "seed": seed,
        "nrmse_median": f"{np.median(found):.4g}",
        "nrmse_mean": f"{found.mean():.4g}",
        "nrmse_worst": f"{found.max():.4g}",
        "nrmse84": at_end,
        "mark": task.mark,
        "generations": generations,
        "genomes": generations * (task.genomes if strategy == "random" else task.population),
        "steps": int(float(last["step"])),
        "seconds": round(float(last["time/time_elapsed"]), 1),
        "command": f"rlstm {shlex.join(words)}",
        **machine(num_threads),
    }


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the Markdown table, or nothing if there are no rows."""
    lines = []
    for name, task in TASKS.items():
        for strategy in STRATEGIES:
            own = [row for row in rows if (row["task"], row["strategy"]) == (name, strategy)]
            if not own:
                continue
            values = np.array([float(row[task.measure]) for row in own])
            seconds = np.array([float(row["seconds"]) for row in own])
            cells = [
                task.title,
                marked(TITLES[strategy], own),
                "NRMSE84" if task.measure == "nrmse84" else "NRMSE",
                f"{np.median(values):.1e}",
                f"{values.min():.1e}",
                f"{values.max():.1e}",
                f"{task.mark:g}",
                f"{(values <= task.mark).sum()} of {len(own)}",
                " to ".join(sorted({row["genomes"] for row in own}, key=int)),
                f"{np.median(seconds):.1f} s",
            ]
            lines.append(cells)
    head = ["", "strategy", "error", "median", "best seed", "worst seed", "mark", "under it", "genomes", "wall"]
    return markdown_table(head, lines)


def left(
    rows: Sequence[dict[str, str]], names: Sequence[str], strategies: Sequence[str], seeds: Sequence[int]
) -> list[tuple[str, str, int]]:
    """Return what is to be run, seed by seed."""
    there = {(row["task"], row["strategy"], int(row["seed"])) for row in rows}
    wanted = [(name, strategy, seed) for seed in seeds for name in names for strategy in strategies]
    return [one for one in wanted if one not in there]


def main() -> None:
    """Run what is asked for."""
    parser = make_parser(__doc__, range(10))
    parser.add_argument("names", nargs="*", metavar="TASK", help="tasks, or all; none lists them")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    arguments = parser.parse_args()
    names = list(TASKS) if arguments.names == ["all"] else arguments.names
    refuse_unknown(parser, names, TASKS)
    if not names and not arguments.tables:
        for name, task in TASKS.items():
            print(f"{name:13s} {task.measure} <= {task.mark:g}: {shlex.join(task.words('snes'))}")
        return
    for name, strategy, seed in left(read_rows(RESULTS), names, arguments.strategies, arguments.seeds):
        row = run_one(name, strategy, seed, arguments.num_threads)
        append_row(RESULTS, COLUMNS, row)
        print(f"{name} {strategy} seed {seed}: {row[TASKS[name].measure]}, {row['seconds']} s", flush=True)
    write_between(PAGE, BEGIN, END, table(read_rows(RESULTS)))


if __name__ == "__main__":
    main()
