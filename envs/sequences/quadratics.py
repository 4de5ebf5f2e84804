"""Quadratic functions: learn an unknown function from its examples while they are read, with weights that stay.

Source: S. Hochreiter, A. S. Younger, P. R. Conwell, "Learning to Learn Using Gradient Descent", ICANN 2001.

Letters in shapes: B = num_envs lanes, R = the lanes that a call is about, T = examples of a sequence.
"""

import numpy as np
from gymnasium.spaces import Box

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import Transition, bound, unknown
from rlstm.envs.base.checks import check_integer
from rlstm.envs.base.teacher import TeacherTask

NUM_COEFFICIENTS = 6
LARGEST_VALUE = 6.0  # Of a function whose six coefficients and both inputs are in [-1, 1].
LARGEST_ERROR_OF_A_SUCCESS = 1e-3  # Our own measure: a mean square, in the units of answers.


class Quadratics(TeacherTask):
    """Tell the values of a quadratic function of two numbers that is new in every sequence.

    q(x) = a x1^2 + b x2^2 + c x1 x2 + d x1 + e x2 + f with coefficients that are drawn for the sequence. At step t a
    point x is shown, and the value at the point before it; the value at x is asked. After some examples the function is
    known, and the last ones show whether it was learnt: by what a memory holds, as weights stay the same.

    ## Action Space
    Box(-1, 1, (1,), float32): the answer, q(x) / 6, so that every function lies within.

    ## Observation Space
    Box(-1, 1, (3,), float32): x1, x2, and q / 6 at the point before, 0 at the first step.

    ## Rewards
    Minus the squared error over the number of `asked` steps in the last `asked` of them, 0 before: the return is minus
    their mean squared error. `info["target"]` is q(x) / 6 at all steps.

    ## Starting State
    Coefficients and points are uniform on [-1, 1].

    ## Episode End
    Terminated after `num_examples` steps. `is_success` tells whether the mean squared error is at most 1e-3, which is
    our own measure, as is the scale.

    ## Arguments
    - `num_examples`: T, 2 or more.
    - `asked`: how many steps at the end count, from 1 to `num_examples`.
    """

    memory = "the function, by the examples seen"
    source = "Hochreiter, Younger and Conwell, Learning to Learn Using Gradient Descent, ICANN 2001"
    state_arrays = ("points", "values", "squared_errors")
    memory_length = None  # Every example helps.
    optimal_return = bound(0.0, "no error is negative; six examples in general position tell the function")
    memoryless_return = unknown("the last value tells a little of the function, and how much is not known")

    def __init__(self, num_envs: int, num_examples: int = 40, asked: int = 10) -> None:
        check_integer("num_examples", num_examples, 2)
        check_integer("asked", asked, 1)
        if asked > num_examples:
            raise ValueError(f"asked must be at most num_examples {num_examples}, but got {asked!r}.")
        super().__init__(num_envs, Box(-1.0, 1.0, (3,), np.float32), Box(-1.0, 1.0, (1,), np.float32))
        self.num_examples, self.asked = int(num_examples), int(asked)
        # One point more than is asked for, for what is seen after the end.
        self.points: FloatArray = np.zeros((num_envs, self.num_examples + 1, 2))
        self.values: FloatArray = np.zeros((num_envs, self.num_examples + 1))
        self.squared_errors: FloatArray = np.zeros(num_envs)

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw functions and points; `new_task` means nothing here."""
        coefficients = 2.0 * self.random.uniform(rows, (NUM_COEFFICIENTS,)) - 1.0
        points = 2.0 * self.random.uniform(rows, (self.num_examples + 1, 2)) - 1.0
        # Values lie in [-1, 1] in float32 too, as those of points that have been rounded.
        first, second = np.moveaxis(points.astype(np.float32).astype(np.float64), -1, 0)
        terms = [first**2, second**2, first * second, first, second, np.ones_like(first)]
        self.points[rows] = points
        self.values[rows] = np.einsum("rk,krt->rt", coefficients, np.stack(terms)) / LARGEST_VALUE
        self.squared_errors[rows] = 0.0

    def advance(self, actions: Array) -> Transition:
        """Compare the answers with the values."""
        # The base class has counted this step already.
        targets = self.values[self.every_lane, self.elapsed_steps - 1]
        counts = self.elapsed_steps > self.num_examples - self.asked
        squares = np.where(counts, np.square(actions[:, 0] - targets), 0.0) / self.asked
        self.squared_errors += squares
        terminated = self.elapsed_steps == self.num_examples
        is_success = terminated & (self.squared_errors <= LARGEST_ERROR_OF_A_SUCCESS)
        return Transition(0.0 - squares, terminated, {"is_success": is_success, "target": targets[:, None]})

    def observe(self) -> Array:
        """Return the present points and the values at the points before them, (B, 3)."""
        steps = self.elapsed_steps
        before = np.where(steps > 0, self.values[self.every_lane, steps - 1], 0.0)
        points = self.points[self.every_lane, steps]
        return np.concatenate([points, before[:, None]], axis=1).astype(np.float32)

    def render_text(self, lane: int) -> str:
        """Show the present point and the value at the one before."""
        step = int(self.elapsed_steps[lane])
        first, second = self.points[lane, step]
        before = f", {self.values[lane, step - 1]:+.3f} before" if step else ""
        return f"example {step + 1} of {self.num_examples}: ({first:+.3f}, {second:+.3f}){before}"
