"""POPGym's CartPoles: balance a pole seeing positions only, noisy positions only, or velocities only.

Source: S. Morad, R. Kortvelesy, M. Bettini, S. Liwicki, A. Prorok, "POPGym: Benchmarking Partially Observable
Reinforcement Learning", ICLR 2023. Rules, rewards and lengths are those of popgym 1.0.7; a test plays both side by
side. The physics are in `envs/control/cartpole_physics.py`.
"""

from typing import ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, ReturnReference, Transition, bound, exact, unknown
from rlstm.envs.base.checks import check_choice, check_integer, check_number
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

POSITION_BOUNDS = np.array([2.0 * LARGEST_POSITION, 2.0 * LARGEST_ANGLE], dtype=np.float32)  # metres, radians
# Twice as fast as cart and pole can be without crossing their whole range in one step, and then there are two more
# steps at most, in which they gain far less than that.
VELOCITY_BOUNDS = 2.0 * POSITION_BOUNDS / np.float32(TIME_STEP)  # metres / second, radians / second


class PopgymCartPole(BatchedTask):
    """Balance a pole on a cart by pushing the cart, seeing half of the state.

    ## Description
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
    oversight of popgym's, but it is what its results are of.

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

    All episodes have the same dynamics: there is no task to draw, nor to keep for trials.

    ## Version History
    v0: first version. popgym's bounds of velocities are infinite.
    """

    memory: ClassVar[str] = "past observations, to tell the half of the state that isn't seen"
    source: ClassVar[str] = "Morad et al., POPGym, ICLR 2023"
    state_arrays: ClassVar[tuple[str, ...]] = ("positions", "velocities", "angles", "angular_velocities", "noises")
    render_fps: ClassVar[int] = round(1.0 / TIME_STEP)
    memoryless_return = unknown("the best feedback from one observation isn't known in closed form")

    def __init__(self, num_envs: int, max_steps: int = 200, observed: str = "positions", noise: float = 0.0) -> None:
        check_integer("max_steps", max_steps, 1)
        check_choice("observed", observed, ("positions", "velocities"))
        check_number("noise", noise, 0.0, 10.0)
        bounds = POSITION_BOUNDS if observed == "positions" else VELOCITY_BOUNDS
        super().__init__(num_envs, gym.spaces.Box(-bounds, bounds), gym.spaces.Discrete(2), max_steps)
        self.step_limit = max_steps
        self.observed = observed
        self.noise = float(noise)
        self.bounds = bounds
        self.every_lane = np.arange(num_envs)
        self.positions: FloatArray = np.zeros(num_envs)  # metres
        self.velocities: FloatArray = np.zeros(num_envs)  # metres / second
        self.angles: FloatArray = np.zeros(num_envs)  # radians
        self.angular_velocities: FloatArray = np.zeros(num_envs)  # radians / second
        self.noises: npt.NDArray[np.float32] = np.zeros((num_envs, 2), dtype=np.float32)  # On the present observation.

    @property
    def memory_length(self) -> int | None:
        """From one observation to the next, if that is enough."""
        return 1 if self.observed == "positions" and self.noise == 0.0 else None

    @property
    def optimal_return(self) -> ReturnReference:
        """The pole stands until the limit."""
        if self.noise == 0.0:
            return exact(1.0, "1 / T a step for T steps, which simple feedback attains")
        return bound(1.0, "1 / T a step for T steps; what noise takes from it isn't known")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Nearly upright and nearly at rest; `new_task` means nothing here."""
        start = draw_cartpole_starts(self.random, rows)
        self.positions[rows], self.velocities[rows] = start[:, 0], start[:, 1]
        self.angles[rows], self.angular_velocities[rows] = start[:, 2], start[:, 3]
        if self.noise > 0.0:
            self.noises[rows] = self.noise * self.random.normal(rows, (2,))

    def advance(self, actions: Array) -> Transition:
        """One step of the equations of motion, and new noise."""
        self.positions, self.velocities, self.angles, self.angular_velocities = step_cartpole(
            self.positions, self.velocities, self.angles, self.angular_velocities, actions
        )
        if self.noise > 0.0:
            self.noises[:] = self.noise * self.random.normal(self.every_lane, (2,))
        fallen = has_fallen(self.positions, self.angles)
        stood = (self.elapsed_steps >= self.step_limit) & ~fallen
        return Transition(np.full(self.num_envs, 1.0 / self.step_limit), fallen, {"is_success": stood})

    def observe(self) -> Array:
        """Positions and angles, or their velocities, with the noise, (B, 2)."""
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

    def render_text(self, lane: int) -> str:
        """The step and the whole state, without noise."""
        state = (self.positions[lane], self.velocities[lane], self.angles[lane], self.angular_velocities[lane])
        return f"step {self.elapsed_steps[lane]}: {cartpole_text(*state)}"

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """The cart and the pole, without noise."""
        return cartpole_pixels(self.positions[lane], self.angles[lane])
