"""Bernoulli bandits: any arm is as good as another as long as nothing is known. The optimum is a bound."""

from typing import Any

import numpy as np

VARIANTS = {
    "rlstm/BernoulliBandit-v0": [
        {"num_arms": 2, "pulls": 7},
        {"probabilities": "correlated", "pulls": 3},
        {"probabilities": "easy"},
        {"probabilities": "hard", "pulls": 100},
    ]
}


def pull_the_last_arm(observations: list[Any], env: Any) -> Any:
    return np.full(env.num_envs, env.task.num_arms - 1)


MEMORYLESS = {"rlstm/BernoulliBandit-v0": pull_the_last_arm}
