"""ESP: enforced subpopulations, one for each memory cell.

Source: F. Gomez, R. Miikkulainen, "Incremental evolution of complex general behavior", Adaptive Behavior 5, 1997, and
F. Gomez, "Robust non-linear control through neuroevolution", 2003; as the outer loop of Evolino: J. Schmidhuber,
D. Wierstra, M. Gagliolo, F. Gomez, "Training recurrent networks by Evolino", Neural Computation 19(3), 2007.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from rlstm.evolution.strategies.pools import FEWEST, PoolStrategy, cauchy

Credit = Literal["mean", "max"]


class ESP(PoolStrategy):
    """A pool of chromosomes for every group of genes; a genome takes one from each.

    In a generation every chromosome plays in ``combinations`` genomes, partners drawn at random, and is credited with
    the mean or the best of their fitness. Then, in each subpopulation, the best quarter have children with partners
    from the same quarter (one-point crossover, and Cauchy noise on every gene), and these replace the worse half. After
    ``burst_after`` generations without a better genome than the best one ever, every subpopulation starts again around
    that one's chromosome (burst mutation). Which one is best goes by the fitness as told: where that is noisy ``best``
    may be a lucky one, and the caller has to evaluate it again.

    Args:
        mean: As for ``PoolStrategy``, like sigma and generator.
        groups: The subpopulation of every gene, ``(N,)`` whole numbers from 0 on: a memory cell's, say.
        population: P, a multiple of ``combinations``; a subpopulation holds P / combinations chromosomes.
        combinations: Genomes in which a chromosome plays.
        mutation_scale: Scale α of the Cauchy noise on children and after a burst; σ / 10 if ``None``.
        burst_after: Generations without progress before a burst.
        credit: What a chromosome is credited with.

    Raises:
        ValueError: If the subpopulations don't come out even or are too small to choose parents from.
    """

    source = "Gomez & Miikkulainen 1997; Schmidhuber et al. 2007"
    state_names = ("pool", "best", "best_fitness", "generations_without_progress", "num_bursts")
    has_groups = True

    def __init__(
        self,
        mean: Tensor,
        *,
        groups: Tensor,
        population: int | None = None,
        sigma: float = 0.1,
        generator: torch.Generator,
        combinations: int = 1,
        mutation_scale: float | None = None,
        burst_after: int = 20,
        credit: Credit = "mean",
    ) -> None:
        population = 40 * combinations if population is None else population
        super().__init__(mean, population=population, sigma=sigma, generator=generator)
        for name, value in (("combinations", combinations), ("burst_after", burst_after)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if population % combinations:
            near = max(1, round(population / combinations)) * combinations
            raise ValueError(
                f"population is {population}, but every chromosome plays in {combinations} genomes, so it must be a "
                f"multiple of that: {near}, say."
            )
        self.size = population // combinations
        if self.size < FEWEST:
            raise ValueError(
                f"Subpopulations of {self.size} chromosomes are too small, the best quarter must hold two parents; use "
                f"a population of {FEWEST * combinations} or more."
            )
        if groups.shape != mean.shape or set(groups.tolist()) != set(range(int(groups.max()) + 1)):
            raise ValueError("groups must name a subpopulation, 0, 1, ..., for every gene, and leave none out.")
        if credit not in ("mean", "max"):
            raise ValueError(f"credit is '{credit}'; it must be mean or max.")
        self.groups = groups.detach().cpu()
        self.combinations, self.burst_after, self.credit = combinations, burst_after, credit
        self.mutation_scale = sigma / 10 if mutation_scale is None else mutation_scale
        self.num_groups = int(groups.max()) + 1
        self._places = _places(self.groups, self.num_groups)
        self._group_sizes = torch.bincount(self.groups, minlength=self.num_groups)
        self.draw_pool(self.size)  # (size, N): a row holds one chromosome of every group.
        self.generations_without_progress = self.num_bursts = 0
        self.partners = torch.zeros((population, self.num_groups), dtype=torch.int64)

    def identity(self) -> dict[str, Any]:
        """Return the sizes and the groups."""
        return {**super().identity(), "groups": self.groups, "combinations": self.combinations}

    def sample(self) -> Tensor:
        """Put together ``(P, N)``: every chromosome of every subpopulation in ``combinations`` genomes."""
        draws = torch.rand((self.combinations, self.size, self.num_groups), generator=self.generator)
        self.partners = draws.argsort(1).reshape(self.population, self.num_groups)
        return self.pool.gather(0, self.partners[:, self.groups])

    def update(self, genomes: Tensor, fitness: Tensor) -> None:
        """Credit the chromosomes, then breed them, or start again around the best genome."""
        is_better = self.keep_best(genomes, fitness)
        self.generations_without_progress = 0 if is_better else self.generations_without_progress + 1
        if self.generations_without_progress >= self.burst_after:
            self._burst()
        else:
            self._breed(self.credits(fitness))

    def credits(self, fitness: Tensor) -> Tensor:
        """Return what every chromosome is credited with, ``(size, J)``, from the fitness ``(P,)`` of its genomes.

        Genomes that failed (-∞) say nothing of a chromosome that did well elsewhere; one that always failed has -∞.
        """
        failed = fitness == -math.inf
        if self.credit == "mean" and bool(failed.any()):
            sums, counts = (
                self._per_chromosome(values, "sum") for values in (fitness.masked_fill(failed, 0.0), ~failed)
            )
            return torch.where(counts > 0, sums / counts.clamp(min=1.0), -math.inf)
        return self._per_chromosome(fitness, "mean" if self.credit == "mean" else "amax")

    def _per_chromosome(self, fitness: Tensor, reduce: Literal["sum", "mean", "amax"]) -> Tensor:
        spread = fitness.double().unsqueeze(1).expand(-1, self.num_groups)
        start = spread.new_zeros(self.size, self.num_groups)
        return start.scatter_reduce(0, self.partners, spread, reduce, include_self=False)

    def _breed(self, credits: Tensor) -> None:
        """Replace the worse half of every subpopulation by children of its best quarter."""
        # Equal ones in random order: else, as long as all fail alike, the same quarter would breed again and again.
        shuffled = torch.rand(credits.shape, generator=self.generator).argsort(0)
        order = shuffled.gather(
            0, credits.gather(0, shuffled).argsort(dim=0, descending=True, stable=True)
        )  # (size, J)
        ranked = self.pool.gather(0, order[:, self.groups])  # Row r holds the r-th best of every group.
        num_parents, num_children = self.size // 4, self.size // 2
        shape = (num_parents, self.num_groups)
        mates = torch.randint(num_parents, shape, generator=self.generator)
        cuts = (
            1 + torch.floor(torch.rand(shape, generator=self.generator) * (self._group_sizes - 1).clamp(min=1)).long()
        )
        one, other = ranked[:num_parents], ranked.gather(0, mates[:, self.groups])
        before_cut = self._places < cuts[:, self.groups]
        children = torch.cat([torch.where(before_cut, one, other), torch.where(before_cut, other, one)])
        children = children.repeat(-(-num_children // len(children)), 1)[:num_children]
        ranked[self.size - num_children :] = children + cauchy(children.shape, self.mutation_scale, self.generator)
        self.pool = ranked

    def _burst(self) -> None:
        self.pool = self.best + cauchy(self.pool.shape, self.mutation_scale, self.generator)
        self.pool[0] = self.best
        self.generations_without_progress = 0
        self.num_bursts += 1


def _places(groups: Tensor, num_groups: int) -> Tensor:
    """Return the place of every gene within its group, ``(N,)``."""
    places = torch.zeros_like(groups)
    for group in range(num_groups):
        own = (groups == group).nonzero().squeeze(1)
        places[own] = torch.arange(len(own))
    return places
