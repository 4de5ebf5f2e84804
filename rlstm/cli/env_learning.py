"""What an agent without memory learns in a short run: whether the env trains at all, and what memory could add."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from gymnasium.envs.registration import EnvSpec

from rlstm.cli.tables import Bound, number
from rlstm.vector.make import EnvConfig

__all__ = ["REFERENCES", "ShortRun", "references", "train_without_memory"]

REFERENCES = ("memoryless_return", "optimal_return")
_SECONDS = 10.0
_BESIDE = {"random_return": "random play", "memoryless_return": "best without memory", "optimal_return": "best of all"}


def references(env: Any) -> dict[str, float | None]:
    """Return what an env, unwrapped, declares as the best returns with and without memory; None if it doesn't.

    They hold for episodes with a newly drawn task: with one that is kept, as in trials, more may be possible.
    """
    values: dict[str, float | None] = dict.fromkeys(REFERENCES)
    for name in REFERENCES:
        reference = getattr(env, name, None)
        value = getattr(reference, "value", reference)
        if isinstance(value, (int, float)):
            values[name] = Bound(value) if getattr(reference, "kind", "exact") == "bound" else float(value)
    return values


class ShortRun(NamedTuple):
    """How a short run ended."""

    steps: int
    mean_return: float | None  # Of the last episodes; None if none has ended.

    def beside(self, measured: Mapping[str, Any]) -> str:
        """Return a phrase with the return beside what else is known of the env."""
        if self.mean_return is None:
            return f"trains, but no episode ended within {self.steps:,} steps, so no return is known"
        known = [f"{what}: {number(measured[name])}" for name, what in _BESIDE.items() if measured[name] is not None]
        reached = f"PPO without memory reaches a return of {self.mean_return:.4g} in {self.steps:,} steps"
        return f"{reached} ({', '.join(known)})" if known else reached


def train_without_memory(spec: EnvSpec, config: EnvConfig, steps: int) -> ShortRun:
    """Train PPO without a memory cell, for so many steps or 10 seconds, whichever comes first.

    Args:
        spec: The env.
        config: Its arguments and how many are stepped.
        steps: Environment steps, rounded up to whole rollouts.

    Raises:
        EnvironmentFailure: If the env breaks.
        NonFiniteError: If the training diverges.
        ValueError: If the env has something that can't be trained.
    """
    from rlstm.agents import load_agent
    from rlstm.api.experiments import make_config
    from rlstm.training.on_policy import Training

    names = ("env", "env_kwargs", "env_import", "env_wrappers", "num_envs", "vectorization")
    settings = {name: getattr(config, name) for name in names}
    experiment = make_config("ppo", cell="none", total_steps=max(1, steps), device="cpu", **settings)
    began = time.perf_counter()
    with contextlib.closing(Training(experiment, load_agent("ppo")[0], spec)) as training:
        while training.step < steps and time.perf_counter() - began < _SECONDS:
            training.update()
        return ShortRun(training.step, training.result(interrupted=False).mean_return)
