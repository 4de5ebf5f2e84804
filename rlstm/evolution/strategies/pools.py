"""What strategies with a pool share: the first pool, the best genome ever, Cauchy noise."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rlstm.evolution.strategies.base import Strategy

FEWEST = 8
"""Chromosomes, or genomes, that a pool needs: the best quarter must hold a pair of parents."""

LARGEST_CAUCHY = 1e3
"""Cauchy numbers are clipped to so many times their scale; their tails have no end."""


class PoolStrategy(Strategy):
    """A pool ``(size, N)`` that breeds, and the best genome ever by the fitness as told, which may be noisy.

    Args:
        mean: The middle of the first pool, ``(N,)``.
        sigma: Standard deviation of the first pool, which is uniform.
        **shared: The other arguments of ``Strategy``.
    """

    def __init__(self, mean: Tensor, *, sigma: float = 0.1, **shared: Any) -> None:
        super().__init__(mean, sigma=sigma, **shared)
        self.best, self.best_fitness = mean.detach().cpu().double().clone(), -math.inf
        self._spread = sigma * math.sqrt(3.0)
        self.pool = torch.empty(0, self.num_genes)

    def draw_pool(self, size: int) -> None:
        """Draw the first pool."""
        uniform = torch.rand((size, self.num_genes), generator=self.generator, dtype=torch.float64)
        self.pool = self.best + self._spread * (2 * uniform - 1)

    @property
    def centre(self) -> Tensor:
        """The best genome ever, by the fitness as told."""
        return self.best.clone()

    def keep_best(self, genomes: Tensor, fitness: Tensor) -> bool:
        """Keep the best of a generation if it is better than all before it; returns whether it is."""
        winner = int(fitness.argmax())
        is_better = float(fitness[winner]) > self.best_fitness
        if is_better:
            self.best, self.best_fitness = genomes[winner].clone(), float(fitness[winner])
        return is_better


def cauchy(shape: tuple[int, ...], scale: float, generator: torch.Generator) -> Tensor:
    """Draw Cauchy numbers around 0, α tan(π (u - 1/2)), clipped to ±1000 α."""
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    return scale * torch.tan(math.pi * (uniform - 0.5)).clamp(-LARGEST_CAUCHY, LARGEST_CAUCHY)
