"""Training with a teacher as a run: the same envs, flags, folders and checkpoints as any other training.

An update reads whole sequences; the x-axis counts their steps. Evaluations play episodes, without the teacher.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from rlstm.core.errors import NonFiniteError
from rlstm.core.threads import ThreadChoice, candidates, choose
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.pooled import PooledAgent, PooledRun
from rlstm.training.rehearsal import time_in_turns

_REHEARSED_STEPS = 256


class TeachingAgent(PooledAgent, Protocol):
    """What a run with a teacher needs of an agent."""

    def rehearse(self, num_steps: int) -> float:
        """Return the seconds that learning so many steps of a batch takes, without touching anything."""


class Teaching(PooledRun):
    """A run of training with a teacher."""

    learns_by = "a teacher"
    agent: TeachingAgent

    def check(self, config: ExperimentConfig[Any]) -> None:
        """Refuse a curriculum, several ranks, and a memory that outlives its sequence."""
        if config.run.curriculum is not None:
            raise ConfigError(
                f"curriculum is '{config.run.curriculum}', but a teacher's sequences are no episodes that could pass a "
                "stage: leave it out, or train a first run on shorter sequences and go on from it with --init-from."
            )
        if not self.ranks.is_alone:
            raise ConfigError(
                f"The run has {self.ranks.count} ranks, but training with a teacher is that of one process: start it "
                "without torchrun."
            )
        if config.policy.bidirectional:
            self._check_reading(config)

    @staticmethod
    def _check_reading(config: ExperimentConfig[Any]) -> None:
        """Refuse with ConfigError what a memory that reads whole episodes before it answers can't have."""
        if config.memory.lifetime != "episode":
            raise ConfigError(
                f"memory.lifetime is '{config.memory.lifetime}', but a bidirectional memory reads one episode from "
                "both ends: leave it out."
            )
        seen = [name for name, is_seen in vars(config.inputs.resolve(config.memory.lifetime)).items() if is_seen]
        if seen:
            raise ConfigError(
                f"inputs has {', '.join(seen)}, but a bidirectional memory reads an episode before it answers: leave "
                "it out."
            )
        if config.algorithm.optimizer == "dekf":
            raise ConfigError(
                "optimizer is 'dekf', which carries derivatives forward in time, but a bidirectional memory reads from "
                "both ends: use adam."
            )
        if config.policy.normalize_observations:
            raise ConfigError(
                "normalize_observations is set, but its statistics come from play, and a bidirectional memory can't "
                "act: leave it out."
            )
        if config.algorithm.demonstrations is not None:
            raise ConfigError(
                f"demonstrations is {config.algorithm.demonstrations}, but a bidirectional memory can't do step by "
                "step what was demonstrated: leave one of the two out."
            )

    def films(self, evaluations: int, finished: bool) -> bool:
        """Return whether to film: never what can't act."""
        return not self.config.policy.bidirectional and super().films(evaluations, finished)

    def measure_threads(self, limit: int) -> ThreadChoice:
        """Choose the number of threads with which a batch is learnt fastest, 1 if a GPU computes it."""
        if self.device.type != "cpu":
            return ThreadChoice(1, f"{self.device.type} computes")
        try:
            seconds = time_in_turns(self.agent.rehearse, _REHEARSED_STEPS, candidates(limit), torch.set_num_threads)
        except NonFiniteError:
            return ThreadChoice(1, "measuring failed: the numbers were not finite")
        return choose(seconds)

    def facts(self) -> dict[str, str]:
        """Return how sequences run and what they are learnt from."""
        memory = f"lifetime {self.config.memory.lifetime}"
        return {"envs": self.description, "sequence": self.policy.sequence_path, "memory": memory, **self.agent.facts()}
