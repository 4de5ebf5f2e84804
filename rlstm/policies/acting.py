"""Acting: a policy's weights laid out for single steps, where a rollout spends its time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import cast

import torch
from torch import Tensor, nn

from rlstm.cells import State
from rlstm.cells.base import CellStep, reset_rows
from rlstm.core.ranks import ALONE, Ranks
from rlstm.policies.distributions import ActionDistribution
from rlstm.policies.features import InputFeatures
from rlstm.policies.inputs import Decision, PolicyInputs, PolicyStep, SampledStep

Heads = Callable[[list[Tensor]], Tensor]
"""From the features of the trunks ``(B, H)`` to the heads' outputs ``(B, P + 1)``, see ``SampledStep``."""


@dataclass(eq=False)
class ActingSnapshot:
    """A policy's weights laid out for acting; valid until they change.

    Its methods are for use inside ``torch.inference_mode``, which is entered once for many steps: entering it costs as
    much as a matrix product.
    """

    trunks: Sequence[tuple[Callable[..., Tensor], CellStep]]
    """The encoder and the step of each memory: the actor's, and the critic's where it has its own."""

    heads: Heads
    input_features: InputFeatures
    distribution: ActionDistribution
    init_state: Callable[[int], State]
    return_scale: Tensor  # What a value is worth in raw reward units, a scalar.
    return_centre: Tensor  # The raw value where the critic puts out 0, a scalar.
    reward_scale: Tensor  # By what previous rewards are divided, a scalar.
    generator: torch.Generator  # Draws the actions.
    block: int = 1  # Steps whose noise is drawn at once.
    ranks: Ranks = ALONE  # Each draws for the envs of all, so that what an env is given doesn't depend on their number.

    def __post_init__(self) -> None:
        """Make the initial state of one memory."""
        self._fresh, self._fresh_size = self.init_state(1), 1
        self._noise: list[Tensor] = []  # Of the steps to come, the next one last.

    def sample(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> SampledStep:
        """Sample actions; leaves ``(B, ...)``. ``read`` has the rest of the outputs."""
        outputs, state = self._forward(inputs, state, is_first)
        return SampledStep(self._sample(outputs, inputs.action_masks), outputs, state)

    def read(self, outputs: Tensor, actions: Tensor, action_masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and values ``(...)`` of sampled steps.

        Args:
            outputs: ``(..., P + 1)``.
            actions: As stored, ``(..., *action_shape)``.
            action_masks: ``(..., M)``, or None.
        """
        log_probs, _ = self.distribution.log_prob_and_entropy(outputs[..., :-1], actions, action_masks)
        return log_probs, self._values(outputs)

    def step(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> PolicyStep:
        """Sample actions, with their log-probabilities and the values; leaves ``(B, ...)``."""
        actions, outputs, state = self.sample(inputs, state, is_first)
        return PolicyStep(actions, *self.read(outputs, actions, inputs.action_masks), state)

    def act(self, inputs: PolicyInputs, state: State, is_first: Tensor, *, deterministic: bool) -> tuple[Tensor, State]:
        """Choose the likeliest actions, if there are any and they are asked for, or sample them."""
        outputs, state = self._forward(inputs, state, is_first)
        return self._choose(outputs, inputs.action_masks, deterministic=deterministic), state

    def decide(self, inputs: PolicyInputs, state: State, is_first: Tensor, *, deterministic: bool) -> Decision:
        """Choose as ``act`` does, and return what decided it too."""
        outputs, state = self._forward(inputs, state, is_first)
        actions = self._choose(outputs, inputs.action_masks, deterministic=deterministic)
        return Decision(actions, outputs[:, :-1], self._values(outputs), state)

    def values(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> Tensor:
        """Return the values ``(B,)`` of observations, without acting on them."""
        return self._values(self._forward(inputs, state, is_first)[0])

    def _choose(self, outputs: Tensor, action_masks: Tensor | None, *, deterministic: bool) -> Tensor:
        if deterministic and not self.distribution.is_random:
            return self.distribution.mode(outputs[:, :-1], action_masks)
        return self._sample(outputs, action_masks)

    def _sample(self, outputs: Tensor, action_masks: Tensor | None) -> Tensor:
        if not self._noise or len(self._noise[-1]) != len(outputs):
            total = self.ranks.count * len(outputs)
            drawn = self.distribution.draw_noise((self.block, total), self.generator, outputs)
            self._noise = list(reversed(drawn[:, self.ranks.own(total)].unbind()))
        return self.distribution.sample(outputs[:, :-1], action_masks, self._noise.pop())

    def _values(self, outputs: Tensor) -> Tensor:
        return torch.addcmul(self.return_centre, outputs[..., -1], self.return_scale)

    def _forward(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        if is_first.any():
            state = self._reset(state, is_first)
        features, states = [], []
        for (encoder, cell_step), trunk_state in zip(self.trunks, state, strict=True):
            encoded = self.input_features(encoder, inputs, is_first, self.reward_scale, self.return_scale.dtype)
            output, trunk_state = cell_step(encoded, trunk_state)
            features.append(output)
            states.append(trunk_state)
        return self.heads(features), tuple(states)

    def _reset(self, state: State, is_first: Tensor) -> State:
        """Do what ``RecurrentCell.reset`` does, with initial states that are made once."""
        if len(is_first) != self._fresh_size:
            self._fresh, self._fresh_size = self.init_state(len(is_first)), len(is_first)
        return reset_rows(state, self._fresh, is_first)


@dataclass(eq=False)
class SnapshotActor:
    """A snapshot together with the state that it carries from step to step."""

    snapshot: ActingSnapshot
    state: State  # Before the next step.
    _: KW_ONLY
    deterministic: bool  # Take the likeliest actions instead of sampling.
    ablate_memory: bool = False  # Reset the state before every step.

    def __call__(self, inputs: PolicyInputs, is_first: Tensor) -> Tensor:
        """Choose actions ``(B, *action_shape)`` and advance the state."""
        if self.ablate_memory:
            is_first = torch.ones_like(is_first)
        actions, self.state = self.snapshot.act(inputs, self.state, is_first, deterministic=self.deterministic)
        return actions


@torch.no_grad()
def join_heads(policy_head: nn.Sequential, value_head: nn.Sequential, *, separate: bool) -> Heads:
    """Return a function from the trunks' features to the outputs of both heads.

    The policy's head reads the first trunk, the value's the last. Two linear heads on one memory, where the trunks are
    not ``separate``, are one matrix product.
    """
    if separate or len(policy_head) > 1:
        return lambda features: torch.cat([policy_head(features[0]), value_head(features[-1])], -1)
    last_policy, last_value = cast(nn.Linear, policy_head[-1]), cast(nn.Linear, value_head[-1])
    weight = torch.cat([last_policy.weight, last_value.weight]).t().contiguous()
    bias = torch.cat([last_policy.bias, last_value.bias])
    return lambda features: torch.addmm(bias, features[0], weight)
