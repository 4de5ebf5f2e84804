"""The T-maze, rule by rule."""

import itertools
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.mazes.tmaze import EAST, NORTH, SOUTH, WEST, TMaze

GOAL_NORTH, GOAL_SOUTH, CORRIDOR, JUNCTION = [0, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 0]


def make(goal_is_north: bool, **arguments: Any) -> SingleEnv:
    env = SingleEnv(TMaze, **arguments)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "goal_is_north": np.array([goal_is_north])})
    return env


def test_a_hand_written_episode() -> None:
    env = make(goal_is_north=False, corridor_length=3)
    table = [
        # action, observation, reward, terminated, success
        (WEST, GOAL_SOUTH, -0.1, False, False),
        (NORTH, GOAL_SOUTH, -0.1, False, False),
        (SOUTH, GOAL_SOUTH, -0.1, False, False),
        (EAST, CORRIDOR, 0.0, False, False),
        (NORTH, CORRIDOR, -0.1, False, False),
        (SOUTH, CORRIDOR, -0.1, False, False),
        (WEST, GOAL_SOUTH, 0.0, False, False),
        (EAST, CORRIDOR, 0.0, False, False),
        (EAST, CORRIDOR, 0.0, False, False),
        (EAST, JUNCTION, 0.0, False, False),
        (EAST, JUNCTION, -0.1, False, False),
        (WEST, CORRIDOR, 0.0, False, False),
        (EAST, JUNCTION, 0.0, False, False),
        (SOUTH, JUNCTION, 4.0, True, True),
    ]
    for action, observation, reward, terminated, success in table:
        found = env.step(action)
        assert found[0].tolist() == observation
        assert found[1:] == (reward, terminated, False, {"is_success": success})


@pytest.mark.parametrize("goal_is_north", [True, False])
@pytest.mark.parametrize("turn", [NORTH, SOUTH])
def test_only_the_turn_to_the_goal_is_rewarded(goal_is_north: bool, turn: int) -> None:
    env = make(goal_is_north, corridor_length=1)
    assert env.step(EAST)[0].tolist() == JUNCTION
    _, reward, terminated, _, info = env.step(turn)
    right = (turn == NORTH) == goal_is_north
    assert (reward, terminated, info["is_success"]) == (4.0 if right else -0.1, True, right)


@pytest.mark.parametrize("corridor_length", [1, 2, 20])
def test_the_corridor_length_counts_the_moves_from_start_to_junction(corridor_length: int) -> None:
    env = SingleEnv(TMaze, corridor_length=corridor_length)
    observation, _ = env.reset(seed=0)
    assert observation.tolist() in (GOAL_NORTH, GOAL_SOUTH)
    seen = [env.step(EAST)[0].tolist() for _ in range(corridor_length)]
    assert seen == [CORRIDOR] * (corridor_length - 1) + [JUNCTION]


def test_both_goals_are_as_likely() -> None:
    observations, _ = BatchedVectorEnv(TMaze, 4_000).reset(seed=0)
    assert abs(observations[:, 0].mean() - 0.5) < 5 * 0.5 / np.sqrt(4_000)


def test_noise_is_uniform_new_at_each_step_and_only_in_the_corridor() -> None:
    env = BatchedVectorEnv(TMaze, 500, corridor_length=12, noise=True)
    start, _ = env.reset(seed=0)
    assert np.all(start[:, 1] == 1)
    assert np.isin(start, (0, 1)).all()
    seen = np.stack([env.step(np.full(500, EAST))[0] for _ in range(12)])
    assert np.array_equal(seen[-1], np.tile(np.float32(JUNCTION), (500, 1)))
    noise = seen[:-1, :, ::2]
    assert np.all(seen[:-1, :, 1] == 0)
    assert np.unique(noise).size > 0.99 * noise.size
    assert abs(noise.mean() - 0.5) < 5 * np.sqrt(1 / 12 / noise.size)
    assert np.abs(np.corrcoef(noise.reshape(11, -1)) - np.eye(11)).max() < 5 / np.sqrt(1_000)


def test_observing_twice_shows_the_same_noise() -> None:
    env = SingleEnv(TMaze, corridor_length=5, noise=True)
    env.reset(seed=0)
    observation = env.step(EAST)[0]
    assert np.array_equal(env.task.observe()[0], observation)


@pytest.mark.parametrize(("arguments", "limit"), [({}, 210), ({"corridor_length": 100}, 1010), ({"max_steps": 30}, 30)])
def test_the_step_limit_grows_with_the_corridor_and_truncation_is_no_success(
    arguments: dict[str, int], limit: int
) -> None:
    env, vector = SingleEnv(TMaze, **arguments), BatchedVectorEnv(TMaze, 2, **arguments)
    env.reset(seed=0)
    vector.reset(seed=0)
    for step in range(1, limit + 1):
        found, batch = env.step(WEST), vector.step(np.full(2, WEST))
        assert found[2:4] == (False, step == limit)
        assert batch[3].tolist() == [step == limit] * 2
    assert found[4] == {"is_success": False}
    assert batch[4]["final_info"]["is_success"].tolist() == [False, False]


def test_a_turn_on_the_last_allowed_step_is_terminated_and_truncated() -> None:
    env = make(goal_is_north=True, corridor_length=2, max_steps=3)
    env.step(EAST)
    env.step(EAST)
    assert env.step(NORTH)[1:] == (4.0, True, True, {"is_success": True})


def test_no_deterministic_memoryless_policy_beats_the_memoryless_return() -> None:
    # All 4^4 maps from the four observations to actions, each with both goals.
    policies = np.array(list(itertools.product(range(4), repeat=4)))
    actions_by_view = np.repeat(policies, 2, axis=0)
    num_envs = len(actions_by_view)
    env = BatchedVectorEnv(TMaze, num_envs, corridor_length=3)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "goal_is_north": np.tile([True, False], num_envs // 2)})
    returns, running = np.zeros(num_envs), np.ones(num_envs, dtype=bool)
    observations = env.task.observe()
    while running.any():
        codes = observations @ np.array([1, 2, 4])  # 6 goal north, 3 goal south, 5 corridor, 2 junction.
        views = np.select([codes == 6, codes == 3, codes == 5], [0, 1, 2], 3)
        observations, rewards, terminated, truncated, _ = env.step(actions_by_view[np.arange(num_envs), views])
        returns += rewards * running
        running &= ~(terminated | truncated)
    best = returns.reshape(-1, 2).mean(axis=1).max()
    assert best == pytest.approx(env.memoryless_return.value, abs=1e-12)
    assert best == pytest.approx(1.95)
