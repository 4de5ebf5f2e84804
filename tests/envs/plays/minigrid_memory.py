"""MiniGrid's Memory."""

from typing import Any

import numpy as np

VARIANTS = {
    "rlstm/MiniGridMemoryS7-v0": [
        {"view_size": 3},
        {"view_size": 3, "max_steps": 5},  # From x = 1 an arm is too far.
        {"size": 11},
        {"size": 9, "random_length": True, "view_size": 5, "max_steps": 12},
    ]
}

LEFT, FORWARD = 0, 2
WALL = 2


def walk_to_the_wall_and_turn_north(observations: list[Any], env: Any) -> Any:
    view_size = env.task.view_size
    ahead = observations[-1][:, view_size // 2, view_size - 2, 0]
    return np.where(ahead == WALL, LEFT, FORWARD)


MEMORYLESS = {"rlstm/MiniGridMemoryS7-v0": walk_to_the_wall_and_turn_north}
