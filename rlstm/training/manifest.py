"""`manifest.json`: the hashes of those files of a run that don't change by themselves, so that no edit goes unnoticed.

Of each file it holds the sha256 of what the file may be: one hash, two while the file is replaced, and so a crash
between two writes leaves no file that seems edited. The manifest is sealed itself. Runs of earlier versions have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlstm.core.errors import RunDirectoryError
from rlstm.core.files import is_sealed, read_json, sealed, sha256, write_json

MANIFEST_FILE = "manifest.json"
_NAMES = ("config.json", "env_spec.json", "spaces.json", "curriculum.toml")


def write_manifest(folder: Path, coming: Mapping[str, bytes] | None = None) -> None:
    """Write the hashes of the files as they are, and of what some of them will be next. Raises `OSError`."""
    contents = {name: [path.read_bytes()] for name in _NAMES if (path := folder / name).exists()}
    for name, content in (coming or {}).items():
        contents.setdefault(name, []).append(content)
    files = {name: list(dict.fromkeys(map(sha256, texts))) for name, texts in contents.items()}
    write_json(folder / MANIFEST_FILE, sealed({"files": files}))


def edited_files(folder: Path) -> list[str]:
    """Return the names of the files that are not what the manifest says, the manifest itself if it is damaged."""
    path = folder / MANIFEST_FILE
    if not path.exists():
        return []
    try:
        manifest = read_json(path)
        files: dict[str, Any] = manifest["files"]
        if not is_sealed(manifest) or "seal" not in manifest:
            return [MANIFEST_FILE]
        return [name for name, hashes in files.items() if name in _NAMES and _hash(folder / name) not in hashes]
    except (RunDirectoryError, KeyError, TypeError, AttributeError):
        return [MANIFEST_FILE]


def refuse_edited(folder: Path) -> None:
    """Check the files.

    Raises:
        RunDirectoryError: If one was edited, removed or damaged.
    """
    if edited := edited_files(folder):
        paths, are, them = ", ".join(str(folder / name) for name in edited), "are", "them"
        if len(edited) == 1:
            are, them = "is", "it"
        raise RunDirectoryError(
            f"{paths} {are} not as rlstm wrote {them}: edited, removed or damaged since. If the edit is yours, say so: "
            f"rlstm resume {folder} --accept-edits. Otherwise restore the file from a copy."
        )


def _hash(path: Path) -> str | None:
    try:
        return sha256(path.read_bytes())
    except OSError:
        return None
