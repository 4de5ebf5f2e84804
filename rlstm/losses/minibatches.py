"""Minibatches of whole sequences, of which each rank computes the part that its envs have played."""

from __future__ import annotations

import torch
from torch import Tensor

from rlstm.core.ranks import Ranks
from rlstm.losses.policy_losses import masked_normalise
from rlstm.rollouts.sequences import Sequences, cut


class Minibatches:
    """Minibatches of the sequences of all ranks, of which each rank holds those of its own envs.

    Args:
        sequences: This rank's.
        advantages: Those of all ranks, ``(T, N)``.
        valid: Which of their steps count, ``(T, N)``; None if all do.
        num_envs: Envs B of all ranks.
        ranks: Those that share the envs.
        normalise: Whether advantages have mean 0 and deviation 1 in each minibatch.
    """

    def __init__(
        self,
        sequences: Sequences,
        advantages: Tensor,
        valid: Tensor | None,
        *,
        num_envs: int,
        ranks: Ranks,
        normalise: bool,
    ) -> None:
        length = len(advantages) * advantages.shape[1] // (ranks.count * sequences.is_first.shape[1])
        self._sequences, self._normalise = sequences, normalise
        self._advantages = cut(advantages, length)
        self._valid = None if valid is None else cut(valid, length)
        self._num_envs, self._ranks = num_envs, ranks

    def select(self, places: Tensor) -> tuple[Sequences, float]:
        """Return this rank's part of some of all sequences, ``places`` ``(M,)``, and its share of their steps.

        A rank that has none of them is given a sequence whose share is 0.
        """
        advantages = self._advantages.index_select(1, places)
        valid = None if self._valid is None else self._valid.index_select(1, places)
        if self._normalise:
            advantages = masked_normalise(advantages, valid)
        if self._ranks.is_alone:
            return self._sequences.select(places)._replace(advantages=advantages), 1.0
        own = self._ranks.own(self._num_envs)
        envs = places % self._num_envs
        mine = (envs >= own.start) & (envs < own.stop)
        if not bool(mine.any()):
            return self._sequences.select(places.new_zeros(1)), 0.0
        pieces = places[mine] // self._num_envs
        part = self._sequences.select(pieces * (own.stop - own.start) + envs[mine] - own.start)
        counts = torch.ones_like(places) if valid is None else valid.sum(0)
        share = int(counts[mine].sum()) / int(counts.sum())
        return part._replace(advantages=advantages[:, mine]), share
