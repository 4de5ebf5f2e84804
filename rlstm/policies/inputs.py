"""What a policy sees at a step, and what it returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from rlstm.cells import State
from rlstm.core.trees import Tree


class PolicyInputs(NamedTuple):
    """What a policy may see at a step; leaves ``(B, ...)`` or ``(T, B, ...)``; None where switched off."""

    observations: Tree
    previous_actions: Tensor | None = None  # As stored: (..., *action_shape).
    previous_rewards: Tensor | None = None  # (...) raw.
    episode_starts: Tensor | None = None  # (...) bool.
    action_masks: Tensor | None = None  # (..., M) bool, True where allowed.


class PolicyStep(NamedTuple):
    """One step of acting."""

    actions: Tensor  # (B, *action_shape) as stored
    log_probs: Tensor  # (B,)
    values: Tensor  # (B,) raw units
    state: State


class Decision(NamedTuple):
    """One step of acting, with all that decided it."""

    actions: Tensor  # (B, *action_shape) as stored
    parameters: Tensor  # (B, P) of the distribution, before any mask
    values: Tensor  # (B,) raw units
    state: State


class SampledStep(NamedTuple):
    """One step of acting, of which log-probabilities and values are computed later, for many steps at once."""

    actions: Tensor  # (B, *action_shape) as stored
    outputs: Tensor  # (B, P + 1) parameters of the distribution, and last the value in the critic's units
    state: State
