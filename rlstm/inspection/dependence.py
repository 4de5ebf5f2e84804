"""What an action depends on: by the gradient, and by resetting the memory.

Letters: T steps of an episode, t that of an action, s that of an earlier observation, k that before which the memory is
reset.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlstm.core.arrays import Array
from rlstm.core.trees import tree_map
from rlstm.inspection.trace import Trace, encode
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy

_COPIES = 64  # Of an episode that are run side by side.


def gradients(policy: RecurrentPolicy, traced: Trace, actions: Array | None = None) -> Array:
    """Return ‖∂ log π(a_t) / ∂ x_s‖ for what the memory reads at step s, ``(T, T)`` with t first; 0 where s > t.

    Of actions that are numbers it is the norm of ∂ (μ_t / σ) / ∂ x_s, their means in deviations: at its mean a normal
    density is flat. The gradient is that of the policy's own sequence path, over the whole episode: ``bptt_horizon``
    doesn't cut it. Copy t of the episode, one of a batch, has the loss log π(a_t) alone. With ``actions``, steps
    ``(N,)``, only those rows are returned.
    """
    chosen_steps = np.arange(len(traced.encoded)) if actions is None else actions
    found = np.zeros((len(chosen_steps), len(traced.encoded)))
    for begin in range(0, len(chosen_steps), _COPIES):
        steps = torch.from_numpy(chosen_steps[begin : begin + _COPIES]).to(traced.encoded.device)
        encoded = traced.encoded.expand(-1, len(steps), -1).clone().requires_grad_()
        measured = _measured(policy, traced, encoded, len(steps))
        chosen = measured[steps, torch.arange(len(steps), device=steps.device)]  # (N, D)
        squares = torch.zeros_like(encoded[..., 0])
        for part in chosen.unbind(-1):
            (gradient,) = torch.autograd.grad(part.sum(), encoded, retain_graph=True)
            squares += gradient.square().sum(-1)
        found[begin : begin + len(steps)] = squares.sqrt().t().numpy(force=True)
    return found


def _measured(policy: RecurrentPolicy, traced: Trace, encoded: Tensor, copies: int) -> Tensor:
    """Return log π(a), or the means in deviations, ``(T, B, D)``."""
    state = tree_map(lambda leaf: leaf.expand(copies, *leaf.shape[1:]).contiguous(), traced.state[0])
    is_first = traced.is_first.expand(-1, copies)
    features, _ = policy.actor.cell.sequence_by(policy.config.sequence)(encoded, state, is_first)
    parameters = policy.policy_head(features)
    actions = traced.actions.expand(-1, copies, *traced.actions.shape[2:])
    masks = traced.inputs.action_masks
    masks = None if masks is None else masks.expand(-1, copies, -1)
    deviation = getattr(policy.distribution, "log_std", None)
    if deviation is not None:
        means: Tensor = parameters / deviation.exp()
        return means
    log_probs, _ = policy.distribution.log_prob_and_entropy(parameters, actions, masks)
    return log_probs.unsqueeze(-1)


@torch.no_grad()
def reset_effects(policy: RecurrentPolicy, traced: Trace) -> Array:
    """Return how far the distribution of action t changes if the memory is reset before step k, ``(T, T)``, k first.

    That is the total variation distance of the probabilities, the largest of several choices; for numbers the distance
    of the means in standard deviations. It is 0 where k > t. What is seen stays as it was, but for the previous action
    and reward at step k, which a memory that begins there does not see.
    """
    num_steps = len(traced.encoded)
    plain = _distributions(policy, traced, torch.zeros(num_steps, 1, dtype=torch.bool, device=traced.encoded.device))
    found = np.zeros((num_steps, num_steps))
    for begin in range(0, num_steps, _COPIES):
        resets = torch.arange(begin, min(begin + _COPIES, num_steps), device=traced.encoded.device)
        extra = torch.arange(num_steps, device=resets.device).unsqueeze(1) == resets
        changed = _distributions(policy, traced, extra)
        found[begin : begin + len(resets)] = _distance(policy, plain, changed).t().numpy(force=True)
    return np.triu(found)


def unit(policy: RecurrentPolicy) -> str:
    """Return what ``reset_effects`` are measured in, in words."""
    return "standard deviations" if isinstance(policy.action_space, spaces.Box) else "of the probability"


def _distributions(policy: RecurrentPolicy, traced: Trace, extra: Tensor) -> list[Tensor]:
    """Return probabilities, or the means, ``(T, B, n)`` where the memory is also reset where ``extra`` ``(T, B)``."""
    copies = extra.shape[1]
    inputs = PolicyInputs(
        *(
            None if part is None else tree_map(lambda leaf: leaf.expand(-1, copies, *leaf.shape[2:]), part)
            for part in traced.inputs
        )
    )
    is_first = traced.is_first | extra
    state = tree_map(lambda leaf: leaf.expand(copies, *leaf.shape[1:]).contiguous(), traced.state[0])
    encoded = encode(policy, inputs, is_first)
    features, _ = policy.actor.cell.sequence_by(policy.config.sequence)(encoded, state, is_first)
    parameters = policy.policy_head(features)
    return policy.distribution.probabilities(parameters, inputs.action_masks) or [parameters]


def _distance(policy: RecurrentPolicy, plain: list[Tensor], changed: list[Tensor]) -> Tensor:
    deviation = getattr(policy.distribution, "log_std", None)
    if deviation is not None:
        ((mean,), (other,)) = plain, changed
        distance: Tensor = ((other - mean) / deviation.exp()).norm(dim=-1)
        return distance
    if isinstance(policy.action_space, spaces.MultiBinary):
        return (changed[0] - plain[0]).abs().amax(-1)
    return torch.stack([0.5 * (b - a).abs().sum(-1) for a, b in zip(plain, changed, strict=True)]).amax(0)


def influence(effects: Array) -> Array:
    """Return how much of the effect on action t the loss of observation s alone adds, ``(T, T)`` with t first.

    A reset before step s + 1 takes observation s away, and one before s all earlier ones: the difference is its own. It
    may be below 0, where an observation misleads without those before it.
    """
    num_steps = len(effects)
    lost = np.zeros((num_steps + 1, num_steps))
    lost[:num_steps] = effects
    own: Array = (lost[1:] - lost[:-1]).T
    return np.tril(own, -1)


def by_lag(per_step: Array) -> Array:
    """Return the mean of a measure ``(T, T)``, t first, over all steps with that lag t - s, ``(T,)``."""
    return np.array([np.diagonal(per_step, -lag).mean() for lag in range(len(per_step))])
