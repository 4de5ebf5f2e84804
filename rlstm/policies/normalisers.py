"""Running normalisers: mean and variance of all that was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rlstm.core.ranks import ALONE, Ranks

_CLIP = 10.0  # What is normalised is clipped to ±10 standard deviations.


class RunningMoments(nn.Module):
    """Mean and variance of everything seen so far, per feature (Chan, Golub & LeVeque 1979).

    The statistics are float64 buffers: saved with the weights, changed by ``update`` alone.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def _apply(self, fn: Any, recurse: bool = True) -> RunningMoments:
        """Move to a device like any module, but stay as exact as before when the weights change their type."""
        exact = {name: getattr(self, name) for name in ("mean", "variance", "count")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in exact.items():
            after = getattr(self, name)
            if after.dtype != torch.float64:  # Rounded: take the exact values instead.
                setattr(self, name, before.to(after.device))
        return self

    def normalise(self, features: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return (x - mean)/σ for ``(..., size)``, clipped to ±10; before the first update mean 0 and σ 1.

        The result is of the type named, or that of the features.
        """
        return self.snapshot(features.dtype if dtype is None else dtype)(features)

    def snapshot(self, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """Return ``normalise`` with the present statistics, for results of a type.

        Features of float64 are float64 until they are normalised: 1.7e9 and a signal of 1 are one number in float32.
        """
        exact = self.mean.clone(), (self.variance + 1e-8).rsqrt()
        rounded = exact[0].to(dtype), exact[1].to(dtype)

        def normalise(features: Tensor) -> Tensor:
            mean, scale = exact if features.dtype == torch.float64 else rounded
            return ((features - mean) * scale).clamp_(-_CLIP, _CLIP).to(dtype)

        return normalise

    @torch.no_grad()
    def update(self, samples: Tensor, ranks: Ranks = ALONE) -> None:
        """Take in ``samples`` ``(N, size)``, those of all ranks; none at all change nothing."""
        for count, mean, squares in ranks.gather(_summary(samples.double())):
            if count:
                self._merge(count, mean.to(self.mean), squares.to(self.mean))

    def _merge(self, count: float, mean: Tensor, squares: Tensor) -> None:
        """Take in so many samples by their mean and the sum of the squares about it, ``(size,)``."""
        total = self.count + count
        delta = mean - self.mean
        squares = squares + self.variance * self.count + delta.square() * self.count * count / total
        self.mean.add_(delta * count / total)
        self.variance.copy_(squares / total)
        self.count.copy_(total)


def _summary(samples: Tensor) -> tuple[float, Tensor, Tensor]:
    """Return the number of samples ``(N, size)``, their mean and the sum of the squares about it, ``(size,)``."""
    mean = samples.mean(0)
    return float(len(samples)), mean, (samples - mean).square().sum(0)
