"""What the card tasks share: the kinds of cards and shuffled decks.

A deck has 52 cards. Tasks look at one side of a card only, its type: one of 2 colours, 4 suits or 13 ranks.

Letters in shapes: R = lanes that are shuffled, N = cards, K = types.
"""

from rlstm.core.arrays import IntArray
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
