"""Counting languages: read S a^n b^n T or S a^n b^n c^n T and tell before each symbol which ones are legal.

Source: F. A. Gers, J. Schmidhuber, "LSTM Recurrent Networks Learn Simple Context-Free and Context-Sensitive Languages",
IEEE Transactions on Neural Networks 12(6), 2001.
"""

from string import ascii_lowercase

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import Transition, exact
from rlstm.envs.base.checks import check_integer
from rlstm.envs.base.teacher import TeacherTask

# With L letters the symbols are 0 for S, 1 ... L for the letters, L + 1 for T.
START, FIRST_LETTER = 0, 1


class CountingLanguage(TeacherTask):
    """Tell which symbols may come next in a string of as many b's (and c's) as a's.

    A string is S, then each of the L = `num_letters` letters n times, then T: for L = 3 and n = 2, S a a b b c c T. It
    is read symbol by symbol, and after each the set of legal next symbols is asked, those with which some string of the
    language {S a^n b^n ... T, n >= 1} goes on:

    | read so far | legal next |
    |---|---|
    | S | a |
    | S and some a's | a, b |
    | fewer than n b's, of c's, ... | the same letter again |
    | n b's, c's, ... | the next letter; after the last letter, T |

    The sets are those of the whole language, however few n are drawn, so what is learned on short strings can be tested
    on long ones: that an a may follow `max_n` a's stays true. The b's look alike, and only the
    number of a's tells where they end.

    ## Action Space
    MultiDiscrete([2] * (L + 1)): one component for each of the letters in order and the last one for T, 1 where that
    symbol is said to be legal. S is never legal.

    ## Observation Space
    Discrete(L + 2): 0 is S, 1 ... L are the letters, L + 1 is T, which is only seen after the last step.

    ## Rewards
    1 / M for exactly the right set, 0 for any other, with M = L (min_n + max_n) / 2 + 1, the mean number of sets asked
    for in a string. So the return of perfect answers is 1 on average and (L n + 1) / M for one string. Dividing by a
    string's own L n + 1 would tell n to an agent that is shown its last reward. `info["target"]` is the right set.

    ## Starting State
    S; n is uniform on `min_n`, ..., `max_n`.

    ## Episode End
    Terminated with T, after L n + 1 steps. `is_success` tells whether every set was right: the string is accepted.

    ## Arguments
    - `num_letters`: L, from 2 to 26: 2 is a^n b^n, 3 is a^n b^n c^n.
    - `min_n`, `max_n`: 1 <= `min_n` <= `max_n`.
    """

    memory = "how many a's came, and how many of the present letter"
    source = "Gers and Schmidhuber, IEEE Transactions on Neural Networks 12(6), 2001"
    state_arrays = ("repeats", "all_right")
    optimal_return = exact(1.0, "with the letters counted every set is right")

    def __init__(self, num_envs: int, num_letters: int = 2, min_n: int = 1, max_n: int = 10) -> None:
        check_integer("num_letters", num_letters, 2)
        if num_letters > len(ascii_lowercase):
            raise ValueError(f"num_letters must be an integer <= {len(ascii_lowercase)}, but got {num_letters!r}.")
        check_integer("min_n", min_n, 1)
        check_integer(f"max_n for min_n {min_n}", max_n, min_n)
        super().__init__(num_envs, Discrete(num_letters + 2), MultiDiscrete([2] * (num_letters + 1)))
        self.num_letters, self.min_n, self.max_n = num_letters, min_n, max_n
        # Of one string of each n there is: how many sets are asked for, in all of them together.
        self.num_strings = max_n - min_n + 1
        self.sum_of_n = self.num_strings * (min_n + max_n) // 2
        self.sets_asked_for = num_letters * self.sum_of_n + self.num_strings
        self.reward_of_a_set = self.num_strings / self.sets_asked_for
        self.repeats: IntArray = np.ones(num_envs, dtype=np.int64)
        self.all_right: BoolArray = np.ones(num_envs, dtype=np.bool_)
        # The right set by the symbol that is about to come, in two blocks: after an a, and after any other symbol.
        only_the_next = np.eye(num_letters + 2, dtype=np.int64)[:, FIRST_LETTER:]
        after_an_a = only_the_next.copy()
        after_an_a[FIRST_LETTER : FIRST_LETTER + 2, :2] = 1
        self.legal: IntArray = np.concatenate([after_an_a, only_the_next])
        # It grows with n; with n = 1 every symbol tells what comes next.
        self.memory_length = 0 if self.max_n == 1 else None
        # The sets after S and after a's, and the better of two guesses for each other letter. The sets after S and
        # after an a are always the same, {a} and {a, b}: 1 + n right answers. Of the n sets after letters b, n - 1 are
        # {b} and one is {c}, so a policy that only sees b does best with one of them always, {b} if n - 1 is more than
        # 1 on average; and so for the later letters.
        always_right = self.num_strings + self.sum_of_n
        right_for_a_letter = max(self.sum_of_n - self.num_strings, self.num_strings)
        value = (always_right + (self.num_letters - 1) * right_for_a_letter) / self.sets_asked_for
        self.memoryless_return = exact(value, "each letter after the a's has one fixed answer, the more frequent set")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw n; `new_task` means nothing here."""
        self.repeats[rows] = self.min_n + self.random.integers(rows, self.num_strings)
        self.all_right[rows] = True

    def advance(self, actions: Array) -> Transition:
        """Check the sets and read the next symbol."""
        # The base class has counted this step already, so that symbol is now about to come.
        next_symbols = self._symbols_at(self.elapsed_steps)
        after_others = self._symbols_at(self.elapsed_steps - 1) != FIRST_LETTER
        targets = self.legal.take(next_symbols + after_others * (self.num_letters + 2), axis=0)
        right = (actions == targets).all(axis=1)
        self.all_right &= right
        terminated = next_symbols == self.num_letters + 1
        info = {"is_success": self.all_right & terminated, "target": targets}
        return Transition(right * self.reward_of_a_set, terminated, info)

    def observe(self) -> Array:
        """Return the symbols just read, (B,)."""
        return self._symbols_at(self.elapsed_steps)

    def render_text(self, lane: int) -> str:
        """Show what was read so far and the legal next symbols."""
        names = f"S{ascii_lowercase[: self.num_letters]}T"
        n, position = int(self.repeats[lane]), int(self.elapsed_steps[lane])
        string = "S" + "".join(letter * n for letter in names[1:-1]) + "T"
        legal = "a b" if 1 <= position <= n else names[position // n + 1] if position <= self.num_letters * n else ""
        return f"{string[: position + 1]}  next: {legal}"

    def _symbols_at(self, positions: IntArray) -> IntArray:
        """Return the symbols at these positions (B,) of the lanes' strings, position 0 being S, (B,)."""
        # Position p is in the letter number p / n rounded up: S is at 0, and T is at L n + 1.
        return (positions + self.repeats - 1) // self.repeats
