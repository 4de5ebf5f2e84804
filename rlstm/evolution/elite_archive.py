"""An archive of the best trajectories played so far, from which readouts are solved without a teacher.

The readout is fitted to what was done in them, a trajectory the more the more it returned: reward-weighted regression
(J. Peters, S. Schaal, "Reinforcement learning by reward-weighted regression for operational space control", ICML 2007),
with the best trajectories of all generations kept (J. Kober, J. Peters, "Policy search for motor primitives in
robotics", NIPS 21, 2009: PoWER).

Here a trajectory weighs by its return relative to the others that are kept, (R - worst) / (best - worst), so neither
scale nor offset of rewards matters, and every step of it is a row: longer trajectories have more. A return is that of
one trajectory, never a mean: where tasks or envs are random the archive prefers lucky ones, and keeps those of easy
tasks.

In a few runs (T-maze, CartPole without velocities) this took far fewer steps than evolving the readout, and memories
drawn at random did nearly as well as evolved ones; on Pendulum without velocities it was no better than evolving the
readout. Where noise never succeeds there is nothing to imitate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rlstm.evaluation.demonstrations import Demonstrations
from rlstm.evaluation.teacher_sequences import TeacherSequences, teacher_sequences_from_demonstrations
from rlstm.policies.policy import RecurrentPolicy

LEAST_WEIGHT = 1e-3
"""Of the worst trajectory that is kept; of the best it is 1. So there is always something to solve."""


class EliteArchive:
    """Keeps the best trajectories that it was offered, ``capacity`` K of them, at least 1."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.trajectories: Demonstrations | None = None  # Best first.

    def offer(self, trajectories: Demonstrations) -> None:
        """Keep those of the trajectories that are better than the worst kept; of equals the ones offered first."""
        known = trajectories if self.trajectories is None else self.trajectories.joined(trajectories)
        best = np.argsort(-known.returns, kind="stable")[: self.capacity]
        self.trajectories = known.select(best)

    @property
    def returns(self) -> npt.NDArray[np.float64]:
        """What the trajectories returned, ``(K,)`` or fewer, best first."""
        return np.zeros(0) if self.trajectories is None else self.trajectories.returns

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """What the trajectories weigh, as ``returns``: from ``LEAST_WEIGHT`` to 1, and 1 where all are equal."""
        returns = self.returns
        spread = float(np.ptp(returns)) if len(returns) else 0.0
        relative = (returns - returns.min()) / spread if spread > 0 else np.ones_like(returns)
        return np.maximum(relative, LEAST_WEIGHT)

    def teacher_sequences(self, policy: RecurrentPolicy, *, washout: int) -> TeacherSequences:
        """Return the trajectories as teacher sequences: at every observation what was done should be answered.

        Raises:
            ValueError: If there are none yet.
        """
        if self.trajectories is None:
            raise ValueError("There are no elite episodes yet: offer some before a readout is solved from them.")
        sequences = teacher_sequences_from_demonstrations(policy, self.trajectories, washout=washout)
        return sequences._replace(weights=sequences.weights * torch.from_numpy(self.weights))

    def state_dict(self) -> dict[str, Any]:
        """Return the trajectories as plain data."""
        return {"lives": None if self.trajectories is None else dict(vars(self.trajectories))}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self.trajectories = None if values["lives"] is None else Demonstrations(**values["lives"])
