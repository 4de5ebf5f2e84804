"""Distributions over actions, one class a family of action spaces.

A distribution is a module, because a Gaussian owns its log standard deviation. Parameters are ``(..., P)`` as put out
by the policy head; actions are ``(..., *action_shape)``; masks ``(..., M)`` are True where an action is allowed.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.core.errors import UnsupportedSpaceError

_FORBIDDEN = -1e9  # Logit of a masked action: probability exactly 0, and 0 · log 0 stays 0 instead of NaN.

_LEAST_UNIFORM = 2.0**-54  # Stands for a drawn 0, at which noise would be infinite.

_LARGEST_BOUND = 1e18  # Of a Box: a larger one stands for none, as the largest float often does.

_LARGEST_SQUASHED = 0.999  # Of a target on a bound, which a squash never reaches.


class ActionDistribution(nn.Module, ABC):
    """What a policy needs to know of an action space."""

    num_parameters: int
    """Outputs P of the policy head."""

    num_features: int
    """Width of ``features``, the previous action as an input."""

    action_shape: tuple[int, ...]
    """Shape of one stored action."""

    action_dtype: torch.dtype | None
    """Type of stored actions; None for the policy's floating type."""

    mask_size: int | None = None
    """Width M of a mask, or None where masks make no sense."""

    clips: bool = False
    """Whether the env gets actions clipped to bounds."""

    is_random: bool = False
    """Whether actions are random whatever the policy: there is no likeliest one."""

    @abstractmethod
    def noise(self, uniform: Tensor) -> Tensor:
        """Turn numbers ``(..., P)`` uniform on (0, 1) into what ``sample`` adds to the parameters, in place."""

    @abstractmethod
    def sample(self, parameters: Tensor, mask: Tensor | None, noise: Tensor) -> Tensor:
        """Return the actions that ``noise`` ``(..., P)``, drawn for them alone, decides."""

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
        """Return noise ``(*shape, P)`` for ``sample``, of the type of ``like`` and on its device.

        On a CPU the numbers are those that as many single draws would give. They are drawn in float64, whose tails hold
        every action that could ever be taken.
        """
        size = (*shape, self.num_parameters)
        uniform = torch.rand(size, generator=generator, dtype=torch.float64, device=like.device)
        return self.noise(uniform.clamp_(min=_LEAST_UNIFORM)).to(like.dtype)

    @abstractmethod
    def mode(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """Return the likeliest actions."""

    def probabilities(self, parameters: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Return the probabilities of the choices, ``(..., n)`` for each; none where actions are numbers.

        Those of bits are that each is 1, ``(..., bits)``.
        """
        return []

    @abstractmethod
    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of ``actions`` and the entropies, both ``(...)``."""

    @abstractmethod
    def features(self, actions: Tensor) -> Tensor:
        """Return actions as inputs of a network, ``(..., num_features)``."""

    @abstractmethod
    def to_env(self, actions: Tensor) -> npt.NDArray[Any]:
        """Return actions ``(B, ...)`` as the env takes them: offsets, squash and bounds applied."""

    def clipped_share(self, actions: Tensor) -> Tensor:
        """Return which share of the numbers of each of the actions ``(..., *action_shape)`` ``to_env`` clips, (...)."""
        leading = actions.shape[: actions.dim() - len(self.action_shape)]
        return torch.zeros(leading, device=actions.device)

    def at_random(self) -> ActionDistribution:
        """Return the distribution of uniformly random actions, for parameters that are 0."""
        other = copy.copy(self)
        other.is_random = True
        return other

    @abstractmethod
    def targets(self, actions: npt.NDArray[Any]) -> Tensor:
        """Return what the head should put out for an env's actions ``(B, ...)``, float64 ``(B, P)``.

        Numbers as they are, and 1 against -1 for choices: the largest output or the sign is then the choice.
        """

    def _flat(self, actions: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Return an env's actions ``(B, *shape)`` as ``(B, number)``; refuse another shape."""
        if actions.shape[1:] != shape:
            raise UnsupportedSpaceError(
                f"The env's info['target'] has the shape {actions.shape[1:]}; one answer must be an action, {shape}."
            )
        return actions.reshape(len(actions), -1)


class Categorical(ActionDistribution):
    """Actions of a Discrete space, stored as 0 .. n - 1."""

    def __init__(self, space: spaces.Discrete) -> None:
        super().__init__()
        self.num_parameters = self.num_features = self.mask_size = int(space.n)
        self.start = int(space.start)
        self.action_shape, self.action_dtype = (), torch.int64

    def noise(self, uniform: Tensor) -> Tensor:
        """Return Gumbel noise, -log(-log u)."""
        return _gumbel(uniform)

    def sample(self, parameters: Tensor, mask: Tensor | None, noise: Tensor) -> Tensor:
        """Return the largest of logit + Gumbel noise, which is distributed as the softmax."""
        return (_masked(parameters, mask) + noise).argmax(-1)

    def mode(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """Return the action of the largest logit."""
        return _masked(parameters, mask).argmax(-1)

    def probabilities(self, parameters: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Return those of the actions."""
        return [torch.softmax(_masked(parameters, mask), -1)]

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return log p(action) and -Σ p log p."""
        return _logits_log_prob_and_entropy(_masked(parameters, mask), actions)

    def features(self, actions: Tensor) -> Tensor:
        """Return one-hot vectors."""
        return nn.functional.one_hot(actions, self.num_features)

    def to_env(self, actions: Tensor) -> npt.NDArray[Any]:
        """Add the start of the space."""
        numpy_actions: npt.NDArray[Any] = actions.cpu().numpy()
        return numpy_actions + self.start if self.start else numpy_actions

    def targets(self, actions: npt.NDArray[Any]) -> Tensor:
        """Return ±1 for every action, 1 for the right one."""
        stored = self._flat(actions, ())[:, 0].astype(np.int64) - self.start
        if len(outside := stored[(stored < 0) | (stored >= self.num_features)]):
            raise UnsupportedSpaceError(
                f"The env's info['target'] is {outside[0] + self.start}, which is no action: they are {self.start} to "
                f"{self.start + self.num_features - 1}."
            )
        return 2.0 * self.features(torch.as_tensor(stored)).double() - 1.0


class MultiCategorical(ActionDistribution):
    """Independent choices of a MultiDiscrete space of any shape, stored flat and from 0."""

    def __init__(self, space: spaces.MultiDiscrete) -> None:
        super().__init__()
        self.sizes = [int(size) for size in np.asarray(space.nvec).reshape(-1)]
        self.env_shape = space.shape
        self.start = np.asarray(space.start).reshape(space.shape)
        self.num_parameters = self.num_features = self.mask_size = sum(self.sizes)
        self.action_shape, self.action_dtype = (len(self.sizes),), torch.int64

    def _split(self, parameters: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        return torch.split(_masked(parameters, mask), self.sizes, dim=-1)

    def noise(self, uniform: Tensor) -> Tensor:
        """Return Gumbel noise, -log(-log u)."""
        return _gumbel(uniform)

    def sample(self, parameters: Tensor, mask: Tensor | None, noise: Tensor) -> Tensor:
        """Return for every choice the largest of logit + Gumbel noise."""
        return self.mode(_masked(parameters, mask) + noise, None)

    def mode(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """Return the likeliest choice of each."""
        return torch.stack([logits.argmax(-1) for logits in self._split(parameters, mask)], -1)

    def probabilities(self, parameters: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Return those of each choice."""
        return [torch.softmax(logits, -1) for logits in self._split(parameters, mask)]

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the sums over the choices."""
        choices = zip(self._split(parameters, mask), actions.unbind(-1), strict=True)
        parts = [_logits_log_prob_and_entropy(logits, choice) for logits, choice in choices]
        return torch.stack([p for p, _ in parts], -1).sum(-1), torch.stack([e for _, e in parts], -1).sum(-1)

    def features(self, actions: Tensor) -> Tensor:
        """Return the one-hot vectors side by side."""
        choices = zip(actions.unbind(-1), self.sizes, strict=True)
        return torch.cat([nn.functional.one_hot(choice, size) for choice, size in choices], -1)

    def to_env(self, actions: Tensor) -> npt.NDArray[Any]:
        """Restore the shape and add the start of the space."""
        numpy_actions: npt.NDArray[Any] = actions.cpu().numpy().reshape(-1, *self.env_shape)
        return numpy_actions + self.start

    def targets(self, actions: npt.NDArray[Any]) -> Tensor:
        """Return ±1 for every value of every choice."""
        stored = self._flat(actions, self.env_shape).astype(np.int64) - self.start.reshape(-1)
        return 2.0 * self.features(torch.as_tensor(stored)).double() - 1.0


class Bernoulli(ActionDistribution):
    """Independent bits of a MultiBinary space of any shape, stored flat."""

    def __init__(self, space: spaces.MultiBinary) -> None:
        super().__init__()
        self.env_shape = space.shape
        self.num_parameters = self.num_features = math.prod(space.shape)
        self.action_shape, self.action_dtype = (self.num_parameters,), torch.int64

    def noise(self, uniform: Tensor) -> Tensor:
        """Return logistic noise, log u - log(1 - u)."""
        return torch.logit_(uniform)

    def sample(self, parameters: Tensor, mask: Tensor | None, noise: Tensor) -> Tensor:
        """Return where logit + logistic noise is positive, which has the probability σ(logit)."""
        return (parameters + noise > 0).long()

    def mode(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """Return the likelier value of each bit."""
        return (parameters > 0).long()

    def probabilities(self, parameters: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Return those of ones."""
        return [torch.sigmoid(parameters)]

    def log_prob_and_entropy(self, parameters: Tensor, actions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the sums over the bits."""
        log_one, log_zero = nn.functional.logsigmoid(parameters), nn.functional.logsigmoid(-parameters)
        log_prob = torch.where(actions.bool(), log_one, log_zero).sum(-1)
        return log_prob, -(log_one.exp() * log_one + log_zero.exp() * log_zero).sum(-1)

    def features(self, actions: Tensor) -> Tensor:
        """Return the bits."""
        return actions

    def to_env(self, actions: Tensor) -> npt.NDArray[Any]:
        """Restore the shape and the type of the space."""
        numpy_actions: npt.NDArray[Any] = actions.cpu().numpy().reshape(-1, *self.env_shape)
        return numpy_actions.astype(np.int8)

    def targets(self, actions: npt.NDArray[Any]) -> Tensor:
        """Return ±1 for every bit."""
        return 2.0 * torch.as_tensor(self._flat(actions, self.env_shape)).double() - 1.0


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


def make_distribution(
    space: spaces.Space[Any], *, squash: bool, scale: bool, initial_log_std: float
) -> ActionDistribution:
    """Return the distribution for an action space; the other arguments are those of ``Gaussian``.

    Raises:
        UnsupportedSpaceError: If no distribution fits, naming the spaces that are supported.
        ValueError: If a squash is asked for where there are no finite bounds.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(space)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(space)
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(space)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return Gaussian(space, squash=squash, scale=scale, initial_log_std=initial_log_std)
    raise UnsupportedSpaceError(
        f"Action space {space} is not supported. Supported: Discrete, MultiDiscrete, MultiBinary, and Box of floats."
    )


def _masked(logits: Tensor, mask: Tensor | None) -> Tensor:
    return logits if mask is None else logits.masked_fill(~mask, _FORBIDDEN)


def _gumbel(uniform: Tensor) -> Tensor:
    return uniform.log_().neg_().log_().neg_()


def _logits_log_prob_and_entropy(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    log_probs = torch.log_softmax(logits, -1)
    log_prob = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return log_prob, -(log_probs.exp() * log_probs).sum(-1)
