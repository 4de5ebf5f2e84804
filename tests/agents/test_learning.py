"""PPO learns the probe envs, whose values are known, and memory tasks; without memory it must not."""

import functools

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import rlstm.envs  # noqa: F401 - registers our envs.
from rlstm.agents.configs.ppo import PPOConfig
from rlstm.agents.ppo import PPO
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.evaluation.evaluate import evaluate, evaluation_envs
from rlstm.rollouts.collect import collect, start
from rlstm.testing.probe_envs import ActionEnv, ConstantValueEnv, DiscountEnv, ForgetEnv, ObservationValueEnv, RecallEnv
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec
from rlstm.vector.sub_env import SubEnv
from tests import kit

GAMMA = 0.5
BLIND = InputsConfig(previous_action=False, previous_reward=False, episode_start=False)


def lanes_of(make_env, num_envs=8):
    functions = [functools.partial(lambda lane: SubEnv(make_env(), lane), lane) for lane in range(num_envs)]
    vector = gym.vector.SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP)
    return VectorEnvs(vector, "sync", "")


def learn(envs, num_updates, *, num_steps=16, memory=None, cell="lstm", hidden_size=16, seed=0, **config):
    """Train and return the policy with one more rollout, made by what was learnt."""
    policy = kit.make_policy(
        envs.observation_space,
        envs.action_space,
        memory,
        BLIND,
        torch.float32,
        seed,
        noise=0.0,
        cell=cell,
        hidden_size=hidden_size,
        encoder_sizes=(16,),
    )
    settings = {"num_minibatches": 2, "learning_rate": 0.01, "gamma": GAMMA, "ent_coef": 0.0, "max_grad_norm": 5.0}
    agent = PPO(
        policy,
        PPOConfig(num_steps=num_steps, **{**settings, **config}),
        num_envs=envs.num_envs,
        total_steps=num_updates * num_steps * envs.num_envs,
        generator=torch.Generator().manual_seed(seed),
    )
    carry = start(policy, envs, integer_seeds(seed, "envs", envs.num_envs))
    for _ in range(num_updates):
        rollout = collect(policy, envs, carry, num_steps)
        agent.update(rollout)
        agent.refresh(rollout, carry)
    carry.statistics.finished["returns"].clear()
    return policy, collect(policy, envs, carry, num_steps), carry


@pytest.mark.parametrize("cell", ["none", pytest.param("lstm", marks=pytest.mark.slow)])
def test_a_constant_value_is_learnt(cell):
    _, rollout, _ = learn(lanes_of(ConstantValueEnv), 30, cell=cell)
    torch.testing.assert_close(rollout.values, torch.ones_like(rollout.values), rtol=0, atol=0.1)


@pytest.mark.parametrize("cell", ["none", pytest.param("lstm", marks=pytest.mark.slow)])
def test_a_value_is_read_from_the_observation(cell):
    _, rollout, _ = learn(lanes_of(ObservationValueEnv), 30, cell=cell)
    torch.testing.assert_close(rollout.values, rollout.inputs.observations[..., 0], rtol=0, atol=0.15)


@pytest.mark.parametrize("gae_lambda", [0.0, pytest.param(0.95, marks=pytest.mark.slow)])
def test_the_value_one_step_before_a_reward_is_discounted_once(gae_lambda):
    """With λ = 0 it can only come from bootstrapping."""
    _, rollout, _ = learn(lanes_of(DiscountEnv), 40, gae_lambda=gae_lambda)
    expected = torch.where(rollout.inputs.observations[..., 0] == 1, 1.0, GAMMA)
    torch.testing.assert_close(rollout.values, expected, rtol=0, atol=0.1)


@pytest.mark.parametrize("cell", ["lstm", pytest.param("none", marks=pytest.mark.slow)])
def test_the_action_that_pays_is_taken(cell):
    _, rollout, carry = learn(lanes_of(ActionEnv), 30, cell=cell)
    assert rollout.actions.float().mean() > 0.95
    assert np.mean(carry.statistics.finished["returns"]) > 0.9


def recall_score(cell, num_steps, num_updates, seed=0):
    envs = lanes_of(lambda: RecallEnv(num_steps), 16)
    rates = {"learning_rate": 3e-3, "gamma": 0.95, "ent_coef": 0.01}
    policy, _, _ = learn(envs, num_updates, num_steps=32, cell=cell, hidden_size=24, seed=seed, **rates)
    return evaluate(policy, lanes_of(lambda: RecallEnv(num_steps), 16), 200, seed=1).mean_return


@pytest.mark.slow
@pytest.mark.parametrize(("num_steps", "num_updates"), [(1, 60), (8, 200)])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_sign_is_recalled(cell, num_steps, num_updates):
    assert recall_score(cell, num_steps, num_updates) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("num_steps", "num_updates"), [(1, 60), (8, 200)])
def test_without_memory_a_sign_is_not_recalled(num_steps, num_updates):
    assert abs(recall_score("none", num_steps, num_updates)) < 0.3


def values_and_signs_before(lifetime):
    """What the critic thinks of each episode of one step, and the sign of the episode before, which is what it pays."""
    memory = MemoryConfig(lifetime)
    _, rollout, _ = learn(lanes_of(ForgetEnv, 16), 120, num_steps=32, memory=memory, gamma=0.0, gae_lambda=0.0)
    return rollout.values[1:].flatten(), rollout.inputs.observations[:-1, :, 0].flatten()


@pytest.mark.slow
def test_what_was_seen_before_a_reset_is_forgotten():
    values, before = values_and_signs_before("episode")
    assert abs(np.corrcoef(values, before)[0, 1]) < 0.2
    assert values.abs().mean() < 0.25


@pytest.mark.slow
def test_where_memory_outlives_the_episode_it_is_remembered():
    """The control: the same env and learner find the sign before, if nothing resets it."""
    values, before = values_and_signs_before("lifelong")
    torch.testing.assert_close(values, before, rtol=0, atol=0.3)


def t_maze(cell, seed=0):
    config = EnvConfig(env="rlstm/TMaze-v0", env_kwargs={"corridor_length": 10}, num_envs=32)
    envs = make(resolve_spec(config), config, MemoryConfig())
    policy, _, _ = learn(
        envs,
        120,
        num_steps=64,
        cell=cell,
        hidden_size=32,
        seed=seed,
        num_minibatches=4,
        learning_rate=3e-3,
        gamma=0.98,
        ent_coef=0.03,
        max_grad_norm=0.5,
    )
    return evaluate(policy, evaluation_envs(resolve_spec(config), config, MemoryConfig(), 200), 200, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_t_maze_is_learnt_with_memory(cell):
    result = t_maze(cell)
    assert result.success_rate > 0.95
    assert result.mean_return > 3.5


@pytest.mark.slow
def test_the_t_maze_is_not_learnt_without():
    result = t_maze("none")
    assert result.success_rate < 0.7
    assert result.mean_return < 2.6
