"""Digit strips: read a row of handwritten digits column by column.

Source: A. Graves, S. Fernández, F. Gomez, J. Schmidhuber, "Connectionist temporal classification: labelling
unsegmented sequence data with recurrent neural networks", ICML 2006, for the kind of task; digits as in
`envs/sequences/digit_images.py`. The strips are ours.

Letters in shapes: R = the lanes that a call is about, T = steps of the longest sequence, L = labels of the longest
string.
"""

import numpy as np

from rlstm.core.arrays import FloatArray, IntArray
from rlstm.envs.base.batched_task import bound, exact, unknown
from rlstm.envs.base.checks import check_choice, check_integer, check_number
from rlstm.envs.base.labelling import LabellingTask, Placement
from rlstm.envs.sequences.digit_images import NUM_CLASSES, SIDE, SPLITS, TRAIN, distort, load_split


class DigitStrips(LabellingTask):
    """Tell the digits on a strip of paper that passes by one column at a time.

    From 3 to 8 handwritten digits stand side by side, 8 x 8 points each, with a gap of 0 to `max_gap` columns before,
    between and after them; between two equal digits it is 1 at least. Each is at a random height of the strip. Nothing
    marks where a digit begins, and most can't be told before several of their columns have been seen.

    Actions, rewards and infos are those of `LabellingTask` (`envs/base/labelling.py`), with K = 10: the digits, and 10
    for the blank.

    ## Observation Space
    Box(0, 1, (height,), float32): a column of the strip, from the top, from 0 (paper) to 1 (ink).

    ## Starting State
    The first column. How many digits, which images and the gaps are drawn uniformly, an image for each place; first
    the digit, so that all are equally frequent.

    ## Arguments
    - `split`: "train" or "test"; or, where settings are chosen, "fit" and "validation", which part "train". No image
      is in two of "fit", "validation" and "test"; they come from different stretches of the file.
    - `min_labels`, `max_labels`: how many digits there are.
    - `height`: of the strip, 8 or more.
    - `max_gap`: most columns between digits, 1 or more.
    - `noise`: deviation of a normal number that is added to every point, before cutting to [0, 1].
    - `distortion`: every image is stretched and sheared, in both directions, by uniform numbers up to this, and shifted
      by up to so many halves of its side: for training, where more images help.
    """

    memory = "what was seen of the present digit"
    source = "Graves et al., Connectionist temporal classification, ICML 2006; digits: Alpaydin and Kaynak, UCI 1998"
    memoryless_return = unknown("what a single column tells of a string is not known; blanks alone earn 0")

    def __init__(
        self,
        num_envs: int,
        split: str = TRAIN,
        min_labels: int = 3,
        max_labels: int = 8,
        height: int = 12,
        max_gap: int = 4,
        noise: float = 0.0,
        distortion: float = 0.0,
    ) -> None:
        check_choice("split", split, list(SPLITS))
        check_integer("height", height, SIDE)
        check_number("noise", noise, 0, 1)
        check_number("distortion", distortion, 0, 0.5)
        super().__init__(
            num_envs,
            num_features=height,
            low=0.0,
            high=1.0,
            num_symbols=NUM_CLASSES,
            fewest=min_labels,
            most=max_labels,
            widest=SIDE,
            max_gap=max_gap,
        )
        self.split, self.height = split, int(height)
        self.noise, self.distortion = float(noise), float(distortion)
        self.optimal_return = bound(1.0, "no string is better than the exact one, but images may mislead")
        if not self.noise and not self.distortion:
            self.optimal_return = exact(1.0, "every image is known and there is one digit to each")

    def draw_widths(self, rows: IntArray, strings: IntArray) -> IntArray:
        """Return the width of an image for every digit, (R, L)."""
        return np.full_like(strings, SIDE)

    def draw_strips(self, rows: IntArray, strings: IntArray, placement: Placement) -> FloatArray:
        """Return strips with an image for every digit, (R, T, height)."""
        images = self._draw_images(rows, strings)  # (R, L, 8, 8)
        tops = self.random.integers(rows, self.height - SIDE + 1, (self.most,))
        which = np.maximum(placement.symbols, 0)
        lanes = np.arange(rows.size)[:, None]
        offsets = np.clip(placement.offsets, 0, SIDE - 1)
        heights = np.arange(self.height) - tops[lanes, which][:, :, None]  # (R, T, height) from an image's top
        is_ink = (placement.symbols >= 0)[:, :, None] & (heights >= 0) & (heights < SIDE)
        inside = np.clip(heights, 0, SIDE - 1)
        points = images[lanes[:, :, None], which[:, :, None], inside, offsets[:, :, None]]
        strips = np.where(is_ink, points, 0.0)
        if self.noise:
            strips = strips + self.noise * self.random.normal(rows, strips.shape[1:])
        clipped: FloatArray = np.clip(strips, 0.0, 1.0)
        return clipped

    def _draw_images(self, rows: IntArray, strings: IntArray) -> FloatArray:
        """Return an image of every digit, (R, L, 8, 8); what stands for no digit is any image."""
        images, digits = load_split(self.split)
        order, counts = np.argsort(digits, kind="stable"), np.bincount(digits, minlength=NUM_CLASSES)
        first = np.cumsum(counts) - counts
        shares = self.random.uniform(rows, (self.most,))
        labels = np.maximum(strings, 0)
        drawn: FloatArray = images[order[first[labels] + (shares * counts[labels]).astype(np.int64)]]
        if not self.distortion:
            return drawn
        changes = self.distortion * (2.0 * self.random.uniform(rows, (self.most, 2, 3)) - 1.0)
        return distort(drawn.reshape(-1, SIDE, SIDE), changes.reshape(-1, 2, 3)).reshape(drawn.shape)
