"""POPGym's CartPoles, without noise: with noise the best play isn't known."""

from typing import Any

import numpy as np

VARIANTS = {
    "rlstm/PositionOnlyCartPoleEasy-v0": [
        {"max_steps": 12, "noise": 0.2},
        {"max_steps": 40, "observed": "velocities"},
        {"max_steps": 15, "observed": "velocities", "noise": 0.1},
    ]
}
TIME_STEP = 0.02  # seconds


def balance(observations: list[Any], env: Any) -> Any:
    """Velocities from differences of positions, or positions from the sum of velocities."""
    if env.task.observed == "positions":
        before = observations[-2] if len(observations) > 1 else observations[-1]
        places, speeds = observations[-1], (observations[-1] - before) / TIME_STEP
    else:
        # The first observation is a place; the speeds there aren't seen, so those after the first step stand in.
        seen = observations[1:] or [np.zeros_like(observations[0])]
        places = observations[0] + TIME_STEP * sum([seen[0], *seen[:-1]])
        speeds = seen[-1]
    (position, angle), (velocity, angular_velocity) = places.T, speeds.T
    return (angle + 0.5 * angular_velocity + 0.05 * position + 0.1 * velocity > 0).astype(np.int64)


OPTIMAL = {"rlstm/PositionOnlyCartPoleEasy-v0": balance}
