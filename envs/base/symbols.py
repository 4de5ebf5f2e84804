"""Pictures of symbols for tasks over an alphabet: what is read now and what may come next."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

COLOUR_OFF, COLOUR_PRESENT, COLOUR_NEXT = (40, 40, 40), (80, 140, 220), (60, 170, 80)
LARGEST_CELL, SMALLEST_CELL, IMAGE_WIDTH = 32, 2, 640  # pixels


def draw_symbols(num_symbols: int, present: int, following: Collection[int]) -> npt.NDArray[np.uint8]:
    """Two rows of squares, one square a symbol: the present one is lit above, those that may follow below.

    Args:
        num_symbols: The size of the alphabet.
        present: The symbol read now.
        following: The symbols that may come next.

    Returns:
        An image (height, width, 3).
    """
    cells = np.full((2, num_symbols, 3), COLOUR_OFF, dtype=np.uint8)
    cells[0, present] = COLOUR_PRESENT
    cells[1, list(following)] = COLOUR_NEXT
    side = int(np.clip(IMAGE_WIDTH // num_symbols, SMALLEST_CELL, LARGEST_CELL))
    return cells.repeat(side, axis=0).repeat(side, axis=1)
