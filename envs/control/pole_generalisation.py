"""The two tests that a solution of double pole balancing without velocities has to pass.

    generalisation   1000 steps from the 625 starts of `generalisation_starts()`; 200 of them balanced is a pass
    long balance     100,000 steps from the standard start: balanced_starts(act, standard_start(), 100_000)

Both are played in one batch of lanes, one for each start. Steps of these tests don't count as training.

Source: F. Gruau, D. Whitley, L. Pyeatt, "A comparison between cellular encoding and direct encoding for genetic neural
networks", GP 1996; C. Igel, "Neuroevolution for reinforcement learning using evolution strategies", CEC 2003.

Letters in shapes: S = starts.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np

from rlstm.core.arrays import Array, BoolArray, FloatArray
from rlstm.envs.base.checks import check_actions, check_integer
from rlstm.envs.control.pole_balancing import START_RANGES, PoleBalancing

FRACTIONS = (0.05, 0.25, 0.5, 0.75, 0.95)
STATE_SIZE = 6
STARTS_FOR_A_PASS = 200

Act = Callable[[Array], Array]
"""From observations (S, 3), float32, to actions (S, 1); called once for each step, with all starts always there."""


def generalisation_starts() -> FloatArray:
    """Return the 625 starts, (625, 6): x, x', theta_1, theta_1', theta_2, theta_2' in metres, radians and seconds.

    The first four take all combinations of the fractions .05, .25, .5, .75 and .95 of their ranges, ±2.16 m, ±1.35
    m/s, ±3.6 degrees and ±8.6 degrees/s, x changing slowest; the short pole stands upright and at rest.
    """
    starts = np.zeros((len(FRACTIONS) ** len(START_RANGES), STATE_SIZE))
    fractions = np.array(list(itertools.product(FRACTIONS, repeat=len(START_RANGES))))
    starts[:, : len(START_RANGES)] = (2.0 * fractions - 1.0) * START_RANGES
    return starts


def standard_start(start_angle: float = 4.0) -> FloatArray:
    """Return the start at which the long pole leans by `start_angle` degrees, all else is 0, (1, 6)."""
    start = np.zeros((1, STATE_SIZE))
    start[0, 2] = math.radians(start_angle)
    return start


def balanced_starts(act: Act, starts: FloatArray | None = None, num_steps: int = 1000, at_least: int = 1) -> BoolArray:
    """Play an actor from all starts at once and tell from which of them it balances both poles.

        balanced = balanced_starts(act)
        passes = balanced.sum() >= STARTS_FOR_A_PASS

    Args:
        act: The actor, at the beginning of an episode in all its lanes. It keeps its own memory. Where the poles have
            fallen it goes on being asked, about a lane put back to its start, and its answers don't count.
        starts: (S, 6) as of `generalisation_starts`, which is the default.
        num_steps: For how long the poles must stand, 1 or more.
        at_least: Once fewer starts than this are left the test is over, as nothing can be passed any more; the answer
            is then of the steps played.

    Returns:
        (S,) True where both poles stood and the cart stayed on the track for all steps.

    Raises:
        ValueError: The starts have another shape, `num_steps` or `at_least` is impossible, or an action is.
    """
    check_integer("num_steps", num_steps, 1)
    check_integer("at_least", at_least, 1)
    starts = generalisation_starts() if starts is None else np.asarray(starts, dtype=np.float64)
    if starts.ndim != 2 or starts.shape[1] != STATE_SIZE or len(starts) == 0:
        raise ValueError(f"starts must have the shape (1 or more, {STATE_SIZE}), but they have {starts.shape}.")
    task = PoleBalancing(len(starts), max_steps=num_steps)
    task.place(np.arange(len(starts)), starts)
    balanced: BoolArray = np.ones(len(starts), dtype=np.bool_)
    for _ in range(num_steps):
        transition = task.step(check_actions(task.action_space, act(task.observe()), len(starts)))
        fallen = np.flatnonzero(transition.terminated)
        task.place(fallen, starts[fallen])
        balanced[fallen] = False
        if balanced.sum() < at_least:
            break
    return balanced
