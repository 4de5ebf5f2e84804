"""The cart and its pole: one step of their motion, their start, when the pole has fallen, their text and picture.

Source: A. Barto, R. Sutton, C. Anderson, "Neuronlike adaptive elements that can solve difficult learning control
problems", IEEE Trans. SMC 13, 1983, with the constants and the integration of Gymnasium's CartPole-v1; a test steps
both side by side.

Letters in shapes: B = num_envs lanes, R = the lanes that a call is about.
"""

import math

import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.lane_random import LaneRandom

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
    """One explicit Euler step of 0.02 seconds of the equations of motion.

    The order of operations is that of Gymnasium, so that rounding is the same: an unstable pole would soon make a
    difference in the last digit visible.

    Args:
        positions: (B,) of the carts, metres.
        velocities: (B,) of the carts, metres / second.
        angles: (B,) of the poles from upright, radians.
        angular_velocities: (B,) of the poles, radians / second.
        actions: (B,) 0 pushes to the left, 1 to the right.

    Returns:
        The four after the step, (B,) each, all of them fresh.
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


def has_fallen(positions: FloatArray, angles: FloatArray) -> BoolArray:
    """Where the cart is more than 2.4 metres from the middle or the pole leans more than 12 degrees, (B,)."""
    return (np.abs(positions) > LARGEST_POSITION) | (np.abs(angles) > LARGEST_ANGLE)


def draw_cartpole_starts(random: LaneRandom, rows: IntArray) -> FloatArray:
    """Position, velocity, angle and angular velocity, uniform on [-0.05, 0.05), for the lanes `rows`, (R, 4)."""
    return (2.0 * random.uniform(rows, (4,)) - 1.0) * START_RANGE


def cartpole_text(position: float, velocity: float, angle: float, angular_velocity: float) -> str:
    """All four numbers with their units."""
    return f"position {position:+.3f} m ({velocity:+.3f} m/s), angle {angle:+.3f} rad ({angular_velocity:+.3f} rad/s)"


def cartpole_pixels(position: float, angle: float) -> npt.NDArray[np.uint8]:
    """The cart, and the pole drawn dot by dot, (120, 240, 3)."""
    image = np.full((IMAGE_HEIGHT, IMAGE_WIDTH, 3), COLOUR_SKY, dtype=np.uint8)
    middle = IMAGE_WIDTH / 2 + PIXELS_PER_METRE * position
    left, right = (int(np.clip(middle + side, 0, IMAGE_WIDTH)) for side in (-CART_HALF_WIDTH, CART_HALF_WIDTH))
    image[CART_ROW - CART_HALF_HEIGHT : CART_ROW + CART_HALF_HEIGHT, left:right] = COLOUR_CART
    along = np.linspace(0.0, 2.0 * HALF_POLE_LENGTH * PIXELS_PER_METRE, 100)
    rows = (CART_ROW - CART_HALF_HEIGHT - along * math.cos(angle)).astype(int)
    for thickness in (-1, 0, 1):
        columns = (middle + along * math.sin(angle)).astype(int) + thickness
        image[rows, np.clip(columns, 0, IMAGE_WIDTH - 1)] = COLOUR_POLE
    return image
