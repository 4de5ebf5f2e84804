"""Encoders of observations, and layers.

An encoder turns a tree of observations with any leading axes into one feature vector a step, ``(..., F)``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.core.arrays import ACTION_MASK_KEY
from rlstm.core.errors import UnsupportedSpaceError
from rlstm.core.trees import Tree
from rlstm.policies.normalisers import RunningMoments

_SUPPORTED = "Box (vectors, images), Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these, nested"


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


class _Leaf(nn.Module, ABC):
    """Reads one leaf of an observation tree: features ``(..., size)``."""

    size: int
    description = ""  # Of an image.
    is_vector = False  # A vector of floats, which the running normaliser covers.

    def __init__(self, path: tuple[Any, ...]) -> None:
        super().__init__()
        self.path = path

    def read(self, tree: Tree, dtype: torch.dtype) -> Tensor:
        for key in self.path:
            tree = tree[key]
        return self.forward(tree, dtype)

    @abstractmethod
    def forward(self, leaf: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the features of a leaf with any leading axes; called by ``read``, without a module's overhead."""


class _Vector(_Leaf):
    is_vector = True
    is_exact = False  # Whether numbers of 64 bits stay as exact as they are: set where a normaliser reads them.

    def __init__(self, path: tuple[Any, ...], space: spaces.Space[Any]) -> None:
        super().__init__(path)
        shape = space.shape or ()
        self.num_axes, self.size = len(shape), math.prod(shape)
        self.is_vector = isinstance(space, spaces.Box)
        if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(shape) > 3:
            self.description = (
                f"{_name(path)}the {len(shape)} axes {shape} are read as {self.size:,} numbers, not as one"
            )

    def forward(self, leaf: Tensor, dtype: torch.dtype) -> Tensor:
        leaf = leaf.double() if self.is_exact and leaf.dtype in (torch.float64, torch.int64) else leaf.to(dtype)
        if self.num_axes == 1:
            return leaf
        return leaf.reshape(*leaf.shape[: leaf.dim() - self.num_axes], self.size)


class _OneHot(_Leaf):
    """Discrete and MultiDiscrete values as one-hot vectors side by side."""

    starts: Tensor

    def __init__(self, path: tuple[Any, ...], space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__(path)
        counts = [space.n] if isinstance(space, spaces.Discrete) else np.asarray(space.nvec).reshape(-1)
        self.sizes = [int(count) for count in counts]
        self.num_axes, self.size = len(space.shape or ()), sum(self.sizes)
        starts = np.asarray(space.start).reshape(-1).astype(np.int64)
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)

    def forward(self, leaf: Tensor, dtype: torch.dtype) -> Tensor:
        values = leaf.reshape(*leaf.shape[: leaf.dim() - self.num_axes], len(self.sizes)) - self.starts
        parts = [nn.functional.one_hot(values[..., index], size) for index, size in enumerate(self.sizes)]
        return torch.cat(parts, -1).to(dtype)


ImageLayout = Literal["auto", "hwc", "chw"]
"""Where an image has its channels: on the last axis, on the first, or decided by ``has_channels_last``."""

_MOST_CHANNELS = 32  # Of an image whose layout isn't named: eight stacked frames with four channels.
_USUAL_CHANNELS = (1, 3, 4)


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


class _Image(_Leaf):
    """Convolutions over images of bytes, channels first or last, scaled to [0, 1]."""

    def __init__(self, path: tuple[Any, ...], space: spaces.Box, *, layout: ImageLayout, strides: bool) -> None:
        super().__init__(path)
        self.channels_last = has_channels_last(space.shape, layout)
        image_channels, height, width = (space.shape[i] for i in ((2, 0, 1) if self.channels_last else (0, 1, 2)))
        self.scale = 1.0 / float(np.max(space.high))
        if min(height, width) >= 36:  # The network of Mnih et al. 2015 needs at least this much.
            kernels = [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
        elif min(height, width) >= 16 and strides:
            kernels = [(32, 4, 2), (64, 3, 2), (64, 3, 1)]  # 1,600 features of 32 x 32 pixels.
        else:
            first = min(3, height, width)
            kernels = [(32, first, 1), (64, min(2, height - first + 1, width - first + 1), 1)]
        self.description = f"{_name(path)}{height} x {width}, {image_channels} channels on the {self._axis} axis"
        channels = image_channels
        layers: list[nn.Module] = []
        for size, kernel, stride in kernels:
            layers += [nn.Conv2d(channels, size, kernel, stride), nn.ReLU()]
            channels = size
        self.layers = nn.Sequential(*layers, nn.Flatten())
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.orthogonal_(layer.weight, math.sqrt(2))
                nn.init.zeros_(cast(Tensor, layer.bias))
        with torch.no_grad():
            maps = self.layers[:-1](torch.zeros(1, image_channels, height, width))
        self.map_shape = (maps.shape[1], maps.shape[2], maps.shape[3])
        self.size = math.prod(self.map_shape)

    @property
    def _axis(self) -> str:
        return "last" if self.channels_last else "first"

    def forward(self, leaf: Tensor, dtype: torch.dtype) -> Tensor:
        leading = leaf.shape[:-3]
        images = leaf.reshape(-1, *leaf.shape[-3:])
        images = (images.permute(0, 3, 1, 2) if self.channels_last else images).to(dtype) * self.scale
        features: Tensor = self.layers(images)
        return features.view(*leading, self.size)


def _name(path: tuple[Any, ...]) -> str:
    return f"'{'/'.join(map(str, path))}': " if path else ""


def _make_leaves(
    space: spaces.Space[Any], path: tuple[Any, ...], image: Callable[[tuple[Any, ...], spaces.Box], _Leaf]
) -> list[_Leaf]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        return [leaf for key, part in parts for leaf in _make_leaves(part, (*path, key), image)]
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return [_OneHot(path, space)]
    if isinstance(space, spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8:
        return [image(path, space)]
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        return [_Vector(path, space)]
    place = f" at {'/'.join(map(str, path))}" if path else ""
    raise UnsupportedSpaceError(f"Observation space {space}{place} is not supported. Supported: {_SUPPORTED}.")


class ObservationEncoder(nn.Module):
    """Observations of any supported space to features, then tanh layers.

    Args:
        space: The env's observation space; a Dict's key ``action_mask`` is left out.
        num_extras: Width of the features appended to the observation (previous action, reward, episode start).
        sizes: Widths of the tanh layers.
        normalise: Whether vectors of floats pass a running normaliser.
        is_highway: Whether layers as wide as what they read are highway layers.
        left_out: More keys of a Dict that are not read.
        image_layout: Where images have their channels.
        image_strides: Whether images of 16 to 35 pixels are convolved with strides.

    Raises:
        UnsupportedSpaceError: If a part of the space can't be read, naming it and what can.
    """

    def __init__(
        self,
        space: spaces.Space[Any],
        num_extras: int,
        sizes: Sequence[int],
        *,
        normalise: bool,
        is_highway: bool = False,
        left_out: Sequence[str] = (),
        image_layout: ImageLayout = "auto",
        image_strides: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(space, spaces.Dict):
            unread = {ACTION_MASK_KEY, *left_out}
            space = spaces.Dict({key: part for key, part in space.spaces.items() if key not in unread})
        leaves = _make_leaves(space, (), partial(_Image, layout=image_layout, strides=image_strides))
        # Vectors come first, so that the normaliser covers one slice.
        self.leaves = nn.ModuleList(sorted(leaves, key=lambda leaf: not leaf.is_vector))
        vector_size = sum(leaf.size for leaf in leaves if leaf.is_vector)
        self.moments = RunningMoments(vector_size) if normalise and vector_size else None
        for leaf in self.leaves:
            if isinstance(leaf, _Vector):
                leaf.is_exact = self.moments is not None and leaf.is_vector
        self.map_shape = leaves[0].map_shape if len(leaves) == 1 and isinstance(leaves[0], _Image) else None
        width = sum(leaf.size for leaf in leaves) + num_extras
        self.layers, self.output_size = mlp(width, sizes, is_highway=is_highway)

    def vectors(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        """Return the raw vectors that the normaliser covers, ``(..., V)``: float64 where any has numbers of 64 bits."""
        return _join([leaf.read(observations, dtype) for leaf in self._read() if leaf.is_vector])

    @property
    def images(self) -> list[str]:
        """How each image is read, and what is none though it is made of bytes."""
        return [leaf.description for leaf in self._read() if leaf.description]

    def _read(self) -> list[_Leaf]:
        return [leaf for leaf in self.leaves if isinstance(leaf, _Leaf)]

    @torch.no_grad()
    def acting_snapshot(
        self, dtype: torch.dtype, layers: Callable[[Tensor], Tensor] | None = None
    ) -> Callable[[Tree, Sequence[Tensor], torch.dtype], Tensor]:
        """Return ``forward`` over a snapshot of the weights and statistics, for acting; valid until they change.

        ``dtype`` is that of the features; ``layers`` may take the place of its own.
        """
        leaves, moments = self._read(), self.moments
        num_vectors = sum(leaf.is_vector for leaf in leaves)
        normalise = moments.snapshot(dtype) if moments is not None else None
        layers = self._layers_snapshot() if layers is None else layers

        def encode(observations: Tree, extras: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
            parts = [leaf.read(observations, dtype) for leaf in leaves]
            if normalise is not None:
                parts[:num_vectors] = [normalise(_join(parts[:num_vectors]))]
            if extras:
                parts += [extra.to(dtype) for extra in extras]
            return layers(_join(parts))

        return encode

    def _layers_snapshot(self) -> Callable[[Tensor], Tensor]:
        highways = [isinstance(layer, HighwayLayer) for layer in self.layers if not isinstance(layer, nn.Tanh)]
        linears = [layer for layer in self.layers.modules() if isinstance(layer, nn.Linear)]
        layers = [(one.weight.t().contiguous(), one.bias, way) for one, way in zip(linears, highways, strict=True)]

        def run(features: Tensor) -> Tensor:
            for weight, bias, is_highway in layers:
                entering = torch.addmm(bias, features, weight)
                features = highway(entering, features) if is_highway else entering.tanh_()
            return features

        return run

    def forward(self, observations: Tree, extras: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """Encode observations and extras with the same leading axes: ``(..., output_size)``."""
        raw = self.moments is None
        parts = [leaf.read(observations, dtype) for leaf in self._read() if raw or not leaf.is_vector]
        if self.moments is not None:
            parts.insert(0, self.moments.normalise(self.vectors(observations, dtype), dtype))
        parts += [extra.to(dtype) for extra in extras]
        features: Tensor = self.layers(_join(parts))
        return features


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def observation_dtypes(space: spaces.Space[Any], dtype: torch.dtype) -> Tree:
    """Return, as a tree like the observations, the types in which rollouts keep them.

    Floats take the policy's type, but those of 64 bits stay as they are, since a normaliser may have to subtract most
    of them; bytes stay bytes, and other whole numbers become int64.
    """
    if isinstance(space, spaces.Dict):
        return {key: observation_dtypes(part, dtype) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(observation_dtypes(part, dtype) for part in space.spaces)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return torch.float64 if np.dtype(space.dtype).itemsize > 4 else dtype
    if space.dtype in (np.uint8, np.int8, np.bool_):
        return torch.uint8 if space.dtype == np.uint8 else torch.int8
    return torch.int64
