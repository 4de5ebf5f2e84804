"""Superimposed sines: go on with a sum of sines after having heard it for a while.

Source: J. Schmidhuber, D. Wierstra, M. Gagliolo, F. Gomez, "Training recurrent networks by Evolino", Neural Computation
19(3), 2007. The frequencies are those of PyBrain's example superimposed_sine.py.
"""

import math

import numpy as np

from rlstm.core.arrays import FloatArray, IntArray
from rlstm.envs.base.batched_task import bound, exact
from rlstm.envs.base.checks import check_integer
from rlstm.envs.base.generative import GenerativeTask

FREQUENCIES = (0.2, 0.311, 0.42, 0.51, 0.74)  # radians a step
FEWEST_SINES, MOST_SINES = 2, len(FREQUENCIES)
# All frequencies are multiples of 1/1000, so the sum repeats itself after so many steps.
PERIOD = 2000.0 * math.pi
# From so many values a fit by least squares finds all phases to the accuracy of the observations; a test does it.
WASHOUT_THAT_TELLS_ALL = 40


class SuperimposedSines(GenerativeTask):
    """Predict a sum of sines, at first with its true values in view, then alone.

    The signal is d(t) = (sin(f_1 (s + t)) + ... + sin(f_k (s + t))) / k with k = `num_sines`, from 2 to 5, and the
    frequencies .2, .311, .42, .51, .74 radians a step, of which the first k are used. Only the start s differs from
    episode to episode. Only with k phases in mind can a policy go on when the signal is out of view.

    Actions, observations, rewards and the other arguments are those of `GenerativeTask` (`envs/base/generative.py`).

    ## Starting State
    s is uniform on [0, 2000 pi), a whole period of the sum, so that every moment of it is equally likely.

    ## Episode End
    Terminated after washout + free_run steps. `is_success` tells whether the free run's root mean squared error is at
    most a tenth of the signal's deviation, sqrt(1 / (2 k)). The division by k, which keeps actions in [-1, 1], the
    drawn start and the measure of success are ours.
    """

    memory = "the phases of all sines"
    source = "Schmidhuber et al., Training recurrent networks by Evolino, Neural Computation 2007"

    def __init__(
        self, num_envs: int, num_sines: int = 2, washout: int = 100, free_run: int = 300, feedback: bool = False
    ) -> None:
        check_integer("num_sines", num_sines, FEWEST_SINES)
        if num_sines > MOST_SINES:
            raise ValueError(f"num_sines must be an integer from {FEWEST_SINES} to {MOST_SINES}, but got {num_sines}.")
        super().__init__(num_envs, 0.5 / num_sines, washout, free_run, feedback)
        self.num_sines = num_sines
        self.optimal_return = exact(0.0, "the washout tells the phases, and with them the rest of the signal")
        if self.washout < WASHOUT_THAT_TELLS_ALL:
            self.optimal_return = bound(0.0, "no error is negative; the washout may be too short to tell the phases")
        # Zero is predicted. All observations of the free run are the same, so the prediction can't depend on the step.
        # At each step d(t) has the mean 0 and the variance 1 / (2 k), as s is uniform on a period and the sines are
        # orthogonal on it. So the best prediction is 0, at the cost of 1 / (2 k) a step.
        value = -self.free_run * 0.5 / self.num_sines
        self.memoryless_return = exact(value, "in the free run only a constant can be predicted, and 0 is the best")

    def draw_series(self, rows: IntArray) -> FloatArray:
        """Return sums of sines from random starts, (R, T + 1)."""
        times = PERIOD * self.random.uniform(rows)[:, None] + np.arange(-1, self.num_steps)
        series = np.zeros_like(times)
        for frequency in FREQUENCIES[: self.num_sines]:
            series += np.sin(frequency * times)
        return series / self.num_sines
