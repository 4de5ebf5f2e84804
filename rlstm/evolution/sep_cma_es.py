"""Sep-CMA-ES: covariance matrix adaptation with a diagonal matrix, linear in the number of genes.

Source: R. Ros, N. Hansen, "A simple modification in CMA-ES achieving linear time and space complexity", PPSN 2008.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from rlstm.evolution.base import Strategy, default_population, normal, share_ties
from rlstm.evolution.cma_paths import CMAConstants, next_paths

__all__ = ["SepCMAES"]

SMALLEST_VARIANCE = 1e-200
"""Variances stay above it: a generation after generation of ties would shrink them to 0."""


class SepCMAES(Strategy):
    """A normal distribution with step size σ and a variance for each gene.

    With x_k = m + σ y_k, y_k = √C z_k, z_k ~ N(0, I), and weights w_k by rank, z_w = Σ_k w_k z_k::

        m ← m + σ √C z_w
        C ← (1 - c_1 - c_μ) C + c_1 (p_c² + (1 - h_σ) c_c (2 - c_c) C) + c_μ Σ_k w_k y_k²

    and paths and step size as in ``cma_paths``.

    Args:
        mean: m of the first generation, ``(N,)``.
        population: P; 4 + ⌊3 ln N⌋ if ``None``.
        sigma: σ of the first generation.
        generator: Draws the samples.
    """

    source = "Ros & Hansen 2008"
    state_names: ClassVar[tuple[str, ...]] = ("mean", "variances", "sigma_path", "path", "sigma", "num_updates")

    def __init__(
        self, mean: Tensor, *, population: int | None = None, sigma: float = 0.1, generator: torch.Generator
    ) -> None:
        population = default_population(len(mean)) if population is None else population
        super().__init__(mean, population=population, sigma=sigma, generator=generator)
        self.constants = CMAConstants(self.num_genes, population, rate_factor=(self.num_genes + 2) / 3)
        self.mean = mean.detach().cpu().double().clone()
        self.variances = torch.ones_like(self.mean)
        self.sigma_path, self.path = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        self.sigma = float(sigma)
        self.num_updates = 0

    @property
    def centre(self) -> Tensor:
        """The mean."""
        return self.mean.clone()

    def sample(self) -> Tensor:
        """Draw ``(P, N)``."""
        steps = self.variances.sqrt() * normal((self.population, self.num_genes), self.generator)
        return self.mean + self.sigma * steps

    def update(self, genomes: Tensor, fitness: Tensor) -> None:
        """Move mean, paths, step size and variances."""
        constants = self.constants
        weights = share_ties(fitness, constants.weights)
        steps = (genomes - self.mean) / self.sigma
        step = weights @ steps
        self.mean = self.mean + self.sigma * step
        self.sigma_path, self.path, self.sigma, advances = next_paths(
            constants,
            self.sigma_path,
            self.path,
            self.sigma,
            self.num_updates,
            weights=weights,
            whitened_step=step / self.variances.sqrt(),
            step=step,
        )
        rank_one, rank_mu, rate = constants.rank_one_rate, constants.rank_mu_rate, constants.path_rate
        kept = 1 - rank_one - rank_mu + (0.0 if advances else rank_one * rate * (2 - rate))
        variances = kept * self.variances + rank_one * self.path.square() + rank_mu * (weights @ steps.square())
        self.variances = variances.clamp(min=SMALLEST_VARIANCE)
        self.num_updates += 1
