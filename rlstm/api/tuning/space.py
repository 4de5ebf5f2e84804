"""The space of a search: for every setting what is tried, as declared beside the config fields or given by the user."""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rlstm.core.errors import unknown_name
from rlstm.core.ranges import check_value
from rlstm.core.searched import Choices, Span, Tried, declared, parse_tried
from rlstm.training.config import ConfigError, ExperimentConfig, coerce, setting_fields
from rlstm.training.setting_names import ELSEWHERE, PREFIXED

Space = dict[str, Tried]
"""What is tried of each setting, by the name of its flag."""

Given = Tried | str | Sequence[Any] | None
"""What a user may say of a setting: a range or choices as text, a list of choices, or None for what is declared."""

_NEVER = ("env", "seed", "run_dir", "total_steps", "device", "num_threads", "dtype", "init_from", "curriculum")
_NEVER_BEGIN = ("eval_", "checkpoint_", "keep_", "record_", "env_", "log_")


def make_space(
    config: ExperimentConfig[Any], fixed: Collection[str], given: Mapping[str, Given], *, only: bool = False
) -> Space:
    """Return the space of a search.

    Args:
        config: The settings that a search begins with. What is tried by default includes them.
        fixed: Settings that are not searched.
        given: What the user said, which replaces what is declared.
        only: Whether nothing else is searched.

    Raises:
        UnknownNameError: If there is no such setting.
        ConfigError: If a setting is fixed too, can't be searched, or what is given is no range of its values; if
            nothing is left to search.
    """
    algorithm_type: Any = type(config.algorithm)
    fields = setting_fields(algorithm_type)
    if not declared(algorithm_type):
        raise ConfigError(f"The agent '{config.agent}' learns nothing: it has no setting to search.")
    base = base_values(config)
    named = {name.replace("-", "_"): value for name, value in given.items()}
    default = _declared_space(algorithm_type, fields)
    for name in named:
        _check_name(name, fields, fixed)
        if named[name] is None and name not in default:
            raise ConfigError(f"No space of '{name}' is known: say what to try, {name}=A,B or {name}=LOW..HIGH.")
    space = {
        name: tried.including(base[name])
        for name, tried in default.items()
        if name not in fixed and (name in named or not only)
    }
    for name, value in named.items():
        if value is not None:
            space[name] = _read(name, value, *fields[name])
    if not space:
        raise ConfigError("Nothing is left to search: every setting is given. Leave out a flag, or add --search.")
    return space


def base_values(config: ExperimentConfig[Any]) -> dict[str, Any]:
    """Return the settings of an experiment, with what inputs are by default."""
    resolved = config.inputs.resolve(config.memory.lifetime)
    return config.settings() | {f"inputs.{name}": value for name, value in vars(resolved).items()}


def covers(space: Space, config: ExperimentConfig[Any]) -> bool:
    """Return whether the settings of an experiment are a point of the space."""
    base = base_values(config)
    return all(tried.holds(base[name]) for name, tried in space.items())


def read_given(words: Sequence[str]) -> dict[str, Given]:
    """Read words of the form ``NAME=RANGE``, or ``NAME`` for what is declared.

    Raises:
        ConfigError: If a setting is named twice.
    """
    given: dict[str, Given] = {}
    for word in words:
        name, separator, text = word.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if name in given:
            raise ConfigError(f"--search names '{name}' twice: join what is to be tried of it.")
        given[name] = text if separator else None
    return given


def _declared_space(algorithm_type: Any, fields: Mapping[str, tuple[Any, str]]) -> Space:
    space = {}
    for name, (part_type, field) in fields.items():
        tried = algorithm_type.searched.get(name, declared(part_type).get(field))
        if tried is not None:
            space[name] = tried
    return space


def _check_name(name: str, fields: Mapping[str, Any], fixed: Collection[str]) -> None:
    if name not in fields:
        if name in ELSEWHERE:
            raise ConfigError(f"Unknown setting '{name}' in --search. It is called '{ELSEWHERE[name]}' here.")
        raise unknown_name("setting", name, fields)
    if name in _NEVER or name.startswith(_NEVER_BEGIN):
        raise ConfigError(f"'{name}' can't be searched: it decides what a trial is, or how it is measured.")
    if name in fixed:
        raise ConfigError(f"'{name}' is fixed by its flag and in --search too: leave one of them out.")


def _read(name: str, value: Given, part_type: Any, field: str) -> Tried:
    """Return what is to be tried, if the field takes it."""
    hint = typing.get_type_hints(part_type)[field]
    try:
        if isinstance(value, (Choices, Span)):
            tried: Tried = value
        else:
            tried = parse_tried(value, hint) if isinstance(value, str) else Choices(tuple(value or ()))
        ends = tried.values if isinstance(tried, Choices) else (tried.low, tried.high)
        if not ends:
            raise ValueError("has no value to try.")
    except ValueError as error:
        raise ConfigError(f"'{name}' {error}") from None
    kept = tuple(coerce(name, end, hint) for end in ends)
    prefix = next((f"{part}." for part in PREFIXED if name.startswith(f"{part}.")), "")
    for end in kept:
        if isinstance(end, dict):
            raise ConfigError(f"'{name}' is a table, which can't be searched.")
        try:
            check_value(part_type, field, end, prefix)
        except ValueError as error:
            raise ConfigError(f"In --search, {error}") from None
    return Choices(kept) if isinstance(tried, Choices) else Span(kept[0], kept[1], tried.log)
