"""What the critic's settings promise: PopArt, values that begin at expected returns, a memory read without training."""

import dataclasses

import pytest
import torch

from rlstm.agents.configs.ppo import PPOConfig
from rlstm.agents.configs.reinforce import REINFORCEConfig
from rlstm.agents.ppo import PPO
from rlstm.agents.reinforce import REINFORCE
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.losses.returns import gae
from rlstm.rollouts.collect import collect, start
from rlstm.testing.probe_envs import ConstantValueEnv
from tests import kit
from tests.agents.test_learning import lanes_of

SCRIPTS = ("..E..C..", "C.......", ".......E", "ECECECEC", "...B...C", "........")
GAMMA, GAE_LAMBDA = 0.9, 0.8


def make_agent(policy, num_envs=6, **config):
    settings = {"num_steps": 8, "num_minibatches": 2, "update_epochs": 2, "value_bias": "zero", **config}
    discounts = {"gamma": GAMMA, "gae_lambda": GAE_LAMBDA}
    return PPO(
        policy,
        PPOConfig(**{**discounts, **settings}),
        num_envs=num_envs,
        total_steps=10_000,
        generator=torch.Generator().manual_seed(0),
    )


def scripted_run(policy, *scripts):
    """A function that collects 8 steps more each time."""
    envs = kit.scripted(*(scripts or SCRIPTS))
    carry = start(policy, envs, [0] * envs.num_envs)
    return lambda: collect(policy, envs, carry, 8)


def returns_of(rollout):
    parts = rollout.rewards, rollout.values, rollout.next_values, rollout.credit_cuts
    return gae(*parts, gamma=GAMMA, gae_lambda=GAE_LAMBDA) + rollout.values


def acted_values(policy, rollout):
    """The values of a rollout's steps as the acting snapshot gives them."""
    snapshot, state, values = policy.acting_snapshot(), rollout.initial_state, []
    with torch.inference_mode():
        for t in range(rollout.num_steps):
            inputs = rollout.inputs._replace(observations=rollout.inputs.observations[t])
            step = snapshot.step(inputs, state, rollout.is_first[t])
            values.append(step.values)
            state = step.state
    return torch.stack(values)


# PopArt.


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("critic_memory", ["shared", "detached", "separate"])
@pytest.mark.parametrize("head_sizes", [(), (4,)])
def test_new_statistics_leave_every_value_as_it_was(dtype, tolerance, critic_memory, head_sizes):
    policy = kit.make_policy(popart=True, critic_memory=critic_memory, head_sizes=head_sizes, dtype=dtype)
    rollout = scripted_run(policy)()

    def all_values():
        with torch.no_grad():
            evaluated = rollout.replay(policy).values
            alone = policy.values(rollout.inputs, rollout.is_first, rollout.initial_state)
        return torch.stack([evaluated, alone, acted_values(policy, rollout)])

    before = all_values()
    rng = torch.Generator().manual_seed(0)
    for mean, deviation in ((3.0, 0.5), (-40.0, 100.0), (0.0, 0.01)):
        policy.renormalise_values((mean + deviation * torch.randn(500, generator=rng)).to(dtype))
        scale, centre = float(policy.return_scale), float(policy.return_centre)
        assert abs(scale - 1) > 0.1 < abs(centre)
        size = max(float(before.abs().max()), scale, abs(centre))
        assert float((all_values() - before).abs().max()) <= tolerance * size


def test_the_statistics_are_those_of_the_targets_of_all_valid_steps():
    policy = kit.make_policy(popart=True)
    agent, collect_more, targets = make_agent(policy), scripted_run(policy), []
    for _ in range(3):
        rollout = collect_more()
        valid = torch.rand(rollout.valid.shape, generator=torch.Generator().manual_seed(0)) < 0.7
        rollout = dataclasses.replace(rollout, valid=valid)
        targets.append(returns_of(rollout)[valid])
        agent.update(rollout)
    seen = torch.cat(targets)
    assert float(policy.return_centre) == pytest.approx(float(seen.mean()), rel=1e-9)
    assert float(policy.return_scale) == pytest.approx(float(seen.std(correction=0)), rel=1e-6)
    assert float(policy.value_moments.count) == len(seen)


@pytest.mark.parametrize("critic_memory", ["shared", "detached", "separate"])
def test_an_update_renormalises_before_its_first_step_whose_ratio_is_one(monkeypatch, critic_memory):
    policy = kit.make_policy(popart=True, critic_memory=critic_memory, normalize_observations=True)
    agent, collect_more = make_agent(policy, num_minibatches=1, update_epochs=1), scripted_run(policy)
    assert agent.update(collect_more()) == {}  # The first rollout fills the statistics.
    counts, step = [], agent._step
    monkeypatch.setattr(agent, "_step", lambda *a: counts.append(float(policy.value_moments.count)) or step(*a))
    for number in (2, 3):
        rollout = collect_more()
        metrics = agent.update(rollout)
        # In the scale of all rollouts, this one too.
        errors = (rollout.values - returns_of(rollout)) / policy.return_scale
        assert metrics["train/first_ratio_error"] <= 1e-9
        assert metrics["train/value_loss"] == pytest.approx(0.5 * float(errors.square().mean()), rel=1e-9)
        assert counts.pop() == number * 48


def learnt_values(**config):
    envs = lanes_of(ConstantValueEnv)
    policy = kit.make_policy(
        envs.observation_space,
        envs.action_space,
        dtype=torch.float32,
        noise=0.0,
        cell="none",
        popart=True,
        **config,
    )
    agent = make_agent(policy, envs.num_envs, num_steps=16, learning_rate=0.01, max_grad_norm=5.0)
    carry = start(policy, envs, list(range(envs.num_envs)))
    for _ in range(30):
        agent.update(collect(policy, envs, carry, 16))
    return collect(policy, envs, carry, 16).values


def test_with_popart_a_constant_value_is_learnt():
    values = learnt_values()
    torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=0.05)


def test_reinforce_refuses_popart():
    policy = kit.make_policy(popart=True)
    with pytest.raises(ValueError, match="popart is set, but REINFORCE"):
        REINFORCE(policy, REINFORCEConfig(), num_envs=2, total_steps=100, generator=torch.Generator())


# Where values begin.

PAID = [kit.reward(lane, t) for lane in range(3) for t in range(8)]
"""The rewards of 8 steps in 3 lanes."""

# Lanes and the steps of theirs after which nothing is worth anything.
ENDS = {
    "one that terminates": (("..E.....", "........", "........"), 1),
    "one that is truncated, and goes on in its bootstrap": (("..C.....", "........", "........"), 0),
    "both at once": (("..B.....", "........", "........"), 1),
    "all kinds": (("E..C..E.", "..B....C", "........"), 3),
}
NORMALISERS = {
    "none": {},
    "observations": {"normalize_observations": True},
    "returns": {"scale_rewards": True},
    "popart": {"popart": True},
    "all": {"normalize_observations": True, "popart": True},
}


@pytest.mark.parametrize("normalisers", NORMALISERS.values(), ids=NORMALISERS)
@pytest.mark.parametrize(("scripts", "ends"), ENDS.values(), ids=ENDS)
def test_values_begin_at_the_return_that_the_first_rollout_lets_expect(scripts, ends, normalisers):
    policy = kit.make_policy(noise=0.0, **normalisers)
    agent, collect_more = make_agent(policy, 3, value_bias="returns", num_minibatches=1), scripted_run(policy, *scripts)
    assert agent.update(collect_more()) == {}
    expected = (sum(PAID) / 24) / (1 - GAMMA * (1 - ends / 24))
    begins = policy.return_centre + policy.value_head[-1].bias.detach() * policy.return_scale
    assert float(begins) == pytest.approx(expected, rel=1e-9)
    assert agent.update(collect_more())["train/n_updates"] == 1  # From then on it trains.
    assert agent.num_updates == 1


def test_where_credit_flows_over_ends_they_are_none():
    memory = MemoryConfig("lifelong", "lifelong")
    policy = kit.make_policy(noise=0.0, memory=memory)
    envs = kit.scripted(*ENDS["all kinds"][0], memory=memory)
    agent, carry = make_agent(policy, 3, value_bias="returns", num_minibatches=1), start(policy, envs, [0] * 3)
    agent.update(collect(policy, envs, carry, 8))
    assert float(policy.value_head[-1].bias.detach()) == pytest.approx((sum(PAID) / 24) / (1 - GAMMA), rel=1e-9)


def test_without_discount_and_ends_values_begin_at_the_return_of_a_rollout():
    policy = kit.make_policy(noise=0.0)
    agent = make_agent(policy, 3, value_bias="returns", num_minibatches=1, gamma=1.0)
    agent.update(scripted_run(policy, "........", "........", "........")())
    assert float(policy.value_head[-1].bias.detach()) == pytest.approx(sum(PAID) / 3, rel=1e-9)


@pytest.mark.parametrize("why", ["value_bias is zero", "the values were trained elsewhere", "nothing is paid"])
def test_values_stay_where_nothing_lets_them_begin_elsewhere(why):
    policy = kit.make_policy(noise=0.3 if why == "the values were trained elsewhere" else 0.0)
    agent = make_agent(policy, value_bias="zero" if why == "value_bias is zero" else "returns")
    rollout = scripted_run(policy)()
    if why == "nothing is paid":
        rollout = dataclasses.replace(rollout, rewards=torch.zeros_like(rollout.rewards))
    assert agent.update(rollout)["train/n_updates"] == 1


def test_values_begin_once():
    """A resumed run, whose agent is a new one, doesn't begin them again."""
    policy = kit.make_policy(noise=0.0)
    agent, collect_more = make_agent(policy, value_bias="returns"), scripted_run(policy)
    agent.update(collect_more())
    resumed = make_agent(policy, value_bias="returns")
    resumed.load_state_dict(agent.state_dict())
    assert resumed.update(collect_more())["train/n_updates"] == 1


# A memory that the critic reads without training it.


@pytest.mark.parametrize("cell", ["lstm", "gru", "none"])
def test_the_value_loss_trains_the_head_of_a_detached_critic_alone(cell):
    policy = kit.make_policy(critic_memory="detached", cell=cell, head_sizes=(4,))
    rollout = scripted_run(policy)()
    for values in (
        rollout.replay(policy).values,
        policy.values(rollout.inputs, rollout.is_first, rollout.initial_state),
    ):
        policy.zero_grad()
        (values - 3.0).square().mean().backward()
        for name, parameter in policy.named_parameters():
            if name.startswith("value_head"):
                assert parameter.grad.abs().max() > 0
            else:
                assert parameter.grad is None or not parameter.grad.any(), name


def test_a_detached_critic_acts_as_it_evaluates():
    policy = kit.make_policy(critic_memory="detached")
    rollout = scripted_run(policy)()
    evaluation = rollout.replay(policy)
    torch.testing.assert_close(evaluation.values, rollout.values, rtol=0, atol=1e-9)
    torch.testing.assert_close(evaluation.log_probs, rollout.log_probs, rtol=0, atol=1e-9)


def trained_weights(agent, rollout):
    before = {name: parameter.detach().clone() for name, parameter in agent.policy.named_parameters()}
    agent.update(rollout)
    return {name for name, parameter in agent.policy.named_parameters() if not torch.equal(before[name], parameter)}


@pytest.mark.parametrize(("critic_memory", "trains"), [("detached", False), ("shared", True)])
def test_ppo_trains_the_memory_by_values_where_it_is_shared(critic_memory, trains):
    """Nothing is gained by the actions and entropy has no weight, so the value loss alone is left."""
    policy = kit.make_policy(critic_memory=critic_memory)
    agent = make_agent(policy, norm_adv=False, ent_coef=0.0, gae_lambda=0.0, gamma=0.0)
    rollout = scripted_run(policy)()
    # Advantages are 0, but the head's values, which are evaluated again, are off by 1.
    rollout = dataclasses.replace(rollout, rewards=rollout.values + 1.0, values=rollout.values + 1.0)
    changed = trained_weights(agent, rollout)
    assert any(name.startswith("value_head") for name in changed)
    assert any(name.startswith("actor") for name in changed) is trains


@pytest.mark.parametrize(("critic_memory", "trains"), [("detached", False), ("shared", True)])
def test_reinforce_takes_a_detached_critic(critic_memory, trains):
    gradients = []
    for vf_coef in (0.0, 10.0):
        policy = kit.make_policy(critic_memory=critic_memory)
        agent = REINFORCE(
            policy,
            REINFORCEConfig(num_episodes=3, vf_coef=vf_coef, max_grad_norm=1e9),
            num_envs=3,
            total_steps=1000,
            generator=torch.Generator().manual_seed(0),
        )
        envs = kit.scripted("...E", "..E.", "E...")
        carry = start(policy, envs, [0] * 3)
        agent.update(agent.collect(envs, carry))
        gradients.append({name: parameter.grad.clone() for name, parameter in policy.named_parameters()})
    without, with_values = gradients
    assert any((with_values[name] != without[name]).any() for name in without if name.startswith("value_head"))
    assert any((with_values[name] != without[name]).any() for name in without if name.startswith("actor")) is trains
