"""From the id of an env to its spec, with the modules that register it and the wrappers around it. Free of torch."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from rlstm.core.errors import EnvironmentFailure, unknown_name
from rlstm.vector.config import EnvConfig


class WrapperEntry(Protocol):
    """What a table of wrappers holds of each."""

    @property
    def entry_point(self) -> str:
        """Of the wrapper of single envs; its class may name its version for vector envs as ``vector_entry_point``."""

    @property
    def read(self) -> Callable[[str | None], dict[str, Any]]:
        """Turns the text after ``=`` into arguments."""


_MOST_IDS = 20  # In a message.


def resolve_spec(config: EnvConfig) -> EnvSpec:
    """Import what is to be imported and return the env's spec.

    Raises:
        EnvironmentFailure: If a module fails to import.
        UnknownNameError: If no env has this id.
    """
    import_modules_of(config)
    env_id = config.env.split(":", 1)[-1]
    try:
        return gym.spec(env_id)
    except gym.error.Error as error:
        if isinstance(error, gym.error.DeprecatedEnv):
            raise EnvironmentFailure(str(error)) from error
        hint = unknown_name("env", env_id, gym.registry)
        nearest = str(hint).split("Valid:")[0].rstrip()
        if theirs := _registered_by(config.env_import):
            hint.args = (f"{nearest} Registered by {', '.join(config.env_import)}: {', '.join(theirs)}.",)
        else:
            hint.args = (f"{nearest} If it is of another package, import that with --env-import; see 'rlstm envs'.",)
        raise hint from error


def _registered_by(modules: Sequence[str]) -> list[str]:
    """Return the ids of envs whose entry points lie in these modules."""
    found = []
    for env_id, spec in gym.registry.items():
        entry = spec.entry_point
        place = entry.split(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
        if any(place == module or place.startswith(f"{module}.") for module in modules):
            found.append(env_id)
    return sorted(found)[:_MOST_IDS]


def import_modules_of(config: EnvConfig) -> None:
    """Import the modules that an env's settings name, those in its id too; raise as ``import_modules`` does."""
    import_modules(config.modules)


def import_modules(names: Sequence[str]) -> None:
    """Import modules, which register envs.

    Raises:
        EnvironmentFailure: If one can't be imported.
    """
    for name in names:
        if name.endswith(".py"):
            raise EnvironmentFailure(f"The env module is '{name}', but modules have no '.py': name '{name[:-3]}'.")
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise EnvironmentFailure(
                f"Could not import the env module '{name}': {type(error).__name__}: {error}. Is it in this folder, on "
                "PYTHONPATH or installed?"
            ) from error


def with_wrappers(spec: EnvSpec, words: tuple[str, ...], table: Mapping[str, WrapperEntry]) -> EnvSpec:
    """Return a copy of the spec with wrappers from a table around its env: NAME or NAME=VALUE, innermost first.

    Raises:
        UnknownNameError: If there is no such wrapper.
        ValueError: If a wrapper can't be given this value.
    """
    added = []
    for word in words:
        name, equals, text = word.partition("=")
        if name not in table:
            raise unknown_name("wrapper", name, table)
        try:
            arguments = table[name].read(text if equals else None)
        except ValueError as error:
            raise ValueError(f"Wrapper '{word}': {error}.") from error
        added.append(WrapperSpec(name, table[name].entry_point, arguments))
    wrapped = copy.copy(spec)
    wrapped.additional_wrappers = (*spec.additional_wrappers, *added)
    return wrapped
