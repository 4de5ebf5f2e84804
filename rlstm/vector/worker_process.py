"""What a worker process does: it makes one env, and does with it what the main process asks.

Messages are ``(command, arguments)`` to a worker and ``(kind, value, traceback)`` back: of an answer, of a failure of
the env in words, or of Ctrl-C, if the env raised it.
"""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
from gymnasium.vector.utils import write_to_shared_memory

from rlstm.core.child_processes import prepare_worker, start_remedy
from rlstm.core.errors import EnvironmentFailure

Answer = tuple[str, Any, str]
"""Kind, value, traceback."""

open_pipes: weakref.WeakSet[Connection] = weakref.WeakSet()
"""The main process's ends of the pipes to all its workers."""


def work(lane: int, make: Callable[[], gym.Env[Any, Any]], pipe: Connection, memory: Any) -> None:
    """Make an env and do what is asked until the pipe is closed, which it is when the main process has ended."""
    prepare_worker()
    for inherited in list(open_pipes):  # By a fork. Each copy would hide the end of the main process from a worker.
        inherited.close()
    env, failure = None, None
    try:
        env = make()
    except BaseException as error:
        failure = _failure(lane, error)
    with suppress(EOFError, OSError):
        while True:
            command, arguments = pipe.recv()
            if command == "close":
                break
            answer = failure or _answer(lane, env, command, arguments, memory)
            try:
                pipe.send(answer)
            except (OSError, EOFError):
                raise
            except Exception as error:  # What can't be pickled.
                pipe.send(_failure(lane, error))
    if env is not None:
        env.close()


def _answer(lane: int, env: Any, command: str, arguments: Any, memory: Any) -> Answer:
    try:
        return "answer", _COMMANDS[command](lane, env, memory, arguments), ""
    except BaseException as error:
        return _failure(lane, error)


def _failure(lane: int, error: BaseException) -> Answer:
    if isinstance(error, KeyboardInterrupt):
        return "interrupt", None, ""
    text = str(error) if isinstance(error, EnvironmentFailure) else f"Env {lane}: {type(error).__name__}: {error}"
    if isinstance(error, OSError) and (remedy := start_remedy(error)):
        text = f"{text} ({remedy})"
    return "failure", text, traceback.format_exc()


def _compare_spaces(lane: int, env: Any, memory: Any, spaces: tuple[Any, Any]) -> None:
    for name, own, first in zip(
        ("observation", "action"), (env.observation_space, env.action_space), spaces, strict=True
    ):
        if own != first:
            raise EnvironmentFailure(
                f"The envs differ: the {name}s of env {lane} are {own}, those of the first {first}."
            )


def _reset(lane: int, env: Any, memory: Any, arguments: tuple[int | None, dict[str, Any] | None]) -> dict[str, Any]:
    seed, options = arguments
    observation, info = env.reset(seed=seed, options=options)
    write_to_shared_memory(env.observation_space, lane, observation, memory)
    return info  # type: ignore[no-any-return]


def _step(lane: int, env: Any, memory: Any, action: Any) -> tuple[float, bool, bool, dict[str, Any]]:
    observation, reward, terminated, truncated, info = env.step(action)
    if terminated or truncated:
        last, said = observation, info
        observation, info = env.reset()
        info = {"final_info": said, "final_obs": last, **info}
    write_to_shared_memory(env.observation_space, lane, observation, memory)
    return reward, terminated, truncated, info


def _call(lane: int, env: Any, memory: Any, arguments: tuple[str, tuple[Any, ...]]) -> Any:
    return env.get_wrapper_attr(arguments[0])(*arguments[1])


_COMMANDS: dict[str, Callable[[int, Any, Any, Any], Any]] = {
    "spaces": _compare_spaces,
    "reset": _reset,
    "step": _step,
    "call": _call,
}
