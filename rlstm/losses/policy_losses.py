"""Losses of policy gradients, with their derivatives in closed form.

Arguments are ``(T, B)``; means E are over the N steps where ``valid`` holds, or over all if it is None. What stands
elsewhere is replaced before anything is computed from it: masking the result alone would leave 0 · NaN in the gradient.
Nothing is recorded for autograd, which would take longer over short sequences than the losses themselves.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Loss(NamedTuple):
    """A loss of some outputs of a network."""

    value: Tensor  # A scalar.
    gradient: Tensor  # (T, B), with respect to the outputs.


class PolicyLoss(NamedTuple):
    """A loss of log-probabilities, with diagnostics; all but the gradient are scalars."""

    value: Tensor
    gradient: Tensor
    approx_kl: Tensor
    clip_fraction: Tensor
    ratio_error: Tensor


def _valid_part(values: Tensor, valid: Tensor | None) -> Tensor:
    return values if valid is None else torch.where(valid, values, 0.0)


def masked_mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean of ``values`` over the steps where ``valid`` holds, whatever stands elsewhere."""
    if valid is None:
        return values.mean()
    return _valid_part(values, valid).sum() / valid.sum().clamp(min=1)  # A rank's envs may all be idle.


def masked_normalise(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return ``values`` with mean 0 and deviation 1 over the valid steps."""
    if valid is None:
        variance, mean = torch.var_mean(values, correction=0)
        return (values - mean) * (variance + 1e-8).rsqrt()
    centred = values - masked_mean(values, valid)
    return centred / (masked_mean(centred.square(), valid) + 1e-8).sqrt()


def _gradient_of_mean(gradients: Tensor, valid: Tensor | None) -> Tensor:
    """Return the gradient of the masked mean of what has these gradients, which must be 0 where it isn't valid."""
    return gradients / (gradients.numel() if valid is None else valid.sum().clamp(min=1))


@torch.no_grad()
def policy_gradient_loss(log_probs: Tensor, advantages: Tensor, valid: Tensor | None) -> Loss:
    """Return -E[A log p] (Williams 1992), a loss of the log-probabilities."""
    advantages = _valid_part(advantages, valid)
    value = -masked_mean(_valid_part(log_probs, valid) * advantages, valid)
    return Loss(value, _gradient_of_mean(-advantages, valid))


@torch.no_grad()
def entropy_loss(entropies: Tensor, valid: Tensor | None) -> Loss:
    """Return -E[H], a loss of the entropies."""
    ones = _valid_part(torch.ones_like(entropies), valid)
    return Loss(-masked_mean(entropies, valid), _gradient_of_mean(-ones, valid))


@torch.no_grad()
def clipped_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, valid: Tensor | None, clip_coef: float
) -> PolicyLoss:
    """Return PPO's clipped surrogate, -E[min(ρA, clip(ρ, 1 - ε, 1 + ε)A)] (Schulman et al. 2017, equation 7).

    Its gradient is -ρA/N where ρA is the smaller of the two, else 0. The KL estimate is E[(ρ - 1) - log ρ] (Schulman,
    *Approximating KL divergence*, 2020).
    """
    log_ratio = _valid_part(log_probs - old_log_probs, valid)
    advantages = _valid_part(advantages, valid)
    ratio = log_ratio.exp()
    plain, clipped = ratio * advantages, ratio.clamp(1 - clip_coef, 1 + clip_coef) * advantages
    error = ratio - 1
    size = error.abs()
    return PolicyLoss(
        value=-masked_mean(torch.minimum(plain, clipped), valid),
        gradient=_gradient_of_mean(torch.where(plain <= clipped, -plain, 0.0), valid),
        approx_kl=masked_mean(error - log_ratio, valid),
        clip_fraction=masked_mean((size > clip_coef).to(size.dtype), valid),
        ratio_error=size.max(),
    )


@torch.no_grad()
def clipped_value_loss(
    values: Tensor,
    old_values: Tensor | None,
    returns: Tensor,
    valid: Tensor | None,
    clip_range: float | None,
    *,
    huber: bool = False,
) -> Loss:
    """Return E[ℓ(v - R)], each error at least that of v clipped to within ``clip_range`` of the old value.

    ℓ(e) = ½e², or Huber's: ½e² up to |e| = 1, then |e| - ½ (Huber 1964). Arguments are in the critic's units.
    Without a range, or old values, nothing is clipped. The gradient is ℓ'(v - R)/N, but 0 where v is clipped and its
    error then larger.
    """
    values, returns = _valid_part(values, valid), _valid_part(returns, valid)
    differences = values - returns
    sizes = differences.abs()
    if clip_range is not None and old_values is not None:
        old_values = _valid_part(old_values, valid)
        changes = values - old_values
        sizes_of_clipped = (old_values + changes.clamp(-clip_range, clip_range) - returns).abs()
        passes = (sizes >= sizes_of_clipped) | (changes.abs() <= clip_range)  # Equal but for rounding within it.
        differences = torch.where(passes, differences, 0.0)
        sizes = torch.maximum(sizes, sizes_of_clipped)
    if huber:
        losses = torch.where(sizes <= 1, 0.5 * sizes.square(), sizes - 0.5)
        return Loss(masked_mean(losses, valid), _gradient_of_mean(differences.clamp(-1, 1), valid))
    return Loss(0.5 * masked_mean(sizes.square(), valid), _gradient_of_mean(differences, valid))
