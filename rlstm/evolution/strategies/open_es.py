"""OpenAI-ES: a normal distribution of fixed deviation whose mean follows an estimated gradient.

Source: T. Salimans, J. Ho, X. Chen, S. Sidor, I. Sutskever, "Evolution strategies as a scalable alternative to
reinforcement learning", 2017; Adam: D. Kingma, J. Ba, 2015.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlstm.evolution.strategies.base import MeanStrategy, normal, share_ties

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # Of Adam.


class OpenES(MeanStrategy):
    """Estimate the gradient from mirrored pairs μ ± σ ε_i and climb it with Adam.

    With m = P/2 pairs, ε_i ~ N(0, I), and the centred ranks r ∈ [-1/2, 1/2] of all P::

        g = 1/(P σ) Σ_i (r_i⁺ - r_i⁻) ε_i,    μ ← μ + Adam(g - weight_decay μ)

    Args:
        mean: μ of the first generation, ``(N,)``.
        sigma: σ, which stays.
        learning_rate: Adam's.
        weight_decay: Pulls the mean towards 0.
        **shared: The other arguments of ``Strategy``; the population is even.

    Raises:
        ValueError: If the population is odd.
    """

    source = "Salimans et al. 2017"
    state_names = ("mean", "first_moment", "second_moment", "num_updates")
    usual_population = 64

    def __init__(
        self, mean: Tensor, *, sigma: float = 0.1, learning_rate: float = 0.05, weight_decay: float = 0.0, **shared: Any
    ) -> None:
        super().__init__(mean, sigma=sigma, **shared)
        population = self.population
        if population % 2:
            raise ValueError(f"population is {population}; mirrored pairs need an even one, {population + 1} say.")
        self.first_moment, self.second_moment = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        self.num_updates = 0
        self.sigma, self.learning_rate, self.weight_decay = sigma, learning_rate, weight_decay
        self._utilities = torch.linspace(0.5, -0.5, population, dtype=torch.float64)  # Centred ranks, best first.

    def sample(self) -> Tensor:
        """Draw ``(P, N)``: the first half, then its mirror images."""
        offsets = self.sigma * normal((self.population // 2, self.num_genes), self.generator)
        return torch.cat([self.mean + offsets, self.mean - offsets])

    def update(self, genomes: Tensor, fitness: Tensor) -> None:
        """Take one step of Adam up the gradient."""
        plus, minus = share_ties(fitness, self._utilities).chunk(2)
        noise = (genomes[: len(plus)] - self.mean) / self.sigma
        gradient = (plus - minus) @ noise / (self.population * self.sigma) - self.weight_decay * self.mean
        self.num_updates += 1
        self.first_moment = BETA_1 * self.first_moment + (1 - BETA_1) * gradient
        self.second_moment = BETA_2 * self.second_moment + (1 - BETA_2) * gradient.square()
        first = self.first_moment / (1 - BETA_1**self.num_updates)
        second = self.second_moment / (1 - BETA_2**self.num_updates)
        self.mean = self.mean + self.learning_rate * first / (second.sqrt() + EPSILON)
