"""What a search for memory cells is told. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from rlstm.core.errors import unknown_name
from rlstm.core.ranges import AtLeast, Positive, check_path, check_ranges

_OF_THE_COMMAND = ("budget", "jobs", "run_dir", "finalists", "final_seeds")
"""What may differ when a search goes on."""


@dataclass(frozen=True)
class Task:
    """What a cell is to learn."""

    name: str
    env: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)


TASKS = {
    "counting": Task("counting", "rlstm/AnBnCn-v0", {"max_n": 10}),
    "recall": Task("recall", "rlstm/LongLag-v0", {"p": 10, "form": "random", "num_distractors": 4}),
}
"""Tasks by name: to count, a^n b^n c^n, and to keep one symbol over distractors till the end, as in a T-maze."""


@dataclass(frozen=True)
class CellSearchConfig:
    """A search for memory cells by evolution of their structure, begun at the LSTM."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """What cells learn, all of it: counting, recall, or ids of envs that have a teacher."""

    budget: Annotated[int, AtLeast(2)] = 40
    """Structures to try in all, with the LSTM."""

    seed: Annotated[int, AtLeast(0)] = 0
    """Seed of everything random in the search."""

    run_dir: str | None = None
    """Folder of the search; one that is there goes on. Default: a new one under runs/."""

    jobs: Annotated[int, AtLeast(1)] = 1
    """Trainings at a time, each in a process of its own if it is more than one."""

    steps: Annotated[int, AtLeast(1)] = 50_000
    """Steps of sequences that are read in a training."""

    seeds_per_cell: Annotated[int, AtLeast(1)] = 2
    """Trainings of each structure on each task."""

    units: Annotated[int, AtLeast(1)] = 16
    """Units of the LSTM; every other cell has the number of units that gives it as many weights."""

    learning_rate: Annotated[float, Positive] = 0.02
    """Adam's step size."""

    parents: Annotated[int, AtLeast(1)] = 4
    """Best structures that are changed further."""

    children: Annotated[int, AtLeast(1)] = 8
    """Structures of a generation."""

    most_nodes: Annotated[int, AtLeast(14)] = 24
    """Nodes that a cell may have; the LSTM has 14."""

    finalists: Annotated[int, AtLeast(1)] = 3
    """Best structures that are trained once more on fresh seeds, with the LSTM; the best of them is the champion."""

    final_seeds: Annotated[int, AtLeast(1)] = 4
    """Trainings of each of them on each task."""

    env_import: tuple[str, ...] = ()
    """Modules to import first, for tasks of your own."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and tasks that are none."""
        check_ranges(self)
        check_path("run_dir", self.run_dir)
        self.found_tasks()

    def found_tasks(self) -> list[Task]:
        """Return the tasks.

        Raises:
            ValueError: If there is none, one is named twice, or a name is neither a task's nor that of an env.
        """
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks is {' '.join(self.tasks) or 'empty'}; name at least one, and each once.")
        for name in self.tasks:
            if name not in TASKS and "-v" not in name:
                raise unknown_name("task", name, TASKS)
        return [TASKS.get(name, Task(name, name)) for name in self.tasks]

    def definition(self) -> dict[str, Any]:
        """Return what a folder holds the search of: two searches of one definition try the same structures."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _OF_THE_COMMAND}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
