"""Passive and active T-maze of Ni et al."""

from typing import Any

import numpy as np

VARIANTS = {
    "rlstm/PassiveTMaze-v0": [
        {"corridor_length": 1},
        {"corridor_length": 4},
        {"corridor_length": 1, "active": True},
        {"corridor_length": 5, "active": True},
    ]
}

EAST, NORTH, WEST, SOUTH = range(4)


def visit_the_oracle_and_turn_as_it_said(observations: list[Any], env: Any) -> Any:
    if env.task.active and len(observations) == 1:
        return np.full(env.num_envs, WEST)
    at_junction = observations[-1][:, 0] == 1
    # The oracle is seen at the start, or one step later.
    goal_is_north = observations[min(int(env.task.active), len(observations) - 1)][:, 1] > 0
    return np.where(at_junction, np.where(goal_is_north, NORTH, SOUTH), EAST)


def walk_and_turn_north(observations: list[Any], env: Any) -> Any:
    return np.where(observations[-1][:, 0] == 1, NORTH, EAST)


OPTIMAL = {"rlstm/PassiveTMaze-v0": visit_the_oracle_and_turn_as_it_said}
MEMORYLESS = {"rlstm/PassiveTMaze-v0": walk_and_turn_north}
