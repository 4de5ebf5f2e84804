"""The adding and the multiplication problem: two numbers of a long sequence are marked, and their sum is asked.

Source: S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997, experiments 4 and 5.

Letters in shapes: B = num_envs lanes, R = the lanes that a call is about, L = pairs of the longest sequence.
"""

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import Transition, exact
from rlstm.envs.base.checks import check_choice, check_integer
from rlstm.envs.base.teacher import TeacherTask

SUM, PRODUCT = "sum", "product"
SHORTEST_LENGTH = 4  # which leaves two pairs to be marked
FIRST_MARK_WITHIN = 10
MARKED, BOUNDARY = 1.0, -1.0
LARGEST_ERROR_OF_A_SUCCESS = 0.04


class Adding(TeacherTask):
    """Add, or multiply, the two marked numbers of a long sequence.

    A sequence has between T = `length` and T + T // 10 pairs of a number and a marker, seen one by one. One of the
    first ten pairs is marked, and then one of the first T // 2 - 1 of those not marked. When the last pair is seen, the
    sum or the product of the marked numbers is asked, at least T // 2 steps after the later of the two. The other
    numbers distract, and those asked for must be kept exactly.

    ## Action Space
    Box(0, 1, (1,), float32): the answer, which counts at the last step only.

    ## Observation Space
    Box([-1, -1], 1, (2,), float32) for a sum, Box([0, -1], 1, (2,), float32) for a product.

    | pair | number | marker |
    |---|---|---|
    | marked | uniform on [-1, 1] for a sum, [0, 1] for a product | 1 |
    | first and last | the same | -1 |
    | other | the same | 0 |
    | first, if it is marked | 0 for a sum, 1 for a product | 1 |
    | after the end | 0 | 0 |

    The paper says what becomes of X1 if the first pair is marked; here it holds for the marked number of the first
    pair, be it X1 or X2.

    ## Rewards
    At the last step minus the squared error, otherwise 0. With the marked numbers X1 and X2, `info["target"]` is
    .5 + (X1 + X2) / 4 or X1 X2 at the last step and NaN before.

    ## Starting State
    The first pair. The length is uniform on T, ..., T + T // 10.

    ## Episode End
    Terminated by the answer to the last pair. `is_success` tells whether its error is less than .04.

    ## Arguments
    - `length`: T, 4 or more. Below 20 the first mark is on one of the first T // 2 pairs.
    - `operation`: "sum" or "product".
    """

    memory = "two marked numbers, exactly"
    source = "Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 1997"
    state_arrays = ("pairs", "lengths", "answers")
    memory_length = None  # The marks and the length are drawn; it is T // 2 or more for both numbers.
    optimal_return = exact(0.0, "both numbers are seen, and no error is negative")

    def __init__(self, num_envs: int, length: int = 100, operation: str = SUM) -> None:
        check_integer("length", length, SHORTEST_LENGTH)
        check_choice("operation", operation, (SUM, PRODUCT))
        low = -1.0 if operation == SUM else 0.0
        super().__init__(
            num_envs,
            Box(np.array([low, BOUNDARY], dtype=np.float32), np.ones(2, dtype=np.float32)),
            Box(0.0, 1.0, (1,), np.float32),
        )
        self.length, self.operation, self.low = int(length), operation, low
        self.half = self.length // 2
        self.first_mark_within = min(FIRST_MARK_WITHIN, self.half)
        self.longest = self.length + self.length // 10
        # One pair more than the longest sequence has, for what is seen after its end.
        self.pairs: npt.NDArray[np.float32] = np.zeros((num_envs, self.longest + 1, 2), dtype=np.float32)
        self.lengths: IntArray = np.full(num_envs, self.length)
        self.answers: FloatArray = np.zeros(num_envs)
        self.pair_starts: IntArray = np.arange(num_envs) * (self.longest + 1)
        # The mean is answered: minus the variance of the target. The last pair doesn't depend on the marked ones. With
        # the probability p that the first pair is marked, one of the two numbers X, Y is known: it is 0 in a sum and 1
        # in a product. So with the variance 1/3 of a number of a sum the variance is (2 - p) / 3 / 16. A product has
        # the mean (1 - p) / 4 + p / 2, and its square (1 - p) / 9 + p / 3.
        first_is_marked = 1 / self.first_mark_within + (1 - 1 / self.first_mark_within) / (self.half - 1)
        if self.operation == SUM:
            variance = (2 - first_is_marked) / 3 / 16
        else:
            mean = (1 - first_is_marked) / 4 + first_is_marked / 2
            variance = (1 - first_is_marked) / 9 + first_is_marked / 3 - mean**2
        self.memoryless_return = exact(-variance, "the last pair tells nothing, so the best answer is the mean")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw sequences; `new_task` means nothing here."""
        numbers = self.random.uniform(rows, (self.longest,))
        first = self.random.integers(rows, self.first_mark_within)
        second = self.random.integers(rows, self.half - 1)
        second += second >= first  # Skips the pair marked already.
        lengths = self.length + self.random.integers(rows, self.length // 10 + 1)
        lanes = np.arange(rows.size)
        pairs = np.zeros((rows.size, self.longest + 1, 2), dtype=np.float32)
        pairs[:, :-1, 0] = self.low + (1.0 - self.low) * numbers
        pairs[:, 0, 1] = BOUNDARY
        pairs[lanes, lengths - 1, 1] = BOUNDARY
        pairs[lanes, first, 1] = MARKED
        pairs[lanes, second, 1] = MARKED
        pairs[pairs[:, 0, 1] == MARKED, 0, 0] = 0.0 if self.operation == SUM else 1.0
        pairs[lanes, lengths] = 0.0
        one, other = (pairs[lanes, mark, 0].astype(np.float64) for mark in (first, second))
        self.pairs[rows], self.lengths[rows] = pairs, lengths
        self.answers[rows] = 0.5 + (one + other) / 4 if self.operation == SUM else one * other

    def advance(self, actions: Array) -> Transition:
        """Check the answer to the last pair."""
        is_last = self.elapsed_steps == self.lengths
        errors = np.abs(actions[:, 0] - self.answers)
        rewards = np.where(is_last, -np.square(errors), 0.0)
        targets = np.where(is_last, self.answers, np.nan)[:, None]
        is_success = is_last & (errors < LARGEST_ERROR_OF_A_SUCCESS)
        return Transition(rewards, is_last, {"is_success": is_success, "target": targets})

    def observe(self) -> Array:
        """Return the present pairs, (B, 2)."""
        return self.pairs.reshape(-1, 2).take(self.pair_starts + self.elapsed_steps, axis=0)

    def hidden_state(self) -> npt.NDArray[np.float32]:
        """Return the steps to come and the answer, (B, 2)."""
        return np.stack([self.lengths - self.elapsed_steps, self.answers], axis=1).astype(np.float32)

    def render_text(self, lane: int) -> str:
        """Show the present pair."""
        step = int(self.elapsed_steps[lane])
        if step >= self.lengths[lane]:
            return f"all {self.lengths[lane]} pairs seen"
        number, marker = self.pairs[lane, step]
        return f"pair {step + 1} of {self.lengths[lane]}: {number:+.3f}, marker {marker:+.0f}"
