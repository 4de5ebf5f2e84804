"""Tasks with a teacher: at every step the environment also says what should have been answered.

`info["target"]` of the step that answers observation o is what the answer to o should have been, and it is never part
of an observation. So a sequence to learn from is an environment like any other: with a reward for how near the answer
comes, evaluation and logging are those of reinforcement learning, and a trainer that fits targets finds them in `info`.

Letters in shapes: T = steps of the longest sequence, N = sequences, B = num_envs lanes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rlstm.core.arrays import Array, BoolArray
from rlstm.envs.base.batched_task import BatchedTask
from rlstm.envs.base.checks import check_integer


class Sequences(NamedTuple):
    """Whole sequences, time first; past the end of a sequence everything is 0."""

    inputs: Array  # (T, N, ...) observations
    targets: Array  # (T, N, ...)
    valid: BoolArray  # (T, N) True from the first to the last step of a sequence


class TeacherTask(BatchedTask):
    """A `BatchedTask` whose observations don't depend on actions and whose every transition has an info "target".

    A target has the shape of an action, (B, ...). One that means nothing at a step, because nothing is asked there, is
    NaN (floats) or -1 (classes).
    """

    step_info = ("target",)

    @classmethod
    def sample_sequences(cls, num: int, rng: np.random.Generator, **task_arguments: Any) -> Sequences:
        """Draw whole sequences for trainers that need no stepping.

        Args:
            num: N, the number of sequences.
            rng: Seeds them: the same generator state gives the same sequences.
            **task_arguments: As of the task.

        Raises:
            ValueError: `num` or an argument is impossible.
        """
        seeds = draw_seeds(num, rng)
        return cls(num, **task_arguments).draw_sequences(seeds)

    def draw_sequences(self, seeds: Sequence[int], step_limit: int | None = None) -> Sequences:
        """Draw a whole sequence in each lane, the one that a reset with its seed begins; the next call is a reset.

        Where answers can be forced on what is seen, they are the teacher's.

        Args:
            seeds: One a lane.
            step_limit: Steps after which a sequence is cut, if not as the task says.
        """
        limit = self.step_limit if step_limit is None else step_limit
        self.teacher_forcing = self.supports_teacher_forcing
        self.random.seed(self.every_lane, seeds)
        self.reset(self.every_lane, np.ones(self.num_envs, dtype=np.bool_))
        actions = np.zeros((self.num_envs, *(self.action_space.shape or ())), dtype=self.action_space.dtype)
        steps: list[tuple[Array, Array, BoolArray]] = []
        running: BoolArray = np.ones(self.num_envs, dtype=np.bool_)
        while running.any():
            observations = self.observe()
            transition = self.step(actions)
            target = transition.info["target"]
            inputs = np.where(_like(running, observations), observations, 0).astype(observations.dtype)
            targets = np.where(_like(running, target), target, 0).astype(target.dtype)
            steps.append((inputs, targets, running))
            over = transition.terminated | (self.elapsed_steps >= limit)
            running = running & ~over
            if over.any() and running.any():  # An episode that is over can't be stepped; what follows isn't used.
                self.reset(np.flatnonzero(over), np.ones(int(over.sum()), dtype=np.bool_))
        return Sequences(*(np.stack(parts) for parts in zip(*steps, strict=True)))


def draw_seeds(num: int, rng: np.random.Generator) -> list[int]:
    """Draw the seeds of `num` sequences.

    Raises:
        ValueError: `num` is no positive integer, or `rng` no generator.
    """
    check_integer("num", num, 1)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy.random.Generator, but got {rng!r}: np.random.default_rng(0) is one.")
    return [int(seed) for seed in rng.integers(2**63, size=num)]


def _like(lanes: BoolArray, values: Array) -> BoolArray:
    """Return `lanes` (B,) with as many axes as `values` (B, ...)."""
    return lanes.reshape(-1, *(1,) * (values.ndim - 1))
