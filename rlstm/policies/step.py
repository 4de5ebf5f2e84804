"""What one step of a policy returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from rlstm.cells import State

__all__ = ["PolicyStep"]


class PolicyStep(NamedTuple):
    """One step of acting."""

    actions: Tensor  # (B, *action_shape) as stored
    log_probs: Tensor  # (B,)
    values: Tensor  # (B,) raw units
    state: State
