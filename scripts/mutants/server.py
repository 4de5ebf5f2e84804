"""A process that has imported what is slow to import, and runs pytest in a fork of itself for every request.

It reads requests from stdin, one JSON object a line, ``{"arguments": [...], "log": path, "seconds": limit}``, and
answers with a line ``{"status": pytest's exit status, or null after the time limit, "seconds": time}``. The fork
imports the library anew, so it sees the files as they are then. Started by ``__main__`` in a copy of the repository.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from typing import Any

_SLOW = (
    "numpy",
    "torch",
    "torch.func",
    "torch.utils.tensorboard",
    "gymnasium",
    "gymnasium.vector",
    "pytest",
    "safetensors.numpy",
    "safetensors.torch",
    "tyro",
    "rich.live",
    "rich.progress",
)


def _run_in_fork(arguments: list[str], log: str) -> int:
    """Start pytest in a fork with its own process group; return its process id."""
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        import pytest

        status = int(pytest.main(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _wait(process: int, limit: float) -> int | None:
    """Return the exit status of a fork, or None if it had to be stopped; nothing that it started stays."""
    began, pause = time.monotonic(), 0.005
    status: int | None = None
    while True:
        ended, code = os.waitpid(process, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(code)
            break
        if time.monotonic() - began > limit:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            break
        time.sleep(pause)
        pause = min(0.05, 1.5 * pause)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    return status


def main() -> None:
    """Import what is slow, say so, and serve until stdin is closed."""
    for name in _SLOW if len(sys.argv) < 2 else sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    answers = sys.stdout

    def answer(values: dict[str, Any]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    answer({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        began = time.monotonic()
        status = _wait(_run_in_fork(request["arguments"], request["log"]), request["seconds"])
        answer({"status": status, "seconds": time.monotonic() - began})


if __name__ == "__main__":
    main()
