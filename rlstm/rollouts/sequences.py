"""The sequences that a gradient step reads: those of a rollout, one for each env, or shorter ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rlstm.cells import State
from rlstm.core.trees import tree_map
from rlstm.policies.inputs import PolicyInputs


class Sequences(NamedTuple):
    """What a gradient step reads of N sequences of T steps, ``(T, N, ...)``; the initial state ``(N, ...)``."""

    inputs: PolicyInputs
    actions: Tensor
    is_first: Tensor
    valid: Tensor | None  # None if all steps are.
    log_probs: Tensor
    advantages: Tensor
    targets: Tensor  # Of values, in the critic's units.
    values: Tensor | None  # As they were, in the critic's units; None if their change is not clipped.
    bonus_targets: Tensor | None  # Of the values of a bonus; None if there is none.
    initial_state: State

    @property
    def num_sequences(self) -> int:
        """N."""
        return self.is_first.shape[1]

    def select(self, places: Tensor) -> Sequences:
        """Return some of the sequences, ``places`` ``(M,)``, in that order."""
        of_steps = tree_map(lambda leaf: leaf.index_select(1, places), self[:-1])
        return Sequences._make((*of_steps, tree_map(lambda leaf: leaf.index_select(0, places), self.initial_state)))

    def cut(self, length: int, fresh_state: Callable[[int], State]) -> Sequences:
        """Return the sequences cut into shorter ones of so many steps, ``(length, N T / length, ...)``.

        Args:
            length: A divisor of T.
            fresh_state: Returns the state of so many memories that have seen nothing.

        Raises:
            ValueError: If one would begin where memory doesn't.
        """
        num_steps, count = self.is_first.shape
        if not bool(self.is_first[length::length].all()):
            raise ValueError(
                f"sequence_length is {length}, but memory doesn't begin anew every {length} steps in all envs: a "
                "sequence would need a memory that isn't stored. Use the length of a trial or of an episode that "
                "always has as many steps, or leave sequence_length out."
            )

        fresh = fresh_state(count * (num_steps // length - 1))
        state = tree_map(lambda first, others: torch.cat([first, others]), self.initial_state, fresh)
        return Sequences._make((*tree_map(lambda leaf: cut(leaf, length), self[:-1]), state))


def cut(leaf: Tensor, length: int) -> Tensor:
    """Return the steps ``(T, B, ...)`` cut into sequences of ``length`` steps, ``(length, B T / length, ...)``."""
    return leaf.reshape(-1, length, *leaf.shape[1:]).transpose(0, 1).flatten(1, 2)
