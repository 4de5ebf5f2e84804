"""Files that are replaced as a whole, values as JSON, and seals: hashes that tell whether something has changed."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from rlstm.core.errors import RunDirectoryError

_SEAL = "seal"
_MOST_LEVELS = 100  # Of objects and lists in each other, in a file that is read.


def json_ready(value: Any) -> Any:
    """Turns dataclasses, mappings, sequences, enums, paths and numpy values into plain ones; else `TypeError`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_ready(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if isinstance(value, enum.Enum):
        return json_ready(value.value)
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float)):
        return value
    import numpy as np  # Here, so that lists of plain values don't wait for it.

    if isinstance(value, (np.generic, np.ndarray)):
        return json_ready(value.tolist())
    raise TypeError(f"JSON can't hold {value!r} of type {type(value).__name__}; give numbers, text, lists or mappings.")


def json_bytes(value: Any) -> bytes:
    """Returns `value` as indented JSON, as `write_json` writes it. Raises `TypeError` as `json_ready` does."""
    return (json.dumps(json_ready(value), indent=2, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically. Raises `TypeError` as `json_ready` does, or `OSError`."""
    write_atomically(path, json_bytes(value))


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; raises `RunDirectoryError` naming the file if it is missing, damaged or not an object."""
    try:
        return parse_object(path.read_bytes().decode("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else str(error)
        raise RunDirectoryError(f"{path} can't be read: {reason}. Restore it from a copy, or train anew.") from error


def parse_object(text: str, name: str) -> dict[str, Any]:
    """Returns the JSON object that a text of this name holds; else raises `RunDirectoryError`."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        _refuse_deep(value)
    except (ValueError, RecursionError) as error:  # Numbers of thousands of digits and deep nesting, too.
        reason = "is empty" if not text.strip() else f"is damaged: no valid JSON ({error})"
        raise RunDirectoryError(f"{name} {reason}. Restore it from a copy, or train anew.") from error
    if not isinstance(value, dict):
        raise RunDirectoryError(f"{name} holds {type(value).__name__} where a JSON object is expected.")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _refuse_deep(value: Any) -> None:
    """Refuse what functions that call themselves could not walk through."""
    level = [value]
    for _ in range(_MOST_LEVELS):
        parts = [list(one.values()) if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))]
        level = [item for part in parts for item in part]
        if not level:
            return
    raise ValueError(f"nested deeper than {_MOST_LEVELS} levels")


def sha256(data: bytes) -> str:
    """Returns the hash of bytes as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values for a JSON file with a hash of themselves, for `is_sealed`."""
    return {**values, _SEAL: sha256(json_bytes(values))}


def is_sealed(values: Mapping[str, Any]) -> bool:
    """Returns whether values read from a JSON file are those that were sealed; True for those that never were."""
    rest = {key: value for key, value in values.items() if key != _SEAL}
    return _SEAL not in values or values[_SEAL] == sha256(json_bytes(rest))


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces the file by `content`; after a crash it holds the old or the new, never a part. Raises `OSError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes renames within the folder survive a power cut. Only POSIX can open a folder. Raises `OSError`."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
