"""CartPole without velocities: balance a pole seeing only where the cart is and how the pole leans.

Source: Gymnasium's CartPole-v1, with its physics from `envs/control/cartpole_physics.py`. Hiding the velocities follows
Wierstra, Foerster, Peters, Schmidhuber, "Recurrent Policy Gradients", 2010.
"""

from typing import ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, ReturnReference, Transition, exact, unknown
from rlstm.envs.base.checks import check_integer
from rlstm.envs.control.cartpole_physics import (
    LARGEST_ANGLE,
    LARGEST_POSITION,
    TIME_STEP,
    cartpole_pixels,
    cartpole_text,
    draw_cartpole_starts,
    has_fallen,
    step_cartpole,
)


class CartPoleNoVel(BatchedTask):
    """Balance a pole on a cart by pushing the cart, without seeing velocities.

    ## Description
    A pole stands on a cart that moves along a track without friction. The dynamics are Gymnasium's CartPole-v1, the
    velocities are hidden. Two observations on end show them: one step of memory is enough in principle.

    ## Action Space
    Discrete(2): 0 pushes the cart to the left, 1 to the right, with 10 newtons for 0.02 seconds.

    ## Observation Space
    Box, shape (2,), float32, with the bounds of CartPole-v1.

    | index | observation | bounds |
    |---|---|---|
    | 0 | position of the cart, metres | ±4.8 |
    | 1 | angle of the pole from upright, radians | ±0.419 (24 degrees) |

    ## Rewards
    1 for every step, also the last.

    ## Starting State
    Position, velocity, angle and angular velocity are uniform on [-0.05, 0.05].

    ## Episode End
    Terminated when the cart is more than 2.4 metres from the middle or the pole leans more than 12 degrees. Truncated
    after `max_steps`. `is_success` tells whether the pole stood for all of them.

    ## Arguments
    - `max_steps`: 1 or more, default 500 as for CartPole-v1.

    All episodes have the same dynamics: there is no task to draw, nor to keep for trials.

    ## Version History
    v0: first version.
    """

    memory: ClassVar[str] = "the last position and angle, to tell the velocities"
    source: ClassVar[str] = (
        "Gymnasium CartPole-v1 without velocities, after Wierstra et al., Recurrent Policy Gradients, 2010"
    )
    state_arrays: ClassVar[tuple[str, ...]] = ("positions", "velocities", "angles", "angular_velocities")
    render_fps: ClassVar[int] = round(1.0 / TIME_STEP)
    memory_length = 1  # From one observation to the next.
    memoryless_return = unknown("the best feedback from position and angle alone isn't known in closed form")

    def __init__(self, num_envs: int, max_steps: int = 500) -> None:
        check_integer("max_steps", max_steps, 1)
        bounds = np.array([2.0 * LARGEST_POSITION, 2.0 * LARGEST_ANGLE], dtype=np.float32)
        super().__init__(num_envs, gym.spaces.Box(-bounds, bounds), gym.spaces.Discrete(2), max_steps)
        self.step_limit = max_steps
        self.positions: FloatArray = np.zeros(num_envs)  # metres
        self.velocities: FloatArray = np.zeros(num_envs)  # metres / second
        self.angles: FloatArray = np.zeros(num_envs)  # radians
        self.angular_velocities: FloatArray = np.zeros(num_envs)  # radians / second

    @property
    def optimal_return(self) -> ReturnReference:
        """The pole stands until the limit."""
        return exact(float(self.step_limit), "1 a step until the step limit, which simple feedback attains")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Nearly upright and nearly at rest; `new_task` means nothing here."""
        start = draw_cartpole_starts(self.random, rows)
        self.positions[rows], self.velocities[rows] = start[:, 0], start[:, 1]
        self.angles[rows], self.angular_velocities[rows] = start[:, 2], start[:, 3]

    def advance(self, actions: Array) -> Transition:
        """One step of the equations of motion."""
        self.positions, self.velocities, self.angles, self.angular_velocities = step_cartpole(
            self.positions, self.velocities, self.angles, self.angular_velocities, actions
        )
        fallen = has_fallen(self.positions, self.angles)
        stood = (self.elapsed_steps >= self.step_limit) & ~fallen
        return Transition(np.ones(self.num_envs), fallen, {"is_success": stood})

    def observe(self) -> Array:
        """Positions and angles, (B, 2)."""
        observations = np.empty((self.num_envs, 2), dtype=np.float32)
        observations[:, 0] = self.positions
        observations[:, 1] = self.angles
        return observations

    def render_text(self, lane: int) -> str:
        """Position, angle and the hidden velocities."""
        state = (self.positions[lane], self.velocities[lane], self.angles[lane], self.angular_velocities[lane])
        return f"step {self.elapsed_steps[lane]}: {cartpole_text(*state)}"

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """The cart and the pole."""
        return cartpole_pixels(self.positions[lane], self.angles[lane])
