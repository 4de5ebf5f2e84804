"""Random play, and what it has seen, for the checks of ``env_checks``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlstm.core.seeding import generator, integer_seeds
from rlstm.core.trees import Tree, tree_leaves
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.adapter import EnvStep, VectorEnvs

__all__ = ["Play", "first_difference", "outside", "play_on", "reset"]


@dataclass
class Play:
    """What random play has seen."""

    lengths: list[int] = dataclasses.field(default_factory=list)
    returns: list[float] = dataclasses.field(default_factory=list)
    truncations: int = 0
    successes_known: bool = False
    steps: int = 0
    seconds: float = 0.0
    trace: list[EnvStep] = dataclasses.field(default_factory=list)  # If it is recorded.


def reset(envs: VectorEnvs) -> EnvStep:
    """Reset the envs, with the same seeds each time."""
    return envs.reset(integer_seeds(0, "check", envs.num_envs))


def play_on(
    envs: VectorEnvs, policy: RecurrentPolicy, outcome: EnvStep, steps: int, *, seconds: float, record: bool = False
) -> Play:
    """Play on at random after ``outcome``, the same actions each time.

    Args:
        envs: What is played.
        policy: Its distribution is drawn from.
        outcome: Of the last step or reset.
        steps: At most, in each env.
        seconds: At most.
        record: Whether every step is kept.

    Returns:
        What was seen; its time is that of the env alone.
    """
    play, began = Play(), time.perf_counter()
    source = generator(0, "check")
    lengths, returns = np.zeros(envs.num_envs, dtype=np.int64), np.zeros(envs.num_envs)
    parameters = torch.zeros(envs.num_envs, policy.distribution.num_parameters)
    while play.steps < steps and time.perf_counter() - began < seconds:
        masks = None if outcome.action_masks is None else torch.from_numpy(outcome.action_masks)
        with torch.inference_mode():
            actions = policy.distribution.sample(parameters, masks, source)[0]
        to_env = policy.distribution.to_env(actions)
        before = time.perf_counter()
        outcome = envs.step(to_env)
        play.seconds += time.perf_counter() - before
        play.steps += 1
        lengths += 1
        returns += outcome.rewards
        play.lengths += lengths[outcome.finished].tolist()
        play.returns += returns[outcome.finished].tolist()
        lengths[outcome.finished], returns[outcome.finished] = 0, 0.0
        play.truncations += int(outcome.truncated.sum())
        play.successes_known |= bool((~np.isnan(outcome.successes)).any())
        if record:
            play.trace.append(outcome)
    return play


def first_difference(one: Play, other: Play) -> int | None:
    """Return the first step, counted from 1, at which two recorded plays differ."""
    for step, (left, right) in enumerate(zip(one.trace, other.trace, strict=False), start=1):
        parts = ("observations", "rewards", "terminated", "truncated", "final_observations")
        pairs = ((tree_leaves(getattr(left, part)), tree_leaves(getattr(right, part))) for part in parts)
        if any(len(a) != len(b) or not all(map(np.array_equal, a, b)) for a, b in pairs):
            return step
    return None


def outside(space: spaces.Space[Any], observations: Tree, place: str = "an observation") -> Iterator[str]:
    """Yield what lies beyond the bounds of its space; observations ``(B, ...)`` may be None."""
    if observations is None:
        return
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from outside(part, observations[key], f"{place}['{key}']")
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from outside(part, observations[index], f"{place}[{index}]")
    elif isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        low, high = _bounds(space)
        values = np.asarray(observations)
        wrong = (values < low) | (values > high)
        if wrong.any():
            yield f"{place} holds {values[wrong][0]}, outside {space}"


def _bounds(space: spaces.Space[Any]) -> tuple[Any, Any]:
    if isinstance(space, spaces.Box):
        return space.low, space.high
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    return (space.start, space.start + space.nvec - 1) if isinstance(space, spaces.MultiDiscrete) else (0, 1)
