"""Evolution as a run: the same envs, flags, folders and checkpoints as any other training.

The algorithm is the agent's; ``Evolution`` makes the policy and the envs, counts steps and saves. A generation is one
update. The policy of the run is the champion.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

from gymnasium.envs.registration import EnvSpec

from rlstm.core.ranks import ALONE, Ranks
from rlstm.core.threads import ThreadChoice
from rlstm.evolution.env_pool import EnvPool
from rlstm.policies.policy import RecurrentPolicy
from rlstm.training.checkpoints import Checkpoint
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.run import Agent, Run, make_policy
from rlstm.vector.make import make


class EvolutionaryAgent(Agent, Protocol):
    """What a run of evolution needs of an agent: Evolino.

    Args:
        policy: What evolves; its weights become the champion's.
        config: The agent's own constants.
        envs: Gives envs by their number; picklable.
        num_envs: Environments of each genome.
        seed: Of everything random.
        ranks: Those that share a generation; all else each does alike.
    """

    def __init__(
        self, policy: RecurrentPolicy, config: Any, *, envs: EnvPool, num_envs: int, seed: int, ranks: Ranks = ALONE
    ) -> None: ...

    def begin_around_weights(self) -> None:
        """Begin around the policy's present weights; called before the first generation."""

    def update(self, generation: int, step: int) -> tuple[dict[str, float], int, dict[str, float]]:
        """Evolve by one generation; returns metrics by name, environment steps taken, and seconds by phase.

        Args:
            generation: Its number, from 0 on.
            step: Environment steps before it.
        """

    def recent_metrics(self) -> dict[str, float]:
        """Return the champion's ``rollout/ep_rew_mean`` and ``rollout/success_rate``, where known."""

    def facts(self) -> dict[str, str]:
        """Return what a display shows before the run begins."""

    def close(self) -> None:
        """Stop what the agent started."""


class Evolution(Run):
    """A run of evolution; ``num_envs`` of its config are the environments of each genome.

    Raises:
        ValueError: If the configuration makes no sense for this env.
        EnvironmentFailure: If the env can't be made.
    """

    def __init__(
        self,
        config: ExperimentConfig[Any],
        agent_type: type[EvolutionaryAgent],
        spec: EnvSpec,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(config, agent_type, spec, ranks)
        if config.policy.critic_memory in ("detached", "separate"):
            raise ConfigError(
                f"critic_memory is '{config.policy.critic_memory}', but evolution has no critic; leave it out."
            )
        if config.policy.popart:
            raise ConfigError("popart is set, but evolution has no critic; leave it out.")
        if config.run.eval_env == "same":
            raise ConfigError("eval_env is 'same', but evolution makes envs as it needs them; use own or none.")
        if config.run.curriculum is not None:
            raise ConfigError(
                f"curriculum is '{config.run.curriculum}', but evolution compares genomes in one env: leave it out, or "
                "train with ppo or reinforce."
            )
        seed, num_envs = config.run.seed, config.env.num_envs
        self._envs = EnvPool(partial(make, spec, config.env, config.memory))
        with ExitStack() as on_failure:
            on_failure.callback(self._envs.close)
            envs = self._envs(num_envs)
            self._description = envs.description
            self.policy = make_policy(config, envs.observation_space, envs.action_space, self.device)
            self.agent = agent_type(
                self.policy, config.algorithm, envs=self._envs, num_envs=num_envs, seed=seed, ranks=ranks
            )
            on_failure.pop_all()

    def close(self) -> None:
        """Close the envs and stop the workers."""
        self.agent.close()
        self._envs.close()

    def choose_threads(self, *, anew: bool = False) -> str | None:
        """Compute with one thread, so that a genome is worth the same in this process and in a worker."""
        self._compute_with(ThreadChoice(1, "in each process"))
        return None

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Begin around the weights of another run, normalisers included."""
        super().start_from(checkpoint)
        self.agent.begin_around_weights()

    def update(self) -> tuple[dict[str, float], dict[str, float]]:
        """Evolve by one generation; returns metrics by name and seconds by phase."""
        began = time.perf_counter()
        metrics, num_steps, seconds = self.agent.update(self.num_updates, self.step)
        return metrics | self.count(num_steps, time.perf_counter() - began), seconds

    def training_state(self) -> dict[str, Any]:
        """Return the agent's state; of the envs nothing is carried from generation to generation."""
        return {"agent": self.agent.state_dict()}

    def load_training_state(self, values: dict[str, Any]) -> str | None:
        """Load what ``training_state`` returned; the agent's state may be missing before the first generation."""
        if values["agent"] is not None:
            self.agent.load_state_dict(values["agent"])
        return None

    def recent_metrics(self) -> dict[str, float]:
        """Return what the champion was worth on fresh seeds."""
        return self.agent.recent_metrics()

    def facts(self) -> dict[str, str]:
        """Return how envs are stepped and what evolves."""
        return {"envs": f"for each genome {self._description}", **self.agent.facts()}
