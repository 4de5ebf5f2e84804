"""Measure how much a trained agent has learnt to learn: its trials beside those of oracles, on the same held-out tasks.

    python -m scripts.experiments.learning_to_learn runs/bandit            # an agent and all oracles of its task
    python -m scripts.experiments.learning_to_learn --bandit 100,5 --mdp 10   # oracles only
    python -m scripts.experiments.learning_to_learn --tune --bandit 100,5  # try constants of the oracles
    python -m scripts.experiments.learning_to_learn --tables               # the tables from the rows, nothing is played

Every strategy plays one trial of each of 10,000 tasks, drawn from seeds that no training, and no evaluation during
one, has used. Rows are in ``scripts/results/learning_to_learn.csv``: the mean total reward of a trial, its standard
error over tasks, and the difference to the better of two classical strategies, paired task by task. The tasks are the
same for all; what an action pays differs where actions do. A rerun replaces the rows of the same task, strategy and
command. Agents sample their actions, as in training; ``--greedy`` plays the likeliest too.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import rlstm.envs  # noqa: F401 - registers the environments.
from rlstm.api.finished_runs import load
from rlstm.api.stored_runs import read_config, read_spec
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.evaluation.evaluate import evaluate
from rlstm.training.checkpoints import load_checkpoint
from rlstm.training.run_directory import RunDirectory, collect_versions
from rlstm.vector.make import make, resolve_spec
from scripts.experiments.learning_to_learn_tables import write_tables
from scripts.experiments.learning_to_learn_tasks import GRIDS, MakeOracle, Task
from scripts.experiments.oracles import FloatArray, play_trial
from scripts.results_table import ROOT, commit, read_rows, write_rows

RESULTS = ROOT / "scripts" / "results" / "learning_to_learn.csv"
NUM_TRIALS = 10_000
CHUNK = 1_000  # Trials played side by side.
SEED = 1_000_000  # Far from the small seeds of runs, which evaluate on tasks of their own seed while they train.
TUNING_SEED = 2_000_000
COLUMNS = (
    *("task", "n", "k", "strategy", "mean", "standard_error", "difference", "difference_error", "against"),
    *("trials", "seed", "seconds", "steps", "checkpoint", "training", "command"),
    *("commit", "device", "python", "torch", "numpy", "gymnasium"),
)


def chunks(num_trials: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yield a seed and a number of trials for every chunk."""
    for index, begin in enumerate(range(0, num_trials, CHUNK)):
        yield seed + index, min(CHUNK, num_trials - begin)


def play_oracle(task: Task, make_oracle: MakeOracle, num_trials: int, seed: int) -> FloatArray:
    """Return the total rewards of an oracle's trials, (num_trials,)."""
    memory = MemoryConfig("trial", episodes_per_trial=task.episodes)
    totals = []
    for chunk_seed, size in chunks(num_trials, seed):
        envs = make(resolve_spec(task.env), task.env, memory, num_envs=size)
        rng = np.random.default_rng(integer_seeds(chunk_seed, "evaluation_actions", 1)[0])
        seeds = integer_seeds(chunk_seed, "evaluation", size)
        totals.append(play_trial(make_oracle(size, rng), envs, seeds, task.episodes))
        envs.close()
    return np.concatenate(totals)


class TrainedAgent:
    """The agent of a run directory.

    Args:
        run_dir: The run's folder, as the user names it.
        checkpoint: latest, best, or a step.
        remark: What its name tells beside algorithm, cell and size.

    Raises:
        ValueError: If it was trained on a task that oracles don't play here.
    """

    def __init__(self, run_dir: str, checkpoint: str, remark: str = "") -> None:
        self.run_dir, self.checkpoint, self.remark = run_dir, checkpoint, remark
        self.directory = RunDirectory.open(run_dir)
        self.config = read_config(self.directory)
        which: Any = int(checkpoint) if checkpoint.isdecimal() else checkpoint
        self.task = Task.of_run(self.config.env, self.config.memory.episodes_per_trial)
        self.policy = load(run_dir, which).policy
        self.spec = read_spec(self.directory, self.config)
        self.steps = load_checkpoint(self.directory, which).step

    @property
    def name(self) -> str:
        """Algorithm, cell and its size, and the remark."""
        policy = self.config.policy
        height = f" x {policy.num_layers}" if policy.num_layers > 1 else ""
        return f"{self.config.agent} {policy.cell} {policy.hidden_size}{height}" + (self.remark and f", {self.remark}")

    @property
    def training(self) -> str:
        """Return the command that trained it, without its folder; empty if it was trained from Python."""
        words = shlex.split(self.directory.command_path.read_text(encoding="utf-8").splitlines()[0])
        if len(words) < 2 or words[1] != "train":
            return ""
        if "--run-dir" in words:
            place = words.index("--run-dir")
            del words[place : place + 2]
        return shlex.join(["rlstm", *(word for word in words[1:] if not word.startswith("--run-dir="))])

    def play(self, num_trials: int, seed: int, *, deterministic: bool) -> FloatArray:
        """Return the total rewards of its trials, (num_trials,).

        Raises:
            ValueError: If the run has evaluated itself on tasks of these seeds.
        """
        used = self.config.run.seed
        if any(chunk_seed == used for chunk_seed, _ in chunks(num_trials, seed)):
            raise ValueError(f"The run evaluated itself on the tasks of its seed {used}: give another --seed.")
        env = dataclasses.replace(self.config.env, vectorization="auto")
        totals = []
        for chunk_seed, size in chunks(num_trials, seed):
            envs = make(self.spec, env, self.config.memory, num_envs=size)
            episodes = size * self.task.episodes
            result = evaluate(self.policy, envs, episodes, seed=chunk_seed, deterministic=deterministic)
            totals.append(result.trial_returns)
            envs.close()
        return np.concatenate(totals)


def statistics(totals: FloatArray, references: dict[str, FloatArray]) -> dict[str, Any]:
    """Return mean and paired difference to the better of the references, with their standard errors.

    Args:
        totals: Total rewards by task, (N,).
        references: Those of the strategies to compare with, on the same tasks.
    """
    against = max(references, key=lambda name: float(references[name].mean()))
    differences = totals - references[against]
    error = np.sqrt(len(totals))
    return {
        "mean": f"{totals.mean():.3f}",
        "standard_error": f"{totals.std(ddof=1) / error:.3f}",
        "difference": f"{differences.mean():.3f}",
        "difference_error": f"{differences.std(ddof=1) / error:.3f}",
        "against": against,
        "trials": len(totals),
    }


def measure(task: Task, agents: list[TrainedAgent], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Play all oracles and some agents of a task, and return their rows."""
    num_trials, seed = arguments.trials, arguments.seed
    versions = collect_versions("cpu")
    common = {"task": task.kind, "n": task.episodes, "k": task.arms or "", "seed": seed, "commit": commit()}
    common |= {name: versions[name] for name in ("device", "python", "torch", "numpy", "gymnasium")}
    script = "python -m scripts.experiments.learning_to_learn"
    options = "".join(
        f" --{name} {getattr(arguments, name)}"
        for name, default in (("trials", NUM_TRIALS), ("seed", SEED))
        if getattr(arguments, name) != default
    )
    played: dict[str, FloatArray] = {}
    rows: list[dict[str, Any]] = []

    def add(totals: FloatArray, began: float, **facts: Any) -> None:
        rows.append({**common, **facts, "totals": totals, "seconds": round(time.perf_counter() - began, 1)})

    for name, make_oracle in task.oracles().items():
        began = time.perf_counter()
        played[name] = play_oracle(task, make_oracle, num_trials, seed)
        add(played[name], began, strategy=name, command=f"{script} {task.flag}{options}")
    for agent in agents:
        for deterministic in (False, True) if arguments.greedy else (False,):
            began = time.perf_counter()
            facts = {"steps": agent.steps, "checkpoint": agent.checkpoint, "training": agent.training}
            facts["strategy"] = agent.name + (", greedy" if deterministic else "")
            facts["command"] = f"{script} {_relative(agent.run_dir)}{options}" + _agent_flags(agent, deterministic)
            add(agent.play(num_trials, seed, deterministic=deterministic), began, **facts)
    references = {name: played[name] for name in task.references}
    return [row | statistics(row.pop("totals"), references) for row in rows]


def _agent_flags(agent: TrainedAgent, deterministic: bool) -> str:
    checkpoint = "" if agent.checkpoint == "latest" else f" --checkpoint {agent.checkpoint}"
    remark = f" --remark {shlex.quote(agent.remark)}" if agent.remark else ""
    return checkpoint + remark + (" --greedy" if deterministic else "")


def _relative(run_dir: str) -> str:
    """Return the folder as it is named from here, or its name alone if it lies elsewhere."""
    path = Path(run_dir).resolve()
    return shlex.quote(str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name)


def store(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to the file, replacing those of the same task, strategy and command."""

    def key(row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in ("task", "n", "k", "strategy", "command"))

    new = {key(row) for row in rows}
    kept = [row for row in read_rows(path) if key(row) not in new]
    write_rows(path, COLUMNS, sorted([*kept, *rows], key=lambda row: (row["task"], int(row["n"]), int(row["k"] or 0))))


def tune(task: Task, num_trials: int) -> None:
    """Print what each constant of each oracle of the task earns."""
    for name in task.oracles():
        for constant in GRIDS.get(name, ()):
            totals = play_oracle(task, task.oracle(name, constant), num_trials, TUNING_SEED)
            error = totals.std(ddof=1) / np.sqrt(num_trials)
            print(f"{task.kind} {task.title:8} {name:16} {constant:5g} {totals.mean():9.2f} ± {error:.2f}", flush=True)


def parse(words: list[str]) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN_DIR", help="trained agents")
    parser.add_argument("--bandit", nargs="+", default=[], metavar="n,k", help="oracles with n pulls of k arms")
    parser.add_argument("--mdp", nargs="+", type=int, default=[], metavar="n", help="oracles with n episodes")
    parser.add_argument("--checkpoint", default="latest", help="latest, best, or a step")
    parser.add_argument("--remark", default="", help="what the agents' names tell beside algorithm, cell and size")
    parser.add_argument("--greedy", action="store_true", help="play agents with their likeliest actions too")
    parser.add_argument("--trials", type=int, default=NUM_TRIALS)
    parser.add_argument("--seed", type=int, default=SEED, help="decides the tasks")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the CSV")
    parser.add_argument("--tune", action="store_true", help="try the oracles' constants instead; nothing is written")
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    return parser, parser.parse_args(words)


def main(words: list[str]) -> None:
    """Play, write the rows, and the tables."""
    parser, arguments = parse(words)
    if arguments.trials < 2 or arguments.seed < 0:
        parser.error(f"--trials is {arguments.trials}, --seed is {arguments.seed}; they must be at least 2 and 0.")
    try:
        agents = [TrainedAgent(run_dir, arguments.checkpoint, arguments.remark) for run_dir in arguments.runs]
        named = [Task.of_flags(pair, None) for pair in arguments.bandit]
        named += [Task.of_flags(None, episodes) for episodes in arguments.mdp]
    except ValueError as error:
        parser.error(str(error))
    tasks = list(dict.fromkeys([*named, *(agent.task for agent in agents)]))
    if not tasks and not arguments.tables:
        parser.error("nothing to do: give RUN_DIR, --bandit n,k, --mdp n or --tables.")
    for task in tasks:
        if arguments.tune:
            tune(task, arguments.trials)
            continue
        rows = measure(task, [agent for agent in agents if agent.task == task], arguments)
        for row in rows:
            beside = f"   published {task.published[row['strategy']]}" if row["strategy"] in task.published else ""
            print(
                f"{task.kind} {task.title:8} {row['strategy']:24} {row['mean']:>9} ± {row['standard_error']}"
                f"   {row['seconds']:6.1f} s{beside}",
                flush=True,
            )
        store(arguments.results, rows)
    if not arguments.tune:
        chosen = [row for row in read_rows(arguments.results) if row["seed"] == str(SEED)]
        write_tables([row for row in chosen if row["trials"] == str(NUM_TRIALS)])


if __name__ == "__main__":
    main(sys.argv[1:])
