"""The floor: uniform actions, and nothing learnt."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlstm.agents.configs.random_agent import RandomConfig
from rlstm.agents.random_agent import RandomAgent
from rlstm.rollouts.collect import collect, start
from tests import kit


def play(action_space, num_steps=500, **policy):
    policy = kit.make_policy(action_space=action_space, noise=1.0, **policy)
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


def test_continuous_actions_are_drawn_around_zero_and_kept_in_bounds():
    _, rollout, _ = play(gym.spaces.Box(-9, 9, (2,), np.float32))
    assert rollout.actions.mean().abs() < 0.1
    agent, _, _ = play(gym.spaces.Box(-1, 1, (2,), np.float32), num_steps=5)
    assert np.abs(agent.policy.distribution.to_env(torch.full((1, 2), 5.0))).max() == 1


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
