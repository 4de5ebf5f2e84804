"""Envs by their number: populations of different sizes play, and each size needs a vector env of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rlstm.vector.adapter import VectorEnvs


class EnvPool:
    """Makes vector envs, by ``make(num_envs=...)``, when first needed and keeps them; a pickled pool holds none."""

    def __init__(self, make: Callable[..., VectorEnvs]) -> None:
        self._make = make
        self._made: dict[int, VectorEnvs] = {}

    def __call__(self, num_envs: int) -> VectorEnvs:
        """Return the vector env of ``num_envs`` envs."""
        if num_envs not in self._made:
            self._made[num_envs] = self._make(num_envs=num_envs)
        return self._made[num_envs]

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process makes a pool of the same envs."""
        return EnvPool, (self._make,)

    def close(self, num_envs: int | None = None) -> None:
        """Close all envs, or the vector env of ``num_envs`` envs if there is one."""
        for number in list(self._made) if num_envs is None else self._made.keys() & {num_envs}:
            self._made.pop(number).close()
