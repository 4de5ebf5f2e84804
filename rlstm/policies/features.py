"""From what a policy sees at a step to the features that its memory reads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlstm.core.trees import Tree
from rlstm.policies.distributions import ActionDistribution
from rlstm.policies.inputs import PolicyInputs

__all__ = ["InputFeatures"]

_LARGEST_REWARD = 10.0  # Previous rewards are clipped to this, in deviations, as rewards are in OpenAI baselines.


class InputFeatures:
    """Encodes ``PolicyInputs``: observations through an encoder, beside them the previous action, reward and start.

    Acting, learning and populations encode with the same object, so what is seen can't differ between them.

    Args:
        distribution: Turns previous actions into features.
        clips_rewards: Whether previous rewards are clipped to 10 deviations.
        reads_elapsed_time: Whether the memory reads the time since the step before as its last input.
        elapsed_time: Key of the observation that holds that time; None for 1 a step.
    """

    def __init__(
        self,
        distribution: ActionDistribution,
        *,
        clips_rewards: bool,
        reads_elapsed_time: bool,
        elapsed_time: str | None,
    ) -> None:
        self._distribution = distribution
        self._clips_rewards = clips_rewards
        self._reads_elapsed_time = reads_elapsed_time
        self._elapsed_time_key = elapsed_time

    def __call__(
        self,
        encoder: Callable[..., Tensor],
        inputs: PolicyInputs,
        is_first: Tensor,
        reward_scale: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return the features ``(..., F)``; where ``is_first``, previous action and reward are zero.

        Args:
            encoder: An ``ObservationEncoder``, or its acting snapshot.
            inputs: What is seen, ``(...)``.
            is_first: ``(...)``.
            reward_scale: By what previous rewards are divided.
            dtype: The type of the weights.
        """
        extras = []
        if inputs.previous_actions is not None:
            features = self._distribution.features(inputs.previous_actions)
            extras.append(features.masked_fill(is_first.unsqueeze(-1), 0))
        if inputs.previous_rewards is not None:
            rewards = inputs.previous_rewards.masked_fill(is_first, 0) / reward_scale
            if self._clips_rewards:
                rewards = rewards.clamp(-_LARGEST_REWARD, _LARGEST_REWARD)
            extras.append(rewards.unsqueeze(-1))
        if inputs.episode_starts is not None:
            extras.append(inputs.episode_starts.unsqueeze(-1))
        encoded = encoder(inputs.observations, extras, dtype)
        if not self._reads_elapsed_time:
            return encoded
        return torch.cat([encoded, self._elapsed_time(inputs.observations, is_first, dtype).unsqueeze(-1)], -1)

    def _elapsed_time(self, observations: Tree, is_first: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the time since the step before, ``(...)``: 0 where memory begins, else as observed, or 1."""
        if self._elapsed_time_key is None:
            return (~is_first).to(dtype)
        observed: Tensor = observations[self._elapsed_time_key]
        elapsed = observed.to(dtype).reshape(is_first.shape)
        return elapsed.clamp(min=0.0).masked_fill(is_first, 0.0)
