"""Where a rollout is written while it is collected: one entry a step, stacked once it is over."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlstm.core.arrays import BoolArray, FloatArray
from rlstm.core.trees import tree_map
from rlstm.policies.acting import ActingSnapshot
from rlstm.policies.inputs import PolicyInputs, SampledStep
from rlstm.vector.adapter import EnvStep


class StoredSteps(NamedTuple):
    """What is stored on the policy's device, ``(T, B, ...)``."""

    inputs: PolicyInputs
    actions: Tensor
    rewards: Tensor
    log_probs: Tensor
    values: Tensor
    next_values: Tensor


class Flags(NamedTuple):
    """What is stored of ends and beginnings, bool ``(T, B)``."""

    is_first: Tensor
    terminated: Tensor
    truncated: Tensor
    credit_cuts: Tensor
    valid: Tensor


class RolloutBuffers:
    """The fields of a rollout in the making, but for the initial state; see ``rlstm.rollouts.rollout``.

    What is written must not be written over later. Log-probabilities and values are computed from what the heads put
    out, for all steps at once.
    """

    def __init__(self) -> None:
        self._inputs: list[PolicyInputs] = []
        self._actions: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._rewards: list[FloatArray] = []
        self._flags: list[tuple[BoolArray, ...]] = []  # Of each step in the order of ``Flags``.

    @property
    def num_steps(self) -> int:
        """The number of complete steps."""
        return len(self._flags)

    def write(self, inputs: PolicyInputs, step: SampledStep) -> None:
        """Store what was seen before the next step and what was chosen."""
        self._inputs.append(inputs)
        self._actions.append(step.actions)
        self._outputs.append(step.outputs)

    def write_outcome(self, outcome: EnvStep, is_first: BoolArray, credit_cuts: BoolArray, valid: BoolArray) -> None:
        """Store what came of the step, which is then complete; ``is_first`` is that of its observation."""
        self._rewards.append(outcome.rewards)
        self._flags.append((is_first, outcome.terminated, outcome.truncated, credit_cuts, valid))

    @torch.no_grad()
    def stack(self, snapshot: ActingSnapshot) -> tuple[StoredSteps, Flags]:
        """Return the steps that were written, in tensors that gradients may flow through; next values are still 0.

        Called outside of inference mode, of which such tensors are not made. ``snapshot`` is what acted.
        """
        inputs: PolicyInputs = tree_map(lambda *rows: torch.stack(rows), *self._inputs)
        actions, outputs = torch.stack(self._actions), torch.stack(self._outputs)
        log_probs, values = snapshot.read(outputs, actions, inputs.action_masks)
        rewards = torch.from_numpy(np.stack(self._rewards)).to(values)
        steps = StoredSteps(inputs, actions, rewards, log_probs, values, torch.zeros_like(values))
        flags = (torch.from_numpy(np.stack(rows)).to(values.device) for rows in zip(*self._flags, strict=True))
        return steps, Flags(*flags)
