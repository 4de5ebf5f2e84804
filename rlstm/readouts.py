"""Linear readouts in closed form: from what a memory puts out to what it should have said.

Source: the linear half of Evolino, J. Schmidhuber, D. Wierstra, M. Gagliolo, F. Gomez, "Training recurrent networks by
Evolino", Neural Computation 19(3), 2007. All networks of a population are solved at once.

Letters in shapes: P = networks, R = rows (steps), D = features, Y = outputs. All is float64, whatever came in: a free
run multiplies the readout's error at every step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Readout", "least_squares", "ridge"]

RCOND = 1e-15
"""Singular values up to so many times the largest one count as 0."""


class Readout(NamedTuple):
    """Outputs = features weight + bias, one map for each network."""

    weight: Tensor  # (P, D, Y)
    bias: Tensor  # (P, 1, Y)
    condition: (
        Tensor  # (P,) largest over smallest singular value of what was solved, infinite where a direction is lost
    )

    def __call__(self, features: Tensor) -> Tensor:
        """Return the outputs ``(P, R, Y)`` for features ``(P, R, D)``."""
        return torch.baddbmm(self.bias, features.double(), self.weight)


def least_squares(features: Tensor, targets: Tensor, weights: Tensor | None = None, *, rcond: float = RCOND) -> Readout:
    """Return the map of the least squared error, the smallest one where several are as good.

    Minimises Σ_r w_r |φ_r W + b - d_r|² by an orthogonal decomposition of [Φ 1 | D], then of its triangle by singular
    values: Φ'Φ is never formed, it would square the condition number.

    Args:
        features: Φ ``(P, R, D)``.
        targets: D ``(P, R, Y)``, or ``(R, Y)`` where all have the same.
        weights: w ``(P, R)`` or ``(R,)``, at least 0; ``None`` for ones.
        rcond: Directions whose singular value is at most so many times the largest are left out.

    Raises:
        ValueError: If shapes don't fit, a weight is negative, or something is not finite.
    """
    features, targets, roots = _prepare(features, targets, weights)
    ones = torch.ones_like(features[..., :1])
    both = torch.cat([features, ones], -1) * roots
    solution, singular = _solve(both, targets * roots, rcond=rcond, penalty=None)
    return Readout(solution[:, :-1], solution[:, -1:], _condition(singular, rcond))


def ridge(features: Tensor, targets: Tensor, weights: Tensor | None = None, *, strength: float = 1e-3) -> Readout:
    """Return the map of the least squared error plus a penalty on its weights; the bias is free.

    Minimises Σ_r w_r |φ_r W + b - d_r|² + λ |W|² with λ = ρ trace(Φ'Φ) / D of the centred features, so ρ means the same
    whatever their scale.

    Args:
        features: Φ ``(P, R, D)``.
        targets: As for ``least_squares``.
        weights: As for ``least_squares``.
        strength: ρ, positive.

    Raises:
        ValueError: As ``least_squares``, or if ρ is not positive.
    """
    if not strength > 0:
        raise ValueError(f"strength is {strength}; it must be positive. Without a penalty take lstsq.")
    features, targets, roots = _prepare(features, targets, weights)
    total = roots.square().sum(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    mean = (features * roots.square()).sum(1, keepdim=True) / total
    target_mean = (targets * roots.square()).sum(1, keepdim=True) / total
    weight, singular = _solve((features - mean) * roots, (targets - target_mean) * roots, rcond=0.0, penalty=strength)
    return Readout(weight, target_mean - mean @ weight, _condition(singular, RCOND))


def _prepare(features: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return features ``(P, R, D)``, targets ``(P, R, Y)`` and roots of the weights ``(P, R, 1)``, checked."""
    if features.dim() != 3:
        raise ValueError(f"The features have the shape {tuple(features.shape)}; it must be (networks, rows, features).")
    population, rows, _ = features.shape
    features, targets = features.double(), targets.double()
    if targets.dim() == 2:
        targets = targets.expand(population, *targets.shape)
    if targets.dim() != 3 or targets.shape[:2] != (population, rows):
        raise ValueError(
            f"The targets have the shape {tuple(targets.shape)}; it must be ({rows}, outputs), or one such table for "
            f"each of the {population} networks."
        )
    weights = torch.ones(rows, dtype=torch.float64, device=features.device) if weights is None else weights.double()
    if weights.shape not in ((rows,), (population, rows)):
        raise ValueError(
            f"The weights have the shape {tuple(weights.shape)}; there must be one for each of {rows} rows."
        )
    for name, values in (("feature", features), ("target", targets), ("weight", weights)):
        if not bool(values.isfinite().all()):
            raise ValueError(f"A {name} is not finite, so no readout can be fitted.")
    if bool((weights < 0).any()):
        raise ValueError(f"A weight is {float(weights.min())}; weights of rows must be 0 or more.")
    return features, targets, weights.sqrt().expand(population, rows).unsqueeze(-1)


def _solve(matrix: Tensor, targets: Tensor, *, rcond: float, penalty: float | None) -> tuple[Tensor, Tensor]:
    """Return the solution ``(P, D, Y)`` and the singular values ``(P, K)``, largest first.

    The triangle of [Φ | D] holds that of Φ and, beside it, Q'D: Q itself is not needed.
    """
    size = matrix.shape[-1]
    triangle = torch.linalg.qr(torch.cat([matrix, targets], -1), mode="r").R[:, :size]
    left, singular, right = torch.linalg.svd(triangle[..., :size], full_matrices=False)
    if penalty is None:
        kept = singular > rcond * singular[:, :1]
        inverse = torch.where(kept, 1 / torch.where(kept, singular, 1.0), 0.0)
    else:
        strength = penalty * singular.square().sum(1, keepdim=True) / size
        inverse = torch.where(strength > 0, singular / (singular.square() + strength), 0.0)
    rotated = left.transpose(1, 2) @ triangle[..., size:]
    return right.transpose(1, 2) @ (inverse.unsqueeze(-1) * rotated), singular


def _condition(singular: Tensor, rcond: float) -> Tensor:
    largest, smallest = singular[:, 0], singular[:, -1]
    lost = smallest <= rcond * largest
    return torch.where(lost, torch.inf, largest / torch.where(lost, 1.0, smallest))
