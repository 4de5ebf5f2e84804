"""The plan of a search: what a trial is, how many there are, and how the best are compared at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rlstm.api.configs import config_from_layers
from rlstm.api.tuning.space import Given, Space, base_values, covers, make_space
from rlstm.core.searched import word_of
from rlstm.training.config import ConfigError, ExperimentConfig

Pruner = Literal["median", "halving", "none"]

DEFAULT_TRIALS = 30
_FINAL_SEEDS_FROM = 100_000  # Behind those of all trials.
_PER_MACHINE = ("run_dir", "device", "num_threads")  # May differ between the processes of a study.


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a search goes on, beside the settings of its trials."""

    trials: int | None = None
    """Trials in all. Default: 30, or as many as --budget-steps allows."""

    budget_steps: int | None = None
    """Begin no trial once the trials have taken so many environment steps together."""

    steps_per_trial: int | None = None
    """Environment steps of a trial, and of a run of the final round. Default: --total-steps."""

    evaluations: int = 5
    """Evaluations of a trial, at each of which it may be pruned."""

    pruner: Pruner = "median"
    """End trials early that are worse than the median at an evaluation, or none; halving keeps a third at a time."""

    finalists: int = 3
    """Number of best trials that the final round trains again, beside the settings that the search began with."""

    final_seeds: int = 3
    """Fresh seeds of the final round; the best mean over them wins."""

    def __post_init__(self) -> None:
        """Refuse numbers that leave nothing to do."""
        for name in ("trials", "budget_steps", "steps_per_trial", "evaluations", "finalists", "final_seeds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1.")
        if self.pruner not in get_args(Pruner):
            raise ConfigError(f"pruner is '{self.pruner}'; it must be one of {', '.join(get_args(Pruner))}.")


@dataclass(frozen=True)
class Plan:
    """A search."""

    base: ExperimentConfig[Any]
    """The settings that it begins with, those of a trial included."""

    start: str
    """What these are: a preset, a file, or the default settings."""

    space: Space
    fixed: frozenset[str]
    options: Options

    @property
    def steps(self) -> int:
        """Environment steps of a trial."""
        return self.base.run.total_steps

    @property
    def trials(self) -> int | None:
        """Number of trials, or None if steps alone end the search."""
        options = self.options
        return DEFAULT_TRIALS if options.trials is None and options.budget_steps is None else options.trials

    @property
    def tries_base(self) -> bool:
        """Whether the first trial has the settings that the search begins with."""
        return covers(self.space, self.base)

    def values(self) -> dict[str, Any]:
        """Return the searched settings as the search begins with them."""
        base = base_values(self.base)
        return {name: base[name] for name in self.space}

    def experiment(self, values: Mapping[str, Any], seed: int, run_dir: Path, *, final: bool) -> ExperimentConfig[Any]:
        """Return the experiment of a trial, or of a run of the final round.

        Raises:
            ConfigError: If the values contradict each other.
        """
        own = self.base.settings()
        kept = {"seed": seed, "run_dir": str(run_dir), "eval_every": 0 if final else own["eval_every"]}
        return config_from_layers(self.base.agent, None, own, values, kept)

    def trial_seed(self, number: int) -> int:
        """Return the seed of a trial."""
        return self.base.run.seed + number

    def final_seed(self, index: int) -> int:
        """Return a seed of the final round."""
        return self.base.run.seed + _FINAL_SEEDS_FROM + index

    def definition(self) -> dict[str, Any]:
        """Return what processes that share a study must agree in."""
        settings = {name: word_of_any(value) for name, value in self.base.settings().items()}
        return {
            "agent": self.base.agent,
            **{name: word for name, word in settings.items() if name not in (*_PER_MACHINE, *self.space)},
            **{f"start.{name}": word for name, word in settings.items() if name in self.space},
            **{f"search.{name}": str(tried) for name, tried in self.space.items()},
            "pruner": self.options.pruner,
        }


def make_plan(
    base: ExperimentConfig[Any],
    start: str,
    fixed: Collection[str],
    search: Mapping[str, Given],
    options: Options,
    *,
    only: bool = False,
) -> Plan:
    """Return the plan of a search from the settings that it begins with, see ``make_space``.

    Raises:
        ConfigError: If nothing is evaluated, or steps are given twice.
    """
    run = base.run
    if not run.evaluates:
        raise ConfigError(
            f"A search compares evaluations, but eval_episodes is {run.eval_episodes} and eval_env '{run.eval_env}'."
        )
    if options.steps_per_trial is not None and "total_steps" in fixed and run.total_steps != options.steps_per_trial:
        raise ConfigError(
            f"steps_per_trial is {options.steps_per_trial} and total_steps {run.total_steps}: both are the steps of a "
            "trial, so give one."
        )
    steps = options.steps_per_trial or run.total_steps
    tuned = {
        "total_steps": steps,
        "eval_every": max(1, steps // options.evaluations),
        "record_every": 0,
        "checkpoint_every": 0,
        "keep_checkpoints": 1,
        "num_threads": 1,
    }
    ours: dict[str, Any] = {name: value for name, value in tuned.items() if name not in fixed or name == "total_steps"}
    if base.run.eval_every is not None and "eval_every" in fixed:
        ours["eval_every"] = base.run.eval_every or steps
    base = dataclasses.replace(base, run=dataclasses.replace(run, **ours))
    return Plan(base, start, make_space(base, fixed, search, only=only), frozenset(fixed), options)


def word_of_any(value: Any) -> str:
    """Return a setting as text, tables too."""
    return repr(sorted(value.items())) if isinstance(value, dict) else word_of(value)
