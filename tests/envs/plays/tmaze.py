"""T-maze in Bakker's form."""

from typing import Any

import numpy as np

VARIANTS = {
    "rlstm/TMaze-v0": [
        {"corridor_length": 1},
        {"corridor_length": 2},
        {"corridor_length": 3, "noise": True, "max_steps": 9},
        {"corridor_length": 50, "noise": True},
    ]
}


def walk_and_turn_as_the_sign_said(observations: list[Any], env: Any) -> Any:
    at_junction = observations[-1][:, 1] > observations[-1][:, ::2].max(axis=1)
    goal_is_north = observations[0][:, 0] == 0
    is_start = len(observations) == 1
    return np.where(at_junction & (not is_start), np.where(goal_is_north, 0, 2), 1)


def walk_and_turn_north(observations: list[Any], env: Any) -> Any:
    at_junction = np.all(observations[-1] == [0, 1, 0], axis=1)
    return np.where(at_junction, 0, 1)


OPTIMAL = {"rlstm/TMaze-v0": walk_and_turn_as_the_sign_said}
MEMORYLESS = {"rlstm/TMaze-v0": walk_and_turn_north}
