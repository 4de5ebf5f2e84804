"""The bonus for what is new: its formulas, its credit, and what it must leave alone."""

import copy
import dataclasses
import functools

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from rlstm.agents.configs.ppo import PPOConfig
from rlstm.agents.ppo import PPO
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.exploration.novelty import Novelty
from rlstm.losses.returns import discounted_sums, gae
from rlstm.policies.config import PolicyConfig
from rlstm.rollouts.collect import collect, start
from rlstm.testing.probe_envs import LockEnv
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.sub_env import SubEnv
from tests import kit

SCRIPTS = ("..E..C..", "C.......", ".......E", "ECECECEC", "...B...C", "........")
KINDS = ["rnd", "noveld"]
MEMORIES = {
    "episode": MemoryConfig(),
    "trial": MemoryConfig("trial", episodes_per_trial=2, insist_on_trials=True),
    "lifelong": MemoryConfig("lifelong", "episode"),
}


def make_agent(exploration, num_steps=8, memory=None, policy=None, **config):
    recurrent = kit.make_policy(memory=memory, **(policy or {}))
    settings = {"num_minibatches": 2, "update_epochs": 2, "value_bias": "zero", "gae_lambda": 0.8, **config}
    return PPO(
        recurrent,
        PPOConfig(num_steps=num_steps, exploration=exploration, **settings),
        num_envs=len(SCRIPTS),
        total_steps=10_000,
        generator=torch.Generator().manual_seed(0),
    )


def play(agent, memory=None, num_updates=3):
    """Updates in the scripted envs; yields the agent before each, with its rollout."""
    envs = kit.scripted(*SCRIPTS, memory=memory)
    state = start(agent.policy, envs, [0] * len(SCRIPTS))
    for _ in range(num_updates):
        yield agent.collect(envs, state), state


def coarse(rollout):
    """The rollout as if observations told the time in thirds only, so that some are seen again."""
    unit = torch.tensor([1.0, 3.0, 1.0, 1.0])
    inputs = rollout.inputs._replace(observations=(rollout.inputs.observations / unit).floor())
    onward = rollout.onward._replace(next_observations=(rollout.onward.next_observations / unit).floor())
    return dataclasses.replace(rollout, inputs=inputs, onward=onward)


# What a rollout led to.


@pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)
def test_each_step_leads_to_what_is_seen_next_or_to_the_last_of_its_episode(memory):
    agent = make_agent("rnd", memory=memory)
    before = None
    for rollout, state in play(agent, memory):
        onward = rollout.onward
        ends = rollout.terminated | rollout.truncated
        assert ends.any()
        # Observations are (env, time, episode, 1 if it is the last one).
        observations, after = rollout.inputs.observations, onward.next_observations
        assert torch.equal(after[..., 0], observations[..., 0])
        assert torch.equal(after[..., 1], observations[..., 1] + 1)
        assert torch.equal(after[..., 2], observations[..., 2])  # Of the same episode still.
        assert torch.equal(after[..., 3], ends.to(after.dtype))
        assert torch.equal(onward.inputs.observations[:, 1], after[-1, :, 1])
        assert (onward.inputs.observations[:, 3] == 0).all()  # Of the next episode already.
        assert torch.equal(onward.is_first, torch.as_tensor(state.tracker.is_first))
        if before is not None:
            assert torch.equal(before.inputs.observations, observations[0])
            assert torch.equal(before.is_first, rollout.is_first[0])
        before = onward
        picked = rollout.select(torch.tensor([4, 1]))
        assert torch.equal(picked.onward.next_observations, after[:, [4, 1]])
        assert torch.equal(picked.onward.is_first, onward.is_first[[4, 1]])


def test_it_is_kept_only_if_asked_for():
    agent = make_agent("none")
    (rollout, _), *_ = play(agent, num_updates=1)
    assert rollout.onward is None
    with pytest.raises(ValueError, match="onward=True"):
        make_agent("rnd").bonus.take_in(rollout)


# Novelty.


def test_what_was_learnt_is_no_longer_new_and_the_rest_still_is():
    agent = make_agent("rnd", bonus_learning_rate=0.003)
    (rollout, _), *_ = play(agent, num_updates=1)
    bonus, dtype = agent.bonus, torch.float64
    bonus.take_in(rollout)
    bonus.update_normalisers(rollout)
    seen = rollout.onward.next_observations
    other = seen * torch.tensor([1.0, -1.0, 1.0, 1.0])
    before = bonus.novelty(seen, dtype).mean(), bonus.novelty(other, dtype).mean()
    for _ in range(300):
        bonus.learn(rollout, [torch.arange(len(SCRIPTS))], "here")
    after = bonus.novelty(seen, dtype).mean(), bonus.novelty(other, dtype).mean()
    assert after[0] < 0.02 * before[0]
    assert after[1] > 10 * after[0]


def test_the_target_stays_as_it_was_drawn():
    torch.manual_seed(0)
    agent = make_agent("rnd")
    weights = copy.deepcopy(agent.bonus.novelty.target.state_dict())
    for rollout, _ in play(agent):
        agent.update(rollout)
    layers = {name: tensor for name, tensor in agent.bonus.novelty.target.state_dict().items() if "layers" in name}
    assert layers
    assert all(torch.equal(tensor, weights[name]) for name, tensor in layers.items())


def test_it_reads_dicts_and_images_as_the_policy_does():
    space = gym.spaces.Dict({"image": gym.spaces.Box(0, 255, (12, 12, 3), "uint8"), "kind": gym.spaces.Discrete(3)})
    novelty = Novelty(space, PolicyConfig())
    observations = {"image": torch.randint(256, (5, 2, 12, 12, 3)).byte(), "kind": torch.randint(3, (5, 2))}
    errors = novelty(observations, torch.float32)
    assert errors.shape == (5, 2)
    assert (errors > 0).all()


class CueEnv(gym.Env):
    """Shows a cue at the first step, which nothing shows later, and then the time; episodes of four steps."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.array([0.0, 2 * self.np_random.integers(2) - 1.0], np.float32), {}

    def step(self, action):
        self.time += 1
        return np.array([self.time / 4, 0.0], np.float32), 0.0, self.time == 4, False, {}


def test_what_only_a_reset_shows_is_learnt_too():
    envs = lanes_of(CueEnv, 4)
    policy = kit.make_policy(envs.observation_space, envs.action_space)
    settings = {"exploration": "noveld", "bonus_learning_rate": 0.003, "value_bias": "zero"}
    agent = PPO(
        policy,
        PPOConfig(num_steps=6, num_minibatches=2, **settings),
        num_envs=4,
        total_steps=10_000,
        generator=torch.Generator().manual_seed(0),
    )
    state = start(policy, envs, [0, 1, 2, 3])
    cues = torch.tensor([[[0.0, 1.0], [0.0, -1.0]]], dtype=torch.float64)
    novelties = []
    for _ in range(150):
        agent.update(agent.collect(envs, state))
        novelties.append(float(agent.bonus.novelty(cues, torch.float64).mean()))
    assert novelties[-1] < 0.05 * novelties[0]
    assert (agent.bonus.novelty.moments.variance > 0.05).all()


def test_what_the_first_rollout_showed_is_no_first_visit_later():
    agent = make_agent("noveld", policy={"normalize_observations": True})
    (rollout, _), *_ = play(agent, num_updates=1)
    rollout = dataclasses.replace(
        rollout, terminated=torch.zeros_like(rollout.terminated), truncated=torch.zeros_like(rollout.truncated)
    )
    assert agent.update(rollout) == {}  # It only fills normalisers.
    metrics = agent.update(rollout)
    assert metrics["exploration/bonus_mean"] == 0.0  # All of it was seen before.


# The bonus.


@pytest.mark.parametrize("credit", ["memory", "lifelong"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)
def test_returns_are_those_of_the_formula(memory, kind, credit):
    """Novelty of what came, its growth at first visits, and advantages by the bonus's own discount and cuts."""
    agent = make_agent(kind, memory=memory, bonus_credit=credit, bonus_gamma=0.7)
    bonus, policy = agent.bonus, agent.policy
    sums = torch.zeros(len(SCRIPTS), dtype=torch.float64)
    visits = copy.deepcopy(bonus.visits)
    moments = copy.deepcopy(bonus.moments)
    for rollout, _ in play(agent, memory):
        rollout = coarse(rollout)
        seen, after = rollout.inputs.observations, rollout.onward.next_observations
        expected = bonus.novelty(after, torch.float64)
        ends = rollout.terminated | rollout.truncated
        if kind == "noveld":
            first = torch.as_tensor(visits.first_visits(seen, after, ends.numpy()))
            assert 0 < first.sum() < first.numel()
            growth = expected.sqrt() - 0.5 * bonus.novelty(seen, torch.float64).sqrt()
            expected = torch.where(first & (growth > 0), growth, 0.0)
        cuts = rollout.credit_cuts if credit == "memory" else torch.zeros_like(ends)
        collected, sums = discounted_sums(expected, cuts, sums, 0.7)
        moments.update(collected.flatten().unsqueeze(-1))
        expected = expected / (moments.variance[0] + 1e-8).sqrt()
        # Values by the snapshot that acts, step by step, and of the step after the last.
        features = []
        carried = rollout.initial_state
        inputs = [kit.tree_map(lambda leaf, t=t: leaf[t], rollout.inputs) for t in range(8)] + [rollout.onward.inputs]
        firsts = [*rollout.is_first, rollout.onward.is_first]
        for one, is_first in zip(inputs, firsts, strict=True):
            one_step = kit.tree_map(lambda leaf: leaf.unsqueeze(0), (one, is_first))
            feature, critic_state = policy.critic_features(*one_step, carried[-1])
            carried = (critic_state,)
            features.append(feature[0])
        values = bonus.values(torch.stack(features)).detach()
        next_values = torch.where(cuts, 0.0, values[1:])
        advantages = gae(expected, values[:-1], next_values, cuts, gamma=0.7, gae_lambda=0.8)
        bonus.take_in(rollout)
        found, metrics = bonus.returns(policy, rollout)
        torch.testing.assert_close(found.advantages, advantages, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found.targets, advantages + values[:-1], rtol=1e-9, atol=1e-12)
        assert metrics["exploration/bonus_mean"] > 0
    assert ends.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)
def test_the_first_ratio_is_one_and_rewards_stay_what_they_were(memory, kind):
    agent = make_agent(kind, memory=memory, policy={"normalize_observations": True, "scale_rewards": True})
    errors, finished = [], []
    for rollout, state in play(agent, memory, num_updates=4):
        finished.append(state.statistics.state_dict()["finished"])
        rewards = rollout.rewards.clone()
        metrics = agent.update(rollout)
        assert torch.equal(rollout.rewards, rewards)
        errors += [metrics["train/first_ratio_error"]] if "train/first_ratio_error" in metrics else []
    assert len(errors) == 3  # The first rollout only fills the normalisers.
    assert max(errors) <= 1e-9
    plain = make_agent("none", memory=memory, policy={"normalize_observations": True, "scale_rewards": True})
    assert [state.statistics.state_dict()["finished"] for _, state in play(plain, memory, num_updates=4)] == finished


def test_a_bonus_of_weight_0_leaves_what_the_policy_learns():
    updated, policy = [], {"critic_memory": "detached", "normalize_observations": True}
    for kind in ("none", "rnd"):
        agent = make_agent(kind, bonus_coef=0.0, max_grad_norm=1e9, policy=policy)
        for rollout, _ in play(agent):
            agent.update(rollout)
        updated.append(agent.policy.state_dict())
    assert all(torch.equal(tensor, updated[1][name]) for name, tensor in updated[0].items())


@pytest.mark.parametrize(("start_at", "end_at", "expected"), [(0.5, None, 0.5), (0.8, 0.0, 0.6)])
def test_its_weight_and_the_returns_deviation_scale_its_advantages(monkeypatch, start_at, end_at, expected):
    agent = make_agent("rnd", bonus_coef=start_at, final_bonus_coef=end_at, norm_adv=False)
    agent.num_updates, agent._total_updates = 5, 20
    (rollout, _), *_ = play(agent, num_updates=1)
    agent.bonus.take_in(rollout)
    agent.bonus.update_normalisers(rollout)  # Else the first rollout does nothing but that.
    met, step = [], agent._step
    monkeypatch.setattr(agent, "_step", lambda batch, *coefs: met.append(batch) or step(batch, *coefs))
    returns = []
    original = agent.bonus.returns
    monkeypatch.setattr(agent.bonus, "returns", lambda *args: returns.append(original(*args)) or returns[-1])
    monkeypatch.setattr(type(agent.policy), "return_scale", property(lambda self: torch.tensor(3.0).double()))
    agent.update(rollout)
    plain = gae(rollout.rewards, rollout.values, rollout.next_values, rollout.credit_cuts, gamma=0.99, gae_lambda=0.8)
    envs = met[0].inputs.observations[0, :, 0].long()
    wanted = plain + expected * 3.0 * returns[0][0].advantages
    torch.testing.assert_close(met[0].advantages, wanted[:, envs])
    torch.testing.assert_close(met[0].targets, ((plain + rollout.values) / 3.0)[:, envs])  # Of the env's rewards alone.


def test_an_update_without_what_the_steps_led_to_is_refused():
    agent = make_agent("rnd")
    (rollout, _), *_ = play(agent, num_updates=1)
    agent.bonus.take_in(rollout)
    agent.bonus.update_normalisers(rollout)
    with pytest.raises(ValueError, match="onward=True"):
        agent.update(dataclasses.replace(rollout, onward=None))


def test_nothing_that_is_carried_for_an_env_outlives_a_reset_of_all():
    agent = make_agent("noveld")
    (rollout, _), *_ = play(agent, num_updates=1)
    fresh = copy.deepcopy(agent.bonus)
    for bonus in (fresh, agent.bonus):
        bonus.take_in(rollout)
        expected, _ = bonus.returns(agent.policy, rollout)
    assert len(agent.bonus.visits.keys) > 0
    assert (agent.bonus._sums != 0).any()
    agent.begin()
    assert len(agent.bonus.visits.keys) == 0
    assert (agent.bonus._sums == 0).all()
    assert agent.bonus._begins.all()
    agent.bonus.moments.load_state_dict(make_agent("noveld").bonus.moments.state_dict())
    agent.bonus.take_in(rollout)
    found, _ = agent.bonus.returns(agent.policy, rollout)
    kit.assert_trees_equal(found, expected)


# Learning.


def lanes_of(make_env, num_envs):
    functions = [functools.partial(lambda lane: SubEnv(make_env(), lane), lane) for lane in range(num_envs)]
    vector = gym.vector.SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP)
    return VectorEnvs(vector, "sync", "")


def opened(exploration, num_updates=120, num_steps=16, num_envs=8):
    """The share of a lock's last 100 episodes that opened it."""
    envs = lanes_of(functools.partial(LockEnv, 16), num_envs)
    policy = kit.make_policy(
        envs.observation_space,
        envs.action_space,
        None,
        InputsConfig(),
        torch.float32,
        seed=2,  # Of four seeds one or none never meets the end within so few steps.
        noise=0.0,
        hidden_size=16,
        encoder_sizes=(16,),
        normalize_observations=True,
        scale_rewards=True,
    )
    agent = PPO(
        policy,
        PPOConfig(num_steps=num_steps, exploration=exploration, learning_rate=3e-3, anneal_lr=False),
        num_envs=num_envs,
        total_steps=num_updates * num_steps * num_envs,
        generator=torch.Generator().manual_seed(0),
    )
    state = start(policy, envs, list(range(num_envs)))
    for _ in range(num_updates):
        agent.update(agent.collect(envs, state))
    return state.statistics.metrics(trials=False)["rollout/success_rate"]


@pytest.mark.parametrize(
    ("exploration", "least", "most"), [("none", 0.0, 0.0), ("rnd", 0.7, 1.0), ("noveld", 0.7, 1.0)]
)
def test_a_lock_that_chance_does_not_open_is_opened_with_a_bonus(exploration, least, most):
    assert least <= opened(exploration) <= most


def test_collecting_by_hand_gives_the_same_rollout_without_it():
    agent = make_agent("none")
    rollouts = []
    for onward in (False, True):
        agent.policy.generator.manual_seed(3)
        envs = kit.scripted(*SCRIPTS)
        state = start(agent.policy, envs, [0] * len(SCRIPTS))
        rollouts.append(collect(agent.policy, envs, state, 8, onward=onward))
    plain = dataclasses.replace(rollouts[1], onward=None)
    kit.assert_trees_equal(kit.rollout_leaves(rollouts[0]), kit.rollout_leaves(plain))
