"""CartPole without velocities, side by side with Gymnasium's CartPole-v1."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.control.cartpole_no_vel import CartPoleNoVel

NAMES = ("positions", "velocities", "angles", "angular_velocities")


def start_at(env: Any, full_state: Any) -> None:
    env.reset(seed=0)
    columns = np.asarray(full_state, dtype=np.float64).reshape(-1, 4).T
    env.set_state({**env.get_state(), **{name: column.copy() for name, column in zip(NAMES, columns, strict=True)}})


def full_state_of(env: Any) -> Any:
    return np.stack([env.get_state()[name] for name in NAMES], axis=-1)


def feedback(full_state: Any, wobble: float) -> int:
    position, velocity, angle, angular_velocity = full_state
    return int(angle + 0.5 * angular_velocity + 0.05 * position + 0.1 * velocity > wobble)


def test_whole_episodes_follow_gymnasiums_cartpole_to_the_last_digits() -> None:
    theirs, ours = gym.make("CartPole-v1").unwrapped, SingleEnv(CartPoleNoVel)
    rng = np.random.default_rng(0)
    lengths = []
    # The larger the wobble of the controller the sooner the pole falls; without it stands until the limit.
    for episode, wobble in enumerate((0.0, 0.02, 0.1, 0.5, 2.0, 2.0)):
        theirs.reset(seed=episode)
        start_at(ours, theirs.state)
        for step in range(1, 501):
            action = feedback(theirs.state, wobble * rng.normal())
            their_observation, their_reward, their_end, _, _ = theirs.step(action)
            observation, reward, terminated, truncated, info = ours.step(action)
            np.testing.assert_allclose(full_state_of(ours)[0], theirs.state, rtol=0, atol=1e-12)
            assert np.array_equal(observation, their_observation[[0, 2]])
            assert (reward, terminated, truncated) == (their_reward, their_end, step == 500)
            assert info["is_success"] is (step == 500 and not terminated)
            if terminated:
                break
        lengths.append(step)
    assert lengths[0] == 500
    assert min(lengths) < 100


def test_a_batch_of_random_states_moves_as_gymnasiums_one_by_one() -> None:
    rng = np.random.default_rng(1)
    states = rng.uniform(-1, 1, (200, 4)) * [2.3, 3.0, 0.2, 3.0]
    actions = rng.integers(0, 2, 200)
    theirs, ours = gym.make("CartPole-v1").unwrapped, BatchedVectorEnv(CartPoleNoVel, 200, max_episode_steps=10**6)
    start_at(ours, states)
    transition = ours.task.step(actions)
    theirs.reset(seed=0)
    for lane in range(200):
        theirs.state, theirs.steps_beyond_terminated = tuple(states[lane]), None
        assert theirs.step(int(actions[lane]))[2] == transition.terminated[lane]
        assert np.array_equal(full_state_of(ours.task)[lane], theirs.state)
    assert 0 < transition.terminated.sum() < 200


def test_spaces_and_thresholds_are_cartpoles() -> None:
    theirs, ours = gym.make("CartPole-v1"), SingleEnv(CartPoleNoVel)
    assert np.array_equal(ours.observation_space.high, theirs.observation_space.high[[0, 2]])
    assert np.array_equal(ours.observation_space.low, theirs.observation_space.low[[0, 2]])
    assert ours.action_space == theirs.action_space
    assert theirs.spec.max_episode_steps == ours.task.max_steps
    assert theirs.spec.reward_threshold == gym.spec("rlstm/CartPoleNoVel-v0").reward_threshold


def test_starts_are_uniform_and_small() -> None:
    env = BatchedVectorEnv(CartPoleNoVel, 5_000)
    env.reset(seed=0)
    start = full_state_of(env)
    assert np.abs(start).max() <= 0.05
    assert np.abs(start.mean(axis=0)).max() < 5 * 0.1 / np.sqrt(12 * 5_000)
    assert np.all(np.abs(start.std(axis=0) - 0.1 / np.sqrt(12)) < 0.001)
    assert np.abs(np.corrcoef(start.T) - np.eye(4)).max() < 5 / np.sqrt(5_000)


@pytest.mark.parametrize("max_steps", [3, 500])
def test_falling_is_no_success_and_the_limit_scales(max_steps: int) -> None:
    env = BatchedVectorEnv(CartPoleNoVel, 16, max_steps=max_steps)
    env.reset(seed=0)
    while True:
        _, _, terminated, truncated, infos = env.step(np.ones(16, dtype=np.int64))
        ended = terminated | truncated
        if ended.any():
            assert np.array_equal(infos["final_info"]["is_success"][ended], (truncated & ~terminated)[ended])
            break
    assert truncated.any() == (max_steps == 3)
