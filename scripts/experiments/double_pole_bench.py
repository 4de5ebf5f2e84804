"""Make the task and the network of double pole balancing, and let networks play it, in training and in the tests.

Letters in shapes: P = networks, N = genes, S = starts.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from rlstm.api.envs import resolve_env
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.evaluation.evaluate import EvaluationResult
from rlstm.evolution.parameters import ParameterLayout
from rlstm.evolution.population import PopulationSnapshot, play_population
from rlstm.evolution.strategies import STRATEGIES, Strategy
from rlstm.evolution.strategies.restarts import Restarts
from rlstm.policies.config import PolicyConfig
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make
from scripts.experiments.double_pole_settings import Setting

__all__ = ["MAX_STEPS", "Actor", "Bench"]

ENV = "rlstm/DoublePoleNoVel-v0"
MAX_STEPS = 1000

Array = npt.NDArray[Any]


class Bench:
    """The task, the network, and which of its weights are genes.

    Args:
        setting: Of the strategy.
        fitness: One of ``FITNESSES``.
    """

    def __init__(self, setting: Setting, fitness: str) -> None:
        self.fitness = fitness
        envs = self._make_envs(1)
        config = PolicyConfig(
            cell=setting.cell,
            hidden_size=setting.hidden_size,
            encoder_sizes=(),
            squash_actions=True,
            normalize_observations=False,
            scale_rewards=False,
        )
        self.policy = RecurrentPolicy(envs.observation_space, envs.action_space, config, MemoryConfig(), InputsConfig())
        self.layout = ParameterLayout(self.policy)
        self.genes = weights_only(self.layout)  # (N,) of the layout's

    @property
    def num_genes(self) -> int:
        """N."""
        return len(self.genes)

    def begin(self, setting: Setting, name: str, seed: int) -> Strategy:
        """Return a strategy at its start, with restarts if the setting has them."""
        generator = torch.Generator().manual_seed(seed)
        options = dict(setting.options)
        if name == "esp":
            _, options["groups"] = self.layout.groups(self.policy)[self.genes].unique(return_inverse=True)

        def begin_try() -> Strategy:
            return STRATEGIES[name](torch.zeros(self.num_genes), generator=generator, **options)

        if setting.patience is None:
            return begin_try()
        return Restarts(begin_try, generator=generator, patience=setting.patience)

    def play(self, genomes: Tensor) -> EvaluationResult:
        """Play an episode each with networks ``(P, N)``."""
        envs = self._make_envs(len(genomes))
        return play_population(self.policy, self.layout, self._with_biases(genomes), envs, seeds=[0])

    def acting_snapshot(self, genomes: Tensor) -> PopulationSnapshot:
        """Return networks ``(P, N)`` laid out for acting."""
        return PopulationSnapshot(self.policy, self.layout, self._with_biases(genomes))

    def _with_biases(self, genomes: Tensor) -> Tensor:
        whole = genomes.new_zeros(len(genomes), self.layout.num_genes)
        whole[:, self.genes] = genomes
        return whole

    def _make_envs(self, num_envs: int) -> VectorEnvs:
        config = EnvConfig(ENV, {"fitness": self.fitness, "max_steps": MAX_STEPS}, num_envs=num_envs)
        return make(resolve_env(config), config, MemoryConfig())


class Actor:
    """P networks that act in P · S envs, each in S of them, with their states.

    Args:
        bench: What they are networks of.
        genomes: ``(P, N)``.
        num_starts: S.
        state: Their states; initial ones, if ``None``.
    """

    def __init__(self, bench: Bench, genomes: Tensor, num_starts: int, state: Any = None) -> None:
        self._snapshot, self._distribution = bench.acting_snapshot(genomes), bench.policy.distribution
        num_envs = len(genomes) * num_starts
        self.state = self._snapshot.init_state(num_envs) if state is None else state
        self._nothing_begins = torch.zeros(num_envs, dtype=torch.bool)

    @torch.inference_mode()
    def __call__(self, observations: Array) -> Array:
        """Return the forces, from observations of all envs."""
        inputs = PolicyInputs(torch.from_numpy(observations))
        actions, self.state = self._snapshot.act(inputs, self.state, self._nothing_begins, generator=None)
        return self._distribution.to_env(actions)


def weights_only(layout: ParameterLayout) -> Tensor:
    """Return the places ``(N,)`` of all genes but the biases."""
    places = [torch.arange(gene.start, gene.stop) for gene in layout.genes if "bias" not in gene.name.split(".")[-1]]
    return torch.cat(places)
