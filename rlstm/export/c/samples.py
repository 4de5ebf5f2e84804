"""Steps to compare a policy with its C on: what it might see, drawn at random."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from rlstm.core.arrays import Array, BoolArray
from rlstm.core.trees import Tree
from rlstm.policies.distributions import ActionDistribution, Gaussian, MultiCategorical
from rlstm.policies.observations import ObservationEncoder
from rlstm.policies.policy import RecurrentPolicy

_SPREAD = 5.0  # Deviations of drawn numbers, so that some are clipped.
_RESETS = 0.08  # Share of the steps.

Path = tuple[Any, ...]


class SampledStep(NamedTuple):
    """What one agent sees at one step."""

    is_first: bool
    observation: Tree
    reward: float
    episode_start: bool
    mask: BoolArray | None  # (M,)
    noise: Array | None  # (P,) float32: uniform on (0, 1), or standard normal for numbers


class StepSampler:
    """Draws steps."""

    def __init__(self, policy: RecurrentPolicy, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._space = copy.deepcopy(policy.observation_space)
        self._space.seed(seed)
        self._distribution = policy.distribution
        self._reward_scale = float(policy.reward_scale)
        self._moments = _moments(policy.actor.encoder)

    def draw(self, *, is_first: bool) -> SampledStep:
        """Return the next step; it may be a first one though it needn't."""
        return SampledStep(
            is_first or bool(self._rng.random() < _RESETS),
            self._observation(self._space, ()),
            float(np.float32(self._rng.normal(scale=_SPREAD * self._reward_scale))),
            bool(self._rng.random() < 2 * _RESETS),
            self._mask(self._distribution) if self._rng.random() < 0.5 else None,
            self._noise(self._distribution) if self._rng.random() < 0.5 else None,
        )

    def _observation(self, space: spaces.Space[Any], path: Path) -> Tree:
        """Return an observation: numbers around their means, if these are known, within the bounds."""
        if isinstance(space, spaces.Dict):
            return {key: self._observation(part, (*path, key)) for key, part in space.spaces.items()}
        if isinstance(space, spaces.Tuple):
            return tuple(self._observation(part, (*path, index)) for index, part in enumerate(space.spaces))
        if not isinstance(space, spaces.Box):
            return np.asarray(space.sample())
        mean, deviation = self._moments.get(path, (0.0, 1.0))
        drawn = mean + _SPREAD * deviation * self._rng.standard_normal(space.shape)
        drawn = drawn if space.dtype.kind == "f" else np.rint(drawn)
        return np.clip(drawn, space.low.astype(np.float64), space.high.astype(np.float64)).astype(space.dtype)

    def _mask(self, distribution: ActionDistribution) -> BoolArray | None:
        """Return a mask that allows something in every choice."""
        if distribution.mask_size is None:
            return None
        sizes = distribution.sizes if isinstance(distribution, MultiCategorical) else [distribution.mask_size]
        masks = [self._rng.random(size) < 0.5 for size in sizes]
        for mask in masks:
            mask[self._rng.integers(len(mask))] = True
        return np.concatenate(masks)

    def _noise(self, distribution: ActionDistribution) -> Array:
        size = distribution.num_parameters
        if isinstance(distribution, Gaussian):
            return self._rng.standard_normal(size, np.float32)
        return self._rng.uniform(1e-6, 1 - 1e-6, size).astype(np.float32)


def _moments(encoder: ObservationEncoder) -> Mapping[Path, tuple[Array, Array]]:
    """Return mean and deviation of the numbers that are normalised, by place."""
    found: dict[Path, tuple[Array, Array]] = {}
    if encoder.moments is None:
        return found
    mean, deviation = encoder.moments.mean.cpu().numpy(), encoder.moments.variance.sqrt().cpu().numpy()
    at = 0
    for path, space, one in encoder.parts:
        if one.takes_normalised and isinstance(space, spaces.Box):
            here = slice(at, at + one.output_size)
            found[path] = mean[here].reshape(space.shape), deviation[here].reshape(space.shape)
            at += one.output_size
    return found
