"""Restarts: a strategy that begins anew, from its first distribution or pool, once it makes no more progress.

Where a try is likelier to succeed early or not at all, many short ones need fewer evaluations than a long one.

Source: A. Auger, N. Hansen, "A restart CMA evolution strategy with increasing population size", CEC 2005; the
population stays as it is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlstm.evolution.strategies.base import Strategy

PREFIX = "present_try."
"""In front of the names of the present try's state."""


class Restarts(Strategy):
    """Tries of one and the same strategy, one after the other.

    A try ends after ``patience`` generations in a row without a better genome than its best one, or after
    ``longest_try`` generations, whichever comes first. The next one is drawn from the same generator, which has moved
    on.

    Args:
        begin: Makes the strategy that a try begins with; it must draw from ``generator``.
        generator: Draws everything.
        patience: Generations without progress after which a try ends; never, if ``None``.
        longest_try: Generations after which it ends in any case; never, if ``None``.

    Raises:
        ValueError: If neither is given, or one is out of range, or ``begin`` draws from another generator.
    """

    source = "Auger & Hansen 2005"
    state_names = ("best", "best_fitness", "best_of_try", "age", "generations_without_progress", "num_restarts")

    def __init__(
        self,
        begin: Callable[[], Strategy],
        *,
        generator: torch.Generator,
        patience: int | None = None,
        longest_try: int | None = None,
    ) -> None:
        if patience is None and longest_try is None:
            raise ValueError("Give patience, longest_try or both: without, nothing would ever begin anew.")
        for name, value in (("patience", patience), ("longest_try", longest_try)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        self.present_try = begin()
        if self.present_try.generator is not generator:
            raise ValueError("begin draws from another generator than this one, whose state would not be kept.")
        self.best = self.present_try.centre
        super().__init__(self.best, population=self.present_try.population, sigma=1.0, generator=generator)
        self.begin, self.patience, self.longest_try = begin, patience, longest_try
        self.best_fitness = self.best_of_try = -math.inf
        self.age = self.generations_without_progress = self.num_restarts = 0

    @property
    def centre(self) -> Tensor:
        """The best genome of all tries, by the fitness as told."""
        return self.best.clone()

    def sample(self) -> Tensor:
        """Draw the present try's next generation, ``(P, N)``."""
        return self.present_try.ask()

    def update(self, genomes: Tensor, fitness: Tensor) -> None:
        """Tell the present try, or begin the next one."""
        self.present_try.tell(fitness)
        winner = int(fitness.argmax())
        top = float(fitness[winner])
        if top > self.best_fitness:
            self.best, self.best_fitness = genomes[winner].clone(), top
        self.age += 1
        self.generations_without_progress += 1
        if top > self.best_of_try:
            self.best_of_try, self.generations_without_progress = top, 0
        impatient = self.patience is not None and self.generations_without_progress >= self.patience
        if impatient or (self.longest_try is not None and self.age >= self.longest_try):
            self.present_try, self.best_of_try = self.begin(), -math.inf
            self.age = self.generations_without_progress = 0
            self.num_restarts += 1

    def identity(self) -> dict[str, Any]:
        """Return the sizes, and when a try ends."""
        return {**super().identity(), "patience": self.patience, "longest_try": self.longest_try}

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state, the present try's with a prefix."""
        own = super().state_dict()
        return {**own, **{f"{PREFIX}{name}": value for name, value in self.present_try.state_dict().items()}}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load a state that ``state_dict`` returned."""
        inner = {name.removeprefix(PREFIX): value for name, value in values.items() if name.startswith(PREFIX)}
        identity = self.present_try.identity()
        if inner.get("strategy") != identity["strategy"]:
            raise ValueError(
                f"The state's tries are of '{inner.get('strategy')}'; here they are of '{identity['strategy']}'."
            )
        super().load_state_dict(values)
        self.present_try.load_state_dict(inner)
