"""The pendulum of the control tasks: `Pendulum`, which moves and draws it, and `step_pendulum`, one step of its motion.

A stiff rod of 1 metre and 1 kilogram hangs on a motor. Its angle is 0 upright, grows counterclockwise, and is never
wrapped around. Constants, integration and costs are those of Gymnasium's Pendulum-v1, with the operations in the same
order, so that rounding is the same; a test steps both side by side.
"""

import math
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask
from rlstm.envs.base.checks import check_integer

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
    """Take one step of 0.05 seconds under constant torques.

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


def stands_upright(angles: FloatArray, angular_velocities: FloatArray) -> BoolArray:
    """Return where the rod leans at most 12 degrees and doesn't just swing through, at most 1 radian / second, (B,)."""
    # The cosine of an angle needs no wrapping.
    return (np.cos(angles) >= math.cos(UPRIGHT_ANGLE)) & (np.abs(angular_velocities) <= UPRIGHT_SPEED)


class Pendulum(BatchedTask):
    """A rod on a motor, seen by the cosine and sine of its angle; a derived task says what is paid."""

    state_arrays: ClassVar[tuple[str, ...]] = ("angles", "angular_velocities")
    render_fps = round(1.0 / TIME_STEP)

    def __init__(self, num_envs: int, max_steps: int) -> None:
        check_integer("max_steps", max_steps, 1)
        torques = Box(-MAX_TORQUE, MAX_TORQUE, (1,), np.float32)
        super().__init__(num_envs, Box(-1.0, 1.0, (2,), np.float32), torques, max_steps)
        self.angles: FloatArray = np.zeros(num_envs)  # radians, any number of turns
        self.angular_velocities: FloatArray = np.zeros(num_envs)  # radians / second

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw angles uniform on [-pi, pi) and angular velocities on [-1, 1); `new_task` means nothing here."""
        start = 2.0 * self.random.uniform(rows, (2,)) - 1.0
        self.angles[rows], self.angular_velocities[rows] = START_ANGLE * start[:, 0], START_SPEED * start[:, 1]

    def turn(self, actions: Array) -> FloatArray:
        """Move the rods one step, and return the costs of the states before it, (B,)."""
        self.angles, self.angular_velocities, costs = step_pendulum(self.angles, self.angular_velocities, actions[:, 0])
        return costs

    def observe(self) -> Array:
        """Return cosines and sines of the angles, (B, 2)."""
        observations = np.empty((self.num_envs, 2), dtype=np.float32)
        observations[:, 0], observations[:, 1] = np.cos(self.angles), np.sin(self.angles)
        return observations

    def render_text(self, lane: int) -> str:
        """Show the step and the whole state, with the angle wrapped to one turn."""
        wrapped = (self.angles[lane] + math.pi) % (2.0 * math.pi) - math.pi
        speed = self.angular_velocities[lane]
        return f"step {self.elapsed_steps[lane]}: angle {wrapped:+.3f} rad ({speed:+.3f} rad/s)"

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """Draw the rod dot by dot from the axle in the middle; upright is up, (120, 120, 3)."""
        image = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), COLOUR_SKY, dtype=np.uint8)
        middle, angle = IMAGE_SIZE // 2, self.angles[lane]
        along = np.linspace(0.0, LENGTH * PIXELS_PER_METRE, 100)
        rows = np.rint(middle - along * math.cos(angle)).astype(int)
        columns = np.rint(middle - along * math.sin(angle)).astype(int)
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                image[rows + down, columns + right] = COLOUR_ROD
        image[middle - 2 : middle + 3, middle - 2 : middle + 3] = COLOUR_AXLE
        return image
