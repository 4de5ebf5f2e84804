"""Files that are replaced as a whole, and values as JSON."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically. Raises `TypeError` as `json_ready` does, or `OSError`."""
    write_atomically(path, (json.dumps(json_ready(value), indent=2, allow_nan=False) + "\n").encode())


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
