"""What a policy sees at a step, what it returns, and what of it whoever plays needs."""

from __future__ import annotations

from typing import NamedTuple, Protocol

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


class PolicyEvaluation(NamedTuple):
    """A policy's view of a whole rollout."""

    log_probs: Tensor  # (T, B)
    entropies: Tensor  # (T, B)
    values: Tensor  # (T, B) raw units
    state: State  # after step T - 1
    critic_features: Tensor  # (T, B, H) that the values are read from


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


class Actor(Protocol):
    """All that evaluation, rendering, export and the command line need."""

    def init_state(self, batch_size: int) -> State:
        """Return the state of ``batch_size`` memories that have seen nothing."""

    def act(self, inputs: PolicyInputs, state: State, is_first: Tensor, *, deterministic: bool) -> tuple[Tensor, State]:
        """Choose actions ``(B, ...)`` and return them with the next state."""
