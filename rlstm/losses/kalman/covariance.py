"""The filter itself: weights in groups, each with a covariance of its own.

Weights are numbered n = 0 .. N - 1, groups i = 0 .. G - 1, and the numbers that are measured at a step m = 0 .. M - 1.
Group i has N_i weights w_i; the groups share no weight, and together they have all N. Measured is y, wanted d. With
H_i = (∂y / ∂w_i)', ``(N_i, M)``, at the weights before the step, the step is

    A    = (R I + Σ_i H_i' P_i H_i)^-1               (M, M), the global scaling matrix, over i = 0 .. G - 1
    K_i  = P_i H_i A                                 (N_i, M), the gain
    w_i ← w_i + K_i ξ,    ξ = d - y                  (N_i,), the innovation ξ is (M,)
    P_i ← P_i - K_i H_i' P_i + Q I                   (N_i, N_i), the covariance

from P_i = I times its first variance. R > 0 is the variance of the noise of a measurement, Q >= 0 that which each
weight gains by drifting. A group sees the others through A alone: covariances between groups are taken to be 0. That
takes Σ N_i² numbers instead of N². With one group it is the extended Kalman filter.

P_i stays symmetric because it is replaced by (P_i + P_i') / 2 after every step, and positive definite because A is at
most (R I + H_i' P_i H_i)^-1: what is subtracted from P_i is at most what the filter of that group alone subtracts.

Sources: G. V. Puskorius, L. A. Feldkamp, *Neurocontrol of nonlinear dynamical systems with Kalman filter trained
recurrent networks*, IEEE Transactions on Neural Networks 5(2), 1994, equations 5 to 8; J. A. Pérez-Ortiz, F. A. Gers,
D. Eck, J. Schmidhuber, *Kalman filters improve LSTM network performance in problems unsolvable by traditional recurrent
nets*, Neural Networks 16(2), 2003.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rlstm.core.errors import NonFiniteError

Floats = npt.NDArray[np.float64]

LARGEST = 2 * 2**30  # Bytes of covariances and sensitivities; a step reads and writes all of them.


class GroupCovariances:
    """The covariances P_i, groups of one size side by side in one array.

    Args:
        groups: G arrays of the numbers of their weights.
        variance: The first variance of a weight.

    Raises:
        ValueError: If the covariances would take more than 2 GiB.
    """

    def __init__(self, groups: Sequence[npt.NDArray[np.int64]], variance: float) -> None:
        check_memory(list(map(len, groups)))
        sizes = sorted({len(group) for group in groups})
        self._indices = [np.stack([group for group in groups if len(group) == size]) for size in sizes]  # (G_k, N_k)
        self.covariances: list[Floats] = [
            np.tile(variance * np.eye(index.shape[1]), (len(index), 1, 1)) for index in self._indices
        ]

    @property
    def trace(self) -> float:
        """The sum of the variances of all weights."""
        return float(sum(covariance.trace(axis1=1, axis2=2).sum() for covariance in self.covariances))

    def update(
        self, weights: Floats, jacobian: Floats, innovation: Floats, *, measurement_noise: float, process_noise: float
    ) -> None:
        """Take one step, in place.

        Args:
            weights: w ``(N,)``.
            jacobian: ∂y / ∂w ``(M, N)``.
            innovation: ξ ``(M,)``.
            measurement_noise: R.
            process_noise: Q.

        Raises:
            NonFiniteError: If A is not finite; the weights are as before.
        """
        products = []
        inverse = measurement_noise * np.eye(len(innovation))
        for index, covariance in zip(self._indices, self.covariances, strict=True):
            slopes = jacobian[:, index].transpose(1, 2, 0)  # H_i of the groups: (G_k, N_k, M)
            product = covariance @ slopes  # P_i H_i
            inverse += (slopes.transpose(0, 2, 1) @ product).sum(0)
            products.append(product)
        scaling = _inverted(inverse)
        for index, covariance, product in zip(self._indices, self.covariances, products, strict=True):
            gain = product @ scaling
            weights[index] += gain @ innovation
            covariance -= gain @ product.transpose(0, 2, 1)
            symmetrise(covariance)
            _diagonals(covariance)[:] += process_noise

    def state_dict(self) -> dict[str, Any]:
        """Return the covariances."""
        return {"covariances": [torch.tensor(covariance) for covariance in self.covariances]}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned.

        Raises:
            ValueError: If they are of other groups.
        """
        shapes = [covariance.shape for covariance in self.covariances]
        loaded = [one.numpy().copy() for one in values["covariances"]]
        if [one.shape for one in loaded] != shapes:
            raise ValueError(
                f"The covariances are of shapes {[one.shape for one in loaded]}, but this network's are {shapes}: they "
                "belong to another network or to other groups."
            )
        self.covariances = loaded


def check_memory(sizes: Sequence[int], num_states: int = 0) -> None:
    """Refuse groups of these sizes if they would take more than 2 GiB.

    Args:
        sizes: Weights of each group.
        num_states: Numbers in the state, each of which has a derivative with respect to every weight; a step works with
            three copies of these.

    Raises:
        ValueError: With what they would take.
    """
    covariances, sensitivities = sum(8 * size**2 for size in sizes), 3 * 8 * num_states * sum(sizes)
    if covariances + sensitivities > LARGEST:
        raise ValueError(
            f"The covariances of {len(sizes):,} groups of up to {max(sizes):,} weights would take "
            f"{covariances / 2**30:,.1f} GiB, derivatives of the state {sensitivities / 2**30:,.1f} GiB; at most "
            f"{LARGEST / 2**30:g} GiB are allowed. Use a smaller --hidden-size or smaller --encoder-sizes, or another "
            "optimizer."
        )


def symmetrise(covariance: Floats) -> None:
    """Replace each of the matrices ``(G, N, N)`` by the mean of it and its transpose."""
    covariance += covariance.transpose(0, 2, 1).copy()
    covariance *= 0.5


def _diagonals(covariance: Floats) -> Floats:
    """Return a view of the diagonals ``(G, N)`` of ``(G, N, N)``."""
    view: Floats = np.einsum("gnn->gn", covariance)
    return view


def _inverted(matrix: Floats) -> Floats:
    """Return the inverse of a positive definite matrix, symmetric to the last bit."""
    if not np.isfinite(matrix).all():
        raise NonFiniteError(
            "A derivative of the answers with respect to the weights is not finite. Use a larger measurement noise or "
            "a smaller first variance."
        )
    inverse = np.linalg.inv(matrix)
    return (inverse + inverse.T) * 0.5
