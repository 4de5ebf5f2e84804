"""V after every step of a rollout: the next row's value, or that of a final observation where credit is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstm.cells import State
from rlstm.core.arrays import BoolArray
from rlstm.core.trees import Tree, tree_map
from rlstm.policies.acting import ActingSnapshot
from rlstm.policies.step import PolicyStep
from rlstm.rollouts.inputs import PolicyInputsTracker
from rlstm.vector.adapter import EnvStep

__all__ = ["FinalRows"]


@dataclass(frozen=True)
class _Rows:
    """Envs whose next value at step t is that of a final observation, under the state before the erase."""

    t: int
    lanes: Tensor  # (N,)
    observations: Tree  # numpy (N, ...)
    state: State  # (N, ...)
    previous_actions: Tensor  # (N, ...)
    previous_rewards: Tensor  # (N,)


class FinalRows:
    """The truncated episodes of a rollout, until it is over and their next values are computed in one call."""

    def __init__(self) -> None:
        self._rows: list[_Rows] = []

    def add(self, t: int, cuts: BoolArray, step: PolicyStep, outcome: EnvStep, view: PolicyInputsTracker) -> None:
        """Take the lanes where credit is cut after step t by a truncation alone; ``view`` is past the step."""
        rows = np.flatnonzero((cuts & outcome.truncated & ~outcome.terminated)[outcome.finished])
        if not len(rows):
            return
        lanes = torch.as_tensor(outcome.finished[rows], device=step.values.device)

        def pick(leaf: Tensor) -> Tensor:
            return leaf.index_select(0, lanes)

        observations = tree_map(lambda leaf: leaf[rows], outcome.final_observations)
        state = tree_map(pick, step.state)
        seen = (pick(view.previous_actions), pick(view.previous_rewards))
        self._rows.append(_Rows(t, lanes, observations, state, *seen))

    def write_next_values(
        self, fields: dict[str, Any], snapshot: ActingSnapshot, view: PolicyInputsTracker, state: State
    ) -> None:
        """Fill in ``fields["next_values"]``: one value call for the end of the rollout, one for all final rows.

        Args:
            fields: The rollout's fields.
            snapshot: The weights that played.
            view: What is seen after the last step.
            state: The state after it.
        """
        next_values, device = fields["next_values"], fields["values"].device
        next_values[:-1] = fields["values"][1:]
        next_values[-1] = snapshot.values(view.inputs(), state, torch.as_tensor(view.is_first, device=device))
        next_values[fields["credit_cuts"]] = 0.0
        if not self._rows:
            return
        observations = tree_map(lambda *leaves: np.concatenate(leaves), *(rows.observations for rows in self._rows))
        states = tree_map(lambda *leaves: torch.cat(leaves), *(rows.state for rows in self._rows))
        lanes = torch.cat([rows.lanes for rows in self._rows])
        times = torch.tensor([rows.t for rows in self._rows for _ in rows.lanes], device=device)
        inside = torch.zeros(len(lanes), dtype=torch.bool, device=device)
        inputs = view.inputs_at_end(
            observations,
            torch.cat([rows.previous_actions for rows in self._rows]),
            torch.cat([rows.previous_rewards for rows in self._rows]),
            inside,
        )
        next_values[times, lanes] = snapshot.values(inputs, states, inside)
