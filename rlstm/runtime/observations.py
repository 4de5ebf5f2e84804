"""Observations of a user's program as the inputs of an exported policy: the right places, shapes and types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MASK = "action_mask"
Array = npt.NDArray[Any]


def read_observations(observations: Any, leaves: Sequence[Mapping[str, Any]], *, batched: bool) -> dict[str, Array]:
    """Return the parts of observations by the names of the inputs, ``(B, ...)``.

    Lists and numbers will do for arrays, float64 for float32, and whole numbers for those of another size.

    Args:
        observations: One observation, or a batch: a tree whose leaves begin with B.
        leaves: The inputs that are parts of the observation, as ``policy.json`` describes them.
        batched: Whether it is a batch; of one observation a batch of one is made.

    Raises:
        ValueError: If a part is missing or nobody knows it, a shape, a kind of number or a choice is wrong, or a number
            is not finite, naming the place.
    """
    is_pair = isinstance(observations, tuple) and len(observations) == 2 and isinstance(observations[1], dict)
    if is_pair and all(not leaf["path"] or isinstance(leaf["path"][0], str) for leaf in leaves):
        raise ValueError("The observation is a pair, as reset returns it: give its first part, without the info.")
    picked = [_pick(observations, leaf["path"]) for leaf in leaves]
    _refuse_strangers(observations, [leaf["path"] for leaf in leaves], "The observation", is_top=True)
    parts = [(place, part if batched else part[None]) for place, part in picked]
    rows = parts[0][1].shape[:1]
    return {leaf["name"]: _fitted(part, leaf, rows, place) for leaf, (place, part) in zip(leaves, parts, strict=True)}


def _pick(observation: Any, path: Sequence[Any]) -> tuple[str, Array]:
    """Return what a part is called, and the part."""
    place = "The observation"
    for key in path:
        wanted = dict if isinstance(key, str) else tuple | list
        if not isinstance(observation, wanted):
            raise ValueError(f"{place} must have a part {key!r}, but it is {observation!r}.")
        try:
            observation = observation[key]
        except (KeyError, IndexError):
            raise ValueError(f"{place} must have a part {key!r}, which is missing.") from None
        place += f"[{key!r}]"
    try:
        return place, np.asarray(observation)
    except ValueError as error:  # Rows of several lengths.
        raise ValueError(f"{place} is no array: {error}") from error


def _refuse_strangers(observation: Any, paths: Sequence[Sequence[Any]], place: str, *, is_top: bool = False) -> None:
    """Refuse keys and parts that the policy does not know, but for text and a mask."""
    if not all(paths):  # A leaf.
        return
    parts = observation.items() if isinstance(observation, dict) else enumerate(observation)
    for key, part in parts:
        inner = [path[1:] for path in paths if path[0] == key]
        if inner:
            _refuse_strangers(part, inner, f"{place}[{key!r}]")
        elif not isinstance(part, str) and not (is_top and key == MASK):
            raise ValueError(f"{place} has a part {key!r}, which the policy does not know.")


def _fitted(part: Array, leaf: Mapping[str, Any], rows: tuple[int, ...], place: str) -> Array:
    shape, dtype = tuple(leaf["shape"][1:]), np.dtype(leaf["dtype"])
    if len(rows) != 1 or part.shape != (*rows, *shape):
        raise ValueError(f"{place} has shape {part.shape[1:]}, its space {shape}; rows: {part.shape[:1]} of {rows}.")
    are_whole = part.dtype.kind in "iu" and dtype.kind in "iu"
    if not are_whole and not np.can_cast(part.dtype, dtype, casting="same_kind"):
        raise ValueError(f"{place} has dtype {part.dtype}, its space {dtype}.")
    low, high = leaf.get("low"), leaf.get("high")
    if are_whole and part.size:
        limits = np.iinfo(dtype)
        low, high = (limits.min if low is None else low), (limits.max if high is None else high)
    if low is not None and ((part < np.asarray(low)) | (part > np.asarray(high))).any():
        raise ValueError(f"{place} is {part.tolist()}, but it must be from {low} to {high}.")
    if part.dtype.kind == "f" and not np.isfinite(part).all():
        raise ValueError(f"{place} holds {part[~np.isfinite(part)].flat[0]} in {part.tolist()}: it must be finite.")
    return part.astype(dtype)  # A copy: the caller may write to its own.


def read_masks(masks: Any, size: int | None, rows: int) -> npt.NDArray[np.bool_] | None:
    """Return masks ``(B, M)``; all is allowed where none is given, and there is none where actions have none.

    Raises:
        ValueError: If they don't fit, or one allows no action.
    """
    if size is None:
        if masks is not None:
            raise ValueError("There is an action mask, but actions of this policy can't be masked.")
        return None
    if masks is None:
        return np.ones((rows, size), dtype=bool)
    found = np.asarray(masks)
    if found.size != rows * size:
        raise ValueError(f"The action mask has shape {found.shape}; it must have {size} booleans for each observation.")
    allowed = found.astype(bool).reshape(rows, size)
    if not allowed.any(axis=1).all():
        raise ValueError("The action mask allows no action.")
    return allowed
