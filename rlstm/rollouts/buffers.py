"""Where a rollout is written while it is collected: ordinary tensors ``(T, B, ...)`` that grow if need be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlstm.core.arrays import BoolArray
from rlstm.core.trees import Tree, tree_map
from rlstm.policies.inputs import PolicyInputs, PolicyStep
from rlstm.rollouts.inputs import PolicyInputsTracker
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
    """What is stored on the host, where the envs put it, ``(T, B)`` bool."""

    is_first: BoolArray
    terminated: BoolArray
    truncated: BoolArray
    credit_cuts: BoolArray
    valid: BoolArray


class RolloutBuffers:
    """The fields of a rollout in the making, but for the initial state; see ``rlstm.rollouts.rollout``.

    Args:
        tracker: The first inputs, whose shapes and types the buffers take.
        capacity: Steps to allocate at first.
    """

    def __init__(self, tracker: PolicyInputsTracker, capacity: int) -> None:
        self.num_steps = 0
        self._capacity = capacity

        def allocate(leaf: Tensor) -> Tensor:
            return torch.empty(capacity, *leaf.shape, dtype=leaf.dtype, device=leaf.device)

        floats = [allocate(tracker.previous_rewards) for _ in range(4)]
        self.steps = StoredSteps(tree_map(allocate, tracker.inputs()), allocate(tracker.previous_actions), *floats)
        shape = (capacity, len(tracker.is_first))
        self.flags = Flags(*(np.zeros(shape, dtype=bool) for _ in Flags._fields))

    def _resize(self, capacity: int) -> None:
        """Keep what was written, with space for ``capacity`` steps."""
        kept = min(self.num_steps, capacity)

        def moved(leaf: Tensor) -> Tensor:
            return torch.cat([leaf[:kept], leaf.new_empty(capacity - kept, *leaf.shape[1:])])

        with torch.inference_mode(False):  # What is made in that mode can't enter a backward pass.
            self.steps = tree_map(moved, self.steps)
        added = np.zeros((capacity - kept, self.flags.valid.shape[1]), dtype=bool)
        self.flags = tree_map(lambda mask: np.concatenate([mask[:kept], added]), self.flags)
        self._capacity = capacity

    def write(self, is_first: BoolArray, inputs: PolicyInputs, step: PolicyStep) -> None:
        """Store what was seen before the next step and what was chosen."""
        if self.num_steps == self._capacity:
            self._resize(2 * self._capacity)
        t, steps = self.num_steps, self.steps
        tree_map(lambda buffer, leaf: buffer[t].copy_(leaf), steps.inputs, inputs)
        self.flags.is_first[t] = is_first
        steps.actions[t], steps.log_probs[t], steps.values[t] = step.actions, step.log_probs, step.values

    def write_outcome(self, outcome: EnvStep, credit_cuts: BoolArray, valid: BoolArray | None) -> None:
        """Store what came of the step, which is then complete; ``valid`` None if all envs count."""
        t, flags = self.num_steps, self.flags
        self.steps.rewards[t] = torch.as_tensor(outcome.rewards).to(self.steps.rewards)
        flags.terminated[t], flags.truncated[t] = outcome.terminated, outcome.truncated
        flags.credit_cuts[t] = credit_cuts
        flags.valid[t] = True if valid is None else valid
        self.num_steps = t + 1

    def cut(self) -> tuple[StoredSteps, Tree]:
        """Return exactly the steps that were written, and their flags as tensors on the same device."""
        if self.num_steps < self._capacity:
            self._resize(self.num_steps)
        device = self.steps.rewards.device
        return self.steps, tree_map(lambda mask: torch.from_numpy(mask).to(device), self.flags)
