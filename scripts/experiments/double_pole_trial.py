"""Play the longest test of double pole balancing, 100,000 steps from the start, for many networks, a part at a time.

A step of one env costs almost as much as one of fifty. So networks that are to be tested gather here, whatever step
each has come to, while others still evolve.

Letters in shapes: P = networks, N = genes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstm.core.trees import tree_map
from rlstm.envs.control.pole_balancing import PoleBalancing
from rlstm.envs.control.pole_generalisation import standard_start
from scripts.experiments.double_pole_bench import Actor, Bench

__all__ = ["MANY_STEPS", "LongTrial"]

MANY_STEPS = 100_000


class LongTrial:
    """Networks on trial, and where their carts and poles are.

    Args:
        bench: What they are networks of.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.genomes: Tensor | None = None  # (P, N)
        self.state: Any = None  # Leaves (P, ...), what they remember.
        start = PoleBalancing(1)
        self.coordinates, self.velocities = start.coordinates[:0], start.velocities[:0]  # (P, 3)
        self.steps = np.zeros(0, dtype=np.int64)  # (P,) that they have stood.

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, genome: Tensor) -> None:
        """Put a network ``(N,)`` on trial, as the last one."""
        genome = genome.unsqueeze(0)
        fresh = self.bench.acting_snapshot(genome).init_state(1)
        if self.genomes is None:
            self.genomes, self.state = genome, fresh
        else:
            self.genomes = torch.cat([self.genomes, genome])
            self.state = tree_map(lambda old, new: torch.cat([old, new]), self.state, fresh)
        start = standard_start()
        self.coordinates = np.concatenate([self.coordinates, start[:, 0::2]])
        self.velocities = np.concatenate([self.velocities, start[:, 1::2]])
        self.steps = np.append(self.steps, 0)

    def advance(self, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Play so many steps more, or fewer if one would come to more than all of them.

        Returns:
            Which networks fell and which stood to the end, (P,) each, of those on trial; both leave it.
        """
        if len(self) == 0 or self.genomes is None:
            return np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
        num_steps = min(num_steps, MANY_STEPS - int(self.steps.max()))
        task = PoleBalancing(len(self), max_steps=num_steps + 1)
        task.coordinates, task.velocities = self.coordinates, self.velocities
        fallen = np.zeros(len(self), dtype=bool)
        act = Actor(self.bench, self.genomes, 1, self.state)
        for _ in range(num_steps):
            fallen |= task.step(act(task.observe())).terminated
            if fallen.all():
                break
        self.steps = self.steps + num_steps
        ended = ~fallen & (self.steps >= MANY_STEPS)
        self._keep(~fallen & ~ended, act.state, task)
        return fallen, ended

    def _keep(self, kept: np.ndarray, state: Any, task: PoleBalancing) -> None:
        rows = torch.from_numpy(kept)
        self.genomes = None if self.genomes is None or not kept.any() else self.genomes[rows]
        self.state = tree_map(lambda leaf: leaf[rows], state)
        self.coordinates, self.velocities = task.coordinates[kept], task.velocities[kept]
        self.steps = self.steps[kept]
