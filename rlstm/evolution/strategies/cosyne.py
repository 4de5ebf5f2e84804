"""CoSyNE: cooperative synapse neuroevolution, a subpopulation for every single weight.

Source: F. Gomez, J. Schmidhuber, R. Miikkulainen, "Accelerated neural evolution through cooperatively coevolved
synapses", JMLR 9, 2008.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rlstm.evolution.strategies.pools import FEWEST, PoolStrategy, cauchy


class CoSyNE(PoolStrategy):
    """A matrix of genomes; after each generation genes change places among the genomes, each within its own column.

    The best quarter of the genomes have children with partners from the same quarter (one-point crossover, and Cauchy
    noise on some of the genes), and these replace the worst. Then genes are marked, those of the worse genomes more
    likely, and the marked ones of a column are shuffled among the genomes that hold them. So good genes meet new
    partners while the best genome stays together.

    The fitness f of a genome marks its genes with the probability 1 - ((f - f_min) / (f_max - f_min))^(1/N). With many
    genes N that is small for all but the worst; ``mark_all`` then mixes more. Where all are equally fit all are marked.

    Args:
        mutation_scale: Scale α of the Cauchy noise; 0.3 σ if ``None``.
        mutation_rate: The share of a child's genes that get noise.
        mark_all: Shuffle all genes but those of the best genome, whatever its fitness: the simple variant.
        **shared: The arguments of ``PoolStrategy``.

    Raises:
        ValueError: If the population is too small to choose parents from.
    """

    source = "Gomez, Schmidhuber & Miikkulainen 2008"
    state_names = ("pool", "best", "best_fitness")
    usual_population = 40

    def __init__(
        self,
        mean: Tensor,
        *,
        sigma: float = 0.1,
        mutation_scale: float | None = None,
        mutation_rate: float = 0.8,
        mark_all: bool = False,
        **shared: Any,
    ) -> None:
        super().__init__(mean, sigma=sigma, **shared)
        if self.population < FEWEST:
            raise ValueError(
                f"population is {self.population}; the best quarter must hold two parents, so use at least {FEWEST}."
            )
        self.mutation_scale = 0.3 * sigma if mutation_scale is None else mutation_scale
        self.mutation_rate, self.mark_all = mutation_rate, mark_all
        self.draw_pool(self.population)

    def sample(self) -> Tensor:
        """Return the pool as it is, ``(P, N)``."""
        return self.pool

    def update(self, genomes: Tensor, fitness: Tensor) -> None:
        """Breed, then shuffle."""
        self.keep_best(genomes, fitness)
        shuffled = torch.randperm(self.population, generator=self.generator)  # Equal ones in random order.
        fitness, order = fitness[shuffled].sort(descending=True, stable=True)
        ranked = genomes[shuffled][order]
        num_parents = self.population // 4
        mates = torch.randint(num_parents, (num_parents,), generator=self.generator)
        cuts = torch.randint(1, max(2, self.num_genes), (num_parents, 1), generator=self.generator)
        before_cut = torch.arange(self.num_genes) < cuts
        children = torch.where(before_cut, ranked[:num_parents], ranked[mates])
        noise = cauchy(children.shape, self.mutation_scale, self.generator)
        mutated = torch.rand(children.shape, generator=self.generator) < self.mutation_rate
        ranked[-num_parents:] = children + noise * mutated
        self.pool = self._shuffle(ranked, self._marks(fitness))

    def _marks(self, fitness: Tensor) -> Tensor:
        """Choose the genes ``(P, N)`` that change places, for fitness ``(P,)``, best first; children are new: all."""
        failed = fitness == -math.inf
        finite = fitness.masked_fill(failed, float(fitness[~failed].min()) if not failed.all() else 0.0)
        span = finite.max() - finite.min()
        # If all that did not fail are alike they are worth all; if none failed, nothing is known of any.
        worth = (finite - finite.min()) / span if span > 0 else torch.full_like(finite, float(failed.any()))
        worth = worth.masked_fill(failed, 0.0)
        probability = 1 - worth ** (1 / self.num_genes)
        if self.mark_all:
            probability = torch.ones_like(worth)
            probability[0] = 0.0
        probability[-(self.population // 4) :] = 1.0
        return torch.rand(self.pool.shape, generator=self.generator) < probability.unsqueeze(1)

    def _shuffle(self, pool: Tensor, marked: Tensor) -> Tensor:
        """Shuffle the marked genes of every column among the rows that hold them."""
        draws = torch.rand(pool.shape, generator=self.generator, dtype=torch.float64)
        # Sorted by draw, marked ones first: the k-th marked row of a column gets the gene of the k-th by draw.
        sources = torch.where(marked, draws, 2.0).argsort(0)
        targets = torch.where(marked, torch.arange(len(pool)).unsqueeze(1).double(), 1e9).argsort(0)
        shuffled = pool.clone()
        counts = marked.sum(0)
        within = torch.arange(len(pool)).unsqueeze(1) < counts
        moved = pool.gather(0, sources)
        kept = pool.gather(0, targets)
        return shuffled.scatter(0, targets, torch.where(within, moved, kept))
