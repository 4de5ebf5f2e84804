"""Pole balancing without velocities: one pole, or a long and a short one side by side, on one cart.

Source: A. Wieland, "Evolving neural network controllers for unstable systems", IJCNN 1991, for the two poles;
F. Gruau, D. Whitley, L. Pyeatt, "A comparison between cellular encoding and direct encoding for genetic neural
networks", GP 1996, for the damping fitness; F. Gomez, J. Schmidhuber, R. Miikkulainen, "Accelerated neural evolution
through cooperatively coevolved synapses", JMLR 9, 2008, for the settings.
"""

import math

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, bound, exact, unknown
from rlstm.envs.base.checks import check_choice, check_integer, check_number
from rlstm.envs.control.cartpole_physics import draw_cart
from rlstm.envs.control.pole_dynamics import CartWithPoles

HALF_LENGTHS, POLE_MASSES = (0.5, 0.05), (0.1, 0.01)  # metres, kilograms; the long pole first
LARGEST_FORCE = 10.0  # newtons
TIME_STEP, STEPS_PER_ACTION = 0.01, 2  # seconds
LARGEST_POSITION = 2.4  # metres
LARGEST_ANGLES = {1: math.radians(12.0), 2: math.radians(36.0)}  # by the number of poles
START_RANGES = (2.16, 1.35, math.radians(3.6), math.radians(8.6))  # metres, metres / second, radians, radians / second
FITNESSES, STARTS = ("standard", "damping"), ("fixed", "random")

DAMPING_WINDOW = 100  # steps
BALANCED_SHARE, STILL_SHARE, STILL_GAIN = 0.1, 0.9, 0.75
LEAST_MOTION = 1e-6
SURE_ANGLE = 5.0  # degrees
COLOURS_POLES = ((200, 120, 50), (70, 130, 180))


class PoleBalancing(BatchedTask):
    """Balance the poles on a cart by pushing the cart, without seeing velocities.

    A cart of 1 kg carries a pole of 1 m and 0.1 kg, and beside it a pole of 0.1 m and 0.01 kg if `num_poles` is 2. The
    poles fall at different rates, which is what makes it possible to balance both with one force, and hard. There is
    friction on the track (5e-4 N against the motion of the cart) and in the hinges (2e-6 N m s). The equations stand
    in `envs/control/pole_dynamics.py`; a force is held for 0.02 s, two steps of a Runge-Kutta method of order 4.

    The velocities are hidden. Two observations on end show them: one step of memory is enough in principle.

    Published implementations differ in details that they don't call variants: some leave out the friction on the track,
    or let it depend on the force between track and cart (Florian 2007); some raise the smallest forces to 10/256 N; the
    sum of the damping fitness has 100 or 101 terms; inputs are scaled in several ways.

    ## Action Space
    Box(-1, 1, (1,), float32): the force on the cart, in units of 10 newtons.

    ## Observation Space
    Box(-2, 2, (1 + num_poles,), float32). An episode goes on while all numbers are in [-1, 1], and the one step that
    ends it can't lead further than the bounds.

    | index | observation | unit |
    |---|---|---|
    | 0 | position of the cart | 2.4 metres |
    | 1 | angle of the long pole from upright | 36 degrees; 12 with one pole |
    | 2 | angle of the short pole, with two poles | 36 degrees |

    ## Rewards
    By `fitness`:

    - "standard": 1 for every step after which the poles stand, so a return is the number of steps balanced, t.
    - "damping": a return is 0.1 t / max_steps + 0.9 f2, with f2 = 0.75 / (the sum of |x| + |x'| + |theta| + |theta'| of
      the long pole over the states after the last 100 steps balanced, in metres, radians and seconds), and f2 = 0 if
      t < 100. It is for bringing the cart to rest, instead of keeping the poles up by jerking it to and fro. 0.1 /
      max_steps is paid for each step balanced and 0.9 f2 at the end of the episode. The sum is taken as at least 1e-6.

    ## Starting State
    By `start`:

    - "fixed": the long pole leans by `start_angle`, all else is 0. All episodes are the same.
    - "random": x, x', theta and theta' of the long pole are uniform on the ranges of the generalisation test (±2.16 m,
      ±1.35 m/s, ±3.6 degrees, ±8.6 degrees/s), the short pole stands upright and at rest.

    ## Episode End
    Terminated when the cart is more than 2.4 metres from the middle or a pole leans more than 36 degrees (12 with one
    pole). Truncated after `max_steps`. `is_success` tells whether the poles stood for all of them.

    ## Arguments
    - `num_poles`: 1 or 2.
    - `fitness`: "standard" or "damping".
    - `max_steps`: 1 or more, default 1000. Balancing for 100,000 steps is what counts as a solution of the standard
      task: `balanced_starts` in `envs/control/pole_generalisation.py` plays it, and the test from 625 starts.
    - `start`: "fixed" or "random".
    - `start_angle`: degrees, within ±12 with one pole and ±36 with two; default 4, as in Gomez et al. Igel (2003)
      starts at 4.5.
    """

    memory = "the last position and angles, to tell the velocities"
    source = "Wieland, IJCNN 1991, as in Gomez et al., Cooperatively Coevolved Synapses, JMLR 2008"
    state_arrays = ("coordinates", "velocities", "recent_motion")
    render_fps = round(1.0 / (TIME_STEP * STEPS_PER_ACTION))
    memory_length = 1  # From one observation to the next.
    memoryless_return = unknown("the best feedback from position and angles alone isn't known in closed form")

    def __init__(
        self,
        num_envs: int,
        num_poles: int = 2,
        fitness: str = "standard",
        max_steps: int = 1000,
        start: str = "fixed",
        start_angle: float = 4.0,
    ) -> None:
        check_integer("num_poles", num_poles, 1)
        if num_poles > len(HALF_LENGTHS):
            raise ValueError(f"num_poles must be 1 or 2, but got {num_poles!r}.")
        check_choice("fitness", fitness, FITNESSES)
        check_integer("max_steps", max_steps, 1)
        check_choice("start", start, STARTS)
        largest_angle = LARGEST_ANGLES[num_poles]
        degrees = round(math.degrees(largest_angle))
        check_number(f"start_angle for num_poles {num_poles}", start_angle, -degrees, degrees)
        shape = (1 + num_poles,)
        super().__init__(num_envs, Box(-2.0, 2.0, shape, np.float32), Box(-1.0, 1.0, (1,), np.float32), max_steps)
        self.num_poles = num_poles
        self.is_damping, self.is_random = fitness == "damping", start == "random"
        self.start_angle = start_angle
        self.cart = CartWithPoles(HALF_LENGTHS[:num_poles], POLE_MASSES[:num_poles])
        self.limits: FloatArray = np.array([LARGEST_POSITION] + [largest_angle] * num_poles)  # (1 + P,)
        self.coordinates: FloatArray = np.zeros((num_envs, *shape))  # x and the angles, metres and radians
        self.velocities: FloatArray = np.zeros((num_envs, *shape))  # the same per second
        # Of the last steps, the one that ends step t at (t - 1) % DAMPING_WINDOW.
        self.recent_motion: FloatArray = np.zeros((num_envs, DAMPING_WINDOW if self.is_damping else 0))
        if self.is_damping:
            self.optimal_return = unknown("how near to rest the poles can be brought isn't known")
        elif self.is_random or abs(self.start_angle) > SURE_ANGLE:
            self.optimal_return = bound(float(max_steps), "1 a step; some starts may be past saving")
        else:
            self.optimal_return = exact(
                float(max_steps), "1 a step until the step limit, which linear feedback attains"
            )

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Place the poles at the fixed or a random start; `new_task` means nothing here."""
        starts = np.zeros((rows.size, 2 + 2 * self.num_poles))
        if self.is_random:
            starts[:, :4] = (2.0 * self.random.uniform(rows, (4,)) - 1.0) * START_RANGES
        else:
            starts[:, 2] = math.radians(self.start_angle)
        self.place(rows, starts)

    def place(self, rows: IntArray, states: FloatArray) -> None:
        """Put the lanes `rows` (R,) into `states` (R, 2 + 2 P): x, x', theta_1, theta_1', theta_2, theta_2'."""
        self.coordinates[rows] = states[:, 0::2]
        self.velocities[rows] = states[:, 1::2]

    def advance(self, actions: Array) -> Transition:
        """Take two integration steps, with the lanes in the last axis so that arrays are contiguous lane by lane."""
        coordinates, velocities = self.cart.integrate(
            np.ascontiguousarray(self.coordinates.T),
            np.ascontiguousarray(self.velocities.T),
            LARGEST_FORCE * actions[:, 0].astype(np.float64),
            TIME_STEP,
            STEPS_PER_ACTION,
        )
        fallen: BoolArray = np.logical_or.reduce(np.abs(coordinates) > self.limits[:, None], axis=0)
        at_limit = self.elapsed_steps >= self.step_limit
        self.coordinates, self.velocities = coordinates.T, velocities.T
        rewards = (~fallen).astype(np.float64)
        if self.is_damping:
            rewards *= BALANCED_SHARE / self.step_limit
            motion = np.abs(coordinates[:2]).sum(axis=0) + np.abs(velocities[:2]).sum(axis=0)
            rewards += self._pay_for_rest(motion, fallen, at_limit)
        return Transition(rewards, fallen, {"is_success": at_limit & ~fallen})

    def _pay_for_rest(self, motion: FloatArray, fallen: BoolArray, at_limit: BoolArray) -> FloatArray:
        """Record the `motion` (B,) of lanes that stand; return 0.9 f2 where an episode ends, else 0, (B,)."""
        standing = np.flatnonzero(~fallen)
        # The oldest of the window is overwritten.
        self.recent_motion[standing, (self.elapsed_steps[standing] - 1) % DAMPING_WINDOW] = motion[standing]
        steps_balanced = self.elapsed_steps - fallen
        paid = np.flatnonzero((fallen | at_limit) & (steps_balanced >= DAMPING_WINDOW))
        payments = np.zeros(self.num_envs)
        payments[paid] = STILL_SHARE * STILL_GAIN / np.maximum(self.recent_motion[paid].sum(axis=1), LEAST_MOTION)
        return payments

    def observe(self) -> Array:
        """Return positions and angles in units of their limits, (B, 1 + P)."""
        return np.ascontiguousarray(self.coordinates / self.limits, dtype=np.float32)

    def hidden_state(self) -> npt.NDArray[np.float32]:
        """Return steps, coordinates and velocities, (B, 3 + 2 P).

        The recent motion of the damping fitness isn't shown: whatever it was, less motion is better from now on.
        """
        return np.column_stack([self.elapsed_steps, self.coordinates, self.velocities]).astype(np.float32)

    def render_text(self, lane: int) -> str:
        """Show position, angles and the hidden velocities."""
        position, *angles = self.coordinates[lane]
        velocity, *spins = self.velocities[lane]
        poles = ", ".join(
            f"angle {angle:+.3f} rad ({spin:+.3f} rad/s)" for angle, spin in zip(angles, spins, strict=True)
        )
        return f"step {self.elapsed_steps[lane]}: position {position:+.3f} m ({velocity:+.3f} m/s), {poles}"

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """Draw the cart and the poles, each in its colour."""
        position, *angles = self.coordinates[lane]
        return draw_cart(position, zip(angles, HALF_LENGTHS, COLOURS_POLES, strict=False))
