"""Acting: a policy's weights laid out for single steps, where a rollout spends its time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from rlstm.cells import State
from rlstm.cells.base import CellStep, reset_rows
from rlstm.policies.distributions import ActionDistribution
from rlstm.policies.features import InputFeatures
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.step import PolicyStep

__all__ = ["ActingSnapshot", "SnapshotActor", "join_heads"]

Heads = Callable[[list[Tensor]], tuple[Tensor, Tensor]]
"""From the features of the trunks ``(B, H)`` to distribution parameters ``(B, P)`` and values ``(B, 1)``."""


class ActingSnapshot:
    """A policy's weights laid out for acting; valid until they change.

    Its methods are for use inside ``torch.inference_mode``, which is entered once for many steps: entering it costs as
    much as a matrix product.

    Args:
        trunks: The encoder and the step of each memory: the actor's, and the critic's where it has its own.
        heads: From the features of the trunks to distribution parameters and values.
        input_features: Encodes what is seen.
        distribution: Of the actions.
        init_state: Makes the state of so many memories that have seen nothing.
        return_scale: What a value is worth in raw reward units, a scalar.
        reward_scale: By what previous rewards are divided, a scalar.
        generator: Draws the actions.
    """

    def __init__(
        self,
        trunks: Sequence[tuple[Callable[..., Tensor], CellStep]],
        heads: Heads,
        input_features: InputFeatures,
        distribution: ActionDistribution,
        *,
        init_state: Callable[[int], State],
        return_scale: Tensor,
        reward_scale: Tensor,
        generator: torch.Generator,
    ) -> None:
        self._trunks, self._heads = trunks, heads
        self._input_features, self._distribution = input_features, distribution
        self._init_state = init_state
        self._fresh: State = init_state(1)
        self._fresh_size = 1
        self._scale, self._reward_scale = return_scale, reward_scale
        self._generator = generator

    def step(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> PolicyStep:
        """Sample actions; leaves ``(B, ...)``."""
        parameters, values, state = self._forward(inputs, state, is_first)
        actions, log_probs = self._distribution.sample(parameters, inputs.action_masks, self._generator)
        return PolicyStep(actions, log_probs, values, state)

    def act(self, inputs: PolicyInputs, state: State, is_first: Tensor, *, deterministic: bool) -> tuple[Tensor, State]:
        """Choose the likeliest actions, or sample them."""
        parameters, _, state = self._forward(inputs, state, is_first)
        if deterministic:
            return self._distribution.mode(parameters, inputs.action_masks), state
        return self._distribution.sample(parameters, inputs.action_masks, self._generator)[0], state

    def values(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> Tensor:
        """Return the values ``(B,)`` of observations, without acting on them."""
        return self._forward(inputs, state, is_first)[1]

    def _forward(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> tuple[Tensor, Tensor, State]:
        if bool(is_first.any()):
            state = self._reset(state, is_first)
        features, states = [], []
        for (encoder, cell_step), trunk_state in zip(self._trunks, state, strict=True):
            encoded = self._input_features(encoder, inputs, is_first, self._reward_scale, self._scale.dtype)
            output, trunk_state = cell_step(encoded, trunk_state)
            features.append(output)
            states.append(trunk_state)
        parameters, values = self._heads(features)
        return parameters, values.squeeze(-1) * self._scale, tuple(states)

    def _reset(self, state: State, is_first: Tensor) -> State:
        """Do what ``RecurrentCell.reset`` does, with initial states that are made once."""
        if len(is_first) != self._fresh_size:
            self._fresh, self._fresh_size = self._init_state(len(is_first)), len(is_first)
        return reset_rows(state, self._fresh, is_first)


class SnapshotActor:
    """A snapshot together with the state that it carries from step to step.

    Args:
        snapshot: The weights.
        state: The state before the first step.
        deterministic: Take the likeliest actions instead of sampling.
        ablate_memory: Reset the state before every step.
    """

    def __init__(
        self, snapshot: ActingSnapshot, state: State, *, deterministic: bool, ablate_memory: bool = False
    ) -> None:
        self._snapshot, self.state = snapshot, state
        self._deterministic, self._ablate_memory = deterministic, ablate_memory

    def __call__(self, inputs: PolicyInputs, is_first: Tensor) -> Tensor:
        """Choose actions ``(B, *action_shape)`` and advance the state."""
        if self._ablate_memory:
            is_first = torch.ones_like(is_first)
        actions, self.state = self._snapshot.act(inputs, self.state, is_first, deterministic=self._deterministic)
        return actions


@torch.no_grad()
def join_heads(policy_head: nn.Sequential, value_head: nn.Sequential, *, separate: bool) -> Heads:
    """Return a function from the trunks' features to distribution parameters and values in the critic's units.

    Two linear heads on one memory are one matrix product.

    Args:
        policy_head: From the features of the first trunk to distribution parameters.
        value_head: From the features of the last trunk to values.
        separate: Whether there are two trunks.
    """
    if separate or len(policy_head) > 1:
        return lambda features: (policy_head(features[0]), value_head(features[-1]))
    last_policy, last_value = cast(nn.Linear, policy_head[-1]), cast(nn.Linear, value_head[-1])
    weight = torch.cat([last_policy.weight, last_value.weight]).t().contiguous()
    bias = torch.cat([last_policy.bias, last_value.bias])
    size = last_policy.out_features

    def heads(features: list[Tensor]) -> tuple[Tensor, Tensor]:
        both = torch.addmm(bias, features[0], weight)
        return both[:, :size], both[:, size:]

    return heads
