"""A strategy from the settings of an agent: each class says which of them it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlstm.evolution import STRATEGIES
from rlstm.evolution.base import Strategy
from rlstm.evolution.restarts import Restarts

__all__ = ["make_strategy"]


def make_strategy(
    name: str, mean: Tensor, settings: Mapping[str, Any], *, groups: Callable[[], Tensor], generator: torch.Generator
) -> Strategy:
    """Return the strategy called ``name``, which begins anew after ``patience`` generations where that is set.

    Args:
        name: One of ``STRATEGIES``.
        mean: The genome ``(N,)`` around which it begins.
        settings: ``population``, ``sigma`` and ``patience``, and those of ``Strategy.settings``; others mean nothing.
        groups: Returns the subpopulation of every gene, ``(N,)``; called for those that have such.
        generator: Draws everything.

    Raises:
        ValueError: If the strategy refuses its settings.
    """
    kind = STRATEGIES[name]
    options: dict[str, Any] = {argument: settings[setting] for argument, setting in kind.settings.items()}
    if kind.has_groups:
        options["groups"] = groups()
    shared = {"population": settings["population"], "sigma": settings["sigma"], "generator": generator}
    begin = partial(kind, mean, **shared, **options)
    patience = settings["patience"]
    return begin() if patience is None else Restarts(begin, generator=generator, patience=patience)
