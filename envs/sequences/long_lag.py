"""Long time lags: the last symbol of a sequence is the first one again, and must be told before it comes.

Source: experiment 2 of S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997.
"""

import numpy as np
from gymnasium.spaces import Discrete

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import Transition, exact
from rlstm.envs.base.checks import check_choice, check_integer, check_number
from rlstm.envs.base.teacher import TeacherTask

FORMS = ("fixed", "random", "variable")
# Symbols 0 and 1 are x and y, then come the distractors a1, a2, ..., and last the trigger, if there is one.
NUM_CLASSES = 2
NOTHING_ASKED = -1


class LongLag(TeacherTask):
    """Keep the first of a long row of symbols in mind to foretell the last one.

    A sequence begins with x or y, goes on with distractors, and ends with the symbol that it began with. It is read
    symbol by symbol. There are three forms:

    | form | sequence | of the source |
    |---|---|---|
    | fixed | x a1 a2 ... a(p-1) x, and the same with y | experiment 2a |
    | random | the same, but each of the p - 1 distractors is drawn at random | experiment 2b |
    | variable | x, p - 1 or more random distractors, the trigger, x; and the same with y | like experiment 2c |

    In the variable form the number of further distractors is geometric: after the first p - 1 the trigger comes with
    probability `stop_probability` at each step, so that only the trigger tells when the last symbol is due. Nothing but
    the first symbol says anything of the last one, and distractors are there to be seen and forgotten. Unlike in the
    source, the variable form has no begin symbol: an episode's start is one.

    ## Action Space
    Discrete(number of symbols): the symbol that will come next.

    ## Observation Space
    Discrete(number of symbols): 0 is x, 1 is y, 1 + i is the distractor ai, and in the variable form the last number is
    the trigger.

    ## Rewards
    1 for the right last symbol, 0 otherwise; the other answers earn nothing. `info["target"]` is the next symbol where
    it follows from what was read: at every step in the fixed form, otherwise at the last step only, -1 elsewhere.

    ## Starting State
    x or y was read, each with probability 1/2.

    ## Episode End
    Terminated with the last symbol, after p steps, or p + 1 and more in the variable form. `is_success` tells whether
    it was foretold.

    ## Arguments
    - `p`: 2 or more, from the first symbol to its return in the fixed and the random form.
    - `form`: "fixed", "random" or "variable".
    - `num_distractors`: how many different ones there are, 1 or more; default p - 1, and only that in the fixed form.
    - `stop_probability`: more than 0 and at most 1; only the variable form uses it.
    """

    memory = "the first symbol"
    source = "Hochreiter and Schmidhuber, Neural Computation 9(8), 1997, experiment 2"
    state_arrays = ("first_symbols", "symbols", "lengths")
    optimal_return = exact(1.0, "the last symbol is the first one again")
    # A toss of a coin. The symbol before the last is a distractor or the trigger, as p >= 2, and says nothing of the
    # first. So the last one is x or y with probability 1/2 each, and always answering x is right half of the time.
    memoryless_return = exact(0.5, "nothing in view tells whether x or y is due")

    def __init__(
        self,
        num_envs: int,
        p: int = 100,
        form: str = "fixed",
        num_distractors: int | None = None,
        stop_probability: float = 0.1,
    ) -> None:
        check_integer("p", p, 2)
        check_choice("form", form, FORMS)
        num_distractors = p - 1 if num_distractors is None else num_distractors
        check_integer("num_distractors", num_distractors, 1)
        if form == "fixed" and num_distractors != p - 1:
            raise ValueError(f"num_distractors must be p - 1 = {p - 1} in the form fixed, but got {num_distractors!r}.")
        check_number("stop_probability", stop_probability, 0.0, 1.0)
        if stop_probability == 0.0:
            raise ValueError(f"stop_probability must be more than 0, or the trigger never comes: {stop_probability!r}.")
        self.num_symbols = NUM_CLASSES + num_distractors + (form == "variable")
        symbols = Discrete(self.num_symbols)
        super().__init__(num_envs, observation_space=symbols, action_space=Discrete(self.num_symbols))
        self.p, self.form, self.num_distractors = p, form, num_distractors
        # A geometric number is the logarithm of a uniform one times this, rounded down.
        self.tail_scale = 0.0 if stop_probability == 1.0 else float(1.0 / np.log1p(-stop_probability))
        self.first_symbols: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.symbols: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.lengths: IntArray = np.full(num_envs, p)  # Steps of the episode.
        # From reading the first symbol to the question for the last one.
        self.memory_length = None if self.form == "variable" else self.p - 1

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw x or y, and in the variable form the length; `new_task` means nothing here."""
        self.first_symbols[rows] = self.random.integers(rows, NUM_CLASSES)
        self.symbols[rows] = self.first_symbols[rows]
        if self.form == "variable":
            tails = np.log1p(-self.random.uniform(rows)) * self.tail_scale
            self.lengths[rows] = self.p + 1 + tails.astype(np.int64)

    def advance(self, actions: Array) -> Transition:
        """Check the answers where the last symbol is due, and read the next symbol."""
        terminated = self.elapsed_steps == self.lengths
        if self.form == "fixed":
            distractors = self.elapsed_steps + 1
        else:
            distractors = NUM_CLASSES + self.random.integers(self.every_lane, self.num_distractors)
        if self.form == "variable":
            distractors[self.elapsed_steps == self.lengths - 1] = self.num_symbols - 1
        self.symbols = np.where(terminated, self.first_symbols, distractors)
        is_asked = terminated if self.form != "fixed" else True
        targets = np.where(is_asked, self.symbols, NOTHING_ASKED)
        foretold = terminated & (actions == self.symbols)
        return Transition(foretold.astype(np.float64), terminated, {"is_success": foretold, "target": targets})

    def observe(self) -> Array:
        """Return the symbols just read, (B,)."""
        return self.symbols.copy()

    def render_text(self, lane: int) -> str:
        """Show the symbol just read, and the last one as soon as it is due."""
        read, left = int(self.elapsed_steps[lane]), int(self.lengths[lane] - self.elapsed_steps[lane])
        symbol = int(self.symbols[lane])
        is_trigger = self.form == "variable" and symbol == self.num_symbols - 1
        name = "xy"[symbol] if symbol < NUM_CLASSES else "trigger" if is_trigger else f"a{symbol - NUM_CLASSES + 1}"
        last = f"  next: {'xy'[self.first_symbols[lane]]}" if left == 1 else ""
        return f"symbol {read + 1}: {name}{last}"
