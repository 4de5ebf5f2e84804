"""`optimal_return` and `memoryless_return` are what scripted play attains. An exact one needs a script here."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs import ENVS

Policy = Callable[[list[Any], Any], Any]  # The observations of all steps, (B, ...) each, and the env, to actions (B,).


def walk_and_turn_as_the_sign_said(observations: list[Any], env: Any) -> Any:
    at_junction = observations[-1][:, 1] > observations[-1][:, ::2].max(axis=1)
    goal_is_north = observations[0][:, 0] == 0
    is_start = len(observations) == 1
    return np.where(at_junction & (not is_start), np.where(goal_is_north, 0, 2), 1)


def answer_the_card_asked_for(observations: list[Any], env: Any) -> Any:
    return observations[-min(env.task.k, len(observations))]


def balance_by_differences(observations: list[Any], env: Any) -> Any:
    position, angle = observations[-1].T
    before = observations[-2] if len(observations) > 1 else observations[-1]
    velocity, angular_velocity = ((observations[-1] - before) / 0.02).T
    return (angle + 0.5 * angular_velocity + 0.05 * position + 0.1 * velocity > 0).astype(np.int64)


def walk_and_turn_north(observations: list[Any], env: Any) -> Any:
    at_junction = np.all(observations[-1] == [0, 1, 0], axis=1)
    return np.where(at_junction, 0, 1)


def answer_another_suit(observations: list[Any], env: Any) -> Any:
    return observations[-1] if env.task.k == 1 else (observations[-1] + 1) % 4


OPTIMA: dict[str, Policy] = {
    "rlstm/TMaze-v0": walk_and_turn_as_the_sign_said,
    "rlstm/RepeatPrevious-v0": answer_the_card_asked_for,
    "rlstm/CartPoleNoVel-v0": balance_by_differences,
}
BEST_MEMORYLESS: dict[str, Policy] = {
    "rlstm/TMaze-v0": walk_and_turn_north,
    "rlstm/RepeatPrevious-v0": answer_another_suit,
}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "rlstm/TMaze-v0": [{}, {"corridor_length": 1}, {"corridor_length": 50, "noise": True}],
    "rlstm/RepeatPrevious-v0": [{}, {"num_decks": 2, "k": 32}, {"num_decks": 3, "k": 64}, {"k": 1}],
}
CASES = [(env_id, arguments) for env_id in ENVS for arguments in VARIANTS.get(env_id, [{}])]
over_cases = pytest.mark.parametrize(("env_id", "arguments"), CASES, ids=str)


def play_one_episode_each(env_id: str, policy: Policy, num_envs: int, **arguments: Any) -> tuple[Any, Any]:
    """Returns and successes of one episode per lane, (B,) each."""
    env = gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **arguments)
    observations = [env.reset(seed=0)[0]]
    returns, running, successes = np.zeros(num_envs), np.ones(num_envs, dtype=bool), np.zeros(num_envs, dtype=bool)
    while running.any():
        observation, rewards, terminated, truncated, infos = env.step(policy(observations, env))
        observations.append(observation)
        returns += rewards * running
        ended = running & (terminated | truncated)
        if ended.any():
            successes[ended] = infos["final_info"]["is_success"][ended]
        running &= ~ended
    return returns, successes


@over_cases
def test_scripted_play_attains_the_optimal_return(env_id: str, arguments: dict[str, Any]) -> None:
    reference = ENVS[env_id].describe(**arguments).optimal_return
    if reference.kind != "exact":
        pytest.skip(reference.reason)
    returns, successes = play_one_episode_each(env_id, OPTIMA[env_id], 100, **arguments)
    np.testing.assert_allclose(returns, reference.value, rtol=0, atol=1e-12)
    assert successes.all()


@over_cases
def test_scripted_memoryless_play_attains_the_memoryless_return(env_id: str, arguments: dict[str, Any]) -> None:
    reference = ENVS[env_id].describe(**arguments).memoryless_return
    if reference.kind != "exact":
        pytest.skip(reference.reason)
    returns, _ = play_one_episode_each(env_id, BEST_MEMORYLESS[env_id], 10_000, **arguments)
    standard_error = returns.std() / np.sqrt(returns.size)
    assert abs(returns.mean() - reference.value) < 4 * standard_error + 1e-12


@over_cases
def test_memoryless_play_is_worth_less_unless_nothing_is_to_be_remembered(
    env_id: str, arguments: dict[str, Any]
) -> None:
    description = ENVS[env_id].describe(**arguments)
    optimal, memoryless = description.optimal_return.value, description.memoryless_return.value
    if optimal is None or memoryless is None:
        pytest.skip("a reference is unknown")
    assert (memoryless < optimal) == (description.memory_length != 0)
