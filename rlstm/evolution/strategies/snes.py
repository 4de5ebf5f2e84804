"""SNES: the separable natural evolution strategy, a normal distribution whose deviations adapt gene by gene.

Source: T. Schaul, T. Glasmachers, J. Schmidhuber, "High dimensions and heavy tails for natural evolution strategies",
GECCO 2011; D. Wierstra et al., "Natural evolution strategies", JMLR 15, 2014 (utilities: section 3.1, rates: table 1).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rlstm.evolution.strategies.base import MeanStrategy, check_least_sigma, normal, share_ties


class SNES(MeanStrategy):
    """Follow the natural gradient of the expected utility in mean μ and deviations σ.

    With z_k = μ + σ s_k, s_k ~ N(0, I), and u_k the utility of the rank of k, k = 1 .. P::

        μ ← μ + η_μ σ Σ_k u_k s_k,    σ ← σ exp(η_σ / 2 Σ_k u_k (s_k² - 1))

        u(rank) = max(0, ln(P/2 + 1) - ln rank) / Σ_j max(0, ln(P/2 + 1) - ln j) - 1/P

    Args:
        mean_rate: η_μ.
        sigma_rate: η_σ; (3 + ln N) / (5 √N) if ``None``.
        least_sigma: Below which no σ ever falls.
        **shared: The arguments of ``Strategy``.

    Raises:
        ValueError: If the least σ is out of range.
    """

    source = "Schaul, Glasmachers & Schmidhuber 2011; Wierstra et al. 2014"
    state_names = ("mean", "sigma")

    def __init__(
        self,
        mean: Tensor,
        *,
        sigma: float = 0.1,
        mean_rate: float = 1.0,
        sigma_rate: float | None = None,
        least_sigma: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(mean, sigma=sigma, **shared)
        self.sigma = torch.full_like(self.mean, sigma)
        check_least_sigma(least_sigma, sigma)
        self.mean_rate, self.least_sigma = mean_rate, least_sigma
        genes = self.num_genes
        self.sigma_rate = (3 + math.log(genes)) / (5 * math.sqrt(genes)) if sigma_rate is None else sigma_rate
        ranks = torch.arange(1, self.population + 1, dtype=torch.float64)
        raw = (math.log(self.population / 2 + 1) - ranks.log()).clamp(min=0.0)
        self._utilities = raw / raw.sum() - 1 / self.population  # (P,), best first.

    def sample(self) -> Tensor:
        """Draw ``(P, N)`` from the normal distribution."""
        return self.mean + self.sigma * normal((self.population, self.num_genes), self.generator)

    def update(self, genomes: Tensor, fitness: Tensor) -> None:
        """Take one natural gradient step."""
        utilities = share_ties(fitness, self._utilities)
        steps = (genomes - self.mean) / self.sigma
        mean_gradient, sigma_gradient = utilities @ steps, utilities @ (steps.square() - 1)
        self.mean = self.mean + self.mean_rate * self.sigma * mean_gradient
        self.sigma = (self.sigma * (0.5 * self.sigma_rate * sigma_gradient).exp()).clamp(min=self.least_sigma)
