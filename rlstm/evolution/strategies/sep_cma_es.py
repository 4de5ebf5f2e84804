"""Sep-CMA-ES: covariance matrix adaptation with a diagonal matrix, linear in the number of genes.

Source: R. Ros, N. Hansen, "A simple modification in CMA-ES achieving linear time and space complexity", PPSN 2008.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlstm.evolution.strategies.base import normal
from rlstm.evolution.strategies.cma_paths import CovarianceAdaptation

SMALLEST_VARIANCE = 1e-200
"""Variances stay above it: a generation after generation of ties would shrink them to 0."""


class SepCMAES(CovarianceAdaptation):
    """A normal distribution with step size σ and a variance for each gene.

    With x_k = m + σ y_k, y_k = √C z_k, z_k ~ N(0, I), and weights w_k by rank, z_w = Σ_k w_k z_k::

        m ← m + σ √C z_w
        C ← (1 - c_1 - c_μ) C + c_1 (p_c² + (1 - h_σ) c_c (2 - c_c) C) + c_μ Σ_k w_k y_k²

    and paths and step size as in ``cma_paths``. Arguments as those of ``CovarianceAdaptation``.
    """

    source = "Ros & Hansen 2008"
    state_names = ("mean", "variances", "sigma_path", "path", "sigma", "num_updates")

    def __init__(self, mean: Tensor, **settings: Any) -> None:
        super().__init__(mean, rate_factor=(len(mean) + 2) / 3, **settings)
        self.variances = torch.ones_like(self.mean)

    def sample(self) -> Tensor:
        """Draw ``(P, N)``."""
        steps = self.variances.sqrt() * normal((self.population, self.num_genes), self.generator)
        return self.mean + self.sigma * steps

    def whiten(self, step: Tensor) -> Tensor:
        """Divide by the deviations."""
        return step / self.variances.sqrt()

    def adapt(self, kept: float, weights: Tensor, steps: Tensor) -> None:
        """Move the variances."""
        rank_one, rank_mu = self.constants.rank_one_rate, self.constants.rank_mu_rate
        variances = kept * self.variances + rank_one * self.path.square() + rank_mu * (weights @ steps.square())
        self.variances = variances.clamp(min=SMALLEST_VARIANCE)
