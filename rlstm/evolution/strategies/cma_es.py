"""CMA-ES: a normal distribution whose whole covariance matrix adapts.

Source: N. Hansen, "The CMA evolution strategy: a tutorial", arXiv 1604.00772, figure 6, with positive weights only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlstm.evolution.strategies.base import normal
from rlstm.evolution.strategies.cma_paths import CovarianceAdaptation

SMALLEST_VARIANCE = 1e-200

MOST_GENES = 2000
"""Genes up to which a full covariance matrix is sensible: its decomposition takes N³ operations."""


class CMAES(CovarianceAdaptation):
    """A normal distribution with step size σ and covariance C = B D² Bᵀ.

    With x_k = m + σ y_k, y_k = B D z_k, z_k ~ N(0, I), and weights w_k by rank, y_w = Σ_k w_k y_k::

        m ← m + σ y_w
        C ← (1 - c_1 - c_μ) C + c_1 (p_c p_cᵀ + (1 - h_σ) c_c (2 - c_c) C) + c_μ Σ_k w_k y_k y_kᵀ

    and paths and step size as in ``cma_paths``. B and D are renewed only once C has changed enough, every
    1 / (10 N (c_1 + c_μ)) generations.

    Args:
        mean: m of the first generation, ``(N,)``.
        allow_large: Permit more than ``MOST_GENES`` genes.
        **settings: The other arguments of ``CovarianceAdaptation``.

    Raises:
        ValueError: If there are too many genes, with the memory that their covariance would take, or the least σ is out
            of range.
    """

    source = "Hansen & Ostermeier 2001; Hansen 2016"
    state_names = (
        "mean", "covariance", "basis", "deviations", "sigma_path", "path", "sigma", "num_updates", "decomposed_at",
    )  # fmt: skip

    def __init__(self, mean: Tensor, *, allow_large: bool = False, **settings: Any) -> None:
        super().__init__(mean, **settings)
        genes = self.num_genes
        if genes > MOST_GENES and not allow_large:
            raise ValueError(
                f"CMA-ES on {genes:,} genes keeps a covariance matrix of {8 * genes**2 / 2**30:,.2f} GiB and "
                f"decomposes it again and again; {MOST_GENES:,} are sensible. Use sep-cma-es or snes, which keep one "
                "number a gene."
            )
        self.covariance = torch.eye(genes, dtype=torch.float64)
        self.basis = torch.eye(genes, dtype=torch.float64)  # B: eigenvectors in columns.
        self.deviations = torch.ones_like(self.mean)  # D: roots of the eigenvalues.
        self.decomposed_at = 0

    def sample(self) -> Tensor:
        """Draw ``(P, N)``."""
        normals = normal((self.population, self.num_genes), self.generator)
        return self.mean + self.sigma * (normals * self.deviations) @ self.basis.t()

    def whiten(self, step: Tensor) -> Tensor:
        """Return B D⁻¹ Bᵀ ``step``."""
        return self.basis @ ((self.basis.t() @ step) / self.deviations)

    def adapt(self, kept: float, weights: Tensor, steps: Tensor) -> None:
        """Move the covariance, and decompose it once it has changed enough."""
        rank_one, rank_mu = self.constants.rank_one_rate, self.constants.rank_mu_rate
        self.covariance = (
            kept * self.covariance
            + rank_one * torch.outer(self.path, self.path)
            + rank_mu * (steps.t() * weights) @ steps
        )
        if (self.num_updates - self.decomposed_at) * 10 * self.num_genes * (rank_one + rank_mu) >= 1:
            self._decompose()

    def _decompose(self) -> None:
        self.covariance = (self.covariance + self.covariance.t()) / 2
        eigenvalues, self.basis = torch.linalg.eigh(self.covariance)
        # Rounding can leave the smallest ones at or below 0, and generations of ties can shrink them all.
        self.deviations = eigenvalues.clamp(min=max(1e-20 * float(eigenvalues.max()), SMALLEST_VARIANCE)).sqrt()
        self.decomposed_at = self.num_updates
