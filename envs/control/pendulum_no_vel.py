"""The pendulum without velocities: swing a rod up and hold it there, seeing only where it points.

Source: Gymnasium's Pendulum-v1, whose physics are in `envs/control/pendulum_physics.py`; a test steps both.
"""

import numpy as np

from rlstm.core.arrays import Array, BoolArray
from rlstm.envs.base.batched_task import Transition, bound, unknown
from rlstm.envs.control.pendulum_physics import Pendulum, stands_upright


class PendulumNoVel(Pendulum):
    """Swing a rod up with a motor that is too weak to lift it, without seeing how fast it turns.

    A stiff rod of 1 metre and 1 kilogram hangs on a motor, which has to swing it to and fro before it stands. The
    dynamics are Gymnasium's Pendulum-v1, the angular velocity is hidden. Two observations on end show it: one step of
    memory is enough in principle.

    ## Action Space
    Box(-2, 2, (1,), float32): the torque in newton metres, counterclockwise, for 0.05 seconds.

    ## Observation Space
    Box(-1, 1, (2,), float32): cosine of the angle, 1 upright, and sine of the angle, positive to the left.

    ## Rewards
    -(angle^2 + 0.1 angular_velocity^2 + 0.001 torque^2) of the state before the step, with the angle from upright
    within half a turn either way, in radians and radians / second.

    ## Starting State
    The angle is uniform on [-pi, pi), the angular velocity on [-1, 1) radians / second.

    ## Episode End
    Truncated after `max_steps` (>= 1, 200 as for Pendulum-v1). `is_success` tells whether the rod then stands: leans at
    most 12 degrees and turns by at most 1 radian / second. Pendulum-v1 itself has no such notion.
    """

    memory = "the last angle, to tell the velocity"
    source = "Gymnasium Pendulum-v1 without velocities, as in rl-baselines3-zoo"
    memory_length = 1  # From one observation to the next.
    optimal_return = bound(0.0, "every step costs something; the best way up isn't known in closed form")
    memoryless_return = unknown("the best feedback from the angle alone isn't known in closed form")

    def __init__(self, num_envs: int, max_steps: int = 200) -> None:
        super().__init__(num_envs, max_steps)

    def advance(self, actions: Array) -> Transition:
        """Turn the rods."""
        costs = self.turn(actions)
        at_limit = self.elapsed_steps >= self.step_limit
        never: BoolArray = np.zeros(self.num_envs, dtype=np.bool_)
        # Most steps are the last of no lane.
        stands = stands_upright(self.angles, self.angular_velocities) & at_limit if at_limit.any() else never.copy()
        return Transition(-costs, never, {"is_success": stands})
