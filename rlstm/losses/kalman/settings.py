"""The settings of the decoupled extended Kalman filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Derivatives = Literal["full", "truncated"]
Groups = Literal["unit", "all"]
Measured = Literal["probabilities", "outputs"]


@dataclass(frozen=True)
class KalmanConfig:
    """The decoupled extended Kalman filter."""

    measurement_noise: float = 100.0
    """R at the start, a variance: the larger, the smaller the steps."""

    final_measurement_noise: float = 1.0
    """R at the end of the run."""

    process_noise: float = 1e-2
    """Q at the start, the variance that each weight gains in a step: with 0 the steps die out."""

    final_process_noise: float = 1e-6
    """Q at the end of the run."""

    first_variance: float = 100.0
    """Of each weight: how far from its first value it may be."""

    weight_noise: float = 0.0
    """Deviation of what is added to each weight of encoder and memory while a sequence is read."""

    groups: Groups = "unit"
    """What shares a covariance: all weights into a unit, or all weights there are."""

    derivatives: Derivatives = "full"
    """Whether a memory's derivatives are carried through all of the recurrence, or along each unit's own memory."""

    measured: Measured = "probabilities"
    """What of a choice is compared with 1 or 0: its probability; or its output with 1 or -1."""

    def __post_init__(self) -> None:
        """Refuse variances out of range."""
        for name in ("measurement_noise", "final_measurement_noise", "first_variance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be more than 0.")
        if not self.weight_noise >= 0:
            raise ValueError(f"weight_noise is {self.weight_noise}; it must not be negative.")
        noises = self.process_noise, self.final_process_noise
        if min(noises) < 0 or (min(noises) == 0) != (max(noises) == 0):
            raise ValueError(
                f"process_noise is {noises[0]:g} and final_process_noise {noises[1]:g}: both must be more than 0, or "
                "both 0."
            )

    def noises(self, progress: float) -> tuple[float, float]:
        """Return R and Q at a ``progress`` from 0 to 1: they go geometrically from their first to their last value."""
        return (
            _geometric(self.measurement_noise, self.final_measurement_noise, progress),
            _geometric(self.process_noise, self.final_process_noise, progress),
        )


def _geometric(start: float, end: float, progress: float) -> float:
    return start if start == end else float(start * (end / start) ** min(1.0, max(0.0, progress)))
