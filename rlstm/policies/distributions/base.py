"""What a policy needs to know of an action space: the interface of all distributions."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from rlstm.core.errors import UnsupportedSpaceError

_LEAST_UNIFORM = 2.0**-54  # Stands for a drawn 0, at which noise would be infinite.


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
