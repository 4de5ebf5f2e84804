"""Images: bytes with three axes, and where they have their channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.core.errors import UnsupportedSpaceError
from rlstm.core.trees import Tree
from rlstm.policies.encoders.base import Encoder

ImageLayout = Literal["auto", "hwc", "chw"]
"""Where an image has its channels: on the last axis, on the first, or decided by ``has_channels_last``."""

_MOST_CHANNELS = 32  # Of an image whose layout isn't named: eight stacked frames with four channels.
_USUAL_CHANNELS = (1, 3, 4)


def is_image(space: spaces.Space[Any]) -> bool:
    """Return whether it is a Box of bytes with three axes."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8


def has_channels_last(shape: tuple[int, ...], layout: ImageLayout) -> bool:
    """Return whether the channels of an image are its last axis.

    With ``auto`` they are the axis of usual size (1, 3 or 4) if only one of the two is, else the smaller one, with 32
    channels at most.

    Raises:
        UnsupportedSpaceError: If that does not decide it.
    """
    if layout != "auto":
        return layout == "hwc"
    first, last = shape[0], shape[-1]
    if (first in _USUAL_CHANNELS) != (last in _USUAL_CHANNELS):
        return last in _USUAL_CHANNELS
    if first == last or min(first, last) > _MOST_CHANNELS:
        raise UnsupportedSpaceError(
            f"An image of the shape {shape} may have its channels on the first axis or on the last: say which with "
            "--image-layout chw or hwc."
        )
    return last < first


class ImageFormat:
    """How an image is laid out, and turns it into what convolutions read.

    Args:
        space: A Box of bytes with three axes.
        layout: Where it has its channels.

    Raises:
        UnsupportedSpaceError: If its channels can't be told.
    """

    def __init__(self, space: spaces.Box, layout: ImageLayout = "auto") -> None:
        self.channels_last = has_channels_last(space.shape, layout)
        axes = (2, 0, 1) if self.channels_last else (0, 1, 2)
        self.channels, self.height, self.width = (int(space.shape[axis]) for axis in axes)
        self._scale = 1.0 / float(np.max(space.high))

    @property
    def description(self) -> str:
        """Size, channels, and where they are."""
        axis = "last" if self.channels_last else "first"
        return f"{self.height} x {self.width}, {self.channels} channels on the {axis} axis"

    def read(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Return images with any leading axes as ``(N, channels, height, width)`` from 0 to 1."""
        images = images.reshape(-1, *images.shape[-3:])
        return (images.permute(0, 3, 1, 2) if self.channels_last else images).to(dtype) * self._scale

    def run(self, layers: nn.Module, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the flat output of ``layers`` on images with any leading axes: ``(..., F)``."""
        maps: Tensor = layers(self.read(images, dtype))
        return maps.reshape(*images.shape[:-3], math.prod(maps.shape[1:]))

    @torch.no_grad()
    def map_shape(self, layers: nn.Module) -> tuple[int, int, int]:
        """Return channels, height and width of what ``layers`` make of one image."""
        maps = layers(torch.zeros(1, self.channels, self.height, self.width))
        return maps.shape[1], maps.shape[2], maps.shape[3]


class ImageEncoder(Encoder):
    """Layers over an image scaled to [0, 1], whose last maps are the features; a subclass makes the layers.

    Args:
        space: A Box of bytes with three axes.
        image_layout: Where it has its channels.

    Raises:
        UnsupportedSpaceError: If its channels can't be told.
    """

    layers: nn.Sequential

    def __init__(self, space: spaces.Box, image_layout: ImageLayout) -> None:
        super().__init__()
        self.format = ImageFormat(space, image_layout)
        self.description = self.format.description

    def take(self, layers: Sequence[nn.Module]) -> None:
        """Take the layers, and see what maps they make."""
        self.layers = nn.Sequential(*layers)
        self.map_shape = self.format.map_shape(self.layers)
        self.output_size = math.prod(self.map_shape)

    @classmethod
    def reads(cls, space: spaces.Space[Any]) -> bool:
        """Return whether it is an image."""
        return is_image(space)

    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        """Return the last maps, laid flat."""
        return self.format.run(self.layers, observations, dtype)


def make_orthogonal(layer: nn.Conv2d) -> nn.Conv2d:
    """Give a convolution orthogonal weights of gain √2 and zero biases; return it."""
    nn.init.orthogonal_(layer.weight, math.sqrt(2))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
