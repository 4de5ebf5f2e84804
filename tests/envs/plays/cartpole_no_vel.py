"""CartPole without velocities."""

from typing import Any

import numpy as np

VARIANTS = {"rlstm/CartPoleNoVel-v0": [{"max_steps": 12}]}


def balance_by_differences(observations: list[Any], env: Any) -> Any:
    position, angle = observations[-1].T
    before = observations[-2] if len(observations) > 1 else observations[-1]
    velocity, angular_velocity = ((observations[-1] - before) / 0.02).T
    return (angle + 0.5 * angular_velocity + 0.05 * position + 0.1 * velocity > 0).astype(np.int64)


OPTIMAL = {"rlstm/CartPoleNoVel-v0": balance_by_differences}
