"""RepeatFirst: cards are dealt one by one, and at every step the suit of the first one is asked."""

import numpy as np
from gymnasium.spaces import Discrete

from rlstm.core.arrays import Array
from rlstm.envs.base.batched_task import Transition, exact
from rlstm.envs.base.cards import NUM_SUITS, SYMBOLS, SuitTask


class RepeatFirst(SuitTask):
    """Answer with the suit of the first card, over and over, while others pass by.

    N = 52 `num_decks` cards, of 1 deck or more, are shuffled and dealt without replacement, one at the start. The first
    observation is the first card; it is never seen again, nothing marks it, and each of the N - 1 answers should be its
    suit. So one thing must be kept for the whole episode. popgym's Easy, Medium and Hard are num_decks = 1, 8, 16.

    ## Action Space
    Discrete(4): a suit.

    ## Observation Space
    Discrete(4): the suit of the card just dealt.

    ## Rewards
    1 / (N - 1) for a right answer, -1 / (N - 1) for a wrong one.

    ## Episode End
    Terminated when the last card is dealt, after N - 1 steps; that card is seen but nothing is asked any more.
    `is_success` tells whether every answer was right.
    """

    memory = "the suit of the first card"
    optimal_return = exact(1.0, "every one of the N - 1 answers is right")

    def __init__(self, num_envs: int, num_decks: int = 1) -> None:
        super().__init__(num_envs, num_decks, Discrete(NUM_SUITS))
        self.reward_scale = 1.0 / (self.num_cards - 1)
        self.memory_length = self.num_cards - 2  # From the first card to the last answer.
        # Answering the present suit. At the first answer the present card is the first one. At each of the other N - 2
        # they are two cards of a shuffled deck: the first has the present suit with probability (N/4 - 1) / (N - 1),
        # and each other suit with probability (N/4) / (N - 1). So answering the present suit is right
        # 1 + (N - 2) (N/4 - 1) / (N - 1) times in the mean, and answering any other suit (N - 2) (N/4) / (N - 1) times,
        # which is 1 / (N - 1) less.
        num_cards = self.num_cards
        right = 1.0 + (num_cards - 2) * (num_cards / 4 - 1) / (num_cards - 1)
        value = 2.0 * right / (num_cards - 1) - 1.0
        self.memoryless_return = exact(value, "the present suit, surely right while the first card is in view")

    def advance(self, actions: Array) -> Transition:
        """Check the answers and deal the next card."""
        right = actions == self.suits[:, 0]
        self.all_right &= right
        rewards = np.where(right, self.reward_scale, -self.reward_scale)
        terminated = self.elapsed_steps == self.num_cards - 1
        return Transition(rewards, terminated, {"is_success": self.all_right & terminated})

    def render_text(self, lane: int) -> str:
        """Show the first card, in brackets as it is asked for, and the present one."""
        newest = int(self.elapsed_steps[lane])
        first, present = (SYMBOLS["suits"][self.suits[lane, place]] for place in (0, newest))
        return f"card {newest + 1} of {self.num_cards}: [{first}] {present}"
