"""The picture of a cart with its poles."""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

IMAGE_HEIGHT, IMAGE_WIDTH = 120, 240  # pixels
PIXELS_PER_METRE = 40
CART_ROW, CART_HALF_WIDTH, CART_HALF_HEIGHT = 90, 12, 5  # pixels
COLOUR_SKY, COLOUR_CART = (245, 245, 245), (50, 60, 80)


def draw_cart(position: float, poles: Iterable[tuple[float, float, tuple[int, int, int]]]) -> npt.NDArray[np.uint8]:
    """Draw a cart, and its poles dot by dot.

    Args:
        position: Of the cart, metres.
        poles: Angle from upright in radians, half length in metres and colour of each.

    Returns:
        An image (120, 240, 3).
    """
    image = np.full((IMAGE_HEIGHT, IMAGE_WIDTH, 3), COLOUR_SKY, dtype=np.uint8)
    middle = IMAGE_WIDTH / 2 + PIXELS_PER_METRE * position
    left, right = (int(np.clip(middle + side, 0, IMAGE_WIDTH)) for side in (-CART_HALF_WIDTH, CART_HALF_WIDTH))
    image[CART_ROW - CART_HALF_HEIGHT : CART_ROW + CART_HALF_HEIGHT, left:right] = COLOUR_CART
    for angle, half_length, colour in poles:
        along = np.linspace(0.0, 2.0 * half_length * PIXELS_PER_METRE, 100)
        rows = (CART_ROW - CART_HALF_HEIGHT - along * math.cos(angle)).astype(int)
        for thickness in (-1, 0, 1):
            columns = (middle + along * math.sin(angle)).astype(int) + thickness
            image[rows, np.clip(columns, 0, IMAGE_WIDTH - 1)] = colour
    return image
