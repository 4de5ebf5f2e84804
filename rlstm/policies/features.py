"""From what a policy sees at a step to the features that its memory reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlstm.core.trees import Tree
from rlstm.policies.distributions import ActionDistribution
from rlstm.policies.inputs import PolicyInputs

_LARGEST_REWARD = 10.0  # Previous rewards are clipped to this, in deviations, as rewards are in OpenAI baselines.


@dataclass(frozen=True, eq=False)
class InputFeatures:
    """Encodes ``PolicyInputs``: observations through an encoder, beside them the previous action, reward and start.

    Acting, learning and populations encode with the same object, so what is seen can't differ between them.
    """

    distribution: ActionDistribution  # Turns previous actions into features.
    clips_rewards: bool  # Whether previous rewards are clipped to 10 deviations.
    reads_elapsed_time: bool  # Whether the memory reads the time since the step before as its last input.
    elapsed_time: str | None  # Key of the observation that holds that time; None for 1 a step.

    def __call__(
        self,
        encoder: Callable[..., Tensor],
        inputs: PolicyInputs,
        is_first: Tensor,
        reward_scale: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return the features ``(..., F)``; where ``is_first`` ``(...)``, previous action and reward are zero.

        The encoder is an ``ObservationEncoder``, or its acting snapshot. ``dtype`` is the type of the weights; previous
        rewards are divided by ``reward_scale``.
        """
        extras = []
        if inputs.previous_actions is not None:
            features = self.distribution.features(inputs.previous_actions)
            extras.append(features.masked_fill(is_first.unsqueeze(-1), 0))
        if inputs.previous_rewards is not None:
            rewards = inputs.previous_rewards.masked_fill(is_first, 0) / reward_scale
            if self.clips_rewards:
                rewards = rewards.clamp(-_LARGEST_REWARD, _LARGEST_REWARD)
            extras.append(rewards.unsqueeze(-1))
        if inputs.episode_starts is not None:
            extras.append(inputs.episode_starts.unsqueeze(-1))
        encoded = encoder(inputs.observations, extras, dtype)
        if not self.reads_elapsed_time:
            return encoded
        return torch.cat([encoded, self._time(inputs.observations, is_first, dtype).unsqueeze(-1)], -1)

    def _time(self, observations: Tree, is_first: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the time since the step before, ``(...)``: 0 where memory begins, else as observed, or 1."""
        if self.elapsed_time is None:
            return (~is_first).to(dtype)
        observed: Tensor = observations[self.elapsed_time]
        elapsed = observed.to(dtype).reshape(is_first.shape)
        return elapsed.clamp(min=0.0).masked_fill(is_first, 0.0)
