"""Where a rollout is written while it is played: ordinary tensors ``(T, B, ...)`` that grow as long as play goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstm.core.arrays import BoolArray
from rlstm.core.trees import tree_map
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.policies.step import PolicyStep
from rlstm.rollouts.inputs import PolicyInputsTracker
from rlstm.vector.adapter import EnvStep

__all__ = ["RolloutBuffers"]

_FLAGS = ("is_first", "terminated", "truncated", "credit_cuts", "valid")
_FLOATS = ("rewards", "log_probs", "values", "next_values")


class RolloutBuffers:
    """The fields of a rollout in the making, but for the initial state; see ``rlstm.rollouts.collect``.

    Args:
        policy: Plays.
        view: Its first inputs, whose shapes and types the buffers take.
        capacity: Steps to make room for at first.
    """

    inputs: PolicyInputs
    actions: Tensor
    rewards: Tensor
    log_probs: Tensor
    values: Tensor
    next_values: Tensor

    def __init__(self, policy: RecurrentPolicy, view: PolicyInputsTracker, capacity: int) -> None:
        self.device = policy.device
        self.num_steps = 0
        self._capacity = capacity
        self.inputs = tree_map(self._room, view.inputs())
        self.actions = self._room(view.previous_actions)
        for name in _FLOATS:
            setattr(self, name, self._room(view.previous_rewards))
        # Flags are written on the host, where the env puts them, and moved once.
        self.flags = {name: np.zeros((capacity, len(view.is_first)), dtype=bool) for name in _FLAGS}

    def _room(self, leaf: Tensor) -> Tensor:
        return torch.empty(self._capacity, *leaf.shape, dtype=leaf.dtype, device=leaf.device)

    def _resize(self, capacity: int) -> None:
        """Keep what was written, with room for ``capacity`` steps."""
        kept = min(self.num_steps, capacity)

        def moved(leaf: Tensor) -> Tensor:
            return torch.cat([leaf[:kept], leaf.new_empty(capacity - kept, *leaf.shape[1:])])

        with torch.inference_mode(False):  # What is made in that mode can't enter a backward pass.
            self.inputs = tree_map(moved, self.inputs)
            for name in ("actions", *_FLOATS):
                setattr(self, name, moved(getattr(self, name)))
        for name, mask in self.flags.items():
            self.flags[name] = np.concatenate([mask[:kept], np.zeros((capacity - kept, mask.shape[1]), dtype=bool)])
        self._capacity = capacity

    def write(self, is_first: BoolArray, inputs: PolicyInputs, step: PolicyStep) -> None:
        """Store what was seen before the next step and what was chosen."""
        if self.num_steps == self._capacity:
            self._resize(2 * self._capacity)
        t = self.num_steps
        tree_map(lambda buffer, leaf: buffer[t].copy_(leaf), self.inputs, inputs)
        self.flags["is_first"][t] = is_first
        self.actions[t], self.log_probs[t], self.values[t] = step.actions, step.log_probs, step.values

    def write_outcome(self, outcome: EnvStep, credit_cuts: BoolArray, valid: BoolArray | None) -> None:
        """Store what came of the step, which is then complete; ``valid`` None where all lanes count."""
        t = self.num_steps
        self.rewards[t] = torch.as_tensor(outcome.rewards).to(self.rewards)
        self.flags["terminated"][t] = outcome.terminated
        self.flags["truncated"][t] = outcome.truncated
        self.flags["credit_cuts"][t] = credit_cuts
        self.flags["valid"][t] = True if valid is None else valid
        self.num_steps = t + 1

    def fields(self) -> dict[str, Any]:
        """Return all fields with exactly the steps that were written."""
        if self.num_steps < self._capacity:
            self._resize(self.num_steps)
        flags = {name: torch.from_numpy(mask).to(self.device) for name, mask in self.flags.items()}
        floats = {name: getattr(self, name) for name in _FLOATS}
        return {"inputs": self.inputs, "actions": self.actions, **floats, **flags}
