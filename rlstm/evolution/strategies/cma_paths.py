"""What the two covariance matrix adaptations share: weights, constants, paths, step size, and the update around them.

Source: N. Hansen, "The CMA evolution strategy: a tutorial", arXiv 1604.00772 (version 1), table 1 and figure 6, with
positive weights only. Shapes: N = genes, P = genomes of a generation (the tutorial's λ).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from rlstm.evolution.strategies.base import MeanStrategy, check_least_sigma, share_ties


class CMAConstants:
    """The default constants for a number of genes and a population.

    Args:
        num_genes: N.
        population: P.
        rate_factor: Multiplies the learning rates of the covariance, 1 or, where only N of its entries are learnt,
            (N + 2) / 3 (Ros & Hansen 2008).
    """

    def __init__(self, num_genes: int, population: int, rate_factor: float = 1.0) -> None:
        n = self.num_genes = num_genes
        ranks = torch.arange(1, population + 1, dtype=torch.float64)
        raw = math.log((population + 1) / 2) - ranks.log()
        raw[population // 2 :] = 0.0
        self.weights = raw / raw.sum()  # (P,) by rank, best first; they sum to 1, the worse half has 0.
        mu_eff = self.mu_eff = 1.0 / float(self.weights.square().sum())  # Variance effective number of parents.
        rank_one = 2 / ((n + 1.3) ** 2 + mu_eff)
        rank_mu = min(1 - rank_one, 2 * (mu_eff - 2 + 1 / mu_eff) / ((n + 2) ** 2 + mu_eff))
        self.rank_one_rate = min(1.0, rate_factor * rank_one)  # c_1
        self.rank_mu_rate = min(1 - self.rank_one_rate, rate_factor * rank_mu)  # c_μ
        self.path_rate_sigma = (mu_eff + 2) / (n + mu_eff + 5)  # c_σ
        self.path_rate = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)  # c_c
        self.damping = 1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (n + 1)) - 1) + self.path_rate_sigma  # d_σ
        self.chi = math.sqrt(2) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))  # E|N(0, I)|


def next_paths(
    constants: CMAConstants,
    sigma_path: Tensor,
    path: Tensor,
    sigma: float,
    num_updates: int,
    *,
    weights: Tensor,
    whitened_step: Tensor,
    step: Tensor,
) -> tuple[Tensor, Tensor, float, bool]:
    """Advance both evolution paths and the step size by one generation.

    Args:
        constants: Of the strategy.
        sigma_path: p_σ ``(N,)``.
        path: p_c ``(N,)``.
        sigma: σ.
        num_updates: Generations before this one.
        weights: Of the genomes ``(P,)``, ties shared. They decide how long a step is to be expected: where all are
            equally fit it is the mean of P random steps, shorter than that of the best half, and no sign of a σ that is
            too large.
        whitened_step: C^(-1/2) (m' - m) / σ, ``(N,)``.
        step: (m' - m) / σ, ``(N,)``.

    Returns:
        p_σ, p_c and σ, and whether p_c was advanced (h_σ): it stalls while p_σ is long, so that the covariance does not
        grow too fast where σ is still too small. σ grows by no more than a factor e.
    """
    mu_eff = 1.0 / float(weights.square().sum())
    rate = constants.path_rate_sigma
    sigma_path = (1 - rate) * sigma_path + math.sqrt(rate * (2 - rate) * mu_eff) * whitened_step
    length = float(sigma_path.norm())
    expected = math.sqrt(1 - (1 - rate) ** (2 * (num_updates + 1))) * constants.chi
    advances = length / expected < 1.4 + 2 / (constants.num_genes + 1)
    rate = constants.path_rate
    path = (1 - rate) * path
    if advances:
        path = path + math.sqrt(rate * (2 - rate) * mu_eff) * step
    exponent = constants.path_rate_sigma / constants.damping * (length / constants.chi - 1)
    return sigma_path, path, sigma * math.exp(min(1.0, exponent)), advances


class CovarianceAdaptation(MeanStrategy):
    """What mean, paths and step size do, whatever the form of the covariance.

    Args:
        mean: m of the first generation, ``(N,)``.
        sigma: σ of the first generation.
        least_sigma: σ never falls below it, so that the search goes on exploring (Igel 2003).
        rate_factor: See ``CMAConstants``.
        **shared: The other arguments of ``Strategy``.

    Raises:
        ValueError: If the least σ is out of range.
    """

    def __init__(
        self, mean: Tensor, *, sigma: float = 0.1, least_sigma: float = 0.0, rate_factor: float = 1.0, **shared: Any
    ) -> None:
        super().__init__(mean, sigma=sigma, **shared)
        self.constants = CMAConstants(self.num_genes, self.population, rate_factor)
        self.sigma_path, self.path = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        self.sigma = float(sigma)
        check_least_sigma(least_sigma, sigma)
        self.least_sigma = least_sigma
        self.num_updates = 0

    def update(self, genomes: Tensor, fitness: Tensor) -> None:
        """Move mean, paths, step size and covariance."""
        constants = self.constants
        weights = share_ties(fitness, constants.weights)
        steps = (genomes - self.mean) / self.sigma
        step = weights @ steps
        self.mean = self.mean + self.sigma * step
        paths = self.sigma_path, self.path, self.sigma, self.num_updates
        self.sigma_path, self.path, self.sigma, advances = next_paths(
            constants, *paths, weights=weights, whitened_step=self.whiten(step), step=step
        )
        self.sigma = max(self.sigma, self.least_sigma)
        rank_one, rank_mu, rate = constants.rank_one_rate, constants.rank_mu_rate, constants.path_rate
        kept = 1 - rank_one - rank_mu + (0.0 if advances else rank_one * rate * (2 - rate))
        self.num_updates += 1
        self.adapt(kept, weights, steps)

    @abstractmethod
    def whiten(self, step: Tensor) -> Tensor:
        """Return C^(-1/2) ``step``, ``(N,)``."""

    @abstractmethod
    def adapt(self, kept: float, weights: Tensor, steps: Tensor) -> None:
        """Move the covariance: the share ``kept`` of it, the path's and those of the steps ``(P, N)``."""
