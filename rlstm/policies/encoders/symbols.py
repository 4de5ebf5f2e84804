"""Symbols: values of Discrete and MultiDiscrete spaces, as one-hot vectors or as vectors that are learnt."""

from __future__ import annotations

from abc import ABC
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.core.trees import Tree
from rlstm.policies.encoders.base import Encoder


class _SymbolsEncoder(Encoder, ABC):
    starts: Tensor

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__()
        counts = [space.n] if isinstance(space, spaces.Discrete) else np.asarray(space.nvec).reshape(-1)
        self.counts = [int(count) for count in counts]
        self._num_axes = len(space.shape or ())
        starts = np.asarray(space.start).reshape(-1).astype(np.int64)
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)

    @classmethod
    def reads(cls, space: spaces.Space[Any]) -> bool:
        """Return whether it is a Discrete or a MultiDiscrete."""
        return isinstance(space, spaces.Discrete | spaces.MultiDiscrete)

    def _symbols(self, values: Tensor) -> Tensor:
        """Return the values from 0 on, ``(..., number of symbols)``."""
        return values.reshape(*values.shape[: values.dim() - self._num_axes], len(self.counts)) - self.starts


class OneHotEncoder(_SymbolsEncoder):
    """One-hot vectors, side by side."""

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__(space)
        self.output_size = sum(self.counts)

    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        """Return the vectors."""
        symbols = self._symbols(observations)
        parts = [nn.functional.one_hot(symbols[..., index], count) for index, count in enumerate(self.counts)]
        return torch.cat(parts, -1).to(dtype)


class EmbeddingEncoder(_SymbolsEncoder):
    """A vector of its own for every value of every symbol, learnt, side by side.

    Args:
        space: Discrete or MultiDiscrete.
        size: Width of each vector; they begin as N(0, 1).
    """

    offsets: Tensor

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete, *, size: int = 16) -> None:
        super().__init__(space)
        if size < 1:
            raise ValueError(f"size is {size}; it must be at least 1.")
        self.output_size = size * len(self.counts)
        self.table = nn.Embedding(sum(self.counts), size)
        offsets = torch.tensor([0, *self.counts[:-1]]).cumsum(0)
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        """Return the vectors."""
        vectors: Tensor = self.table(self._symbols(observations) + self.offsets)
        return vectors.flatten(-2)
