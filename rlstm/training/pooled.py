"""A run whose agent takes envs from a pool and resets them anew for every update: evolution, and a teacher's sequences.

Of the envs nothing is carried from update to update; the seeds of an update follow from its number.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

from gymnasium.envs.registration import EnvSpec

from rlstm.core.ranks import ALONE, Ranks
from rlstm.policies.policy import RecurrentPolicy
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.run import Agent, Run, make_policy
from rlstm.vector.env_pool import EnvPool
from rlstm.vector.make import make


class PooledAgent(Agent, Protocol):
    """What such a run needs of an agent.

    Args:
        policy: What is trained.
        config: The agent's own constants.
        envs: Gives envs by their number; picklable.
        num_envs: Environments of the run's config.
        total_steps: Environment steps of the run, for schedules.
        seed: Of everything random.
        ranks: Those that share the run.
    """

    def __init__(
        self,
        policy: RecurrentPolicy,
        config: Any,
        *,
        envs: EnvPool,
        num_envs: int,
        total_steps: int,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None: ...

    def update(self, index: int, step: int) -> tuple[dict[str, float], int, dict[str, float]]:
        """Train once; returns metrics by name, environment steps taken, and seconds by phase.

        Args:
            index: Number of the update, from 0 on.
            step: Environment steps before it.
        """

    def recent_metrics(self) -> dict[str, float]:
        """Return ``rollout/ep_rew_mean`` and ``rollout/success_rate`` as they are now, where known."""

    def facts(self) -> dict[str, str]:
        """Return what a display shows before the run begins."""

    def close(self) -> None:
        """Stop what the agent started."""


class PooledRun(Run):
    """A run of such an agent.

    Raises:
        ValueError: If the configuration makes no sense for this env.
        EnvironmentFailure: If the env can't be made.
    """

    learns_by: str
    """What trains, in a word, for messages."""

    agent: PooledAgent

    def __init__(
        self,
        config: ExperimentConfig[Any],
        agent_type: type[Any],
        spec: EnvSpec,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(config, agent_type, spec, ranks)
        if config.policy.critic_memory in ("detached", "separate"):
            raise ConfigError(
                f"critic_memory is '{config.policy.critic_memory}', but {self.learns_by} has no critic; leave it out."
            )
        if config.policy.popart:
            raise ConfigError(f"popart is set, but {self.learns_by} has no critic; leave it out.")
        if config.run.eval_env == "same":
            raise ConfigError(f"eval_env is 'same', but {self.learns_by} makes envs as it needs them; use own or none.")
        self.check(config)
        num_envs = config.env.num_envs
        self._envs = self.make_pool(spec)
        with ExitStack() as on_failure:
            on_failure.callback(self._envs.close)
            envs = self._envs(num_envs)
            self.description = envs.description
            self.policy = make_policy(config, envs.observation_space, envs.action_space, self.device)
            self.agent = agent_type(
                self.policy,
                config.algorithm,
                envs=self._envs,
                num_envs=num_envs,
                total_steps=config.run.total_steps,
                seed=config.run.seed,
                ranks=ranks,
            )
            on_failure.pop_all()

    def check(self, config: ExperimentConfig[Any]) -> None:
        """Refuse what this kind of run can't do, with ConfigError."""

    def make_pool(self, spec: EnvSpec) -> EnvPool:
        """Return what gives the envs that are trained in, by their number."""
        return EnvPool(partial(make, spec, self.config.env, self.config.memory))

    def begin_update(self) -> None:
        """Do what comes before an update; its time is counted with it."""

    def close(self) -> None:
        """Close the envs and stop what the agent started."""
        self.agent.close()
        self._envs.close()

    def update(self) -> tuple[dict[str, float], dict[str, float]]:
        """Train once; returns metrics by name and seconds by phase."""
        began = time.perf_counter()
        self.begin_update()
        metrics, num_steps, seconds = self.agent.update(self.num_updates, self.step)
        return metrics | self.count(num_steps, time.perf_counter() - began), seconds

    def training_state(self) -> dict[str, Any]:
        """Return the agent's state."""
        return {"agent": self.agent.state_dict()}

    def load_training_state(self, values: dict[str, Any]) -> str | None:
        """Load what ``training_state`` returned; the agent's state may be missing before the first update."""
        if values["agent"] is not None:
            self.agent.load_state_dict(values["agent"])
        return None

    def recent_metrics(self) -> dict[str, float]:
        """Return what the policy is worth, as far as the agent knows."""
        return self.agent.recent_metrics()
