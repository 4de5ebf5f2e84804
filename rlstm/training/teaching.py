"""Training with a teacher as a run: the same envs, flags, folders and checkpoints as any other training.

An update reads whole sequences; the x-axis counts their steps. Evaluations play episodes, without the teacher. So do
stages of a curriculum: whenever as many sequences have been read as a stage asks for episodes, so many are played in
its env, with seeds of their own.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

from rlstm.core.errors import NonFiniteError
from rlstm.core.ranks import ALONE, Ranks
from rlstm.core.seeding import integer_seeds
from rlstm.core.threads import ThreadChoice, candidates, choose
from rlstm.evaluation.evaluate import evaluate
from rlstm.rollouts.statistics import Outcome
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.curriculum import Curriculum
from rlstm.training.pooled import PooledAgent, PooledRun
from rlstm.training.rehearsal import time_in_turns
from rlstm.vector.env_pool import EnvPool

_REHEARSED_STEPS = 256


class TeachingAgent(PooledAgent, Protocol):
    """What a run with a teacher needs of an agent."""

    def rehearse(self, num_steps: int) -> float:
        """Return the seconds that learning so many steps of a batch takes, without touching anything."""

    def check_source(self) -> None:
        """Refuse with ValueError an env that asks nothing, or has another loss than that of the agent."""


class Teaching(PooledRun):
    """A run of training with a teacher."""

    learns_by = "a teacher"
    agent: TeachingAgent

    def __init__(
        self, config: ExperimentConfig[Any], agent_type: type[Any], spec: EnvSpec, ranks: Ranks = ALONE
    ) -> None:
        super().__init__(config, agent_type, spec, ranks)
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._check_stages()
            if config.env.num_envs != config.algorithm.batch_size:
                self._envs.close(config.env.num_envs)  # They were looked at; evaluations have envs of their own.
            on_failure.pop_all()

    def check(self, config: ExperimentConfig[Any]) -> None:
        """Refuse several ranks, stages where nothing is drawn, and what a memory that reads back can't have."""
        if config.run.curriculum is not None and config.algorithm.demonstrations is not None:
            raise ConfigError(
                f"curriculum is '{config.run.curriculum}', but demonstrations is {config.algorithm.demonstrations}, "
                "which are of one env: leave one of the two out."
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

    def make_pool(self, spec: EnvSpec) -> EnvPool:
        """Return what gives the envs of the present stage."""
        self.curriculum = Curriculum(self.config, spec)
        self.curriculum_text = self.curriculum.text
        self.news += self.curriculum.warnings
        self._played: list[Outcome] = []  # The episodes by which the present stage was judged last.
        return EnvPool(self.curriculum.make_envs)

    def _check_stages(self) -> None:
        """Refuse with ConfigError an env, after the first, from which the agent can't learn as from the first one."""
        count = len(self.curriculum.stages)
        for number in range(2, count + 2 if count else 0):
            self._go_to_stage(number)
            try:
                self.agent.check_source()
            except ValueError as error:
                place = f"Stage {number} of" if number <= count else "The run's own env, behind"
                raise ConfigError(f"{place} the curriculum {self.config.run.curriculum}: {error}") from error
        self._go_to_stage(1)

    def _go_to_stage(self, number: int) -> None:
        """Train in the envs of a stage from here on."""
        if number != self.curriculum.number:
            self.curriculum.number = number
            self._envs.close()

    def begin_update(self) -> None:
        """Judge the stage, if it is time to."""
        if self.curriculum.is_passed or not self.num_updates:
            return
        if self.num_updates % -(-self.curriculum.asked_episodes // self.config.algorithm.batch_size):
            return
        (seed,) = integer_seeds(self.config.run.seed, "stages", 1, self.num_updates)
        envs = self._envs(min(self.config.env.num_envs, self.curriculum.asked_episodes))
        played = evaluate(
            self.policy,
            envs,
            self.curriculum.asked_episodes,
            seed=seed,
            deterministic=self.eval_actions == "likeliest",
            max_steps=self.config.run.eval_max_steps,
        )
        successes = np.where(played.cut, 0.0, played.successes)
        self._played = list(map(Outcome, played.returns.tolist(), successes.tolist()))
        if complaint := self.curriculum.complaint(self._played):
            self.news.append(complaint)
        if passed := self.curriculum.pass_stage(self._played, self.step):
            self.news.append(passed)
            self._played = []
            self._envs.close()  # The next ones are those of the new stage.

    def update(self) -> tuple[dict[str, float], dict[str, float]]:
        """Train once; returns metrics by name and seconds by phase."""
        metrics, seconds = super().update()
        return metrics | self.curriculum.metrics(), seconds

    def training_state(self) -> dict[str, Any]:
        """Return the agent's state, and how far the curriculum is."""
        return {**super().training_state(), "stage": self.curriculum.number, "played": list(map(tuple, self._played))}

    def load_training_state(self, values: dict[str, Any]) -> str | None:
        """Load what ``training_state`` returned."""
        self._go_to_stage(values.get("stage", 1))  # New in this version, as what follows.
        self._played = [Outcome(*one) for one in values.get("played", ())]
        return super().load_training_state(values)

    @property
    def plays_own_env(self) -> bool:
        """Whether all stages of the curriculum are passed."""
        return self.curriculum.is_passed

    def closing_words(self) -> str | None:
        """Return in which stage of the curriculum the run has ended, or None."""
        return self.curriculum.closing_words(self._played)

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
        common = {"envs": self.description, "sequence": self.policy.sequence_path, "memory": memory}
        return {**common, **self.agent.facts(), **self.curriculum.facts()}
