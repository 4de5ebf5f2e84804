"""V after every step of a rollout: the next row's value, or that of a final observation where credit is cut."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlstm.cells import State
from rlstm.core.arrays import BoolArray
from rlstm.core.trees import Tree, tree_map
from rlstm.policies.acting import ActingSnapshot
from rlstm.policies.inputs import SampledStep
from rlstm.rollouts.buffers import StoredSteps
from rlstm.rollouts.inputs import PolicyInputsTracker
from rlstm.vector.adapter import EnvStep


class _Rows(NamedTuple):
    """Envs whose next value at step t is that of a final observation, under the state before the reset."""

    times: Tensor  # (N,) t
    envs: Tensor  # (N,) indices
    state: State  # (N, ...)
    previous_actions: Tensor  # (N, ...)
    previous_rewards: Tensor  # (N,)


class FinalRows:
    """The truncated episodes of a rollout, until it is over and their next values are computed in one call."""

    def __init__(self) -> None:
        self._observations: list[Tree] = []  # numpy (N, ...)
        self._rows: list[_Rows] = []

    def add(self, t: int, cuts: BoolArray, step: SampledStep, outcome: EnvStep, tracker: PolicyInputsTracker) -> None:
        """Take the envs where credit is cut after step t by a truncation alone; ``tracker`` is past the step."""
        rows = np.flatnonzero((cuts & outcome.truncated & ~outcome.terminated)[outcome.finished])
        if not len(rows):
            return
        envs = torch.as_tensor(outcome.finished[rows], device=step.actions.device)

        def pick(leaf: Tensor) -> Tensor:
            return leaf.index_select(0, envs)

        self._observations.append(tree_map(lambda leaf: leaf[rows], outcome.final_observations))
        kept = tree_map(pick, (step.state, tracker.previous_actions, tracker.previous_rewards))
        self._rows.append(_Rows(torch.full_like(envs, t), envs, *kept))

    def write_next_values(
        self,
        steps: StoredSteps,
        credit_cuts: Tensor,
        snapshot: ActingSnapshot,
        tracker: PolicyInputsTracker,
        state: State,
    ) -> None:
        """Fill in ``steps.next_values``: one value call for the end of the rollout, one for all final rows.

        ``credit_cuts`` is ``(T, B)``; the snapshot's weights acted, tracker and state are past the last step.
        """
        next_values, device = steps.next_values, steps.values.device
        next_values[:-1] = steps.values[1:]
        next_values[-1] = snapshot.values(tracker.inputs(), state, torch.as_tensor(tracker.is_first, device=device))
        next_values[credit_cuts] = 0.0
        if not self._rows:
            return
        observations = tree_map(lambda *leaves: np.concatenate(leaves), *self._observations)
        times, envs, states, actions, rewards = tree_map(lambda *leaves: torch.cat(leaves), *self._rows)
        nothing_begins = torch.zeros(len(envs), dtype=torch.bool, device=device)
        inputs = tracker.inputs_at_end(observations, actions, rewards, nothing_begins)
        next_values[times, envs] = snapshot.values(inputs, states, nothing_begins)
