"""Checks on what users pass to the environments. Each error says what was wrong, the value, and what would be right.

Letters in shapes: B = num_envs.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from rlstm.core.arrays import Array, BoolArray

State = dict[str, Array]

RENDER_MODES = ("ansi", "rgb_array")


def load_class(argument: str, reference: str | type[Any], base: type[Any]) -> Any:
    """Return a class derived from `base`, imported if `reference` is its name, "module:Class".

    Raises:
        ValueError: If it is neither such a class nor the name of one; the error names the `argument`.
    """
    found: Any = reference
    if isinstance(reference, str):
        module, colon, name = reference.partition(":")
        found = getattr(importlib.import_module(module), name, None) if module and colon else None
    if not (isinstance(found, type) and issubclass(found, base)):
        name = base.__name__
        raise ValueError(f"{argument} must be a {name} or its name, such as 'module:Class', but got {reference!r}.")
    return found


def check_integer(name: str, value: object, low: int) -> None:
    """Raise ValueError unless `value` is an integer >= low."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ValueError(f"{name} must be an integer >= {low}, but got {value!r}.")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise ValueError unless `value` is a number in [low, high]."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not low <= float(value) <= high:  # type: ignore[arg-type]
        raise ValueError(f"{name} must be a number in [{low}, {high}], but got {value!r}.")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, but got {value!r}.")


def check_boolean(name: str, value: object) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, but got {value!r}.")


def check_state(state: State, expected: State) -> None:
    """Raise ValueError unless `state` has the names, shapes and dtypes of `expected`."""
    remedy = "Pass what get_state() gave for an environment of the same kind, num_envs and arguments."
    if state.keys() != expected.keys():
        missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
        raise ValueError(f"The state lacks {missing} and has the unknown {unknown}. {remedy}")
    for name, array in expected.items():
        found = np.asarray(state[name])
        if found.shape != array.shape or found.dtype != array.dtype:
            raise ValueError(
                f"The state's {name!r} is {found.dtype}{found.shape}, but this environment needs "
                f"{array.dtype}{array.shape}. {remedy}"
            )


def check_actions(space: gym.Space[Any], actions: Any, num_envs: int) -> Array:
    """Return `actions` as an array (B, ...) of the space's dtype.

    Raises:
        ValueError: The shape or kind is wrong, or a lane's action lies outside `space`.
    """
    array = np.asarray(actions)
    if _are_choices(space, array, num_envs):  # Nearly always, and then nothing else need be asked.
        return array
    shape = (num_envs, *(space.shape or ()))
    if array.shape != shape:
        raise ValueError(
            f"Actions have the shape {array.shape}, but {num_envs} environments with {space} need {shape}."
        )
    if isinstance(space, gym.spaces.Discrete):
        return _check_discrete(space, array)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return _check_multi_discrete(space, array)
    if not isinstance(space, gym.spaces.Box) or array.dtype.kind not in "fiu":
        raise ValueError(f"Actions are of dtype {array.dtype}, but {space} needs numbers.")
    # Not (low <= action <= high) instead of its reverse, so that NaN is outside.
    outside = ~((array >= space.low) & (array <= space.high))
    if outside.any():
        raise _outside(space, array, int(np.argmax(outside.reshape(num_envs, -1).any(axis=1))))
    return array.astype(space.dtype, copy=False)


def _are_choices(space: gym.Space[Any], array: Array, num_envs: int) -> bool:
    """Whether `array` is surely an int64 action of a Discrete space from 0 on for each lane."""
    return (
        type(space) is gym.spaces.Discrete
        and array.dtype == np.int64
        and array.shape == (num_envs,)
        and not space.start
        # Seen as unsigned, a negative number is huge: one comparison does for both ends.
        and bool(np.maximum.reduce(array.view(np.uint64)) < space.n)
    )


def _check_discrete(space: gym.spaces.Discrete[Any], array: Array) -> Array:
    if array.dtype.kind not in "iu":
        raise ValueError(f"Actions are of dtype {array.dtype}, but {space} needs integers.")
    offsets = array.astype(np.int64, copy=False)
    if space.start:
        offsets = offsets - space.start
    outside = (offsets < 0) | (offsets >= space.n)
    if outside.any():
        raise _outside(space, array, int(np.argmax(outside)))
    return array.astype(np.int64, copy=False)


def _check_multi_discrete(space: gym.spaces.MultiDiscrete, array: Array) -> Array:
    if array.dtype.kind not in "iu":
        raise ValueError(f"Actions are of dtype {array.dtype}, but {space} needs integers.")
    offsets = array.astype(np.int64, copy=False) - space.start
    outside = (offsets < 0) | (offsets >= space.nvec)
    if outside.any():
        raise _outside(space, array, int(np.argmax(outside.reshape(len(array), -1).any(axis=1))))
    return array.astype(np.int64, copy=False)


def _outside(space: gym.Space[Any], array: Array, lane: int) -> ValueError:
    return ValueError(f"The action {array[lane]} of lane {lane} is outside {space}: choose one inside.")


def checked_render_mode(render_mode: str | None) -> str | None:
    """Return `render_mode`, or raise ValueError if there is no such mode."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode must be None or one of {RENDER_MODES}, but got {render_mode!r}.")
    return render_mode


def check_trials(task_name: str, supports_new_task: bool, episodes_per_trial: int) -> None:
    """Raise ValueError if trials of so many episodes of the task are impossible."""
    check_integer("episodes_per_trial", episodes_per_trial, 1)
    if not supports_new_task:
        raise ValueError(
            f"episodes_per_trial is {episodes_per_trial}, but {task_name} draws no task that could be kept from "
            "episode to episode (supports_new_task is False): leave episodes_per_trial out, or choose an environment "
            "that supports trials, such as rlstm/TMaze-v0."
        )


def require_reset(was_reset: bool, call: str) -> None:
    """Raise ResetNeeded if there was no reset before `call`."""
    if not was_reset:
        raise ResetNeeded(f"There is no episode yet: call reset() before {call}().")


def read_option(options: dict[str, Any] | None, name: str, default: bool) -> bool:
    """Return whether a reset with these options asks for "new_task" or "teacher_forcing"."""
    asked = (options or {}).get(name, default)
    check_boolean(f"options {name}", asked)
    return bool(asked)


def lane_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> Sequence[int | None]:
    """Return one seed per lane: s, s + 1, ... for an integer s, and a sequence as it is."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int | np.integer):
        return [int(seed) + lane for lane in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(
            f"Got {len(seed)} seeds for {num_envs} environments: pass one for each, or one integer for all."
        )
    return seed


def has_value(values: Array) -> BoolArray:
    """Return (B,) where an info (B, ...) means something: everywhere but where a float is NaN."""
    if values.dtype.kind != "f":
        return np.ones(len(values), dtype=np.bool_)
    is_missing = np.isnan(values).reshape(len(values), -1).any(axis=1)
    return np.asarray(~is_missing, dtype=np.bool_)
