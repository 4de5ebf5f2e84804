"""CartPole without velocities: balance a pole seeing only where the cart is and how the pole leans.

Source: A. Barto, R. Sutton, C. Anderson, "Neuronlike adaptive elements that can solve difficult learning control
problems", IEEE Trans. SMC 13, 1983, with the constants and the integration of Gymnasium's CartPole-v1; a test steps
both side by side. Hiding the velocities follows Wierstra, Foerster, Peters, Schmidhuber, "Recurrent Policy
Gradients", 2010.
"""

import math
from typing import ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlstm.envs.batched import BatchedTask, BatchedVectorEnv, ReturnReference, SingleEnv, Transition
from rlstm.envs.checks import Array, check_integer
from rlstm.envs.lane_random import BoolArray, FloatArray, IntArray

GRAVITY = 9.8  # metres / second^2
CART_MASS, POLE_MASS = 1.0, 0.1  # kilograms
TOTAL_MASS = CART_MASS + POLE_MASS
HALF_POLE_LENGTH = 0.5  # metres
POLE_MOMENT = POLE_MASS * HALF_POLE_LENGTH  # kilogram metres
PUSH_FORCE = 10.0  # newtons
TIME_STEP = 0.02  # seconds
LARGEST_POSITION = 2.4  # metres
LARGEST_ANGLE = math.radians(12.0)
START_RANGE = 0.05  # metres, metres / second, radians, radians / second
PUSH_RIGHT = 1

IMAGE_HEIGHT, IMAGE_WIDTH = 120, 240  # pixels
PIXELS_PER_METRE = 40
CART_ROW, CART_HALF_WIDTH, CART_HALF_HEIGHT = 90, 12, 5  # pixels
COLOUR_SKY, COLOUR_CART, COLOUR_POLE = (245, 245, 245), (50, 60, 80), (200, 120, 50)


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
    def memory_length(self) -> int:
        """From one observation to the next."""
        return 1

    @property
    def optimal_return(self) -> ReturnReference:
        """The pole stands until the limit."""
        return ReturnReference(
            float(self.step_limit), "exact", "1 a step until the step limit, which simple feedback attains"
        )

    @property
    def memoryless_return(self) -> ReturnReference:
        """Not known."""
        return ReturnReference(
            None, "unknown", "the best feedback from position and angle alone isn't known in closed form"
        )

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Nearly upright and nearly at rest; `new_task` means nothing here."""
        start = (2.0 * self.random.uniform(rows, (4,)) - 1.0) * START_RANGE
        self.positions[rows], self.velocities[rows] = start[:, 0], start[:, 1]
        self.angles[rows], self.angular_velocities[rows] = start[:, 2], start[:, 3]

    def advance(self, actions: Array) -> Transition:
        """One explicit Euler step of the equations of motion.

        The order of operations is that of Gymnasium, so that rounding is the same: an unstable pole would soon make a
        difference in the last digit visible.
        """
        forces = np.where(actions == PUSH_RIGHT, PUSH_FORCE, -PUSH_FORCE)
        cosines, sines = np.cos(self.angles), np.sin(self.angles)
        pushes = (forces + POLE_MOMENT * np.square(self.angular_velocities) * sines) / TOTAL_MASS
        angular_accelerations = (GRAVITY * sines - cosines * pushes) / (
            HALF_POLE_LENGTH * (4.0 / 3.0 - POLE_MASS * np.square(cosines) / TOTAL_MASS)
        )
        accelerations = pushes - POLE_MOMENT * angular_accelerations * cosines / TOTAL_MASS
        self.positions += TIME_STEP * self.velocities
        self.velocities += TIME_STEP * accelerations
        self.angles += TIME_STEP * self.angular_velocities
        self.angular_velocities += TIME_STEP * angular_accelerations
        fallen = (np.abs(self.positions) > LARGEST_POSITION) | (np.abs(self.angles) > LARGEST_ANGLE)
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
        return (
            f"step {self.elapsed_steps[lane]}: "
            f"position {self.positions[lane]:+.3f} m ({self.velocities[lane]:+.3f} m/s), "
            f"angle {self.angles[lane]:+.3f} rad ({self.angular_velocities[lane]:+.3f} rad/s)"
        )

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """The cart, and the pole drawn dot by dot."""
        image = np.full((IMAGE_HEIGHT, IMAGE_WIDTH, 3), COLOUR_SKY, dtype=np.uint8)
        middle = IMAGE_WIDTH / 2 + PIXELS_PER_METRE * self.positions[lane]
        left, right = (int(np.clip(middle + side, 0, IMAGE_WIDTH)) for side in (-CART_HALF_WIDTH, CART_HALF_WIDTH))
        image[CART_ROW - CART_HALF_HEIGHT : CART_ROW + CART_HALF_HEIGHT, left:right] = COLOUR_CART
        along = np.linspace(0.0, 2.0 * HALF_POLE_LENGTH * PIXELS_PER_METRE, 100)
        rows = (CART_ROW - CART_HALF_HEIGHT - along * np.cos(self.angles[lane])).astype(int)
        for thickness in (-1, 0, 1):
            columns = (middle + along * np.sin(self.angles[lane])).astype(int) + thickness
            image[rows, np.clip(columns, 0, IMAGE_WIDTH - 1)] = COLOUR_POLE
        return image


class CartPoleNoVelEnv(SingleEnv):
    """`CartPoleNoVel` as a single environment."""

    task_class: ClassVar[type[BatchedTask]] = CartPoleNoVel


class CartPoleNoVelVectorEnv(BatchedVectorEnv):
    """`CartPoleNoVel` as a vector environment."""

    task_class: ClassVar[type[BatchedTask]] = CartPoleNoVel
