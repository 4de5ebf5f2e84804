"""Observations as arrays of the shapes and kinds of numbers that their space has."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rlstm.core.trees import Tree


def fitted(observation: Any, space: spaces.Space[Any], place: str = "observation") -> Tree:
    """Return an observation with arrays as leaves.

    Lists and numbers will do for arrays, float64 for float32, and whole numbers for those of another size. Values
    beyond the bounds of a Box stay as they are: it is often declared too narrow, and networks can read them.

    Args:
        observation: As a user's env or program gives it.
        space: What it should be of.
        place: What it is called in messages.

    Raises:
        ValueError: If a key or a part is missing, or a shape, a kind of number or a choice is wrong, naming the place.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, dict):
            raise ValueError(f"{place} must be a dict with keys {list(space.spaces)}, but it is {observation!r}")
        if observation.keys() != space.spaces.keys():
            differences = [
                *(f"'{key}' is missing" for key in space.spaces if key not in observation),
                *(f"'{key}' is not in its space" for key in observation if key not in space.spaces),
            ]
            raise ValueError(f"{place} must be a dict with keys {list(space.spaces)}: {', '.join(differences)}")
        return {key: fitted(observation[key], part, f"{place}['{key}']") for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        if not isinstance(observation, tuple | list) or len(observation) != len(space.spaces):
            raise ValueError(f"{place} must be a tuple of {len(space.spaces)}, but it is {observation!r}")
        parts = enumerate(zip(observation, space.spaces, strict=True))
        return tuple(fitted(part, one, f"{place}[{index}]") for index, (part, one) in parts)
    if space.shape is None or space.dtype is None:
        return observation
    try:
        array = np.asarray(observation)
    except ValueError as error:  # Rows of several lengths.
        raise ValueError(f"{place} is no array: {error}") from error
    if array.shape != space.shape:
        raise ValueError(f"{place} has shape {array.shape}, its space {space.shape}")
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        size = space.n if isinstance(space, spaces.Discrete) else space.nvec
        if ((array < space.start) | (array >= space.start + size)).any():
            raise ValueError(f"{place} is {array.tolist()}, outside {space}")
    if array.dtype.kind in "iu" and space.dtype.kind in "iu" and array.dtype != space.dtype and array.size:
        limits = np.iinfo(space.dtype)
        if not limits.min <= array.min() <= array.max() <= limits.max:
            raise ValueError(f"{place} holds {array.min()} to {array.max()}, which is no {space.dtype}")
        return array.astype(space.dtype)
    if not np.can_cast(array.dtype, space.dtype, casting="same_kind"):
        raise ValueError(f"{place} has dtype {array.dtype}, its space {space.dtype}")
    return array
