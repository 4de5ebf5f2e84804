"""Losses of policy gradients.

Arguments are ``(T, B)``; means are over the steps where ``valid`` holds, or over all if it is None. What stands
elsewhere is replaced before anything is computed from it: masking the result alone would leave 0 · NaN in the gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PolicyLoss(NamedTuple):
    """A policy loss with its diagnostics, scalars."""

    loss: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor
    ratio_error: Tensor


def _valid_part(values: Tensor, valid: Tensor | None) -> Tensor:
    return values if valid is None else torch.where(valid, values, 0.0)


def masked_mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean of ``values`` over the steps where ``valid`` holds, whatever stands elsewhere."""
    if valid is None:
        return values.mean()
    return _valid_part(values, valid).sum() / valid.sum()


def masked_normalise(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return ``values`` with mean 0 and deviation 1 over the valid steps."""
    if valid is None:
        variance, mean = torch.var_mean(values, correction=0)
        return (values - mean) * (variance + 1e-8).rsqrt()
    centred = values - masked_mean(values, valid)
    return centred / (masked_mean(centred.square(), valid) + 1e-8).sqrt()


def clipped_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, valid: Tensor | None, clip_coef: float
) -> PolicyLoss:
    """Return PPO's clipped surrogate, -E[min(ρA, clip(ρ, 1 - ε, 1 + ε)A)] (Schulman et al. 2017, equation 7).

    The KL estimate is E[(ρ - 1) - log ρ] (Schulman, *Approximating KL divergence*, 2020).
    """
    log_ratio = _valid_part(log_probs - old_log_probs, valid)
    advantages = _valid_part(advantages, valid)
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    loss = -masked_mean(torch.minimum(ratio * advantages, clipped * advantages), valid)
    with torch.no_grad():
        error = ratio - 1
        approx_kl = masked_mean(error - log_ratio, valid)
        size = error.abs()
        clip_fraction = masked_mean((size > clip_coef).to(size.dtype), valid)
        return PolicyLoss(loss, approx_kl, clip_fraction, size.max())


def clipped_value_loss(
    values: Tensor, old_values: Tensor | None, returns: Tensor, valid: Tensor | None, clip_range: float | None
) -> Tensor:
    """Return ½E[(v - R)²], each error at least that of v clipped to within ``clip_range`` of the old value.

    Arguments are in the critic's units. Without a range, or old values, it is the plain squared error.
    """
    values, returns = _valid_part(values, valid), _valid_part(returns, valid)
    errors = (values - returns).square()
    if clip_range is not None and old_values is not None:
        old_values = _valid_part(old_values, valid)
        clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
        errors = torch.maximum(errors, (clipped - returns).square())
    return 0.5 * masked_mean(errors, valid)
