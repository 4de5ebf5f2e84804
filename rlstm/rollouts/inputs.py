"""What a policy sees next: the envs' present observations and what it remembers of its last step.

The same code prepares inputs for collecting, for evaluating and for a user's own loop, so they can't differ in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstm.core.arrays import Array, BoolArray, FloatArray
from rlstm.core.trees import Tree, tree_map
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.observations import observation_dtypes
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.adapter import EnvStep

_TYPES = (torch.float32, torch.float64, torch.uint8, torch.int8, torch.int64)  # As of ``observation_dtypes``.
_NUMPY_TYPES = {one: torch.empty(0, dtype=one).numpy().dtype for one in _TYPES}


class PolicyInputsTracker:
    """The next inputs of B envs.

    Args:
        policy: Decides types, device, and what is seen.
        step: What the reset of the envs returned.
    """

    def __init__(self, policy: RecurrentPolicy, step: EnvStep) -> None:
        count = len(step.rewards)
        shape, dtype = policy.distribution.action_shape, policy.distribution.action_dtype or policy.dtype
        self._seen, self._device = policy.inputs, policy.device
        self.types = observation_dtypes(policy.observation_space, policy.dtype)
        self.observations = step.observations  # numpy (B, ...)
        self.action_masks = step.action_masks  # (B, M)
        self.is_first: BoolArray = np.ones(count, dtype=bool)  # reset before this observation
        self.episode_starts: BoolArray = np.ones(count, dtype=bool)
        self.previous_actions = torch.zeros(count, *shape, dtype=dtype, device=policy.device)
        self.previous_rewards = torch.zeros(count, dtype=policy.dtype, device=policy.device)

    def inputs(self) -> PolicyInputs:
        """Return the inputs of the next step, ``(B, ...)`` on the policy's device."""
        seen, masks = self._seen, self.action_masks
        return PolicyInputs(
            observation_tensors(self.observations, self.types, self._device),
            self.previous_actions if seen.previous_action else None,
            self.previous_rewards if seen.previous_reward else None,
            torch.as_tensor(self.episode_starts, device=self._device) if seen.episode_start else None,
            None if masks is None else torch.as_tensor(masks, device=self._device),
        )

    def inputs_at_end(
        self, observations: Tree, previous_actions: Tensor, previous_rewards: Tensor, inside: Tensor
    ) -> PolicyInputs:
        """Return the inputs at final observations ``(N, ...)``, where nothing begins: ``inside`` is all False."""
        seen = self._seen
        return PolicyInputs(
            observation_tensors(observations, self.types, self._device),
            previous_actions if seen.previous_action else None,
            previous_rewards if seen.previous_reward else None,
            inside if seen.episode_start else None,
        )

    def advance(self, outcome: EnvStep, actions: Tensor, is_first: BoolArray) -> None:
        """Move past a step: ``actions`` as stored, ``is_first`` where memory is reset before the next observation."""
        self.observations = outcome.observations
        self.action_masks = outcome.action_masks
        self.is_first = is_first
        self.episode_starts = outcome.episode_ends
        self.previous_actions = actions
        if self._seen.previous_reward:
            self.previous_rewards = torch.from_numpy(outcome.rewards).to(self.previous_rewards)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain containers, arrays and tensors."""
        return {name: value for name, value in vars(self).items() if name not in ("_seen", "_device", "types")}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        for name, value in values.items():
            old = getattr(self, name)
            setattr(self, name, value.to(old) if isinstance(old, Tensor) else value)


def inner_step(observations: Tree, rewards: FloatArray, masks: BoolArray | None) -> EnvStep:
    """Return a step inside an episode, of B envs that somebody steps by hand.

    Args:
        observations: Leaves ``(B, ...)``.
        rewards: ``(B,)``.
        masks: ``(B, M)``, or None.
    """
    nothing: BoolArray = np.zeros(len(rewards), dtype=bool)
    return EnvStep(
        observations=observations,
        rewards=rewards.astype(np.float64),
        terminated=nothing,
        truncated=nothing,
        episode_ends=nothing,
        trial_ends=nothing,
        action_masks=masks,
        finished=np.zeros(0, dtype=np.intp),
        final_observations=None,
        successes=np.zeros(0),
    )


def observation_tensors(observations: Tree, types: Tree, device: torch.device) -> Tree:
    """Return numpy observations as tensors of the types in which a policy keeps them (``observation_dtypes``).

    They are copies: an env may write its next observations into the same arrays.
    """
    if isinstance(observations, np.ndarray):  # No tree to walk.
        return _tensor(observations, types, device)
    return tree_map(lambda leaf, dtype: _tensor(leaf, dtype, device), observations, types)


def _tensor(leaf: Array, dtype: torch.dtype, device: torch.device) -> Tensor:
    copied = torch.from_numpy(np.array(leaf, _NUMPY_TYPES[dtype], order="C"))
    return copied if device.type == "cpu" else copied.to(device)
