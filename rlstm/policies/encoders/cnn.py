"""Convolutions over an image. Source of the large one: Mnih et al. 2015, "Human-level control"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from gymnasium import spaces
from torch import nn

from rlstm.policies.encoders.images import ImageEncoder, ImageLayout, make_orthogonal


class CNNEncoder(ImageEncoder):
    """Convolutions, each followed by a ReLU, over an image scaled to [0, 1].

    Args:
        space: A Box of bytes with three axes.
        image_layout: Where it has its channels.
        image_strides: Whether images of 16 to 35 pixels are convolved with strides.
        channels: Maps of each layer. By default, as kernels and strides, by the smaller side of the image: from 36
            pixels on those of Mnih et al. 2015; from 16 on 32, 64, 64; below 32, 64.
        kernels: Side of each layer's kernel in pixels.
        strides: Stride of each layer in pixels.

    Raises:
        ValueError: If the three lists differ in length, or the image is too small for them.
    """

    def __init__(
        self,
        space: spaces.Box,
        *,
        image_layout: ImageLayout = "auto",
        image_strides: bool = True,
        channels: Sequence[int] | None = None,
        kernels: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> None:
        super().__init__(space, image_layout)
        own = _own_layers(channels, kernels, strides)
        smaller = min(self.format.height, self.format.width)
        if own is None:
            own = _default_layers(self.format.height, self.format.width, image_strides)
        layers: list[nn.Module] = []
        num_inputs, left = self.format.channels, smaller
        for size, kernel, stride in own:
            if left < kernel:
                raise ValueError(
                    f"kernels is {kernels}, but after the strides {strides} no {kernel} pixels are left of the "
                    f"{smaller} of the image; take smaller ones."
                )
            left = (left - kernel) // stride + 1
            layers += [nn.Conv2d(num_inputs, size, kernel, stride), nn.ReLU()]
            num_inputs = size
        for layer in layers[::2]:  # After all are made: the order in which weights are drawn is that of stored runs.
            make_orthogonal(cast(nn.Conv2d, layer))
        self.take(layers)


def _default_layers(height: int, width: int, image_strides: bool) -> list[tuple[int, int, int]]:
    """Return channels, kernel and stride of each layer."""
    smaller = min(height, width)
    if smaller >= 36:  # The network of Mnih et al. 2015 needs at least this much.
        return [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
    if smaller >= 16 and image_strides:
        return [(32, 4, 2), (64, 3, 2), (64, 3, 1)]  # 1,600 features of 32 x 32 pixels.
    first = min(3, smaller)
    return [(32, first, 1), (64, min(2, smaller - first + 1), 1)]


def _own_layers(
    channels: Sequence[int] | None, kernels: Sequence[int] | None, strides: Sequence[int] | None
) -> list[tuple[int, int, int]] | None:
    given = {"channels": channels, "kernels": kernels, "strides": strides}
    known = {name: value for name, value in given.items() if value is not None}
    if not known:
        return None
    for name, value in given.items():
        if value is None or len(value) != len(next(iter(known.values()))) or not value:
            raise ValueError(f"{name} is {value}; give channels, kernels and strides together, one of each a layer.")
        if any(type(one) is not int or one < 1 for one in value):
            raise ValueError(f"{name} is {value}; each must be a whole number of at least 1.")
    return list(zip(channels or (), kernels or (), strides or (), strict=True))
