"""One seed, many independent streams.

Every use of randomness has its own child of ``numpy.random.SeedSequence``, so runs with seeds 1 and 2 share no stream,
and adding a consumer does not shift the others.
"""

from __future__ import annotations

import random
from typing import Literal, get_args

import numpy as np
import torch

# In the order of their numbers, by which runs are drawn: a new one goes to the end.
Stream = Literal[
    "initialisation",
    "actions",
    "minibatches",
    "envs",
    "evaluation",
    "evaluation_actions",
    "check",
    "demonstrations",
    "demonstrations_actions",
    "generations",
    "confirmations",
    "lessons",
    "explorations",
    "explorations_actions",
    "training_evaluation",
    "training_evaluation_actions",
    "playback",
    "playback_actions",
    "search",
    "weight_noise",
    "stages",
]
_STREAMS: dict[Stream, int] = {stream: number for number, stream in enumerate(get_args(Stream))}


def integer_seeds(seed: int, stream: Stream, count: int, index: int | None = None) -> list[int]:
    """Return ``count`` seeds of one stream as Python integers below 2⁶³; other ones for every ``index``.

    Raises:
        ValueError: If ``seed`` is negative.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or larger.")
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(_STREAMS[stream], *(() if index is None else (index,))))
    return [int(word >> np.uint64(1)) for word in sequence.generate_state(count, np.uint64)]


def generator(
    seed: int, stream: Stream, device: torch.device | str = "cpu", index: int | None = None
) -> torch.Generator:
    """Return a torch generator for one stream; another one for every ``index``."""
    return torch.Generator(device=device).manual_seed(integer_seeds(seed, stream, 1, index)[0])


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch, numpy and Python, from which weights are drawn.

    numpy's legacy global generator is seeded for the sake of user code; this library does not draw from it.
    """
    (word,) = integer_seeds(seed, "initialisation", 1)
    torch.manual_seed(word)
    np.random.seed(word % 2**32)  # noqa: NPY002
    random.seed(word)
