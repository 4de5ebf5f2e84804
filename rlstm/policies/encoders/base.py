"""The protocol of every encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.core.trees import Tree


class Encoder(nn.Module, ABC):
    """Reads one part of an observation: an array, or a whole Dict or Tuple, as features ``(..., output_size)``.

    A constructor takes the part's space and, by name, the encoder's options; with arguments ``image_layout`` or
    ``image_strides`` it is given those of the policy's settings. What a step's features are must depend on the
    observation of that step alone, whatever the leading axes, since acting reads ``(B, ...)`` and learning
    ``(T, B, ...)``: no dropout and no statistics of a batch. ``rlstm.testing.check_encoder`` checks it.
    """

    takes_normalised: ClassVar[bool] = False
    """Whether a Box of numbers arrives in deviations from its running mean, if the settings normalise observations."""

    output_size: int
    """Width of the features."""

    map_shape: tuple[int, int, int] | None = None
    """Channels, height and width where the features are maps laid flat, for memory cells that read maps."""

    description: str = ""
    """How the part is read, where people should know."""

    @classmethod
    @abstractmethod
    def reads(cls, space: spaces.Space[Any]) -> bool:
        """Return whether such a part of an observation can be read."""

    @abstractmethod
    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        """Return the features ``(..., output_size)`` of ``dtype``, that of the weights.

        Args:
            observations: ``(..., *shape)``, or a tree of these, in the types of ``observation_dtypes``: bytes are
                uint8, other whole numbers int64 or int8.
            dtype: Type of the result.
        """
