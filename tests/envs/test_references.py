"""`optimal_return` and `memoryless_return` are what scripted play attains: an exact one needs a script in plays/."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs import ENVS

Policy = Callable[[list[Any], Any], Any]  # The observations of all steps, (B, ...) each, and the env, to actions (B,).


def play_one_episode_each(env_id: str, policy: Policy, num_envs: int, **arguments: Any) -> tuple[Any, Any]:
    """Returns and successes of one episode per lane, (B,) each."""
    env = gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **arguments)
    observations = [env.reset(seed=0)[0]]
    returns, running, successes = np.zeros(num_envs), np.ones(num_envs, dtype=bool), np.zeros(num_envs, dtype=bool)
    while running.any():
        observation, rewards, terminated, truncated, infos = env.step(policy(observations, env))
        observations.append(observation)
        returns += np.where(running, rewards, 0.0)
        ended = running & (terminated | truncated)
        if ended.any():
            successes[ended] = infos["final_info"]["is_success"][ended]
        running &= ~ended
    return returns, successes


@pytest.mark.parametrize("num_envs", [300, pytest.param(1_000, marks=pytest.mark.slow)])
def test_scripted_play_attains_the_optimal_return(
    env_id: str, arguments: dict[str, Any], optimal_play: Policy, num_envs: int
) -> None:
    reference = ENVS[env_id].describe(**arguments).optimal_return
    returns, successes = play_one_episode_each(env_id, optimal_play, num_envs, **arguments)
    standard_error = returns.std() / np.sqrt(returns.size)  # 0 where every episode can be played for the optimum.
    np.testing.assert_allclose(returns.mean(), reference.value, rtol=0, atol=4 * standard_error + 1e-9)
    assert successes.all() or (standard_error > 0 and successes.any())


@pytest.mark.parametrize("num_envs", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_scripted_memoryless_play_attains_the_memoryless_return(
    env_id: str, arguments: dict[str, Any], memoryless_play: Policy, num_envs: int
) -> None:
    reference = ENVS[env_id].describe(**arguments).memoryless_return
    returns, _ = play_one_episode_each(env_id, memoryless_play, num_envs, **arguments)
    standard_error = returns.std() / np.sqrt(returns.size)
    assert abs(returns.mean() - reference.value) < 4 * standard_error + 1e-12


def test_memoryless_play_is_worth_less_unless_nothing_is_to_be_remembered(
    env_id: str, arguments: dict[str, Any], known_returns: tuple[float, float]
) -> None:
    optimal, memoryless = known_returns
    assert (memoryless < optimal) == (ENVS[env_id].describe(**arguments).memory_length != 0)
