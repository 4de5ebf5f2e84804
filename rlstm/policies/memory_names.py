"""Names for what a memory holds: ``h``, ``layer1.c``, ``critic.h``."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from rlstm.cells import State


def named_memory(state: State) -> dict[str, Tensor]:
    """Return the leaves of a policy's state by name.

    A leaf has the name of its field; in a stack that of its layer before it, counted from the bottom, and in a critic's
    own memory ``critic``.

    Args:
        state: One state a trunk, as ``RecurrentPolicy.init_state`` gives it.
    """
    actor, *critics = state
    return {**dict(_walk(actor, "")), **{name: leaf for one in critics for name, leaf in _walk(one, "critic.")}}


def _walk(state: State, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        yield prefix.removesuffix("."), state
        return
    names = getattr(state, "_fields", None) or [f"layer{index}" for index in range(len(state))]
    for name, part in zip(names, state, strict=True):
        yield from _walk(part, f"{prefix}{name}.")
