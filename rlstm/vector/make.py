"""Vector envs: how they are made, and one form for what they return.

``make`` turns an env id into ``VectorEnvs``: a Gymnasium vector env in ``AutoresetMode.SAME_STEP``, so that every row
is a real transition, behind an interface without Gymnasium's many shapes of ``infos``. Three kinds:

* ``native``: the env's own batched implementation, if it autoresets in the same step;
* ``sync``: single envs stepped one after the other in this process;
* ``async``: single envs in worker processes, for envs whose step costs milliseconds.

``auto`` takes the native one where it fits and single envs otherwise, and says what it took and why.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, WrapperSpec, load_env_creator
from gymnasium.vector import AutoresetMode

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.text_leaves import text_places
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.specs import resolve_spec as resolve_spec
from rlstm.vector.specs import with_wrappers as with_wrappers
from rlstm.vector.sub_env import SubEnv, TrialEnv
from rlstm.vector.workers import WorkerEnvs

VectorEnv = gym.vector.VectorEnv[Any, Any, Any]


def make_single(spec: EnvSpec, config: EnvConfig, **options: Any) -> gym.Env[Any, Any]:
    """Make one single env with the wrappers of ``config``, which end those of ``spec``.

    ``gymnasium.make`` counts the wrappers that an entry point puts on by itself as the first of the spec's, so here the
    others are put on after it.
    """
    inner, wrappers = _split_spec(spec, config)
    try:
        env: gym.Env[Any, Any] = gym.make(inner, **options, **config.env_kwargs)
        for wrapper in wrappers:
            wrap: Any = load_env_creator(wrapper.entry_point)
            env = wrap(env, **(wrapper.kwargs or {}))
    except SystemExit as stop:
        raise EnvironmentFailure(f"Making '{spec.id}' raised SystemExit: {stop}") from stop
    return env


def _split_spec(spec: EnvSpec, config: EnvConfig) -> tuple[EnvSpec, tuple[WrapperSpec, ...]]:
    """Return the spec of the bare env, and the wrappers of ``config``."""
    count = len(config.env_wrappers)
    inner, wrappers = copy.copy(spec), spec.additional_wrappers[len(spec.additional_wrappers) - count :]
    if tuple(wrapper.name for wrapper in wrappers) != tuple(word.partition("=")[0] for word in config.env_wrappers):
        raise EnvironmentFailure(
            f"The env's spec has the wrappers {[wrapper.name for wrapper in spec.additional_wrappers]}, its config "
            f"{list(config.env_wrappers)}: put them into the spec with with_wrappers()."
        )
    inner.additional_wrappers = spec.additional_wrappers[: len(spec.additional_wrappers) - count]
    return inner, wrappers


def make(
    spec: EnvSpec, config: EnvConfig, memory: MemoryConfig, *, num_envs: int | None = None, context: str | None = None
) -> VectorEnvs:
    """Make the vector env of ``config``.

    Args:
        spec: As resolved by ``resolve_spec``; workers get it ready, so they need no registry.
        config: Env arguments, number of lanes and kind.
        memory: Where trials are asked for, how many episodes they have.
        num_envs: How many lanes, if not those of ``config`` (evaluation).
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
        return VectorEnvs(native, "native", f"{count} in the env's own batched form", log_info=config.log_info)
    functions = [functools.partial(_make_lane, spec, config, memory, lane) for lane in range(count)]
    first = _check_single(functions[0], spec)
    left_out, state_fault = first.left_out, first.state_fault
    if config.vectorization == "async":
        envs: VectorEnv = WorkerEnvs(
            functions, observation_space=first.observation_space, action_space=first.action_space, context=context
        )
        return VectorEnvs(envs, "async", f"{count} in worker processes{left_out}", state_fault, config.log_info)
    envs = _make_sync(functions, spec)
    described = f"{count} single envs in this process ({reason}){left_out}"
    return VectorEnvs(envs, "sync", described, state_fault, config.log_info)


def _make_native(spec: EnvSpec, config: EnvConfig, memory: MemoryConfig, count: int) -> tuple[VectorEnv | None, str]:
    """Return the native vector env, or None and the reason why it is not used."""
    inner, wrappers = _split_spec(spec, config)
    if spec.vector_entry_point is None:
        return None, "it has no batched form"
    if inner.additional_wrappers:
        return None, f"its wrapper '{inner.additional_wrappers[0].name}' has no batched form"
    kwargs = dict(config.env_kwargs)
    if memory.episodes_per_trial is not None:
        kwargs["episodes_per_trial"] = memory.episodes_per_trial
    try:
        envs = gym.make_vec(inner, count, vectorization_mode="vector_entry_point", **kwargs)
    except (Exception, SystemExit) as error:
        return None, f"its batched form could not be made: {type(error).__name__}: {error}"
    try:
        return _accept_native(envs, wrappers, memory), ""
    except ValueError as error:
        envs.close()
        return None, str(error)


def _accept_native(envs: VectorEnv, wrappers: tuple[WrapperSpec, ...], memory: MemoryConfig) -> VectorEnv:
    """Return the native vector env in the vector versions of its wrappers; ValueError says why it is not used."""
    if memory.episodes_per_trial is not None and not envs.metadata.get("supports_new_task", False):
        raise ValueError("its batched form does not declare metadata['supports_new_task'], which trials need")
    mode = envs.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        name = getattr(mode, "name", mode)
        raise ValueError(f"its batched form autoresets in mode {name}, where a row between episodes is no transition")
    for wrapper in wrappers:
        version = getattr(load_env_creator(wrapper.entry_point), "vector_entry_point", None)
        if version is None:
            raise ValueError(f"the wrapper '{wrapper.name}' has no batched form")
        wrap: Any = load_env_creator(version)
        try:
            envs = wrap(envs, **(wrapper.kwargs or {}))
        except ValueError as error:
            raise ValueError(f"the wrapper '{wrapper.name}' does not fit its batched form: {error}") from error
    if text_places(envs.single_observation_space):
        raise ValueError("the observations of its batched form have text, which only single envs can leave out")
    return envs


def _make_lane(spec: EnvSpec, config: EnvConfig, memory: MemoryConfig, lane: int) -> SubEnv:
    """Make one single env for a lane; runs in the worker where there is one."""
    env = make_single(spec, config)
    if memory.episodes_per_trial is not None:
        env = TrialEnv(env, memory.episodes_per_trial, insist=memory.insist_on_trials)
    return SubEnv(env, lane, config.log_info)


class _Single(NamedTuple):
    """What one single env shows of all."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    left_out: str  # What lanes leave out, for the user.
    state_fault: str | None  # Why their states can't be stored though there are methods for it.


def _check_single(function: Callable[[], SubEnv], spec: EnvSpec) -> _Single:
    """Make and close one env here, so that a fault shows before there are workers."""
    with _refusing_to_make(spec):
        env = function()
        places = text_places(env.env.observation_space)
        left_out = f"; the text in '{', '.join(places)}' is left out of observations, as no network here reads it"
        single = _Single(env.observation_space, env.action_space, left_out if places else "", env.state_fault())
        env.close()
    return single


def _make_sync(functions: Sequence[Callable[[], SubEnv]], spec: EnvSpec) -> VectorEnv:
    with _refusing_to_make(spec):
        return gym.vector.SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP)


@contextmanager
def _refusing_to_make(spec: EnvSpec) -> Iterator[None]:
    """Raise EnvironmentFailure, naming the env, whatever its code raises, also if it ends the process."""
    try:
        yield
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, (EnvironmentFailure, ValueError)) else f"{type(error).__name__}: "
        raise EnvironmentFailure(f"Could not make '{spec.id}': {kind}{error}") from error
