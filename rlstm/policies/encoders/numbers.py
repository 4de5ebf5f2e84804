"""Numbers as they are, laid flat."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rlstm.core.trees import Tree
from rlstm.policies.encoders.base import Encoder

_LIKE_AN_IMAGE = 256  # Numbers of a part with several axes, from which on it may have been meant as one.


class NumbersEncoder(Encoder):
    """A Box of any shape, images too, or a MultiBinary as one vector; the tanh layers of the policy follow."""

    takes_normalised = True

    def __init__(self, space: spaces.Box | spaces.MultiBinary) -> None:
        super().__init__()
        shape = space.shape or ()
        self._num_axes, self.output_size = len(shape), math.prod(shape)
        if len(shape) > 1 and self.output_size >= _LIKE_AN_IMAGE:
            self.description = (
                f"the {len(shape)} axes {shape} of {space.dtype} are read as {self.output_size:,} numbers, not as an "
                "image, which is bytes with three axes"
            )

    @classmethod
    def reads(cls, space: spaces.Space[Any]) -> bool:
        """Return whether it is a Box or a MultiBinary."""
        return isinstance(space, spaces.Box | spaces.MultiBinary)

    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        """Return the numbers."""
        numbers: Tensor = observations.to(dtype)
        if self._num_axes == 1:
            return numbers
        return numbers.reshape(*numbers.shape[: numbers.dim() - self._num_axes], self.output_size)
