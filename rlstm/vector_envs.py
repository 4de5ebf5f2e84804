"""Vector envs: how they are made, and one form for what they return.

``make`` turns an env id into ``LaneEnvs``: a Gymnasium vector env in ``AutoresetMode.SAME_STEP``, so that every row is
a real transition, behind an interface without Gymnasium's many shapes of ``infos``. Three kinds:

* ``native``: the env's own batched implementation, if it autoresets in the same step;
* ``sync``: single envs stepped one after the other in this process;
* ``async``: single envs in worker processes, for envs whose step costs milliseconds.

``auto`` takes the native one where it fits and single envs otherwise, and says what it took and why.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from rlstm.errors import EnvironmentFailure, unknown_name
from rlstm.lane_env import LaneEnv, TrialEnv
from rlstm.lanes import EnvStep, LaneEnvs
from rlstm.memory import MemoryConfig

__all__ = ["EnvConfig", "EnvStep", "LaneEnvs", "Vectorization", "make", "resolve_spec"]

Vectorization = Literal["auto", "native", "sync", "async"]


@dataclass(frozen=True)
class EnvConfig:
    """The environment."""

    env: str = ""
    """Env id: 'rlstm/TMaze-v0', or 'module:ns/Name-v0' to import a module first."""

    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the env as KEY=VALUE; values are read as JSON."""

    env_import: tuple[str, ...] = ()
    """Modules to import first, so that they can register their envs."""

    num_envs: int = 16
    """Environments stepped side by side."""

    vectorization: Vectorization = "auto"
    """How they are stepped: the env's own batched form, in this process, or in workers."""

    def __post_init__(self) -> None:
        """Refuse an impossible number of envs."""
        if self.num_envs < 1:
            raise ValueError(f"num_envs is {self.num_envs}; it must be at least 1.")


def resolve_spec(config: EnvConfig) -> EnvSpec:
    """Import what is to be imported and return the env's spec.

    Raises:
        EnvironmentFailure: If a module fails to import.
        UnknownNameError: If no env has this id.
    """
    env_id = config.env
    for module in (*config.env_import, *([env_id.split(":", 1)[0]] if ":" in env_id else [])):
        try:
            importlib.import_module(module)
        except Exception as error:
            raise EnvironmentFailure(
                f"Could not import the env module '{module}': {type(error).__name__}: {error}. Is it in this folder or "
                "installed?"
            ) from error
    env_id = env_id.split(":", 1)[-1]
    try:
        return gym.spec(env_id)
    except gym.error.Error as error:
        if isinstance(error, gym.error.DeprecatedEnv):
            raise EnvironmentFailure(str(error)) from error
        hint = unknown_name("env", env_id, gym.registry)
        nearest = str(hint).split("Valid:")[0].rstrip()
        hint.args = (f"{nearest} If it is of another package, import that with --env-import; see 'rlstm envs'.",)
        raise hint from error


def make(
    spec: EnvSpec,
    config: EnvConfig,
    memory: MemoryConfig,
    *,
    num_envs: int | None = None,
    context: str | None = None,
) -> LaneEnvs:
    """Make the vector env of ``config``.

    Args:
        spec: As resolved by ``resolve_spec``; workers get it ready, so they need no registry.
        config: Env arguments, number of lanes and kind.
        memory: Where trials are asked for, how many episodes they have.
        num_envs: Lanes, if not those of ``config`` (evaluation).
        context: Start method of the workers: fork, spawn or forkserver; None for the platform's own.

    Raises:
        EnvironmentFailure: If the env can't be made, or not in the kind asked for.
    """
    count = config.num_envs if num_envs is None else num_envs
    native, reason = None, "single envs were asked for"
    if config.vectorization in ("auto", "native"):
        native, reason = _make_native(spec, config, memory, count)
        if native is None and config.vectorization == "native":
            raise EnvironmentFailure(f"'{spec.id}' can't run natively: {reason}. Use --vectorization sync or async.")
    if native is not None:
        return LaneEnvs(native, "native", f"{count} lanes in the env's own batched form")
    functions = [functools.partial(_make_lane, spec, config.env_kwargs, memory, lane) for lane in range(count)]
    _check_single(functions[0], spec)
    if config.vectorization == "async":
        workers = [functools.partial(_make_lane_in_worker, os.getpid(), function) for function in functions]
        envs: gym.vector.VectorEnv[Any, Any, Any] = gym.vector.AsyncVectorEnv(
            workers, context=context, autoreset_mode=AutoresetMode.SAME_STEP
        )
        return LaneEnvs(envs, "async", f"{count} lanes in worker processes")
    envs = gym.vector.SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP)
    return LaneEnvs(envs, "sync", f"{count} single envs in this process ({reason})")


def _make_native(
    spec: EnvSpec, config: EnvConfig, memory: MemoryConfig, count: int
) -> tuple[gym.vector.VectorEnv[Any, Any, Any] | None, str]:
    """Return the native vector env, or None and the reason why it is not used."""
    if spec.vector_entry_point is None:
        return None, "it has no batched form"
    kwargs = dict(config.env_kwargs)
    if memory.episodes_per_trial is not None:
        kwargs["episodes_per_trial"] = memory.episodes_per_trial
    try:
        envs = gym.make_vec(spec, count, vectorization_mode="vector_entry_point", **kwargs)
    except Exception as error:
        return None, f"its batched form could not be made: {type(error).__name__}: {error}"
    if memory.episodes_per_trial is not None and not envs.metadata.get("supports_new_task", False):
        envs.close()
        return None, "its batched form does not declare metadata['supports_new_task'], which trials need"
    mode = envs.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        envs.close()
        name = getattr(mode, "name", mode)
        return None, f"its batched form autoresets in mode {name}, where a row between episodes is no transition"
    return envs, ""


def _make_lane(spec: EnvSpec, kwargs: dict[str, Any], memory: MemoryConfig, lane: int) -> gym.Env[Any, Any]:
    """Make one single env for a lane; runs in the worker where there is one."""
    env = gym.make(spec, **kwargs)
    if memory.episodes_per_trial is not None:
        env = TrialEnv(env, memory.episodes_per_trial, insist=memory.insist_on_trials)
    return LaneEnv(env, lane)


def _make_lane_in_worker(parent: int, make_lane: Callable[[], gym.Env[Any, Any]]) -> gym.Env[Any, Any]:
    """Make a lane; a worker leaves Ctrl-C, which a terminal sends to it too, to the main process."""
    if os.getpid() != parent:  # Gymnasium makes one env in the main process, to see its spaces.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return make_lane()


def _check_single(function: Any, spec: EnvSpec) -> None:
    """Make and close one env here, so that a fault shows before there are workers."""
    try:
        function().close()
    except (EnvironmentFailure, ValueError) as error:
        raise EnvironmentFailure(f"Could not make '{spec.id}': {error}") from error
    except Exception as error:
        raise EnvironmentFailure(f"Could not make '{spec.id}': {type(error).__name__}: {error}") from error
