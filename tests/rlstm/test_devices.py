"""Claims about `rlstm.devices`: the device that is asked for, or a reason why not; and the mode of the process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from rlstm.devices import choose_device, prepare_process


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
def test_threads_are_those_asked_for_and_4_at_most_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare_process(3) == torch.get_num_threads() == 3
    for cores, threads in ((64, 4), (2, 2), (1, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False)
        assert prepare_process(0) == torch.get_num_threads() == threads


@pytest.mark.usefixtures("restored")
def test_a_platform_without_affinity_counts_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert prepare_process(0) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert prepare_process(0) == 1


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="This CPU can't flush denormals.")
@pytest.mark.usefixtures("restored")
def test_denormals_are_flushed_to_0() -> None:
    torch.set_flush_denormal(False)
    small = torch.full((64,), 1e-38)
    assert (small * 0.1).any()
    prepare_process(1)
    assert not (small * 0.1).any()
