"""MultiarmedBandit: payouts, rewards, tasks kept in trials, and the bound on play without memory."""

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.meta.multiarmed_bandit import MultiarmedBandit

slow = pytest.mark.slow


def with_arms(probabilities: Any, num_envs: int = 1, **arguments: Any) -> BatchedVectorEnv:
    env = BatchedVectorEnv(MultiarmedBandit, num_envs, num_arms=len(probabilities), **arguments)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "payout_probabilities": np.tile(probabilities, (num_envs, 1)).astype(float)})
    return env


def test_a_hand_computed_episode_of_arms_that_pay_always_or_never() -> None:
    env = SingleEnv(MultiarmedBandit, num_arms=3, max_steps=4)
    assert env.reset(seed=0)[0] == 0
    env.set_state({**env.get_state(), "payout_probabilities": np.array([[0.0, 1.0, 0.0]])})
    assert env.step(1) == (1, 0.25, False, False, {"is_success": True})
    assert env.step(0) == (0, -0.25, False, False, {"is_success": False})
    assert env.step(1) == (1, 0.25, False, False, {"is_success": True})
    assert env.step(2) == (0, -0.25, False, True, {"is_success": False})
    assert env.reset()[0] == 0


def test_an_episode_begins_with_0_also_after_a_payout() -> None:
    env = with_arms([1.0, 1.0], num_envs=4, max_steps=1)
    observations, rewards, _, truncated, infos = env.step(np.zeros(4, dtype=np.int64))
    assert observations.tolist() == [0] * 4
    assert infos["final_obs"].tolist() == [1] * 4
    assert rewards.tolist() == [1.0] * 4
    assert truncated.all()


def test_each_arm_pays_with_its_own_probability_and_payouts_are_independent() -> None:
    num_envs, probabilities = 40_000, np.array([0.1, 0.5, 0.85])
    env = with_arms(probabilities, num_envs)
    lasts = []
    for arm in (0, 1, 2, 1):
        observations, rewards, *_ = env.step(np.full(num_envs, arm))
        assert np.array_equal(rewards > 0, observations == 1)
        error = np.sqrt(probabilities[arm] * (1 - probabilities[arm]) / num_envs)
        assert abs(observations.mean() - probabilities[arm]) < 5 * error
        lasts.append(observations)
    assert np.abs(np.corrcoef(lasts) - np.eye(4)).max() < 5 / np.sqrt(num_envs)


def test_probabilities_are_uniform_and_arms_independent() -> None:
    env = BatchedVectorEnv(MultiarmedBandit, 10_000, num_arms=6)
    env.reset(seed=0)
    probabilities = env.get_state()["payout_probabilities"]
    assert np.abs(probabilities.mean(axis=0) - 0.5).max() < 5 / np.sqrt(12 * 10_000)
    assert np.abs(np.quantile(probabilities, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.01
    assert np.abs(np.corrcoef(probabilities.T) - np.eye(6)).max() < 5 / np.sqrt(10_000)


def test_probabilities_stay_within_a_trial_and_change_with_the_next() -> None:
    env = BatchedVectorEnv(MultiarmedBandit, 3, num_arms=4, max_steps=2, episodes_per_trial=2)
    env.reset(seed=0)
    kept = [env.get_state()["payout_probabilities"]]
    for _ in range(8):
        env.step(np.zeros(3, dtype=np.int64))
        kept.append(env.get_state()["payout_probabilities"])
    same = [np.array_equal(one, other) for one, other in itertools.pairwise(kept)]
    assert same == [True, True, True, False, True, True, True, False]


def test_the_best_arm_is_worth_the_optimal_bound() -> None:
    env = BatchedVectorEnv(MultiarmedBandit, 20_000, num_arms=10)
    env.reset(seed=0)
    best = env.get_state()["payout_probabilities"].max(axis=1)
    returns = 2 * best - 1
    assert abs(returns.mean() - env.optimal_return.value) < 5 * returns.std() / np.sqrt(20_000)
    assert env.optimal_return.value == pytest.approx(9 / 11, abs=1e-12)


@pytest.mark.parametrize(("num_arms", "max_steps", "value"), [(10, 200, 0.10361), (2, 9, 0.20972), (2, 1, 1 / 3)])
def test_the_memoryless_bound_is_ln_3_minus_1_and_a_little(num_arms: int, max_steps: int, value: float) -> None:
    env = SingleEnv(MultiarmedBandit, num_arms=num_arms, max_steps=max_steps)
    assert env.memoryless_return.value == pytest.approx(value, abs=1e-5)


def expected_returns(probabilities: Any, after_payout: Any, otherwise: Any, max_steps: int) -> Any:
    """By the recursion for the chance that the next pull pays, of one pair of distributions over arms, (num,)."""
    u, v = probabilities @ after_payout, probabilities @ otherwise
    chance, total = np.zeros(len(probabilities)), np.zeros(len(probabilities))
    for _ in range(max_steps):
        chance = chance * u + (1 - chance) * v
        total += 2 * chance - 1
    return total / max_steps


@pytest.mark.parametrize(
    ("num_arms", "max_steps"),
    [(2, 30), pytest.param(3, 200, marks=slow), pytest.param(10, 200, marks=slow)],
)
def test_no_pair_of_distributions_beats_the_memoryless_bound(num_arms: int, max_steps: int) -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random((10_000, num_arms))
    bound = SingleEnv(MultiarmedBandit, num_arms=num_arms, max_steps=max_steps).memoryless_return.value
    first, others = np.eye(num_arms)[0], (1 - np.eye(num_arms)[0]) / (num_arms - 1)
    pairs = [(first, others), (first, np.full(num_arms, 1 / num_arms)), (others, first)]
    pairs += [(rng.dirichlet(np.full(num_arms, 0.2)), rng.dirichlet(np.full(num_arms, 0.2))) for _ in range(40)]
    values = [expected_returns(probabilities, *pair, max_steps).mean() for pair in pairs]
    assert max(values) < bound
    # And it isn't far above what can be had.
    if num_arms == 10:
        assert max(values) > bound - 0.03


def test_staying_with_an_arm_that_pays_earns_what_the_recursion_says() -> None:
    num_envs, num_arms, max_steps = 4_000, 10, 200
    env = BatchedVectorEnv(MultiarmedBandit, num_envs)
    observations, _ = env.reset(seed=0)
    probabilities = env.get_state()["payout_probabilities"]
    rng, returns = np.random.default_rng(0), np.zeros(num_envs)
    for _ in range(max_steps):
        observations, rewards, *_ = env.step(np.where(observations == 1, 0, rng.integers(1, num_arms, num_envs)))
        returns += rewards
    first = np.eye(num_arms)[0]
    expected = expected_returns(probabilities, first, (1 - first) / (num_arms - 1), max_steps)
    assert abs((returns - expected).mean()) < 5 * (returns - expected).std() / np.sqrt(num_envs)


def test_levels_have_popgyms_sizes() -> None:
    sizes = {}
    for level in ("Easy", "Medium", "Hard"):
        task = gym.make(f"rlstm/MultiarmedBandit{level}-v0").unwrapped.task
        sizes[level] = (task.num_arms, task.max_steps)
    assert sizes == {"Easy": (10, 200), "Medium": (20, 400), "Hard": (30, 600)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_arms": 1}, "num_arms must be an integer >= 2, but got 1"),
        ({"num_arms": 2.0}, "num_arms must be an integer >= 2, but got 2.0"),
        ({"max_steps": 0}, "max_steps must be an integer >= 1, but got 0"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(MultiarmedBandit, **arguments)


def test_the_text_shows_the_arms_and_the_payout() -> None:
    env = with_arms([0.25, 1.0], max_steps=3)
    env.step(np.ones(1, dtype=np.int64))
    assert env.task.render_text(0) == "pull 1 of 3, last paid 1; arms pay 0.25 1.00"
