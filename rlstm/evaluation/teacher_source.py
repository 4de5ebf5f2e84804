"""Where a teacher's sequences come from: the env's own, new ones for every update, or demonstrations, over and over."""

from __future__ import annotations

import math

import gymnasium as gym
import torch
from gymnasium.envs.registration import load_env_creator

from rlstm.core.seeding import generator, integer_seeds
from rlstm.evaluation.demonstrations import Demonstrations
from rlstm.evaluation.teacher_sequences import (
    TeacherSequences,
    drawn_teacher_sequences,
    play_teacher_sequences,
    teacher_sequences_from_demonstrations,
)
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.env_pool import EnvPool


class TeacherSource:
    """Gives the sequences of each update, by its number.

    Args:
        policy: Decides types, and what is seen beside observations; it answers where the env has to be played.
        envs: Gives envs by their number.
        batch_size: Sequences of an update.
        washout: Steps at the beginning of a sequence that ask nothing, see ``play_teacher_sequences``.
        demonstrations: File of what is to be imitated; None for the env's own teacher.
        seed: Decides the sequences, or the order of demonstrations.

    Raises:
        ValueError: If there is no teacher, or the washout leaves nothing to learn.
        DemonstrationsError: If the file can't be read, or is of another env.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        envs: EnvPool,
        *,
        batch_size: int,
        washout: int | None,
        demonstrations: str | None,
        seed: int,
    ) -> None:
        self._policy, self._envs, self._seed = policy, envs, seed
        self._batch_size, self._washout = batch_size, washout
        self._recorded: TeacherSequences | None = None
        if demonstrations is not None:
            loaded = Demonstrations.load(demonstrations)
            self._recorded = teacher_sequences_from_demonstrations(policy, loaded, washout=washout or 0)
        self.check()

    def sequences(self, index: int) -> TeacherSequences:
        """Return the sequences of an update: new ones, or the next of all demonstrations in a random order."""
        if self._recorded is None:
            return self._draw(integer_seeds(self._seed, "lessons", self._batch_size, index))
        count = self._recorded.valid.shape[1]
        per_epoch = math.ceil(count / self._batch_size)
        epoch, batch = divmod(index, per_epoch)
        order = torch.randperm(count, generator=generator(self._seed, "minibatches", index=epoch))
        return self._recorded.select(order[batch * self._batch_size :][: self._batch_size])

    @property
    def description(self) -> str:
        """Whose sequences they are, for a display."""
        source = "the env's own" if self._recorded is None else f"{self._recorded.valid.shape[1]} recorded"
        return f"{source} sequences, {self._batch_size} an update"

    def _draw(self, seeds: list[int]) -> TeacherSequences:
        """Return the env's sequences with these seeds: drawn whole if it can, else played."""
        envs, policy = self._envs(len(seeds)), self._policy
        drawn = drawn_teacher_sequences(policy, envs, seeds, washout=self._washout)
        if drawn is None and policy.config.bidirectional:
            raise ValueError(
                "bidirectional is set, but this env can't draw whole sequences: what it shows may depend on actions or "
                "on a wrapper. Leave it out, or take an env such as rlstm/SpokenStrings-v0."
            )
        return play_teacher_sequences(policy, envs, seeds, washout=self._washout) if drawn is None else drawn

    def check(self) -> TeacherSequences:
        """Return the first sequences, or all recorded ones; refuse with ValueError those that ask nothing."""
        first = self.sequences(0) if self._recorded is None else self._recorded
        if not first.is_empty:
            return first
        if self._washout:
            raise ValueError(f"washout is {self._washout}, which leaves no step that asks anything: give fewer.")
        raise ValueError(
            f"No step of the env asks anything by info['target'] in the first {self._batch_size} sequences (NaN, "
            "classes below 0, what is no number, and what has not as many numbers as an action, "
            f"{self._policy.action_space}, ask nothing), and no demonstrations are given. Use --demonstrations FILE "
            "(rlstm record), train with ppo, or "
            f"take an env that has a teacher: {', '.join(taught_envs())}."
        )


def taught_envs() -> list[str]:
    """Return the ids of the registered envs of ours whose steps say what should have been answered."""
    tasks = {name: spec.kwargs["task"] for name, spec in gym.registry.items() if "task" in spec.kwargs}
    return sorted(name for name, task in tasks.items() if "target" in getattr(load_env_creator(task), "step_info", ()))
