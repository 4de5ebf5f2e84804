"""The two-step task: Bayes' rule attains the optimum, and always choosing the same side the memoryless return."""

from typing import Any

import numpy as np

VARIANTS = {
    "rlstm/TwoStep-v0": [
        {"num_trials": 2},
        {"num_trials": 30, "common_probability": 0.7, "reward_probability": 0.8, "swap_probability": 0.1},
        {"num_trials": 5, "common_probability": 1.0, "reward_probability": 1.0, "swap_probability": 0.0},
    ]
}


def choose_the_more_probable_side(observations: list[Any], env: Any) -> Any:
    """Keep P(left is rich) on the env, updated after each trial by where it led and whether it paid."""
    task = env.task
    if len(observations) == 1:
        env.left_is_rich = np.full(env.num_envs, 0.5)
    elif len(observations) % 2 == 1:
        speaks_for_left = (observations[-2] == 1) == task.has_paid
        pays = np.where(speaks_for_left, task.reward_probability, 1.0 - task.reward_probability)
        left = pays * env.left_is_rich
        left /= left + (1.0 - pays) * (1.0 - env.left_is_rich)
        env.left_is_rich = (1.0 - task.swap_probability) * left + task.swap_probability * (1.0 - left)
    return (env.left_is_rich < 0.5).astype(np.int64)


def choose_left(observations: list[Any], env: Any) -> Any:
    return np.zeros(env.num_envs, dtype=np.int64)


OPTIMAL = {"rlstm/TwoStep-v0": choose_the_more_probable_side}
MEMORYLESS = {"rlstm/TwoStep-v0": choose_left}
