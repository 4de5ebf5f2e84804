"""What ``checks`` tries: random play, and a short run without memory.

The run shows whether the env trains at all, and what memory could add.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rlstm.core.number_text import number
from rlstm.core.seeding import generator, integer_seeds
from rlstm.core.trees import Tree, tree_leaves
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.adapter import EnvStep, VectorEnvs
from rlstm.vector.config import EnvConfig

TRAIN_SECONDS = 5.0  # Of a training alone: to import what it needs may take as long again.
_BESIDE = {"random_return": "random play", "memoryless_return": "best without memory", "optimal_return": "best of all"}


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
    """Play on at random after the ``outcome`` of the last step or reset, the same actions each time.

    Play ends after so many steps in each env, or so many seconds. What is seen has the time of the env alone, and if
    ``record`` every step.
    """
    play, began, distribution = Play(), time.perf_counter(), policy.distribution.at_random()
    source = generator(0, "check")
    lengths, returns = np.zeros(envs.num_envs, dtype=np.int64), np.zeros(envs.num_envs)
    parameters = torch.zeros(envs.num_envs, distribution.num_parameters)
    while play.steps < steps and time.perf_counter() - began < seconds:
        masks = None if outcome.action_masks is None else torch.from_numpy(outcome.action_masks)
        with torch.inference_mode():
            noise = distribution.draw_noise((envs.num_envs,), source, parameters)
            actions = distribution.sample(parameters, masks, noise)
        to_env = distribution.to_env(actions)
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


class ShortRun(NamedTuple):
    """How a short run ended."""

    steps: int
    mean_return: float | None  # Of the last episodes; None if none has ended.
    clipped: float | None  # Share of the actions' numbers that lay on a bound at the end; None where none is clipped.
    rate: float  # Environment steps a second, learning included.

    def is_random(self, at_random: float | None) -> bool:
        """Return whether nothing was reached beyond what random play has, within a tenth of it."""
        if self.mean_return is None or at_random is None:
            return False
        return self.mean_return <= at_random + 0.1 * abs(at_random)

    def beside(self, measured: Mapping[str, Any]) -> str:
        """Return a phrase with the return beside what else is known of the env."""
        if self.mean_return is None:
            return f"trains, but no episode ended within {self.steps:,} steps, so no return is known"
        known = [f"{what}: {number(measured[name])}" for name, what in _BESIDE.items() if measured[name] is not None]
        reached = f"PPO without memory reaches a return of {self.mean_return:.4g} in {self.steps:,} steps, "
        reached += f"{self.rate:,.0f} a second"
        return f"{reached} ({', '.join(known)})" if known else reached


def train_without_memory(spec: EnvSpec, config: EnvConfig, steps: int) -> ShortRun:
    """Train PPO without a memory cell, for so many steps or ``TRAIN_SECONDS``, whichever comes first.

    Environment steps are rounded up to whole rollouts.

    Raises:
        EnvironmentFailure: If the env breaks.
        NonFiniteError: If the training diverges.
        ValueError: If the env has something that can't be trained.
    """
    from rlstm.agents import load_agent
    from rlstm.api.configs import make_config
    from rlstm.training.on_policy import Training

    names = ("env", "env_kwargs", "env_import", "env_wrappers", "num_envs", "vectorization")
    settings = {name: getattr(config, name) for name in names}
    experiment = make_config("ppo", cell="none", total_steps=max(1, steps), device="cpu", **settings)
    with contextlib.closing(Training(experiment, load_agent("ppo")[0], spec)) as training:
        began, metrics = time.perf_counter(), dict[str, float]()
        while training.step < steps and time.perf_counter() - began < TRAIN_SECONDS:
            metrics = training.update()[0]
        mean_return = training.result(interrupted=False).mean_return
        rate = training.step / max(time.perf_counter() - began, 1e-9)
        return ShortRun(training.step, mean_return, metrics.get("rollout/clipped_actions"), rate)
