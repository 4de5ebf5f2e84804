"""A strategy from the settings of an agent: each class says which of them it takes, and the others are told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlstm.evolution.strategies import STRATEGIES
from rlstm.evolution.strategies.base import Strategy
from rlstm.evolution.strategies.restarts import Restarts

__all__ = ["make_strategy", "unread_settings"]

_READOUTS = {
    "ridge_strength": ("ridge", "rwr"),
    "elite_episodes": ("rwr",),
    "teacher_sequences": ("lstsq", "ridge", "svm"),
    "washout": ("lstsq", "ridge", "svm"),
}
"""Settings that some readouts read alone."""


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


def unread_settings(settings: Any, strategy: str, readout: str) -> list[str]:
    """Return a sentence for each setting that was chosen and that is read by other strategies or readouts alone.

    Args:
        settings: A dataclass; what differs from its default was chosen.
        strategy: One of ``STRATEGIES``.
        readout: How readouts come about.
    """
    readers = dict(_READOUTS)
    for name in {setting for kind in STRATEGIES.values() for setting in kind.settings.values()}:
        readers[name] = tuple(other for other, kind in STRATEGIES.items() if name in kind.settings.values())
    sentences = []
    for field in dataclasses.fields(settings):
        value, known = getattr(settings, field.name), readers.get(field.name, (strategy,))
        if value != field.default and strategy not in known and readout not in known:
            kind = "readout" if field.name in _READOUTS else "strategy"
            chosen = readout if kind == "readout" else strategy
            sentences.append(
                f"{field.name} is {value}, which has no effect: {kind} is '{chosen}', and it is read with "
                f"{', '.join(known)} alone."
            )
    return sentences
