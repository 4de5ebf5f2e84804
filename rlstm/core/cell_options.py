"""Options that memory cells share: their values, and what is refused. Free of torch, for the settings of a policy."""

from __future__ import annotations

from typing import Any, Literal, get_args

MemoryInit = Literal["chrono", "log_spaced"]
SequencePath = Literal["auto", "loop", "triton"]


def check_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a value that is none of those of a ``Literal``.

    Raises:
        ValueError: With the name of the option, the value and the choices.
    """
    if value not in get_args(choices):
        raise ValueError(f"{name} is '{value}'; it must be one of {', '.join(get_args(choices))}.")


def check_memory_length(memory_length: int | None, memory_init: str) -> None:
    """Refuse a memory length out of range, and a way to spread time scales that are not asked for.

    Raises:
        ValueError: If ``memory_length`` is smaller than 3, where no time scale lies between the shortest and the
            longest; if ``memory_init`` is unknown; or if it is not the default and there is no ``memory_length``.
    """
    check_choice("memory_init", memory_init, MemoryInit)
    if memory_length is None and memory_init != "chrono":
        raise ValueError(
            f"memory_init is '{memory_init}', but memory_length is not set: say how many steps the memory should "
            "bridge, or leave memory_init away."
        )
    if memory_length is not None and memory_length < 3:
        raise ValueError(f"memory_length is {memory_length}; it must be at least 3 steps.")


def refuse_memory_length(memory_length: int | None, memory_init: str, reason: str) -> None:
    """Refuse whatever sets a memory length, for cells where nothing could hold one.

    Raises:
        ValueError: If ``memory_length`` is given or ``memory_init`` is not the default, with the reason.
    """
    for name, value, default in (("memory_length", memory_length, None), ("memory_init", memory_init, "chrono")):
        if value != default:
            raise ValueError(f"{name} is {value!r}, but {reason}; use 'lstm' or 'gru'.")
