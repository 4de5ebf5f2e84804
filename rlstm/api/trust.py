"""What the files of a run may make this process execute: nothing that it has not already, unless the run is trusted.

A run's folder names code: modules to import (``env_import``, and ``my_env:`` before an id), and the entry points of its
env and wrappers. Folders come from others too. So a module that a run names must have been imported before, which is
what ``--env-import`` on the command line and ``import`` in Python do, and entry points must be those that the env is
registered with here. ``--trust``, in Python ``trust=True``, takes both from the folder.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gymnasium.envs.registration import EnvSpec, WrapperSpec

from rlstm.training.run_directory import RunDirectoryError
from rlstm.vector.config import EnvConfig

_IF_TRUSTED = "If you trust the run, add --trust (in Python: trust=True)."
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\S*")
"""A text that may be imported: "module:Class", or "module:env-id"."""


class UntrustedRunError(RunDirectoryError):
    """A run names code that this process has not been told to execute; the message says how to tell it."""


def check_modules(config: EnvConfig, path: Path, *, trust: bool) -> None:
    """Refuse settings that a file holds if they name modules which have not been imported.

    Args:
        config: The settings of the env.
        path: Of the folder or file that holds them, for the message.
        trust: Whether they may be imported; nothing is refused then.

    Raises:
        UntrustedRunError: If they may not.
    """
    missing = [name for name in config.modules if name not in sys.modules]
    if missing and not trust:
        names = ", ".join(missing)
        raise UntrustedRunError(
            f"{path} names {'the module' if len(missing) == 1 else 'the modules'} {names}, and importing runs code. If "
            f"that is what you want, add --env-import {shlex.join(missing)} (in Python: import {names} before), or "
            "--trust (trust=True)."
        )


def check_spec(stored: EnvSpec, registered: EnvSpec, path: Path) -> None:
    """Refuse a stored spec whose entry points or wrappers are not those that are registered here.

    Args:
        stored: The spec in the file, with present entry points where they are this package's.
        registered: That of the same id here, in the wrappers that the run's config names.
        path: Of the file, for the message.

    Raises:
        UntrustedRunError: If it names other code.
    """
    for place in ("entry_point", "vector_entry_point"):
        named, known = getattr(stored, place), getattr(registered, place)
        if named is not None and named != known:
            raise UntrustedRunError(
                f"{path} names {named!r} as the {place} of '{stored.id}', which is registered with {known!r} here. "
                f"{_IF_TRUSTED}"
            )
    named, known = ([_code_of(one) for one in spec.additional_wrappers] for spec in (stored, registered))
    if named != known:
        raise UntrustedRunError(
            f"{path} names the wrappers {_shown(named)}, where those of '{stored.id}' are {_shown(known)} here. "
            f"{_IF_TRUSTED}"
        )
    arguments = (stored.kwargs, *(one.kwargs for one in stored.additional_wrappers))
    check_arguments(arguments, registered, path)


def check_stages(path: Path, config: EnvConfig, registered: EnvSpec) -> None:
    """Refuse the file of a run's stages if their envs name other code than the run's own.

    Raises:
        ConfigError: If it can't be read.
        UntrustedRunError: If a stage names other code.
    """
    from rlstm.training.stages import read_curriculum

    for stage in read_curriculum(path)[1]:
        if stage.env is not None:
            check_modules(replace(config, env=stage.env), path, trust=False)
        check_arguments(stage.env_kwargs, registered, path)


def check_arguments(arguments: Any, registered: EnvSpec, path: Path) -> None:
    """Refuse arguments of an env that may be imported, like "module:Class", unless they are registered with it.

    Raises:
        UntrustedRunError: If there is one.
    """
    known = set(_texts((registered.kwargs, *(one.kwargs for one in registered.additional_wrappers))))
    for text in _texts(arguments):
        if _REFERENCE.fullmatch(text) and text not in known:
            raise UntrustedRunError(
                f"{path} gives the env '{registered.id}' the argument {text!r}, which it may import. {_IF_TRUSTED}"
            )


def _code_of(wrapper: WrapperSpec) -> tuple[str, str, Any]:
    return wrapper.name, wrapper.entry_point, (wrapper.kwargs or {}).get("transform")


def _shown(wrappers: Sequence[tuple[str, str, Any]]) -> str:
    return ", ".join(f"{name} ({entry_point!r})" for name, entry_point, _ in wrappers) or "none"


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in nested containers, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _texts(pair)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _texts(item)
    elif getattr(getattr(value, "dtype", None), "kind", "") == "U":
        yield from _texts(value.tolist())
