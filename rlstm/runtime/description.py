"""``policy.json`` and the model beside it, read and checked."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

_FORMAT_VERSION = 1


def read_export(folder: str | os.PathLike[str], file: str) -> tuple[dict[str, Any], bytes]:
    """Return the description of an export and the bytes of a file of its model, whose checksum is right.

    Raises:
        ValueError: If the folder is no export, lacks the file, is of another format version, or is damaged.
    """
    folder = Path(folder)
    try:
        description: dict[str, Any] = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} is no exported policy: policy.json can't be read ({error}).") from error
    version = description.get("format_version")
    if version != _FORMAT_VERSION:
        raise ValueError(f"{folder} has format_version {version}, but {_FORMAT_VERSION} is read here. Export anew.")
    if file not in description["files"]:
        raise ValueError(f"{folder} holds {', '.join(description['files'])}, but no {file}. Export with --format onnx.")
    try:
        model = (folder / file).read_bytes()
    except OSError as error:
        raise ValueError(f"{folder / file} can't be read ({error}). Restore a copy, or export anew.") from error
    if hashlib.sha256(model).hexdigest() != description["files"][file]:
        raise ValueError(f"{folder / file} is damaged: its checksum differs. Restore a copy, or export anew.")
    return description, model
