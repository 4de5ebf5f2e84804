"""The adding and the multiplication problem."""

from typing import Any

import numpy as np

VARIANTS = {"rlstm/Adding-v0": [{"length": 4}, {"length": 11, "operation": "product"}, {"length": 30}]}


def combine_the_marked_numbers(observations: list[Any], env: Any) -> Any:
    if len(observations) < env.task.length:
        return np.zeros((env.num_envs, 1))
    pairs = np.stack(observations).astype(np.float64)
    is_marked = pairs[:, :, 1] == 1
    if env.task.operation == "sum":
        answers = 0.5 + np.where(is_marked, pairs[:, :, 0], 0).sum(axis=0) / 4
    else:
        answers = np.where(is_marked, pairs[:, :, 0], 1).prod(axis=0)
    # Envs whose episode is over have gone on to the next, with more marks than two.
    return np.clip(answers, 0, 1)[:, None]


def answer_the_mean(observations: list[Any], env: Any) -> Any:
    task = env.task
    if task.operation == "sum":
        return np.full((env.num_envs, 1), 0.5)
    first_mark_within, half = min(10, task.length // 2), task.length // 2
    first_is_marked = 1 - (1 - 1 / first_mark_within) * (1 - 1 / (half - 1))
    return np.full((env.num_envs, 1), first_is_marked / 2 + (1 - first_is_marked) / 4)


OPTIMAL = {"rlstm/Adding-v0": combine_the_marked_numbers}
MEMORYLESS = {"rlstm/Adding-v0": answer_the_mean}
