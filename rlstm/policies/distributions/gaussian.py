"""Distributions over the numbers of a Box: the normal one, and the uniform one of an agent that acts at random."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.policies.distributions.base import ActionDistribution

_LARGEST_BOUND = 1e18  # Of a Box: a larger one stands for none, as the largest float often does.


_LARGEST_SQUASHED = 0.999  # Of a target on a bound, which a squash never reaches.


class Gaussian(ActionDistribution):
    """Independent normal distributions for a Box space, one learned log standard deviation a dimension.

    Stored actions are those drawn, ``u``; means and deviations are in their units. The env gets centre + scale · u,
    clipped to its bounds, or with the squash centre + scale · tanh u, where log p holds the change of variables. The
    entropy is that of the Gaussian before the squash, for which there is no closed form behind it.

    Args:
        space: The Box.
        squash: Whether actions pass tanh into the bounds, which must be finite.
        scale: Whether the bounds are the units: finite ones are u = -1 and 1, and one that stands alone is a
            deviation of 1 from u = 0. Otherwise u is in the env's units. A dimension whose bounds are equal has
            nothing to choose.
        initial_log_std: Initial log standard deviation, in the units of u.
    """

    low: Tensor
    high: Tensor
    free: Tensor

    def __init__(self, space: spaces.Box, *, squash: bool, scale: bool, initial_log_std: float) -> None:
        super().__init__()
        env_low, env_high = (bound.reshape(-1).astype(np.float64) for bound in (space.low, space.high))
        has_low, has_high = env_low > -_LARGEST_BOUND, env_high < _LARGEST_BOUND
        if squash and not (has_low & has_high).all():
            raise ValueError(f"squash_actions needs an action space with finite bounds; this is {space}.")
        self.squash, self.clips = squash, not squash
        self.env_shape, self.env_dtype = space.shape, space.dtype
        self.num_parameters = self.num_features = math.prod(space.shape)
        self.action_shape, self.action_dtype = (self.num_parameters,), None
        self.env_low, self.env_high = space.low, space.high
        self.centre, self.scale = np.zeros_like(env_low), np.ones_like(env_low)
        if scale or squash:
            bounded = has_low & has_high
            self.centre = np.where(has_low, env_low + 1, np.where(has_high, env_high - 1, 0.0))
            self.centre[bounded] = env_low[bounded] / 2 + env_high[bounded] / 2
            self.scale[bounded] = env_high[bounded] / 2 - env_low[bounded] / 2
        free = self.scale > 0
        divisor = np.where(free, self.scale, 1.0)
        low = np.where(has_low, (env_low - self.centre) / divisor, -np.inf)
        high = np.where(has_high, (env_high - self.centre) / divisor, np.inf)
        for name, value in (("low", low), ("high", high)):  # Of u.
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float32), persistent=False)
        self.register_buffer("free", torch.as_tensor(free), persistent=False)
        self._log_scale = float(np.log(divisor).sum())
        self._keeps_units = bool((self.centre == 0).all() and (self.scale == 1).all())
        self.log_std = nn.Parameter(torch.full((self.num_parameters,), float(initial_log_std)))

    def noise(self, uniform: Tensor) -> Tensor:
        """Return ε, standard normal: the inverse of its distribution function at u."""
        normal: Tensor = torch.special.ndtri(uniform)
        return normal

    def sample(self, parameters: Tensor, mask: Tensor | None, noise: Tensor) -> Tensor:
        """Return mean + σ·ε."""
        return torch.addcmul(parameters, self.log_std.exp(), noise)

    def mode(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """Return the mean."""
        return parameters

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the sums over the dimensions."""
        half_log_2pi = 0.5 * math.log(2 * math.pi)
        standardised = (actions - parameters) * torch.exp(-self.log_std)
        log_prob = (-0.5 * standardised.square() - self.log_std - half_log_2pi).sum(-1)
        if self.squash:
            # log(1 - tanh²u) = 2 (log 2 - u - softplus(-2u)), which does not underflow.
            log_slope = 2 * (math.log(2) - actions - nn.functional.softplus(-2 * actions))
            log_prob = log_prob - log_slope.sum(-1) - self._log_scale
        entropy = (0.5 + half_log_2pi + self.log_std).sum().expand(log_prob.shape)
        return log_prob, entropy

    def features(self, actions: Tensor) -> Tensor:
        """Return the actions as the env saw them, in the units of u: squashed to [-1, 1], or clipped to the bounds."""
        return torch.tanh(actions) if self.squash else torch.clamp(actions, self.low, self.high)

    def to_env(self, actions: Tensor) -> npt.NDArray[Any]:
        """Squash, centre and scale, clip to the bounds, and restore shape and type."""
        values: npt.NDArray[Any] = (torch.tanh(actions) if self.squash else actions).cpu().numpy()
        if not self._keeps_units:
            values = self.centre + self.scale * values
        clipped: npt.NDArray[Any] = np.clip(
            values.reshape(-1, *self.env_shape).astype(self.env_dtype), self.env_low, self.env_high
        )
        return clipped

    def clipped_share(self, actions: Tensor) -> Tensor:
        """Return which share of the numbers of each action lies on or beyond a bound; never behind the squash."""
        if self.squash:
            return super().clipped_share(actions)
        return ((actions < self.low) | (actions > self.high)).logical_and_(self.free).to(self.low.dtype).mean(-1)

    def at_random(self) -> ActionDistribution:
        """Return the distribution that is uniform between finite bounds, and standard normal elsewhere."""
        return _Uniform(self)

    def targets(self, actions: npt.NDArray[Any]) -> Tensor:
        """Return u for the numbers; with the squash what it makes of them, which is finite inside the bounds only."""
        values = self._flat(actions, self.env_shape).astype(np.float64)
        if not self._keeps_units:
            values = (values - self.centre) / np.where(self.scale > 0, self.scale, 1.0)
        found = torch.as_tensor(values)
        return torch.atanh(found.clamp(-_LARGEST_SQUASHED, _LARGEST_SQUASHED)) if self.squash else found


class _Uniform(Gaussian):
    """Uniform actions between finite bounds, whatever the parameters; standard normal where there are none."""

    def __init__(self, gaussian: Gaussian) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy.copy(gaussian).__dict__)
        self.is_random = True

    def noise(self, uniform: Tensor) -> Tensor:
        """Return u."""
        low, high = self.low.to(uniform), self.high.to(uniform)
        bounded = torch.isfinite(high - low)
        if self.squash:
            return torch.atanh((2 * uniform - 1).clamp_(-_LARGEST_SQUASHED, _LARGEST_SQUASHED))
        within = torch.where(bounded, low, 0.0) + torch.where(bounded, high - low, 0.0) * uniform
        return torch.where(bounded, within, torch.special.ndtri(uniform))

    def sample(self, parameters: Tensor, mask: Tensor | None, noise: Tensor) -> Tensor:
        """Return the noise."""
        return noise
