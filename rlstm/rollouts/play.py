"""The acting step: the one place where a policy meets its envs, however the actions are chosen.

The collector, evaluation, recording, teacher sequences and populations all play with it, so what is seen, when memory
is reset and what is remembered of the last step can't differ between them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rlstm.core.arrays import BoolArray
from rlstm.core.memory_boundaries import Boundary
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.inputs import PolicyInputsTracker
from rlstm.vector.adapter import EnvStep, SteppedEnvs

ChooseActions = Callable[[PolicyInputs, Tensor], Tensor]
"""From what is seen and ``is_first`` ``(B,)`` to actions ``(B, ...)`` as stored; the state is the function's own."""


def play_step(
    policy: RecurrentPolicy,
    envs: SteppedEnvs,
    tracker: PolicyInputsTracker,
    choose: ChooseActions,
    *,
    corrected: Callable[[Tensor, EnvStep], Tensor] | None = None,
) -> EnvStep:
    """Take one step in every env; for use inside ``torch.inference_mode``.

    Args:
        policy: Gives the form of actions, and where memory ends.
        envs: The envs.
        tracker: What the policy sees next. It is moved past the step; its ``is_first`` then tells where memory ended.
        choose: Chooses the actions.
        corrected: Returns the actions that are remembered as the previous ones; by default those taken.

    Returns:
        What the step led to.
    """
    # What each env shows, and what the policy remembers of its last step.
    inputs = tracker.inputs()
    is_first = torch.as_tensor(tracker.is_first, device=policy.device)

    # Choose actions; the state is reset where ``is_first`` before the memory reads the inputs.
    actions = choose(inputs, is_first)

    # Step the envs; those whose episode ends are reset in the same step.
    outcome = envs.step(policy.distribution.to_env(actions))

    # Memory begins anew after an episode, after a trial, or never.
    memory_ends = crosses(policy.memory.lifetime, outcome.episode_ends, outcome.trial_ends)
    tracker.advance(outcome, actions if corrected is None else corrected(actions, outcome), memory_ends)
    return outcome


def crosses(boundary: Boundary, episode_ends: BoolArray, trial_ends: BoolArray) -> BoolArray:
    """Return ``(B,)`` bool: after which steps the ``boundary`` of memory, or that of credit, is reached.

    ``episode_ends`` ``(B,)``: an episode, terminated or truncated, ended with the step; ``trial_ends`` ``(B,)``: it was
    the last of its trial.
    """
    if boundary == "episode":
        return episode_ends
    if boundary == "trial":
        return trial_ends
    return np.zeros_like(episode_ends)
