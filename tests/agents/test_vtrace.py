"""PPO with V-trace: what is replayed and corrected, and that nothing changes where those weights acted."""

import dataclasses

import pytest
import torch

from rlstm.agents.configs.ppo import PPOConfig
from rlstm.agents.ppo import PPO
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.ranks import Ranks
from rlstm.losses.returns import vtrace
from rlstm.rollouts.collect import collect, refresh_state, start
from tests import kit

SCRIPTS = ("..E..C..", "C.......", ".......E", "ECECECEC", "...B...C", "........")
MEMORIES = {
    "episode": MemoryConfig(),
    "trial": MemoryConfig("trial", episodes_per_trial=2, insist_on_trials=True),
    "lifelong": MemoryConfig("lifelong", "episode"),
}
ONE_STEP = {"num_minibatches": 1, "update_epochs": 1}


def make_agent(policy, ranks=None, **config):
    settings = {"num_steps": 8, "num_minibatches": 2, "update_epochs": 2, "value_bias": "zero", **config}
    return PPO(
        policy,
        PPOConfig(**settings),
        num_envs=len(SCRIPTS),
        total_steps=10_000,
        generator=torch.Generator().manual_seed(0),
        ranks=Ranks() if ranks is None else ranks,
    )


def trained(memory=None, policy=None, **config):
    """An agent whose normalisers know something, with a rollout that its policy has collected."""
    recurrent = kit.make_policy(memory=memory, **(policy or {}))
    agent, envs = make_agent(recurrent, **config), kit.scripted(*SCRIPTS, memory=memory)
    carry = start(recurrent, envs, [0] * len(SCRIPTS))
    if recurrent.lacks_statistics:
        assert agent.update(collect(recurrent, envs, carry, 8)) == {}
    return agent, collect(recurrent, envs, carry, 8)


def disturb(policy, size=0.1):
    """Move the weights as learning would."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


@pytest.mark.parametrize("lifetime", MEMORIES)
@pytest.mark.parametrize("policy", [{}, {"popart": True}, {"critic_memory": "separate", "scale_rewards": True}])
def test_where_the_weights_that_learn_have_acted_vtrace_is_gae(lifetime, policy):
    metrics, weights = [], []
    for advantages in ("gae", "vtrace"):
        agent, rollout = trained(MEMORIES[lifetime], policy, advantages=advantages, clip_vloss=0.5)
        metrics.append(agent.update(rollout))
        weights.append(torch.cat([parameter.flatten() for parameter in agent.policy.parameters()]))
    gae, corrected = metrics
    torch.testing.assert_close(*weights, rtol=0, atol=1e-9)
    for name in ("train/loss", "train/value_loss", "train/approx_kl", "train/explained_variance"):
        assert corrected[name] == pytest.approx(gae[name], abs=1e-9)
    assert corrected["train/first_ratio_error"] <= 1e-9
    assert corrected["train/vtrace_ratio"] == pytest.approx(1, abs=1e-9)
    assert corrected["train/vtrace_clipped"] == 0
    assert "train/vtrace_ratio" not in gae


@pytest.mark.parametrize("lifetime", MEMORIES)
def test_a_rollout_is_seen_by_present_weights_but_for_what_it_does_not_hold(lifetime):
    agent, rollout = trained(MEMORIES[lifetime])
    disturb(agent.policy)
    seen, replayed = rollout.seen_by(agent.policy), rollout.replay(agent.policy)
    assert torch.equal(seen.log_probs, replayed.log_probs)
    assert torch.equal(seen.values, replayed.values)
    assert not seen.values.requires_grad
    cuts = rollout.credit_cuts[:-1]
    assert cuts.any()
    assert not cuts.all()
    assert torch.equal(seen.next_values[:-1][cuts], rollout.next_values[:-1][cuts])
    assert torch.equal(seen.next_values[:-1][~cuts], replayed.values[1:][~cuts])
    assert torch.equal(seen.next_values[-1], rollout.next_values[-1])
    assert torch.equal(rollout.seen_by(agent.policy).rewards, rollout.rewards)


def test_seen_by_the_weights_that_acted_a_rollout_is_what_it_is():
    agent, rollout = trained()
    seen = rollout.seen_by(agent.policy)
    for name in ("log_probs", "values", "next_values"):
        torch.testing.assert_close(getattr(seen, name), getattr(rollout, name), rtol=0, atol=1e-9)


def test_the_first_gradient_step_is_that_of_vtrace_at_the_weights_that_learn(monkeypatch):
    """Its surrogate has ρ 1 for the present weights, advantages of V-trace, and V-trace's targets."""
    agent, rollout = trained(advantages="vtrace", norm_adv=False, vtrace_rho=1.2, vtrace_c=0.9, **ONE_STEP)
    disturb(agent.policy, 0.3)
    seen, batches, step = rollout.seen_by(agent.policy), [], agent._step
    ratios = (seen.log_probs - rollout.log_probs).exp()
    assert ratios.max() > 1.2
    assert ratios.min() < 0.9
    monkeypatch.setattr(agent, "_step", lambda batch, *rest: batches.append(batch) or step(batch, *rest))
    metrics = agent.update(rollout)
    constants = {"gamma": 0.99, "gae_lambda": 0.95, "rho_bar": 1.2, "c_bar": 0.9}
    steps = rollout.rewards, seen.values, seen.next_values, rollout.credit_cuts
    advantages, targets = vtrace(*steps, ratios, **constants)
    (batch,) = batches
    order = torch.argsort(batch.inputs.observations[0, :, 0])  # Lanes are shuffled.
    torch.testing.assert_close(batch.advantages[:, order], advantages, rtol=0, atol=1e-9)
    torch.testing.assert_close(batch.targets[:, order], targets, rtol=0, atol=1e-9)
    assert abs(metrics["train/approx_kl"]) < 1e-12
    assert metrics["train/clip_fraction"] == 0
    assert metrics["train/policy_gradient_loss"] == pytest.approx(-float(advantages.mean()))


def test_ratios_are_told_and_the_first_error_is_against_the_weights_that_acted():
    agent, rollout = trained(advantages="vtrace", vtrace_rho=1.1)
    stored = dataclasses.replace(rollout, replay_error=0.25)
    disturb(agent.policy, 0.3)
    ratios = (rollout.replay(agent.policy).log_probs.detach() - rollout.log_probs).exp()
    metrics = agent.update(stored)
    assert metrics["train/vtrace_ratio"] == pytest.approx(float(ratios.mean()))
    assert 0 < metrics["train/vtrace_clipped"] == pytest.approx(float((ratios > 1.1).double().mean()))
    assert metrics["train/first_ratio_error"] == 0.25


def test_a_rollout_keeps_its_replay_error_when_parts_of_it_are_selected():
    _, rollout = trained()
    assert dataclasses.replace(rollout, replay_error=0.5).select(torch.tensor([1, 0])).replay_error == 0.5


def test_stale_rollouts_learn_less_wrongly_than_without_correction():
    """Of an action that the present policy hardly takes V-trace learns hardly anything."""
    agent, rollout = trained(advantages="vtrace", norm_adv=False, gae_lambda=0.0, **ONE_STEP)
    with torch.no_grad():
        agent.policy.policy_head[-1].bias[0] -= 50.0
    seen = rollout.seen_by(agent.policy)
    ratios = (seen.log_probs - rollout.log_probs).exp()
    advantages, returns = agent._advantages(seen.of_all(agent.ranks), ratios)
    taken = rollout.actions == 0
    assert taken.any()
    assert advantages[taken].abs().max() < 1e-12
    assert torch.allclose(returns[taken], seen.values[taken])
    assert advantages[~taken].abs().min() > 1e-3


def test_a_refreshed_state_goes_on_as_the_weights_that_refreshed_it_see_it():
    agent, rollout = trained()
    disturb(agent.policy)
    carry = start(agent.policy, kit.scripted(*SCRIPTS), [0] * len(SCRIPTS))
    refresh_state(agent.policy, rollout, carry)
    assert torch.equal(carry.state[0][0], rollout.replay(agent.policy).state[0][0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"overlap": True}, "overlap is set.*advantages are 'gae'.*--advantages vtrace"),
        ({"advantages": "vtrace", "exploration": "rnd"}, "exploration is 'rnd'"),
        ({"vtrace_c": 2.0}, r"vtrace_c is 2\.0.*vtrace_rho 1\.0"),
        ({"vtrace_rho": 0.0}, "vtrace_rho"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        PPOConfig(**settings)


def test_overlap_is_refused_in_several_ranks():
    with pytest.raises(ValueError, match="overlap is set, but there are 2 ranks"):
        make_agent(kit.make_policy(), Ranks(0, 2), advantages="vtrace", overlap=True)
