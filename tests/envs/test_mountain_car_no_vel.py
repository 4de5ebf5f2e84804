"""The continuous mountain car without velocities, side by side with Gymnasium's MountainCarContinuous-v0."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.control.mountain_car_no_vel import MountainCarContinuousNoVel


def start_at(env: Any, states: Any) -> None:
    """Positions and velocities, (B, 2)."""
    env.reset(seed=0)
    positions, velocities = np.asarray(states, dtype=np.float64).reshape(-1, 2).T
    env.set_state({**env.get_state(), "positions": positions.copy(), "velocities": velocities.copy()})


def swing(velocity: float, effort: float) -> Any:
    return np.array([effort if velocity >= 0 else -effort], dtype=np.float32)


@pytest.mark.parametrize("effort", [0.0, 0.3, 0.7, 1.0])
def test_whole_episodes_follow_gymnasiums_mountain_car(effort: float) -> None:
    theirs, ours = gym.make("MountainCarContinuous-v0").unwrapped, SingleEnv(MountainCarContinuousNoVel)
    theirs.reset(seed=1)
    start_at(ours, theirs.state)
    for step in range(1, 1000):
        action = swing(theirs.state[1], effort)
        their_observation, their_reward, their_end, _, _ = theirs.step(action)
        observation, reward, terminated, truncated, info = ours.step(action)
        # Gymnasium rounds to float32 at each step, so the two drift apart a little.
        np.testing.assert_allclose(observation, their_observation[:1], rtol=0, atol=5e-5)
        np.testing.assert_allclose(reward, their_reward, rtol=0, atol=1e-6)
        assert (terminated, truncated, info["is_success"]) == (their_end, step == 999, their_end)
        if terminated:
            break
    assert terminated == (effort > 0.0)


def test_a_batch_of_states_moves_as_gymnasiums_one_by_one() -> None:
    rng = np.random.default_rng(0)
    states = np.stack([rng.uniform(-1.2, 0.6, 300), rng.uniform(-0.07, 0.07, 300)], axis=1)
    # The wall on the left, the end on the right, the goal forwards and backwards.
    states[:6] = [[-1.19, -0.07], [-1.2, 0.0], [0.59, 0.07], [0.449, 0.01], [0.46, -0.05], [0.5, -0.001]]
    actions = rng.uniform(-1, 1, (300, 1)).astype(np.float32)
    theirs, ours = gym.make("MountainCarContinuous-v0").unwrapped, BatchedVectorEnv(MountainCarContinuousNoVel, 300)
    start_at(ours, states)
    transition = ours.task.step(actions)
    theirs.reset(seed=0)
    for lane in range(300):
        theirs.state = states[lane].copy()
        _, reward, terminated, _, _ = theirs.step(actions[lane])
        found = [ours.task.positions[lane], ours.task.velocities[lane]]
        np.testing.assert_allclose(found, theirs.state, rtol=0, atol=1e-7)
        np.testing.assert_allclose(transition.rewards[lane], reward, rtol=0, atol=1e-6)
        assert transition.terminated[lane] == terminated
    assert ours.task.velocities[0] == 0.0 == ours.task.positions[0] + 1.2
    assert transition.terminated[3]
    assert not transition.terminated[4]


def test_spaces_limits_and_threshold_are_gymnasiums() -> None:
    theirs, ours = gym.make("MountainCarContinuous-v0"), SingleEnv(MountainCarContinuousNoVel)
    assert np.array_equal(ours.observation_space.low, theirs.observation_space.low[:1])
    assert np.array_equal(ours.observation_space.high, theirs.observation_space.high[:1])
    assert ours.action_space == theirs.action_space
    assert theirs.spec.max_episode_steps == ours.task.max_steps
    assert theirs.spec.reward_threshold == gym.spec("rlstm/MountainCarContinuousNoVel-v0").reward_threshold


def test_starts_are_at_rest_and_uniform_near_the_bottom() -> None:
    env = BatchedVectorEnv(MountainCarContinuousNoVel, 4_000)
    env.reset(seed=0)
    positions = env.task.positions
    assert -0.6 <= positions.min() < -0.59
    assert -0.41 < positions.max() < -0.4
    assert abs(positions.mean() + 0.5) < 5 * 0.2 / np.sqrt(12 * 4_000)
    assert not env.task.velocities.any()


def test_swinging_by_the_speed_told_from_two_positions_reaches_the_goal() -> None:
    env = BatchedVectorEnv(MountainCarContinuousNoVel, 200)
    before, _ = env.reset(seed=0)
    now, rewards, returns = before, np.zeros(200), np.zeros(200)
    running = np.ones(200, dtype=bool)
    for _ in range(300):
        actions = np.where(now >= before, 1.0, -1.0).astype(np.float32)
        before = now
        now, rewards, terminated, _, _ = env.step(actions)
        returns += np.where(running, rewards, 0.0)
        running &= ~terminated
    assert not running.any()
    assert 85.0 < returns.min() <= returns.max() < env.optimal_return.value == 100.0


def test_impossible_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="max_steps must be an integer >= 1, but got -1"):
        SingleEnv(MountainCarContinuousNoVel, max_steps=-1)
