"""Tasks that label whole sequences: which symbols pass by, and in which order, but not when.

A sequence shows a string of labels, one symbol after the other, with gaps. A policy answers every step with a label or
with the blank. Its answers are collapsed, runs of one answer to a single one and blanks to none (Graves et al.,
"Connectionist temporal classification", ICML 2006), and compared with the string at the end.

Letters in shapes: B = num_envs lanes, R = the lanes that a call is about, T = steps of the longest sequence, N =
sequences, L = labels of the longest string, F = features of an observation.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import Transition
from rlstm.envs.base.checks import check_integer
from rlstm.envs.base.pictures import enlarge
from rlstm.envs.base.teacher import TeacherTask, draw_seeds

NO_LABEL = -1  # Fills strings up to the longest, and stands for what means nothing at a step.
COLOUR_READ, COLOUR_UNREAD = np.array([40.0, 40.0, 40.0]), np.array([60.0, 90.0, 190.0])
PAPER = 245.0


class LabelledSequences(NamedTuple):
    """Whole sequences with their strings of labels, time first; past the end of a sequence everything is 0."""

    inputs: Array  # (T, N, F) observations
    targets: IntArray  # (T, N) one right answer at every step
    valid: BoolArray  # (T, N) True from the first to the last step of a sequence
    labels: IntArray  # (N, L) the strings, then -1

    @property
    def lengths(self) -> IntArray:
        """Steps of each sequence, (N,)."""
        return np.asarray(self.valid.sum(axis=0), dtype=np.int64)


class Placement(NamedTuple):
    """Where the symbols of strings stand."""

    symbols: IntArray  # (R, T) which symbol of its string a step belongs to; -1 in gaps and after the end
    offsets: IntArray  # (R, T) how many steps of the symbol came before; means nothing in gaps
    widths: IntArray  # (R, L) for how many steps each symbol lasts
    lengths: IntArray  # (R,) steps of each sequence


class LabellingTask(TeacherTask):
    """Tell the string of labels of a sequence.

    ## Action Space
    Discrete(K + 1): one of K labels or the blank, which is K.

    ## Rewards
    At the last step 1 - d/n, where n is the number of labels and d the edit distance between the collapsed answers and
    the string: the fewest insertions, deletions and substitutions that make one of the other (Levenshtein 1966).
    Elsewhere 0. So 1 - return is a sequence's label error rate, as it is usually counted. Nothing is clipped: who
    answers more labels than there are earns less than 0, blanks alone earn exactly 0.

    `info["labels"]` is the string at the last step, filled up with -1, `info["num_labels"]` is n and
    `info["label_errors"]` is d; elsewhere all are -1. `info["target"]` is one right answer at every step, the label of
    the symbol that is passing by, or the blank. Collapsed, these are the string, but others are as right, and a policy
    can't know a symbol before it has seen enough of it.

    ## Episode End
    Terminated when the sequence is over. `is_success` tells whether the string is exact.

    Args:
        num_features: F.
        low, high: Bounds of the features.
        num_symbols: K.
        fewest, most: Labels of the shortest and the longest string.
        widest: Most steps of a symbol.
        max_gap: Most steps between two symbols, and before the first and after the last one; at least one step parts
            two equal symbols.
    """

    state_arrays = ("strips", "strings", "alignments", "lengths", "distances", "last_answers")
    memory_length = None  # Widths and gaps are drawn.

    def __init__(
        self,
        num_envs: int,
        *,
        num_features: int,
        low: float,
        high: float,
        num_symbols: int,
        fewest: int,
        most: int,
        widest: int,
        max_gap: int,
    ) -> None:
        check_integer("min_labels", fewest, 1)
        check_integer("max_labels", most, fewest)
        check_integer("max_gap", max_gap, 1)
        super().__init__(num_envs, Box(low, high, (num_features,), np.float32), Discrete(num_symbols + 1))
        self.low, self.high = low, high
        self.num_symbols, self.blank = num_symbols, num_symbols
        self.fewest, self.most, self.max_gap = int(fewest), int(most), int(max_gap)
        self.longest = self.most * widest + (self.most + 1) * self.max_gap
        # One step more than the longest sequence has, for what is seen after its end.
        self.strips: npt.NDArray[np.float32] = np.zeros((num_envs, self.longest + 1, num_features), dtype=np.float32)
        self.alignments: IntArray = np.full((num_envs, self.longest + 1), self.blank)
        self.strings: IntArray = np.full((num_envs, self.most), NO_LABEL)
        self.lengths: IntArray = np.full(num_envs, self.longest)
        # Edit distances of the collapsed answers to the first 0, ..., L labels of the string.
        self.distances: IntArray = np.zeros((num_envs, self.most + 1), dtype=np.int64)
        self.last_answers: IntArray = np.full(num_envs, self.blank)

    @abstractmethod
    def draw_widths(self, rows: IntArray, strings: IntArray) -> IntArray:
        """Return for how many steps each symbol of the strings (R, L) lasts, (R, L)."""

    @abstractmethod
    def draw_strips(self, rows: IntArray, strings: IntArray, placement: Placement) -> FloatArray:
        """Return what is seen at every step, (R, T, F); what it says of steps after the end isn't used."""

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw strings and what is seen of them; `new_task` means nothing here."""
        strings = self.random.integers(rows, self.num_symbols, (self.most,))
        counts = self.fewest + self.random.integers(rows, self.most - self.fewest + 1)
        strings[np.arange(self.most) >= counts[:, None]] = NO_LABEL
        placement = self._place(strings, self.draw_widths(rows, strings), self._draw_gaps(rows, strings))
        strips = self.draw_strips(rows, strings, placement)
        is_over = np.arange(self.longest) >= placement.lengths[:, None]
        self.strips[rows, :-1] = np.where(is_over[:, :, None], 0.0, strips)
        labels = np.take_along_axis(strings, np.maximum(placement.symbols, 0), axis=1)
        self.alignments[rows, :-1] = np.where(placement.symbols < 0, self.blank, labels)
        self.strings[rows], self.lengths[rows] = strings, placement.lengths
        self.distances[rows] = np.arange(self.most + 1)  # Nothing has been answered yet.
        self.last_answers[rows] = self.blank

    def _draw_gaps(self, rows: IntArray, strings: IntArray) -> IntArray:
        """Return the steps before each symbol, and as the one after the last symbol those after it, (R, L + 1)."""
        gaps = self.random.integers(rows, self.max_gap + 1, (self.most + 1,))
        is_equal = strings[:, 1:] == strings[:, :-1]
        gaps[:, 1:-1][is_equal] = np.maximum(gaps[:, 1:-1][is_equal], 1)
        is_gap = np.concatenate([np.ones((rows.size, 1), dtype=np.bool_), strings >= 0], axis=1)
        return np.where(is_gap, gaps, 0)

    def _place(self, strings: IntArray, widths: IntArray, gaps: IntArray) -> Placement:
        """Return where symbols of these widths (R, L) stand, with these gaps (R, L + 1) around them."""
        widths = np.where(strings >= 0, widths, 0)
        ends = np.cumsum(widths + gaps[:, :-1], axis=1)
        starts = ends - widths
        steps = np.arange(self.longest)[:, None]
        inside = (steps >= starts[:, None]) & (steps < ends[:, None])  # (R, T, L)
        symbols = np.where(inside.any(axis=2), inside.argmax(axis=2), NO_LABEL)
        offsets = steps[:, 0] - np.take_along_axis(starts, np.maximum(symbols, 0), axis=1)
        return Placement(symbols, offsets, widths, widths.sum(axis=1) + gaps.sum(axis=1))

    def advance(self, actions: Array) -> Transition:
        """Take the answers in, and compare them with the strings where these end."""
        is_last = self.elapsed_steps == self.lengths
        self._take_in(actions)
        counts = (self.strings >= 0).sum(axis=1)
        distances = self.distances[self.every_lane, counts]
        rewards = np.where(is_last, 1.0 - distances / np.maximum(counts, 1), 0.0)
        info = {
            "is_success": is_last & (distances == 0),
            "target": self.alignments[self.every_lane, self.elapsed_steps - 1],
            "labels": np.where(is_last[:, None], self.strings, NO_LABEL),
            "num_labels": np.where(is_last, counts, NO_LABEL),
            "label_errors": np.where(is_last, distances, NO_LABEL),
        }
        return Transition(rewards, is_last, info)

    def _take_in(self, actions: Array) -> None:
        """Add the answers to the collapsed ones, and a row to the tables of edit distances."""
        rows = np.flatnonzero((actions != self.blank) & (actions != self.last_answers))
        self.last_answers = actions.astype(np.int64)
        if not rows.size:
            return
        before, places = self.distances[rows], np.arange(self.most + 1)
        after = before + 1
        is_wrong = self.strings[rows] != actions[rows, None]
        after[:, 1:] = np.minimum(after[:, 1:], before[:, :-1] + is_wrong)
        # What is left out costs 1 for each label: min over i <= j of after(i) + j - i.
        self.distances[rows] = np.minimum.accumulate(after - places, axis=1) + places

    def observe(self) -> Array:
        """Return the present columns, (B, F)."""
        return self.strips[self.every_lane, self.elapsed_steps]

    def hidden_state(self) -> npt.NDArray[np.float32]:
        """Return the steps to come and the target of this step as one of so many, (B, 1 + K + 1)."""
        is_target = self.alignments[self.every_lane, self.elapsed_steps][:, None] == np.arange(self.blank + 1)
        return np.concatenate([(self.lengths - self.elapsed_steps)[:, None], is_target], axis=1).astype(np.float32)

    def render_text(self, lane: int) -> str:
        """Show the step and the string."""
        string = " ".join(str(label) for label in self.strings[lane] if label >= 0)
        return f"step {self.elapsed_steps[lane]} of {self.lengths[lane]}: {string}"

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """Draw the sequence from left to right, what has been seen in black, the rest in blue."""
        ink = ((self.strips[lane, :-1] - self.low) / (self.high - self.low)).T[:, :, None]  # (F, T, 1)
        is_read = np.arange(self.longest) <= self.elapsed_steps[lane]
        colours = np.where(is_read[:, None], COLOUR_READ, COLOUR_UNREAD)
        return enlarge(np.rint(PAPER + ink * (colours - PAPER)).astype(np.uint8))

    def draw_labelled(self, seeds: Sequence[int], step_limit: int | None = None) -> LabelledSequences:
        """Draw a whole sequence in each lane, the one that a reset with its seed begins, with its string.

        They are those of `draw_sequences`, without stepping through them.

        Args:
            seeds: One a lane.
            step_limit: Steps after which a sequence is cut.
        """
        self.random.seed(self.every_lane, seeds)
        self.reset(self.every_lane, np.ones(self.num_envs, dtype=np.bool_))
        lengths = self.lengths if step_limit is None else np.minimum(self.lengths, step_limit)
        valid = np.arange(lengths.max())[:, None] < lengths
        inputs = np.where(valid[:, :, None], self.strips[:, : len(valid)].swapaxes(0, 1), 0.0).astype(np.float32)
        targets = np.where(valid, self.alignments[:, : len(valid)].T, 0)
        return LabelledSequences(inputs, targets, valid, self.strings.copy())

    @classmethod
    def sample_labelled(cls, num: int, rng: np.random.Generator, **task_arguments: Any) -> LabelledSequences:
        """Draw whole sequences with their strings; with the same generator state those of `sample_sequences`.

        Args:
            num: N, the number of sequences.
            rng: Seeds them: the same generator state gives the same sequences.
            **task_arguments: As of the task.

        Raises:
            ValueError: `num` or an argument is impossible.
        """
        seeds = draw_seeds(num, rng)
        return cls(num, **task_arguments).draw_labelled(seeds)
