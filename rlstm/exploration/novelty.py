"""How new an observation is: how badly a trained network predicts what a random one makes of it."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.core.trees import Tree
from rlstm.policies.config import PolicyConfig
from rlstm.policies.layers import linear, mlp
from rlstm.policies.normalisers import RunningMoments
from rlstm.policies.observations import ObservationEncoder

_SIZE = 64  # Numbers that are predicted.
_TARGET_SIZES, _PREDICTOR_SIZES = (128,), (128, 128)


class _Network(nn.Module):
    """An observation's features, tanh layers, and a linear one."""

    def __init__(self, space: spaces.Space[Any], config: PolicyConfig, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = ObservationEncoder(
            space,
            0,
            (),
            normalise=True,
            encoder=config.encoder,
            encoder_kwargs=config.encoder_kwargs,
            image_layout=config.image_layout,
            image_strides=config.image_strides,
        )
        layers, width = mlp(self.encoder.output_size, sizes)
        self.layers = nn.Sequential(*layers, linear(width, _SIZE, gain=1.0))

    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        outputs: Tensor = self.layers(self.encoder(observations, (), dtype))
        return outputs


class Novelty(nn.Module):
    """Random network distillation (Burda et al. 2018, arXiv 1810.12894).

    A random network f stays as it was drawn; a predictor g learns to put out the same. The error ‖g(o) - f(o)‖² is
    large where nothing like o was seen. Both read observations as the policy's encoder does, numbers normalised by
    running means and deviations, with weights of their own.

    Args:
        space: The env's single observation space.
        config: The policy's network; it decides what reads the observation.
    """

    def __init__(self, space: spaces.Space[Any], config: PolicyConfig) -> None:
        super().__init__()
        self.target = _Network(space, config, _TARGET_SIZES)
        self.predictor = _Network(space, config, _PREDICTOR_SIZES)
        for parameter in self.target.parameters():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def forward(self, observations: Tree, dtype: torch.dtype) -> Tensor:
        """Return the mean squared error of the prediction for each observation, ``(...)``."""
        errors: Tensor = (self.predictor(observations, dtype) - self.target(observations, dtype)).square().mean(-1)
        return errors

    def prediction(self, observations: Tree, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return what is predicted, with gradient, and what should have been, ``(..., F)``."""
        with torch.no_grad():
            target = self.target(observations, dtype)
        return self.predictor(observations, dtype), target

    @torch.no_grad()
    def update_normalisers(self, observations: Tree, dtype: torch.dtype) -> None:
        """Take observations ``(N, ...)`` into the running statistics."""
        for network in (self.target, self.predictor):
            if network.encoder.moments is not None:
                network.encoder.moments.update(network.encoder.vectors(observations, dtype))

    @property
    def moments(self) -> RunningMoments | None:
        """The statistics of the numbers that are read; None if there are none."""
        return self.predictor.encoder.moments
