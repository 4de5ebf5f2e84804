"""What the card tasks share: the kinds of cards, shuffled decks, and pictures of cards.

A deck has 52 cards. Tasks look at one side of a card only, its type: one of 2 colours, 4 suits or 13 ranks.

Letters in shapes: R = lanes that are shuffled, N = cards, K = types.
"""

import numpy as np
import numpy.typing as npt

from rlstm.core.arrays import IntArray
from rlstm.envs.base.lane_random import LaneRandom

CARDS_PER_DECK = 52
NUM_SUITS = 4
NUM_RANKS = 13

# By deck_type, named as in popgym; the order is popgym's too.
SYMBOLS = {"colors": "BR", "suits": "SDCH", "ranks": "A23456789TJQK"}
_BLACK, _ORANGE, _GREEN, _RED = (40, 40, 60), (220, 120, 40), (50, 130, 60), (190, 40, 50)
PALETTES: dict[str, npt.NDArray[np.uint8]] = {
    "colors": np.array([_BLACK, _RED], dtype=np.uint8),
    "suits": np.array([_BLACK, _ORANGE, _GREEN, _RED], dtype=np.uint8),
    "ranks": np.linspace((40, 60, 160), (230, 90, 40), NUM_RANKS).astype(np.uint8),
}
COLOUR_UNKNOWN, COLOUR_BLANK = (200, 200, 200), (245, 245, 245)
PIXELS_PER_CARD = 16

POPGYM = "Morad et al., POPGym, ICLR 2023"


def shuffled_decks(random: LaneRandom, rows: IntArray, num_decks: int, num_types: int) -> IntArray:
    """The types of `num_decks` decks, shuffled into one, for each lane of `rows`: (R, N), as many of each type."""
    return random.permutation(rows, CARDS_PER_DECK * num_decks) % num_types


def enlarge(cells: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """An image of one square per cell; `cells` are colours, (height, width, 3)."""
    return cells.repeat(PIXELS_PER_CARD, axis=0).repeat(PIXELS_PER_CARD, axis=1)


def bars(counts: IntArray, highest: int, deck_type: str) -> npt.NDArray[np.uint8]:
    """Cells (highest, K, 3) with a bar for each type, `counts` (K,) cells high."""
    heights = np.arange(highest, 0, -1)[:, None]
    return np.where((heights <= counts)[:, :, None], PALETTES[deck_type], np.array(COLOUR_BLANK, dtype=np.uint8))


def marker(chosen: int, deck_type: str) -> npt.NDArray[np.uint8]:
    """One row of cells (1, K, 3), coloured only at the type `chosen`."""
    row = np.full((1, len(PALETTES[deck_type]), 3), COLOUR_UNKNOWN, dtype=np.uint8)
    row[0, chosen] = PALETTES[deck_type][chosen]
    return row
