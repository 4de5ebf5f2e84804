"""The pendulum of the control tasks: one step of its motion, its start, when it stands, its text and picture.

A stiff rod of 1 metre and 1 kilogram hangs on a motor. Its angle is 0 upright, grows counterclockwise, and is never
wrapped around. Constants, integration and costs are those of Gymnasium's Pendulum-v1, with the operations in the same
order, so that rounding is the same; a test steps both side by side.

Letters in shapes: B = num_envs lanes, R = the lanes that a call is about.
"""

import math

import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import BoolArray, FloatArray, IntArray
from rlstm.envs.base.lane_random import LaneRandom

GRAVITY = 10.0  # metres / second^2
MASS = 1.0  # kilograms
LENGTH = 1.0  # metres
TIME_STEP = 0.05  # seconds
MAX_SPEED = 8.0  # radians / second
MAX_TORQUE = 2.0  # newton metres
START_ANGLE, START_SPEED = math.pi, 1.0  # radians, radians / second
UPRIGHT_ANGLE, UPRIGHT_SPEED = math.radians(12.0), 1.0  # radians, radians / second

GRAVITY_GAIN = 3.0 * GRAVITY / (2.0 * LENGTH)  # 1 / second^2
TORQUE_GAIN = 3.0 / (MASS * LENGTH**2)  # 1 / (kilogram metre^2)

IMAGE_SIZE = 120  # pixels
PIXELS_PER_METRE = 50
COLOUR_SKY, COLOUR_ROD, COLOUR_AXLE = (245, 245, 245), (190, 70, 60), (50, 60, 80)


def step_pendulum(
    angles: FloatArray, angular_velocities: FloatArray, torques: npt.NDArray[np.floating]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """One step of 0.05 seconds under constant torques.

        cost = angle^2 + 0.1 angular_velocity^2 + 0.001 torque^2,    of the state before the step, angle in [-pi, pi)

    Args:
        angles: (B,) radians, any number of turns.
        angular_velocities: (B,) radians / second.
        torques: (B,) newton metres, at most `MAX_TORQUE` either way, which the action space sees to. Gymnasium keeps
            them in the dtype of the action: pass float32 to round as it does.

    Returns:
        New angles, angular velocities (at most `MAX_SPEED` either way) and the costs, (B,) each, all of them fresh.
    """
    wrapped = (angles + math.pi) % (2.0 * math.pi) - math.pi
    costs = np.square(wrapped) + 0.1 * np.square(angular_velocities) + 0.001 * np.square(torques)
    accelerations = GRAVITY_GAIN * np.sin(angles) + TORQUE_GAIN * torques
    velocities = np.clip(angular_velocities + accelerations * TIME_STEP, -MAX_SPEED, MAX_SPEED)
    return angles + velocities * TIME_STEP, velocities, costs


def draw_pendulum_starts(random: LaneRandom, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """Angles uniform on [-pi, pi) and angular velocities on [-1, 1) for the lanes `rows`, (R,) each."""
    start = 2.0 * random.uniform(rows, (2,)) - 1.0
    return START_ANGLE * start[:, 0], START_SPEED * start[:, 1]


def stands_upright(angles: FloatArray, angular_velocities: FloatArray) -> BoolArray:
    """Where the rod leans at most 12 degrees and doesn't just swing through, at most 1 radian / second, (B,)."""
    # The cosine of an angle needs no wrapping.
    return (np.cos(angles) >= math.cos(UPRIGHT_ANGLE)) & (np.abs(angular_velocities) <= UPRIGHT_SPEED)


def pendulum_text(angle: float, angular_velocity: float) -> str:
    """Angle, wrapped to one turn, and angular velocity."""
    wrapped = (angle + math.pi) % (2.0 * math.pi) - math.pi
    return f"angle {wrapped:+.3f} rad ({angular_velocity:+.3f} rad/s)"


def pendulum_pixels(angle: float) -> npt.NDArray[np.uint8]:
    """The rod, drawn dot by dot from the axle in the middle; upright is up, (120, 120, 3)."""
    image = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), COLOUR_SKY, dtype=np.uint8)
    middle = IMAGE_SIZE // 2
    along = np.linspace(0.0, LENGTH * PIXELS_PER_METRE, 100)
    rows = np.rint(middle - along * math.cos(angle)).astype(int)
    columns = np.rint(middle - along * math.sin(angle)).astype(int)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            image[rows + down, columns + right] = COLOUR_ROD
    image[middle - 2 : middle + 3, middle - 2 : middle + 3] = COLOUR_AXLE
    return image
