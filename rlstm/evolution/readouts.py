"""Linear readouts in closed form: from what a memory puts out to what it should have said.

Source: the linear half of Evolino, J. Schmidhuber, D. Wierstra, M. Gagliolo, F. Gomez, "Training recurrent networks by
Evolino", Neural Computation 19(3), 2007; with support vectors for the least squares it is Evoke, J. Schmidhuber,
M. Gagliolo, D. Wierstra, F. Gomez, "Evolino for recurrent support vector machines", arXiv cs/0512062. All networks of a
population are solved at once.

Letters in shapes: P = networks, R = rows (steps), D = features, Y = outputs. All is float64, whatever came in: a free
run multiplies the readout's error at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

RCOND = 1e-15
"""Singular values up to so many times the largest count as 0; with many rows up to ε √R, the rounding of a sum."""

ROUNDING = 1e-12
"""Features that vary by no more than this, relative to their size, are constant."""

_CHUNK = 2**18
"""Numbers in the features that a CPU solves at once: with its copies a chunk stays in a cache of some MB."""

_Solve = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


class Readout(NamedTuple):
    """Outputs = features weight + bias, one map for each network.

    The condition is the largest over the smallest singular value of what was solved, infinite where a direction is
    lost. A network whose features are not finite has NaN for a readout; those of the others are right.
    """

    weight: Tensor  # (P, D, Y)
    bias: Tensor  # (P, 1, Y)
    condition: Tensor  # (P,)

    def __call__(self, features: Tensor) -> Tensor:
        """Return the outputs ``(P, R, Y)`` for features ``(P, R, D)``."""
        return torch.baddbmm(self.bias, features.double(), self.weight)


Solver = Callable[[Tensor, Tensor, Tensor], Readout]
"""From features (P, R, H), targets (R, Y) and weights (R,) to readouts."""


def least_squares(
    features: Tensor, targets: Tensor, weights: Tensor | None = None, *, rcond: float | None = None
) -> Readout:
    """Return the map of the least squared error, the smallest one where several are as good.

    Minimises Σ_r w_r |φ_r W + b - d_r|² by an orthogonal decomposition of [Φ 1 | D], then of its triangle by singular
    values: Φ'Φ is never formed, it would square the condition number.

    Args:
        features: Φ ``(P, R, D)``.
        targets: D ``(P, R, Y)``, or ``(R, Y)`` where all have the same.
        weights: w ``(P, R)`` or ``(R,)``, at least 0; ``None`` for ones.
        rcond: Directions whose singular value is at most so many times the largest are left out; ``None`` for
            max(``RCOND``, ε √R).

    Raises:
        ValueError: If shapes don't fit, a weight is negative, or a target of positive weight is not finite.
    """

    def solve(features: Tensor, targets: Tensor, roots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rounding = torch.finfo(torch.float64).eps * features.shape[1] ** 0.5
        cutoff = max(RCOND, rounding) if rcond is None else rcond
        both = torch.cat([features, torch.ones_like(features[..., :1]), targets], -1).mul_(roots)
        size = features.shape[-1] + 1
        solution, singular = _solve(both, size, lambda s: s > cutoff * s[:, :1], penalty=None)
        return solution[:, :-1], solution[:, -1:], _condition(singular, cutoff, size)

    return _in_chunks(solve, features, targets, weights)


def ridge(features: Tensor, targets: Tensor, weights: Tensor | None = None, *, strength: float = 1e-3) -> Readout:
    """Return the map of the least squared error plus a penalty on its weights; the bias is free.

    Minimises Σ_r w_r |φ_r W + b - d_r|² + λ |W|² with λ = ρ trace(Φ'Φ) / D of the centred and weighted features, so ρ
    means the same whatever their scale. Features that vary by rounding alone have no weight.

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

    def solve(features: Tensor, targets: Tensor, roots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, target_mean, least = _mean(features, roots), _mean(targets, roots), _least(features, roots)
        both, size = torch.cat([features - mean, targets - target_mean], -1).mul_(roots), features.shape[-1]
        weight, singular = _solve(both, size, lambda s: s > least, penalty=strength)
        singular = torch.where(singular > least, singular, 0.0)
        return weight, target_mean - mean @ weight, _condition(singular, RCOND, size)

    return _in_chunks(solve, features, targets, weights)


def svm(
    features: Tensor, targets: Tensor, weights: Tensor | None = None, *, cost: float = 1.0, epsilon: float = 0.1
) -> Readout:
    """Return support vector machines with linear kernels, one for each network and output.

    Minimises ½ |W|² + C Σ_r w_r max(0, |φ_r W + b - d_r| - ε): errors up to ε are none, and an outlier pulls no harder
    than any other row. An output whose targets are all -1 or 1 is a class; there a row costs max(0, 1 - d_r (φ_r W +
    b)), and nothing if it is on the right side of the margin. The bias is free. Features are in units of their common
    deviation, and targets other than classes in units of theirs, so C and ε mean the same whatever the scale.

    These are P·Y quadratic programmes, one after the other: for small data. 600 rows of 30 features take about 0.1 s at
    C = 1, and at C = 10 ten times that. It needs scikit-learn: ``pip install 'rlstm-torch[svm]'``.

    Args:
        features: Φ ``(P, R, D)``.
        targets: As for ``least_squares``.
        weights: As for ``least_squares``; a row of weight 2 is as good as two rows.
        cost: C, positive.
        epsilon: ε, at least 0, in deviations of the targets.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: As ``least_squares``, or if C or ε is out of range.
    """
    if not cost > 0:
        raise ValueError(f"cost is {cost}; it must be positive.")
    if not epsilon >= 0:
        raise ValueError(f"epsilon is {epsilon}; it must be 0 or more.")
    try:
        # With its siblings LinearSVR and LinearSVC the bias is not free, and they end before the optimum.
        from sklearn.svm import SVC, SVR
    except ImportError as error:
        raise ImportError(
            "The readout svm needs scikit-learn: pip install 'rlstm-torch[svm]'. Without it take lstsq or ridge."
        ) from error
    machines = SVC(kernel="linear", C=cost), SVR(kernel="linear", C=cost, epsilon=epsilon)

    def solve(features: Tensor, targets: Tensor, roots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape = len(features), features.shape[2], targets.shape[2]
        solution = features.new_zeros(shape[0], shape[1] + 1, shape[2])
        rows = [values.cpu().numpy() for values in (features, targets, roots.square())]
        for network, (phi, d, w) in enumerate(zip(*rows, strict=True)):
            used = w[:, 0] > 0
            for output in range(shape[2] if used.any() else 0):
                found = _machine(*machines, phi[used], d[used, output], w[used, 0])
                solution[network, :, output] = torch.from_numpy(found).to(features.device)
        singular = torch.linalg.svdvals((features - _mean(features, roots)) * roots)
        singular = torch.where(singular > _least(features, roots), singular, 0.0)
        return solution[:, :-1], solution[:, -1:], _condition(singular, RCOND, shape[1])

    return _in_chunks(solve, features, targets, weights)


def _machine(
    classifier: Any, regressor: Any, features: npt.NDArray[Any], targets: npt.NDArray[Any], weights: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Return weights and bias ``(D + 1,)`` of one output, from features ``(R, D)``, targets and weights ``(R,)``."""
    are_classes = bool((np.abs(targets) == 1).all())
    mean, offset = np.average(features, axis=0, weights=weights), np.average(targets, weights=weights)
    deviation = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights).mean())
    spread = np.sqrt(np.average((targets - offset) ** 2, weights=weights))
    if deviation <= ROUNDING * np.abs(features).max() or spread <= ROUNDING * np.abs(targets).max():
        # Nothing to tell rows apart by, or nothing to tell apart.
        return np.append(np.zeros(features.shape[1]), offset)
    machine = classifier if are_classes else regressor
    if are_classes:
        offset, spread = 0.0, 1.0
    machine.fit((features - mean) / deviation, (targets - offset) / spread, sample_weight=weights)
    weight = machine.coef_[0] * (spread / deviation)
    return np.append(weight, offset + spread * machine.intercept_[0] - mean @ weight)


def _in_chunks(solve: _Solve, features: Tensor, targets: Tensor, weights: Tensor | None) -> Readout:
    """Return the readouts of all networks, solved some at a time where that saves memory traffic.

    Args:
        solve: Takes features ``(P, R, D)``, targets ``(P, R, Y)`` and roots of weights ``(P, R, 1)``, all finite and
            float64, to weights ``(P, D, Y)``, biases ``(P, 1, Y)`` and conditions ``(P,)``.
        features: As for ``least_squares``, like those that follow.
        targets: The same.
        weights: The same.
    """
    targets, roots = _check(features, targets, weights)
    many = len(features) if features.device.type != "cpu" else max(1, _CHUNK // features[0].numel())
    chunks = zip(features.split(many), targets.split(many), roots.split(many), strict=True)
    parts = [_one_chunk(solve, *chunk) for chunk in chunks]
    return Readout(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _check(features: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the targets ``(P, R, Y)`` and the roots of the weights ``(P, R, 1)``; refuse what doesn't fit."""
    if features.dim() != 3 or 0 in features.shape:
        raise ValueError(
            f"The features have the shape {tuple(features.shape)}; it must be (networks, rows, features), none 0."
        )
    population, rows, _ = features.shape
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
    if not bool((weights >= 0).all() & weights.isfinite().all()):
        raise ValueError(
            f"The weights lie in {float(weights.min())} to {float(weights.max())}; they must be 0 or more."
        )
    return targets, weights.sqrt().expand(population, rows).unsqueeze(-1)


def _one_chunk(solve: _Solve, features: Tensor, targets: Tensor, roots: Tensor) -> Readout:
    """Solve some networks; rows of weight 0 may hold anything; features that are not finite become zeros."""
    features, targets = features.double(), targets.double()
    if not bool(roots.all()):
        features, targets = (torch.where(roots > 0, values, 0.0) for values in (features, targets))
    if not bool(targets.isfinite().all()):
        raise ValueError("A target is not finite; give its row the weight 0 if there is none.")
    failed = ~features.sum((1, 2)).isfinite()  # One pass; a sum out of range could not be solved either.
    nothing = failed.view(-1, 1, 1)
    if bool(failed.any()):
        features = features.masked_fill(nothing, 0.0)
    weight, bias, condition = solve(features, targets, roots)
    return Readout(
        weight.masked_fill(nothing, torch.nan),
        bias.masked_fill(nothing, torch.nan),
        condition.masked_fill(failed, torch.inf),
    )


def _solve(
    both: Tensor, size: int, keep: Callable[[Tensor], Tensor], *, penalty: float | None
) -> tuple[Tensor, Tensor]:
    """Return the solution ``(P, D, Y)`` of [Φ | D] ``(P, R, D + Y)`` and its singular values ``(P, K)``, largest first.

    Φ is the first ``size`` columns. The triangle of [Φ | D] holds that of Φ and, beside it, Q'D: Q itself is not
    needed. ``keep`` tells from the singular values which directions count.
    """
    triangle = torch.linalg.qr(both, mode="r").R[:, :size]
    left, singular, right = torch.linalg.svd(triangle[..., :size], full_matrices=False)
    kept = keep(singular)
    strength = 0.0 if penalty is None else penalty * singular.square().sum(1, keepdim=True) / size
    safe = torch.where(kept, singular, 1.0)
    inverse = torch.where(kept, safe / (safe.square() + strength), 0.0)
    rotated = left.transpose(1, 2) @ triangle[..., size:]
    return right.transpose(1, 2) @ (inverse.unsqueeze(-1) * rotated), singular


def _mean(values: Tensor, roots: Tensor) -> Tensor:
    """Return the weighted mean ``(P, 1, K)`` of values ``(P, R, K)``, 0 where nothing has weight."""
    total = roots.square().sum(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    return (values * roots.square()).sum(1, keepdim=True) / total


def _least(features: Tensor, roots: Tensor) -> Tensor:
    """Return ``(P, 1)``, up to where singular values of centred features are rounding."""
    size: Tensor = torch.linalg.vector_norm(features * roots, dim=(1, 2))
    return ROUNDING * size.unsqueeze(1)


def _condition(singular: Tensor, rcond: float, size: int) -> Tensor:
    """Return the condition ``(P,)`` for ``size`` directions, of which fewer than that many rows span only some."""
    largest, smallest = singular[:, 0], singular[:, -1]
    lost = (smallest <= rcond * largest) | (singular.shape[1] < size)
    return torch.where(lost, torch.inf, largest / torch.where(lost, 1.0, smallest))
