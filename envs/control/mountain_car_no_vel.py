"""The continuous mountain car without velocities: get out of a valley by swinging, seeing only where the car is.

Source: Gymnasium's MountainCarContinuous-v0, after A. Moore, "Efficient Memory-based Learning for Robot Control", PhD
thesis, Cambridge, 1990; a test steps both side by side.
"""

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, bound, unknown
from rlstm.envs.base.checks import check_integer

LEFT_END, RIGHT_END, GOAL = -1.2, 0.6, 0.45
MAX_SPEED = 0.07  # per step
POWER, GRAVITY = 0.0015, 0.0025  # per step^2
START_FROM, START_TO = -0.6, -0.4
GOAL_REWARD, ACTION_COST = 100.0, 0.1

IMAGE_HEIGHT, IMAGE_WIDTH = 120, 180  # pixels
PIXELS_PER_UNIT = 100
GROUND_ROW, CAR_HALF_SIZE, FLAG_HEIGHT = 110, 3, 15  # pixels
COLOUR_SKY, COLOUR_GROUND, COLOUR_CAR, COLOUR_FLAG = (245, 245, 245), (120, 110, 90), (50, 60, 80), (200, 60, 50)


class MountainCarContinuousNoVel(BatchedTask):
    """Drive a car out of a valley with an engine too weak for the slope, without seeing how fast it goes.

    The height of the track is that of sin(3 x). The car has to swing to and fro until it is fast enough. The dynamics
    are Gymnasium's MountainCarContinuous-v0, the velocity is hidden. Two observations on end show it: one step of
    memory is enough in principle.

        velocity <- velocity + 0.0015 action - 0.0025 cos(3 x), within ±0.07
        x        <- x + velocity, within [-1.2, 0.6]; at -1.2 the car stops

    Gymnasium rounds the state to float32 after each step, here it is float64.

    ## Action Space
    Box(-1, 1, (1,), float32): the engine's force, to the right if positive.

    ## Observation Space
    Box(-1.2, 0.6, (1,), float32): x.

    ## Rewards
    -0.1 action^2 for every step, and 100 for reaching the goal. So nothing is gained by staying in the valley, but
    trying in vain costs: an agent that doesn't find the goal early learns to stand still, at a return of 0.

    ## Starting State
    x is uniform on [-0.6, -0.4), the car is at rest.

    ## Episode End
    Terminated when the car is at 0.45 or beyond and doesn't move to the left. Truncated after `max_steps` (>= 1, 999 as
    for MountainCarContinuous-v0). `is_success` tells whether the goal was reached.
    """

    memory = "the last position, to tell the velocity"
    source = "Gymnasium MountainCarContinuous-v0 without velocities, as in rl-baselines3-zoo"
    state_arrays = ("positions", "velocities")
    render_fps = 30
    memory_length = 1  # From one observation to the next.
    optimal_return = bound(
        GOAL_REWARD, "100 at the goal and nothing else is positive; the least cost of the way isn't known"
    )
    memoryless_return = unknown("the best feedback from the position alone isn't known in closed form")

    def __init__(self, num_envs: int, max_steps: int = 999) -> None:
        check_integer("max_steps", max_steps, 1)
        super().__init__(
            num_envs, Box(LEFT_END, RIGHT_END, (1,), np.float32), Box(-1.0, 1.0, (1,), np.float32), max_steps
        )
        self.positions: FloatArray = np.zeros(num_envs)
        self.velocities: FloatArray = np.zeros(num_envs)

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Place the car at rest near the bottom of the valley; `new_task` means nothing here."""
        self.positions[rows] = START_FROM + (START_TO - START_FROM) * self.random.uniform(rows)
        self.velocities[rows] = 0.0

    def advance(self, actions: Array) -> Transition:
        """Take one step of the engine and of gravity."""
        forces = actions[:, 0].astype(np.float64)
        velocities = np.cos(3.0 * self.positions)
        velocities *= -GRAVITY
        velocities += POWER * forces
        velocities += self.velocities
        np.minimum(np.maximum(velocities, -MAX_SPEED, out=velocities), MAX_SPEED, out=velocities)
        positions = self.positions + velocities
        np.minimum(np.maximum(positions, LEFT_END, out=positions), RIGHT_END, out=positions)
        velocities[(positions == LEFT_END) & (velocities < 0.0)] = 0.0
        self.positions, self.velocities = positions, velocities
        arrived = (positions >= GOAL) & (velocities >= 0.0)
        rewards = GOAL_REWARD * arrived - ACTION_COST * np.square(forces)
        return Transition(rewards, arrived, {"is_success": arrived.copy()})

    def observe(self) -> Array:
        """Return positions, (B, 1)."""
        return self.positions[:, None].astype(np.float32)

    def render_text(self, lane: int) -> str:
        """Show the position and the hidden velocity."""
        return f"step {self.elapsed_steps[lane]}: x {self.positions[lane]:+.3f} ({self.velocities[lane]:+.4f} per step)"

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """Draw the valley, the flag at the goal, and the car."""
        image = np.full((IMAGE_HEIGHT, IMAGE_WIDTH, 3), COLOUR_SKY, dtype=np.uint8)
        rows = _row_of(LEFT_END + np.arange(IMAGE_WIDTH) / PIXELS_PER_UNIT)
        image[np.arange(IMAGE_HEIGHT)[:, None] >= rows] = COLOUR_GROUND
        flag_column, car_column = (
            min(int((x - LEFT_END) * PIXELS_PER_UNIT), IMAGE_WIDTH - 1) for x in (GOAL, self.positions[lane])
        )
        flag_foot, car_row = int(rows[flag_column]), int(rows[car_column]) - CAR_HALF_SIZE
        image[flag_foot - FLAG_HEIGHT : flag_foot, flag_column] = COLOUR_FLAG
        left = max(car_column - CAR_HALF_SIZE, 0)
        image[car_row - CAR_HALF_SIZE : car_row + CAR_HALF_SIZE, left : car_column + CAR_HALF_SIZE] = COLOUR_CAR
        return image


def _row_of(x: FloatArray) -> IntArray:
    """Return the image row of the ground at x."""
    return (GROUND_ROW - PIXELS_PER_UNIT * 0.45 * (np.sin(3.0 * x) + 1.0)).astype(np.int64)
