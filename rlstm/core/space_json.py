"""Spaces as JSON and back, so that a policy can be made without its env."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rlstm.core.tagged_json import decode, encode


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Return a space as what JSON can hold, for ``space_from_json``.

    Raises:
        ValueError: If it is none that a policy can read or write.
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": [[key, space_to_json(part)] for key, part in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"type": "Tuple", "spaces": [space_to_json(part) for part in space.spaces]}
    if isinstance(space, spaces.Box):
        shape = [int(size) for size in space.shape]
        limits = {"low": _limits(space.low), "high": _limits(space.high)}
        return {"type": "Box", "shape": shape, "dtype": np.dtype(space.dtype).str, **limits}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": np.dtype(space.dtype).str}
    if isinstance(space, spaces.MultiDiscrete):
        sizes = {"nvec": space.nvec.tolist(), "start": np.asarray(space.start).tolist()}
        return {"type": "MultiDiscrete", **sizes, "dtype": np.dtype(space.dtype).str}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "n": np.asarray(space.n).tolist()}
    raise ValueError(f"{space} can't be stored: it is no Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple.")


def _limits(bounds: Any) -> Any:
    """Return one number where all are the same, as in images, else all of them."""
    first = bounds.reshape(-1)[:1]
    same = bounds.size > 0 and bool((bounds == first).all())
    return encode(first[0].item() if same else bounds.tolist(), "a bound")


def space_from_json(stored: dict[str, Any]) -> spaces.Space[Any]:
    """Return the space that ``space_to_json`` was given.

    Raises:
        KeyError, TypeError, ValueError: If it is not as ``space_to_json`` writes it.
    """
    kind = stored["type"]
    if kind == "Dict":
        return spaces.Dict({key: space_from_json(part) for key, part in stored["spaces"]})
    if kind == "Tuple":
        return spaces.Tuple([space_from_json(part) for part in stored["spaces"]])
    if kind == "MultiBinary":
        return spaces.MultiBinary(stored["n"])
    dtype: Any = np.dtype(stored["dtype"]).type
    if kind == "Box":
        shape = tuple(stored["shape"])
        low, high = (np.broadcast_to(np.array(decode(stored[name]), dtype), shape).copy() for name in ("low", "high"))
        return spaces.Box(low, high, shape, dtype)
    if kind == "Discrete":
        return spaces.Discrete(stored["n"], start=stored["start"], dtype=dtype)
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(stored["nvec"], dtype=dtype, start=stored["start"])
    raise ValueError(f"'{kind}' is no type of space.")
