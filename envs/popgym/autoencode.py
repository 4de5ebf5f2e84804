"""Autoencode: watch a deck being dealt, then tell it backwards."""

import numpy as np
from gymnasium.spaces import MultiDiscrete

from rlstm.core.arrays import Array
from rlstm.envs.base.batched_task import Transition, exact
from rlstm.envs.base.cards import NUM_SUITS, SYMBOLS, SuitTask

PLAY, WATCH = range(2)
SUIT_WHILE_PLAYING = 0


class Autoencode(SuitTask):
    """Watch all cards of a shuffled deck, then answer with their suits, the last card first.

    N = 52 `num_decks` cards, of 1 deck or more, are shuffled, and one is dealt. The others are dealt one by one, and
    actions do nothing; then the player gives N answers, from the last card back to the first. So the order of the whole
    deck must be remembered. popgym's Easy, Medium and Hard are num_decks = 1, 2, 3.

    ## Action Space
    Discrete(4): a suit.

    ## Observation Space
    MultiDiscrete([2, 4]), where popgym has a tuple of the same.

    | part | meaning |
    |---|---|
    | mode | 1 watch, 0 play: what the answer to this observation is for |
    | suit | of the card just dealt; always 0 once an answer was given |

    The last card comes together with the change to play, so the first answer is in view.

    ## Rewards
    In play, 1 / N for a right answer and -1 / N for a wrong one; 0 while watching.

    ## Episode End
    Terminated after N - 1 steps of watching and N answers. `is_success` tells whether every answer was right.
    """

    memory = "the suits of all cards, in order"
    optimal_return = exact(1.0, "every one of the N answers is right")

    def __init__(self, num_envs: int, num_decks: int = 1) -> None:
        super().__init__(num_envs, num_decks, MultiDiscrete([2, NUM_SUITS]))
        self.num_steps = 2 * self.num_cards - 1
        # By elapsed steps: up to N - 1 of them a card was dealt; from N on they count an answer.
        steps = np.arange(self.num_steps + 1)
        self.rewards_if_right = np.where(steps < self.num_cards, 0.0, 1.0 / self.num_cards)
        # While watching, the card asked for is a card like any other; its suit goes into no reward.
        self.asked_place = np.minimum(self.num_steps - steps, self.num_cards - 1)
        self.shown_place = np.minimum(steps, self.num_cards - 1)
        self.mode = np.where(steps < self.num_cards - 1, WATCH, PLAY)
        self.memory_length = 2 * self.num_cards - 2  # From the first card to the last answer.
        # After the first answer all observations are equal, and each card asked for is of each suit with probability
        # 1/4: (N - 1) / 4 right answers, whatever is answered. The first card asked for is in view, and to answer its
        # suit costs nothing elsewhere: if that suit is 0, the later observations look the same, but there 0 is as good
        # as any other answer.
        value = 2.0 * (1.0 + (self.num_cards - 1) / 4) / self.num_cards - 1.0
        self.memoryless_return = exact(value, "the first card asked for is in view, of the others a quarter is right")

    def advance(self, actions: Array) -> Transition:
        """Deal the next card, or check the answers."""
        steps = self.elapsed_steps
        right = self.suits.take(self.row_starts + self.asked_place.take(steps)) == actions
        self.all_right &= right | (steps < self.num_cards)
        scale = self.rewards_if_right.take(steps)
        # Subtracted from 0, since a negated 0 would be a negative one.
        rewards = np.where(right, scale, 0.0 - scale)
        terminated = steps == self.num_steps
        return Transition(rewards, terminated, {"is_success": self.all_right & terminated})

    def observe(self) -> Array:
        """Return mode and suit, (B, 2)."""
        steps = self.elapsed_steps
        observations = np.empty((self.num_envs, 2), dtype=np.int64)
        observations[:, 0] = self.mode.take(steps)
        suits = self.suits.take(self.row_starts + self.shown_place.take(steps))
        observations[:, 1] = np.where(steps < self.num_cards, suits, SUIT_WHILE_PLAYING)
        return observations

    def render_text(self, lane: int) -> str:
        """Show the cards that were dealt and are not yet told; in play the last, which is asked for, in brackets."""
        steps = int(self.elapsed_steps[lane])
        known = min(steps + 1, self.num_steps - steps)
        letters = "".join(SYMBOLS["suits"][suit] for suit in self.suits[lane, :known])
        if self.mode[steps] == WATCH:
            return f"watch card {known} of {self.num_cards}: {letters}"
        if known == 0:
            return "play: all cards are told"
        return f"play card {known} of {self.num_cards}: {letters[:-1]}[{letters[-1]}]"
