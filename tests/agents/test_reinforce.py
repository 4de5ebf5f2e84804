"""REINFORCE: its gradient against the exact one, its baselines, what idle tails may touch, what changes when."""

import copy
import dataclasses
import functools
import itertools

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from rlstm.agents.configs.reinforce import REINFORCEConfig
from rlstm.agents.reinforce import REINFORCE
from rlstm.cells import CELLS as ALL_CELLS
from rlstm.core.errors import NonFiniteError
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.core.trees import tree_map
from rlstm.envs.base.registration import ENVS
from rlstm.evaluation.evaluate import evaluate
from rlstm.losses.returns import discounted_sums, rewards_to_go
from rlstm.policies.inputs import PolicyInputs
from rlstm.rollouts.collect import start
from rlstm.rollouts.rollout import Rollout
from rlstm.testing.probe_envs import ActionEnv, RecallEnv
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec
from rlstm.vector.sub_env import SubEnv
from tests import kit
from tests.kit import covering

CELLS = [name for name, cell in ALL_CELLS.items() if not cell.reads_maps]  # Those that read vectors.

SCRIPTS = ("..E.", "C...", "...E..E.", "EC", "...B..C.....")
SHORT = {"rlstm/TMaze-v0": {"corridor_length": 3, "noise": True}}  # Others get a time limit.
FIRST_OF_EACH_TASK = list({row.task: row.id for row in reversed(ENVS.values())}.values())
MEMORIES = {
    "episode": MemoryConfig(),
    "trial": MemoryConfig("trial", episodes_per_trial=2, insist_on_trials=True),
}
BASELINES = ("none", "mean", "history")


def make_agent(policy, num_envs, total_steps=10_000, **config):
    settings = {"num_episodes": 6, **config}
    return REINFORCE(
        policy,
        REINFORCEConfig(**settings),
        num_envs=num_envs,
        total_steps=total_steps,
        generator=torch.Generator().manual_seed(0),
    )


# The replay.


def first_ratio_errors(env_id, memory, num_updates, dtype=torch.float64, learning_rate=1e-3, **policy):
    """The error of the ratio of every update that trains, over batches with idle tails."""
    config = EnvConfig(env=env_id, env_kwargs=SHORT.get(env_id, {}), num_envs=4)
    spec = resolve_spec(config)
    spec = dataclasses.replace(spec, max_episode_steps=None if env_id in SHORT else 9)
    envs = make(spec, config, memory)
    policy = kit.make_policy(envs.observation_space, envs.action_space, memory, dtype=dtype, noise=0.0, **policy)
    agent = make_agent(policy, 4, learning_rate=learning_rate, num_episodes=6 * (memory.episodes_per_trial or 1))
    carry = start(policy, envs, integer_seeds(0, "envs", 4))
    errors = []
    for _ in range(num_updates):
        rollout = agent.collect(envs, carry)
        assert not rollout.valid.all()
        assert int((rollout.terminated | rollout.truncated).sum()) == agent.config.num_episodes
        metrics = agent.update(rollout)
        if "train/first_ratio_error" in metrics:
            errors.append(metrics["train/first_ratio_error"])
    return errors


@pytest.mark.parametrize(("env_id", "lifetime"), covering(FIRST_OF_EACH_TASK, MEMORIES))
def test_the_ratio_is_one_in_every_env(env_id, lifetime):
    options = {"normalize_observations": True, "scale_rewards": True, "critic_memory": "separate"}
    errors = first_ratio_errors(env_id, MEMORIES[lifetime], 3, **options)
    assert len(errors) == 2
    assert max(errors) <= 1e-9


@pytest.mark.parametrize(("cell", "critic_memory"), covering(CELLS, ["shared", "separate"]))
def test_the_ratio_is_one_with_every_cell(cell, critic_memory):
    options = {"cell": cell, "critic_memory": critic_memory, "num_layers": 2}
    errors = first_ratio_errors("rlstm/TMaze-v0", MEMORIES["episode"], 2, **options)
    assert len(errors) == 2
    assert max(errors) <= 1e-9


@pytest.mark.parametrize("cell", ["lstm", "gru", "mlstm", "lstm_1997"])
def test_in_float32_the_ratio_is_one_up_to_rounding(cell):
    errors = first_ratio_errors("rlstm/TMaze-v0", MEMORIES["trial"], 6, torch.float32, 1e-2, cell=cell)
    assert errors[0] <= 1e-5
    assert max(errors) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("lifetime", MEMORIES)
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("env_id", ["rlstm/TMaze-v0", "rlstm/RepeatPrevious-v0", "rlstm/CartPoleNoVel-v0"])
def test_the_ratio_is_one_in_the_full_product(env_id, cell, critic_memory, normalise, lifetime):
    options = {"normalize_observations": normalise, "scale_rewards": normalise, "critic_memory": critic_memory}
    double = first_ratio_errors(env_id, MEMORIES[lifetime], 6, cell=cell, **options)
    assert max(double) <= 1e-9
    single = first_ratio_errors(env_id, MEMORIES[lifetime], 20, torch.float32, cell=cell, **options)
    assert single[0] <= 1e-5
    assert max(single) <= 1e-4


# The gradient. A tree of 3 steps and 2 actions after one of 2 first signs: all 16 histories can be enumerated.

STEPS = 3
HISTORIES = list(itertools.product((0, 1), repeat=1 + STEPS))  # (sign, action, action, action)
SEEN = InputsConfig(previous_action=True, previous_reward=False, episode_start=False)
TREES = {
    # name: memory, whether an episode ends after the second step
    "episodes": (MemoryConfig(), False),
    "trials of two episodes": (MEMORIES["trial"], True),
}


def reward(history, t):
    """A reward that depends on all that happened up to step t."""
    past = history[: t + 2]
    return sum((k + 1) * (2 * bit - 1) for k, bit in enumerate(past)) / 4 + (len(set(past)) == 1) + 2


def rollout_of(policy, histories, inner_end=False):
    """The rollout in which env i goes through the i-th history, played by the policy's present weights."""
    sign, *actions = torch.tensor(histories).T
    actions = torch.stack(actions)
    at = torch.arange(STEPS).unsqueeze(1).expand(-1, len(histories))
    observations = torch.stack([torch.where(at == 0, 2.0 * sign - 1, 0.0), at / STEPS], -1).to(policy.dtype)
    ends = (at == STEPS - 1) | (at == 1 if inner_end else at < 0)
    nothing = torch.zeros(STEPS, len(histories), dtype=policy.dtype)
    no = torch.zeros_like(ends)
    rewards = torch.tensor([[reward(one, t) for one in histories] for t in range(STEPS)], dtype=policy.dtype)
    rollout = Rollout(
        inputs=PolicyInputs(observations, actions.roll(1, 0)),
        actions=actions,
        log_probs=nothing,
        values=nothing,
        rewards=rewards,
        next_values=nothing,
        is_first=at == 0,
        terminated=ends,
        truncated=no,
        credit_cuts=at == STEPS - 1,
        valid=~no,
        initial_state=policy.init_state(len(histories)),
    )
    with torch.no_grad():
        evaluation = rollout.replay(policy)
    return dataclasses.replace(rollout, log_probs=evaluation.log_probs, values=evaluation.values)


def expected_return(policy, everything):
    """J = Σ p(history) · return."""
    return float((0.5 * everything.log_probs.sum(0).exp() * everything.rewards.sum(0)).sum())


def exact_gradient(policy, inner_end, size=1e-5):
    """dJ/dθ by central differences, every parameter by itself."""
    gradient = {}
    for name, parameter in policy.named_parameters():
        flat = parameter.data.view(-1)
        gradient[name] = torch.zeros_like(flat)
        for i in range(len(flat)):
            kept, found = float(flat[i]), []
            for shift in (size, -size):
                flat[i] = kept + shift
                found.append(expected_return(policy, rollout_of(policy, HISTORIES, inner_end)))
            flat[i] = kept
            gradient[name][i] = (found[0] - found[1]) / (2 * size)
    return gradient


def gradient_of_the_policys_step(agent, batch):
    """The gradient of the first step of an update, by parameter; the critic's own steps come after it."""
    gradients, step = [], agent._descent.step

    def noting(terms, place, **options):
        result = step(terms, place, **options)
        gradients.append({name: one.grad.flatten().clone() for name, one in agent.policy.named_parameters()})
        return result

    agent._descent.step = noting
    agent.update(batch)
    del agent._descent.step
    return gradients[0]


def estimates(agent, batches, probabilities):
    """The expectation of the estimator over the batches: what is ascended, times the steps it is averaged over."""
    before, kept = copy.deepcopy(agent.policy.state_dict()), copy.deepcopy(agent.state_dict())
    total = {name: torch.zeros(parameter.numel()).double() for name, parameter in agent.policy.named_parameters()}
    for batch, probability in zip(batches, probabilities, strict=True):
        agent.policy.load_state_dict(before)
        agent.load_state_dict(copy.deepcopy(kept))
        for name, gradient in gradient_of_the_policys_step(agent, batch).items():
            total[name] -= probability * STEPS * gradient
    agent.policy.load_state_dict(before)
    agent.load_state_dict(kept)
    return total


@pytest.fixture
def tree():
    """A function that makes an agent whose gradient is neither clipped nor mixed with other losses."""

    def make_all(memory, inner_end=False, critic_memory="shared", **config):
        network = {"hidden_size": 3, "encoder_sizes": (), "critic_memory": critic_memory}
        policy = kit.make_policy(spaces.Box(-1, 1, (2,)), spaces.Discrete(2), memory, SEEN, **network)
        settings = {"gamma": 1.0, "ent_coef": 0.0, "vf_coef": 0.0, "max_grad_norm": 1e9, "num_episodes": 2}
        agent = make_agent(policy, 1, **settings, **config)
        before = rollout_of(policy, HISTORIES[3:6], inner_end)  # Gives the running mean something to say.
        agent._update_mean(before, 1.3 * before.rewards)
        return agent

    return make_all


@pytest.mark.parametrize(("name", "critic_memory"), covering(TREES, ["shared", "separate"]))
def test_the_expected_gradient_is_that_of_the_expected_return(tree, name, critic_memory):
    """Over all histories, each a batch of its own: no baseline biases it, and the memory's weights get theirs too."""
    memory, inner_end = TREES[name]
    expected = exact_gradient(tree(memory, inner_end, critic_memory).policy, inner_end)
    through_time = [gradient for name, gradient in expected.items() if name.startswith("actor.cell.")]
    assert all(gradient.abs().max() > 1e-3 for gradient in through_time)
    for baseline in BASELINES:
        agent = tree(memory, inner_end, critic_memory, baseline=baseline)
        batches = [rollout_of(agent.policy, [history], inner_end) for history in HISTORIES]
        probabilities = [0.5 * float(batch.log_probs.sum().exp()) for batch in batches]
        assert sum(probabilities) == pytest.approx(1)
        baselines = torch.stack([agent.baselines(batch) for batch in batches])
        assert ((baselines == 0) if baseline == "none" else (baselines != 0)).all()
        found = estimates(agent, batches, probabilities)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-8, msg=f"{baseline}: {name}")


def test_a_baseline_that_knows_the_action_would_bias_it(tree, monkeypatch):
    """The control: the reward of the step itself is no baseline, and the test above would notice."""
    agent = tree(MemoryConfig(), baseline="history")
    monkeypatch.setattr(agent, "baselines", lambda batch: batch.rewards)
    batches = [rollout_of(agent.policy, [history]) for history in HISTORIES]
    found = estimates(agent, batches, [0.5 * float(batch.log_probs.sum().exp()) for batch in batches])
    expected = exact_gradient(agent.policy, False)
    assert max((found[name] - gradient).abs().max() for name, gradient in expected.items()) > 1e-2


def test_a_batch_of_many_trajectories_is_the_mean_over_its_steps(tree):
    agent = tree(MemoryConfig(), baseline="history")
    batches = [rollout_of(agent.policy, [history]) for history in HISTORIES]
    alone = estimates(agent, batches, [1 / 16] * 16)
    together = estimates(agent, [rollout_of(agent.policy, HISTORIES)], [1.0])
    for name, gradient in alone.items():
        torch.testing.assert_close(together[name], gradient, rtol=0, atol=1e-12)


def test_scaled_rewards_scale_the_gradient_and_leave_its_direction(tree, monkeypatch):
    agent = tree(MemoryConfig(), baseline="history")
    batch = rollout_of(agent.policy, HISTORIES)
    plain = estimates(agent, [batch], [1.0])
    monkeypatch.setattr(type(agent.policy), "return_scale", torch.tensor(4.0).double())
    scaled = estimates(agent, [batch], [1.0])
    for name, gradient in plain.items():
        torch.testing.assert_close(4 * scaled[name], gradient, rtol=0, atol=1e-12)


# Baselines.


@pytest.fixture
def trained():
    """A function that makes an agent, a batch of the scripted env with idle tails, its carry and lanes."""

    def make_all(memory=None, policy=None, **config):
        recurrent = kit.make_policy(memory=memory, **(policy or {}))
        agent = make_agent(recurrent, len(SCRIPTS), **{"num_episodes": 8, **config})
        envs = kit.scripted(*SCRIPTS, memory=memory)
        carry = start(recurrent, envs, [0] * len(SCRIPTS))
        return agent, agent.collect(envs, carry), carry, envs

    return make_all


def weights(policy):
    return {name: tensor.clone() for name, tensor in policy.state_dict().items()}


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


def trajectories_of(rollout):
    """The valid stretches between credit cuts, as (lane, first, last)."""
    trajectories = []
    for lane in range(rollout.num_envs):
        first = 0
        for t in torch.nonzero(rollout.credit_cuts[:, lane]).flatten().tolist():
            trajectories.append((lane, first, t))
            first = t + 1
    assert sum(last - first + 1 for _, first, last in trajectories) == int(rollout.valid.sum())
    return trajectories


def mean_by_hand(batches, gamma, decay=0.9):
    """Weighted means of returns for each step of a trajectory, a batch weighing ``decay`` of the one after it."""
    weighted = {}
    for back, batch in enumerate(reversed(batches)):
        for lane, first, last in trajectories_of(batch):
            for t in range(first, last + 1):
                value = sum(gamma ** (k - t) * float(batch.rewards[k, lane]) for k in range(t, last + 1))
                weighted.setdefault(t - first, []).append((decay**back, value))
    return [sum(w * v for w, v in weighted[age]) / sum(w for w, _ in weighted[age]) for age in range(len(weighted))]


@pytest.mark.parametrize(
    "memory", [*MEMORIES.values(), MemoryConfig("trial", "episode", episodes_per_trial=2)], ids=[*MEMORIES, "mixed"]
)
def test_the_mean_of_a_step_is_that_of_the_batches_before_worked_out_by_hand(trained, memory):
    agent, first, carry, envs = trained(memory, baseline="mean", gamma=0.9)
    assert (agent.baselines(first) == 0).all()  # There is no batch before.
    batches = [first]
    for num_episodes in (2, 10, 4):
        agent.update(batches[-1])
        agent._num_trajectories = num_episodes // (2 if memory.lifetime == "trial" else 1)
        rollout = agent.collect(envs, carry)
        means, baselines = mean_by_hand(batches, 0.9), agent.baselines(rollout)
        for lane, begin, end in trajectories_of(rollout):
            for t in range(begin, end + 1):
                assert baselines[t, lane].item() == pytest.approx(means[min(t - begin, len(means) - 1)], rel=1e-9)
        batches.append(rollout)


def test_a_step_that_no_trajectory_reaches_any_more_keeps_its_mean(trained):
    """Sums that fade would leave 0 / 0 after some hundred batches, where denormals are flushed as in every run."""
    agent, rollout, *_ = trained(policy={"dtype": torch.float32}, baseline="mean")
    short = first_steps(rollout, 2)
    agent._update_mean(rollout, rollout.rewards)
    before = agent._means
    torch.set_flush_denormal(True)
    try:
        for _ in range(1000):
            agent._update_mean(short, short.rewards)
    finally:
        torch.set_flush_denormal(False)
    assert len(before) > 3
    assert torch.equal(agent._means[2:], before[2:])
    assert not torch.equal(agent._means[:2], before[:2])
    agent._update_mean(rollout, 2 * rollout.rewards)  # Reached again, they are those of the new batch alone.
    torch.testing.assert_close(agent._means[2:], 2 * before[2:])


def first_steps(rollout, num_steps):
    """The first steps of a rollout, as if every lane's trajectory ended with them."""
    rows = {
        field.name: tree_map(lambda leaf: leaf[:num_steps].clone(), getattr(rollout, field.name))
        for field in dataclasses.fields(rollout)
        if field.name != "initial_state"
    }
    rows["credit_cuts"][-1] = True
    return dataclasses.replace(rollout, **rows)


def test_the_history_baseline_is_the_mean_of_the_step_plus_the_critics_value(trained):
    agent, rollout, *_ = trained(baseline="history")
    assert torch.equal(agent.baselines(rollout), rollout.values)  # There is no mean before the first batch.
    agent.update(rollout)
    means = dataclasses.replace(agent.config, baseline="mean")
    both = agent.baselines(rollout)
    agent.config = means
    assert agent.baselines(rollout).abs().max() > 0.1
    assert torch.equal(both, agent.baselines(rollout) + rollout.values)
    agent, rollout, *_ = trained(baseline="none")
    agent.update(rollout)
    assert (agent.baselines(rollout) == 0).all()


def test_the_critics_own_steps_fit_it_and_leave_the_policy_alone(trained):
    found = {}
    for epochs in (1, 8):
        agent, rollout, *_ = trained(
            policy={"critic_memory": "separate"}, baseline="history", critic_epochs=epochs, learning_rate=1e-2
        )
        agent._update_mean(rollout, 0.5 * rollout.rewards)
        left = rewards_to_go(rollout.rewards, rollout.credit_cuts, gamma=agent.config.gamma)
        left = (left - agent._means_at_steps(rollout))[rollout.valid]
        before = (rollout.values[rollout.valid] - left).square().mean()
        agent.update(rollout)
        after = (
            (
                agent.policy.values(rollout.inputs, rollout.is_first, rollout.initial_state).detach()[rollout.valid]
                - left
            )
            .square()
            .mean()
        )
        found[epochs] = (float(after / before), weights(agent.policy))
    assert found[8][0] < found[1][0] < 1
    for name, tensor in found[1][1].items():
        same_in_both = torch.equal(tensor, found[8][1][name])
        assert same_in_both != name.startswith(("critic.", "value_head.")), name


@pytest.mark.parametrize(("baseline", "memory"), [("none", "shared"), ("mean", "shared"), ("history", "separate")])
def test_a_critic_has_a_memory_of_its_own_where_there_is_one(baseline, memory):
    assert REINFORCEConfig(baseline=baseline).critic_memory == memory


def test_the_critic_learns_returns_and_without_it_nothing_of_it_moves(trained):
    agent, rollout, *_ = trained(baseline="history", learning_rate=0.01, policy={"scale_rewards": True})
    agent.update(rollout)
    losses = [agent.update(rollout)["train/value_loss"] for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    agent, rollout, *_ = trained(baseline="mean", policy={"critic_memory": "separate"})
    before = weights(agent.policy)
    metrics = agent.update(rollout)
    moved = {name for name, tensor in weights(agent.policy).items() if not torch.equal(tensor, before[name])}
    assert "train/value_loss" not in metrics
    assert moved
    assert not any(name.startswith(("critic.", "value_head.")) for name in moved)


def test_the_value_loss_is_half_the_squared_error_over_valid_steps(trained):
    agent, rollout, *_ = trained(baseline="history", gamma=0.9)
    returns = rewards_to_go(rollout.rewards, rollout.credit_cuts, gamma=0.9)
    expected = 0.5 * (rollout.values - returns)[rollout.valid].square().mean()
    advantages = (returns - rollout.values)[rollout.valid]
    metrics = agent.update(rollout)
    assert metrics["train/value_loss"] == pytest.approx(expected.item())
    loss = -(rollout.log_probs[rollout.valid] * advantages).mean()
    assert metrics["train/policy_gradient_loss"] == pytest.approx(loss.item())
    whole = loss + 0.5 * expected + 0.01 * metrics["train/entropy_loss"]
    assert metrics["train/loss"] == pytest.approx(whole.item())


def test_the_critic_learns_what_the_mean_leaves(trained):
    agent, rollout, *_ = trained(baseline="history", gamma=0.9)
    agent._update_mean(rollout, 10 * torch.ones_like(rollout.rewards))
    returns = rewards_to_go(rollout.rewards, rollout.credit_cuts, gamma=0.9)
    expected = 0.5 * (rollout.values - (returns - 10))[rollout.valid].square().mean()
    assert agent.update(rollout)["train/value_loss"] == pytest.approx(expected.item())


def test_a_critic_of_its_own_takes_so_many_steps_a_batch(trained, monkeypatch):
    agent, rollout, *_ = trained(baseline="history", critic_epochs=3, policy={"critic_memory": "separate"})
    steps, step = [], agent._descent.step

    def noting(terms, place, *, apart=False, **options):
        steps.append((*terms, apart))
        return step(terms, place, apart=apart, **options)

    monkeypatch.setattr(agent._descent, "step", noting)
    agent.update(rollout)
    policys, *critics = steps
    assert policys == ("policy_gradient_loss", "entropy_loss", False)
    assert critics == [("value_loss", True)] * 3


# Idle tails.


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)
def test_garbage_in_idle_tails_changes_nothing(trained, memory, baseline):
    results = []
    for filling in (None, 1e9):
        policy = {"normalize_observations": True, "scale_rewards": True, "critic_memory": "separate"}
        agent, rollout, carry, envs = trained(memory, policy, baseline=baseline)
        metrics = []
        for _ in range(3):
            assert not rollout.all_valid
            metrics.append(agent.update(rollout if filling is None else spoilt(rollout, filling)))
            rollout = agent.collect(envs, carry)
        results.append((weights(agent.policy), metrics, agent.state_dict()))
    (plain, metrics, state), (garbage, garbage_metrics, garbage_state) = results
    assert same(plain, garbage)
    assert metrics == garbage_metrics
    for name in ("means", "mean_counts", "num_steps", "generator", "action_generator"):
        assert torch.equal(torch.as_tensor(state[name]), torch.as_tensor(garbage_state[name])), name


def spoilt(rollout, filling):
    """The rollout with nonsense wherever nothing is valid."""

    def fill(tensor):
        mask = rollout.valid.reshape(*rollout.valid.shape, *(1,) * (tensor.dim() - 2))
        return torch.where(mask, tensor, filling) if tensor.is_floating_point() else tensor

    numbers = ("log_probs", "values", "rewards", "next_values")
    flags = {name: getattr(rollout, name) | ~rollout.valid for name in ("terminated", "truncated")}
    return dataclasses.replace(
        rollout,
        inputs=tree_map(fill, rollout.inputs),
        actions=torch.where(rollout.valid, rollout.actions, 2 - rollout.actions),
        **flags,
        **{name: fill(getattr(rollout, name)) for name in numbers},
    )


def test_the_share_of_steps_that_count_is_logged(trained):
    agent, rollout, *_ = trained()
    share = rollout.valid.double().mean().item()
    assert 0.3 < share < 0.9
    assert agent.update(rollout)["rollout/fill_share"] == pytest.approx(share, rel=1e-6)


# What changes when.


def test_normalisers_and_the_mean_change_after_the_step_only(trained, monkeypatch):
    policy = {"normalize_observations": True, "scale_rewards": True, "inputs": InputsConfig(previous_reward=True)}
    agent, rollout, carry, envs = trained(policy=policy, gamma=0.9, baseline="mean")
    before = weights(agent.policy)
    assert agent.update(rollout).keys() == {"rollout/fill_share"}  # The first batch fills them and trains nothing.
    filled = weights(agent.policy)
    moments = [name for name in before if name.rsplit(".", 1)[-1] in ("mean", "variance", "count")]
    assert len(moments) == 9
    assert same({name: before[name] for name in before if name not in moments}, filled)
    valid = rollout.valid
    sums, _ = discounted_sums(rollout.rewards, rollout.credit_cuts, torch.zeros(len(SCRIPTS)).double(), 0.9)
    for name, seen in (
        ("actor.encoder.moments", rollout.inputs.observations[valid]),
        ("return_moments", sums[valid].unsqueeze(1)),
        ("reward_moments", rollout.rewards[valid].unsqueeze(1)),
    ):
        torch.testing.assert_close(filled[f"{name}.mean"], seen.double().mean(0))
        torch.testing.assert_close(filled[f"{name}.variance"], seen.double().var(0, correction=0))
    means = agent._means.clone()
    assert len(means) > 0

    agent._num_trajectories = 3  # Otherwise the lanes' script would bring the same numbers once more.
    rollout = agent.collect(envs, carry)
    seen, evaluate = [], agent.policy.evaluate
    monkeypatch.setattr(
        agent.policy, "evaluate", lambda *batch: seen.append((weights(agent.policy), agent._means)) or evaluate(*batch)
    )
    assert agent.update(rollout)["train/first_ratio_error"] <= 1e-9
    ((at_the_time, means_at_the_time),) = seen
    assert same(filled, at_the_time)
    assert torch.equal(means, means_at_the_time)
    after = weights(agent.policy)
    assert all(not torch.equal(after[name], filled[name]) for name in moments)
    assert agent.num_updates == 1


def test_without_normalisers_the_first_batch_trains(trained):
    agent, rollout, *_ = trained()
    before = weights(agent.policy)
    assert agent.update(rollout)["train/n_updates"] == 1
    assert not same(before, weights(agent.policy))


def test_rates_go_linearly_with_the_steps_that_count_and_stay_at_their_end(trained):
    agent, rollout, *_ = trained(anneal_lr=True, learning_rate=0.1, ent_coef=0.4, final_ent_coef=0.2)
    num_steps = int(rollout.valid.sum())
    agent._total_steps = 4 * num_steps
    metrics = [agent.update(rollout) for _ in range(4)]
    assert [one["train/learning_rate"] for one in metrics] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert [one["train/ent_coef"] for one in metrics] == pytest.approx([0.4, 0.35, 0.3, 0.25])
    before = weights(agent.policy)
    for _ in range(2):
        last = agent.update(rollout)
        assert (last["train/learning_rate"], last["train/ent_coef"]) == (0, pytest.approx(0.2))
    assert same(before, weights(agent.policy))
    assert agent.num_steps == 6 * num_steps


def test_rates_stay_if_nothing_is_annealed(trained):
    constant = {"anneal_lr": False, "final_ent_coef": None}
    agent, rollout, *_ = trained(learning_rate=0.1, ent_coef=0.3, **constant, total_steps=10)
    for _ in range(3):
        metrics = agent.update(rollout)
        assert (metrics["train/learning_rate"], metrics["train/ent_coef"]) == (0.1, 0.3)


def test_the_entropy_bonus_raises_the_entropy(trained):
    """Nothing is paid, so the bonus alone moves the policy."""
    agent, rollout, *_ = trained(policy={"noise": 1.0}, ent_coef=1.0, baseline="none", learning_rate=0.01)
    rollout = dataclasses.replace(rollout, rewards=torch.zeros_like(rollout.rewards))
    losses = [agent.update(rollout)["train/entropy_loss"] for _ in range(10)]
    assert losses[-1] < losses[0] - 0.1 < 0  # The loss is the negative entropy.


def test_gradients_are_clipped_by_their_global_norm(trained):
    agent, rollout, *_ = trained(max_grad_norm=1e-3)
    assert agent.update(rollout)["train/grad_norm"] > 1e-2
    clipped = torch.stack([parameter.grad.norm() for parameter in agent.policy.parameters()]).norm()
    assert clipped.item() == pytest.approx(1e-3, rel=1e-3)


def test_every_batch_has_seeds_of_its_own(trained, monkeypatch):
    agent, _, carry, envs = trained()
    asked, reset = [], envs.reset
    monkeypatch.setattr(envs, "reset", lambda seeds: asked.append(list(seeds)) or reset(seeds))
    state = agent.state_dict()
    for _ in range(2):
        agent.collect(envs, carry)
    assert len({seed for seeds in asked for seed in seeds}) == 2 * len(SCRIPTS)
    agent.load_state_dict(state)
    agent.collect(envs, carry)
    assert asked[2] == asked[0]


def test_a_refresh_leaves_the_carried_state(trained):
    agent, rollout, carry, _ = trained()
    agent.update(rollout)
    before = tree_map(torch.clone, carry.state)
    assert agent.refresh(rollout, carry) == {}
    for left, right in zip(before[0], carry.state[0], strict=True):
        assert torch.equal(left, right)


TAGS = {
    "rollout/fill_share",
    "train/policy_gradient_loss",
    "train/entropy_loss",
    "train/loss",
    "train/grad_norm",
    "train/first_ratio_error",
    "train/explained_variance",
    "train/learning_rate",
    "train/ent_coef",
    "train/n_updates",
}


@pytest.mark.parametrize("baseline", BASELINES)
def test_metrics_come_by_their_tags(trained, baseline):
    agent, rollout, *_ = trained(baseline=baseline)
    metrics = agent.update(rollout)
    assert metrics.keys() == TAGS | ({"train/value_loss"} if baseline == "history" else set())
    assert all(isinstance(value, float) for value in metrics.values())


# Learning.


def score(make_env, num_updates, baseline, cell="lstm", **config):
    """The mean return after some updates, played without chance."""

    def lanes():
        functions = [functools.partial(lambda lane: SubEnv(make_env(), lane), lane) for lane in range(16)]
        return VectorEnvs(gym.vector.SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP), "sync", "")

    envs = lanes()
    network = {"hidden_size": 16, "encoder_sizes": (16,), "noise": 0.0, "dtype": torch.float32, "cell": cell}
    critic = REINFORCEConfig(baseline=baseline).critic_memory
    policy = kit.make_policy(envs.observation_space, envs.action_space, critic_memory=critic, **network)
    settings = {"num_episodes": 32, "learning_rate": 0.01, "gamma": 0.95, "ent_coef": 0.0, **config}
    agent = make_agent(policy, 16, baseline=baseline, **settings)
    carry = start(policy, envs, integer_seeds(0, "envs", 16))
    for _ in range(num_updates):
        agent.update(agent.collect(envs, carry))
    return evaluate(policy, lanes(), 100, seed=1).mean_return


@pytest.mark.parametrize(
    "baseline", [pytest.param(b, marks=() if b == "mean" else pytest.mark.slow) for b in BASELINES]
)
def test_the_action_that_pays_is_learnt(baseline):
    assert score(ActionEnv, 30, baseline) == 1


@pytest.mark.slow
@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_sign_is_recalled(cell, baseline):
    assert score(lambda: RecallEnv(4), 250, baseline, cell, ent_coef=0.01) > 0.95


@pytest.mark.slow
def test_without_memory_a_sign_is_not_recalled():
    assert abs(score(lambda: RecallEnv(4), 250, "history", "none", ent_coef=0.01)) < 0.3


# What is not finite, and what is refused.


def test_a_loss_that_is_not_finite_stops_by_name_with_the_weights_before_it(trained):
    agent, rollout, *_ = trained(policy={"dtype": torch.float32})
    before = weights(agent.policy)
    with pytest.raises(NonFiniteError, match="update 0: value_loss"):
        agent.update(dataclasses.replace(rollout, rewards=torch.full_like(rollout.rewards, 1e30)))
    assert same(before, weights(agent.policy))


def test_a_memory_that_never_ends_is_refused():
    policy = kit.make_policy(memory=MemoryConfig("lifelong", "episode"))
    with pytest.raises(ValueError, match=r"lifetime is 'lifelong'.*Use episode or trial, or train with ppo"):
        make_agent(policy, 4)


@pytest.mark.parametrize(("num_episodes", "instead"), [(7, 6), (8, 9), (1, 3), (2, 3)])
def test_a_batch_of_broken_trials_is_refused_with_one_of_whole_ones(num_episodes, instead):
    policy = kit.make_policy(memory=MemoryConfig("trial", episodes_per_trial=3))
    with pytest.raises(ValueError, match=rf"num_episodes is {num_episodes}.*trials of 3 episodes; use {instead}\."):
        make_agent(policy, 4, num_episodes=num_episodes)
    assert make_agent(policy, 4, num_episodes=instead)._num_trajectories == instead // 3


def test_an_episode_s_memory_asks_for_episodes_even_where_there_are_trials():
    policy = kit.make_policy(memory=MemoryConfig("episode", episodes_per_trial=3))
    assert make_agent(policy, 4, num_episodes=7)._num_trajectories == 7


def test_a_batch_has_32_episodes_or_trials_by_default() -> None:
    memory = MemoryConfig("trial", episodes_per_trial=10)
    assert make_agent(kit.make_policy(memory=memory), 4, num_episodes=None)._num_trajectories == 32
    assert make_agent(kit.make_policy(), 4, num_episodes=None)._num_trajectories == 32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_episodes", 0),
        ("gamma", 1.1),
        ("gamma", -0.1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("max_grad_norm", -1.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        REINFORCEConfig(**{name: value})
