"""Observations of any supported space to one feature vector a step, ``(..., F)``, whatever the leading axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.core.arrays import ACTION_MASK_KEY
from rlstm.core.trees import Tree
from rlstm.policies.encoders import AUTO, Encoder, ImageLayout, make_encoders
from rlstm.policies.encoders.numbers import NumbersEncoder
from rlstm.policies.layers import HighwayLayer, highway, mlp
from rlstm.policies.normalisers import RunningMoments


class _Part(NamedTuple):
    """A part of an observation, and what reads it."""

    path: tuple[Any, ...]
    space: spaces.Space[Any]
    encoder: Encoder
    is_vector: bool  # Whether the running normaliser covers it.

    def pick(self, observations: Tree) -> Tree:
        for key in self.path:
            observations = observations[key]
        if isinstance(self.space, spaces.Dict):  # Without the mask, and what else is not read.
            return {key: observations[key] for key in self.space.spaces}
        return observations

    def features(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        return self.encoder.forward(self.pick(observations), dtype)  # Without a module's overhead.

    def numbers(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        """Return a vector's numbers, flat; those of 64 bits stay as exact as they are."""
        leaf: Tensor = self.pick(observations)
        leaf = leaf.double() if leaf.dtype in (torch.float64, torch.int64) else leaf.to(dtype)
        num_axes = len(self.space.shape or ())
        return leaf if num_axes == 1 else leaf.reshape(*leaf.shape[: leaf.dim() - num_axes], self.num_numbers)

    @property
    def num_numbers(self) -> int:
        return math.prod(self.space.shape or ())


class ObservationEncoder(nn.Module):
    """Observations of any supported space to features, then tanh layers.

    Args:
        space: The env's observation space; a Dict's key ``action_mask`` is left out.
        num_extras: Width of the features appended to the observation (previous action, reward, episode start).
        sizes: Widths of the tanh layers.
        normalise: Whether numbers pass a running normaliser.
        is_highway: Whether layers as wide as what they read are highway layers.
        left_out: More keys of a Dict that are not read.
        encoder: Name of the encoder that reads what it can, see ``make_encoders``.
        encoder_kwargs: Its options.
        image_layout: Where images have their channels.
        image_strides: Whether images of 16 to 35 pixels are convolved with strides.

    Raises:
        UnsupportedSpaceError: If a part of the space can't be read, naming it and what can.
        ValueError: If there is no such encoder, or it has no such option.
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
        encoder: str = AUTO,
        encoder_kwargs: Mapping[str, Any] | None = None,
        image_layout: ImageLayout = "auto",
        image_strides: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(space, spaces.Dict):
            unread = {ACTION_MASK_KEY, *left_out}
            space = spaces.Dict({key: part for key, part in space.spaces.items() if key not in unread})
        settings = {"image_layout": image_layout, "image_strides": image_strides}
        made = make_encoders(space, encoder, encoder_kwargs or {}, settings)
        parts = [_Part(*one, is_vector=one[2].takes_normalised and isinstance(one[1], spaces.Box)) for one in made]
        # Vectors come first, so that the normaliser covers one slice.
        self._parts = sorted(parts, key=lambda part: not part.is_vector)
        self.leaves = nn.ModuleList(part.encoder for part in self._parts)
        sizes_of_vectors = [part.num_numbers for part in self._parts if part.is_vector]
        self.moments = RunningMoments(sum(sizes_of_vectors)) if normalise and sizes_of_vectors else None
        self.map_shape = parts[0].encoder.map_shape if len(parts) == 1 else None
        width = sum(part.encoder.output_size for part in parts) + num_extras
        self.layers, self.output_size = mlp(width, sizes, is_highway=is_highway)

    @property
    def parts(self) -> list[tuple[tuple[Any, ...], spaces.Space[Any], Encoder]]:
        """Place, space and encoder of each part, in the order of their features."""
        return [(part.path, part.space, part.encoder) for part in self._parts]

    def vectors(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        """Return the raw vectors that the normaliser covers, ``(..., V)``: float64 where any has numbers of 64 bits."""
        return _join([part.numbers(observations, dtype) for part in self._parts if part.is_vector])

    def usual(self, space: spaces.Space[Any]) -> Tree:
        """Return an observation of ``space`` that says least: the running means, else what is nearest to 0."""
        means = {}
        if self.moments is not None:
            vectors = [part for part in self._parts if part.is_vector]
            pieces = self.moments.mean.split([part.num_numbers for part in vectors])
            means = {part.path: piece.numpy(force=True) for part, piece in zip(vectors, pieces, strict=True)}
        return _usual(space, (), means)

    @property
    def images(self) -> list[str]:
        """How each image is read, and what is none though it is made of bytes."""
        return [
            f"'{'/'.join(map(str, part.path))}': {part.encoder.description}" if part.path else part.encoder.description
            for part in self._parts
            if part.encoder.description
        ]

    def vector_statistics(self) -> dict[tuple[Any, ...], tuple[Tensor, Tensor]]:
        """Return by place the mean and the deviation of each vector that the normaliser covers, in the part's shape."""
        vectors = [part for part in self._parts if part.is_vector]
        if self.moments is None:
            return {}
        sizes = [part.num_numbers for part in vectors]
        pieces = zip(self.moments.mean.split(sizes), self.moments.variance.sqrt().split(sizes), strict=True)
        return {
            part.path: (mean.reshape(part.space.shape or ()), deviation.reshape(part.space.shape or ()))
            for part, (mean, deviation) in zip(vectors, pieces, strict=True)
        }

    @torch.no_grad()
    def acting_snapshot(
        self, dtype: torch.dtype, layers: Callable[[Tensor], Tensor] | None = None
    ) -> Callable[[Tree, Sequence[Tensor], torch.dtype], Tensor]:
        """Return ``forward`` over a snapshot of the weights and statistics, for acting; valid until they change.

        ``dtype`` is that of the features; ``layers`` may take the place of its own.
        """
        read = self._reader(dtype)
        layers = self._layers_snapshot() if layers is None else layers

        def encode(observations: Tree, extras: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
            return layers(_join([*read(observations), *(extra.to(dtype) for extra in extras)]))

        return encode

    def _reader(self, dtype: torch.dtype) -> Callable[[Tree], list[Tensor]]:
        """Return what turns observations into features of all parts, with the statistics as they are now."""
        if self.moments is None:
            return lambda observations: [part.features(observations, dtype) for part in self._parts]
        normalise = self.moments.snapshot(dtype)
        vectors = [part for part in self._parts if part.is_vector]
        others = self._parts[len(vectors) :]
        stay = all(isinstance(part.encoder, NumbersEncoder) for part in vectors)
        sizes = [part.num_numbers for part in vectors]

        def read(observations: Tree) -> list[Tensor]:
            numbers = normalise(_join([part.numbers(observations, dtype) for part in vectors]))
            features = [numbers]
            if not stay:
                features = [
                    part.encoder.forward(piece.reshape(*piece.shape[:-1], *(part.space.shape or ())), dtype)
                    for part, piece in zip(vectors, numbers.split(sizes, -1), strict=True)
                ]
            return features + [part.features(observations, dtype) for part in others]

        return read

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
        parts = self._reader(dtype)(observations) + [extra.to(dtype) for extra in extras]
        features: Tensor = self.layers(_join(parts))
        return features


def _usual(space: spaces.Space[Any], path: tuple[Any, ...], means: Mapping[Any, Any]) -> Tree:
    if isinstance(space, spaces.Dict):
        return {key: _usual(part, (*path, key), means) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_usual(part, (*path, index), means) for index, part in enumerate(space.spaces))
    value = means[path].reshape(space.shape) if path in means else np.zeros(space.shape or ())
    if isinstance(space, spaces.Box):
        value = np.clip(value, space.low, space.high)
    return value.astype(space.dtype)


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
