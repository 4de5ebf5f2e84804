"""Claims about `rlstm.core.process`: the device that is asked for, or a reason why not; and the mode of the process."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from rlstm.core.process import choose_device, prepare_process


@pytest.fixture
def restored() -> Iterator[None]:
    """Put threads and the treatment of denormals back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def has_cuda(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")


def test_auto_takes_a_gpu_where_there_is_one_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch, 1)
    assert choose_device("auto") == (torch.device("cuda"), "cuda (Some GPU)")
    has_cuda(monkeypatch, 0)
    assert choose_device("auto") == (torch.device("cpu"), "cpu (no CUDA device here)")


def test_a_device_asked_for_by_name_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch, 2)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1"):
        assert choose_device(name) == (torch.device(name), name)


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:7", 2)])
def test_a_missing_gpu_is_refused_with_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch, name: str, count: int
) -> None:
    has_cuda(monkeypatch, count)
    with pytest.raises(ValueError, match=rf"device is '{name}', but torch sees {count} CUDA devices; use cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cuda:-1", "meta", "mps", "cpu cuda"])
def test_any_other_name_is_refused_with_those_that_are_right(name: str) -> None:
    with pytest.raises(ValueError, match=rf"device is '{name}'; it must be auto, cpu, cuda or cuda:N"):
        choose_device(name)


@pytest.mark.usefixtures("restored")
def test_threads_are_those_asked_for_and_one_until_more_are_chosen() -> None:
    assert prepare_process(3) == torch.get_num_threads() == 3
    assert prepare_process(0) == torch.get_num_threads() == 1


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="This CPU can't flush denormals.")
@pytest.mark.usefixtures("restored")
def test_denormals_are_flushed_to_0() -> None:
    torch.set_flush_denormal(False)
    small = torch.full((64,), 1e-38)
    assert (small * 0.1).any()
    prepare_process(1)
    assert not (small * 0.1).any()


FAULTS = """
import resource
import torch
from rlstm.core.process import prepare_process

prepare_process(1)
for turn in range(20):
    if turn == 10:  # The first ones may well ask the system for memory.
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="Other C libraries have no such setting.")
@pytest.mark.parametrize("variables", [{}, pytest.param({"MALLOC_MMAP_THRESHOLD_": "1000000"}, marks=pytest.mark.slow)])
def test_freed_memory_is_kept_unless_the_environment_says_otherwise(variables: dict[str, str]) -> None:
    """64 MiB ten times over: 16,384 pages each time if they are handed back, or 32 large ones."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    code = [sys.executable, "-c", FAULTS]
    done = subprocess.run(code, env=environment | variables, capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 100) is not bool(variables), done.stdout


@pytest.mark.usefixtures("restored")
def test_a_c_library_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert prepare_process(torch.get_num_threads()) == torch.get_num_threads()
