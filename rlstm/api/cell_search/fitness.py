"""How well a cell learns a task: a short training with a teacher, by backpropagation through time with Adam."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from rlstm.api.cell_search.plan import Task
from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.core.cell_graphs import INPUT, LAST_OUTPUT, CellGraph
from rlstm.core.errors import NonFiniteError
from rlstm.core.process import prepare_process
from rlstm.training.config import refusals_name_settings
from rlstm.training.teaching import Teaching


@dataclass(frozen=True)
class Fitness:
    """How well a cell learnt a task with one seed."""

    loss: float | None
    """Mean loss over the second half of the updates, whose sequences are all new; None if numbers left the finite."""

    right: float | None
    """Share of right answers over the same updates; None where answers are numbers."""

    hidden_size: int
    parameters: int
    """Of the cell."""


def fitness(graph: CellGraph, task: Task, seed: int, *, steps: int, units: int, learning_rate: float) -> Fitness:
    """Train a policy with a cell and return how well it went; the same arguments give the same numbers.

    Args:
        graph: The cell.
        task: What it learns.
        seed: Of the weights and the sequences.
        steps: Steps of sequences that are read.
        units: Of the LSTM that the cell shall be as large as, see ``hidden_size``.
        learning_rate: Adam's step size.

    Raises:
        ConfigError: If the task has no teacher.
    """
    prepare_process(1)  # The last bits depend on the number of threads.
    with closing(untrained(task, seed, steps=steps, learning_rate=learning_rate, hidden_size=units)) as reference:
        lstm: Any = reference.policy.actor.cell
    size = hidden_size(graph, lstm.input_size, num_parameters(lstm.graph, lstm.input_size, units))
    cell = {"hidden_size": size, "cell_kwargs": {"graph": graph.table()}}
    with closing(untrained(task, seed, steps=steps, learning_rate=learning_rate, **cell)) as training:
        losses, right = _learn(training, steps)
    second_half = slice(len(losses) // 2, None)
    parameters = num_parameters(graph, lstm.input_size, size)
    return Fitness(_mean(losses[second_half]), _mean(right[second_half]), size, parameters)


def untrained(task: Task, seed: int, *, steps: int, learning_rate: float, **settings: Any) -> Teaching:
    """Return a training of the LSTM, unless the settings have another graph, that has not begun.

    Raises:
        ConfigError: If the task has no teacher.
    """
    task_settings: dict[str, Any] = {"env": task.env, "env_kwargs": dict(task.env_kwargs), "total_steps": steps}
    run: dict[str, Any] = {"seed": seed, "learning_rate": learning_rate, "eval_env": "none", "device": "cpu"}
    config = make_config("teacher", cell="graph", **task_settings, **run, **settings)
    from rlstm.agents import load_agent

    agent_type = load_agent(config.agent)[0]
    with refusals_name_settings():
        return Teaching(config, agent_type, resolve_env(config.env))


def _learn(training: Teaching, steps: int) -> tuple[list[float], list[float]]:
    """Train, and return the loss of every update and the share of right answers; nothing if it failed."""
    losses, right = [], []
    try:
        while training.step < steps:
            metrics, _ = training.update()
            losses += [metrics[name] for name in ("train/loss",) if name in metrics]  # None where nothing was asked.
            right += [metrics[name] for name in ("teacher/right_answers",) if name in metrics]
    except NonFiniteError:
        return [], []
    return losses, right


def num_parameters(graph: CellGraph, input_size: int, units: int) -> int:
    """Return how many weights a cell has."""
    linear = list(graph.of_op("linear"))
    of_input, of_state = (sum(read in node.reads for node in linear) for read in (INPUT, LAST_OUTPUT))
    return units * (of_input * input_size + of_state * units + len(linear))


def hidden_size(graph: CellGraph, input_size: int, parameters: int) -> int:
    """Return the number of units with which a cell has as many weights as nearly as can be, of two the smaller one."""
    units = 1
    while num_parameters(graph, input_size, units + 1) <= parameters:
        units += 1
    gaps = {size: abs(num_parameters(graph, input_size, size) - parameters) for size in (units, units + 1)}
    return min(gaps, key=gaps.__getitem__)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
