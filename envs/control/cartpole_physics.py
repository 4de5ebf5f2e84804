"""The cart and its pole: `CartPole`, which moves and draws them, and `step_cartpole`, one step of their motion.

Source: A. Barto, R. Sutton, C. Anderson, "Neuronlike adaptive elements that can solve difficult learning control
problems", IEEE Trans. SMC 13, 1983, with the constants and the integration of Gymnasium's CartPole-v1; a test steps
both side by side.
"""

import math
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask
from rlstm.envs.base.checks import check_integer

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


def step_cartpole(
    positions: FloatArray, velocities: FloatArray, angles: FloatArray, angular_velocities: FloatArray, actions: Array
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Take one explicit Euler step of 0.02 seconds of the equations of motion.

    The order of operations is that of Gymnasium, so that rounding is the same: an unstable pole would soon make a
    difference in the last digit visible.

    Positions and velocities of the carts are in metres and metres / second, angles of the poles from upright and
    angular velocities in radians and radians / second, (B,) each; action 0 pushes to the left, 1 to the right. Returned
    are the four after the step, all of them fresh.
    """
    forces = np.where(actions == PUSH_RIGHT, PUSH_FORCE, -PUSH_FORCE)
    cosines, sines = np.cos(angles), np.sin(angles)
    pushes = (forces + POLE_MOMENT * np.square(angular_velocities) * sines) / TOTAL_MASS
    angular_accelerations = (GRAVITY * sines - cosines * pushes) / (
        HALF_POLE_LENGTH * (4.0 / 3.0 - POLE_MASS * np.square(cosines) / TOTAL_MASS)
    )
    accelerations = pushes - POLE_MOMENT * angular_accelerations * cosines / TOTAL_MASS
    return (
        positions + TIME_STEP * velocities,
        velocities + TIME_STEP * accelerations,
        angles + TIME_STEP * angular_velocities,
        angular_velocities + TIME_STEP * angular_accelerations,
    )


def draw_cart(position: float, poles: Iterable[tuple[float, float, tuple[int, int, int]]]) -> npt.NDArray[np.uint8]:
    """Draw a cart, and its poles dot by dot.

    Args:
        position: Of the cart, metres.
        poles: Angle from upright in radians, half length in metres and colour of each.

    Returns:
        An image (120, 240, 3).
    """
    image = np.full((IMAGE_HEIGHT, IMAGE_WIDTH, 3), COLOUR_SKY, dtype=np.uint8)
    middle = IMAGE_WIDTH / 2 + PIXELS_PER_METRE * position
    left, right = (int(np.clip(middle + side, 0, IMAGE_WIDTH)) for side in (-CART_HALF_WIDTH, CART_HALF_WIDTH))
    image[CART_ROW - CART_HALF_HEIGHT : CART_ROW + CART_HALF_HEIGHT, left:right] = COLOUR_CART
    for angle, half_length, colour in poles:
        along = np.linspace(0.0, 2.0 * half_length * PIXELS_PER_METRE, 100)
        rows = (CART_ROW - CART_HALF_HEIGHT - along * math.cos(angle)).astype(int)
        for thickness in (-1, 0, 1):
            columns = (middle + along * math.sin(angle)).astype(int) + thickness
            image[rows, np.clip(columns, 0, IMAGE_WIDTH - 1)] = colour
    return image


class CartPole(BatchedTask):
    """A cart and its pole, with text and picture; a derived task says what is paid and what is seen, in `bounds`."""

    state_arrays: ClassVar[tuple[str, ...]] = ("positions", "velocities", "angles", "angular_velocities")
    render_fps = round(1.0 / TIME_STEP)

    def __init__(self, num_envs: int, bounds: npt.NDArray[np.float32], max_steps: int) -> None:
        check_integer("max_steps", max_steps, 1)
        super().__init__(num_envs, Box(-bounds, bounds), Discrete(2), max_steps)
        self.positions: FloatArray = np.zeros(num_envs)  # metres
        self.velocities: FloatArray = np.zeros(num_envs)  # metres / second
        self.angles: FloatArray = np.zeros(num_envs)  # radians
        self.angular_velocities: FloatArray = np.zeros(num_envs)  # radians / second

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw starts nearly upright and nearly at rest; `new_task` means nothing here."""
        start = (2.0 * self.random.uniform(rows, (4,)) - 1.0) * START_RANGE
        self.positions[rows], self.velocities[rows] = start[:, 0], start[:, 1]
        self.angles[rows], self.angular_velocities[rows] = start[:, 2], start[:, 3]

    def push(self, actions: Array) -> tuple[BoolArray, BoolArray]:
        """Move the carts one step, and return where a pole has fallen, and where it has stood to the limit, (B,) each.

        Fallen: the cart is more than 2.4 metres from the middle or the pole leans more than 12 degrees.
        """
        self.positions, self.velocities, self.angles, self.angular_velocities = step_cartpole(
            self.positions, self.velocities, self.angles, self.angular_velocities, actions
        )
        fallen = (np.abs(self.positions) > LARGEST_POSITION) | (np.abs(self.angles) > LARGEST_ANGLE)
        return fallen, (self.elapsed_steps >= self.step_limit) & ~fallen

    def render_text(self, lane: int) -> str:
        """Show the step and the whole state, the hidden part of it too."""
        cart = f"position {self.positions[lane]:+.3f} m ({self.velocities[lane]:+.3f} m/s)"
        pole = f"angle {self.angles[lane]:+.3f} rad ({self.angular_velocities[lane]:+.3f} rad/s)"
        return f"step {self.elapsed_steps[lane]}: {cart}, {pole}"

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """Draw the cart and the pole, (120, 240, 3)."""
        return draw_cart(self.positions[lane], [(self.angles[lane], HALF_POLE_LENGTH, COLOUR_POLE)])
