"""RepeatPrevious: cards are dealt one by one, and at every step the suit of the k-th last card is asked."""

import numpy as np
from gymnasium.spaces import Discrete

from rlstm.core.arrays import Array
from rlstm.envs.base.batched_task import Transition, exact
from rlstm.envs.base.cards import NUM_SUITS, SYMBOLS, SuitTask
from rlstm.envs.base.checks import check_integer


class RepeatPrevious(SuitTask):
    """Answer with the suit of the k-th last card; the card just seen is the last.

    N = 52 `num_decks` cards, of 1 deck or more, are shuffled and dealt without replacement, one at the start. An answer
    is asked from the moment k cards were seen, so N - k times, 1 <= k < N. With k = 1 the present card is asked; k = 4
    is the suit of three steps ago. popgym's Easy, Medium and Hard are (num_decks, k) = (1, 4), (2, 32), (3, 64).

    ## Action Space
    Discrete(4): a suit.

    ## Observation Space
    Discrete(4): the suit of the card just dealt.

    ## Rewards
    1 / (N - k) for a right answer, -1 / (N - k) for a wrong one, 0 as long as fewer than k cards were seen.

    ## Episode End
    Terminated when the last card is dealt, after N - 1 steps; that card is seen but nothing is asked any more.
    `is_success` tells whether every answer was right.
    """

    memory = "the suits of the last cards, in order"
    optimal_return = exact(1.0, "every one of the N - k answers is right")

    def __init__(self, num_envs: int, num_decks: int = 1, k: int = 4) -> None:
        super().__init__(num_envs, num_decks, Discrete(NUM_SUITS))
        check_integer("k", k, 1)
        if k >= self.num_cards:
            raise ValueError(f"k must be less than the {self.num_cards} cards of num_decks={num_decks}, but got {k!r}.")
        self.k = k
        self.reward_scale = 1.0 / (self.num_cards - k)
        self.memory_length = self.k - 1  # From seeing a card to the question for it.
        # For k >= 2 the card asked for and the present card are two different cards of a shuffled deck. Of the N - 1
        # that the other one may be, N/4 - 1 have the suit of the present card and N/4 have each other suit. So the best
        # answer is another suit, right with p = (N/4) / (N - 1), and the return is 2 p - 1 = N / (2 (N - 1)) - 1, a
        # little above -1/2.
        value = self.num_cards / (2.0 * (self.num_cards - 1)) - 1.0
        self.memoryless_return = exact(value, "any suit but the present one, right (N/4) / (N - 1) of the time")
        if k == 1:
            self.memoryless_return = exact(1.0, "with k = 1 the card asked for is in view")

    def advance(self, actions: Array) -> Transition:
        """Check the answers and deal the next card."""
        # The base class has counted this step already, so so many cards were seen when the answer was given.
        cards_seen = self.elapsed_steps
        is_asked = cards_seen >= self.k
        # Where nothing is asked yet the index is negative and means some card not dealt; its suit goes into no reward.
        right = self.suits[self.every_lane, cards_seen - self.k] == actions
        self.all_right &= right | ~is_asked
        rewards = np.where(right, self.reward_scale, -self.reward_scale) * is_asked
        terminated = cards_seen == self.num_cards - 1
        return Transition(rewards, terminated, {"is_success": self.all_right & terminated})

    def render_text(self, lane: int) -> str:
        """Show the last cards, oldest first; the one asked for, if any, in brackets."""
        newest = int(self.elapsed_steps[lane])
        oldest = newest - self.k + 1
        letters = [SYMBOLS["suits"][suit] for suit in self.suits[lane, max(oldest, 0) : newest + 1]]
        if oldest >= 0:
            letters[0] = f"[{letters[0]}]"
        return f"card {newest + 1} of {self.num_cards}: {' '.join(letters)}"
