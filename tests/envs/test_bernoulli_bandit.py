"""Bernoulli bandits, by hand and against a plain reference."""

import itertools
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.base.lane_random import LaneRandom
from rlstm.envs.meta.bernoulli_bandit import BernoulliBandit

ONE_LANE = np.zeros(1, dtype=np.int64)


def draw_bandits(num_bandits: int, **arguments: Any) -> Any:
    """The probabilities of many bandits, (num_bandits, k)."""
    env = BatchedVectorEnv(BernoulliBandit, num_bandits, **arguments)
    env.reset(seed=0)
    return env.get_state()["probabilities"]


def test_a_plain_reference_plays_the_same() -> None:
    env = SingleEnv(BernoulliBandit, num_arms=3, pulls=4)
    random, rng = LaneRandom(1), np.random.default_rng(0)
    random.seed([0], [11])
    env.reset(seed=11)
    for _ in range(50):
        chances = random.uniform(ONE_LANE, (3,))[0].tolist()
        assert env.get_state()["probabilities"][0].tolist() == chances
        for pull in range(1, 5):
            arm = int(rng.integers(3))
            reward = 1.0 if random.uniform(ONE_LANE)[0] < chances[arm] else 0.0
            info = {"is_success": chances[arm] == max(chances), "regret": max(chances) - chances[arm]}
            assert env.step(arm) == (np.ones(1, dtype=np.float32), reward, pull == 4, False, info)
        env.reset()


def test_arms_pay_as_often_as_their_probabilities_say() -> None:
    chances, num_envs, num_pulls = np.array([0.0, 0.2, 0.9, 1.0]), 1_000, 40
    env = BatchedVectorEnv(BernoulliBandit, num_envs, num_arms=4, pulls=1_000)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "probabilities": np.tile(chances, (num_envs, 1))})
    arms = np.arange(num_envs) % 4
    paid = np.zeros(num_envs)
    for _ in range(num_pulls):
        paid += env.step(arms)[1]
    shares = paid.reshape(-1, 4).mean(axis=0) / num_pulls
    assert (shares[0], shares[3]) == (0.0, 1.0)
    assert np.abs(shares - chances).max() < 5 * 0.5 / np.sqrt(num_envs * num_pulls / 4)


def test_success_is_the_best_arm_and_regret_what_another_one_lacks() -> None:
    env = SingleEnv(BernoulliBandit, num_arms=3, pulls=9)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "probabilities": np.array([[0.25, 0.75, 0.5]])})
    infos = [env.step(arm)[4] for arm in (0, 1, 2)]
    assert infos == [
        {"is_success": False, "regret": 0.5},
        {"is_success": True, "regret": 0.0},
        {"is_success": False, "regret": 0.25},
    ]


@pytest.mark.parametrize("pulls", [1, 3])
def test_an_episode_is_so_many_pulls(pulls: int) -> None:
    env = SingleEnv(BernoulliBandit, pulls=pulls)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(pulls)] == [(False, False)] * (pulls - 1) + [(True, False)]


def test_uniform_probabilities_are_independent_and_uniform() -> None:
    drawn = draw_bandits(20_000)
    assert drawn.shape == (20_000, 5)
    deciles = np.stack([np.bincount(arm, minlength=10) for arm in (drawn.T * 10).astype(int)]) / 20_000
    assert np.abs(deciles - 0.1).max() < 5 * np.sqrt(0.09 / 20_000)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(5)).max() < 5 / np.sqrt(20_000)


def test_correlated_probabilities_add_up_to_1() -> None:
    drawn = draw_bandits(20_000, probabilities="correlated")
    assert drawn.shape == (20_000, 2)
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0, rtol=0, atol=1e-15)
    deciles = np.bincount((drawn[:, 0] * 10).astype(int), minlength=10) / 20_000
    assert np.abs(deciles - 0.1).max() < 5 * np.sqrt(0.09 / 20_000)


@pytest.mark.parametrize(("family", "better"), [("easy", 0.9), ("medium", 0.75), ("hard", 0.6)])
def test_two_fixed_probabilities_come_in_either_order(family: str, better: float) -> None:
    drawn = draw_bandits(10_000, probabilities=family)
    np.testing.assert_allclose(np.sort(drawn, axis=1), np.tile([1 - better, better], (10_000, 1)), rtol=0, atol=1e-15)
    assert abs((drawn[:, 0] > drawn[:, 1]).mean() - 0.5) < 5 * 0.5 / np.sqrt(10_000)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"num_arms": 2, "pulls": 7}, *({"probabilities": name} for name in ("correlated", "easy", "medium", "hard"))],
)
def test_the_bound_is_always_pulling_the_best_arm(arguments: dict[str, Any]) -> None:
    best = draw_bandits(10_000, **arguments).max(axis=1) * arguments.get("pulls", 1)
    reference = SingleEnv(BernoulliBandit, **arguments).optimal_return
    assert reference.kind == "bound"
    assert abs(best.mean() - reference.value) < 4 * best.std() / np.sqrt(best.size) + 1e-12


def test_several_pulls_an_episode_are_one_bandit_and_the_next_episode_another() -> None:
    env = BatchedVectorEnv(BernoulliBandit, 50, pulls=3)
    env.reset(seed=0)
    seen = [env.get_state()["probabilities"]]
    for _ in range(6):
        env.step(np.zeros(50, dtype=int))
        seen.append(env.get_state()["probabilities"])
    changed = [(before != after).all() for before, after in itertools.pairwise(seen)]
    kept = [(before == after).all() for before, after in itertools.pairwise(seen)]
    assert changed == [False, False, True] * 2
    assert kept == [True, True, False] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_arms": 1}, "num_arms must be an integer >= 2, but got 1"),
        ({"num_arms": 2.0}, "num_arms must be an integer >= 2, but got 2.0"),
        ({"num_arms": 3, "probabilities": "easy"}, "num_arms must be 2 with probabilities 'easy', but got 3"),
        (
            {"probabilities": "restless"},
            "probabilities must be one of uniform, correlated, easy, .*, but got 'restless'",
        ),
        ({"pulls": 0}, "pulls must be an integer >= 1, but got 0"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(BernoulliBandit, **arguments)


def test_the_text_shows_the_probabilities() -> None:
    env = SingleEnv(BernoulliBandit, num_arms=2)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "probabilities": np.array([[0.25, 0.75]])})
    assert env.task.render_text(0) == "pull 0 of 1: 0.25 0.75"
