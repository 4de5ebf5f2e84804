"""What is measured of the policy head's outputs z ``(P,)``, and what it is compared with.

Targets are ``(P,)`` in the units of the head: numbers as they are, and for choices 1 at the right one and -1 at the
others, ``ActionDistribution.targets``. Measured are M numbers y, wanted are d, and S = ∂y / ∂z ``(M, P)``::

    action space             measured       y                     d        S
    Box                                     the means z           target   I
    choices of 2             probabilities  p = σ(z_1 - z_0)      1 or 0   p (1 - p) at z_1, minus it at z_0
    choices of n > 2         probabilities  the n softmax p       1 or 0   diag(p) - p p'
    MultiBinary, each bit    probabilities  p = σ(z)              1 or 0   p (1 - p)
    choices of 2             outputs        (z_1 - z_0) / 2       1 or -1  1/2 at z_1, -1/2 at z_0
    choices of n > 2, bits   outputs        z                     1 or -1  I

Choices are those of Discrete and MultiDiscrete. Of a choice of 2 one number is measured, since the two would tell the
same. Probabilities are as the policy draws them; right ones near 0 or 1 no longer teach. Outputs go on being taught,
which is regression, as the readouts of Evolino are.
"""

from __future__ import annotations

import numpy as np

from rlstm.losses.kalman.covariance import Floats
from rlstm.losses.kalman.settings import Measured
from rlstm.policies.distributions import ActionDistribution, Bernoulli, Categorical, Gaussian, MultiCategorical


class Measurement:
    """Compares outputs with targets.

    Args:
        distribution: That of the actions.
        measured: What of a choice is measured.

    Raises:
        ValueError: If the actions are of another family.
    """

    def __init__(self, distribution: ActionDistribution, measured: Measured) -> None:
        self.sizes = _sizes(distribution)
        size = distribution.num_parameters
        rows, squashed, start = [], [], 0
        for choice in self.sizes if self.sizes is not None else [1] * size:
            eye = np.eye(size)[start : start + choice]
            rows.append(eye[1:] - eye[:1] if choice == 2 else eye)
            squashed.append(slice(sum(map(len, rows[:-1])), sum(map(len, rows))))
            start += choice
        self._contrasts: Floats = np.concatenate(rows)  # (M, P): z_1 - z_0 for a choice of 2, else z itself.
        self._halves: Floats = np.abs(self._contrasts).sum(1)  # 2 for a choice of 2, else 1.
        self._choices = squashed
        self._is_squashed = self.sizes is not None and measured == "probabilities"

    @property
    def count(self) -> int:
        """M."""
        return len(self._contrasts)

    def __call__(self, outputs: Floats, targets: Floats) -> tuple[Floats, Floats]:
        """Return the innovation d - y ``(M,)`` and the slopes S ``(M, P)`` for z and targets ``(P,)``."""
        values, wanted = self._contrasts @ outputs, self._contrasts @ targets / self._halves
        if not self._is_squashed:
            return wanted - values / self._halves, self._contrasts / self._halves[:, None]
        wanted = (wanted + 1.0) / 2.0
        probabilities, slopes = np.empty_like(values), np.zeros((self.count, self.count))
        for rows in self._choices:
            p = _softmax(values[rows]) if rows.stop - rows.start > 1 else _logistic(values[rows])
            is_alone = len(p) == 1
            slopes[rows, rows] = p * (1 - p) if is_alone else np.diag(p) - np.outer(p, p)
            probabilities[rows] = p
        return wanted - probabilities, slopes @ self._contrasts


def _sizes(distribution: ActionDistribution) -> list[int] | None:
    """Return the number of outputs of each choice, 1 for a bit; None for numbers."""
    if isinstance(distribution, Gaussian):
        return None
    if isinstance(distribution, Categorical):
        return [distribution.num_parameters]
    if isinstance(distribution, MultiCategorical):
        return distribution.sizes
    if isinstance(distribution, Bernoulli):
        return [1] * distribution.num_parameters
    raise ValueError(
        f"The Kalman filter has no answers of a {type(distribution).__name__} to compare with; it takes actions of a "
        "Box, Discrete, MultiDiscrete or MultiBinary. Use another --optimizer."
    )


def _softmax(values: Floats) -> Floats:
    exponentials: Floats = np.exp(values - values.max())
    exponentials /= exponentials.sum()
    return exponentials


def _logistic(values: Floats) -> Floats:
    return 0.5 + 0.5 * np.tanh(0.5 * values)
