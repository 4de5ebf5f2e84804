"""The tests that a solution of double pole balancing passes: 625 starts, and 100,000 steps."""

import math
from typing import Any

import numpy as np
import pytest

from rlstm.envs.control.pole_generalisation import (
    STARTS_FOR_A_PASS,
    balanced_starts,
    generalisation_starts,
    standard_start,
)

# Forces in units of 10 N by position, angles and velocities: linear feedback that balances.
GAINS = np.array([0.21, 5.70, -4.13, 0.35, 1.50, -0.35])
LIMITS = np.array([2.4, math.radians(36), math.radians(36)])


def make_actor() -> Any:
    """Feedback by differences; the velocities before the first step are taken as 0."""
    memory: dict[str, Any] = {}

    def act(observations: Any) -> Any:
        before = memory.get("last", observations)
        memory["last"] = observations
        velocities = (observations - before) * LIMITS / 0.02
        pushes = np.concatenate([observations * LIMITS, velocities], axis=1) @ GAINS
        return np.clip(-pushes, -1, 1)[:, None].astype(np.float32)

    return act


def test_the_625_starts_are_those_of_the_literature() -> None:
    starts = generalisation_starts()
    assert starts.shape == (625, 6)
    assert len(np.unique(starts, axis=0)) == 625
    # 0.05 of the way from -2.16 to 2.16, and so on, as in the codes of NEAT and ESP.
    np.testing.assert_allclose(
        starts[0],
        [0.05 * 4.32 - 2.16, 0.05 * 2.70 - 1.35, 0.05 * 0.12566304 - 0.06283152, 0.05 * 0.30019504 - 0.15009752, 0, 0],
        atol=1e-5,
    )
    np.testing.assert_allclose(starts[1], [*starts[0, :3], 0.25 * 0.30019504 - 0.15009752, 0, 0], atol=1e-5)
    np.testing.assert_allclose(starts[312], 0.0, atol=1e-12)
    assert np.unique(starts[:, 0].round(9)).tolist() == [-1.944, -1.08, 0.0, 1.08, 1.944]
    assert np.array_equal(standard_start(4.5), [[0, 0, math.radians(4.5), 0, 0, 0]])


def test_linear_feedback_balances_some_of_the_625_starts() -> None:
    balanced = balanced_starts(make_actor())
    assert (balanced.shape, balanced.dtype) == ((625,), np.bool_)
    assert STARTS_FOR_A_PASS == 200 <= balanced.sum() < 625
    still = balanced_starts(lambda observations: np.zeros((len(observations), 1)), num_steps=200)
    assert np.array_equal(still, ~generalisation_starts()[:, 1:].round(12).any(axis=1))
    assert still.sum() == 5


def test_a_test_that_can_not_be_passed_any_more_is_over() -> None:
    played = 0

    def count(observations: Any) -> Any:
        nonlocal played
        played += 1
        return np.zeros((len(observations), 1))

    starts = generalisation_starts()
    balanced = balanced_starts(count, starts, 200, at_least=STARTS_FOR_A_PASS)
    assert balanced.sum() < STARTS_FOR_A_PASS
    assert np.array_equal(balanced, balanced_starts(count, starts, soon := played))
    assert balanced_starts(count, starts, soon - 1).sum() >= STARTS_FOR_A_PASS


def test_an_actor_goes_on_seeing_lanes_within_the_track_also_where_it_failed() -> None:
    largest, act = [], make_actor()

    def balance_the_last_only(observations: Any) -> Any:
        largest.append(np.abs(observations).max())
        actions = act(observations)
        actions[:-1] = 1.0
        return actions

    starts = np.concatenate([generalisation_starts()[::100], standard_start()])
    assert balanced_starts(balance_the_last_only, starts, 300).tolist() == [False] * 7 + [True]
    assert len(largest) == 300
    assert max(largest) <= 1.0


def test_starts_played_together_are_balanced_as_one_by_one() -> None:
    chosen = generalisation_starts()[::83]
    together = balanced_starts(make_actor(), chosen, 150)
    alone = [balanced_starts(make_actor(), start[None], 150)[0] for start in chosen]
    assert together.tolist() == alone
    assert 0 < together.sum() < len(chosen)


def test_the_actor_of_a_lane_that_fell_is_not_counted_again() -> None:
    # The first lane falls early; afterwards it is at its start again and would stand until the end.
    starts = np.concatenate([standard_start(), standard_start()])
    act, steps = make_actor(), iter(range(10**6))

    def stumble(observations: Any) -> Any:
        actions = act(observations)
        if next(steps) < 15:
            actions[0] = -1.0
        return actions

    assert balanced_starts(stumble, starts, 60).tolist() == [False, True]


@pytest.mark.slow
def test_linear_feedback_balances_for_a_hundred_thousand_steps() -> None:
    assert balanced_starts(make_actor(), standard_start(), 100_000).tolist() == [True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"starts": np.zeros((3, 4))}, r"starts must have the shape \(1 or more, 6\), but they have \(3, 4\)"),
        ({"starts": np.zeros((0, 6))}, r"they have \(0, 6\)"),
        ({"at_least": 0}, "at_least must be an integer >= 1, but got 0"),
        ({"num_steps": 0}, "num_steps must be an integer >= 1, but got 0"),
        ({"act": lambda o: np.full((len(o), 1), 2.0)}, "action .* is outside Box"),
        ({"act": lambda o: np.zeros(len(o))}, r"shape \(625,\)"),
    ],
)
def test_an_impossible_test_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        balanced_starts(**{"act": make_actor(), **arguments})
