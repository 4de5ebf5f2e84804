"""POPGym's CartPoles: balance a pole seeing positions only, noisy positions only, or velocities only.

The physics are in `envs/control/cartpole_physics.py`.
"""

import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import Transition, bound, exact, unknown
from rlstm.envs.base.checks import check_choice, check_number
from rlstm.envs.control.cartpole_physics import LARGEST_ANGLE, LARGEST_POSITION, TIME_STEP, CartPole

POSITION_BOUNDS = np.array([2.0 * LARGEST_POSITION, 2.0 * LARGEST_ANGLE], dtype=np.float32)  # metres, radians
# Twice as fast as cart and pole can be without crossing their whole range in one step, and then there are two more
# steps at most, in which they gain far less than that.
VELOCITY_BOUNDS = 2.0 * POSITION_BOUNDS / np.float32(TIME_STEP)  # metres / second, radians / second


class PopgymCartPole(CartPole):
    """Balance a pole on a cart by pushing the cart, seeing half of the state.

    A pole stands on a cart that moves along a track without friction; the dynamics are Gymnasium's CartPole-v1. From
    positions alone, two observations on end show the velocities. With noise many must be averaged. From velocities
    alone, the position and the angle are the sum of all of them since the start.

    | popgym | Easy, Medium, Hard |
    |---|---|
    | PositionOnlyCartPole | `max_steps` 200, 400, 600 |
    | NoisyPositionOnlyCartPole | `noise` 0.1, 0.2, 0.3, `max_steps` 200 |
    | VelocityOnlyCartPole | `observed` "velocities", `max_steps` 200, 400, 600 |

    ## Action Space
    Discrete(2): 0 pushes the cart to the left, 1 to the right, with 10 newtons for 0.02 seconds.

    ## Observation Space
    Box, shape (2,), float32. Positions with noise are clipped to the bounds.

    | `observed` | index | observation | bounds |
    |---|---|---|---|
    | "positions" | 0 | position of the cart, metres | ±4.8 |
    | | 1 | angle of the pole from upright, radians | ±0.419 (24 degrees) |
    | "velocities" | 0 | velocity of the cart, metres / second | ±480, never attained |
    | | 1 | angular velocity of the pole, radians / second | ±41.9, never attained |

    The first observation of an episode is position and angle in either case. With "velocities" this looks like an
    oversight of popgym's, but it is what its results are of. popgym's bounds of velocities are infinite.

    ## Rewards
    1 / T for every step, also the last, with T = `max_steps`.

    ## Starting State
    Position, velocity, angle and angular velocity are uniform on [-0.05, 0.05].

    ## Episode End
    Terminated when the cart is more than 2.4 metres from the middle or the pole leans more than 12 degrees. Truncated
    after T steps. `is_success` tells whether the pole stood for all of them.

    ## Arguments
    - `max_steps`: T >= 1.
    - `observed`: "positions" or "velocities".
    - `noise`: the standard deviation of normal noise, new at each step, on both numbers of an observation; from 0 to
      10.
    """

    memory = "past observations, to tell the half of the state that isn't seen"
    source = "Morad et al., POPGym, ICLR 2023"
    state_arrays = (*CartPole.state_arrays, "noises")
    memoryless_return = unknown("the best feedback from one observation isn't known in closed form")

    def __init__(self, num_envs: int, max_steps: int = 200, observed: str = "positions", noise: float = 0.0) -> None:
        check_choice("observed", observed, ("positions", "velocities"))
        check_number("noise", noise, 0.0, 10.0)
        bounds = POSITION_BOUNDS if observed == "positions" else VELOCITY_BOUNDS
        super().__init__(num_envs, bounds, max_steps)
        self.observed, self.noise, self.bounds = observed, float(noise), bounds
        self.noises: npt.NDArray[np.float32] = np.zeros((num_envs, 2), dtype=np.float32)  # On the present observation.
        # From one observation to the next, if that is enough.
        self.memory_length = 1 if self.observed == "positions" and self.noise == 0.0 else None
        self.optimal_return = exact(1.0, "1 / T a step for T steps, which simple feedback attains")
        if self.noise > 0.0:
            self.optimal_return = bound(1.0, "1 / T a step for T steps; what noise takes from it isn't known")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw starts nearly upright and nearly at rest; `new_task` means nothing here."""
        super().begin_episodes(rows, new_task)
        if self.noise > 0.0:
            self.noises[rows] = self.noise * self.random.normal(rows, (2,))

    def advance(self, actions: Array) -> Transition:
        """Push the carts, and draw new noise."""
        fallen, stood = self.push(actions)
        if self.noise > 0.0:
            self.noises[:] = self.noise * self.random.normal(self.every_lane, (2,))
        return Transition(np.full(self.num_envs, 1.0 / self.step_limit), fallen, {"is_success": stood})

    def observe(self) -> Array:
        """Return positions and angles, or their velocities, with the noise, (B, 2)."""
        observations = np.empty((self.num_envs, 2), dtype=np.float32)
        if self.observed == "positions":
            observations[:, 0], observations[:, 1] = self.positions, self.angles
        else:
            is_first = self.elapsed_steps == 0
            observations[:, 0] = np.where(is_first, self.positions, self.velocities)
            observations[:, 1] = np.where(is_first, self.angles, self.angular_velocities)
        if self.noise > 0.0:
            observations += self.noises
            observations = np.clip(observations, -self.bounds, self.bounds)
        return observations
