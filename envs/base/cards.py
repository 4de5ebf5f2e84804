"""What the card tasks share: the kinds of cards, shuffled decks, and `SuitTask`.

A deck has 52 cards. Tasks look at one side of a card only, its type: one of 2 colours, 4 suits or 13 ranks.

Letters in shapes: R = lanes that are shuffled, N = cards, K = types.
"""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask
from rlstm.envs.base.checks import check_integer
from rlstm.envs.base.lane_random import LaneRandom

CARDS_PER_DECK = 52
NUM_SUITS = 4
NUM_RANKS = 13

# By deck_type, named as in popgym; the order is popgym's too.
SYMBOLS = {"colors": "BR", "suits": "SDCH", "ranks": "A23456789TJQK"}

POPGYM = "Morad et al., POPGym, ICLR 2023"


def shuffled_decks(random: LaneRandom, rows: IntArray, num_decks: int, num_types: int) -> IntArray:
    """Return the types of `num_decks` decks, shuffled into one, for each lane of `rows`, (R, N), as many of each."""
    return random.permutation(rows, CARDS_PER_DECK * num_decks) % num_types


class SuitTask(BatchedTask):
    """Shuffled decks, of whose suits some are asked."""

    source = POPGYM
    state_arrays: ClassVar[tuple[str, ...]] = ("suits", "all_right")

    def __init__(self, num_envs: int, num_decks: int, observation_space: gym.Space[Any]) -> None:
        check_integer("num_decks", num_decks, 1)
        super().__init__(num_envs, observation_space, Discrete(NUM_SUITS))
        self.num_decks = num_decks
        self.num_cards = CARDS_PER_DECK * num_decks
        # In the order of dealing; the card of step t has index t.
        self.suits: IntArray = np.zeros((num_envs, self.num_cards), dtype=np.int64)
        self.row_starts = np.arange(num_envs) * self.num_cards  # Where the lanes begin in the flat array of suits.
        self.all_right: BoolArray = np.ones(num_envs, dtype=np.bool_)

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Shuffle the decks; `new_task` means nothing here."""
        self.suits[rows] = shuffled_decks(self.random, rows, self.num_decks, NUM_SUITS)
        self.all_right[rows] = True

    def observe(self) -> Array:
        """Return the suits of the cards just dealt, (B,)."""
        return self.suits.take(self.row_starts + self.elapsed_steps)
