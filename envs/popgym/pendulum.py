"""POPGym's pendulums: swing up a pendulum seeing its direction only, or its noisy direction only.

The physics are in `envs/control/pendulum_physics.py`.
"""

import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import Transition, bound, unknown
from rlstm.envs.base.checks import check_number
from rlstm.envs.control.pendulum_physics import Pendulum, stands_upright

# Half of popgym's largest cost of a step, that of a rod that hangs down, turns at full speed and is pushed fully.
HALF_LARGEST_COST = 16.2736044 / 2.0


class PopgymPendulum(Pendulum):
    """Swing up a rod by a motor too weak to lift it at once, and hold it upright, without seeing how fast it turns.

    The dynamics are Gymnasium's Pendulum-v1, the angular velocity is hidden. Two observations on end show it; with
    normal noise, new at each step and of the standard deviation `noise` from 0 to 10 on cosine and sine, many must be
    averaged.

    | popgym | Easy, Medium, Hard |
    |---|---|
    | PositionOnlyPendulum | `max_steps` 200, 150, 100 |
    | NoisyPositionOnlyPendulum | `noise` 0.1, 0.2, 0.3, `max_steps` 200 |

    ## Action Space
    Box(-2, 2, (1,), float32): the torque, newton metres, for 0.05 seconds; counterclockwise is positive.

    ## Observation Space
    Box(-1, 1, (2,), float32): cosine and sine of the angle from upright, clipped to these bounds if there is noise.

    ## Rewards
    (1 - cost / 8.1368022) / T for every step, with T = `max_steps` >= 1 and

        cost = angle^2 + 0.1 angular_velocity^2 + 0.001 torque^2,

    of the state before the step, the angle in [-pi, pi] radians: 1 / T when it stands, -1 / T at the worst.

    ## Starting State
    The angle is uniform on [-pi, pi], the angular velocity on [-1, 1].

    ## Episode End
    Truncated after T steps. `is_success` tells whether the rod then stands: it leans at most 12 degrees and turns by
    at most 1 radian / second.
    """

    memory = "past directions, to tell the angular velocity"
    source = "Morad et al., POPGym, ICLR 2023"
    state_arrays = (*Pendulum.state_arrays, "noises")
    optimal_return = bound(1.0, "1 / T a step for a rod that stands; most starts must swing up first")
    memoryless_return = unknown("the best feedback from one observation isn't known in closed form")

    def __init__(self, num_envs: int, max_steps: int = 200, noise: float = 0.0) -> None:
        check_number("noise", noise, 0.0, 10.0)
        super().__init__(num_envs, max_steps)
        self.noise = float(noise)
        self.noises: npt.NDArray[np.float32] = np.zeros((num_envs, 2), dtype=np.float32)  # On the present observation.
        self.memory_length = 1 if self.noise == 0.0 else None  # From one observation to the next, if that is enough.

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw any direction, slow; `new_task` means nothing here."""
        super().begin_episodes(rows, new_task)
        if self.noise > 0.0:
            self.noises[rows] = self.noise * self.random.normal(rows, (2,))

    def advance(self, actions: Array) -> Transition:
        """Turn the rods, and draw new noise."""
        costs = self.turn(actions)
        if self.noise > 0.0:
            self.noises[:] = self.noise * self.random.normal(self.every_lane, (2,))
        rewards = (1.0 - costs / HALF_LARGEST_COST) / self.step_limit
        success = stands_upright(self.angles, self.angular_velocities)
        return Transition(rewards, np.zeros(self.num_envs, dtype=np.bool_), {"is_success": success})

    def observe(self) -> Array:
        """Return cosines and sines with the noise, (B, 2)."""
        observations = super().observe()
        if self.noise > 0.0:
            observations += self.noises
            observations = np.clip(observations, -1.0, 1.0)
        return observations
