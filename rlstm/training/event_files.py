"""TensorBoard's event files, written so that a full disk or a folder that is gone ends no run.

What can't be written is kept, and written once it can be; a record is never cut in its middle. Readers take the files
of a folder in the order of their names, which begin with seconds: each name is later than those that are there, also if
the clock has been set back in between.
"""

from __future__ import annotations

import errno
import io
import os
import re
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LAYOUT: dict[str, dict[str, tuple[str, list[str]]]] = {
    "Return": {
        "mean return": ("Multiline", ["rollout/ep_rew_mean", "eval/mean_reward"]),
        "success rate": ("Multiline", ["rollout/success_rate", "eval/success_rate"]),
    },
    "Losses": {
        "policy gradient": ("Multiline", ["train/policy_gradient_loss"]),
        "value": ("Multiline", ["train/value_loss"]),
        "entropy": ("Multiline", ["train/entropy_loss"]),
    },
    "Update": {
        "approximate KL": ("Multiline", ["train/approx_kl"]),
        "error of the first ratio": ("Multiline", ["train/first_ratio_error"]),
    },
    "Memory": {"recurrent": ("Multiline", ["recurrent/.*"])},
    "Teacher": {"answers": ("Multiline", ["teacher/(right_answers|right_sequences|largest_error)$"])},
    "Evolino": {"fitness": ("Multiline", ["evolino/(best|mean|median|champion)$"])},
}
"""The charts of TensorBoard's tab "Custom Scalars": category -> title -> kind and patterns of metric names."""

HPARAM_METRICS = ("rollout/ep_rew_mean", "eval/mean_reward")
"""Metrics that stand beside the settings in its tab "HParams"."""

_PREFIX = "events.out.tfevents."
_FLUSH_SECONDS = 30.0
_MOST_KEPT = 2**26  # Bytes; beyond, what could not be written is dropped.
_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "make it writable again",
    errno.EACCES: "make its folder writable",
    errno.EPERM: "make its folder writable",
    errno.ENOENT: "put its folder back",
    errno.ENOTDIR: "put its folder back",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def remedy(error: OSError) -> str:
    """Return why a file can't be written and what helps, for a sentence."""
    return f"{error.strerror or error} ({_REMEDIES.get(error.errno or 0, 'see to its disk')})"


class Trouble:
    """Tells once that a file is not being written, and why."""

    def __init__(self, what: str) -> None:
        self._what, self._told = what, False

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell of an ``OSError`` instead of raising it."""
        try:
            yield
        except OSError as error:
            if not self._told:
                warnings.warn(f"{self._what} is not being written: {remedy(error)}. Training goes on.", stacklevel=4)
            self._told = True
        else:
            self._told = False


def write_all(file: io.FileIO, content: bytes) -> None:
    """Write all of it, or raise ``OSError``."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def event_paths(directory: str | os.PathLike[str]) -> list[Path]:
    """Return the event files of a folder, in the order in which they are read."""
    return sorted(Path(directory).glob(f"{_PREFIX}*"))


class EventFile:
    """Appends events to a file of its own, which is made with the first flush.

    Args:
        directory: The folder.
        purge_step: When a run is resumed: TensorBoard hides earlier points of this step and later ones.
    """

    def __init__(self, directory: str | os.PathLike[str], purge_step: int | None = None) -> None:
        self._directory = Path(directory)
        self._file: io.FileIO | None = None
        self._is_closed = False
        self._size = 0  # Of what is written for good.
        self._kept = bytearray()
        self._flushed_at = time.monotonic()
        self._header = _record(file_version="brain.Event:2")
        if purge_step is not None:
            from tensorboard.compat.proto.event_pb2 import SessionLog

            self._kept += _record(step=purge_step, session_log=SessionLog(status=SessionLog.START))

    def add(self, summary: Any, step: int = 0) -> None:
        """Keep a summary for the next flush."""
        if len(self._kept) > _MOST_KEPT:
            del self._kept[len(self._header) if self._file is not None and not self._size else 0 :]
        self._kept += _record(step=step, summary=summary)

    def is_due(self) -> bool:
        """Return whether the last flush is long ago."""
        return time.monotonic() - self._flushed_at > _FLUSH_SECONDS

    def flush(self) -> None:
        """Write what is kept.

        Raises:
            OSError: If it can't be written; it stays kept.
        """
        self._flushed_at = time.monotonic()
        if self._file is None or not os.fstat(self._file.fileno()).st_nlink:  # Not made yet, or deleted.
            self._open()
        if not self._kept:
            return
        assert self._file is not None
        try:
            write_all(self._file, bytes(self._kept))
        except OSError:
            self._file.truncate(self._size)  # No half a record, behind which nothing could be read.
            self._file.seek(self._size)
            raise
        self._size += len(self._kept)
        self._kept.clear()

    def _open(self) -> None:
        path = self._directory / _next_name(self._directory)
        if self._file is not None:
            self._file.close()
            self._file = None
        self._file = io.FileIO(path, "x")
        self._size, self._kept = 0, bytearray(self._header) + self._kept

    def close(self) -> None:
        """Write what is kept and close the file, also if it can't be written; raises as ``flush`` does, once."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self.flush()
        finally:
            if self._file is not None:
                self._file.close()


def _next_name(directory: Path) -> str:
    """Return a name that is later than those of all files that are there."""
    seconds = [re.match(rf"{re.escape(_PREFIX)}(\d+)", path.name) for path in event_paths(directory)]
    latest = max((int(found[1]) for found in seconds if found), default=0)
    return f"{_PREFIX}{max(int(time.time()), latest + 1):010d}.{socket.gethostname()}.{os.getpid()}"


def _record(**fields: Any) -> bytes:
    """Return an event of now as it stands in a file."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    RecordWriter(buffer).write(Event(wall_time=time.time(), **fields).SerializeToString())
    return buffer.getvalue()
