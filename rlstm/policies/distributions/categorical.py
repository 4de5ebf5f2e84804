"""Distributions over choices: one of a Discrete space, several of a MultiDiscrete one, bits of a MultiBinary one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.core.errors import UnsupportedSpaceError
from rlstm.policies.distributions.base import ActionDistribution

_FORBIDDEN = -1e9  # Logit of a masked action: probability exactly 0, and 0 · log 0 stays 0 instead of NaN.


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


def _masked(logits: Tensor, mask: Tensor | None) -> Tensor:
    return logits if mask is None else logits.masked_fill(~mask, _FORBIDDEN)


def _gumbel(uniform: Tensor) -> Tensor:
    return uniform.log_().neg_().log_().neg_()


def _logits_log_prob_and_entropy(logits: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    log_probs = torch.log_softmax(logits, -1)
    log_prob = log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return log_prob, -(log_probs.exp() * log_probs).sum(-1)
