"""One process at a time trains in a folder: a lock that the operating system drops when the process ends, however.

The lock is `flock` on the file `run.lock`, which holds the number of the process and stays. Where there is no such
call, or the file system has no locks, nothing is locked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlstm.core.errors import RunDirectoryError

LOCK_FILE = "run.lock"

_held: set[int] = set()
"""Descriptors of this process. Its children close theirs, or a worker that outlives it would keep the lock."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder.

    Raises:
        RunDirectoryError: If another process holds it, or its file can't be made.
    """
    descriptor = _lock(folder)
    try:
        yield
    finally:
        if descriptor in _held:  # Not in a child.
            _held.remove(descriptor)
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # Not POSIX.
        return None
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunDirectoryError(
            f"can't write {folder / LOCK_FILE}: {error.strerror}. Free some space, or choose a folder you may write to."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise RunDirectoryError(
            f"process {holder or 'unknown'} is training in {folder}. Wait until it ends, or stop it (kill {holder}): "
            "two at once would spoil the run."
        ) from None
    except OSError:
        pass  # The file system has no locks.
    else:
        with suppress(OSError):  # The number is for people.
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
    _held.add(descriptor)
    return descriptor


def _forget_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
