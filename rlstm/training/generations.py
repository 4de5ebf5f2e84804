"""Evolution as a run: the same envs, flags, folders and checkpoints as any other training.

The algorithm is the agent's. A generation is one update, and the policy of the run is the champion.
"""

from __future__ import annotations

from typing import Any, Protocol

from rlstm.core.threads import ThreadChoice
from rlstm.training.checkpoints import Checkpoint
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.pooled import PooledAgent, PooledRun


class EvolutionaryAgent(PooledAgent, Protocol):
    """What a run of evolution needs of an agent: Evolino. Ranks share a generation; all else each does alike."""

    def begin_around_weights(self) -> None:
        """Begin around the policy's present weights; called before the first generation."""


class Evolution(PooledRun):
    """A run of evolution; ``num_envs`` of its config are the environments of each genome."""

    learns_by = "evolution"
    agent: EvolutionaryAgent

    def check(self, config: ExperimentConfig[Any]) -> None:
        """Refuse a curriculum."""
        if config.run.curriculum is not None:
            raise ConfigError(
                f"curriculum is '{config.run.curriculum}', but evolution compares genomes in one env: leave it out, or "
                "train with ppo, reinforce or a teacher."
            )

    def choose_threads(self, *, anew: bool = False) -> str | None:
        """Compute with one thread, so that a genome is worth the same in this process and in a worker."""
        self._compute_with(ThreadChoice(1, "in each process"))
        return None

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Begin around the weights of another run, normalisers included."""
        super().start_from(checkpoint)
        self.agent.begin_around_weights()

    def facts(self) -> dict[str, str]:
        """Return how envs are stepped and what evolves."""
        return {"envs": f"for each genome {self.description}", **self.agent.facts()}
