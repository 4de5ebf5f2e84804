"""Returns and advantages. Arguments are ``(T, B)``; every end is marked in the data: no last-step special case."""

from __future__ import annotations

from collections.abc import Iterator

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
    for delta, factor, advantage in zip(*map(_backwards, (deltas, decay, advantages)), strict=True):
        running = torch.addcmul(delta, factor, running, out=advantage)
    return advantages


def _backwards(steps: Tensor) -> Iterator[Tensor]:
    """Yield the steps of ``(T, ...)`` from the last to the first."""
    return reversed(steps.unbind())


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
    sums, running = torch.empty_like(rewards), start
    decay = torch.full_like(rewards, gamma)  # Of the sum before each step.
    decay[1:].masked_fill_(credit_cuts[:-1], 0.0)
    for reward, factor, place in zip(rewards.unbind(), decay.unbind(), sums.unbind(), strict=True):
        running = torch.addcmul(reward, factor, running, out=place)
    return sums, running.masked_fill(credit_cuts[-1], 0.0)


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """Return 1 - Var[returns - values]/Var[returns], or 0 where the returns don't vary."""
    variance = returns.var(correction=0)
    if float(variance) <= 1e-12:
        return 0.0
    return float(1 - (returns - values).var(correction=0) / variance)
