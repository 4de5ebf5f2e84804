"""Who is at work on what, told by files in a folder that all processes of a study see.

A process writes a file for the trial that it plays, and touches it every few seconds. A trial is abandoned if its
process was on this machine and has gone, or if nobody has touched its file for some minutes: machines may see what
others do on a shared file system a minute late. Times are those of the file system, one clock for all machines.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlstm.core.files import write_json

_TOUCHED_EVERY = 5.0  # Seconds.
_ABANDONED_AFTER = 180.0


class Claims:
    """The claims in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, name: str) -> None:
        """Claim something for this process."""
        write_json(self._folder / name, {"machine": _machine(), "pid": os.getpid()})

    def drop(self, name: str) -> None:
        """Give it up."""
        (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def kept(self, name: str) -> Iterator[None]:
        """Keep a claim alive, and drop it at the end."""
        stop = threading.Event()

        def touch() -> None:
            while not stop.wait(_TOUCHED_EVERY):
                with suppress(OSError):
                    os.utime(self._folder / name)

        thread = threading.Thread(target=touch, name=f"claim of {name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.drop(name)

    def abandoned(self, name: str, age: float = 0.0) -> bool:
        """Return whether nobody is at work on it any more.

        Args:
            name: What it is.
            age: Seconds since it was begun, which decide where no claim is seen.
        """
        path = self._folder / name
        try:
            owner = json.loads(path.read_text(encoding="utf-8"))
            touched = path.stat().st_mtime
        except (OSError, ValueError):
            return age > _ABANDONED_AFTER
        if owner.get("machine") == _machine() and not _is_running(int(owner["pid"])):
            return True
        return self._now() - touched > _ABANDONED_AFTER

    def _now(self) -> float:
        """Return the time of the file system."""
        path = self._folder / f".clock.{_machine()}.{os.getpid()}".replace(os.sep, "-")
        path.touch()
        now = path.stat().st_mtime
        path.unlink(missing_ok=True)
        return now


def _machine() -> str:
    """Return what names the place where a process number means something: the host, and its container."""
    namespace = ""
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()} {namespace}".strip()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
