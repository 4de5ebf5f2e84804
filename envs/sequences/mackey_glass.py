"""Mackey-Glass: go on with a chaotic signal after having heard it for a while.

Sources: M. C. Mackey, L. Glass, "Oscillation and chaos in physiological control systems", Science 197, 1977, for the
equation; J. Schmidhuber, D. Wierstra, M. Gagliolo, F. Gomez, "Training recurrent networks by Evolino", Neural
Computation 19(3), 2007, for the task.

Letters in shapes: R = lanes that a call is about, T = steps of an episode, N = steps of integration in a delay.
"""

import numpy as np

from rlstm.core.arrays import FloatArray, IntArray
from rlstm.envs.base.batched_task import bound, unknown
from rlstm.envs.base.generative import GenerativeTask

# dx/dt = GAIN x(t - DELAY) / (1 + x(t - DELAY)^10) - DECAY x(t)
DELAY, GAIN, DECAY = 17, 0.2, 0.1
SUBSTEPS = 10  # steps of integration in a unit of time
NUM_SUBSTEPS = DELAY * SUBSTEPS  # N
STEP = 1.0 / SUBSTEPS

# x / (1 + x^10) is at most 0.723 for x >= 0, so from here x can't rise above 1.446, nor fall below 0.
HISTORY_LOW, HISTORY_HIGH = 0.5, 1.3
# By then the kinks of the drawn history are gone and the lanes are on the attractor; they stay in step with each other
# for much longer, so the start is moved by up to two turns of about 50 units.
TRANSIENT, LARGEST_START = 200, 100
VARIANCE = 0.0511  # of 20,000 signals of 1,000 values

# What the method of Runge and Kutta of order 4 comes to if the delayed term is a known function g of time:
# x(t + h) = RETENTION x(t) + WEIGHT_START g(t) + WEIGHT_MIDDLE g(t + h / 2) + WEIGHT_END g(t + h).
_Z = DECAY * STEP
RETENTION = 1 - _Z + _Z**2 / 2 - _Z**3 / 6 + _Z**4 / 24
WEIGHT_START = STEP * (1 - _Z + _Z**2 / 2 - _Z**3 / 4) / 6
WEIGHT_MIDDLE = STEP * (4 - 2 * _Z + _Z**2 / 2) / 6
WEIGHT_END = STEP / 6
RETENTIONS = np.power(RETENTION, np.arange(NUM_SUBSTEPS + 1))


class MackeyGlass(GenerativeTask):
    """Predict a chaotic signal, at first with its true values in view, then alone.

    The signal is d(t) = x(t) - 1 at every unit of time, where

        dx/dt = .2 x(t - 17) / (1 + x(t - 17)^10) - .1 x(t).

    Only with the last 17 units in mind can a policy go on when the signal is out of view.

    The equation is integrated by the method of Runge and Kutta of order 4 with steps of 0.1; x(t - 17) in the middle of
    a step is taken from the cubic with the values and slopes at its ends. Within 100 units, errors stay below 1e-5.

    Actions, observations, rewards and arguments are those of `GenerativeTask` (`envs/base/generative.py`).

    ## Starting State
    x at the times -17, ..., 0 is uniform on [.5, 1.3] and linear between. The first 200 units are discarded, and after
    them a number of units that is uniform on 0, ..., 100.

    ## Episode End
    Terminated after washout + free_run steps. The usual measure, the error 84 steps after the last true value, is that
    of the prediction of step washout + 82. `is_success` tells whether the free run's root mean squared error is at most
    a tenth of the signal's deviation, sqrt(.0511). The 1 taken off, which keeps actions in [-1, 1], the random history
    and the measure of success are ours.
    """

    memory = "the last 17 units of the signal"
    source = "Mackey, Glass, Science 1977; Schmidhuber et al., Evolino, Neural Computation 2007"
    optimal_return = bound(0.0, "no error is negative; the values seen tell the chaotic signal only roughly")
    # There is no formula for the variance.
    memoryless_return = unknown(
        f"the best constant is the signal's mean, which costs its variance a step, measured as {VARIANCE}"
    )

    def __init__(self, num_envs: int, washout: int = 100, free_run: int = 300, feedback: bool = False) -> None:
        super().__init__(num_envs, VARIANCE, washout, free_run, feedback)

    def draw_series(self, rows: IntArray) -> FloatArray:
        """Return signals from random histories, with the transient cut off, (R, T + 1)."""
        starts = TRANSIENT + self.random.integers(rows, LARGEST_START + 1)
        knots = HISTORY_LOW + (HISTORY_HIGH - HISTORY_LOW) * self.random.uniform(rows, (DELAY + 1,))
        last = TRANSIENT + LARGEST_START + self.num_steps
        times = starts[:, None] + np.arange(self.num_steps + 1)
        return np.take_along_axis(integrate(knots, last), times, axis=1) - 1.0


def integrate(knots: FloatArray, num_units: int) -> FloatArray:
    """Integrate the equation from histories that are linear between `knots`.

    Args:
        knots: (R, DELAY + 1) x at the times -DELAY, ..., 0.
        num_units: How far.

    Returns:
        (R, num_units + 1) x at the times 0, ..., num_units.
    """
    fractions = np.arange(2 * SUBSTEPS) / (2 * SUBSTEPS)
    points = knots[:, :-1, None] + fractions * np.diff(knots)[:, :, None]
    ends = np.concatenate([points[:, :, ::2].reshape(len(knots), -1), knots[:, -1:]], axis=1)
    middles = points[:, :, 1::2].reshape(len(knots), -1)
    values = [knots[:, -1:]]
    for _ in range(-(-num_units // DELAY)):
        ends, middles = integrate_one_delay(ends, middles)
        values.append(ends[:, SUBSTEPS::SUBSTEPS])
    return np.concatenate(values, axis=1)[:, : num_units + 1]


def integrate_one_delay(ends: FloatArray, middles: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Go on for DELAY units; within them the delayed term is known, so all steps are done at once.

    With x(j + 1) = r x(j) + p(j), where r is `RETENTION`, x(j) = r^j (x(0) + p(0) / r + ... + p(j - 1) / r^j).

    Args:
        ends: (R, N + 1) x in the DELAY units before, between the steps of integration.
        middles: (R, N) the same in the middle of each step.

    Returns:
        `ends` and `middles` of the DELAY units that follow.
    """
    delayed, delayed_middles = delayed_term(ends), delayed_term(middles)
    inputs = WEIGHT_START * delayed[:, :-1]
    inputs += WEIGHT_MIDDLE * delayed_middles
    inputs += WEIGHT_END * delayed[:, 1:]
    inputs /= RETENTIONS[1:]
    following = np.empty_like(ends)
    following[:, 0] = ends[:, -1]
    np.add(np.cumsum(inputs, axis=1), ends[:, -1:], out=following[:, 1:])
    following[:, 1:] *= RETENTIONS[1:]
    slopes = delayed
    slopes -= DECAY * following
    following_middles = (following[:, :-1] + following[:, 1:]) / 2
    following_middles += STEP / 8 * (slopes[:, :-1] - slopes[:, 1:])
    return following, following_middles


def delayed_term(values: FloatArray) -> FloatArray:
    """Return GAIN x / (1 + x^10)."""
    squares = np.square(values)
    powers = np.square(squares)
    powers *= powers
    powers *= squares
    powers += 1.0
    return np.asarray(GAIN * values / powers, dtype=np.float64)
