"""V after every step of a rollout: the next row's value, or that of a final observation where credit is cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlstm.cells import State
from rlstm.core.arrays import BoolArray
from rlstm.core.trees import Tree, tree_map
from rlstm.policies.acting import ActingSnapshot
from rlstm.policies.inputs import PolicyStep
from rlstm.rollouts.buffers import StoredSteps
from rlstm.rollouts.inputs import PolicyInputsTracker
from rlstm.vector.adapter import EnvStep

__all__ = ["FinalRows"]


@dataclass(frozen=True)
class _Rows:
    """Envs whose next value at step t is that of a final observation, under the state before the reset."""

    t: int
    envs: Tensor  # (N,) indices
    observations: Tree  # numpy (N, ...)
    state: State  # (N, ...)
    previous_actions: Tensor  # (N, ...)
    previous_rewards: Tensor  # (N,)


class FinalRows:
    """The truncated episodes of a rollout, until it is over and their next values are computed in one call."""

    def __init__(self) -> None:
        self._rows: list[_Rows] = []

    def add(self, t: int, cuts: BoolArray, step: PolicyStep, outcome: EnvStep, tracker: PolicyInputsTracker) -> None:
        """Take the envs where credit is cut after step t by a truncation alone; ``tracker`` is past the step."""
        rows = np.flatnonzero((cuts & outcome.truncated & ~outcome.terminated)[outcome.finished])
        if not len(rows):
            return
        envs = torch.as_tensor(outcome.finished[rows], device=step.values.device)

        def pick(leaf: Tensor) -> Tensor:
            return leaf.index_select(0, envs)

        observations = tree_map(lambda leaf: leaf[rows], outcome.final_observations)
        remembered = pick(tracker.previous_actions), pick(tracker.previous_rewards)
        self._rows.append(_Rows(t, envs, observations, tree_map(pick, step.state), *remembered))

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
        observations = tree_map(lambda *leaves: np.concatenate(leaves), *(rows.observations for rows in self._rows))
        states = tree_map(lambda *leaves: torch.cat(leaves), *(rows.state for rows in self._rows))
        envs = torch.cat([rows.envs for rows in self._rows])
        times = torch.tensor([rows.t for rows in self._rows for _ in rows.envs], device=device)
        nothing_begins = torch.zeros(len(envs), dtype=torch.bool, device=device)
        inputs = tracker.inputs_at_end(
            observations,
            torch.cat([rows.previous_actions for rows in self._rows]),
            torch.cat([rows.previous_rewards for rows in self._rows]),
            nothing_begins,
        )
        next_values[times, envs] = snapshot.values(inputs, states, nothing_begins)
