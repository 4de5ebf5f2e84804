"""Temporal order: two or three symbols of a long sequence count, and at the end their order is asked.

Source: S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997, experiments 6a and 6b.
"""

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import Transition, exact
from rlstm.envs.base.checks import check_integer
from rlstm.envs.base.teacher import TeacherTask

START, END, FIRST_DISTRACTOR, FIRST_MARKER = 0, 1, 2, 6
NUM_DISTRACTORS, NUM_SYMBOLS = 4, 8
SYMBOL_LETTERS = "EBabcdXY"
NOTHING_ASKED = -1
SHORTEST_LENGTH = 10  # which leaves a place for every marker
# By number of markers: where their windows begin, in hundredths of the length.
WINDOW_STARTS = {2: (10, 50), 3: (10, 33, 66)}

SYMBOLS_IN_VIEW = 32


class TemporalOrder(TeacherTask):
    """Tell at the end of a long sequence which of X and Y stood at two or three places in it.

    A sequence is E, then random symbols of a, b, c, d, but an X or a Y at two or three places, then B. It is read
    symbol by symbol, and at B the X's and Y's are asked in their order. Between them, and to B, lie dozens of other
    symbols.

    For the length T = `length`, 10 or more, the sequence has between T and T + T // 10 symbols, and the places, counted
    from 0 for E, are uniform on windows; for T = 100 these are

    | markers | first | second | third |
    |---|---|---|---|
    | 2 (experiment 6a) | 10 to 20 | 50 to 60 | |
    | 3 (experiment 6b) | 10 to 20 | 33 to 43 | 66 to 76 |

    and for other T they begin at the same fractions of T, rounded down, and have T // 10 + 1 places. Lengths other than
    100 are ours.

    ## Action Space
    Discrete(4) or Discrete(8), the markers in order read as a binary number with X = 0 and Y = 1, first one leading:
    0 is X and X, 1 is X and Y, 2 is Y and X, 3 is Y and Y. The answer counts at the last step only.

    ## Observation Space
    Discrete(8): 0 E, 1 B, 2 a, 3 b, 4 c, 5 d, 6 X, 7 Y.

    ## Rewards
    1 for the right answer at B, otherwise 0. `info["target"]` is the right answer at B and -1 before.

    ## Starting State
    E. X and Y are equally likely at each place; the length is uniform on T, ..., T + T // 10.

    ## Episode End
    Terminated by the answer to B; B is still seen then. `is_success` tells whether it was right.
    """

    memory = "which of X and Y were seen, and in which order"
    source = "Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 1997"
    state_arrays = ("symbols", "lengths", "answers")
    memory_length = None  # The places and the length are drawn.
    optimal_return = exact(1.0, "the symbols asked for were all seen")

    def __init__(self, num_envs: int, num_markers: int = 2, length: int = 100) -> None:
        check_integer("num_markers", num_markers, 2)
        if num_markers not in WINDOW_STARTS:
            raise ValueError(f"num_markers must be 2 or 3, but got {num_markers!r}.")
        check_integer("length", length, SHORTEST_LENGTH)
        self.num_answers = 2 ** int(num_markers)
        super().__init__(num_envs, Discrete(NUM_SYMBOLS), Discrete(self.num_answers))
        self.num_markers, self.length = int(num_markers), int(length)
        self.longest = self.length + self.length // 10
        self.window_starts: IntArray = np.array(WINDOW_STARTS[self.num_markers]) * self.length // 100
        self.place_values: IntArray = 2 ** np.arange(self.num_markers)[::-1]
        # One symbol more than the longest sequence has, for what is seen after its end.
        self.symbols: IntArray = np.zeros((num_envs, self.longest + 1), dtype=np.int64)
        self.lengths: IntArray = np.full(num_envs, self.length)
        self.answers: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.symbol_starts: IntArray = np.arange(num_envs) * (self.longest + 1)
        self.memoryless_return = exact(1 / self.num_answers, "B is always the same, and all answers are equally likely")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw sequences; `new_task` means nothing here."""
        symbols = FIRST_DISTRACTOR + self.random.integers(rows, NUM_DISTRACTORS, (self.longest + 1,))
        markers = self.random.integers(rows, 2, (self.num_markers,))
        offsets = self.random.integers(rows, self.length // 10 + 1, (self.num_markers + 1,))
        lengths = self.length + offsets[:, 0]
        lanes = np.arange(rows.size)
        symbols[:, 0] = START
        symbols[lanes[:, None], self.window_starts + offsets[:, 1:]] = FIRST_MARKER + markers
        symbols[lanes, lengths - 1] = END
        symbols[lanes, lengths] = END
        self.symbols[rows], self.lengths[rows] = symbols, lengths
        self.answers[rows] = (markers * self.place_values).sum(axis=1)

    def advance(self, actions: Array) -> Transition:
        """Check the answer to B."""
        is_last = self.elapsed_steps == self.lengths
        is_right = is_last & (actions == self.answers)
        targets = np.where(is_last, self.answers, NOTHING_ASKED)
        return Transition(is_right.astype(np.float64), is_last, {"is_success": is_right, "target": targets})

    def observe(self) -> Array:
        """Return the present symbols, (B,)."""
        return self.symbols.take(self.symbol_starts + self.elapsed_steps)

    def hidden_state(self) -> npt.NDArray[np.float32]:
        """Return the steps to come and the right answer as one of so many, (B, 1 + answers)."""
        is_answer = self.answers[:, None] == np.arange(self.num_answers)
        return np.concatenate([(self.lengths - self.elapsed_steps)[:, None], is_answer], axis=1).astype(np.float32)

    def render_text(self, lane: int) -> str:
        """Show the last symbols, the newest on the right."""
        newest = min(int(self.elapsed_steps[lane]), int(self.lengths[lane]) - 1)
        in_view = self.symbols[lane, max(newest + 1 - SYMBOLS_IN_VIEW, 0) : newest + 1]
        letters = "".join(SYMBOL_LETTERS[symbol] for symbol in in_view)
        return f"symbol {newest + 1} of {self.lengths[lane]}: {letters}"
