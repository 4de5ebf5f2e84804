"""Random observations, masks and rewards of a policy's spaces, as an env would give them, for comparisons."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from gymnasium import spaces

from rlstm.core.arrays import Array, BoolArray, FloatArray
from rlstm.core.trees import Tree
from rlstm.policies.distributions import MultiCategorical
from rlstm.policies.policy import RecurrentPolicy

_LARGEST_BOUND = 1e18  # A larger one stands for none, as the largest float often does.
_KEPT = 0.6  # Share of actions that a mask allows.


class RandomInputs:
    """Draws what B envs could give.

    Numbers are uniform between their bounds; where there is none, a normal or exponential one stands in. Vectors that
    the policy normalises are, in half of the rows, drawn around their running mean instead, where it can tell them
    apart.

    Args:
        policy: Has the spaces and the statistics.
        seed: Decides all.
    """

    def __init__(self, policy: RecurrentPolicy, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._policy = policy
        self._space = copy.deepcopy(policy.observation_space)
        self._space.seed(seed)
        statistics = policy.actor.encoder.vector_statistics()
        self._statistics = {path: tuple(one.numpy() for one in pair) for path, pair in statistics.items()}

    def observations(self, batch_size: int) -> Tree:
        """Return observations ``(B, ...)`` of the space."""
        return self._draw(self._space, batch_size, ())

    def masks(self, batch_size: int) -> BoolArray | None:
        """Return masks ``(B, M)`` that allow at least one value of every choice; None where there are none."""
        distribution = self._policy.distribution
        if distribution.mask_size is None:
            return None
        sizes = distribution.sizes if isinstance(distribution, MultiCategorical) else [distribution.mask_size]
        masks = self.rng.random((batch_size, distribution.mask_size)) < _KEPT
        for start, size in zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True):
            masks[np.arange(batch_size), start + self.rng.integers(size, size=batch_size)] = True
        return masks

    def rewards(self, batch_size: int) -> FloatArray:
        """Return rewards ``(B,)``, some of them beyond what a policy clips."""
        return 6 * self._policy.reward_scale.item() * self.rng.standard_normal(batch_size)

    def _draw(self, space: spaces.Space[Any], count: int, path: tuple[Any, ...]) -> Tree:
        if isinstance(space, spaces.Dict):
            return {key: self._draw(part, count, (*path, key)) for key, part in space.spaces.items()}
        if isinstance(space, spaces.Tuple):
            return tuple(self._draw(part, count, (*path, index)) for index, part in enumerate(space.spaces))
        if isinstance(space, spaces.Box):
            return self._numbers(space, count, path)
        return np.stack([np.asarray(space.sample()) for _ in range(count)])

    def _numbers(self, space: spaces.Box, count: int, path: tuple[Any, ...]) -> Array:
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        has_low, has_high = low > -_LARGEST_BOUND, high < _LARGEST_BOUND
        start, width = np.where(has_low, low, 0.0), np.where(has_low & has_high, high - low, 1.0)
        shape = (count, *space.shape)
        one_sided = np.where(has_low, low, high) + np.where(has_low, 1, -1) * self.rng.exponential(size=shape)
        free = np.where(has_low | has_high, one_sided, self.rng.standard_normal(shape))
        numbers = np.where(has_low & has_high, start + width * self.rng.random(shape), free)
        if path in self._statistics:
            mean, deviation = self._statistics[path]
            usual = mean + 3 * deviation * self.rng.standard_normal(shape)
            chosen = self.rng.random(count) < 0.5
            numbers[chosen] = usual[chosen]
        numbers = np.floor(numbers) if np.issubdtype(space.dtype, np.integer) else numbers
        return np.clip(numbers, np.where(has_low, low, -np.inf), np.where(has_high, high, np.inf)).astype(space.dtype)
