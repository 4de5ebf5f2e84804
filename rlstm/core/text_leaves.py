"""Text in dicts of observations, which no network here reads: it is left out of spaces and observations."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from rlstm.core.trees import Tree


def _is_text(space: spaces.Space[Any]) -> bool:
    """Return whether values are text: ``spaces.Text``, and spaces of a package's own such as MiniGrid's missions."""
    return space.dtype is not None and space.dtype.kind == "U"


def text_places(space: spaces.Space[Any], place: str = "") -> list[str]:
    """Return where in the Dicts of a space there is text, such as ``mission``; nothing if there is nothing else."""
    if not isinstance(space, spaces.Dict) or all(_is_text(part) for part in space.spaces.values()):
        return []
    texts = [f"{place}{key}" for key, part in space.spaces.items() if _is_text(part)]
    return texts + [one for key, part in space.spaces.items() for one in text_places(part, f"{place}{key}/")]


def without_text(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space without the text in its Dicts, or the same space if there is none."""
    if not text_places(space) or not isinstance(space, spaces.Dict):
        return space
    return spaces.Dict({key: without_text(part) for key, part in space.spaces.items() if not _is_text(part)})


def drop_text(space: spaces.Space[Any], observation: Tree) -> Tree:
    """Return an observation of ``space`` as one of ``without_text(space)``; wrong ones are refused elsewhere."""
    if not isinstance(space, spaces.Dict) or not isinstance(observation, dict) or not text_places(space):
        return observation
    return {
        key: drop_text(space.spaces[key], part) if key in space.spaces else part
        for key, part in observation.items()
        if key not in space.spaces or not _is_text(space.spaces[key])
    }
