"""Worker processes: they outlive signals that are the main process's to answer, and end with it, whatever ends it."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_WATCH_SECONDS = 0.5  # How often a worker looks whether its main process lives.
_CLOSING_SECONDS = 1.0  # That it then has to close what it has open.
_STOPPED_SECONDS, _SILENT_SECONDS = 5.0, 60.0  # How long a stopped and a silent worker are waited for after Ctrl-C.
_PR_SET_PDEATHSIG = 1


_GROUP_SIGNALS = {signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])}


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back signals while workers are started, also in these until ``prepare_worker``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_worker() -> None:
    """Leave Ctrl-C, hanging up and terminating to the main process, and end when it ends; called in a worker.

    All three reach a whole group of processes: by a terminal, ``timeout``, a scheduler. The main process then saves,
    for which it needs its workers. To terminate isn't ignored but handled by doing nothing, since what is ignored stays
    so in programs that an env starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _GROUP_SIGNALS)
    if sys.platform == "linux":  # Wakes a worker that is stopped, so that it can end.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)
    threading.Thread(target=_end_with_main_process, args=(os.getppid(),), daemon=True).start()


def terminate_with_parent() -> None:
    """Be asked to terminate when the parent process ends, where the system can do so: a rank then saves and ends."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def _end_with_main_process(parent: int) -> None:
    """Wait for the end of the main process, then of the work; ends the process by force if the work goes on."""
    main = multiprocessing.parent_process()
    while os.getppid() == parent and main is not None and not wait([main.sentinel], timeout=_WATCH_SECONDS):
        pass
    time.sleep(_CLOSING_SECONDS)
    os._exit(1)


def is_stopped(process: Any) -> bool:
    """Return whether a process is stopped, as by SIGSTOP, where the system tells."""
    try:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def end_processes(processes: Sequence[Any], seconds: float) -> list[int]:
    """Wait so long for processes to end by themselves, then kill the rest; those that are stopped at once.

    Returns:
        The places of those that took too long.
    """
    deadline = time.monotonic() + seconds
    late: list[int] = []
    try:
        for process in processes:
            while process.is_alive() and not is_stopped(process) and time.monotonic() < deadline:
                process.join(0.05)
    finally:  # After another Ctrl-C too.
        for place, process in enumerate(processes):
            if process.is_alive():
                late += [] if is_stopped(process) else [place]
                process.kill()
        for process in processes:
            process.join()
    return late


def how_it_ended(process: BaseProcess) -> str:
    """Return how a process ended, for a sentence."""
    code = process.exitcode
    if code is None or code >= 0:
        return f"with the exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
    memory = ", as the system ends a process when memory is short" if -code == signal.SIGKILL else ""
    return f"by signal {-code} ({name}{memory})"


def too_long(process: Any, silent: float, asked: float | None) -> str | None:
    """Return why a worker that is silent shall not be waited for any longer, or None.

    Args:
        process: The worker.
        silent: Seconds that have been waited for its answer.
        asked: Seconds since the run was asked to stop, or None.
    """
    waited = 0.0 if asked is None else min(silent, asked)
    if waited > _STOPPED_SECONDS and is_stopped(process):
        return "is stopped (by SIGSTOP or Ctrl-Z) and does not answer"
    return f"has not answered for {waited:.0f} s after the request to stop" if waited > _SILENT_SECONDS else None


def start_remedy(error: OSError) -> str | None:
    """Return which limit of the system a process could not be started for, and the remedy, or None."""
    limits = {
        errno.EMFILE: f"ulimit -n, open files{_open_file_limit()}",
        errno.ENFILE: "fs.file-max, open files of the whole system",
        errno.EAGAIN: "ulimit -u, processes",
        errno.ENOMEM: "memory",
        errno.ENOSPC: "shared memory, /dev/shm",
    }
    name = limits.get(error.errno or 0)
    return None if name is None else f"the limit is {name}"


def _open_file_limit() -> str:
    try:
        import resource
    except ImportError:  # Not on every system.
        return ""
    return f": {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"
