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
    errors, decay = _errors(rewards, values, next_values, credit_cuts, gamma, gae_lambda)
    return _flow_back(errors, decay)


def vtrace(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    credit_cuts: Tensor,
    ratios: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
    rho_bar: float,
    c_bar: float,
) -> tuple[Tensor, Tensor]:
    """Return V-trace's advantages and its targets of values, each ``(T, B)``, for a policy π that acted as μ.

    With ρ_t = min(ρ̄, π/μ) and c_t = λ·min(c̄, π/μ), for t in [0, T - 1]::

        δ_t = ρ_t·(r_t + γ·v'_t - v_t)
        e_t = δ_t + γ·c_t·(1 - cut_t)·e_{t+1},    e_T = 0
        R_t = v_t + e_t
        A_t = ρ_t·(r_t + γ·v'_t - v_t + γλ(1 - cut_t)·e_{t+1})

    Where π is μ and the bounds are 1 at least, A is what ``gae`` returns, and R is A + v.

    Source: Espeholt et al. 2018 (arXiv 1802.01561), equation 1 with λ of remark 2. Their advantage, of section 4.2, is
    A for λ = 1; with a smaller one it looks as far ahead here as GAE does, as in rlax.

    Args:
        rewards: Raw rewards of steps 0 .. T - 1.
        values: V before each step, of the policy π.
        next_values: V after each step: 0 where it terminated and credit is cut.
        credit_cuts: Bool; nothing flows back over a cut.
        ratios: π/μ of the action of each step.
        gamma: Discount γ.
        gae_lambda: λ.
        rho_bar: ρ̄.
        c_bar: c̄.
    """
    errors, decay = _errors(rewards, values, next_values, credit_cuts, gamma, gae_lambda)
    rhos = ratios.clamp(max=rho_bar)
    changes = _flow_back(rhos * errors, decay * ratios.clamp(max=c_bar))  # e
    later = torch.cat([changes[1:], torch.zeros_like(changes[:1])])
    return rhos * torch.addcmul(errors, decay, later), values + changes


def _errors(
    rewards: Tensor, values: Tensor, next_values: Tensor, credit_cuts: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Return r_t + γ·v'_t - v_t and γλ(1 - cut_t), each ``(T, B)``."""
    errors = rewards + gamma * next_values - values
    return errors, (~credit_cuts).to(errors.dtype) * (gamma * gae_lambda)


def _flow_back(deltas: Tensor, factors: Tensor) -> Tensor:
    """Return e ``(T, B)`` with e_t = δ_t + f_t·e_{t+1}, e_T = 0, for t in [0, T - 1]."""
    sums, running = torch.empty_like(deltas), torch.zeros_like(deltas[0])
    for delta, factor, place in zip(*map(_backwards, (deltas, factors, sums)), strict=True):
        running = torch.addcmul(delta, factor, running, out=place)
    return sums


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


def expected_return(rewards: Tensor, ends: Tensor, valid: Tensor, *, gamma: float) -> float:
    """Return the mean value that agrees with a rollout: V = r + γ(1 - p)V with its mean reward and share p of ends.

    ``ends`` ``(T, B)`` are steps after which nothing is worth anything; the others go on, truncated ones too. Where γ
    is 1 and nothing ends, V is that of a rollout's length.
    """
    reward, share = (float(one[valid].double().mean()) for one in (rewards, ends))
    goes_on = gamma * (1 - share)
    return reward / (1 - goes_on) if goes_on < 1 else reward * len(rewards)


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """Return 1 - Var[returns - values]/Var[returns], or 0 where the returns don't vary."""
    variance = returns.var(correction=0)
    if float(variance) <= 1e-12:
        return 0.0
    return float(1 - (returns - values).var(correction=0) / variance)
