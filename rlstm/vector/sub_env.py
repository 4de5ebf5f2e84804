"""Wrappers around one single env of a vector env: its place, its trials, and its state for an exact resume."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rlstm.core.arrays import ACTION_MASK_KEY, BoolArray
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.observations import fitted
from rlstm.core.plain_data import decode, encode
from rlstm.core.text_leaves import drop_text, text_places, without_text
from rlstm.core.trees import Tree, tree_map

# Gymnasium's own wrappers that gym.make may add, and the attributes in which they keep something between steps.
_KNOWN_WRAPPERS: dict[type, tuple[str, ...]] = {
    gym.wrappers.TimeLimit: ("_elapsed_steps",),
    gym.wrappers.OrderEnforcing: ("_has_reset",),
    gym.wrappers.PassiveEnvChecker: (),  # It only warns, and what it has seen is an env's own.
}


def supports_new_task(env: gym.Env[Any, Any]) -> bool:
    """Return whether the env declares that it keeps its task when reset with ``options={"new_task": False}``."""
    return bool(env.unwrapped.metadata.get("supports_new_task", False))


def _has_state(env: gym.Env[Any, Any]) -> bool:
    """Return whether the env or wrapper itself can give its state and take it back."""
    return all(callable(getattr(env, name, None)) for name in ("get_state", "set_state"))


READ_KEYS = (ACTION_MASK_KEY, "regret", "is_success", "label_errors", "num_labels", "target", "trial_start")
"""Keys of an info that the library reads."""


def mask_sizes(space: gym.Space[Any]) -> list[int]:
    """Return the number of choices of every discrete action, in the order of a mask; [] where none can be masked."""
    if isinstance(space, spaces.MultiDiscrete):
        return [int(size) for size in space.nvec.reshape(-1)]
    return [int(space.n)] if isinstance(space, spaces.Discrete) else []


def read_target(target: Any, space: gym.Space[Any]) -> npt.NDArray[Any] | None:
    """Return a teacher's answer as numbers of the shape of an action; None if it is none, or asks nothing.

    A class below 0 and NaN ask nothing; what has no numbers, or not as many as an action, is something else.
    """
    try:
        array = np.asarray(target)
        if array.dtype.kind not in "fiub" or array.size != math.prod(space.shape or ()):
            return None
    except ValueError:  # Rows of several lengths.
        return None
    array = array.reshape(space.shape or ()).astype(np.float64)
    if np.isnan(array).any():
        return None
    return array if isinstance(space, spaces.Box) else None if (array < 0).any() else array.astype(np.int64)


class TrialEnv(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Trials of K episodes: the first reset of a trial asks for a new task, the others for the same one.

    Vector envs reset without options when an episode ends, so this wrapper injects them. It reports
    ``info["trial_start"]`` at every reset.

    Args:
        env: An env that honours ``options={"new_task": bool}`` and declares ``metadata["supports_new_task"]``.
        episodes_per_trial: K.
        insist: Run over an env that does not declare it.

    Raises:
        EnvironmentFailure: If the env does not declare it and ``insist`` is False.
    """

    def __init__(self, env: gym.Env[Any, Any], episodes_per_trial: int, insist: bool = False) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, episodes_per_trial=episodes_per_trial, insist=insist)
        gym.Wrapper.__init__(self, env)
        if not insist and not supports_new_task(env):
            raise EnvironmentFailure(
                "trials were asked for, but the env does not declare metadata['supports_new_task'], so its episodes "
                "may not share a task. Make its reset honour options={'new_task': bool} and declare it, or insist "
                "with --memory.insist-on-trials."
            )
        self.episodes_per_trial = episodes_per_trial
        self._episode = -1  # Index in the trial of the running episode; -1 before the first reset.

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset for the next episode; a seed begins a new trial."""
        self._episode = 0 if seed is not None else (self._episode + 1) % self.episodes_per_trial
        trial_start = self._episode == 0
        observation, info = self.env.reset(seed=seed, options={**(options or {}), "new_task": trial_start})
        return observation, {**info, "trial_start": trial_start}

    def get_state(self) -> dict[str, Any]:
        """Return the place in the trial."""
        return {"episode": self._episode}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a place in a trial."""
        self._episode = state["episode"]


class SubEnv(gym.Wrapper[Any, Any, Any, Any]):
    """One lane of a vector env: names itself when its env breaks, and gives the whole stack's state.

    Text in a Dict is left out of observations and their space alike, as no network reads it. Observations are arrays,
    and the last one of an episode is a copy, which an env that writes its observations in place can't change. Of an
    info only what the library reads is left, each key of one type, so that those of several envs can be merged.
    """

    def __init__(self, env: gym.Env[Any, Any], lane: int, log_info: Sequence[str] = ()) -> None:
        super().__init__(env)
        self.lane = lane
        self._log_info = log_info
        self.observation_space = without_text(env.observation_space)
        self._has_text = bool(text_places(env.observation_space))
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and check what comes back.

        If a seed above 2**32 - 1 raises, which numpy's former generators don't take, its lower 32 bits are tried.
        """
        try:
            try:
                observation, info = self.env.reset(seed=seed, options=options)
            except (ValueError, OverflowError, TypeError):
                if seed is None or seed < 2**32:
                    raise
                for _, env in self._stack():
                    if isinstance(env, gym.wrappers.PassiveEnvChecker):
                        env.checked_reset = False  # It keeps what the first reset returned.
                observation, info = self.env.reset(seed=seed % 2**32, options=options)
        except (Exception, SystemExit) as error:
            raise self._failure("reset raised", error) from error
        return self._checked(observation), self._read(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and check what comes back."""
        self._steps += 1
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self._failure("step raised", error) from error
        observation = self._checked(observation)
        if terminated or truncated:
            observation = tree_map(np.copy, observation)
        return observation, self._number("reward", reward), bool(terminated), bool(truncated), self._read(info)

    def close(self) -> None:
        """Close the env. That it can't be closed is only told: what was learnt, or broke before, counts for more."""
        try:
            super().close()
        except (Exception, SystemExit) as error:
            warnings.warn(f"Env {self.lane} could not be closed: {type(error).__name__}: {error}", stacklevel=2)

    def _checked(self, observation: Any) -> Tree:
        observation = drop_text(self.env.observation_space, observation) if self._has_text else observation
        try:
            return fitted(observation, self.observation_space)
        except ValueError as error:
            raise self._failure("wrong observation", str(error)) from error

    def _failure(self, what: str, error: BaseException | str) -> EnvironmentFailure:
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        return EnvironmentFailure(f"Env {self.lane}, its step {self._steps}: {what}: {text}")

    def _number(self, name: str, value: Any) -> float:
        """Return a number, or what an array of one number holds."""
        try:
            array = np.asarray(value)
            if array.size == 1 and array.dtype.kind in "fiub":
                return float(array.item())
        except (TypeError, ValueError):
            pass
        raise self._failure(f"{name} must be one number", f"it is {value!r}")

    def _read(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return of an info what the library reads, each key always of one type; None is as good as no key."""
        said: dict[str, Any] = {name: value for name in READ_KEYS if (value := info.get(name)) is not None}
        for name in ("regret", "is_success", "label_errors", "num_labels"):
            if name in said:
                said[name] = self._number(f"info['{name}']", said[name])
        if said.get("is_success", 0.0) not in (0.0, 1.0):
            if math.isnan(said["is_success"]):
                del said["is_success"]
            else:
                raise self._failure("info['is_success'] must be 0 or 1", f"it is {said['is_success']:g}")
        if self._log_info:
            said["logged"] = np.array([self._logged(info, name) for name in self._log_info])
        if "trial_start" in said:
            said["trial_start"] = bool(said["trial_start"])
        if ACTION_MASK_KEY in info and ACTION_MASK_KEY not in said and mask_sizes(self.action_space):
            said[ACTION_MASK_KEY] = np.ones(sum(mask_sizes(self.action_space)), dtype=bool)  # All is allowed.
        if ACTION_MASK_KEY in said:
            said[ACTION_MASK_KEY] = self._mask(said[ACTION_MASK_KEY])
        if "target" in said:
            target = read_target(said.pop("target"), self.action_space)
            said |= {} if target is None else {"target": target}
        return said

    def _logged(self, info: dict[str, Any], name: str) -> float:
        """Return the number that an info has under a name, NaN for none."""
        value = info.get(name)
        return math.nan if value is None else self._number(f"info['{name}']", value)

    def _mask(self, mask: Any) -> BoolArray:
        """Return an action mask ``(M,)``."""
        size = sum(mask_sizes(self.action_space))
        try:
            array = np.asarray(mask)
            if size and array.size == size and array.dtype.kind in "fiub":
                return array.astype(bool).reshape(-1)
            found = f"it has shape {array.shape}"
        except ValueError:  # Rows of several lengths.
            found = f"it is {mask!r}"
        wanted = f"an array of {size} booleans" if size else "left out: these actions can't be masked"
        raise self._failure(f"info['{ACTION_MASK_KEY}'] must be {wanted}, for {self.action_space}", found)

    def _stack(self) -> Iterator[tuple[str, Any]]:
        """Yield the wrappers by their depth, from the outermost on, then the env itself as ``env``."""
        env, depth = self.env, 0
        while isinstance(env, gym.Wrapper):
            yield str(depth), env
            env, depth = env.env, depth + 1
        yield "env", env

    def state_fault(self) -> str | None:
        """Try ``get_state`` and ``set_state`` of the env and its wrappers after a reset; returns what is wrong.

        An env may have such methods with another meaning: then it can't be stored. It is reset here, unless it has no
        such methods at all, which is no fault.
        """
        owners = [env for _, env in self._stack() if type(env) not in _KNOWN_WRAPPERS and _has_state(env)]
        if not owners:
            return None
        self.reset(seed=0)
        for env in owners:
            name = type(env).__name__
            try:
                env.set_state(decode(encode(env.get_state(), f"what {name}.get_state() returns")))
            except (Exception, SystemExit) as error:
                return f"get_state and set_state of {name} are not those of an exact resume: {error}"
        return None

    def get_lane_state(self) -> dict[str, Any] | None:
        """Return the state of the env and all its wrappers, or None where one of them can't give it."""
        states: dict[str, Any] = {"steps": self._steps}
        for place, env in self._stack():
            if (attributes := _KNOWN_WRAPPERS.get(type(env))) is not None:
                states[place] = {name: getattr(env, name) for name in attributes if hasattr(env, name)}
                continue
            if not _has_state(env):
                return None
            states[place] = env.get_state()
        return states

    def set_lane_state(self, states: list[dict[str, Any]]) -> None:
        """Take this lane's state out of the list of all lanes'."""
        state = states[self.lane]
        self._steps = state["steps"]
        for place, env in self._stack():
            if type(env) not in _KNOWN_WRAPPERS:
                env.set_state(state[place])
                continue
            for name, value in state[place].items():
                setattr(env, name, value)
