"""The table of our environments, `ENVS`, and their registration with Gymnasium.

A new environment is one file with a task, and one row here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import gymnasium as gym

from rlstm.envs.base.batched_task import BatchedTask, ReturnReference
from rlstm.envs.base.checks import load_class


@dataclass(frozen=True)
class EnvDescription:
    """What a user wants to know before choosing an environment.

    `id` is for `gymnasium.make`; the other attributes are those of the task, explained at `BatchedTask`.
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
        reward_threshold: The mean return from which on the task counts as solved; None where no source names one.
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
        """Describe the environment as it is with these arguments."""
        task = self.load_task()(1, **{**self.arguments, **task_arguments})
        names = [field.name for field in fields(EnvDescription) if field.name != "id"]
        return EnvDescription(self.id, **{name: getattr(task, name) for name in names})


def _env(name: str, task: str, reward_threshold: float | None = None, **arguments: Any) -> EnvRow:
    """Return the row of an environment, rlstm/Name-v0, whose task is "family.module:Task"."""
    return EnvRow(f"rlstm/{name}-v0", f"rlstm.envs.{task}", reward_threshold, arguments)


def _levels(name: str, task: str, *levels: Mapping[str, Any]) -> tuple[EnvRow, ...]:
    """Return one row for each level of a task, by its arguments: rlstm/NameEasy-v0, NameMedium and NameHard."""
    return tuple(
        EnvRow(f"rlstm/{name}{level}-v0", f"rlstm.envs.{task}", arguments=arguments, level=level)
        for level, arguments in zip(("Easy", "Medium", "Hard"), levels, strict=True)
    )


_LONGER: tuple[dict[str, Any], ...] = ({}, {"max_steps": 400}, {"max_steps": 600})
_NOISIER = ({"noise": 0.1}, {"noise": 0.2}, {"noise": 0.3})
_MORE_DECKS = ({"num_decks": 1}, {"num_decks": 2}, {"num_decks": 3})

_SECTIONS: dict[str, tuple[EnvRow, ...]] = {
    "Corridors and mazes": (
        # T-maze: 95 of 100 turns are right.
        _env("TMaze", "mazes.tmaze:TMaze", 3.795),
        # Passive and active T-maze: no detour, and 95 of 100 turns are right.
        _env("PassiveTMaze", "mazes.ni_tmaze:NiTMaze", 0.95),
        _env("ActiveTMaze", "mazes.ni_tmaze:NiTMaze", 0.95, corridor_length=20, active=True),
        _env("Maze89", "mazes.maze89:Maze89"),
    ),
    "bsuite": (
        # Memory chain: 19 of 20 answers are right.
        _env("MemoryLength", "bsuite.memory_chain:MemoryChain", 0.9),
        _env("MemorySize", "bsuite.memory_chain:MemoryChain", 0.9, memory_length=2, num_bits=10),
    ),
    "POPGym's tasks": (
        *_levels(
            "MultiarmedBandit",
            "meta.multiarmed_bandit:MultiarmedBandit",
            {},
            {"num_arms": 20, "max_steps": 400},
            {"num_arms": 30, "max_steps": 600},
        ),
        *_levels("Battleship", "popgym.battleship:Battleship", {}, {"board_size": 10}, {"board_size": 12}),
        *_levels(
            "Minesweeper",
            "popgym.minesweeper:Minesweeper",
            {},
            {"board_size": 6, "num_mines": 6},
            {"board_size": 8, "num_mines": 10},
        ),
        *_levels("PositionOnlyCartPole", "popgym.cartpole:PopgymCartPole", *_LONGER),
        *_levels("NoisyPositionOnlyCartPole", "popgym.cartpole:PopgymCartPole", *_NOISIER),
        *_levels(
            "VelocityOnlyCartPole",
            "popgym.cartpole:PopgymCartPole",
            *({"observed": "velocities", **longer} for longer in _LONGER),
        ),
        *_levels("PositionOnlyPendulum", "popgym.pendulum:PopgymPendulum", {}, {"max_steps": 150}, {"max_steps": 100}),
        *_levels("NoisyPositionOnlyPendulum", "popgym.pendulum:PopgymPendulum", *_NOISIER),
        # RepeatPrevious: 19 of 20 answers are right.
        _env("RepeatPrevious", "popgym.repeat_previous:RepeatPrevious", 0.9),
        *_levels(
            "RepeatPrevious",
            "popgym.repeat_previous:RepeatPrevious",
            {"num_decks": 1, "k": 4},
            {"num_decks": 2, "k": 32},
            {"num_decks": 3, "k": 64},
        ),
        *_levels("RepeatFirst", "popgym.repeat_first:RepeatFirst", *({"num_decks": decks} for decks in (1, 8, 16))),
        *_levels("Autoencode", "popgym.autoencode:Autoencode", *_MORE_DECKS),
        *_levels(
            "CountRecall",
            "popgym.count_recall:CountRecall",
            {"num_decks": 1, "deck_type": "colors"},
            {"num_decks": 2, "deck_type": "suits"},
            {"num_decks": 4, "deck_type": "ranks"},
        ),
        *_levels("HigherLower", "popgym.higher_lower:HigherLower", *_MORE_DECKS),
        *_levels(
            "Concentration",
            "popgym.concentration:Concentration",
            {"num_decks": 1, "deck_type": "colors"},
            {"num_decks": 2, "deck_type": "colors"},
            {"num_decks": 1, "deck_type": "ranks"},
        ),
    ),
    "MiniGrid's tasks": (
        _env("MiniGridMemoryS7", "minigrid.memory:MiniGridMemory"),
        _env("MiniGridMemoryS9", "minigrid.memory:MiniGridMemory", size=9),
        _env("MiniGridMemoryS11", "minigrid.memory:MiniGridMemory", size=11),
        _env("MiniGridMemoryS13", "minigrid.memory:MiniGridMemory", size=13),
        _env("MiniGridMemoryS13Random", "minigrid.memory:MiniGridMemory", size=13, random_length=True),
        _env("MiniGridMemoryS17Random", "minigrid.memory:MiniGridMemory", size=17, random_length=True),
    ),
    "Learning to learn": (
        _env("BernoulliBandit", "meta.bernoulli_bandit:BernoulliBandit"),
        _env("TabularMDP", "meta.tabular_mdp:TabularMDP"),
        _env("TwoStep", "meta.two_step:TwoStep"),
    ),
    "Control without velocities": (
        # CartPole: as for Gymnasium's CartPole-v1.
        _env("CartPoleNoVel", "control.cartpole_no_vel:CartPoleNoVel", 475.0),
        # Pole balancing: no mean return is named anywhere. Mountain car: as for Gymnasium's MountainCarContinuous-v0.
        _env("DoublePoleNoVel", "control.pole_balancing:PoleBalancing"),
        _env("SinglePoleNoVel", "control.pole_balancing:PoleBalancing", num_poles=1),
        _env("PendulumNoVel", "control.pendulum_no_vel:PendulumNoVel"),
        _env("MountainCarContinuousNoVel", "control.mountain_car_no_vel:MountainCarContinuousNoVel", 90.0),
    ),
    "Sequences with a teacher": (
        _env("Sines", "sequences.sines:SuperimposedSines"),
        _env("MackeyGlass", "sequences.mackey_glass:MackeyGlass"),
        # Adding and multiplication: with all errors below .04, the mean squared error is below .0016.
        _env("Adding", "sequences.adding:Adding", -0.0016),
        _env("Multiplication", "sequences.adding:Adding", -0.0016, operation="product"),
        # Temporal order: 95 of 100 orders are right.
        _env("TemporalOrder", "sequences.temporal_order:TemporalOrder", 0.95),
        # Measuring spikes: with all 10 answers nearest to the right delay, their squared errors are below 10 * .05^2.
        _env("MeasureSpikes", "sequences.timed_spikes:MeasureSpikes", -0.025),
        _env("GenerateSpikes", "sequences.timed_spikes:GenerateSpikes"),
        _env("AnBn", "sequences.counting_languages:CountingLanguage"),
        _env("AnBnCn", "sequences.counting_languages:CountingLanguage", num_letters=3),
        _env("EmbeddedReber", "sequences.reber:EmbeddedReber"),
        # LongLag: 95 of 100 last symbols are foretold.
        _env("LongLag", "sequences.long_lag:LongLag", 0.95),
        _env("Quadratics", "sequences.quadratics:Quadratics"),
    ),
    "Labels of whole sequences": (
        # No mean return is named anywhere.
        _env("DigitStrips", "sequences.digit_strips:DigitStrips"),
        _env("SpokenStrings", "sequences.spoken:SpokenStrings"),
    ),
}

ENVS: dict[str, EnvRow] = {row.id: row for rows in _SECTIONS.values() for row in rows}
"""Every environment of ours, by its id."""

SECTIONS: dict[str, tuple[str, ...]] = {title: tuple(row.id for row in rows) for title, rows in _SECTIONS.items()}
"""The ids by kind of task, for listings."""


def register_envs() -> None:
    """Register all rows of `ENVS` with Gymnasium; those already registered are left alone.

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
