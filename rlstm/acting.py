"""Acting: a policy's weights laid out for single steps, where a rollout spends its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from rlstm.cells import State
from rlstm.cells.base import erase_rows

if TYPE_CHECKING:
    from rlstm.policies import PolicyInputs, RecurrentPolicy

__all__ = ["PolicyStep", "PolicyStepper"]


class PolicyStep(NamedTuple):
    """One step of acting."""

    actions: Tensor  # (B, *action_shape) as stored
    log_probs: Tensor  # (B,)
    values: Tensor  # (B,) raw units
    state: State


class PolicyStepper:
    """A policy's weights laid out for acting.

    Its methods are for use inside ``torch.inference_mode``, which is entered once for many steps: entering it costs as
    much as a matrix product.

    Args:
        policy: The policy; the snapshot is valid until its weights change.
    """

    def __init__(self, policy: RecurrentPolicy) -> None:
        self._policy = policy
        self._trunks = [(trunk.encoder.stepper(policy.dtype), trunk.cell.stepper()) for trunk in policy.trunks()]
        self._fresh: State = policy.init_state(1)
        self._fresh_size = 1
        self._scale, self._reward_scale = policy.return_scale, policy.reward_scale
        self._distribution = policy.distribution
        self._heads = _join_heads(policy)

    def step(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> PolicyStep:
        """Sample actions; leaves ``(B, ...)``."""
        parameters, values, state = self._forward(inputs, state, is_first)
        actions, log_probs = self._distribution.sample(parameters, inputs.action_masks, self._policy.generator)
        return PolicyStep(actions, log_probs, values, state)

    def act(self, inputs: PolicyInputs, state: State, is_first: Tensor, *, deterministic: bool) -> tuple[Tensor, State]:
        """Choose the likeliest actions, or sample them."""
        parameters, _, state = self._forward(inputs, state, is_first)
        if deterministic:
            return self._distribution.mode(parameters, inputs.action_masks), state
        return self._distribution.sample(parameters, inputs.action_masks, self._policy.generator)[0], state

    def values(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> Tensor:
        """Return the values ``(B,)`` of observations, without acting on them."""
        return self._forward(inputs, state, is_first)[1]

    def _forward(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> tuple[Tensor, Tensor, State]:
        if bool(is_first.any()):
            state = self._erase(state, is_first)
        features, states = [], []
        for (encoder, cell_step), trunk_state in zip(self._trunks, state, strict=True):
            encoded = self._policy.encode(encoder, inputs, is_first, self._reward_scale)
            output, trunk_state = cell_step(encoded, trunk_state)
            features.append(output)
            states.append(trunk_state)
        parameters, values = self._heads(features)
        return parameters, values.squeeze(-1) * self._scale, tuple(states)

    def _erase(self, state: State, is_first: Tensor) -> State:
        """Do what ``RecurrentCell.erase`` does, with initial states that are made once."""
        if len(is_first) != self._fresh_size:
            self._fresh, self._fresh_size = self._policy.init_state(len(is_first)), len(is_first)
        return erase_rows(state, self._fresh, is_first)


@torch.no_grad()
def _join_heads(policy: RecurrentPolicy) -> Callable[[list[Tensor]], tuple[Tensor, Tensor]]:
    """Return a function from the trunks' features to distribution parameters and values in the critic's units.

    Two linear heads on one memory are one matrix product.
    """
    if policy.critic is not None or len(policy.policy_head) > 1:
        return lambda features: (policy.policy_head(features[0]), policy.value_head(features[-1]))
    last_policy, last_value = cast(nn.Linear, policy.policy_head[-1]), cast(nn.Linear, policy.value_head[-1])
    weight = torch.cat([last_policy.weight, last_value.weight]).t().contiguous()
    bias = torch.cat([last_policy.bias, last_value.bias])
    size = policy.distribution.num_parameters

    def heads(features: list[Tensor]) -> tuple[Tensor, Tensor]:
        both = torch.addmm(bias, features[0], weight)
        return both[:, :size], both[:, size:]

    return heads
