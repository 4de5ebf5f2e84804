"""bsuite's memory chain."""

from typing import Any

import numpy as np

VARIANTS = {
    "rlstm/MemoryLength-v0": [
        {"memory_length": 1},
        {"memory_length": 1, "num_bits": 3},
        {"memory_length": 2, "num_bits": 10},
        {"memory_length": 5, "num_bits": 4},
    ]
}


def answer_the_bit_asked_for(observations: list[Any], env: Any) -> Any:
    query = observations[-1][:, 1].astype(int)
    return (observations[0][np.arange(env.num_envs), 2 + query] > 0).astype(int)


def answer_from_what_is_in_view(observations: list[Any], env: Any) -> Any:
    return answer_the_bit_asked_for(observations[-1:], env)


OPTIMAL = {"rlstm/MemoryLength-v0": answer_the_bit_asked_for}
MEMORYLESS = {"rlstm/MemoryLength-v0": answer_from_what_is_in_view}
