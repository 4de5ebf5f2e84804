"""What a memory knows: linear probes from what it holds to what the env hides.

A probe is a ridge regression, cross-validated over episodes, one for every step of an episode: what a layer above could
read. Features are in units of their deviation over all episodes and steps, and the penalty is that of noise of a tenth
of it: a linear map could otherwise amplify the last trace of anything, however faint. A number of few values (at most
8) is classified, by regression on its one-hot vector, and the share of right answers counts; others have R².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlstm.core.arrays import Array, FloatArray, IntArray

_FOLDS, _MOST_CLASSES, _RIDGE = 5, 8, 1e-2
FEWEST = 20  # Episodes that must reach a step for it to be probed.


@dataclass
class Probe:
    """How well one number is told, by the step of the episode."""

    name: str
    measure: str  # "accuracy" or "R²".
    steps: IntArray  # (S,) those that enough episodes reach, and at which the number varies.
    from_memory: FloatArray  # (S,)
    from_observation: FloatArray  # (S,) the same probe on the present observation alone.
    chance: FloatArray  # (S,) share of the most frequent value; 0 for R².


def probe(
    name: str, memories: Sequence[Array], observations: Sequence[Array], targets: Sequence[Array]
) -> Probe | None:
    """Probe one number; None if it varies at no step.

    Args:
        name: Of the number.
        memories: What is held at each step of each episode, ``(T, N)``; the episodes may differ in length.
        observations: What is seen there, ``(T, O)``.
        targets: The number there, ``(T,)``; NaN where it isn't known.
    """
    values = np.unique(np.concatenate(targets))
    values = values[~np.isnan(values)]
    classes = values if len(values) <= _MOST_CLASSES else None
    read, seen = (_scaled(parts) for parts in (memories, observations))
    rows: list[tuple[int, float, float, float]] = []
    for step in range(max(map(len, targets))):
        reached = [i for i, one in enumerate(targets) if len(one) > step and not np.isnan(one[step])]
        wanted = np.array([targets[i][step] for i in reached])
        if len(reached) < FEWEST or len(np.unique(wanted)) < 2:
            continue
        memory, sight = (_score(np.stack([part[i][step] for i in reached]), wanted, classes) for part in (read, seen))
        rows.append((step, memory, sight, _chance(wanted) if classes is not None else 0.0))
    if not rows:
        return None
    steps, from_memory, from_observation, chance = map(np.array, zip(*rows, strict=True))
    return Probe(name, "R²" if classes is None else "accuracy", steps, from_memory, from_observation, chance)


def _scaled(parts: Sequence[Array]) -> list[Array]:
    """Return features in units of their deviation over everything."""
    together = np.concatenate(parts).astype(np.float64)
    mean, deviation = together.mean(0), together.std(0)
    scale = np.where(deviation > 1e-12, deviation, np.inf)
    return [(part - mean) / scale for part in parts]


def _chance(wanted: Array) -> float:
    _, counts = np.unique(wanted, return_counts=True)
    return float(counts.max() / counts.sum())


def _score(features: Array, wanted: Array, classes: Array | None) -> float:
    """Return the cross-validated accuracy or R² of a ridge regression."""
    targets = wanted[:, None] if classes is None else (wanted[:, None] == classes).astype(np.float64)
    predicted = np.empty_like(targets)
    folds = np.arange(len(features)) % _FOLDS
    for fold in range(_FOLDS):
        predicted[folds == fold] = _ridge(features[folds != fold], targets[folds != fold], features[folds == fold])
    if classes is not None:
        return float((classes[predicted.argmax(1)] == wanted).mean())
    residual = float(np.square(wanted - predicted[:, 0]).sum())
    return 1.0 - residual / float(np.square(wanted - wanted.mean()).sum())


def _ridge(features: Array, targets: Array, others: Array) -> Array:
    """Return the predictions for ``others`` of a ridge regression with an intercept."""
    mean, middle = features.mean(0), targets.mean(0)
    centred = features - mean
    strength = _RIDGE * len(features)
    if centred.shape[1] <= len(centred):
        gram = centred.T @ centred + strength * np.eye(centred.shape[1])
        weights = np.linalg.solve(gram, centred.T @ (targets - middle))
    else:  # The same by way of the rows, which are fewer.
        gram = centred @ centred.T + strength * np.eye(len(centred))
        weights = centred.T @ np.linalg.solve(gram, targets - middle)
    predicted: Array = (others - mean) @ weights + middle
    return predicted
