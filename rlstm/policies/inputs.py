"""What a policy sees at a step."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from rlstm.core.trees import Tree

__all__ = ["PolicyInputs"]


class PolicyInputs(NamedTuple):
    """What a policy may see at a step; leaves ``(B, ...)`` or ``(T, B, ...)``; None where switched off."""

    observations: Tree
    previous_actions: Tensor | None = None  # As stored: (..., *action_shape).
    previous_rewards: Tensor | None = None  # (...) raw.
    episode_starts: Tensor | None = None  # (...) bool.
    action_masks: Tensor | None = None  # (..., M) bool, True where allowed.
