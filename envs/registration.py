"""The table of our environments, `ENVS`, and their registration with Gymnasium.

A new environment is one file with a task and its two shells, and one row here.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from rlstm.envs.batched import BatchedTask, ReturnReference


@dataclass(frozen=True)
class EnvDescription:
    """What a user wants to know before choosing an environment.

    Attributes:
        id: For `gymnasium.make`.
        memory: What must be remembered.
        memory_length: For how many steps; None where that has no fixed value.
        optimal_return: The best that any policy can do.
        memoryless_return: The best that any policy without memory can do.
        supports_new_task: Whether trials of several episodes of one task are possible.
        source: Where the task comes from.
    """

    id: str
    memory: str
    memory_length: int | None
    optimal_return: ReturnReference
    memoryless_return: ReturnReference
    supports_new_task: bool
    source: str


@dataclass(frozen=True)
class EnvRow:
    """One environment.

    Attributes:
        id: For `gymnasium.make`.
        task: "module:Task"; beside it stand `TaskEnv` and `TaskVectorEnv`.
        reward_threshold: The mean return from which on the task counts as solved; None where nobody has said so.
        arguments: Of the task, in place of its defaults; a user's own arguments win over them.
    """

    id: str
    task: str
    reward_threshold: float | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry_point(self) -> str:
        """Of the single environment; a string, as Gymnasium can write only such specs as JSON."""
        return f"{self.task}Env"

    @property
    def vector_entry_point(self) -> str:
        """Of the vector environment."""
        return f"{self.task}VectorEnv"

    def load_task(self) -> type[BatchedTask]:
        """Imports the task's class."""
        module, _, name = self.task.partition(":")
        task_class: type[BatchedTask] = getattr(importlib.import_module(module), name)
        return task_class

    def describe(self, **task_arguments: Any) -> EnvDescription:
        """Describes the environment as it is with these arguments."""
        task = self.load_task()(1, **{**self.arguments, **task_arguments})
        return EnvDescription(
            id=self.id,
            memory=task.memory,
            memory_length=task.memory_length,
            optimal_return=task.optimal_return,
            memoryless_return=task.memoryless_return,
            supports_new_task=task.supports_new_task,
            source=task.source,
        )


def _difficulties(name: str, task: str, **levels: Mapping[str, Any]) -> tuple[EnvRow, ...]:
    """One row for each level of a task, such as easy={...}: rlstm/NameEasy-v0."""
    return tuple(
        EnvRow(f"rlstm/{name}{level.capitalize()}-v0", task, arguments=arguments) for level, arguments in levels.items()
    )


_ROWS = (
    # Corridors and mazes. T-maze: 95 of 100 turns are right.
    EnvRow("rlstm/TMaze-v0", "rlstm.envs.tmaze:TMaze", reward_threshold=3.795),
    # bsuite.
    # POPGym's tasks. RepeatPrevious: 19 of 20 answers are right.
    EnvRow("rlstm/RepeatPrevious-v0", "rlstm.envs.repeat_previous:RepeatPrevious", reward_threshold=0.9),
    # Learning to learn.
    # Control without velocities. CartPole: as for Gymnasium's CartPole-v1.
    EnvRow("rlstm/CartPoleNoVel-v0", "rlstm.envs.cartpole_no_vel:CartPoleNoVel", reward_threshold=475.0),
    # Sequences with a teacher.
)

ENVS: dict[str, EnvRow] = {row.id: row for row in _ROWS}
"""Every environment of ours, by its id."""


def register_envs() -> None:
    """Registers all rows of `ENVS` with Gymnasium; those already registered are left alone.

    No `max_episode_steps` are registered: a task's step limit depends on its arguments (`BatchedTask.max_steps`).
    """
    for row in ENVS.values():
        if row.id not in gym.registry:
            gym.register(
                id=row.id,
                entry_point=row.entry_point,
                vector_entry_point=row.vector_entry_point,
                reward_threshold=row.reward_threshold,
                kwargs=dict(row.arguments),
            )
