"""CartPole without velocities: balance a pole seeing only where the cart is and how the pole leans.

Source: Gymnasium's CartPole-v1, with its physics from `envs/control/cartpole_physics.py`. Hiding the velocities follows
Wierstra, Foerster, Peters, Schmidhuber, "Recurrent Policy Gradients", 2010.
"""

import numpy as np

from rlstm.core.arrays import Array
from rlstm.envs.base.batched_task import Transition, exact, unknown
from rlstm.envs.control.cartpole_physics import LARGEST_ANGLE, LARGEST_POSITION, CartPole


class CartPoleNoVel(CartPole):
    """Balance a pole on a cart by pushing the cart, without seeing velocities.

    A pole stands on a cart that moves along a track without friction. The dynamics are Gymnasium's CartPole-v1, the
    velocities are hidden. Two observations on end show them: one step of memory is enough in principle.

    ## Action Space
    Discrete(2): 0 pushes the cart to the left, 1 to the right, with 10 newtons for 0.02 seconds.

    ## Observation Space
    Box, shape (2,), float32, with the bounds of CartPole-v1: the position of the cart within ±4.8 metres, and the angle
    of the pole from upright within ±0.419 radians (24 degrees).

    ## Rewards
    1 for every step, also the last.

    ## Starting State
    Position, velocity, angle and angular velocity are uniform on [-0.05, 0.05].

    ## Episode End
    Terminated when the cart is more than 2.4 metres from the middle or the pole leans more than 12 degrees. Truncated
    after `max_steps` (>= 1, 500 as for CartPole-v1). `is_success` tells whether the pole stood for all of them.
    """

    memory = "the last position and angle, to tell the velocities"
    source = "Gymnasium CartPole-v1 without velocities, after Wierstra et al., Recurrent Policy Gradients, 2010"
    memory_length = 1  # From one observation to the next.
    memoryless_return = unknown("the best feedback from position and angle alone isn't known in closed form")

    def __init__(self, num_envs: int, max_steps: int = 500) -> None:
        bounds = np.array([2.0 * LARGEST_POSITION, 2.0 * LARGEST_ANGLE], dtype=np.float32)
        super().__init__(num_envs, bounds, max_steps)
        self.optimal_return = exact(float(max_steps), "1 a step until the step limit, which simple feedback attains")

    def advance(self, actions: Array) -> Transition:
        """Push the carts."""
        fallen, stood = self.push(actions)
        return Transition(np.ones(self.num_envs), fallen, {"is_success": stood})

    def observe(self) -> Array:
        """Return positions and angles, (B, 2)."""
        observations = np.empty((self.num_envs, 2), dtype=np.float32)
        observations[:, 0], observations[:, 1] = self.positions, self.angles
        return observations
