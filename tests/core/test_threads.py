"""Claims about `rlstm.core.threads`: what may be chosen, the choice from seconds, and when speed has fallen."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rlstm.core.threads import (
    SpeedWatch,
    ThreadChoice,
    candidates,
    check_num_threads,
    choose,
    known_choice,
    thread_limit,
)


def has_cores(monkeypatch: pytest.MonkeyPatch, cores: int, variable: str | None = None) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)


@pytest.mark.parametrize(
    ("cores", "variable", "limit", "reason"),
    [
        (1, None, 1, "1 core"),
        (2, None, 2, "2 cores"),
        (64, None, 4, "never more than 4"),
        (8, "1", 1, "OMP_NUM_THREADS"),
        (8, "3,1", 3, "OMP_NUM_THREADS"),
        (2, "8", 2, "2 cores"),
        (2, "many", 2, "2 cores"),
        (2, "0", 2, "2 cores"),
    ],
)
def test_cores_and_omp_num_threads_limit_the_choice(
    monkeypatch: pytest.MonkeyPatch, cores: int, variable: str | None, limit: int, reason: str
) -> None:
    has_cores(monkeypatch, cores, variable)
    assert thread_limit() == (limit, reason)


def test_a_platform_without_affinity_counts_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cores(monkeypatch, 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for cores, limit in ((3, 3), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=cores: count)
        assert thread_limit()[0] == limit


def test_more_threads_than_cores_are_refused_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cores(monkeypatch, 2, "1")
    check_num_threads(2)
    check_num_threads(0)
    with pytest.raises(
        ValueError, match="num_threads is 3, but this process may use 2 cores: give --num-threads 2 at most"
    ):
        check_num_threads(3)


def test_what_is_tried_are_1_2_and_the_limit() -> None:
    assert [candidates(limit) for limit in (1, 2, 3, 4)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4]]


def test_what_was_asked_for_comes_before_what_was_kept_and_both_before_measuring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    has_cores(monkeypatch, 2)
    assert known_choice(8, 2) == ThreadChoice(8, "num_threads")
    assert known_choice(0, 2) == ThreadChoice(2, "as before")
    assert known_choice(0, None) is None
    assert known_choice(0, 4) is None  # More than the limit: chosen anew.


def test_where_one_thread_is_the_limit_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cores(monkeypatch, 8, "1")
    assert known_choice(0, None) == known_choice(0, 2) == ThreadChoice(1, "OMP_NUM_THREADS")


@pytest.mark.parametrize(
    ("seconds", "count", "reason"),
    [
        ({1: [1.0, 1.0, 1.0], 2: [1.0, 1.0, 1.0]}, 1, "2 are 1.00 times as fast"),
        ({1: [1.0, 1.0, 1.0], 2: [0.96, 0.96, 0.96]}, 1, "2 are 1.04 times as fast"),
        ({1: [1.0, 1.0, 1.0], 2: [0.8, 0.8, 0.8]}, 2, "1.25 times as fast as 1"),
        # One round in which one thread was disturbed, and a disturbance of whole rounds.
        ({1: [9.0, 1.0, 1.0], 2: [1.0, 1.0, 1.0]}, 1, "2 are 1.00 times as fast"),
        ({1: [1.0, 8.0, 9.0], 2: [0.5, 4.0, 4.5]}, 2, "2.00 times as fast as 1"),
        # Four threads have to be faster than two.
        ({1: [1.0], 2: [0.5], 4: [0.49]}, 2, "2.00 times as fast as 1"),
        ({1: [1.0], 2: [0.5], 4: [0.4]}, 4, "2.50 times as fast as 1"),
        ({1: [1.0], 2: [2.0], 4: [0.5]}, 4, "2.00 times as fast as 1"),
        ({1: [1.0], 2: [2.0], 4: [4.0]}, 1, "2 are 0.50, 4 are 0.25 times as fast"),
    ],
)
def test_more_threads_are_chosen_only_where_they_are_clearly_faster(
    seconds: dict[int, list[float]], count: int, reason: str
) -> None:
    assert choose(seconds) == ThreadChoice(count, reason)


def test_speed_has_fallen_when_a_whole_window_is_below_half_of_the_best() -> None:
    watch = SpeedWatch()
    assert not any(watch.has_fallen(100.0, 1.0) for _ in range(10))
    assert not any(watch.has_fallen(rate, 1.0) for rate in (1.0, 1.0, 90.0, 90.0, 90.0))
    assert not any(watch.has_fallen(51.0, 1.0) for _ in range(5))
    assert [watch.has_fallen(49.0, 1.0) for _ in range(5)] == [False] * 4 + [True]


def test_a_window_is_5_seconds_and_5_updates_at_least() -> None:
    for seconds, updates in ((0.5, 10), (60.0, 5)):
        watch = SpeedWatch()
        assert not any(watch.has_fallen(100.0, seconds) for _ in range(updates))
        assert [watch.has_fallen(1.0, seconds) for _ in range(updates)] == [False] * (updates - 1) + [True]


CODE = "import os; {first}; import rlstm; print(os.environ.get('OMP_WAIT_POLICY'))"


@pytest.mark.parametrize(
    ("first", "variables", "policy"),
    [
        ("", {}, "PASSIVE"),
        ("", {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        ("", {"GOMP_SPINCOUNT": "1000"}, "None"),
        ("import sys; sys.modules['torch'] = None", {}, "None"),
    ],
)
def test_threads_wait_passively_unless_the_user_says_otherwise_or_torch_is_there(
    first: str, variables: dict[str, str], policy: str
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    code = [sys.executable, "-c", CODE.format(first=first or "pass")]
    done = subprocess.run(code, env=kept | variables, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == policy
