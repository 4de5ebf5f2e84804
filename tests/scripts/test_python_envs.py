"""The benchmark of single Python envs: what sleeps does so at the same time in workers; its table's ratios."""

import time
from contextlib import ExitStack

import gymnasium as gym
import pytest

from scripts.benchmarks import python_envs


@pytest.fixture
def sleeping(monkeypatch: pytest.MonkeyPatch):
    """The id of an env that sleeps so long that nothing else counts."""
    monkeypatch.setattr(python_envs, "SLEEP", 0.1)
    monkeypatch.setattr(python_envs, "NUM_ENVS", 4)
    monkeypatch.setattr(python_envs, "NUM_ACTIONS", 3)
    python_envs.register()
    yield "SleepingCartPole-v0"
    gym.registry.pop("SleepingCartPole-v0")


def seconds(env_id: str, kind: str) -> float:
    with ExitStack() as stack:
        play = python_envs.stepping(env_id, kind, stack)
        began = time.perf_counter()
        assert play() == 12
        return time.perf_counter() - began


def test_envs_in_workers_sleep_at_the_same_time(sleeping: str) -> None:
    in_turn, at_once = seconds(sleeping, "sync"), seconds(sleeping, "async")
    assert in_turn >= 3 * 4 * 0.1
    assert 3 * 0.1 <= at_once < in_turn / 2


def test_the_table_compares_the_turns_of_async_and_sync() -> None:
    rates = {("sync", 0): 100, ("sync", 1): 200, ("sync", 2): 400, ("async", 0): 500, ("async", 1): 600}
    rates[("async", 2)] = 800
    rows = [
        {"env": "E", "kind": kind, "quantity": quantity, "turn": f"{turn}", "steps_per_second": f"{rate * scale}"}
        for quantity, scale in (("stepping", 10), ("training", 1))
        for (kind, turn), rate in rates.items()
    ]
    lines = python_envs.table(rows).splitlines()
    assert lines[2:] == [
        "| E | stepping | 2,000 | 6,000 | 3.00 (2.00 to 5.00) |",
        "| E | training | 200 | 600 | 3.00 (2.00 to 5.00) |",
    ]
