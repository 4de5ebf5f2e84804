"""What the checks of contracts share."""

from __future__ import annotations

import torch
from torch import Tensor


class ContractError(AssertionError):
    """A class breaks its contract; the message says which part and how."""


def require(holds: bool, message: str) -> None:
    """Raise a ``ContractError`` with the message unless it holds."""
    if not holds:
        raise ContractError(message)


def require_close(got: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Require equal shapes, and a difference within ``tolerance`` of the largest value where that is above 1."""
    require(got.shape == expected.shape, f"{what}: shape {tuple(got.shape)}, expected {tuple(expected.shape)}.")
    difference = _difference(got, expected)
    require(difference <= tolerance, f"{what}: off by {difference:.2g}, more than {tolerance:.2g}.")


def _difference(got: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest expected value where that is above 1; NaN is infinite."""
    if not expected.numel():
        return 0.0
    scale = max(1.0, float(expected.detach().abs().max()))
    return float((got.detach() - expected.detach()).abs().max().nan_to_num(nan=torch.inf)) / scale
