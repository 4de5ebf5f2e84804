"""An archive of the best lives played so far, from which readouts are solved where nobody teaches.

The readout is fitted to what was done in them, a life the more the more it returned: reward-weighted regression (J.
Peters, S. Schaal, "Reinforcement learning by reward-weighted regression for operational space control", ICML 2007),
with the best lives of all generations kept (J. Kober, J. Peters, "Policy search for motor primitives in robotics", NIPS
21, 2009: PoWER).

Here a life weighs by its return relative to the others that are kept, (R - worst) / (best - worst), so neither scale
nor offset of rewards matters, and every step of it is a row: longer lives have more. A return is that of one life,
never a mean: where tasks or envs are random the memory prefers the lucky, and an easy task is no merit.

In a few runs (T-maze, CartPole without velocities) this took far fewer steps than evolving the readout, and memories
drawn at random did nearly as well as evolved ones; on Pendulum without velocities it was no better than evolving the
readout. Where noise never succeeds there is nothing to imitate.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rlstm.evaluation.demonstrations import Demonstrations
from rlstm.evolution.teacher_sequences import TeacherSequences, teacher_sequences_from_demonstrations
from rlstm.policies.policy import RecurrentPolicy

__all__ = ["EliteArchive"]

LEAST_WEIGHT = 1e-3
"""Of the worst life that is kept; of the best it is 1. So there is always something to solve, and no more than that."""


class EliteArchive:
    """A memory of the K best lives that it was offered.

    Args:
        capacity: K, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.lives: Demonstrations | None = None  # Best first.

    def offer(self, lives: Demonstrations) -> None:
        """Keep those of the lives that are better than the worst kept; of equals who came first."""
        known = lives if self.lives is None else self.lives.joined(lives)
        best = np.argsort(-known.returns, kind="stable")[: self.capacity]
        self.lives = known.select(best)

    @property
    def returns(self) -> npt.NDArray[np.float64]:
        """What the lives returned, ``(K,)`` or fewer, best first."""
        return np.zeros(0) if self.lives is None else self.lives.returns

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """What the lives weigh, as ``returns``: from ``LEAST_WEIGHT`` to 1, and 1 where all are equal."""
        returns = self.returns
        spread = float(np.ptp(returns)) if len(returns) else 0.0
        relative = (returns - returns.min()) / spread if spread > 0 else np.ones_like(returns)
        return np.maximum(relative, LEAST_WEIGHT)

    def lessons(self, policy: RecurrentPolicy, *, washout: int) -> TeacherSequences:
        """Return the lives as lessons: at every observation what was done should be answered.

        Raises:
            ValueError: If there are none yet.
        """
        if self.lives is None:
            raise ValueError("There are no elite episodes yet: offer some before a readout is solved from them.")
        lessons = teacher_sequences_from_demonstrations(policy, self.lives, washout=washout)
        return lessons._replace(weights=lessons.weights * torch.from_numpy(self.weights))

    def metrics(self) -> dict[str, float]:
        """Return by their tags what is kept."""
        returns = self.returns
        return {
            "evolino/elites": float(len(returns)),
            "evolino/elites_mean": float(returns.mean()),
            "evolino/elites_worst": float(returns[-1]),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the lives as plain data."""
        lives = self.lives
        fields = dataclasses.fields(Demonstrations)
        return {"lives": None if lives is None else {field.name: getattr(lives, field.name) for field in fields}}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        self.lives = None if values["lives"] is None else Demonstrations(**values["lives"])
