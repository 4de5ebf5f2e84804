"""Claims about `rlstm.core.streams`: a stream that can't be written ends nothing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlstm.core.streams import SteadyStream, open_standard_descriptors


class Failing(io.StringIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.failure, self.tries = error, 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise self.failure


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("closed")])
def test_what_can_not_be_written_is_dropped_and_tried_no_more(error: Exception) -> None:
    below = Failing(error)
    stream = SteadyStream(below)
    print("one", file=stream, flush=True)
    print("two", file=stream, flush=True)
    assert (below.tries, stream.error) == (1, error)


def test_a_stream_that_was_closed_is_none_to_write_to() -> None:
    stream = SteadyStream(None)
    print("one", file=stream, flush=True)
    assert isinstance(stream.error, BrokenPipeError)
    assert not stream.isatty()


def test_an_encoding_that_lacks_a_letter_ends_no_display() -> None:
    below = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream = SteadyStream(below)
    print("▁▂ é", file=stream, flush=True)
    assert stream.error is None
    assert below.buffer.getvalue() == rb"\u2581\u2582 \xe9" + b"\n"  # type: ignore[attr-defined]


def test_a_stream_that_failed_is_led_into_nothing_for_the_flush_at_exit() -> None:
    program = """
import sys
from rlstm.core.streams import SteadyStream
stream = SteadyStream(sys.stdout, replace=True)
print("x", file=stream, flush=True)
sys.exit(3 if stream.error else 4)
"""
    with Path("/dev/full").open("w") as full:
        command, buffered = [sys.executable, "-c", program], {**os.environ, "PYTHONUNBUFFERED": ""}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, env=buffered)
    assert (done.returncode, done.stderr) == (3, b"")


def test_a_file_never_gets_the_number_of_a_closed_standard_stream() -> None:
    program = """
import os, sys
from rlstm.core.streams import open_standard_descriptors
open_standard_descriptors()
sys.exit(os.open(os.devnull, os.O_RDONLY))
"""
    command = f"{sys.executable} -c '{program}' <&- >&- 2>&-"
    assert subprocess.run(command, shell=True, check=False).returncode > 2
    before = os.fstat(2)
    open_standard_descriptors()
    assert os.path.samestat(os.fstat(2), before)
