"""What a memory does during a run, as metrics: a few envs of a rollout, step by step through the cell's own step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlstm.core.arrays import Array
from rlstm.core.trees import tree_map
from rlstm.inspection import dependence
from rlstm.inspection.trace import Trace, encode
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.rollout import Rollout

NUM_ENVS = 4  # That are looked at.
LAGS = (0, 1, 2, 4, 8, 16, 32, 64)
"""Where the bins of lags begin, in steps; the last has all longer ones."""

_ACTIONS = 32  # Whose gradients are taken, evenly over the steps.
_SATURATED = 0.02  # Of a gate: nearer to 0 or 1 than this.
_DEAD = 1e-3  # Of a unit: its outputs deviate less than this share of the largest deviation of any.


class Sample(NamedTuple):
    """Some envs of a rollout, ``(T, L, ...)``, with the state before it, ``(L, ...)``."""

    inputs: PolicyInputs
    actions: Tensor
    is_first: Tensor
    valid: Tensor
    state: Any


def sample_of(rollout: Rollout) -> Sample:
    """Return copies of the first envs of a rollout."""

    def first_envs(leaf: Tensor) -> Tensor:
        return leaf[:, :NUM_ENVS].clone()

    inputs = PolicyInputs(*(None if part is None else tree_map(first_envs, part) for part in rollout.inputs))
    state = tree_map(lambda leaf: leaf[:NUM_ENVS].clone(), rollout.initial_state)
    return Sample(inputs, first_envs(rollout.actions), first_envs(rollout.is_first), first_envs(rollout.valid), state)


@torch.no_grad()
def memory_metrics(policy: RecurrentPolicy, sample: Sample) -> dict[str, float]:
    """Return how far gates open, how many are saturated, how long they keep, and how many units are dead, by name.

    Of the actor's memory; without gates there are dead units alone, and without a memory there is nothing.
    """
    cell, state = policy.actor.cell, sample.state[0]
    encoded = encode(policy, sample.inputs, sample.is_first)
    gates: dict[str, list[Tensor]] = {}
    outputs = []
    for features, is_first in zip(encoded, sample.is_first, strict=True):
        state = cell.reset(state, is_first)
        for name, gate in cell.gates(features, state).items():
            gates.setdefault(name, []).append(gate)
        output, state = cell.step(features, state)
        outputs.append(output)
    if not list(cell.parameters()):
        return {}
    metrics: dict[str, float] = {}
    for name, steps in gates.items():
        metrics |= _gate_metrics(name, torch.stack(steps)[sample.valid])
    deviations = torch.stack(outputs)[sample.valid].std(0, correction=0)
    metrics["recurrent/dead_units"] = float((deviations <= _DEAD * deviations.max()).float().mean())
    return metrics


def _gate_metrics(name: str, opened: Tensor) -> dict[str, float]:
    """Return metrics of a gate's openings ``(steps, N)``, with the time scales of one that keeps the memory."""
    low, high = torch.quantile(opened.flatten()[:100_000].float(), opened.new_tensor([0.1, 0.9]).float()).tolist()
    shut = (opened < _SATURATED) | (opened > 1 - _SATURATED)
    place = f"recurrent/{name}_gate"
    found = {f"{place}_mean": float(opened.mean()), f"{place}_q10": low, f"{place}_q90": high}
    found[f"{place}_saturated"] = float(shut.float().mean())
    if name.split(".")[-1] == "forget":
        scales = 1.0 / (1.0 - opened.median(0).values).clamp(min=1e-7)
        prefix = name.removesuffix("forget")
        found[f"recurrent/{prefix}time_scale_median"] = float(scales.median())
        found[f"recurrent/{prefix}time_scale_max"] = float(scales.max())
    return found


def gradient_metrics(policy: RecurrentPolicy, sample: Sample) -> dict[str, float]:
    """Return the mean norm of ∂ log π(a_t) / ∂ x_s by lag t - s, in eight bins, over the first env of a sample.

    x is what the memory reads. The mean is over pairs with no reset between them, which a gradient can't cross.
    """
    count = int(sample.valid[:, 0].sum())
    if count < 2:
        return {}

    def one(leaf: Tensor) -> Tensor:
        return leaf[:count, :1]

    inputs = PolicyInputs(*(None if part is None else tree_map(one, part) for part in sample.inputs))
    is_first = one(sample.is_first)
    with torch.no_grad():
        encoded = encode(policy, inputs, is_first)
    state = tree_map(lambda leaf: leaf[:1], sample.state)
    actions = np.unique(np.linspace(0, count - 1, min(count, _ACTIONS)).astype(np.int64))
    traced = Trace(inputs, one(sample.actions), is_first, encoded, state, {}, {})
    norms = dependence.gradients(policy, traced, actions)
    trajectory = is_first[:, 0].cumsum(0).numpy(force=True)
    lags = actions[:, None] - np.arange(count)
    return _by_bin(norms, lags, (trajectory[actions][:, None] == trajectory) & (lags >= 0))


def _by_bin(norms: Array, lags: Array, together: Array) -> dict[str, float]:
    found = {}
    for begin, end in zip(LAGS, (*LAGS[1:], lags.max() + 1 + LAGS[-1]), strict=True):
        pairs = together & (lags >= begin) & (lags < end)
        if pairs.any():
            found[f"recurrent/gradient_lag_{begin}"] = float(norms[pairs].mean())
    return found
