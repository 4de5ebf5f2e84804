"""Timed spikes: tell how late each spike of a train comes, or make a train whose spikes come as late as told.

Source: F. A. Gers, N. N. Schraudolph, J. Schmidhuber, "Learning Precise Timing with LSTM Recurrent Networks", Journal
of Machine Learning Research 3, 2002: measuring spike delays (MSD) and generating timed spikes (GTS).

A train has N = `num_intervals` spikes. The n-th comes F + D(n) steps after the one before, the first F + D(1) steps
from the start, with F = `interval` and D(n) uniform on 0, ..., M = `max_delay`: in steps counted from 0, the n-th is
step n F + D(1) + ... + D(n) - 1. F, M and N are 1 or more. An episode begins at step 0 of a new train.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import Transition, exact
from rlstm.envs.base.checks import check_integer
from rlstm.envs.base.teacher import TeacherTask

NEVER = -1
STEPS_IN_VIEW = 64


class SpikeTrain(TeacherTask):
    """What both tasks share: random trains, and how far the lanes are in them."""

    source = "Gers, Schraudolph, Schmidhuber, Learning Precise Timing with LSTM, JMLR 2002"
    state_arrays = ("delays", "spike_steps", "next_spikes", "all_right")
    memory_length = None  # From spike to spike; that is drawn.

    def __init__(
        self, num_envs: int, observation_space: gym.Space[Any], interval: int, max_delay: int, num_intervals: int
    ) -> None:
        check_integer("interval", interval, 1)
        check_integer("max_delay", max_delay, 1)
        check_integer("num_intervals", num_intervals, 1)
        super().__init__(num_envs, observation_space, Box(0.0, 1.0, (1,), np.float32))
        self.interval, self.max_delay, self.num_intervals = int(interval), int(max_delay), int(num_intervals)
        # The last column stands for what comes after the train: no delay, no spike.
        self.delays: IntArray = np.zeros((num_envs, self.num_intervals + 1), dtype=np.int64)
        self.spike_steps: IntArray = np.full((num_envs, self.num_intervals + 1), NEVER)
        self.next_spikes: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.all_right: BoolArray = np.ones(num_envs, dtype=np.bool_)
        self.train_starts: IntArray = np.arange(num_envs) * (self.num_intervals + 1)

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw trains; `new_task` means nothing here."""
        delays = self.random.integers(rows, self.max_delay + 1, (self.num_intervals,))
        self.delays[rows, :-1] = delays
        self.spike_steps[rows, :-1] = np.cumsum(self.interval + delays, axis=1) - 1
        self.next_spikes[rows] = 0
        self.all_right[rows] = True

    def has_spike(self, steps: IntArray) -> BoolArray:
        """Return whether the next spike is at the steps (B,) of the lanes."""
        return np.asarray(self.spike_steps.take(self.train_starts + self.next_spikes) == steps)

    def given_delays(self) -> FloatArray:
        """Return D / M of the interval that the lanes are in, (B,)."""
        return np.asarray(self.delays.take(self.train_starts + self.next_spikes) / self.max_delay)

    def finish_step(self, had_spike: BoolArray, is_right: BoolArray, rewards: FloatArray, targets: Array) -> Transition:
        """Go on to the next spike where there was one; all arrays are (B,)."""
        self.next_spikes += had_spike
        self.all_right &= is_right
        terminated = self.next_spikes == self.num_intervals
        return Transition(rewards, terminated, {"is_success": self.all_right & terminated, "target": targets[:, None]})

    def hidden_state(self) -> npt.NDArray[np.float32]:
        """Return the steps to the next spike, negative after the last one, and the delay of the interval, (B, 2)."""
        steps_to_come = self.spike_steps.take(self.train_starts + self.next_spikes) - self.elapsed_steps
        return np.stack([steps_to_come, self.given_delays()], axis=1).astype(np.float32)

    def render_text(self, lane: int) -> str:
        """Show the last steps of the train, the newest on the right: | a spike, . none."""
        newest = int(self.elapsed_steps[lane])
        steps = range(max(newest + 1 - STEPS_IN_VIEW, 0), newest + 1)
        marks = "".join("|" if step in self.spike_steps[lane] else "." for step in steps)
        return f"step {newest}, {self.next_spikes[lane]} of {self.num_intervals} spikes: {marks}"


class MeasureSpikes(SpikeTrain):
    """Tell at each spike how late it came.

    The train is seen step by step, and at the n-th spike D(n) / M is asked: only counting the steps since the spike
    before can tell. Letters, arguments and the start are those at the top of the module.

    ## Action Space
    Box(0, 1, (1,), float32): the delay over M; it counts at spikes only.

    ## Observation Space
    Discrete(2): 1 at a spike, otherwise 0.

    ## Rewards
    Minus the squared error at a spike, otherwise 0. `info["target"]` is D(n) / M at the n-th spike, otherwise NaN.

    ## Episode End
    Terminated by the answer to the last spike. `is_success` tells whether all answers round to the right delay: errors
    are less than half of 1 / M. The number of spikes and the measure of success are ours.
    """

    memory = "how many steps ago the last spike was"
    optimal_return = exact(0.0, "the steps between spikes can be counted, and no error is negative")

    def __init__(self, num_envs: int, interval: int = 10, max_delay: int = 10, num_intervals: int = 10) -> None:
        super().__init__(num_envs, Discrete(2), interval, max_delay, num_intervals)
        # The mean is answered: minus N times the variance of D / M, with D uniform on 0, ..., M.
        variance = (self.max_delay + 2) / (12 * self.max_delay)
        value = -self.num_intervals * variance
        self.memoryless_return = exact(value, "all spikes look the same, so the best answer is the mean, 1/2")

    def advance(self, actions: Array) -> Transition:
        """Check the answers where there is a spike."""
        # The base class has counted this step already.
        has_spike, delays = self.has_spike(self.elapsed_steps - 1), self.given_delays()
        errors = np.abs(actions[:, 0] - delays)
        is_right = ~has_spike | (errors < 0.5 / self.max_delay)
        rewards = np.where(has_spike, -np.square(errors), 0.0)
        return self.finish_step(has_spike, is_right, rewards, np.where(has_spike, delays, np.nan))

    def observe(self) -> Array:
        """Return whether there is a spike, (B,)."""
        return self.has_spike(self.elapsed_steps).astype(np.int64)


class GenerateSpikes(SpikeTrain):
    """Make spikes that come as late as told.

    What is seen and what is asked change places: D(n) / M is seen in all steps of the n-th interval, F + D(n) steps,
    and the last of them is to be a spike. Only counting the steps since the spike before tells when. What is answered
    doesn't change the train. Letters, arguments and the start are those at the top of the module.

    ## Action Space
    Box(0, 1, (1,), float32): 1 to make a spike, 0 to make none.

    ## Observation Space
    Box(0, 1, (1,), float32): D(n) / M; 0 after the train.

    ## Rewards
    Minus the squared error. `info["target"]` is 1 where a spike is due, otherwise 0.

    ## Episode End
    Terminated by the answer to the last spike. `is_success` tells whether all answers round to the right one: errors
    are less than one half. The number of spikes, that a delay is seen during its whole interval, and the measure of
    success are ours.
    """

    memory = "how many steps ago the last spike was due"
    optimal_return = exact(0.0, "delays are seen, steps can be counted, and no error is negative")

    def __init__(self, num_envs: int, interval: int = 10, max_delay: int = 10, num_intervals: int = 10) -> None:
        super().__init__(num_envs, Box(0.0, 1.0, (1,), np.float32), interval, max_delay, num_intervals)
        # The share of spikes is answered. Where D is seen, one step of n = F + D is a spike. The best answer to that
        # observation is the mean of its targets, 1 / n, with the squared errors (n - 1) / n^2 + (n - 1)^2 / n^2
        # = 1 - 1 / n in an interval.
        shares = 1.0 / (self.interval + np.arange(self.max_delay + 1))
        value, reason = -num_intervals * float(np.mean(1.0 - shares)), "all steps of an interval look the same"
        self.memoryless_return = exact(value, f"{reason}, so the best answer is 1 / (F + D)")

    def advance(self, actions: Array) -> Transition:
        """Check the spikes."""
        # The base class has counted this step already.
        has_spike = self.has_spike(self.elapsed_steps - 1)
        errors = np.abs(actions[:, 0] - has_spike)
        return self.finish_step(has_spike, errors < 0.5, -np.square(errors).astype(np.float64), has_spike.astype(float))

    def observe(self) -> Array:
        """Return the delays of the intervals, (B, 1)."""
        return self.given_delays().astype(np.float32)[:, None]
