"""The table of our environments, `ENVS`, and their registration with Gymnasium.

A new environment is one file with a task, and one row here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from rlstm.envs.base.batched_task import BatchedTask, ReturnReference
from rlstm.envs.base.checks import load_class


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
        task: "module:Task"; a string, as Gymnasium can write only such specs as JSON.
        reward_threshold: The mean return from which on the task counts as solved; None where nobody has said so.
        arguments: Of the task, in place of its defaults; a user's own arguments win over them.
        level: Easy, Medium or Hard, where the task comes at such levels.
    """

    id: str
    task: str
    reward_threshold: float | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    level: str = ""

    def load_task(self) -> type[BatchedTask]:
        """Import the task's class."""
        task: type[BatchedTask] = load_class("task", self.task, BatchedTask)
        return task

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
        EnvRow(f"rlstm/{name}{level}-v0", task, arguments=arguments, level=level)
        for level, arguments in ((level.capitalize(), arguments) for level, arguments in levels.items())
    )


_SECTIONS: dict[str, tuple[EnvRow, ...]] = {
    "Corridors and mazes": (
        # T-maze: 95 of 100 turns are right.
        EnvRow("rlstm/TMaze-v0", "rlstm.envs.mazes.tmaze:TMaze", reward_threshold=3.795),
        # Passive and active T-maze: no detour, and 95 of 100 turns are right.
        EnvRow("rlstm/PassiveTMaze-v0", "rlstm.envs.mazes.ni_tmaze:NiTMaze", reward_threshold=0.95),
        EnvRow(
            "rlstm/ActiveTMaze-v0",
            "rlstm.envs.mazes.ni_tmaze:NiTMaze",
            reward_threshold=0.95,
            arguments={"corridor_length": 20, "active": True},
        ),
        EnvRow("rlstm/Maze89-v0", "rlstm.envs.mazes.maze89:Maze89"),
    ),
    "bsuite": (
        # Memory chain: 19 of 20 answers are right.
        EnvRow("rlstm/MemoryLength-v0", "rlstm.envs.bsuite.memory_chain:MemoryChain", reward_threshold=0.9),
        EnvRow(
            "rlstm/MemorySize-v0",
            "rlstm.envs.bsuite.memory_chain:MemoryChain",
            reward_threshold=0.9,
            arguments={"memory_length": 2, "num_bits": 10},
        ),
    ),
    "POPGym's tasks": (
        *_difficulties(
            "MultiarmedBandit",
            "rlstm.envs.meta.multiarmed_bandit:MultiarmedBandit",
            easy={},
            medium={"num_arms": 20, "max_steps": 400},
            hard={"num_arms": 30, "max_steps": 600},
        ),
        *_difficulties(
            "Battleship",
            "rlstm.envs.popgym.battleship:Battleship",
            easy={},
            medium={"board_size": 10},
            hard={"board_size": 12},
        ),
        *_difficulties(
            "Minesweeper",
            "rlstm.envs.popgym.minesweeper:Minesweeper",
            easy={},
            medium={"board_size": 6, "num_mines": 6},
            hard={"board_size": 8, "num_mines": 10},
        ),
        *_difficulties(
            "PositionOnlyCartPole",
            "rlstm.envs.popgym.cartpole:PopgymCartPole",
            easy={},
            medium={"max_steps": 400},
            hard={"max_steps": 600},
        ),
        *_difficulties(
            "NoisyPositionOnlyCartPole",
            "rlstm.envs.popgym.cartpole:PopgymCartPole",
            easy={"noise": 0.1},
            medium={"noise": 0.2},
            hard={"noise": 0.3},
        ),
        *_difficulties(
            "VelocityOnlyCartPole",
            "rlstm.envs.popgym.cartpole:PopgymCartPole",
            easy={"observed": "velocities"},
            medium={"observed": "velocities", "max_steps": 400},
            hard={"observed": "velocities", "max_steps": 600},
        ),
        *_difficulties(
            "PositionOnlyPendulum",
            "rlstm.envs.popgym.pendulum:PopgymPendulum",
            easy={},
            medium={"max_steps": 150},
            hard={"max_steps": 100},
        ),
        *_difficulties(
            "NoisyPositionOnlyPendulum",
            "rlstm.envs.popgym.pendulum:PopgymPendulum",
            easy={"noise": 0.1},
            medium={"noise": 0.2},
            hard={"noise": 0.3},
        ),
        # RepeatPrevious: 19 of 20 answers are right.
        EnvRow("rlstm/RepeatPrevious-v0", "rlstm.envs.popgym.repeat_previous:RepeatPrevious", reward_threshold=0.9),
        *_difficulties(
            "RepeatPrevious",
            "rlstm.envs.popgym.repeat_previous:RepeatPrevious",
            easy={"num_decks": 1, "k": 4},
            medium={"num_decks": 2, "k": 32},
            hard={"num_decks": 3, "k": 64},
        ),
        *_difficulties(
            "RepeatFirst",
            "rlstm.envs.popgym.repeat_first:RepeatFirst",
            easy={"num_decks": 1},
            medium={"num_decks": 8},
            hard={"num_decks": 16},
        ),
        *_difficulties(
            "Autoencode",
            "rlstm.envs.popgym.autoencode:Autoencode",
            easy={"num_decks": 1},
            medium={"num_decks": 2},
            hard={"num_decks": 3},
        ),
        *_difficulties(
            "CountRecall",
            "rlstm.envs.popgym.count_recall:CountRecall",
            easy={"num_decks": 1, "deck_type": "colors"},
            medium={"num_decks": 2, "deck_type": "suits"},
            hard={"num_decks": 4, "deck_type": "ranks"},
        ),
        *_difficulties(
            "HigherLower",
            "rlstm.envs.popgym.higher_lower:HigherLower",
            easy={"num_decks": 1},
            medium={"num_decks": 2},
            hard={"num_decks": 3},
        ),
        *_difficulties(
            "Concentration",
            "rlstm.envs.popgym.concentration:Concentration",
            easy={"num_decks": 1, "deck_type": "colors"},
            medium={"num_decks": 2, "deck_type": "colors"},
            hard={"num_decks": 1, "deck_type": "ranks"},
        ),
    ),
    "Learning to learn": (
        EnvRow("rlstm/BernoulliBandit-v0", "rlstm.envs.meta.bernoulli_bandit:BernoulliBandit"),
        EnvRow("rlstm/TabularMDP-v0", "rlstm.envs.meta.tabular_mdp:TabularMDP"),
        EnvRow("rlstm/TwoStep-v0", "rlstm.envs.meta.two_step:TwoStep"),
    ),
    "Control without velocities": (
        # CartPole: as for Gymnasium's CartPole-v1.
        EnvRow("rlstm/CartPoleNoVel-v0", "rlstm.envs.control.cartpole_no_vel:CartPoleNoVel", reward_threshold=475.0),
        # Pole balancing: nobody has named a mean return. Mountain car: as for Gymnasium's MountainCarContinuous-v0.
        EnvRow("rlstm/DoublePoleNoVel-v0", "rlstm.envs.control.pole_balancing:PoleBalancing"),
        EnvRow(
            "rlstm/SinglePoleNoVel-v0", "rlstm.envs.control.pole_balancing:PoleBalancing", arguments={"num_poles": 1}
        ),
        EnvRow("rlstm/PendulumNoVel-v0", "rlstm.envs.control.pendulum_no_vel:PendulumNoVel"),
        EnvRow(
            "rlstm/MountainCarContinuousNoVel-v0",
            "rlstm.envs.control.mountain_car_no_vel:MountainCarContinuousNoVel",
            reward_threshold=90.0,
        ),
    ),
    "Sequences with a teacher": (
        EnvRow("rlstm/Sines-v0", "rlstm.envs.sequences.sines:SuperimposedSines"),
        EnvRow("rlstm/MackeyGlass-v0", "rlstm.envs.sequences.mackey_glass:MackeyGlass"),
        # Adding and multiplication: with all errors below .04, the mean squared error is below .0016.
        EnvRow("rlstm/Adding-v0", "rlstm.envs.sequences.adding:Adding", reward_threshold=-0.0016),
        EnvRow(
            "rlstm/Multiplication-v0",
            "rlstm.envs.sequences.adding:Adding",
            reward_threshold=-0.0016,
            arguments={"operation": "product"},
        ),
        # Temporal order: 95 of 100 orders are right.
        EnvRow("rlstm/TemporalOrder-v0", "rlstm.envs.sequences.temporal_order:TemporalOrder", reward_threshold=0.95),
        # Measuring spikes: with all 10 answers nearest to the right delay, their squared errors are below 10 * .05^2.
        EnvRow("rlstm/MeasureSpikes-v0", "rlstm.envs.sequences.timed_spikes:MeasureSpikes", reward_threshold=-0.025),
        EnvRow("rlstm/GenerateSpikes-v0", "rlstm.envs.sequences.timed_spikes:GenerateSpikes"),
        EnvRow("rlstm/AnBn-v0", "rlstm.envs.sequences.counting_languages:CountingLanguage"),
        EnvRow(
            "rlstm/AnBnCn-v0", "rlstm.envs.sequences.counting_languages:CountingLanguage", arguments={"num_letters": 3}
        ),
        EnvRow("rlstm/EmbeddedReber-v0", "rlstm.envs.sequences.reber:EmbeddedReber"),
        # LongLag: 95 of 100 last symbols are foretold.
        EnvRow("rlstm/LongLag-v0", "rlstm.envs.sequences.long_lag:LongLag", reward_threshold=0.95),
    ),
}

ENVS: dict[str, EnvRow] = {row.id: row for rows in _SECTIONS.values() for row in rows}
"""Every environment of ours, by its id."""

SECTIONS: dict[str, tuple[str, ...]] = {title: tuple(row.id for row in rows) for title, rows in _SECTIONS.items()}
"""The ids by kind of task, for listings."""


def register_envs() -> None:
    """Registers all rows of `ENVS` with Gymnasium; those already registered are left alone.

    No `max_episode_steps` are registered: a task's step limit depends on its arguments (`BatchedTask.max_steps`).
    """
    for row in ENVS.values():
        if row.id not in gym.registry:
            gym.register(
                id=row.id,
                entry_point="rlstm.envs.base.batched:SingleEnv",
                vector_entry_point="rlstm.envs.base.batched:BatchedVectorEnv",
                reward_threshold=row.reward_threshold,
                kwargs={"task": row.task, **row.arguments},
            )
