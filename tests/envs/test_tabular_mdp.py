"""Random MDPs: their distributions, and their steps against a plain reference and dynamic programming."""

from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.base.lane_random import LaneRandom
from rlstm.envs.meta.tabular_mdp import TabularMDP

ONE_LANE = np.zeros(1, dtype=np.int64)


def draw_worlds(num_worlds: int, **arguments: Any) -> tuple[Any, Any]:
    """Mean rewards (N, s, a) and transition probabilities (N, s, a, s')."""
    env = BatchedVectorEnv(TabularMDP, num_worlds, **arguments)
    env.reset(seed=0)
    state = env.get_state()
    probabilities = np.diff(state["cumulative_transitions"].astype(float), axis=1, prepend=0.0)
    return state["mean_rewards"], np.moveaxis(probabilities, 1, -1)


def test_mean_rewards_are_normal_with_mean_1_and_variance_1() -> None:
    means, _ = draw_worlds(2_000)
    assert means.shape == (2_000, 10, 5)
    flat = means.ravel()
    assert abs(flat.mean() - 1.0) < 4 / np.sqrt(flat.size)
    assert abs(flat.var() - 1.0) < 4 * np.sqrt(2 / flat.size)
    assert abs(((flat - 1.0) ** 3).mean()) < 4 * np.sqrt(15 / flat.size)
    assert abs((flat > 1.0 + 1.959964).mean() - 0.025) < 4 * np.sqrt(0.025 / flat.size)
    # Every pair (s, a) has its own.
    assert np.abs(np.corrcoef(means.reshape(2_000, -1).T) - np.eye(50)).max() < 6 / np.sqrt(2_000)


@pytest.mark.parametrize(("num_states", "num_actions"), [(10, 5), (3, 2), (2, 3)])
def test_transitions_are_drawn_uniformly_from_all_distributions(num_states: int, num_actions: int) -> None:
    num_worlds = 40_000 // (num_states * num_actions)
    _, shares = draw_worlds(num_worlds, num_states=num_states, num_actions=num_actions)
    assert shares.shape == (num_worlds, num_states, num_actions, num_states)
    assert shares.min() >= 0.0
    np.testing.assert_allclose(shares.sum(axis=-1), 1.0, rtol=0, atol=1e-6)
    flat = shares.reshape(-1, num_states)
    # Each coordinate of Dirichlet(1, ..., 1) on n states exceeds x with probability (1 - x) ** (n - 1).
    for threshold in (0.02, 0.1, 0.3, 0.6):
        expected = (1.0 - threshold) ** (num_states - 1)
        error = np.sqrt(expected * (1.0 - expected) / len(flat))
        assert np.abs((flat > threshold).mean(axis=0) - expected).max() < 5 * error
    covariance = (np.eye(num_states) * num_states - 1.0) / (num_states**2 * (num_states + 1))
    np.testing.assert_allclose(np.cov(flat.T), covariance, rtol=0, atol=0.002)


def test_transitions_of_different_pairs_are_independent() -> None:
    _, shares = draw_worlds(5_000, num_states=3, num_actions=3)
    to_state_0 = shares[..., 0].reshape(5_000, -1)
    assert np.abs(np.corrcoef(to_state_0.T) - np.eye(9)).max() < 5 / np.sqrt(5_000)


def test_a_plain_reference_plays_the_same() -> None:
    num_states, num_actions, horizon = 4, 3, 5
    env = SingleEnv(TabularMDP, num_states=num_states, num_actions=num_actions, horizon=horizon)
    rng, random = np.random.default_rng(0), LaneRandom(1)
    assert env.reset(seed=3)[0] == 0
    for _ in range(40):
        arrays = env.get_state()
        means, cumulative = arrays["mean_rewards"][0].tolist(), arrays["cumulative_transitions"][0].tolist()
        random.set_state(arrays)
        state, earned = 0, 0.0
        for step in range(1, horizon + 1):
            action = int(rng.integers(num_actions))
            reward = means[state][action] + float(random.normal(ONE_LANE)[0])
            draw = float(random.uniform(ONE_LANE)[0])
            state = next((s for s in range(num_states - 1) if draw < cumulative[s][state][action]), num_states - 1)
            earned += reward
            info = {"is_success": earned > horizon}
            assert env.step(action) == (state, pytest.approx(reward, abs=1e-12), step == horizon, False, info)
        assert env.reset()[0] == 0


def test_next_states_and_rewards_have_the_distributions_of_the_world() -> None:
    num_envs, num_states, num_actions = 60_000, 3, 2
    env = BatchedVectorEnv(TabularMDP, num_envs, num_states=num_states, num_actions=num_actions, horizon=100)
    env.reset(seed=0)
    arrays = env.get_state()
    for name in ("mean_rewards", "cumulative_transitions"):
        arrays[name][:] = arrays[name][:1]  # The world of the first lane for all of them.
    starts, actions = np.arange(num_envs) % num_states, np.arange(num_envs) // num_states % num_actions
    env.set_state({**arrays, "states": starts})
    observations, rewards, *_ = env.step(actions)
    shares = np.diff(arrays["cumulative_transitions"][0].astype(float), axis=0, prepend=0.0)
    for state in range(num_states):
        for action in range(num_actions):
            lanes = (starts == state) & (actions == action)
            found = np.bincount(observations[lanes], minlength=num_states) / lanes.sum()
            assert np.abs(found - shares[:, state, action]).max() < 4 * 0.5 / np.sqrt(lanes.sum())
            errors = rewards[lanes] - arrays["mean_rewards"][0, state, action]
            assert abs(errors.mean()) < 4 / np.sqrt(lanes.sum())
            assert abs(errors.var() - 1.0) < 4 * np.sqrt(2 / lanes.sum())


def test_who_knows_the_world_earns_what_dynamic_programming_says() -> None:
    num_envs, horizon = 4_000, 10
    env = BatchedVectorEnv(TabularMDP, num_envs)
    observations, _ = env.reset(seed=0)
    means, shares = draw_worlds(num_envs)
    values, plans = np.zeros((num_envs, 10)), []
    for _ in range(horizon):
        action_values = means + np.einsum("nsat,nt->nsa", shares, values)
        plans.append(action_values.argmax(axis=2))
        values = action_values.max(axis=2)
    returns = np.zeros(num_envs)
    for plan in reversed(plans):
        observations, rewards, terminated, *_ = env.step(plan[np.arange(num_envs), observations])
        returns += rewards
    assert terminated.all()
    gains = returns - values[:, 0]
    assert abs(gains.mean()) < 4 * gains.std() / np.sqrt(num_envs)
    # As the docstring of `optimal_return` says.
    assert abs(values[:, 0].mean() - 21.82) < 4 * values[:, 0].std() / np.sqrt(num_envs)


def test_ten_random_episodes_earn_what_was_published() -> None:
    env = BatchedVectorEnv(TabularMDP, 2_000, episodes_per_trial=10)
    env.reset(seed=0)
    rng, totals = np.random.default_rng(0), np.zeros(2_000)
    for _ in range(100):
        totals += env.step(rng.integers(5, size=2_000))[1]
    # 100.1 by Duan et al., RL², over 1,000 worlds.
    assert abs(totals.mean() - 100.1) < 2 * totals.std() * np.sqrt(1 / 1_000 + 1 / 2_000)


def test_success_is_more_than_acting_without_knowledge_earns() -> None:
    env = BatchedVectorEnv(TabularMDP, 500)
    env.reset(seed=0)
    returns, successes = np.zeros(500), None
    for _ in range(10):
        _, rewards, _, _, infos = env.step(np.zeros(500, dtype=int))
        returns += rewards
    successes = infos["final_info"]["is_success"]
    assert np.array_equal(successes, returns > 10.0)
    assert 0.4 < successes.mean() < 0.6
    # The next episode counts from 0.
    assert not env.get_state()["returns"].any()


def test_one_state_is_a_bandit_with_normal_rewards() -> None:
    env = SingleEnv(TabularMDP, num_states=1, num_actions=2, horizon=3)
    assert env.reset(seed=0)[0] == 0
    assert [env.step(0)[0] for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_states": 0}, "num_states must be an integer >= 1, but got 0"),
        ({"num_actions": 1}, "num_actions must be an integer >= 2, but got 1"),
        ({"horizon": 0}, "horizon must be an integer >= 1, but got 0"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(TabularMDP, **arguments)


def test_rendering_shows_the_state_and_its_mean_rewards() -> None:
    env = SingleEnv(TabularMDP, num_states=2, num_actions=2, render_mode="ansi")
    env.reset(seed=0)
    means = np.array([[[-2.0, 4.0], [1.0, 9.0]]])
    env.set_state({**env.get_state(), "states": np.array([1]), "mean_rewards": means})
    assert env.render() == "step 0 of 10, return 0.00, state 1: mean rewards 1.00 9.00"
