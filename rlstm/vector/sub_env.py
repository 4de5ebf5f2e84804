"""Wrappers around one single env of a vector env: its place, its trials, and its state for an exact resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.text_leaves import drop_text, text_places, without_text

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

    Text in a Dict is left out of observations and their space alike, as no network reads it.
    """

    def __init__(self, env: gym.Env[Any, Any], lane: int) -> None:
        super().__init__(env)
        self.lane = lane
        self.observation_space = without_text(env.observation_space)
        self._has_text = bool(text_places(env.observation_space))
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and check what comes back."""
        try:
            observation, info = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self._failure("reset raised", error) from error
        return self._checked(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and check what comes back."""
        self._steps += 1
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            raise self._failure("step raised", error) from error
        return self._checked(observation), reward, terminated, truncated, info

    def _checked(self, observation: Any) -> Any:
        observation = drop_text(self.env.observation_space, observation) if self._has_text else observation
        self._check(observation, self.observation_space)
        return observation

    def _failure(self, what: str, error: Exception | str) -> EnvironmentFailure:
        text = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else error
        return EnvironmentFailure(f"Env {self.lane}, its step {self._steps}: {what}: {text}")

    def _check(self, observation: Any, space: spaces.Space[Any], place: str = "observation") -> None:
        """Compare shapes and kinds of numbers; whether values are finite is checked for all lanes at once."""
        if isinstance(space, spaces.Dict):
            if not isinstance(observation, dict) or observation.keys() != space.spaces.keys():
                raise self._failure("wrong observation", f"{place} must be a dict with keys {list(space.spaces)}")
            for key, part in space.spaces.items():
                self._check(observation[key], part, f"{place}['{key}']")
        elif isinstance(space, spaces.Tuple):
            if not isinstance(observation, tuple | list) or len(observation) != len(space.spaces):
                raise self._failure("wrong observation", f"{place} must be a tuple of {len(space.spaces)}")
            for index, part in enumerate(space.spaces):
                self._check(observation[index], part, f"{place}[{index}]")
        elif space.shape is not None and space.dtype is not None:
            array = np.asarray(observation)
            if array.shape != space.shape:
                raise self._failure("wrong observation", f"{place} has shape {array.shape}, its space {space.shape}")
            if not np.can_cast(array.dtype, space.dtype, casting="same_kind"):
                raise self._failure("wrong observation", f"{place} has dtype {array.dtype}, its space {space.dtype}")

    def _stack(self) -> Iterator[tuple[str, Any]]:
        """Yield the wrappers by their depth, from the outermost on, then the env itself as ``env``."""
        env, depth = self.env, 0
        while isinstance(env, gym.Wrapper):
            yield str(depth), env
            env, depth = env.env, depth + 1
        yield "env", env

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
