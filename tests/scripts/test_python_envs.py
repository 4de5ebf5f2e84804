"""The benchmark of single Python envs: one sleeps in every step; its table's ratios."""

import pytest

from scripts.benchmarks import python_envs


def test_the_sleeping_env_sleeps_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(python_envs.time, "sleep", slept.append)
    env = python_envs.SleepingCartPole()
    env.reset(seed=0)
    for _ in range(3):
        env.step(0)
    assert slept == [python_envs.SLEEP] * 3


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
