"""Long time lags."""

from typing import Any

import numpy as np

VARIANTS = {
    "rlstm/LongLag-v0": [
        {"p": 2},
        {"p": 7, "form": "random", "num_distractors": 1},
        {"p": 30, "form": "random"},
        {"p": 2, "form": "variable", "stop_probability": 1.0},
        {"p": 10, "form": "variable", "num_distractors": 4},
    ]
}


def repeat_the_first_symbol(observations: list[Any], env: Any) -> Any:
    return observations[0]


def always_answer_x(observations: list[Any], env: Any) -> Any:
    return np.zeros_like(observations[-1])


OPTIMAL = {"rlstm/LongLag-v0": repeat_the_first_symbol}
MEMORYLESS = {"rlstm/LongLag-v0": always_answer_x}
