"""The pendulum without velocities, side by side with Gymnasium's Pendulum-v1."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.control.pendulum_no_vel import PendulumNoVel


def start_at(env: Any, angles: Any, velocities: Any) -> None:
    env.reset(seed=0)
    state = {
        "angles": np.atleast_1d(angles).astype(float),
        "angular_velocities": np.atleast_1d(velocities).astype(float),
    }
    env.set_state({**env.get_state(), **state})


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_whole_episodes_follow_gymnasiums_pendulum(sign: float) -> None:
    theirs, ours = gym.make("Pendulum-v1").unwrapped, SingleEnv(PendulumNoVel)
    rng = np.random.default_rng(0)
    for episode in range(4):
        theirs.reset(seed=episode)
        start_at(ours, *theirs.state)
        for step in range(1, 201):
            # Noise on a push in the direction of motion, which makes the rod turn over.
            action = np.clip(2 * sign * np.sign(theirs.state[1]) + rng.normal(size=1), -2, 2).astype(np.float32)
            their_observation, their_reward, _, _, _ = theirs.step(action)
            observation, reward, terminated, truncated, info = ours.step(action)
            np.testing.assert_allclose(observation, their_observation[:2], rtol=0, atol=1e-6)
            np.testing.assert_allclose(ours.task.angular_velocities[0], theirs.state[1], rtol=0, atol=1e-9)
            np.testing.assert_allclose(reward, their_reward, rtol=1e-9, atol=1e-9)
            assert (terminated, truncated) == (False, step == 200)
            assert not info["is_success"] or step == 200


def test_the_spaces_hide_the_velocity_and_are_else_the_same() -> None:
    theirs, ours = gym.make("Pendulum-v1"), SingleEnv(PendulumNoVel)
    assert np.array_equal(ours.observation_space.high, theirs.observation_space.high[:2])
    assert np.array_equal(ours.action_space.high, theirs.action_space.high)
    assert ours.action_space.dtype == theirs.action_space.dtype
    assert theirs.spec.max_episode_steps == ours.task.max_steps


def test_success_is_standing_at_the_last_step() -> None:
    angles, velocities = np.radians([0.0, 5.0, -5.0, 20.0, 180.0, 365.0, 0.0]), np.array([0.0] * 6 + [2.0])
    for max_steps, expected in ((1, [True, True, True, False, False, True, False]), (2, [False] * 7)):
        env = BatchedVectorEnv(PendulumNoVel, 7, max_steps=max_steps)
        start_at(env, angles, velocities)
        assert env.task.step(np.zeros((7, 1), dtype=np.float32)).info["is_success"].tolist() == expected


def test_starts_point_anywhere_and_are_slow() -> None:
    env = BatchedVectorEnv(PendulumNoVel, 4_000)
    env.reset(seed=0)
    for values, largest in ((env.task.angles, math.pi), (env.task.angular_velocities, 1.0)):
        assert np.abs(values).max() <= largest
        assert abs(values.mean()) < 5 * largest / np.sqrt(3 * 4_000)
        assert abs(values.std() - largest / np.sqrt(3)) < 0.03 * largest


def test_the_best_return_is_bounded_by_a_reward_that_is_never_positive() -> None:
    env = BatchedVectorEnv(PendulumNoVel, 500)
    env.reset(seed=0)
    assert env.optimal_return.value == 0.0
    for _ in range(50):
        assert env.step(env.action_space.sample())[1].max() <= 0.0


def test_impossible_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="max_steps must be an integer >= 1, but got 0"):
        SingleEnv(PendulumNoVel, max_steps=0)
