"""Losses of what a policy head puts out against what a teacher would have answered.

Outputs are ``(T, S, P)`` of S sequences, targets of the same shape as ``ActionDistribution.targets`` gives them, and
weights ``(T, S)``, 0 where nothing is asked. Means are weighted: E[x] = Σ w x / Σ w over steps and sequences.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlstm.policies.distributions import ActionDistribution


class TaughtLoss(NamedTuple):
    """A loss of outputs, and how right they are."""

    value: Tensor  # A scalar.
    gradient: Tensor  # (T, S, P) with respect to the outputs.
    errors: Tensor  # (T, S) of every step: the largest error of a number, or 1 where a choice is wrong; 0 if not asked.


def squared_error(outputs: Tensor, targets: Tensor, weights: Tensor) -> TaughtLoss:
    """Return E[mean over p of (y_p - d_p)²] of outputs y and targets d, with the gradient 2 w (y - d) / (P Σ w)."""
    asked = weights > 0
    differences = torch.where(asked.unsqueeze(-1), outputs.detach() - targets, 0.0)
    scale = 1.0 / (outputs.shape[-1] * weights.sum())
    weighted = differences * weights.unsqueeze(-1)
    return TaughtLoss(scale * (weighted * differences).sum(), 2 * scale * weighted, differences.abs().amax(-1))


def cross_entropy(distribution: ActionDistribution, outputs: Tensor, targets: Tensor, weights: Tensor) -> TaughtLoss:
    """Return -E[log p(d)]: of the right class, or the sum over bits and choices where an answer has several.

    A set of legal symbols is an answer with a bit for each; numbers are taught the mean of their distribution.
    """
    asked = weights > 0
    answers = distribution.mode(targets, None)
    leaf = outputs.detach().requires_grad_()
    log_probs, _ = distribution.log_prob_and_entropy(leaf, answers, None)
    value = -torch.where(asked, log_probs * weights, 0.0).sum() / weights.sum()
    (gradient,) = torch.autograd.grad(value, leaf)
    wrong = (distribution.mode(leaf.detach(), None) != answers).reshape(*asked.shape, -1).any(-1)
    return TaughtLoss(value.detach(), gradient, (wrong & asked).to(outputs.dtype))
