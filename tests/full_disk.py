"""A disk that is full at a moment of one's choice: the n-th write, rename, sync, open or new folder in a folder fails.

A write that fails has written half of its data. TensorBoard's event files are let alone: no run depends on them.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class FullDisk:
    """Counts operations within a folder, and lets one fail."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number, self.count = str(folder), number, 0
        self.failed: str | None = None
        """The operation that failed, None before."""

    def concerns(self, path: Any) -> bool:
        """Whether a path lies in the folder."""
        text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
        return str(text).startswith(self.folder) and "tfevents" not in str(text)

    def is_full(self, operation: str) -> bool:
        """Count an operation, and return whether it shall fail."""
        self.count += 1
        if self.count == self.number:
            self.failed = operation
        return self.count == self.number

    def meet(self, operation: str, path: Any) -> None:
        """Count an operation, and let it fail if it is its turn."""
        if self.is_full(f"{operation} {path}"):
            raise no_space(path)


def no_space(path: Any = None) -> OSError:
    """Return the error of a full disk."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), None if path is None else os.fspath(path))


class TornFile:
    """A file whose writes may fail half-way."""

    def __init__(self, file: Any, disk: FullDisk) -> None:
        self._file, self._disk = file, disk

    def write(self, data: Any) -> int:
        if self._disk.is_full(f"write {self._file.name}"):
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            raise no_space()
        return int(self._file.write(data))

    def __enter__(self) -> TornFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def full_disk(folder: Path, number: int) -> Iterator[FullDisk]:
    """Let the operation of this number, from 1 on, fail; later ones succeed."""
    disk, open_file = FullDisk(folder, number), io.open

    def opened(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not disk.concerns(path) or not set(mode) & set("wax+"):
            return open_file(path, mode, *arguments, **options)
        disk.meet("open", path)
        return TornFile(open_file(path, mode, *arguments, **options), disk)

    def failing(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: Any, *arguments: Any, **options: Any) -> Any:
            if name == "fsync":
                disk.meet(name, None)
            elif (
                disk.concerns(path) and options.get("dir_fd") is None and not (name == "mkdir" and Path(path).is_dir())
            ):
                disk.meet(name, path)
            return function(path, *arguments, **options)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        for name in ("open", "fsync", "replace", "rename", "mkdir"):
            patch.setattr(os, name, failing(name, getattr(os, name)))
        yield disk
