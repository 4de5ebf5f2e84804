"""A run by policy gradients: everything it consists of, and its state for an exact resume.

``Training`` is the place where an experiment's parts meet.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from gymnasium.envs.registration import EnvSpec

from rlstm.core.ranks import ALONE, Ranks
from rlstm.core.seeding import generator, integer_seeds
from rlstm.core.threads import SpeedWatch, ThreadChoice, thread_limit
from rlstm.inspection.diagnostics import Sample, gradient_metrics, memory_metrics, sample_of
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.collect import CollectorState, start
from rlstm.rollouts.overlap import Overlap
from rlstm.rollouts.rollout import Rollout
from rlstm.rollouts.statistics import EpisodeStatistics
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.curriculum import Curriculum
from rlstm.training.rehearsal import measured_choice
from rlstm.training.run import Agent, Run, make_policy
from rlstm.vector.adapter import VectorEnvs

_DIAGNOSED_EVERY = 32  # Updates from one look into the memory to the next: it takes a third of a small update.

_CLIPPED_UPDATES = 10  # In a row with most actions on a bound, before it is said.


class OnPolicyAgent(Agent, Protocol):
    """What the loop of updates needs of an agent: PPO, REINFORCE, and the random one.

    Args:
        policy: What is trained.
        config: The agent's own constants.
        num_envs: Envs B of every rollout, those of all ranks.
        total_steps: Environment steps of the run, for schedules.
        generator: Draws what the agent draws, minibatches for instance; the same in all ranks.
        ranks: Those that share the envs.
    """

    policy: RecurrentPolicy
    config: Any
    begins_anew: bool  # Whether every rollout resets all envs, so that a checkpoint need not hold theirs.
    reads_onward: bool  # Whether it learns from what the steps of a rollout led to, beside their rewards.
    overlap: Overlap | None  # Collects the next rollout while one is learnt from, if that is asked for.

    def __init__(
        self,
        policy: RecurrentPolicy,
        config: Any,
        *,
        num_envs: int,
        total_steps: int,
        generator: torch.Generator,
        ranks: Ranks = ALONE,
    ) -> None: ...

    def collect(self, envs: VectorEnvs, collector_state: CollectorState) -> Rollout:
        """Play one rollout, from where the envs stand."""

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Train on one rollout; returns metrics by metric name."""

    def refresh(self, rollout: Rollout, collector_state: CollectorState) -> dict[str, float]:
        """Bring the carried state up to the present weights; returns metrics by metric name."""

    def begin(self) -> None:
        """Forget what is carried from rollout to rollout for each env: all are reset."""


class Training(Run):
    """A run of an on-policy agent: its envs, and where they stand. Each rank has its share of the envs.

    Raises:
        ValueError: If the configuration makes no sense for this env.
        EnvironmentFailure: If the env can't be made.
    """

    def __init__(
        self, config: ExperimentConfig[Any], agent_type: type[Any], spec: EnvSpec, ranks: Ranks = ALONE
    ) -> None:
        super().__init__(config, agent_type, spec, ranks)
        seed, num_envs = config.run.seed, config.env.num_envs
        if num_envs % ranks.count:
            raise ConfigError(
                f"num_envs is {num_envs}, which {ranks.count} ranks can't share alike: use a multiple of {ranks.count}."
            )
        self._seeds = self._env_seeds(seed)
        env = dataclasses.replace(config.env, num_envs=num_envs // ranks.count)
        self.curriculum = Curriculum(dataclasses.replace(config, env=env), spec)
        self.curriculum_text = self.curriculum.text
        self.news += self.curriculum.warnings
        self.envs = self.curriculum.make_envs()
        if self.envs.state_fault is not None:
            self.news.append(f"{self.envs.state_fault}. A resumed run begins new episodes.")
        with ExitStack() as on_failure:
            on_failure.callback(self.envs.close)
            self.policy = make_policy(config, self.envs.observation_space, self.envs.action_space, self.device)
            self._sequence_path = self.policy.sequence_path  # Refused, where it can't run, before anything is written.
            self.agent: OnPolicyAgent = agent_type(
                self.policy,
                config.algorithm,
                num_envs=num_envs,
                total_steps=config.run.total_steps,
                generator=generator(seed, "minibatches"),
                ranks=ranks,
            )
            outcomes = self.curriculum.most_episodes
            statistics = EpisodeStatistics(env.num_envs, log_info=self.envs.log_info, num_outcomes=outcomes)
            self._start(self._seeds, statistics)
            if config.run.eval_env == "same" and not self.agent.begins_anew and self.envs.get_state() is None:
                raise ConfigError(
                    "eval_env is 'same', but the envs can't be put back to where they were, since they lack get_state "
                    "and set_state: use own, or none."
                )
            if self.agent.overlap is not None and self.curriculum.stages:
                raise ConfigError(
                    f"overlap is set, but curriculum is {config.run.curriculum}: the rollout that is collected ahead "
                    "would be one of the stage before. Leave one of the two out."
                )
            on_failure.pop_all()
        self._speed = SpeedWatch()
        self._mostly_clipped = 0  # Updates in a row.
        self._sample: Sample | None = None  # Of the last rollout.
        self._infos_told = not config.env.log_info

    def close(self) -> None:
        """Close the envs."""
        self.envs.close()

    def _env_seeds(self, seed: int, index: int = 0) -> list[int]:
        """Return the seeds of this rank's envs."""
        num_envs = self.config.env.num_envs
        return integer_seeds(seed, "envs", num_envs, index)[self.ranks.own(num_envs)]

    def _start(self, seeds: list[int], statistics: EpisodeStatistics) -> None:
        """Begin an episode with an empty memory in every env."""
        self.collector_state = start(self.policy, self.envs, seeds, statistics, self.ranks)

    @property
    def _statistics(self) -> EpisodeStatistics:
        return self.collector_state.statistics

    @contextmanager
    def evaluation_envs(self, episodes: int) -> Iterator[VectorEnvs]:
        """Give the envs of an evaluation; those of the training are put back, with memories, to where they were."""
        if self.config.run.eval_env != "same":
            with super().evaluation_envs(episodes) as envs:
                yield envs
            return
        envs_then, carried = copy.deepcopy((self.envs.get_state(), self.collector_state.state_dict()))
        try:
            yield self.envs
        finally:
            if not self.agent.begins_anew:
                self.envs.set_state(envs_then, self._seeds)
                self.collector_state.load_state_dict(carried)

    def update(self) -> tuple[dict[str, float], dict[str, float]]:
        """Collect one rollout and learn from it; returns metrics by name and seconds by phase."""
        began = time.perf_counter()
        if passed := self.curriculum.pass_stage(self._statistics.outcomes, self.step):
            self.news.append(passed)
            self._begin_stage()
        overlap = self.agent.overlap
        rollout = None if overlap is None else overlap.take()
        if rollout is None:
            rollout = self.agent.collect(self.envs, self.collector_state)
        num_steps = sum(self.ranks.gather(int(rollout.valid.sum())))
        collected = time.perf_counter()
        metrics, waited = self._learn(rollout)
        updated = time.perf_counter()
        metrics |= self._statistics.metrics(trials=self.config.memory.episodes_per_trial is not None)
        metrics |= self.count(num_steps, updated - began) | self.curriculum.metrics()
        if complaint := self.curriculum.complaint(self._statistics.outcomes):
            self.news.append(complaint)
        self._tell_of_unknown_infos(metrics)
        self._sample = sample_of(rollout)
        if (self.num_updates - 1) % _DIAGNOSED_EVERY == 0:
            metrics |= memory_metrics(self.policy, self._sample)
        metrics["recurrent/resets_per_step"] = float(rollout.is_first[rollout.valid].float().mean())
        if self.policy.distribution.clips:
            share = float(self.policy.distribution.clipped_share(rollout.actions)[rollout.valid].mean())
            metrics["rollout/clipped_actions"] = share
            self._tell_of_clipped_actions(share)
        return metrics, {"collect": collected - began + waited, "update": updated - collected - waited}

    def _learn(self, rollout: Rollout) -> tuple[dict[str, float], float]:
        """Learn from a rollout; returns metrics by name, and seconds that were waited for one collected meanwhile."""
        overlap = self.agent.overlap
        if overlap is None or not self.has_learnt:  # Weights that nothing has changed yet may be far from the next.
            metrics = self.agent.update(rollout)
            return metrics | self.agent.refresh(rollout, self.collector_state), 0.0
        with overlap.collecting(self.envs, self.collector_state, rollout) as meanwhile:
            metrics = self.agent.update(rollout)
        return metrics | meanwhile.metrics, meanwhile.seconds_waited

    def _begin_stage(self) -> None:
        """Train in the envs of the present stage from here on: episodes, memories and what is seen begin anew."""
        self.envs.close()
        self.envs = self.curriculum.make_envs()
        seeds = self._env_seeds(self.config.run.seed, self.curriculum.number)
        self._statistics.begin_stage()
        self._start(seeds, self._statistics)
        self.agent.begin()
        self._speed = SpeedWatch()

    def _tell_of_unknown_infos(self, metrics: Mapping[str, float]) -> None:
        """Say once if no info has held a number that is to be logged, though episodes have ended."""
        if self._infos_told or "rollout/ep_rew_mean" not in metrics:
            return
        self._infos_told = True
        missing = [name for name in self.config.env.log_info if f"rollout/info/{name}" not in metrics]
        if missing:
            self.news.append(
                f"--log-info names {', '.join(missing)}, but no info has held such a number so far: is it spelt as in "
                "the env's infos?"
            )

    def diagnose(self) -> dict[str, float]:
        """Return what an evaluation tells of the memory: how far back gradients reach."""
        return {} if self._sample is None else gradient_metrics(self.policy, self._sample)

    def _tell_of_clipped_actions(self, share: float) -> None:
        """Say once if most actions have lain on a bound for some updates: what is drawn there makes no difference."""
        self._mostly_clipped = self._mostly_clipped + 1 if share > 0.5 else 0
        if self._mostly_clipped == _CLIPPED_UPDATES:
            self.news.append(
                f"Most actions lie on a bound: {share:.0%} of their numbers, in the last of {_CLIPPED_UPDATES} such "
                "updates. If that isn't meant, try --squash-actions, a smaller --initial-log-std or --scale-actions."
            )

    def measure_threads(self, limit: int) -> ThreadChoice:
        """Choose the number of threads with which updates are fastest, 1 if a GPU computes them."""
        if self.device.type != "cpu":
            return ThreadChoice(1, f"{self.device.type} computes")
        if not self.ranks.is_alone:
            return ThreadChoice(1, f"in each of {self.ranks.count} ranks")
        if self.agent.overlap is not None and (limit := limit // 2) <= 1:
            return ThreadChoice(1, "a thread collects beside it")
        return measured_choice(self, limit)

    def reconsider_threads(self, rate: float, seconds: float) -> str | None:
        """Measure again if several threads were chosen by measuring and speed has fallen for seconds.

        Other programs may compute on the cores by now. From one thread on there is nothing to gain.
        """
        if self.config.run.num_threads or self.threads.count == 1 or not self._speed.has_fallen(rate, seconds):
            return None
        before, best = self.threads.count, self._speed.best
        self._speed = SpeedWatch()
        self._compute_with(self.measure_threads(thread_limit()[0]))
        return (
            f"Speed has fallen to less than half of {best:,.0f} steps/s. Threads were measured again: {before} before,"
            f" now {self.threads}."
        )

    def training_state(self) -> dict[str, Any]:
        """Return the agent's state, and the stage of its curriculum."""
        return {"agent": self.agent.state_dict(), "stage": self.curriculum.number}

    def own_state(self, *, with_episodes: bool) -> dict[str, Any]:
        """Return the state of this rank's envs too, and where they stand in their trajectories."""
        overlap = self.agent.overlap
        with_episodes = with_episodes and not (overlap is not None and overlap.has_failed)
        return {
            **super().own_state(with_episodes=with_episodes),
            "carry": self.collector_state.state_dict() if with_episodes else None,
            "envs": self.envs.get_state() if with_episodes else None,
            **({} if overlap is None else {"next_rollout": overlap.state_dict() if with_episodes else None}),
        }

    def load_training_state(self, values: dict[str, Any]) -> str | None:
        """Load it."""
        carry, envs, note = values["carry"], values["envs"], None
        if (stage := values.get("stage", 1)) != self.curriculum.number:  # New in this version.
            self.curriculum.number = stage
            self._begin_stage()
        self.agent.load_state_dict(values["agent"])
        if carry is not None and envs is not None:
            self.envs.set_state(envs, self._seeds)
            self.collector_state.load_state_dict(carry)
            if self.agent.overlap is not None:
                self.agent.overlap.load_state_dict(values.get("next_rollout"), self.collector_state)
            return None
        if not self.agent.begins_anew:
            # Other seeds than at the start: the same episodes once more would count them twice.
            self._start(self._env_seeds(self.config.run.seed + self.step), self._statistics)
            self.agent.begin()
            why = "The env's state is not in the checkpoint"
            if "num_ranks" in values:
                why = f"The run had {values['num_ranks']} rank(s) up to here and goes on with {self.ranks.count}"
            note = f"{why}: every env begins a new episode with an empty memory."
        if carry is not None:
            self._statistics.load_finished(carry["statistics"])
            self._statistics.begin()
        return note

    def recent_metrics(self) -> dict[str, float]:
        """Return the means over the last finished episodes."""
        return self._statistics.metrics(trials=False)

    @property
    def plays_own_env(self) -> bool:
        """Whether all stages of the curriculum are passed."""
        return self.curriculum.is_passed

    def closing_words(self) -> str | None:
        """Return in which stage of the curriculum the run has ended, or None."""
        return self.curriculum.closing_words(self._statistics.outcomes)

    @property
    def has_learnt(self) -> bool:
        """Whether the agent has taken a step that changed its weights: a first rollout may only fill normalisers."""
        return int(getattr(self.agent, "num_updates", self.num_updates)) > 0

    def facts(self) -> dict[str, str]:
        """Return how envs are stepped, sequences run, and where memory and credit end."""
        memory = self.config.memory
        return {
            "envs": self.envs.description,
            "sequence": self._sequence_path,
            "memory": f"lifetime {memory.lifetime}, credit {memory.credit_boundary}",
            **self.curriculum.facts(),
        }
