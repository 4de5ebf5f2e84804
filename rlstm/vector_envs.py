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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from rlstm.errors import EnvironmentFailure, unknown_name
from rlstm.lane_env import LaneEnv, TrialEnv
from rlstm.memory import BoolArray, MemoryConfig
from rlstm.networks import ACTION_MASK_KEY
from rlstm.trees import Tree, tree_leaves, tree_map

__all__ = ["EnvConfig", "EnvStep", "LaneEnvs", "Vectorization", "make", "resolve_spec"]

Vectorization = Literal["auto", "native", "sync", "async"]
FloatArray = npt.NDArray[np.float64]


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


class EnvStep(NamedTuple):
    """What all lanes return from a reset or a step. Rows of arrays are lanes."""

    observations: Tree  # (B, ...) after any autoreset
    rewards: FloatArray  # (B,)
    terminated: BoolArray  # (B,)
    truncated: BoolArray  # (B,)
    trial_starts: BoolArray  # (B,) the observation begins a new trial; every episode where there are no trials
    action_masks: BoolArray | None  # (B, M) for the observation
    finished: npt.NDArray[np.intp]  # (N,) lanes whose episode ended with this step
    final_observations: Tree  # (N, ...) their last observations, or None where N is 0
    successes: FloatArray  # (N,) 1 or 0, NaN where the env doesn't say


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


class LaneEnvs:
    """A vector env whose resets and steps come as ``EnvStep``.

    Args:
        envs: A vector env in ``AutoresetMode.SAME_STEP``.
        kind: native, sync or async.
        description: What was chosen, for the user.
    """

    def __init__(self, envs: gym.vector.VectorEnv[Any, Any, Any], kind: str, description: str) -> None:
        self.envs = envs
        self.kind = kind
        self.description = description
        self.num_envs = envs.num_envs
        self.observation_space = envs.single_observation_space
        self.action_space = envs.single_action_space
        self._steps = 0
        self._gives_masks = False  # Known after the reset.

    def reset(self, seeds: Sequence[int]) -> EnvStep:
        """Reset every lane with a seed of its own."""
        observations, infos = self._guard(self.envs.reset, seed=list(seeds))
        nothing = np.zeros(self.num_envs, dtype=bool)
        rewards = np.zeros(self.num_envs)
        starts = np.ones(self.num_envs, dtype=bool)
        return self._pack(observations, rewards, nothing, nothing.copy(), infos, starts)

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        """Step every lane; a lane whose episode ends is reset in the same step.

        Raises:
            EnvironmentFailure: If an env raises, or returns something that is not a number, naming lane and step.
        """
        self._steps += 1
        if isinstance(self.action_space, gym.spaces.Tuple | gym.spaces.Dict):
            raise EnvironmentFailure(f"Action space {self.action_space} is not supported.")
        observations, rewards, terminated, truncated, infos = self._guard(self.envs.step, actions)
        return self._pack(observations, np.asarray(rewards, dtype=np.float64), terminated, truncated, infos, None)

    def _guard(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except EnvironmentFailure:
            raise
        except Exception as error:
            raise EnvironmentFailure(
                f"The env raised at step {self._steps} (counted for each lane): {type(error).__name__}: {error}"
            ) from error

    def _pack(
        self,
        observations: Tree,
        rewards: FloatArray,
        terminated: BoolArray,
        truncated: BoolArray,
        infos: dict[str, Any],
        starts: BoolArray | None,
    ) -> EnvStep:
        finished = np.flatnonzero(terminated | truncated)
        self._check(observations, rewards)
        final_observations, at_reset = None, starts is not None
        if starts is None:
            starts = terminated | truncated
        if len(finished):
            if "final_obs" not in infos:
                raise EnvironmentFailure("An episode ended, but the env's infos have no 'final_obs' (SAME_STEP mode).")
            final_observations = _final_rows(infos["final_obs"], finished)
            self._check(final_observations, rewards[finished], finished)
        trial_starts = infos.get("trial_start")
        return EnvStep(
            observations,
            rewards,
            np.asarray(terminated, dtype=bool),
            np.asarray(truncated, dtype=bool),
            starts if trial_starts is None else starts & np.asarray(trial_starts, dtype=bool),
            self._masks(observations, infos, at_reset=at_reset),
            finished,
            final_observations,
            _successes(infos, finished),
        )

    def _check(self, observations: Tree, rewards: FloatArray, lanes: npt.NDArray[np.intp] | None = None) -> None:
        """Refuse values that are not numbers before they reach memory, naming the lane."""
        for name, values in (("reward", rewards), *(("observation", leaf) for leaf in tree_leaves(observations))):
            if values.dtype.kind != "f" or np.isfinite(values).all():
                continue
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))[0])
            lane = row if lanes is None else int(lanes[row])
            raise EnvironmentFailure(
                f"Env {lane} returned a {name} that is not finite at its step {self._steps}: {values[row]}."
            )

    def _masks(self, observations: Tree, infos: dict[str, Any], *, at_reset: bool) -> BoolArray | None:
        """Return the masks for the observations; lanes that give none may do anything.

        Raises:
            EnvironmentFailure: If a mask has a wrong size, allows nothing, or comes where the reset gave none: a rollout
                has masks at every step or at none.
        """
        space = self.action_space
        sizes = space.nvec.reshape(-1) if isinstance(space, gym.spaces.MultiDiscrete) else [getattr(space, "n", 0)]
        shape = (self.num_envs, int(sum(sizes)))
        if isinstance(observations, dict) and ACTION_MASK_KEY in observations:
            masks, given = np.asarray(observations[ACTION_MASK_KEY]), np.ones(self.num_envs, dtype=bool)
        elif ACTION_MASK_KEY in infos:
            masks = np.asarray(infos[ACTION_MASK_KEY])
            given = np.broadcast_to(np.asarray(infos.get("_" + ACTION_MASK_KEY, True), dtype=bool), self.num_envs)
        else:
            self._gives_masks &= not at_reset
            return np.ones(shape, dtype=bool) if self._gives_masks else None
        place = f"{ACTION_MASK_KEY} at step {self._steps} of the lanes"
        if masks.dtype == object or masks.size != shape[0] * shape[1]:
            raise EnvironmentFailure(f"The {place} must be an array of {shape[1]} booleans a lane, for {space}.")
        self._gives_masks |= at_reset
        if not self._gives_masks:
            raise EnvironmentFailure(f"There is an {place}, but none was in the info of reset: give one there too.")
        masks = masks.astype(bool).reshape(shape) | ~given[:, None]
        for group in np.split(masks, np.cumsum(sizes)[:-1], axis=1):
            if not group.any(axis=1).all():
                lane = int(np.flatnonzero(~group.any(axis=1))[0])
                raise EnvironmentFailure(f"The action mask of env {lane} at its step {self._steps} allows no action.")
        return masks

    def get_state(self) -> Tree | None:
        """Return the state of every lane, to go on from exactly here, or None where an env can't give it."""
        if self.kind == "native":
            state = getattr(self.envs, "get_state", None)
            return {"native": state(), "steps": self._steps} if state is not None else None
        states = self.envs.call("get_lane_state")  # type: ignore[attr-defined]
        return None if any(state is None for state in states) else {"lanes": list(states), "steps": self._steps}

    def set_state(self, state: Tree, seeds: Sequence[int]) -> None:
        """Go on from a state of ``get_state``. Lanes are reset first, as Gymnasium demands before a step."""
        self.envs.reset(seed=list(seeds))  # type: ignore[arg-type]
        self._steps = state["steps"]
        if self.kind == "native":
            self.envs.set_state(state["native"])  # type: ignore[attr-defined]
        else:
            self.envs.call("set_lane_state", state["lanes"])  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the envs and end the workers."""
        self.envs.close()


def _final_rows(final: Any, finished: npt.NDArray[np.intp]) -> Tree:
    """Return the last observations of the finished lanes as arrays ``(N, ...)``.

    Gymnasium's vector envs give an object array of single observations, native ones may give one full array.
    """
    if isinstance(final, np.ndarray) and final.dtype == object:
        rows = [final[lane] for lane in finished]
        return tree_map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), rows[0], *rows[1:])
    return tree_map(lambda leaf: np.asarray(leaf)[finished], final)


def _successes(infos: dict[str, Any], finished: npt.NDArray[np.intp]) -> FloatArray:
    """Return ``is_success`` of the finished lanes from the last step's info, NaN where it is not given."""
    unknown = np.full(len(finished), np.nan)
    final = infos.get("final_info", infos)
    if not len(finished) or "is_success" not in final:
        return unknown
    successes = np.asarray(final["is_success"], dtype=np.float64)
    given = np.broadcast_to(np.asarray(final.get("_is_success", True), dtype=bool), successes.shape)
    return np.where(given[finished], successes[finished], unknown)
