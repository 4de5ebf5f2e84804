"""Returns and advantages. Arguments are ``(T, B)``; every end is marked in the data: no last-step special case."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    credit_cuts: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Return generalised advantage estimates ``(T, B)``.

    δ_t = r_t + γ·v'_t - v_t and A_t = δ_t + γλ(1 - cut_t)·A_{t+1}, A_T = 0, for t in [0, T - 1].

    Source: Schulman et al. 2016 (arXiv 1506.02438), equation 16; v' and the cuts as in ``rlstm.rollouts.collect``.

    Args:
        rewards: Raw rewards of steps 0 .. T - 1.
        values: V before each step.
        next_values: V after each step: 0 where it terminated and credit is cut.
        credit_cuts: Bool; nothing flows back over a cut.
        gamma: Discount γ.
        gae_lambda: λ.
    """
    deltas = rewards + gamma * next_values - values
    decay = (~credit_cuts).to(deltas.dtype) * (gamma * gae_lambda)
    advantages = torch.empty_like(deltas)
    running = torch.zeros_like(deltas[0])
    for t in range(len(deltas) - 1, -1, -1):
        running = torch.addcmul(deltas[t], decay[t], running, out=advantages[t])
    return advantages


def rewards_to_go(rewards: Tensor, credit_cuts: Tensor, *, gamma: float) -> Tensor:
    """Return the discounted sums of all rewards from each step to the next cut, ``(T, B)``.

    G_t = r_t + γ(1 - cut_t)·G_{t+1}, G_T = 0, for t in [0, T - 1]. Nothing is bootstrapped: a truncated episode counts
    as it stands.
    """
    zeros = torch.zeros_like(rewards)
    return gae(rewards, zeros, zeros, credit_cuts, gamma=gamma, gae_lambda=1.0)


def steps_since_cut(credit_cuts: Tensor) -> Tensor:
    """Return how many steps lie between each step and the last cut before it, ``(T, B)``: 0 for the first after one."""
    num_steps = len(credit_cuts)
    times = torch.arange(num_steps, device=credit_cuts.device).unsqueeze(1)
    starts = torch.where(credit_cuts, times + 1, 0).roll(1, dims=0)
    starts[0] = 0
    return times - starts.cummax(0).values


def discounted_sums(rewards: Tensor, credit_cuts: Tensor, start: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return backward-looking discounted sums, whose deviation scales rewards, and the sum to go on from.

    G_t = r_t + γ·G_{t-1}, G anew after a cut, for t in [0, T - 1].

    Args:
        rewards: ``(T, B)`` raw.
        credit_cuts: ``(T, B)`` bool.
        start: ``(B,)`` the sum carried from the rollout before.
        gamma: Discount γ.

    Returns:
        The sums ``(T, B)`` and the one to carry ``(B,)``.
    """
    sums = torch.empty_like(rewards)
    running = start
    for t in range(len(rewards)):
        sums[t] = rewards[t] + gamma * running
        running = sums[t].masked_fill(credit_cuts[t], 0.0)
    return sums, running


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """Return 1 - Var[returns - values]/Var[returns], or 0 where the returns don't vary."""
    variance = returns.var(correction=0)
    if float(variance) <= 1e-12:
        return 0.0
    return float(1 - (returns - values).var(correction=0) / variance)
