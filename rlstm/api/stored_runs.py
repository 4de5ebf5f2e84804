"""What a stored run is of: its experiment, and its env, as JSON and back."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any, Literal

from gymnasium.envs.registration import EnvSpec

from rlstm.api.configs import config_from_layers, make_config
from rlstm.api.envs import resolve_env
from rlstm.api.stored_configs import FREE_FORM
from rlstm.api.trust import check_arguments, check_modules, check_spec
from rlstm.core.errors import UnknownNameError
from rlstm.core.tagged_json import decode, encode
from rlstm.training.checkpoints import has_best
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.run_directory import RunDirectory, RunDirectoryError

_EARLIER = {"scale_actions": False, "image_strides": False, "eval_actions": "likeliest"}
_EARLIER_OF = {"ppo": {"value_bias": "zero"}}
"""What runs, and those of an agent, did before there was a setting for it, where that is not its default."""

SPACES = ("observation_space", "action_space")
"""Names of what ``spaces.json`` holds."""

IN_PROCESS = "registered_in_process"
REGISTER_IT = (
    "was registered with a class, a function or another object in one process alone, so the run can be resumed and "
    "evaluated only where the same is registered first (--env-import MODULE); every process finds an entry point like "
    "'module:Class'"
)

Which = Literal["latest", "best"] | int
"""Which checkpoint of a run."""


def read_config(directory: RunDirectory, **overrides: Any) -> ExperimentConfig[Any]:
    """Return the experiment of a run directory, with some settings replaced.

    Raises:
        RunDirectoryError: If ``config.json`` holds what this version doesn't know.
        ConfigError: If a replaced setting has a wrong value.
    """
    stored = directory.read_config()
    try:
        earlier = {**_EARLIER, **_EARLIER_OF.get(stored["agent"], {})}
        own = stored["settings"]
        settings = own | {name: decode(own[name]) for name in FREE_FORM if name in own}
        config = config_from_layers(stored["agent"], None, earlier, settings)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise RunDirectoryError(
            f"{directory.config_path} is not the config of a run of this version: {reason}"
        ) from error
    return make_config(config.agent, **{**config.settings(), **overrides}) if overrides else config


def read_spec(directory: RunDirectory, config: ExperimentConfig[Any], *, trust: bool = False) -> EnvSpec:
    """Return the env of a run; its spec must be the one the run began with.

    Entry points of this package are those of this version, wherever they were when the run was stored. Nothing that the
    run names is imported or taken unless this process has it already, see ``rlstm.api.trust``, or the run is trusted.

    Raises:
        UntrustedRunError: If the run names other code.
    """
    from rlstm.envs.stored_specs import present_spec

    check_modules(config.env, directory.path, trust=trust)
    try:
        spec = resolve_env(config.env)
    except UnknownNameError as error:
        if not directory.read_env_spec().get(IN_PROCESS):
            raise
        raise RunDirectoryError(f"{directory.path} is of an env that {REGISTER_IT}. {error}") from error
    written = directory.read_env_spec()
    if written["id"] != spec.id:
        raise ConfigError(f"{directory.env_spec_path} is of env '{written['id']}', the config of '{spec.id}'.")
    try:
        stored = spec if written.get(IN_PROCESS) else present_spec(_read_written_spec(written))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RunDirectoryError(
            f"{directory.env_spec_path} is damaged: it holds no spec of an env ({error!r}). Restore it from a copy."
        ) from error
    if not trust:
        check_spec(stored, spec, directory.env_spec_path)
        check_arguments(config.env.env_kwargs, spec, directory.config_path)
    return stored


def written_spec(spec: EnvSpec) -> dict[str, Any]:
    """Return an env's spec as JSON, for ``_read_written_spec``.

    A class or a function can't be written: such an env is known by its id alone, and a process that goes on with the
    run must have registered it.
    """
    written = copy.copy(spec)
    try:
        written.kwargs = encode(spec.kwargs, "kwargs")
        written.additional_wrappers = tuple(
            replace(wrapper, kwargs=None if wrapper.kwargs is None else encode(wrapper.kwargs, wrapper.name))
            for wrapper in spec.additional_wrappers
        )
        made: dict[str, Any] = json.loads(written.to_json())
    except ValueError:
        return {"id": spec.id, IN_PROCESS: True}
    return made


def _read_written_spec(written: dict[str, Any]) -> EnvSpec:
    spec = EnvSpec.from_json(json.dumps(written))
    spec.kwargs = decode(spec.kwargs)
    spec.additional_wrappers = tuple(
        replace(wrapper, kwargs=None if wrapper.kwargs is None else decode(wrapper.kwargs))
        for wrapper in spec.additional_wrappers
    )
    return spec


def changed_settings(config: ExperimentConfig[Any]) -> dict[str, Any]:
    """Return the settings that differ from the defaults of their agent."""
    defaults = config_from_layers(config.agent, None, complete=False).settings()
    own = config.settings()
    return {
        "agent": config.agent,
        **{name: value for name, value in own.items() if repr(value) != repr(defaults[name])},
    }


def best_or_latest(directory: RunDirectory) -> Which:
    """Return what stands for no checkpoint named: the best, or the latest where none is the best yet."""
    return "best" if has_best(directory) else "latest"
