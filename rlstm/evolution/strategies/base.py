"""The protocol of every strategy of evolution: ask for genomes, tell what they are worth.

Shapes: P = genomes of a generation, N = genes. Fitness is maximised. A strategy works in float64 on the host and draws
from a generator of its own. With the same settings its ``state_dict`` is all that its future depends on, so a run that
stops after a ``tell`` goes on to the last bit as if it had not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor


class Strategy(ABC):
    """A distribution, or a pool, of genomes that moves towards the fitter ones.

    Args:
        mean: The genome ``(N,)`` around which the first generation lies.
        population: Genomes P of a generation; ``default_population`` if ``None``.
        sigma: Standard deviation of the first generation in every gene.
        generator: Draws everything random; on the host.

    Raises:
        ValueError: If a size or the deviation is out of range.
    """

    source: ClassVar[str]
    """Where the strategy was published."""

    state_names: ClassVar[tuple[str, ...]]
    """The attributes, tensors and numbers, that with the generator are the whole state."""

    usual_population: ClassVar[int | None] = None
    """Genomes of a generation if nothing else is asked for, where that does not depend on the number of genes."""

    has_groups: ClassVar[bool] = False
    """Whether it takes ``groups``, the subpopulation of every gene."""

    def __init__(
        self, mean: Tensor, *, population: int | None = None, sigma: float = 0.1, generator: torch.Generator
    ) -> None:
        if mean.dim() != 1 or len(mean) == 0:
            raise ValueError(f"The first mean has the shape {tuple(mean.shape)}; it must be one genome, (N,).")
        population = self.default_population(len(mean)) if population is None else population
        if population < 2:
            raise ValueError(f"population is {population}; evolution needs at least 2 genomes to choose from.")
        if not sigma > 0:
            raise ValueError(f"sigma is {sigma}; it must be positive.")
        self.population, self.num_genes, self.generator = population, len(mean), generator
        self._asked: Tensor | None = None
        self._before_asking = generator.get_state()

    @classmethod
    def default_population(cls, num_genes: int) -> int:
        """Return 4 + ⌊3 ln N⌋, as Hansen's CMA tutorial has it (table 1), or ``usual_population``."""
        if cls.usual_population is not None:
            return cls.usual_population
        return 4 + int(3 * torch.tensor(float(num_genes), dtype=torch.float64).log())

    def ask(self) -> Tensor:
        """Return the genomes of the next generation, ``(P, N)``.

        Raises:
            RuntimeError: If the last generation's fitness has not been told yet.
        """
        if self._asked is not None:
            raise RuntimeError("The last generation waits for its fitness: call tell before asking again.")
        self._before_asking = self.generator.get_state()
        self._asked = self.sample()
        return self._asked.clone()

    def tell(self, fitness: Tensor) -> None:
        """Take in the fitness ``(P,)`` of the genomes asked for; more is better, and what is not finite is the worst.

        Raises:
            RuntimeError: If no generation was asked for.
            ValueError: If there is not one number for each genome.
        """
        if self._asked is None:
            raise RuntimeError("There is no generation to evaluate: call ask before tell.")
        if fitness.shape != (self.population,):
            raise ValueError(
                f"The fitness has the shape {tuple(fitness.shape)}; there must be one for each of the "
                f"{self.population} genomes."
            )
        genomes, self._asked = self._asked, None
        fitness = fitness.detach().cpu().double()
        self.update(genomes, fitness.masked_fill(~fitness.isfinite(), -torch.inf))

    def statistics(self) -> dict[str, float]:
        """Return by name what tells how the search goes: the mean deviation, bursts and restarts, if it has such."""
        found: dict[str, float] = {}
        for name, attribute in (("bursts", "num_bursts"), ("restarts", "num_restarts"), ("sigma", "sigma")):
            if hasattr(self, attribute):
                value = torch.as_tensor(getattr(self, attribute))
                found[name] = float(value.mean() if value.is_floating_point() else value)
        return found

    @property
    @abstractmethod
    def centre(self) -> Tensor:
        """The genome ``(N,)`` that the strategy itself would bet on."""

    @abstractmethod
    def sample(self) -> Tensor:
        """Draw the next generation, ``(P, N)``."""

    @abstractmethod
    def update(self, genomes: Tensor, fitness: Tensor) -> None:
        """Learn from a generation ``(P, N)`` and its fitness ``(P,)``: finite, or -∞ where it was not."""

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the whole state, tensors and numbers by name.

        If a generation waits for its fitness the state is that before it was asked for.
        """
        draws = self.generator.get_state() if self._asked is None else self._before_asking
        state = {name: getattr(self, name) for name in self.state_names}
        copies = {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}
        return {**copies, **self.identity(), "generator": draws}

    def identity(self) -> dict[str, Any]:
        """Return the settings that a state must share to be this strategy's, tensors and plain values by name."""
        return {"strategy": type(self).__name__, "population": self.population, "num_genes": self.num_genes}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load a state that ``state_dict`` returned.

        Raises:
            ValueError: If it is not that of a strategy of this kind and size, naming what differs.
        """
        for name, here in self.identity().items():
            there = values.get(name)
            if isinstance(here, Tensor):
                if not isinstance(there, Tensor) or not torch.equal(here, there):
                    raise ValueError(f"'{name}' of the state is not that of this strategy.")
            elif here != there:
                raise ValueError(f"'{name}' is {there!r} in the state; here it is {here!r}.")
        for name in (*self.state_names, "generator"):
            if name not in values:
                raise ValueError(f"The state has no '{name}'; it is not one of {type(self).__name__}.")
        for name in self.state_names:
            value = values[name]
            setattr(self, name, value.detach().cpu().clone() if isinstance(value, Tensor) else value)
        self.generator.set_state(values["generator"])
        self._asked = None


class MeanStrategy(Strategy):
    """A distribution around a mean ``(N,)``; arguments as those of ``Strategy``."""

    def __init__(self, mean: Tensor, **shared: Any) -> None:
        super().__init__(mean, **shared)
        self.mean = mean.detach().cpu().double().clone()

    @property
    def centre(self) -> Tensor:
        """The mean."""
        return self.mean.clone()


def check_least_sigma(least_sigma: float, sigma: float) -> None:
    """Refuse a lower bound of the deviation that is negative or above where it starts.

    Raises:
        ValueError: If it is.
    """
    if not 0 <= least_sigma <= sigma:
        raise ValueError(f"least_sigma is {least_sigma}; it must be from 0 to sigma, {sigma}.")


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def share_ties(fitness: Tensor, utilities: Tensor) -> Tensor:
    """Give every genome the utility of its rank; equal fitness shares the mean of its ranks' utilities.

    Without that, a generation in which nearly all fail alike would be ranked by index: a random walk.

    Args:
        fitness: ``(P,)``, without NaN.
        utilities: ``(P,)`` by rank, best first.

    Returns:
        ``(P,)`` in the order of ``fitness``.
    """
    values, order = fitness.sort(descending=True, stable=True)
    begins = torch.ones_like(values, dtype=torch.bool)
    begins[1:] = values[1:] != values[:-1]
    ties = begins.long().cumsum(0) - 1
    sums, counts = utilities.new_zeros(2, len(values))
    sums.index_add_(0, ties, utilities)
    counts.index_add_(0, ties, torch.ones_like(utilities))
    shared = torch.empty_like(utilities)
    shared[order] = sums[ties] / counts[ties]
    return shared
