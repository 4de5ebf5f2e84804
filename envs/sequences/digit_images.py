"""Handwritten digits that scikit-learn brings along: 1,797 images of 8 x 8 points, for training and for tests.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998, the
part for tests, written by 13 people. `sklearn.datasets.load_digits` has it without any download.

The file doesn't say who wrote what. It is cut into `NUM_STRETCHES` stretches of equal length, in the order of the
file. Of every four, the last is for tests; of the other three, all for training, the third is for validation where
settings are chosen, and the first two are then what is fitted. So no image is for both training and tests, and images
of the two come from different stretches; where the hands of a writer lie on both sides of a border, they are in both.
"""

import functools

import numpy as np

from rlstm.core.arrays import FloatArray, IntArray

TRAIN, FIT, VALIDATION, TEST = "train", "fit", "validation", "test"
SIDE = 8  # points
DARKEST = 16.0
NUM_CLASSES = 10
NUM_STRETCHES = 12
SPLITS = {TRAIN: (0, 1, 2), FIT: (0, 1), VALIDATION: (2,), TEST: (3,)}  # Stretches of every four.


@functools.cache
def load_split(split: str) -> tuple[FloatArray, IntArray]:
    """Return the images (M, 8, 8) of a split, from 0 (paper) to 1 (ink), and which digits they are, (M,).

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The digits of rlstm/DigitStrips-v0 come with scikit-learn: pip install 'rlstm-torch[digits]'. Without it "
            "take rlstm/SpokenStrings-v0."
        ) from error
    data = load_digits()
    stretches = np.arange(len(data.target)) * NUM_STRETCHES // len(data.target)
    chosen = np.isin(stretches % 4, SPLITS[split])
    images: FloatArray = data.images[chosen].astype(np.float64) / DARKEST
    digits: IntArray = data.target[chosen].astype(np.int64)
    for array in (images, digits):
        array.setflags(write=False)  # All envs share them.
    return images, digits


def distort(images: FloatArray, changes: FloatArray) -> FloatArray:
    """Return images (M, 8, 8) stretched, sheared and shifted, each by changes of its own.

    A point p of the new image, seen from the middle, has the ink of the old one at p + A p + b, between four points by
    the distances from them. Outside there is paper.

    Args:
        images: What is distorted.
        changes: (M, 2, 3) A, and in the last column b in halves of a side.
    """
    middle = (SIDE - 1) / 2
    points = np.stack(np.meshgrid(*[np.arange(SIDE) - middle] * 2, indexing="ij"))  # (2, 8, 8)
    moved = np.tensordot(changes[:, :, :2], points, axes=(2, 0)) + points
    moved += middle + changes[:, :, 2, None, None] * (SIDE / 2)
    corner = np.floor(moved).astype(np.int64)
    share = moved - corner
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    which = np.arange(len(images))[:, None, None]
    result = np.zeros_like(images)
    for down in (0, 1):
        for right in (0, 1):
            y = np.clip(corner[:, 0] + down + 1, 0, SIDE + 1)
            x = np.clip(corner[:, 1] + right + 1, 0, SIDE + 1)
            weight = np.abs(1 - down - share[:, 0]) * np.abs(1 - right - share[:, 1])
            result += weight * padded[which, y, x]
    return result
