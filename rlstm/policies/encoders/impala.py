"""The residual network of IMPALA. Source: Espeholt et al. 2018 (arXiv 1802.01561), figure 3, right.

Its dense layer and its LSTM are left to the policy's own layers and memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.policies.encoders.images import ImageEncoder, ImageLayout, make_orthogonal


def _convolution(num_inputs: int, num_outputs: int) -> nn.Conv2d:
    """Return a convolution of 3 x 3 kernels that keeps the sides."""
    return make_orthogonal(nn.Conv2d(num_inputs, num_outputs, 3, padding=1))


class _ResidualBlock(nn.Module):
    """X + conv(relu(conv(relu(X)))), of 3 x 3 kernels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = _convolution(channels, channels)

    def forward(self, maps: Tensor) -> Tensor:
        inner: Tensor = self.second(torch.relu(self.first(torch.relu(maps))))
        return maps + inner


class IMPALAEncoder(ImageEncoder):
    """Sections of a convolution, a pooling that halves the sides and two residual blocks, over an image in [0, 1].

    Args:
        space: A Box of bytes with three axes.
        image_layout: Where it has its channels.
        channels: Maps of each section.

    Raises:
        ValueError: If a number of maps is smaller than 1, or there is none.
    """

    def __init__(
        self, space: spaces.Box, *, image_layout: ImageLayout = "auto", channels: Sequence[int] = (16, 32, 32)
    ) -> None:
        super().__init__(space, image_layout)
        if not channels or any(type(one) is not int or one < 1 for one in channels):
            raise ValueError(f"channels is {channels}; it must be a list of whole numbers of at least 1.")
        layers: list[nn.Module] = []
        num_inputs = self.format.channels
        for size in channels:
            layers += [_convolution(num_inputs, size), nn.MaxPool2d(3, 2, padding=1)]
            layers += [_ResidualBlock(size), _ResidualBlock(size)]
            num_inputs = size
        self.take([*layers, nn.ReLU()])
