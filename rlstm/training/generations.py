"""Evolution as a run: the same envs, flags, folders and checkpoints as any other training.

``Evolution`` seeds, plays and counts; what is learnt from it is the agent's. A generation is one update: lessons where
readouts are solved, then episodes of every genome under common seeds, or an exam, then, where somebody looks better
than the champion, the two of them and others on fresh seeds, and where elite episodes teach, the best with noise, in
search of better ones. The policy of the run is the champion.
"""

from __future__ import annotations

import time
import warnings
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from torch import Tensor

from rlstm.core.seeding import generator, integer_seeds
from rlstm.evaluation.demonstrations import Demonstrations
from rlstm.evaluation.evaluate import Player
from rlstm.evolution.elite_archive import EliteArchive
from rlstm.evolution.fitness import EvolvedParameters, FitnessEvaluator, FitnessResult, shard_sizes
from rlstm.evolution.readout_choice import Solver
from rlstm.evolution.teacher_sequences import (
    TeacherSequences,
    play_teacher_sequences,
    teacher_sequences_from_demonstrations,
)
from rlstm.evolution.workers import Workers
from rlstm.policies.policy import RecurrentPolicy
from rlstm.training.checkpoints import Checkpoint
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.run import Run, make_policy
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.make import make

__all__ = ["Evolution", "EvolvingAgent"]


class EvolvingAgent(Protocol):
    """What a run of evolution needs of an agent: Evolino."""

    policy: RecurrentPolicy
    config: Any
    genotype: EvolvedParameters
    solve: Solver | None  # How readouts are solved; None where they evolve.
    elites: EliteArchive | None  # What they are solved from where nobody teaches.

    def begin(self, *, from_weights: bool) -> None:
        """Draw the first generation, around nothing or around the policy's weights."""

    def ask(self) -> Tensor:
        """Return the next generation ``(P, N)``."""

    def tell(self, verdict: FitnessResult) -> dict[str, float]:
        """Learn from what a generation did; returns metrics by their tags."""

    def candidates(self, verdict: FitnessResult) -> Tensor | None:
        """Return the genomes ``(C, N)`` with all acting weights that are to be compared on fresh seeds, or None."""

    def decide(self, verdict: FitnessResult) -> None:
        """Choose the champion by what the candidates did."""

    def explorers(self, verdict: FitnessResult) -> Tensor:
        """Return the genomes ``(C, N)`` with all acting weights that are to look for better elites; may be none."""

    def champion_metrics(self) -> dict[str, float]:
        """Return by their tags what the champion is worth."""

    def state_dict(self) -> dict[str, Any]:
        """Return all but the policy's weights."""

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""


class Evolution(Run):
    """A run of evolution.

    Args:
        config: The experiment; ``num_envs`` are the environments of each genome.
        agent_type: The agent's class.
        spec: The env.

    Raises:
        ValueError: If the configuration makes no sense for this env.
        EnvironmentFailure: If the env can't be made.
    """

    def __init__(self, config: ExperimentConfig[Any], agent_type: type[Any], spec: EnvSpec) -> None:
        super().__init__(config, agent_type, spec)
        refuse_unfit(config, self.device)
        torch.set_num_threads(1)  # A shard is computed by one thread, whoever computes it.
        self._algorithm = config.algorithm
        with ExitStack() as on_failure:
            first = make(spec, config.env, config.memory, num_envs=config.env.num_envs)
            on_failure.callback(first.close)
            self.policy = make_policy(config, first.observation_space, first.action_space, self.device)
            self._demonstrations = self._read_demonstrations()
            forces = bool(first.envs.metadata.get("supports_teacher_forcing", False))
            has_teacher = self._demonstrations is not None or self._meets_a_teacher(first)
            self.agent: EvolvingAgent = agent_type(
                self.policy,
                config.algorithm,
                has_teacher=has_teacher,
                teacher_forces=forces,
                generator=generator(config.run.seed, "minibatches"),
            )
            on_failure.pop_all()
        if forces and self.agent.solve is not None and config.algorithm.washout == 0:
            warnings.warn(
                "washout is 0, but answers are fed back: a readout that is fitted to a memory which has just begun "
                "goes astray when it runs free. Leave --washout out, or give it some dozen steps.",
                stacklevel=2,
            )
        self._kind, self._description = first.kind, first.description
        first.close()
        self._judge = FitnessEvaluator(self.policy, self.agent.genotype, self._make_envs, self.agent.solve)
        self._workers: Workers | None = None
        self._begun = False

    def _make_envs(self, num_lanes: int) -> VectorEnvs:
        return make(self.spec, self.config.env, self.config.memory, num_envs=num_lanes)

    def _read_demonstrations(self) -> Demonstrations | None:
        path = self._algorithm.demonstrations
        return None if path is None else Demonstrations.load(path)

    def _meets_a_teacher(self, envs: VectorEnvs) -> bool:
        """Whether a life in the env, played by the untrained policy, has a step with a target."""
        if self._algorithm.readout in ("joint", "cma"):
            return False
        seeds = integer_seeds(self.config.run.seed, "lessons", envs.num_envs)
        return not play_teacher_sequences(self.policy, envs, seeds, washout=0).is_empty

    def close(self) -> None:
        """Close the envs and stop the workers."""
        self._judge.close()
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Begin around the weights of another run, normalisers included."""
        super().start_from(checkpoint)
        self._begin(from_weights=True)

    def _begin(self, *, from_weights: bool) -> None:
        self.agent.begin(from_weights=from_weights)
        self._judge.genotype = self.agent.genotype
        self._begun = True

    def update(self) -> tuple[dict[str, float], dict[str, float]]:
        """Play one generation and learn from it; returns metrics by tag and seconds by phase."""
        began = time.perf_counter()
        num_steps = 0
        if self.num_updates == 0:
            if self.policy.lacks_statistics:
                num_steps += self._fill_normalisers()
            if not self._begun:
                self._begin(from_weights=False)
        genomes = self.agent.ask()
        lessons, exam, lesson_steps = self._lessons(genomes)
        verdict = self._play(genomes, lessons, exam)
        num_steps += lesson_steps + int(verdict.lengths.sum())
        played = time.perf_counter()
        metrics = self.agent.tell(verdict)
        num_steps += self._confirm(verdict)
        metrics |= self.agent.champion_metrics()
        if self.agent.elites is not None:
            num_steps += self._explore(self.agent.explorers(verdict), self.agent.elites, self.num_updates + 1)
            metrics |= self.agent.elites.metrics()
        self.step += num_steps
        self.num_updates += 1
        ended = time.perf_counter()
        metrics |= {
            "rollout/ep_len_mean": float(verdict.lengths.mean()),
            "time/fps": num_steps / (ended - began),
            "time/iterations": float(self.num_updates),
            "time/time_elapsed": self.seconds + ended - began,
            "time/total_timesteps": float(self.step),
            "evolino/generations": float(self.num_updates),
            "evolino/env_steps": float(self.step),
        }
        if self.policy.distribution.clips:
            metrics["evolino/clipped"] = float(verdict.clipped.sum() / verdict.lengths.sum())
        if not self._examines:  # An error is no return.
            metrics["rollout/ep_rew_mean"] = float(verdict.returns.mean())
        if not np.isnan(verdict.successes).all():
            metrics["rollout/success_rate"] = float(np.nanmean(verdict.successes))
        return metrics, {"play": played - began, "learn": ended - played}

    def _lessons(self, genomes: Tensor) -> tuple[TeacherSequences | None, TeacherSequences | None, int]:
        """Return the lessons of a generation ``(P, N)``, its exam if errors are what counts, and the steps of both."""
        if self.agent.solve is None:
            return None, None, 0
        washout, elites = self._algorithm.washout, self.agent.elites
        if elites is not None:
            is_first = elites.lives is None
            steps = self._explore(self.agent.genotype.untrained(genomes), elites, 0) if is_first else 0
            return elites.lessons(self.policy, washout=washout or 0), None, steps
        if self._demonstrations is not None:
            return (
                teacher_sequences_from_demonstrations(self.policy, self._demonstrations, washout=washout or 0),
                None,
                0,
            )
        count = self._algorithm.teacher_sequences
        seeds = integer_seeds(self.config.run.seed, "lessons", count, self.num_updates)
        if not self._examines:
            lessons = play_teacher_sequences(self.policy, self._judge.envs(count), seeds, washout=washout)
            return lessons, None, lessons.is_first.numel()
        seeds += self._generation_seeds()
        both = play_teacher_sequences(self.policy, self._judge.envs(len(seeds)), seeds, washout=washout)
        return *both.split(count), both.is_first.numel()

    def _explore(self, whole: Tensor, elites: EliteArchive, index: int) -> int:
        """Offer what genomes with all their acting weights ``(C, N)`` do with noise; returns the steps."""
        if not len(whole):
            return 0
        seed = self.config.run.seed
        seeds = integer_seeds(seed, "explorations", len(whole) * self.config.env.num_envs, index)
        actions = generator(seed, "explorations_actions", self.device, index)
        lives = self._judge.explore(whole, seeds, self._episodes(1), actions)
        elites.offer(lives)
        return lives.num_steps

    @property
    def _examines(self) -> bool:
        return bool(self._algorithm.fitness == "error")

    def _generation_seeds(self) -> list[int]:
        return integer_seeds(self.config.run.seed, "generations", self.config.env.num_envs, self.num_updates)

    def _play(self, genomes: Tensor, lessons: TeacherSequences | None, exam: TeacherSequences | None) -> FitnessResult:
        """Evaluate a generation ``(P, N)``, shard by shard, here or in workers."""
        num_envs, episodes = self.config.env.num_envs, self._episodes(self._algorithm.episodes)
        seeds = self._generation_seeds()
        shards = genomes.split(shard_sizes(len(genomes), num_envs, self._kind))
        if self._algorithm.workers > 1 and len(shards) > 1:
            if self._workers is None:
                self._workers = Workers(self._algorithm.workers, self._judge, self.spec, self.config)
            return FitnessResult.join(self._workers.judge(shards, lessons, seeds, episodes, exam))
        return FitnessResult.join([self._judge.judge(shard, lessons, seeds, episodes, exam) for shard in shards])

    def _episodes(self, episodes: int) -> int:
        """Return the episodes of a lane: as many trials where there are trials."""
        return episodes * (self.config.memory.episodes_per_trial or 1)

    def _confirm(self, verdict: FitnessResult) -> int:
        """Let candidates for champion play on fresh seeds; returns the steps."""
        candidates = self.agent.candidates(verdict)
        if candidates is None:
            return 0
        seeds = integer_seeds(self.config.run.seed, "confirmations", self._algorithm.confirm_episodes, self.num_updates)
        if self._examines:
            envs = self._judge.envs(len(seeds))
            exam = play_teacher_sequences(self.policy, envs, seeds, washout=self._algorithm.washout)
            outcome = self._judge.examine(candidates, None, exam)
        else:
            outcome = self._judge.play(candidates, None, seeds, self._episodes(1))
        self.agent.decide(outcome)
        return int(outcome.lengths.sum())

    def _fill_normalisers(self) -> int:
        """Take what the untrained policy sees in its first lives into the normalisers, for good; returns the steps."""
        config = self.config
        envs = self._judge.envs(config.env.num_envs)
        player = Player(self.policy, envs, integer_seeds(config.run.seed, "envs", envs.num_envs))
        snapshot, state = self.policy.acting_snapshot(), self.policy.init_state(envs.num_envs)
        moments = self.policy.actor.encoder.moments
        seen: list[Tensor] = []
        rewards: list[Tensor] = []

        def act(inputs: Any, is_first: Tensor) -> Tensor:
            nonlocal state
            if moments is not None:
                seen.append(self.policy.actor.encoder.vectors(inputs.observations, self.policy.dtype).clone())
            rewards.append(player.tracker.previous_rewards.clone())
            actions, state = snapshot.act(inputs, state, is_first, deterministic=False)
            return actions

        with torch.inference_mode():
            while (player.played < 1).any():
                player.step(act)
        if moments is not None:
            moments.update(torch.cat(seen))
        for one in (self.policy.return_moments, self.policy.reward_moments):
            if one is not None:
                one.update(torch.cat(rewards[1:] or rewards).unsqueeze(-1))
        return len(rewards) * envs.num_envs

    def training_state(self, *, with_episodes: bool) -> dict[str, Any]:
        """Return the agent's state; nothing is carried from generation to generation but the champion."""
        return {"agent": self.agent.state_dict() if self._begun else None}

    def load_training_state(self, values: dict[str, Any]) -> str | None:
        """Take it back."""
        if values["agent"] is not None:
            self._begin(from_weights=False)
            self.agent.load_state_dict(values["agent"])
        return None

    def recent_metrics(self) -> dict[str, float]:
        """Return what the champion was worth on fresh seeds."""
        if self._examines:
            return {}
        names = {"champion": "ep_rew_mean", "champion_success_rate": "success_rate"}
        metrics = self.agent.champion_metrics()
        return {
            f"rollout/{tag}": metrics[f"evolino/{name}"] for name, tag in names.items() if f"evolino/{name}" in metrics
        }

    def facts(self) -> dict[str, str]:
        """Return how envs are stepped and what evolves."""
        algorithm, memory = self._algorithm, self.config.memory
        return {
            "envs": f"for each genome {self._description}",
            "evolution": str(self.agent),
            "memory": f"lifetime {memory.lifetime}",
            "workers": str(algorithm.workers),
        }


def refuse_unfit(config: ExperimentConfig[Any], device: torch.device) -> None:
    """Refuse settings that evolution can't follow."""
    if config.algorithm.workers > 1 and device.type != "cpu":
        raise ConfigError(
            f"workers is {config.algorithm.workers}, but the run is on {device}, where one process plays everything: "
            "leave --workers out, or use --device cpu."
        )
    if config.policy.critic_memory == "separate":
        raise ConfigError("critic_memory is 'separate', but evolution has no critic; leave it out.")
