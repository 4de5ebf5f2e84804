"""The floor: uniform actions, and nothing learnt."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlstm
from rlstm.agents.configs.random_agent import RandomConfig
from rlstm.agents.random_agent import RandomAgent
from rlstm.rollouts.collect import collect, start
from scripts.quirks.envs import register
from tests import kit


def play(action_space, num_steps=500, **policy):
    policy = kit.make_policy(action_space=action_space, noise=1.0, **policy)
    policy.distribution = policy.distribution.at_random()  # As ``make_policy`` does for this agent.
    agent = RandomAgent(policy, RandomConfig(), num_envs=4, total_steps=0, generator=torch.Generator())
    envs = kit.scripted("..E", ".C", "...", "B", action_space=action_space)
    carry = start(policy, envs, [0] * 4)
    return agent, collect(policy, envs, carry, num_steps), carry


@pytest.mark.parametrize("cell", ["lstm", "none"])
def test_discrete_actions_are_uniform_whatever_is_seen(cell):
    _, rollout, _ = play(gym.spaces.Discrete(5), cell=cell)
    torch.testing.assert_close(rollout.log_probs, torch.full_like(rollout.log_probs, -np.log(5)))
    counts = torch.bincount(rollout.actions.flatten(), minlength=5)
    assert counts.min() > 2000 / 5 - 100  # Five deviations.
    assert counts.max() < 2000 / 5 + 100


def test_the_policy_it_starts_from_is_not_uniform():
    policy = kit.make_policy(action_space=gym.spaces.Discrete(5), noise=1.0)
    envs = kit.scripted("..E", ".C")
    assert collect(policy, envs, start(policy, envs, [0, 0]), 9).log_probs.std() > 0.1


def test_multi_discrete_and_binary_actions_are_uniform_too():
    _, rollout, _ = play(gym.spaces.MultiDiscrete([2, 3]))
    torch.testing.assert_close(rollout.log_probs, torch.full_like(rollout.log_probs, -np.log(6)))
    _, rollout, _ = play(gym.spaces.MultiBinary(3))
    torch.testing.assert_close(rollout.log_probs, torch.full_like(rollout.log_probs, -np.log(8)))


def test_continuous_actions_are_uniform_between_their_bounds():
    agent, rollout, _ = play(gym.spaces.Box(-9, 9, (2,), np.float32))
    given = agent.policy.distribution.to_env(rollout.actions.flatten(0, 1))
    assert np.abs(np.histogram(given, bins=6, range=(-9, 9))[0] / given.size - 1 / 6).max() < 0.03


def test_it_never_learns():
    agent, rollout, carry = play(gym.spaces.Discrete(5), num_steps=9)
    before = {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}
    assert agent.update(rollout) == {}
    assert agent.refresh(rollout, carry) == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in agent.policy.state_dict().items())


def test_it_goes_on_with_its_random_stream():
    agent, _, _ = play(gym.spaces.Discrete(5), num_steps=9)
    saved = agent.state_dict()
    expected = torch.rand(3, generator=agent.policy.generator)
    assert not torch.equal(torch.rand(3, generator=agent.policy.generator), expected)
    agent.load_state_dict(saved)
    assert torch.equal(torch.rand(3, generator=agent.policy.generator), expected)


def test_a_rollout_has_at_least_one_step():
    with pytest.raises(ValueError, match="num_steps is 0"):
        RandomConfig(num_steps=0)


@pytest.mark.parametrize("squash_actions", [False, True])
def test_numbers_are_uniform_between_their_bounds_in_training_evaluation_and_play(tmp_path, squash_actions):
    """In the env's own units: Box(200, 1000)."""
    register()
    settings = {"env": "quirks/Heater-v0", "env_import": ("scripts.quirks.envs",), "total_steps": 1000}
    settings |= {"num_envs": 4, "num_threads": 1, "squash_actions": squash_actions, "eval_episodes": 5}
    path = rlstm.train("random", ui="none", run_dir=str(tmp_path / "run"), **settings).run_dir
    agent = rlstm.load(path)
    watts = np.array([agent.act([0.0, 1.0])[0] for _ in range(2000)])
    assert np.abs(np.histogram(watts, bins=4, range=(200, 1000))[0] / 2000 - 0.25).max() < 0.05
