"""Mackey-Glass against the method of Runge and Kutta written out step by step."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.base.lane_random import LaneRandom
from rlstm.envs.sequences.mackey_glass import MackeyGlass, integrate


def integrate_step_by_step(knots: list[float], num_units: int, substeps: int) -> list[float]:
    """One lane, with all four stages and a growing list of the past: x at the times 0, ..., num_units."""
    step = 1 / substeps
    # x at the ends (even places) and in the middle (odd places) of steps, from the time -17 on.
    past = [
        left + (right - left) * part / (2 * substeps)
        for left, right in itertools.pairwise(knots)
        for part in range(2 * substeps)
    ] + [knots[-1]]
    values = [knots[-1]]

    def delayed(place: int) -> float:
        x = past[place - 2 * 17 * substeps]
        return 0.2 * x / (1 + x**10)

    for _ in range(num_units * substeps):
        x, now = past[-1], len(past) - 1
        start, middle, end = delayed(now), delayed(now + 1), delayed(now + 2)
        k1 = start - 0.1 * x
        k2 = middle - 0.1 * (x + step / 2 * k1)
        k3 = middle - 0.1 * (x + step / 2 * k2)
        k4 = end - 0.1 * (x + step * k3)
        following = x + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        slopes = k1, end - 0.1 * following
        past += [(x + following) / 2 + step / 8 * (slopes[0] - slopes[1]), following]
        values.append(following)
    return values[::substeps]


def test_the_integration_is_runge_kutta_with_steps_of_a_tenth() -> None:
    knots = np.random.default_rng(0).uniform(0.5, 1.3, (3, 18))
    found = integrate(knots, 60)
    assert found.shape == (3, 61)
    for lane in range(3):
        np.testing.assert_allclose(found[lane], integrate_step_by_step(list(knots[lane]), 60, 10), rtol=0, atol=1e-12)


def test_a_fifth_of_the_step_changes_a_hundred_units_by_less_than_is_promised() -> None:
    knots = np.random.default_rng(1).uniform(0.5, 1.3, (2, 18))
    found = integrate(knots, 100)
    for lane in range(2):
        finer = integrate_step_by_step(list(knots[lane]), 100, 50)
        error = np.abs(found[lane] - finer).max()
        assert 1e-9 < error < 1e-5


def test_the_equilibrium_stays_and_without_delayed_term_the_signal_decays() -> None:
    np.testing.assert_allclose(integrate(np.ones((1, 18)), 200), 1.0, rtol=0, atol=1e-12)
    assert not integrate(np.zeros((1, 18)), 40).any()
    # A history of zeros up to time -1: until time 16 only the decay acts.
    knots = np.zeros((1, 18))
    knots[0, -1] = 1.0
    expected = np.exp(-0.1 * np.arange(17))
    np.testing.assert_allclose(integrate(knots, 16)[0], expected, rtol=1e-8)


@pytest.mark.parametrize("num_units", [0, 1, 16, 17, 18, 34, 35])
def test_the_integration_stops_at_the_unit_asked_for(num_units: int) -> None:
    knots = np.random.default_rng(2).uniform(0.5, 1.3, (2, 18))
    assert np.array_equal(integrate(knots, num_units), integrate(knots, 60)[:, : num_units + 1])


def test_an_episode_is_a_piece_of_the_solution_after_the_transient_less_one() -> None:
    env = SingleEnv(MackeyGlass, washout=4, free_run=6)
    for seed in range(4):
        random, lane = LaneRandom(1), np.array([0])
        random.seed([0], [seed])
        start = 200 + int(random.integers(lane, 101)[0])
        knots = 0.5 + 0.8 * random.uniform(lane, (18,))
        expected = integrate_step_by_step(knots[0].tolist(), start + 10, 10)[start:]
        observation, _ = env.reset(seed=seed)
        for step in range(10):
            shown = [expected[step] - 1, 1.0] if step < 4 else [0.0, 0.0]
            np.testing.assert_allclose(observation, shown, rtol=0, atol=1e-6)
            observation, reward, terminated, _, info = env.step(np.array([0.25], dtype=np.float32))
            target = expected[step + 1] - 1
            assert info["target"].tolist() == [pytest.approx(target, abs=1e-8)]
            assert reward == pytest.approx(0.0 if step < 4 else -((0.25 - target) ** 2), abs=1e-8)
            assert terminated is (step == 9)


def test_lanes_are_spread_over_the_attractor_from_the_first_step_on() -> None:
    env = BatchedVectorEnv(MackeyGlass, 4_000, washout=10, free_run=90)
    env.reset(seed=0)
    series = env.get_state()["series"]
    assert series.var() == pytest.approx(0.0511, rel=0.01)
    assert series.mean() == pytest.approx(-0.0698, abs=0.002)
    # If the lanes were still in step with each other, their mean would swing.
    assert np.ptp(series.mean(axis=0)) < 0.03
    np.testing.assert_allclose(series.var(axis=0), 0.0511, rtol=0.08)
    assert series.min() > -0.6
    assert series.max() < 0.34


@pytest.mark.parametrize(("share", "is_success"), [(0.99, True), (1.01, False)])
def test_success_is_a_free_run_with_at_most_a_tenth_of_the_deviation_as_error(share: float, is_success: bool) -> None:
    env = SingleEnv(MackeyGlass, washout=3, free_run=12)
    env.reset(seed=1)
    for target in env.get_state()["series"][0, 1:]:
        answer = target + share * 0.1 * math.sqrt(0.0511)
        info = env.step(np.array([answer], dtype=np.float32))[4]
    assert info["is_success"] is is_success


def test_the_returns_are_not_claimed_to_be_exact() -> None:
    env = SingleEnv(MackeyGlass)
    assert (env.optimal_return.kind, env.optimal_return.value) == ("bound", 0.0)
    assert env.memoryless_return.kind == "unknown"
    assert env.task.memory_length == 300


@pytest.mark.parametrize(("arguments", "name"), [({"washout": 0}, "washout"), ({"free_run": -1}, "free_run")])
def test_impossible_arguments_are_named(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, but got {arguments[name]}"):
        SingleEnv(MackeyGlass, **arguments)
