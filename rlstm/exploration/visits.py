"""First visits: which observations an env shows for the first time in its running episode."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rlstm.core.arrays import BoolArray
from rlstm.core.trees import Tree, tree_leaves

Keys = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def keys_of(observations: Tree) -> Keys:
    """Return a hash of 64 bits of each observation ``(T, B, ...)``: equal ones have equal keys.

    Words w of 32 bits are multiplied by random odd numbers a and summed modulo 2⁶⁴ (multilinear hashing). Two
    observations that differ have the same key with a chance of 2⁻³² at most.
    """
    parts = []
    for leaf in tree_leaves(observations):
        exact = leaf + 0.0 if leaf.is_floating_point() else leaf  # -0 is 0.
        rows = np.ascontiguousarray(exact.numpy(force=True)).reshape(*leaf.shape[:2], -1)
        parts.append(rows.view(np.uint8).reshape(*leaf.shape[:2], -1))
    octets = np.concatenate(parts, axis=-1)
    padded = np.zeros((*octets.shape[:2], -(-octets.shape[-1] // 4) * 4), dtype=np.uint8)
    padded[..., : octets.shape[-1]] = octets
    words = padded.view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(0).integers(2**63, size=words.shape[-1], dtype=np.uint64)
    factors = factors * np.uint64(2) + np.uint64(1)
    return _mixed(words @ factors)


def _marks(owners: npt.NDArray[np.int64], keys: Keys) -> Keys:
    """Return numbers that differ where the owner or the key does."""
    return _mixed(keys + owners.astype(np.uint64) * _GOLDEN)


def _mixed(keys: Keys) -> Keys:
    """Return keys of which every bit hangs on all bits (the finaliser of splitmix64; Steele et al. 2014)."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Keys = keys ^ (keys >> np.uint64(31))
    return mixed


class EpisodicVisits:
    """What every env has shown in its running episode, carried from rollout to rollout.

    An episode that has shown more than ``most`` different observations begins to count anew, so that what is carried
    stays bounded where no observation comes twice.
    """

    def __init__(self, most: int = 100_000) -> None:
        self.most = most
        self.envs: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # (N,) ...
        self.keys: Keys = np.zeros(0, dtype=np.uint64)  # ... and what each of them has shown, in the order of marks.

    def first_visits(self, observations: Tree, next_observations: Tree, ends: BoolArray) -> BoolArray:
        """Return ``(T, B)`` where a step led to an observation that the episode had not shown before.

        Args:
            observations: ``(T, B, ...)``, those before the steps.
            next_observations: ``(T, B, ...)``, what they led to; at the end of an episode its last observation.
            ends: ``(T, B)`` bool: the episode ended with the step.
        """
        num_steps, num_envs = ends.shape
        # Each step brings two arrivals: what was there before it, new only where an episode begins, and what came.
        arrivals = np.stack([keys_of(observations), keys_of(next_observations)], axis=1)  # (T, 2, B)
        episodes = np.zeros((num_steps, num_envs), dtype=np.int64)  # Numbered in each env; carried are those of 0.
        episodes[1:] = ends[:-1].cumsum(0)
        places = episodes * num_envs + np.arange(num_envs)
        keys, owners = arrivals.ravel(), np.repeat(places[:, np.newaxis], 2, axis=1).ravel()
        marks, firsts = np.unique(_marks(owners, keys), return_index=True)
        carried = _marks(self.envs, self.keys)
        spots = np.searchsorted(carried, marks)
        is_new = spots == len(carried)
        is_new[~is_new] = carried[spots[~is_new]] != marks[~is_new]
        firsts = firsts[is_new]
        is_first: BoolArray = np.zeros(len(keys), dtype=bool)
        is_first[firsts] = True
        # Keep what belongs to the episodes that go on.
        running = np.where(ends[-1], -1, episodes[-1])
        goes_on = running[self.envs] == 0
        added = firsts[running[owners[firsts] % num_envs] == owners[firsts] // num_envs]
        envs = np.concatenate([self.envs[goes_on], owners[added] % num_envs])
        self._keep(envs, np.concatenate([self.keys[goes_on], keys[added]]), num_envs)
        return is_first.reshape(arrivals.shape)[:, 1]

    def _keep(self, envs: npt.NDArray[np.int64], keys: Keys, num_envs: int) -> None:
        few = np.bincount(envs, minlength=num_envs) <= self.most
        if not few.all():
            envs, keys = envs[few[envs]], keys[few[envs]]
        order = np.argsort(_marks(envs, keys), kind="stable")  # Most of it is in order.
        self.envs, self.keys = envs[order], keys[order]

    def state_dict(self) -> dict[str, Any]:
        """Return what is carried."""
        return {"envs": torch.from_numpy(self.envs.copy()), "keys": torch.from_numpy(self.keys.view(np.int64).copy())}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self.envs, self.keys = values["envs"].numpy().copy(), values["keys"].numpy().copy().view(np.uint64)

    def forget(self) -> None:
        """Begin anew in every env."""
        self.envs, self.keys = self.envs[:0], self.keys[:0]
