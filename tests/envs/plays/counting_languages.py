"""a^n b^n and a^n b^n c^n."""

from typing import Any

import numpy as np

VARIANTS = {
    "rlstm/AnBn-v0": [
        {"num_letters": 3},
        {"num_letters": 4, "max_n": 2},
        {"num_letters": 3, "min_n": 3, "max_n": 4},
        {"min_n": 8, "max_n": 60},
    ]
}


def one_hot(symbols: Any, num_components: int) -> Any:
    return np.eye(num_components, dtype=int)[symbols]


def count_the_letters(observations: list[Any], env: Any) -> Any:
    num_components, present, read = env.task.num_letters + 1, observations[-1], np.array(observations)
    is_complete = (read == present).sum(axis=0) >= (read == 1).sum(axis=0)
    # Components begin with the letter a, symbol 1: the present letter has present - 1, and present is the next one's.
    sets = one_hot(np.minimum(np.where(is_complete, present, present - 1), num_components - 1), num_components)
    sets[present == 0] = one_hot(0, num_components)
    sets[present == 1] = one_hot(0, num_components) + one_hot(1, num_components)
    return sets


def give_each_letter_the_set_that_follows_it_most_often(observations: list[Any], env: Any) -> Any:
    num_components, present = env.task.num_letters + 1, observations[-1]
    mean_n = (env.task.min_n + env.task.max_n) / 2
    sets = one_hot(present - 1 if mean_n - 1 > 1 else np.minimum(present, num_components - 1), num_components)
    sets[present == 0] = one_hot(0, num_components)
    sets[present == 1] = one_hot(0, num_components) + one_hot(1, num_components)
    return sets


OPTIMAL = {"rlstm/AnBn-v0": count_the_letters}
MEMORYLESS = {"rlstm/AnBn-v0": give_each_letter_the_set_that_follows_it_most_often}
