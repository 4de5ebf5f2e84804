"""Signals to go on with: `GenerativeTask`, what superimposed sines and Mackey-Glass have in common.

A policy is shown a signal for a while and then has to produce it alone, each value from what it remembers.

Letters in shapes: B = num_envs lanes, R = the lanes that a call is about, T = steps of an episode.
"""

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import Transition
from rlstm.envs.base.checks import check_boolean, check_integer
from rlstm.envs.base.teacher import TeacherTask

# Our own measure of success: the root of the mean squared error of the free run, over the signal's deviation.
LARGEST_ERROR_OF_A_SUCCESS = 0.1

COLOUR_BACKGROUND, COLOUR_SHOWN, COLOUR_HIDDEN = (245, 245, 245), (50, 100, 190), (200, 60, 50)
PLOT_HEIGHT, PLOT_STEPS, PIXELS_PER_POINT = 48, 100, 4


class GenerativeTask(TeacherTask):
    """Predict a signal d in [-1, 1] one step ahead; it is seen in the washout, but not in the free run that follows.

    Step t = 0, ..., T - 1, with T = washout + free_run, asks for d(t). In the first `washout` steps the value before,
    d(t - 1), is seen; in the `free_run` steps after them nothing is, unless there is `feedback`, so the last value seen
    is d(washout - 2). A policy that wants its own last value may take its previous action.

    ## Action Space
    Box(-1, 1, (1,), float32): the predicted d(t).

    ## Observation Space
    Box([-1, 0], 1, (2,), float32): d(t - 1), 1 in the washout and 0, 0 in the free run.

    With `feedback` all is float64 and the observation Box(-1, 1, (1,)): d(t - 1) in the washout and the policy's own
    last action in the free run, as in the papers. `reset(options={"teacher_forcing": True})` then shows d(t - 1) in
    both, to fit a predictor.

    ## Rewards
    Minus the squared error of the prediction in the free run, 0 in the washout. `info["target"]` is d(t) at all steps,
    also in the washout, where a trainer may want to feed it back.

    Args:
        variance: Of the signal.
        washout: Steps that show the signal, at least 1.
        free_run: Steps that follow, at least 1.
        feedback: Whether the free run shows the policy its own last answer.
    """

    state_arrays = ("series", "squared_errors", "last_answers", "is_forced")

    def __init__(self, num_envs: int, variance: float, washout: int, free_run: int, feedback: bool) -> None:
        check_integer("washout", washout, 1)
        check_integer("free_run", free_run, 1)
        check_boolean("feedback", feedback)
        # A free run multiplies the rounding of what is fed back at every step.
        dtype: Any = np.float64 if feedback else np.float32
        low = np.array([-1] if feedback else [-1, 0], dtype=dtype)
        super().__init__(num_envs, Box(low, np.ones_like(low), dtype=dtype), Box(-1.0, 1.0, (1,), dtype))
        self.feedback = self.supports_teacher_forcing = feedback
        self.last_answers: FloatArray = np.zeros(num_envs)
        self.is_forced: BoolArray = np.zeros(num_envs, dtype=np.bool_)
        self.washout, self.free_run = int(washout), int(free_run)
        self.num_steps = self.washout + self.free_run
        # Of a free run that is a success, the sum of squares.
        self.largest_squared_errors = LARGEST_ERROR_OF_A_SUCCESS**2 * variance * self.free_run
        # d(-1), ..., d(T - 1), so that elapsed_steps point at the last value that could have been seen.
        self.series: FloatArray = np.zeros((num_envs, self.num_steps + 1))
        self.squared_errors: FloatArray = np.zeros(num_envs)
        self.series_starts: IntArray = np.arange(num_envs) * (self.num_steps + 1)
        self.memory_length = self.free_run  # From the last observation that shows the signal to the last answer.

    @abstractmethod
    def draw_series(self, rows: IntArray) -> FloatArray:
        """Return a new signal for each of the lanes `rows` (R,): d(-1), ..., d(T - 1), (R, T + 1)."""

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw the signals; `new_task` means nothing here."""
        self.series[rows] = self.draw_series(rows)
        self.squared_errors[rows] = 0.0
        self.is_forced[rows] = self.teacher_forcing

    def advance(self, actions: Array) -> Transition:
        """Compare the predictions with the signal."""
        # The base class has counted this step already, so elapsed_steps point at the value that was asked for.
        targets = self.series.take(self.series_starts + self.elapsed_steps)
        squares = np.where(self.elapsed_steps > self.washout, np.square(actions[:, 0] - targets), 0.0)
        self.squared_errors += squares
        self.last_answers = actions[:, 0].astype(np.float64)
        terminated = self.elapsed_steps == self.num_steps
        is_success = terminated & (self.squared_errors <= self.largest_squared_errors)
        return Transition(0.0 - squares, terminated, {"is_success": is_success, "target": targets[:, None]})

    def observe(self) -> Array:
        """Return the previous value and 1 in the washout, zeros afterwards, (B, 2); with feedback see above, (B, 1)."""
        is_shown = self.elapsed_steps < self.washout
        values = self.series.take(self.series_starts + self.elapsed_steps)
        if self.feedback:
            answers = np.where(is_shown | self.is_forced, values, self.last_answers)
            return np.ascontiguousarray(answers[:, None])
        observations = np.empty((self.num_envs, 2), dtype=np.float32)
        observations[:, 0], observations[:, 1] = np.where(is_shown, values, 0.0), is_shown
        return observations

    def hidden_state(self) -> npt.NDArray[np.float32]:
        """Return the elapsed steps and the value to be predicted, (B, 2)."""
        due = self.series_starts + np.minimum(self.elapsed_steps + 1, self.num_steps)
        return np.stack([self.elapsed_steps, self.series.take(due)], axis=1).astype(np.float32)

    def render_text(self, lane: int) -> str:
        """Show the step and what is seen."""
        step = int(self.elapsed_steps[lane])
        seen = f"washout, {self.series[lane, step]:+.3f}" if step < self.washout else "free run"
        return f"step {step} of {self.num_steps}: {seen}"

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """Draw the last values of the signal as points, the newest on the right: blue if they were shown, else red."""
        newest = int(self.elapsed_steps[lane])
        steps = np.arange(max(newest + 1 - PLOT_STEPS, 0), newest + 1)
        heights = (1.0 - self.series[lane, steps]) / 2.0
        points = np.full((PLOT_HEIGHT, PLOT_STEPS, 3), COLOUR_BACKGROUND, dtype=np.uint8)
        colours = np.where(steps[:, None] < self.washout, COLOUR_SHOWN, COLOUR_HIDDEN)
        columns = steps - newest + PLOT_STEPS - 1
        points[np.rint(heights * (PLOT_HEIGHT - 1)).astype(np.int64), columns] = colours
        return points.repeat(PIXELS_PER_POINT, axis=0).repeat(PIXELS_PER_POINT, axis=1)
