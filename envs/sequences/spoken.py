"""Spoken strings: tell what was said, by formants that glide at changing rates. Synthetic; nothing is recorded.

Source: G. E. Peterson, H. L. Barney, "Control methods used in a study of the vowels", Journal of the Acoustical Society
of America 24(2), 1952, for the formants of ten vowels, means of 33 men; A. Graves, S. Fernández, F. Gomez, J.
Schmidhuber, "Connectionist temporal classification", ICML 2006, for the kind of task. Glides, rates and noise are ours.

Letters in shapes: R = the lanes that a call is about, T = steps of the longest sequence, L = labels of the longest
string.
"""

import numpy as np

from rlstm.core.arrays import FloatArray, IntArray
from rlstm.envs.base.batched_task import bound, unknown
from rlstm.envs.base.checks import check_integer, check_number
from rlstm.envs.base.labelling import LabellingTask, Placement

# First, second and third formant, hertz.
VOWELS: dict[str, tuple[float, float, float]] = {
    "heed": (270, 2290, 3010),
    "hid": (390, 1990, 2550),
    "head": (530, 1840, 2480),
    "had": (660, 1720, 2410),
    "hod": (730, 1090, 2440),
    "hawed": (570, 840, 2410),
    "hood": (440, 1020, 2240),
    "who'd": (300, 870, 2240),
    "hud": (640, 1190, 2390),
    "heard": (490, 1350, 1690),
}
FORMANTS: FloatArray = np.array(list(VOWELS.values()))
LOWEST, HIGHEST = FORMANTS.min(axis=0), FORMANTS.max(axis=0)
NUM_SYMBOLS = len(VOWELS)
GLIDE = 3  # A symbol glides to the vowel so many places further on: no two are the same, nor the reverse of another.
LOUDEST = 2.0  # Bound of the observations.


class SpokenStrings(LabellingTask):
    """Tell a string of gliding vowels, spoken by another voice and at another rate each time.

    Symbol k, of ten, glides from the k-th vowel of `VOWELS` to the one three places further on, for a number of steps
    that is drawn for each symbol. Pauses of 0 to `max_gap` steps stand before, between and after them; between two
    equal symbols there is one of 1 at least. A voice multiplies all formants of a sequence. Formants are smoothed over
    neighbouring steps, also from one symbol to the next, as speech is: coarticulation. So no step tells the symbol,
    each vowel being where one symbol begins and another ends.

    Actions, rewards and infos are those of `LabellingTask` (`envs/base/labelling.py`), with K = 10: the symbols, and 10
    for the blank.

    ## Observation Space
    Box(-2, 2, (4,), float32): loudness, 1 in symbols and 0 in pauses, smoothed, and three formants, -1 for the lowest
    of all vowels and 1 for the highest, where it is loud; towards 0 in pauses. Noise is added to all.

    ## Starting State
    The first step. How many symbols, which, their durations, the pauses and the voice are drawn uniformly.

    ## Arguments
    - `min_labels`, `max_labels`: how many symbols there are.
    - `min_duration`, `max_duration`: steps of a symbol, 2 or more.
    - `max_gap`: most steps of a pause, 1 or more.
    - `voices`: formants are multiplied by a number from 1 - `voices` to 1 + `voices`.
    - `smoothing`: half the width of a moving average over steps; 0 smoothes nothing.
    - `noise`: deviation of a normal number that is added to every observation.
    """

    memory = "what was heard of the present symbol"
    source = "synthetic; vowels of Peterson and Barney, JASA 1952; Graves et al., ICML 2006"
    optimal_return = bound(1.0, "no string is better than the exact one, but noise may mislead")
    memoryless_return = unknown("what a single step tells of a string is not known; blanks alone earn 0")

    def __init__(
        self,
        num_envs: int,
        min_labels: int = 3,
        max_labels: int = 8,
        min_duration: int = 4,
        max_duration: int = 12,
        max_gap: int = 4,
        voices: float = 0.1,
        smoothing: int = 1,
        noise: float = 0.1,
    ) -> None:
        check_integer("min_duration", min_duration, 2)
        check_integer("max_duration", max_duration, min_duration)
        check_number("voices", voices, 0, 0.5)
        check_integer("smoothing", smoothing, 0)
        check_number("noise", noise, 0, 1)
        super().__init__(
            num_envs,
            num_features=1 + FORMANTS.shape[1],
            low=-LOUDEST,
            high=LOUDEST,
            num_symbols=NUM_SYMBOLS,
            fewest=min_labels,
            most=max_labels,
            widest=max_duration,
            max_gap=max_gap,
        )
        self.min_duration, self.max_duration = int(min_duration), int(max_duration)
        self.voices, self.smoothing, self.noise = float(voices), int(smoothing), float(noise)

    def draw_widths(self, rows: IntArray, strings: IntArray) -> IntArray:
        """Return a duration for every symbol, (R, L)."""
        return self.min_duration + self.random.integers(rows, self.max_duration - self.min_duration + 1, (self.most,))

    def draw_strips(self, rows: IntArray, strings: IntArray, placement: Placement) -> FloatArray:
        """Return loudness and formants at every step, (R, T, 4)."""
        which = np.maximum(placement.symbols, 0)
        labels = np.take_along_axis(np.maximum(strings, 0), which, axis=1)
        last = np.take_along_axis(placement.widths, which, axis=1) - 1
        share = (placement.offsets / last)[:, :, None]
        hertz = (1.0 - share) * FORMANTS[labels] + share * FORMANTS[(labels + GLIDE) % NUM_SYMBOLS]
        hertz *= 1.0 + self.voices * (2.0 * self.random.uniform(rows)[:, None, None] - 1.0)
        features = np.ones((*hertz.shape[:2], 1 + hertz.shape[2]))
        features[:, :, 1:] = 2.0 * (hertz - LOWEST) / (HIGHEST - LOWEST) - 1.0
        features[placement.symbols < 0] = 0.0
        features = smoothed(features, self.smoothing) + self.noise * self.random.normal(rows, features.shape[1:])
        return np.clip(features, -LOUDEST, LOUDEST)


def smoothed(features: FloatArray, reach: int) -> FloatArray:
    """Return the means over `reach` steps to both sides, (R, T, F) as before; beyond the ends there are zeros."""
    padded = np.pad(features, ((0, 0), (reach, reach), (0, 0)))
    width, steps = 2 * reach + 1, features.shape[1]
    return np.asarray(sum(padded[:, shift : shift + steps] for shift in range(width)) / width)
