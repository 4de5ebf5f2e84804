"""PPO: the first ratio, the minibatches, what changes when, and what stops it."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from rlstm.agents.configs.ppo import PPOConfig
from rlstm.agents.ppo import PPO
from rlstm.cells import CELLS as ALL_CELLS
from rlstm.core.errors import NonFiniteError
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.envs.base.registration import ENVS
from rlstm.losses.returns import discounted_sums, gae
from rlstm.rollouts.collect import collect, start
from rlstm.training.config import ConfigError
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec
from tests import kit
from tests.kit import covering

CELLS = [name for name, cell in ALL_CELLS.items() if not cell.reads_maps]  # Those that read vectors.

SCRIPTS = ("..E..C..", "C.......", ".......E", "ECECECEC", "...B...C", "........")
SHORT = {"rlstm/TMaze-v0": {"corridor_length": 3, "noise": True}}  # Others get a time limit.
FIRST_OF_EACH_TASK = list({row.task: row.id for row in reversed(ENVS.values())}.values())
MEMORIES = {
    "episode": MemoryConfig(),
    "trial": MemoryConfig("trial", episodes_per_trial=2, insist_on_trials=True),
    "lifelong": MemoryConfig("lifelong", "episode"),
}


def make_agent(policy, num_envs, total_steps=10_000, **config):
    settings = {"num_steps": 8, "num_minibatches": 2, "update_epochs": 2, "value_bias": "zero", **config}
    return PPO(
        policy,
        PPOConfig(**settings),
        num_envs=num_envs,
        total_steps=total_steps,
        generator=torch.Generator().manual_seed(0),
    )


def first_ratio_errors(env_id, memory, num_updates, dtype=torch.float64, learning_rate=1e-3, **policy):
    """The error of the first ratio of every update that trains."""
    config = EnvConfig(env=env_id, env_kwargs=SHORT.get(env_id, {}), num_envs=4)
    spec = resolve_spec(config)
    spec = dataclasses.replace(spec, max_episode_steps=None if env_id in SHORT else 9)
    envs = make(spec, config, memory)
    policy = kit.make_policy(envs.observation_space, envs.action_space, memory, dtype=dtype, noise=0.0, **policy)
    agent = make_agent(policy, 4, num_steps=16, learning_rate=learning_rate)
    carry = start(policy, envs, integer_seeds(0, "envs", 4))
    errors, ends = [], 0
    for _ in range(num_updates):
        rollout = collect(policy, envs, carry, 16)
        metrics = agent.update(rollout)
        metrics |= agent.refresh(rollout, carry)
        ends += int((rollout.terminated | rollout.truncated).sum())
        if "train/first_ratio_error" in metrics:
            errors.append(metrics["train/first_ratio_error"])
    assert ends > 0
    return errors


@pytest.mark.parametrize(("env_id", "lifetime"), covering(FIRST_OF_EACH_TASK, MEMORIES))
def test_the_first_ratio_is_one_in_every_env(env_id, lifetime):
    errors = first_ratio_errors(
        env_id, MEMORIES[lifetime], 3, normalize_observations=True, scale_rewards=True, critic_memory="separate"
    )
    assert len(errors) == 2
    assert max(errors) <= 1e-9


@pytest.mark.parametrize(("cell", "critic_memory"), covering(CELLS, ["shared", "separate"]))
def test_the_first_ratio_is_one_with_every_cell(cell, critic_memory):
    errors = first_ratio_errors(
        "rlstm/TMaze-v0", MEMORIES["episode"], 2, cell=cell, critic_memory=critic_memory, num_layers=2
    )
    assert len(errors) == 2
    assert max(errors) <= 1e-9


@pytest.mark.parametrize("cell", ["lstm", "gru", "mlstm", "lstm_1997"])
def test_in_float32_the_first_ratio_is_one_up_to_rounding(cell):
    errors = first_ratio_errors("rlstm/TMaze-v0", MEMORIES["trial"], 6, torch.float32, 1e-2, cell=cell)
    assert errors[0] <= 1e-5
    assert max(errors) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("lifetime", MEMORIES)
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("env_id", ["rlstm/TMaze-v0", "rlstm/RepeatPrevious-v0", "rlstm/CartPoleNoVel-v0"])
def test_the_first_ratio_is_one_in_the_full_product(env_id, cell, critic_memory, normalise, lifetime):
    options = {"normalize_observations": normalise, "scale_rewards": normalise, "critic_memory": critic_memory}
    double = first_ratio_errors(env_id, MEMORIES[lifetime], 6, cell=cell, **options)
    assert max(double) <= 1e-9
    single = first_ratio_errors(env_id, MEMORIES[lifetime], 30, torch.float32, cell=cell, **options)
    assert single[0] <= 1e-5
    assert max(single) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("env_id", ENVS)
def test_the_first_ratio_is_one_in_every_env_with_every_cell(env_id, cell):
    assert max(first_ratio_errors(env_id, MEMORIES["episode"], 5, cell=cell)) <= 1e-9
    single = first_ratio_errors(env_id, MEMORIES["episode"], 20, torch.float32, cell=cell)
    assert single[0] <= 1e-5
    assert max(single) <= 1e-4


@pytest.fixture
def trained():
    """A function that makes a policy, an agent, lanes and a rollout of the scripted env."""

    def make_all(memory=None, policy=None, num_steps=8, **config):
        recurrent = kit.make_policy(memory=memory, **(policy or {}))
        agent = make_agent(recurrent, len(SCRIPTS), num_steps=num_steps, **config)
        envs = kit.scripted(*SCRIPTS, memory=memory)
        carry = start(recurrent, envs, [0] * len(SCRIPTS))
        return agent, collect(recurrent, envs, carry, num_steps), carry, envs

    return make_all


def weights(policy):
    return {name: tensor.clone() for name, tensor in policy.state_dict().items()}


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


def watch(agent, monkeypatch):
    """Keep every batch of sequences that a gradient step is taken on, with the weights before it."""
    seen, step = [], agent._step

    def keep_and_step(batch, *coefs):
        seen.append((batch, weights(agent.policy)))
        return step(batch, *coefs)

    monkeypatch.setattr(agent, "_step", keep_and_step)
    return seen


def test_a_ratio_with_a_state_or_a_reset_of_another_kind_is_not_one(trained):
    """The control of the first ratio: what it would be after the mistakes it is there to find."""
    agent, _, carry, envs = trained()
    rollout = collect(agent.policy, envs, carry, 8)
    zeroed = agent.policy.init_state(rollout.num_envs)
    for wrong in ({"initial_state": zeroed}, {"is_first": rollout.is_first.roll(1, 0)}):
        assert agent.update(dataclasses.replace(rollout, **wrong))["train/first_ratio_error"] > 1e-4


# Minibatches.


@pytest.mark.parametrize("num_minibatches", [1, 2, 3, 6])
def test_minibatches_are_whole_envs_each_once_an_epoch(trained, monkeypatch, num_minibatches):
    agent, rollout, *_ = trained(num_minibatches=num_minibatches, update_epochs=5)
    seen = watch(agent, monkeypatch)
    agent.update(rollout)
    assert len(seen) == 5 * num_minibatches
    lanes = []
    for batch, _ in seen:
        observations = batch.inputs.observations
        assert observations.shape == (8, 6 // num_minibatches, 4)
        assert (observations[:, :, 1] == torch.arange(8).unsqueeze(1)).all()
        assert (observations[:, :, 0] == observations[0, :, 0]).all()
        lanes.append(observations[0, :, 0].long().tolist())
    epochs = np.array(lanes).reshape(5, 6)
    assert (np.sort(epochs) == np.arange(6)).all()
    assert len(np.unique(epochs, axis=0)) > 1  # Shuffled anew.


@pytest.mark.parametrize("num_minibatches", [4, 5, 7])
def test_minibatches_that_do_not_divide_the_envs_are_refused_with_those_that_do(num_minibatches):
    with pytest.raises(ValueError, match=rf"num_minibatches is {num_minibatches}.*num_envs 6.*one of 1, 2, 3, 6"):
        make_agent(kit.make_policy(), 6, num_minibatches=num_minibatches)


@pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)
def test_every_sequence_meets_its_own_advantages_and_returns(trained, monkeypatch, memory):
    losses = {"clip_coef": 0.3, "clip_vloss": 0.4}
    agent, rollout, *_ = trained(memory, num_minibatches=3, norm_adv=False, gamma=0.9, gae_lambda=0.8, **losses)
    met = []

    def keep(name):
        import rlstm.agents.ppo as module

        original = getattr(module, name)

        def function(*arguments, **options):
            met.append((name, arguments))
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, function)

    keep("clipped_policy_loss")
    keep("clipped_value_loss")
    seen = watch(agent, monkeypatch)
    agent.update(rollout)
    advantages = gae(
        rollout.rewards, rollout.values, rollout.next_values, rollout.credit_cuts, gamma=0.9, gae_lambda=0.8
    )
    assert len(seen) == 6
    for index, (batch, _) in enumerate(seen):
        lanes = batch.inputs.observations[0, :, 0].long()
        (_, policys), (_, values) = met[2 * index :][:2]
        (_, old_log_probs, met_advantages, _, clip), (_, old_values, returns, _, clip_values) = policys, values
        assert (clip, clip_values) == (0.3, 0.4)
        assert torch.equal(old_log_probs, rollout.log_probs[:, lanes])
        assert torch.equal(met_advantages, advantages[:, lanes])
        assert torch.equal(old_values, rollout.values[:, lanes])
        assert torch.equal(returns, (advantages + rollout.values)[:, lanes])


def test_garbage_in_invalid_steps_changes_no_weight(trained, monkeypatch):
    """Envs whose tail is idle: whatever stands there, the update is the same."""
    results = []
    for filling in (0.0, 1e3):
        agent, rollout, *_ = trained(policy={"normalize_observations": True})
        agent.policy.update_normalisers(rollout.inputs.observations, rollout.rewards, rollout.valid, rollout.rewards)
        valid = torch.ones_like(rollout.valid)
        valid[5:, [0, 2]] = False
        cuts = rollout.credit_cuts.clone()
        cuts[4, [0, 2]] = True

        def fill(tensor, valid=valid, filling=filling):
            mask = valid.reshape(*valid.shape, *(1,) * (tensor.dim() - 2))
            return torch.where(mask, tensor, filling) if tensor.is_floating_point() else tensor

        numbers = ("log_probs", "values", "rewards", "next_values")
        filled = dataclasses.replace(
            rollout,
            valid=valid,
            credit_cuts=cuts,
            inputs=tree_map(fill, rollout.inputs),
            **{name: fill(getattr(rollout, name)) for name in numbers},
        )
        metrics = agent.update(filled)
        results.append((weights(agent.policy), metrics))
    assert same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


# The carried state.


@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
@pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)
def test_the_carried_state_is_the_one_that_the_new_weights_give_the_same_past(trained, memory, critic_memory):
    agent, rollout, carry, _ = trained(memory, {"critic_memory": critic_memory}, learning_rate=0.01)
    old = tree_leaves(tree_map(torch.clone, carry.state))
    agent.update(rollout)
    metrics = agent.refresh(rollout, carry)
    fresh = tree_leaves(rollout.replay(agent.policy).state)
    for leaf, expected, stale in zip(tree_leaves(carry.state), fresh, old, strict=True):
        torch.testing.assert_close(leaf, expected, rtol=0, atol=1e-12)
        assert (leaf - stale).abs().max() > 1e-3
        assert not leaf.requires_grad
    assert metrics["recurrent/state_staleness_rms"] > 1e-3
    assert metrics["recurrent/state_rms"] > 0


def test_without_the_refresh_the_carried_state_is_stale(trained):
    agent, rollout, carry, _ = trained(refresh_states=False)
    old = tree_map(torch.clone, carry.state)
    agent.update(rollout)
    assert agent.refresh(rollout, carry) == {}
    for leaf, expected in zip(tree_leaves(carry.state), tree_leaves(old), strict=True):
        assert torch.equal(leaf, expected)


def test_a_cell_without_memory_has_nothing_to_refresh(trained):
    agent, rollout, carry, _ = trained(policy={"cell": "none"})
    agent.update(rollout)
    assert agent.refresh(rollout, carry) == {}


# Normalisers.


def test_normalisers_change_after_the_last_epoch_only(trained, monkeypatch):
    agent, rollout, carry, envs = trained(policy={"normalize_observations": True, "scale_rewards": True}, gamma=0.9)
    before = weights(agent.policy)
    assert agent.update(rollout) == {}  # The first rollout fills them and trains nothing.
    filled = weights(agent.policy)
    moments = [name for name in before if name.rsplit(".", 1)[-1] in ("mean", "variance", "count")]
    assert len(moments) == 6
    assert same({name: before[name] for name in before if name not in moments}, filled)
    observations = rollout.inputs.observations.reshape(-1, 4).double()
    torch.testing.assert_close(filled["actor.encoder.moments.mean"], observations.mean(0))
    torch.testing.assert_close(filled["actor.encoder.moments.variance"], observations.var(0, correction=0))
    sums, carried = discounted_sums(rollout.rewards, rollout.credit_cuts, torch.zeros(6).double(), 0.9)
    torch.testing.assert_close(filled["return_moments.variance"], sums.flatten().var(correction=0).reshape(1))

    rollout = collect(agent.policy, envs, carry, 8)
    seen = watch(agent, monkeypatch)
    assert agent.update(rollout)["train/first_ratio_error"] <= 1e-9
    assert len(seen) == 4
    for _, at_the_time in seen:
        assert same({name: filled[name] for name in moments}, at_the_time)
    after = weights(agent.policy)
    assert all(not torch.equal(after[name], filled[name]) for name in moments)
    second, _ = discounted_sums(rollout.rewards, rollout.credit_cuts, carried, 0.9)
    both = torch.cat([sums, second]).flatten()
    torch.testing.assert_close(after["return_moments.variance"], both.var(correction=0).reshape(1))


def test_without_normalisers_the_first_rollout_trains(trained):
    agent, rollout, *_ = trained()
    before = weights(agent.policy)
    assert agent.update(rollout)["train/n_updates"] == 1
    assert not same(before, weights(agent.policy))


def test_the_value_loss_is_in_the_critics_units(trained):
    agent, rollout, carry, envs = trained(policy={"scale_rewards": True}, num_minibatches=1, update_epochs=1, gamma=0.9)
    agent.update(rollout)
    rollout, scale = collect(agent.policy, envs, carry, 8), agent.policy.return_scale.item()
    advantages = gae(
        rollout.rewards, rollout.values, rollout.next_values, rollout.credit_cuts, gamma=0.9, gae_lambda=0.95
    )
    assert scale > 10  # Rewards of the scripted env are large.
    expected = 0.5 * (advantages / scale).square().mean().item()
    assert agent.update(rollout)["train/value_loss"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("policy", [{"scale_rewards": True}, {"popart": True}])
def test_the_gradient_is_that_of_the_weighted_sum_of_the_losses(trained, policy):
    """Autograd through the formulas, with values in units of the returns' deviation."""
    settings = {"vf_coef": 0.25, "ent_coef": 0.5, "clip_vloss": None, "norm_adv": False, "max_grad_norm": 1e9}
    agent, rollout, carry, envs = trained(policy=policy, num_minibatches=1, update_epochs=1, gamma=0.9, **settings)
    agent.update(rollout)
    rollout = collect(agent.policy, envs, carry, 8)
    advantages = gae(
        rollout.rewards, rollout.values, rollout.next_values, rollout.credit_cuts, gamma=0.9, gae_lambda=0.95
    )
    targets = advantages + rollout.values
    agent.policy.renormalise_values(targets.flatten())
    before = copy.deepcopy(agent.policy)
    before.zero_grad()
    evaluation, scale = rollout.replay(before), before.return_scale
    assert scale > 10
    ratio = (evaluation.log_probs - rollout.log_probs).exp()
    value_loss = 0.5 * ((evaluation.values - targets) / scale).square().mean()
    loss = -(ratio * advantages).mean() + 0.25 * value_loss - 0.5 * evaluation.entropies.mean()
    loss.backward()
    agent.policy.renormalise_values = lambda targets: None  # It has been done.
    metrics = agent.update(rollout)
    assert metrics["train/loss"] == pytest.approx(loss.item())
    for (name, found), expected in zip(agent.policy.named_parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-6, atol=1e-9, msg=name)


# What ends or slows the epochs.


def test_epochs_end_once_the_kl_estimate_passes_its_target(trained, monkeypatch):
    agent, rollout, *_ = trained(learning_rate=0.05, target_kl=1e-3, update_epochs=10)
    seen = watch(agent, monkeypatch)
    metrics = agent.update(rollout)
    # The first minibatch has ratio 1 and KL 0; the second sees the first step.
    assert len(seen) == 2
    assert metrics["train/approx_kl"] > 0
    assert metrics["train/n_updates"] == 1


@pytest.mark.parametrize(("share", "num_steps"), [(1.4, 6), (1.6, 1)])
def test_the_target_may_be_passed_by_a_half(trained, monkeypatch, share, num_steps):
    import rlstm.agents.ppo as module

    agent, rollout, *_ = trained(target_kl=0.01, update_epochs=3)
    loss, seen = module.clipped_policy_loss, watch(agent, monkeypatch)
    found = torch.tensor(share * 0.01)
    monkeypatch.setattr(module, "clipped_policy_loss", lambda *a: loss(*a)._replace(approx_kl=found))
    agent.update(rollout)
    assert len(seen) == num_steps


@pytest.mark.parametrize("target_kl", [None, 1e6])
def test_epochs_run_to_their_end_below_the_target(trained, monkeypatch, target_kl):
    agent, rollout, *_ = trained(learning_rate=0.05, target_kl=target_kl, update_epochs=3)
    seen = watch(agent, monkeypatch)
    agent.update(rollout)
    assert len(seen) == 6


def test_the_learning_rate_falls_linearly_and_reaches_zero(trained):
    agent, rollout, *_ = trained(anneal_lr=True, learning_rate=0.1, total_steps=4 * 8 * 6)
    rates = [agent.update(rollout)["train/learning_rate"] for _ in range(4)]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])
    before = weights(agent.policy)
    for _ in range(2):  # Beyond the end it stays there.
        assert agent.update(rollout)["train/learning_rate"] == 0
    assert same(before, weights(agent.policy))


def test_the_learning_rate_stays_if_it_is_not_annealed(trained):
    agent, rollout, *_ = trained(learning_rate=0.1, anneal_lr=False, total_steps=2 * 8 * 6)
    assert [agent.update(rollout)["train/learning_rate"] for _ in range(4)] == [0.1] * 4


def test_gradients_are_clipped_by_their_global_norm(trained):
    agent, rollout, *_ = trained(max_grad_norm=1e-3, num_minibatches=1, update_epochs=1)
    norm = agent.update(rollout)["train/grad_norm"]
    assert norm > 1e-2
    clipped = torch.stack([parameter.grad.norm() for parameter in agent.policy.parameters()]).norm()
    assert clipped.item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("norm_adv", [True, False])
def test_advantages_are_normalised_in_each_minibatch_if_asked_for(trained, monkeypatch, norm_adv):
    import rlstm.agents.ppo as module

    agent, rollout, *_ = trained(num_minibatches=3, norm_adv=norm_adv)
    met, loss = [], module.clipped_policy_loss
    monkeypatch.setattr(module, "clipped_policy_loss", lambda *a: met.append(a[2]) or loss(*a))
    agent.update(rollout)
    assert len(met) == 6
    for advantages in met:
        normalised = abs(advantages.mean().item()) < 1e-9 and abs(advantages.std(correction=0).item() - 1) < 1e-6
        assert normalised is norm_adv


def test_the_entropy_bonus_raises_the_entropy(trained):
    """Nothing is paid, so the bonus alone moves the policy."""
    agent, rollout, *_ = trained(policy={"noise": 1.0}, ent_coef=1.0, vf_coef=0.0, norm_adv=False, learning_rate=0.01)
    nothing = {name: torch.zeros_like(rollout.values) for name in ("rewards", "values", "next_values")}
    losses = [agent.update(dataclasses.replace(rollout, **nothing))["train/entropy_loss"] for _ in range(10)]
    assert losses[-1] < losses[0] - 0.1 < 0  # The loss is the negative entropy.


def test_the_loss_is_the_weighted_sum_of_its_parts(trained):
    agent, rollout, *_ = trained(num_minibatches=1, update_epochs=1, vf_coef=0.25, ent_coef=0.5)
    metrics = agent.update(rollout)
    policy, value, entropy = (metrics[f"train/{name}_loss"] for name in ("policy_gradient", "value", "entropy"))
    assert metrics["train/loss"] == pytest.approx(policy + 0.25 * value + 0.5 * entropy)


# Sequences shorter than a rollout.


def test_rollouts_are_cut_into_sequences_that_each_meet_their_own_numbers(trained, monkeypatch):
    agent, rollout, carry, envs = trained(num_steps=8, sequence_length=2, num_minibatches=3, norm_adv=False)
    rollout = collect(agent.policy, envs, carry, 8)
    # Memory that begins anew every two steps, whatever the script says.
    is_first = torch.zeros_like(rollout.is_first)
    is_first[2::2] = True
    log_probs = agent.policy.evaluate(rollout.inputs, rollout.actions, is_first, rollout.initial_state).log_probs
    rollout = dataclasses.replace(rollout, is_first=is_first, log_probs=log_probs.detach())
    advantages = gae(
        rollout.rewards, rollout.values, rollout.next_values, rollout.credit_cuts, gamma=0.99, gae_lambda=0.95
    )
    seen = watch(agent, monkeypatch)
    assert agent.update(rollout)["train/first_ratio_error"] <= 1e-9
    places = []
    for batch, _ in seen[:3]:
        assert batch.is_first.shape == (2, 8)  # 6 envs, 4 sequences each, in 3 minibatches.
        env, time = batch.inputs.observations[..., 0].long(), batch.inputs.observations[..., 1].long() - 8
        assert (env[0] == env[1]).all()
        assert (time[1] == time[0] + 1).all()
        assert (time[0] % 2 == 0).all()
        assert torch.equal(batch.advantages, advantages[time, env])
        assert torch.equal(batch.log_probs, rollout.log_probs[time, env])
        places += [(int(a), int(b)) for a, b in zip(env[0], time[0], strict=True)]
    assert sorted(places) == [(env, time) for env in range(6) for time in (0, 2, 4, 6)]


def test_a_sequence_that_begins_inside_a_memory_is_refused(trained):
    agent, rollout, *_ = trained(num_steps=8, sequence_length=4)
    with pytest.raises(ConfigError, match=r"sequence_length is 4, but memory doesn't begin anew every 4 steps"):
        agent.update(rollout)
    with pytest.raises(ValueError, match=r"sequence_length is 4, but memory is lifelong .* a rollout of 8 steps"):
        make_agent(kit.make_policy(memory=MEMORIES["lifelong"]), 6, num_steps=8, sequence_length=4)


@pytest.mark.parametrize(("num_minibatches", "accepted"), [(12, True), (24, True), (5, False), (48, False)])
def test_minibatches_divide_the_sequences_where_rollouts_are_cut(num_minibatches, accepted):
    settings = {"num_steps": 8, "sequence_length": 2, "num_minibatches": num_minibatches}
    if accepted:
        make_agent(kit.make_policy(), 6, **settings)
        return
    with pytest.raises(ValueError, match=r"does not divide the 24 sequences of a rollout.* one of 1, 2, 3, 4, 6, 8"):
        make_agent(kit.make_policy(), 6, **settings)


# Schedules.


@pytest.mark.parametrize(("final", "expected"), [(None, 0.2), (0.1, 0.15), (0.6, 0.4)])
def test_the_range_of_the_ratio_goes_linearly_to_its_last_value(trained, monkeypatch, final, expected):
    agent, rollout, *_ = trained(final_clip_coef=final)
    agent.num_updates, agent._total_updates = 10, 20
    met, step = [], agent._step
    monkeypatch.setattr(agent, "_step", lambda batch, *coefs: met.append(coefs) or step(batch, *coefs))
    assert agent.update(rollout)["train/clip_range"] == pytest.approx(expected)
    assert all(clip_coef == pytest.approx(expected) for *_, clip_coef in met)


@pytest.mark.parametrize(
    ("kl", "before", "after"),
    [
        (0.021, 1e-3, 1e-3 / 1.5),
        (0.019, 1e-3, 1e-3),
        (0.006, 1e-3, 1e-3),
        (0.004, 1e-3, 1.5e-3),
        (1.0, 1.2e-5, 1e-5),
        (0.0, 9e-3, 1e-2),
    ],
)
def test_the_learning_rate_follows_the_kl_estimate_of_the_last_step(trained, monkeypatch, kl, before, after):
    agent, rollout, *_ = trained(desired_kl=0.01, anneal_lr=False, learning_rate=before)
    estimates, step = [], agent._step

    def step_with_another_estimate(batch, *coefs):
        estimates.append(0.01)
        last = len(estimates) == 4
        metrics, ratio_error = step(batch, *coefs)
        return {**metrics, "approx_kl": torch.tensor(kl if last else 0.01)}, ratio_error

    monkeypatch.setattr(agent, "_step", step_with_another_estimate)
    assert agent.update(rollout)["train/learning_rate"] == before
    assert agent._descent.learning_rate == before
    assert len(estimates) == 4
    assert agent.update(rollout)["train/learning_rate"] == pytest.approx(after)
    fresh, *_ = trained(desired_kl=0.01, anneal_lr=False, learning_rate=before)
    fresh.load_state_dict(copy.deepcopy(agent.state_dict()))
    assert fresh._adapted_rate == agent._adapted_rate


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"desired_kl": 0.01}, "desired_kl is 0.01.*--no-anneal-lr"),
        ({"num_steps": 8, "sequence_length": 3}, "sequence_length is 3, which does not divide num_steps 8"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"final_clip_coef": 0.0}, "final_clip_coef is 0.0"),
        ({"bonus_gamma": 1.5}, "bonus_gamma is 1.5"),
        ({"bonus_coef": -1.0}, "bonus_coef is -1.0"),
        ({"exploration": "curious"}, "exploration is 'curious'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**settings)


@pytest.mark.parametrize(("name", "huber"), [("squared", False), ("huber", True)])
def test_the_value_loss_is_the_one_asked_for(trained, monkeypatch, name, huber):
    import rlstm.agents.ppo as module

    agent, rollout, *_ = trained(value_loss=name)
    asked, original = [], module.clipped_value_loss

    def keep(*arguments, huber):
        asked.append(huber)
        return original(*arguments, huber=huber)

    monkeypatch.setattr(module, "clipped_value_loss", keep)
    agent.update(rollout)
    assert set(asked) == {huber}


# What is not finite.


def test_a_loss_that_is_not_finite_stops_by_name_with_the_weights_before_it(trained):
    agent, rollout, *_ = trained(policy={"dtype": torch.float32})
    before = weights(agent.policy)
    with pytest.raises(NonFiniteError, match="update 0: value_loss"):
        agent.update(dataclasses.replace(rollout, rewards=torch.full_like(rollout.rewards, 1e30)))
    assert same(before, weights(agent.policy))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_by_name_with_the_weights_before_it(trained, monkeypatch, bad):
    agent, rollout, *_ = trained(update_epochs=3)
    seen = watch(agent, monkeypatch)
    parameter = agent.policy.value_head[0].bias
    calls = []

    def spoil(gradient):
        calls.append(1)
        return gradient * (bad if len(calls) == 3 else 1)

    parameter.register_hook(spoil)
    with pytest.raises(NonFiniteError, match=r"update 0: the gradient of value_head\.0\.bias"):
        agent.update(rollout)
    assert len(seen) == 3
    assert same(seen[2][1], weights(agent.policy))  # As they were when the third minibatch was evaluated.
    assert not same(seen[1][1], weights(agent.policy))


# Settings.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_steps", 0),
        ("num_minibatches", 0),
        ("update_epochs", 0),
        ("gamma", 1.1),
        ("gamma", -0.1),
        ("gae_lambda", 2.0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("clip_coef", 0.0),
        ("max_grad_norm", -1.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        PPOConfig(**{name: value})
