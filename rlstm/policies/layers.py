"""Layers of networks, with their initial weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def linear(num_inputs: int, num_outputs: int, gain: float = math.sqrt(2)) -> nn.Linear:
    """Return a linear layer with orthogonal weights of ``gain`` and zero biases."""
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class HighwayLayer(nn.Module):
    """A layer that begins by carrying what it reads past itself (Srivastava, Greff & Schmidhuber 2015).

    With x what it reads::

        y = T tanh(W_H x + b_H) + (1 - T) x,    T = σ(W_T x + b_T)

    Args:
        size: Width of x and y.
        carry_bias: -b_T at the start: the larger, the more is carried.
    """

    def __init__(self, size: int, carry_bias: float = 2.0) -> None:
        super().__init__()
        self.linear = linear(size, 2 * size, gain=1.0)  # H and T.
        nn.init.constant_(self.linear.bias[size:], -carry_bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return y ``(..., size)`` for x ``(..., size)``."""
        return highway(self.linear(features), features)


def highway(both: Tensor, features: Tensor) -> Tensor:
    """Return y of a highway layer from what enters H and T, ``(..., 2·size)``, and x ``(..., size)``."""
    transformed, gate = both.chunk(2, -1)
    return torch.lerp(features, torch.tanh(transformed), torch.sigmoid(gate))


def mlp(num_inputs: int, sizes: Sequence[int], *, is_highway: bool = False) -> tuple[nn.Sequential, int]:
    """Return tanh layers of ``sizes`` and the width of what they put out (``num_inputs`` where there are none).

    With ``is_highway`` those that are as wide as what they read are highway layers.
    """
    layers: list[nn.Module] = []
    for size in sizes:
        layers += [HighwayLayer(size)] if is_highway and size == num_inputs else [linear(num_inputs, size), nn.Tanh()]
        num_inputs = size
    return nn.Sequential(*layers), num_inputs
