"""Python values as JSON and back, each as what it was.

JSON knows neither infinity and NaN nor tuples, sets, arrays and keys that are no text. They are written as dicts with a
tag; all else as JSON writes it, so that a file stays readable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_TAG = "__rlstm__"
_PLAIN = (type(None), bool, int, str)


def encode(value: Any, place: str) -> Any:
    """Return a value as what JSON can hold, for ``decode``.

    Args:
        value: None, a bool, a number, text, or a list, tuple, set, dict or numpy array of such.
        place: What it is called in messages.

    Raises:
        ValueError: If it is, or holds, something else, naming the place.
    """
    kind = type(value)
    if kind in _PLAIN or (kind is float and math.isfinite(value)):
        return value
    if kind is float:
        return {_TAG: "float", "value": repr(value)}
    if kind is list:
        return [encode(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if kind in (tuple, set, frozenset):
        items = value if kind is tuple else sorted(value, key=repr)
        return {_TAG: kind.__name__, "items": [encode(item, f"{place}[{index}]") for index, item in enumerate(items)]}
    if isinstance(value, Mapping):
        if _TAG not in value and all(type(key) is str for key in value):
            return {key: encode(item, f"{place}['{key}']") for key, item in value.items()}
        pairs = [[encode(key, f"a key of {place}"), encode(item, f"{place}[{key!r}]")] for key, item in value.items()]
        return {_TAG: "dict", "items": pairs}
    import numpy as np  # Here, so that plain values don't wait for it.

    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufU":
        tag = "array" if isinstance(value, np.ndarray) else "scalar"
        return {_TAG: tag, "dtype": value.dtype.str, "values": encode(value.tolist(), place)}
    raise ValueError(
        f"{place} is {value!r}, a {kind.__name__}: a run can't store it, and so could not be resumed or evaluated. "
        "Give numbers, text, lists, tuples, sets, dicts or numpy arrays of such, or let the env make it from a name."
    )


def decode(value: Any) -> Any:
    """Return what ``encode`` was given."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag = value.get(_TAG)
    if tag is None:
        return {key: decode(item) for key, item in value.items()}
    if tag == "float":
        return float(value["value"])
    if tag == "dict":
        return {decode(key): decode(item) for key, item in value["items"]}
    if tag in ("tuple", "set", "frozenset"):
        made: Any = {"tuple": tuple, "set": set, "frozenset": frozenset}[tag]
        return made(decode(item) for item in value["items"])
    import numpy as np

    array = np.array(decode(value["values"]), dtype=np.dtype(value["dtype"]))
    return array if tag == "array" else array[()]
