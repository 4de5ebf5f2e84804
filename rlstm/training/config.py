"""One experiment as nested frozen dataclasses, and its flat form as users write it.

In a config file, a preset or on the command line every setting has the name of its flag. The settings of the run, the
env, the policy and the algorithm stand side by side; those of memory and inputs keep their prefix::

    env = "rlstm/TMaze-v0"
    num_envs = 64
    memory.lifetime = "trial"
    memory.episodes_per_trial = 2

Everything that sets something is a layer of this form: the agent's defaults, a preset, a config file, the flags that
were given, ``config.json`` of a run. ``rlstm.training.config_layers`` puts one over another, ``build_config`` makes the
dataclasses of the result, and ``ExperimentConfig.settings`` returns it. The env's arguments are layered one by one, as
long as the layers name the same env. Wrappers may stand in the id: ``env = "CartPole-v1+mask=0,2"``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

from rlstm.core.errors import UnknownNameError, UnsupportedSpaceError, unknown_name
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.ranges import AtLeast, NotNegative, check_path, check_ranges
from rlstm.core.searched import Tried
from rlstm.policies.config import PolicyConfig
from rlstm.training.setting_names import ELSEWHERE, PARTS, PREFIXED, with_present_names
from rlstm.vector.config import EnvConfig

AlgorithmT = TypeVar("AlgorithmT", bound="AgentConfig")


class ConfigError(ValueError):
    """A setting that can't be used; the message names it, its value and what would be right."""


@contextmanager
def refusals_name_settings() -> Iterator[None]:
    """Raise a part's refusal of its arguments as ConfigError: they came from settings."""
    try:
        yield
    except (ConfigError, UnknownNameError, UnsupportedSpaceError):
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


Actions = Literal["likeliest", "sampled"]
"""How a policy that is no longer trained chooses its actions."""


class AgentConfig:
    """What the config of every agent declares beside its own settings."""

    acts_by: ClassVar[Actions] = "likeliest"
    """How the agent chooses the actions that it learns from."""

    has_critic: ClassVar[bool] = True
    """Whether the agent learns values; where it doesn't, those of a run that goes on from its weights begin anew."""

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Defaults of other settings where this agent has its own."""

    searched: ClassVar[Mapping[str, Tried | None]] = {}
    """What a search tries of other settings where this agent has its own space, or None where it tries nothing."""

    @property
    def critic_memory(self) -> Literal["shared", "detached", "separate"]:
        """The memory of the critic where ``critic_memory`` is not set."""
        return "shared"

    def rehearsed(self) -> Self:
        """Return the settings with which updates are timed, on rollouts of any length in which nothing ends."""
        return self


@dataclass(frozen=True)
class RunConfig:
    """The run."""

    total_steps: Annotated[int, AtLeast(1)] = 500_000
    """Environment steps in all."""

    seed: Annotated[int, AtLeast(0)] = 0
    """Seed of everything random in the run."""

    run_dir: str | None = None
    """Folder of the run; it must be new. Default: a new one under runs/."""

    eval_every: Annotated[int | None, NotNegative] = None
    """Evaluate every so many steps; 0 only at the end. Default: ten times in the run."""

    eval_episodes: Annotated[int, NotNegative] = 50
    """Episodes of an evaluation; 0 for no evaluations, at the end neither."""

    eval_env: Literal["own", "same", "none"] = "own"
    """Where evaluations play: in envs of their own; in those of the training, which are put back to where they were; or
    nowhere."""

    eval_actions: Actions | None = None
    """Whether evaluations take the likeliest actions or sample them. Default: choices as the agent is trained to make
    them, the likeliest numbers."""

    eval_max_steps: Annotated[int, AtLeast(1)] = 100_000
    """Steps after which an episode of an evaluation is cut and counts as it stands."""

    record_every: Annotated[int | None, NotNegative] = None
    """Show an episode as a film among TensorBoard's images at every so many evaluations; 0 for never. Default: at the
    end of a run of 20,000 steps or more, if the env draws images."""

    checkpoint_every: Annotated[int | None, NotNegative] = None
    """Save every so many steps; 0 only at the end. Default: ten times in the run."""

    keep_checkpoints: Annotated[int, AtLeast(1)] = 3
    """Checkpoints to keep besides the best."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    num_threads: Annotated[int, NotNegative] = 0
    """Threads of torch; 0 for the fastest number, measured at the start: 4, the cores or OMP_NUM_THREADS at most."""

    dtype: Literal["float32", "float64"] = "float32"
    """Type of weights, states and rollouts."""

    init_from: str | None = None
    """Run directory whose best weights this run starts from."""

    curriculum: str | None = None
    """TOML file of stages to pass before the env is trained in, easier versions of it or other envs of its spaces; or
    the name of a preset's."""

    def __post_init__(self) -> None:
        """Refuse values out of range, and paths that no folder can have."""
        check_ranges(self)
        for name in ("run_dir", "init_from", "curriculum"):
            check_path(name, getattr(self, name))

    @property
    def evaluates(self) -> bool:
        """Whether there are evaluations during the run."""
        return self.eval_episodes > 0 and self.eval_env != "none"

    def interval(self, every: int | None) -> int:
        """Return the steps between two events, a tenth of the run by default; 0 for never before the end."""
        return max(1, self.total_steps // 10) if every is None else every


@dataclass(frozen=True)
class ExperimentConfig(Generic[AlgorithmT]):
    """All that decides an experiment."""

    agent: str
    """Name of the agent."""

    algorithm: AlgorithmT
    """The agent's own constants."""

    run: RunConfig
    env: EnvConfig
    policy: PolicyConfig
    memory: MemoryConfig
    inputs: InputsConfig

    def eval_actions(self, *, numbers: bool) -> Actions:
        """Return how evaluations choose actions.

        Args:
            numbers: Whether actions are numbers: their deviation is there to explore, and an agent is used without it.
        """
        return self.run.eval_actions or ("likeliest" if numbers else self.algorithm.acts_by)

    def identity(self) -> dict[str, str]:
        """Return what a checkpoint must agree with."""
        return {"env": self.env.env, "agent": self.agent, "cell": self.policy.cell_identity}

    def settings(self) -> dict[str, Any]:
        """Return the flat form, every setting by the name of its flag with underscores."""
        parts = {part: getattr(self, part) for part in PARTS}
        places = _places({part: type(config) for part, config in parts.items()})
        return {name: getattr(parts[part], field) for name, (part, field) in places.items()}


def _places(part_types: Mapping[str, type[Any]]) -> dict[str, tuple[str, str]]:
    """Return where each setting lies: its part and its field."""
    return {
        f"{part}.{field.name}" if part in PREFIXED else field.name: (part, field.name)
        for part, part_type in part_types.items()
        for field in dataclasses.fields(part_type)
    }


def _part_types(algorithm_type: type[Any]) -> dict[str, Any]:
    classes = (EnvConfig, RunConfig, PolicyConfig, algorithm_type, MemoryConfig, InputsConfig)
    return dict(zip(PARTS, classes, strict=True))


def setting_fields(algorithm_type: type[Any]) -> dict[str, tuple[Any, str]]:
    """Return where every setting of an agent is declared, by the name of its flag: a config class and a field."""
    part_types = _part_types(algorithm_type)
    return {name: (part_types[part], field) for name, (part, field) in _places(part_types).items()}


def build_config(
    agent: str, algorithm_type: type[Any], settings: Mapping[str, Any], *, complete: bool = True
) -> ExperimentConfig[Any]:
    """Build an experiment from flat settings; what is not set has its default.

    Args:
        agent: Name of the agent.
        algorithm_type: Its config class.
        settings: As returned by ``ExperimentConfig.settings``; tables for memory and inputs may be nested.
        complete: Whether no further layer may follow. If one may, names and types are checked, but not ranges and
            combinations, which that layer may still put right.

    Raises:
        ConfigError: If a name is unknown (with the nearest valid one), or a value has the wrong type or range.
    """
    part_types = _part_types(algorithm_type)
    if not complete:
        part_types = {part: _unchecked(part_type) for part, part_type in part_types.items()}
    hints = {part: typing.get_type_hints(part_type) for part, part_type in part_types.items()}
    places = _places(part_types)
    values: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for name, value in with_present_names(settings).items():
        if name not in places:
            if name in ELSEWHERE:
                here, _, value = ELSEWHERE[name].partition("=")
                raise ConfigError(
                    f"Unknown setting '{name}'. It is called '{here}' here{f': {value}' if value else ''}."
                )
            raise ConfigError(str(unknown_name("setting", name, places)))
        part, field = places[name]
        values[part][field] = coerce(name, value, hints[part][field])
    with refusals_name_settings():
        return ExperimentConfig(agent, **{part: part_types[part](**values[part]) for part in PARTS})


@functools.cache
def _unchecked(part_type: type[Any]) -> type[Any]:
    """Return the config class without its validation."""
    names = {"__doc__": part_type.__doc__, "__module__": part_type.__module__, "__post_init__": lambda self: None}
    return type(part_type.__name__, (part_type,), names)


def coerce(name: str, value: Any, hint: Any) -> Any:
    """Return ``value`` as the type of its field: lists become tuples, whole numbers floats; anything else must fit."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        origin = typing.get_origin(option)
        if option is type(None) and value is None:
            return None
        if origin is Literal and value in typing.get_args(option):
            return value
        if origin is tuple and isinstance(value, (list, tuple)):
            item_type = typing.get_args(option)[0]
            return tuple(coerce(f"an item of {name}", item, item_type) for item in value)
        if origin is dict and isinstance(value, Mapping):
            return dict(value)
        if option is float and isinstance(value, (int, float)) and not (isinstance(value, bool) or math.isnan(value)):
            return float(value)
        if option is str and isinstance(value, os.PathLike):
            return os.fspath(value)
        if option in (int, str) and isinstance(value, option) and not isinstance(value, bool):
            return value
        if option is bool and isinstance(value, bool):
            return value
    if value == "none" and type(None) in options:  # As on the command line: TOML has no word for it.
        return None
    expected = " or ".join(_type_name(option) for option in options if option is not type(None))
    raise ConfigError(f"{name} is {value!r}; it must be {expected}.")


def _type_name(option: Any) -> str:
    if typing.get_origin(option) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(option)))
    if typing.get_origin(option) is tuple:
        return f"a list of {typing.get_args(option)[0].__name__}"
    return {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}.get(
        getattr(option, "__name__", ""), "a table"
    )
