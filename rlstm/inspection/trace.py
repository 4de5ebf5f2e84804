"""What a memory holds along an episode: the steps once more, through the cell's own step, with its gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstm.core.arrays import Array
from rlstm.core.trees import tree_map
from rlstm.inspection.playback import Moment
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.memory_names import named_memory
from rlstm.policies.policy import RecurrentPolicy


@dataclass
class Trace:
    """T steps of one env, with no gap between them."""

    inputs: PolicyInputs  # Leaves (T, 1, ...).
    actions: Tensor  # As stored, (T, 1, ...).
    is_first: Tensor  # (T, 1)
    encoded: Tensor  # What the actor's memory reads, (T, 1, F).
    state: Any  # Of the policy, before the first step.
    memory: dict[str, Array]  # After each step, by name (T, N), tensors of several axes laid flat.
    gates: dict[str, Array]  # At each step, by name (T, N).


def join(moments: Sequence[Moment]) -> tuple[PolicyInputs, Tensor, Tensor]:
    """Return inputs, actions and ``is_first`` of moments with an axis T in front."""

    def stack(*leaves: Any) -> Any:
        return None if leaves[0] is None else torch.stack(leaves)

    fields = [tree_map(stack, *parts) for parts in zip(*(moment.inputs for moment in moments), strict=True)]
    actions = torch.stack([moment.stored_action for moment in moments])
    is_first = torch.tensor([[moment.is_first] for moment in moments], device=actions.device)
    return PolicyInputs(*fields), actions, is_first


@torch.no_grad()
def trace(policy: RecurrentPolicy, moments: Sequence[Moment], state: Any = None) -> Trace:
    """Return what the actor's memory held at the moments.

    Args:
        policy: That played them.
        moments: In their order.
        state: Of the policy before the first of them; that of a memory that has seen nothing by default.
    """
    inputs, actions, is_first = join(moments)
    state = policy.init_state(1) if state is None else state
    encoded = encode(policy, inputs, is_first)
    cell, held = policy.actor.cell, state[0]
    memory, gates = [], []
    for features, first in zip(encoded, is_first, strict=True):
        held = cell.reset(held, first)
        gates.append({name: gate[0].numpy(force=True) for name, gate in cell.gates(features, held).items()})
        _, held = cell.step(features, held)
        memory.append({name: leaf[0].flatten().numpy(force=True) for name, leaf in named_memory((held,)).items()})
    return Trace(inputs, actions, is_first, encoded, state, _by_name(memory), _by_name(gates))


def encode(policy: RecurrentPolicy, inputs: PolicyInputs, is_first: Tensor) -> Tensor:
    """Return what the actor's memory reads, ``(T, B, F)``."""
    return policy.input_features(policy.actor.encoder, inputs, is_first, policy.reward_scale, policy.dtype)


def _by_name(rows: Sequence[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def time_scales(gates: dict[str, Array]) -> dict[str, Array]:
    """Return for each forget gate the time scale of its units in steps, 1 / (1 - f) with f in the median, ``(N,)``."""
    return {
        name: 1.0 / np.maximum(1.0 - np.median(gate, axis=0), 1e-7)
        for name, gate in gates.items()
        if name.split(".")[-1] == "forget"
    }
