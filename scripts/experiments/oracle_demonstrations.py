"""Write the trials of an oracle as demonstrations, from which an agent learns what no reward has taught it.

    python -m scripts.experiments.oracle_demonstrations --mdp 10 --strategy beb --output runs/beb.safetensors
    python -m scripts.experiments.oracle_demonstrations --bandit 100,50 --strategy gittins --output runs/g.safetensors
    rlstm train teacher --env rlstm/TabularMDP-v0 --demonstrations runs/beb.safetensors ...

Oracles are those of ``scripts/experiments/learning_to_learn.py``, with the same constants; the tasks are drawn from
seeds that neither its measurements nor its tuning use. The file is as ``rlstm record`` writes it: a trajectory is a
trial, and the policy that imitates it keeps its memory for a trial.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import rlstm.envs  # noqa: F401 - registers the environments.
from rlstm.core.errors import DemonstrationsError
from rlstm.evaluation.demonstrations import Demonstrations, describe_space, refuse_existing
from rlstm.vector.make import make_single, resolve_spec
from scripts.experiments.learning_to_learn import play_oracle
from scripts.experiments.learning_to_learn_tasks import Task
from scripts.experiments.oracles import FloatArray, IntArray, Oracle

SEED = 3_000_000  # Far from those of the measurements, their tuning and runs.


class _Recorder:
    """An oracle of which everything is kept, step by step, each ``(B,)``."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.steps: list[dict[str, npt.NDArray[Any]]] = []

    def act(self, states: IntArray, step: int) -> IntArray:
        """Keep what is seen and what is done."""
        actions = self._oracle.act(states, step)
        self.steps.append({"observations": states, "actions": actions, "starts": np.full(len(states), step == 0)})
        return actions

    def learn(self, states: IntArray, actions: IntArray, rewards: FloatArray, next_states: IntArray) -> None:
        """Keep the rewards."""
        self._oracle.learn(states, actions, rewards, next_states)
        self.steps[-1]["rewards"] = rewards.copy()


def record(task: Task, strategy: str, num_trials: int, seed: int) -> Demonstrations:
    """Let an oracle play trials and return them, time first: (T, N, ...)."""
    recorders: list[_Recorder] = []
    make_oracle = task.oracles()[strategy]

    def recorded(num_tasks: int, rng: np.random.Generator) -> _Recorder:
        recorders.append(_Recorder(make_oracle(num_tasks, rng)))
        return recorders[-1]

    play_oracle(task, recorded, num_trials, seed)

    def stacked(name: str) -> npt.NDArray[Any]:
        return np.concatenate([np.stack([step[name] for step in one.steps]) for one in recorders], axis=1)

    with closing(make_single(resolve_spec(task.env), task.env)) as env:
        space, action_space = env.observation_space, env.action_space
    starts = stacked("starts")
    return Demonstrations(
        stacked("observations").reshape(*starts.shape, *(space.shape or ())).astype(space.dtype),
        stacked("actions").astype(action_space.dtype),
        stacked("rewards"),
        np.ones_like(starts),
        starts,
        np.full(num_trials, np.nan),
        describe_space(space),
        describe_space(action_space, bounds=True),
        {"strategy": strategy, "task": f"{task.kind} {task.title}", "seed": seed},
    )


def main(words: Sequence[str]) -> None:
    """Record what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--bandit", metavar="n,k", help="n pulls of k arms")
    which.add_argument("--mdp", type=int, metavar="n", help="n episodes of random MDPs")
    parser.add_argument("--strategy", required=True, help="beb, gittins, ...")
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=SEED, help="decides the tasks")
    parser.add_argument("--output", type=Path, required=True, help="the file, .safetensors")
    arguments = parser.parse_args(words)
    if arguments.trials < 1 or arguments.seed < 0:
        parser.error(f"--trials is {arguments.trials}, --seed is {arguments.seed}; they must be at least 1 and 0.")
    try:
        task = Task.of_flags(arguments.bandit, arguments.mdp)
        refuse_existing(arguments.output)
    except (ValueError, DemonstrationsError) as error:
        parser.error(str(error))
    if arguments.strategy not in task.oracles():
        parser.error(f"--strategy is {arguments.strategy}; for {task.kind} there are {', '.join(task.oracles())}.")
    recorded = record(task, arguments.strategy, arguments.trials, arguments.seed)
    recorded.save(arguments.output)
    print(f"{arguments.output}: {recorded}, mean total reward of a trial {recorded.returns.mean():.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
