"""Numbers as they are, laid flat."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlstm.core.trees import Tree
from rlstm.policies.encoders.base import Encoder


class NumbersEncoder(Encoder):
    """A Box of any shape, images too, or a MultiBinary as one vector; the tanh layers of the policy follow."""

    takes_normalised = True

    def __init__(self, space: spaces.Box | spaces.MultiBinary) -> None:
        super().__init__()
        shape = space.shape or ()
        self._num_axes, self.output_size = len(shape), math.prod(shape)
        if space.dtype == np.uint8 and len(shape) > 2:
            self.description = f"the {len(shape)} axes {shape} are read as {self.output_size:,} numbers, not as one"

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
