"""Claims about `rlstm.policies.policy`: acting and learning see the same."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from torch import Tensor

from rlstm.agents.configs.ppo import PPOConfig
from rlstm.agents.ppo import PPO
from rlstm.cells import CELLS as ALL_CELLS
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.policies.config import PolicyConfig
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.observations import observation_dtypes
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.rollout import Rollout
from rlstm.testing import (
    ActionEnv,
    ConstantValueEnv,
    DiscountEnv,
    ForgetEnv,
    ObservationValueEnv,
    ProbeEnv,
    RecallEnv,
)
from tests.kit import covering

CELLS = [name for name, cell in ALL_CELLS.items() if not cell.reads_maps]  # Those that read vectors.

VECTOR = spaces.Box(-2, 2, (3,))
DISCRETE = spaces.Discrete(3)
ALL_INPUTS = InputsConfig(previous_action=True, previous_reward=True, episode_start=True)
MEMORIES = sorted(set(CELLS) - {"none"})


def make(
    observation_space: spaces.Space[Any] = VECTOR,
    action_space: spaces.Space[Any] = DISCRETE,
    *,
    memory: MemoryConfig | None = None,
    inputs: InputsConfig = ALL_INPUTS,
    dtype: torch.dtype = torch.float64,
    noise: float = 0.3,
    **config: Any,
) -> RecurrentPolicy:
    """Return a small policy whose weights are all away from their initial values."""
    torch.manual_seed(0)
    plain = {"normalize_observations": False, "scale_rewards": False}
    settings = {"hidden_size": 6, "encoder_sizes": (5,), **plain, **config}
    generator = torch.Generator().manual_seed(7)
    policy = RecurrentPolicy(
        observation_space, action_space, PolicyConfig(**settings), memory or MemoryConfig("lifelong"), inputs, generator
    ).to(dtype)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return policy


def observations_of(policy: RecurrentPolicy, num_steps: int, num_envs: int) -> Any:
    space = policy.observation_space
    space.seed(0)
    samples = [space.sample() for _ in range(num_steps * num_envs)]

    def stack(kind: torch.dtype, *leaves: Any) -> Tensor:
        stacked = torch.as_tensor(np.stack([np.asarray(leaf) for leaf in leaves]))
        return stacked.to(kind).unflatten(0, (num_steps, num_envs))

    return tree_map(stack, observation_dtypes(space, policy.dtype), *samples)


def play(
    policy: RecurrentPolicy, num_steps: int = 12, num_envs: int = 4, *, masks: Tensor | None = None, rate: float = 0.25
) -> Rollout:
    """Let the policy's snapshot act on random observations, with random resets and inner episode starts, from a state
    that is not the initial one, and store what it chose."""
    draws = torch.Generator().manual_seed(3)
    shape, distribution, seen = (num_steps, num_envs), policy.distribution, policy.inputs
    is_first = torch.rand(shape, generator=draws) < rate
    episode_starts = is_first | (torch.rand(shape, generator=draws) < rate)
    rewards = torch.randn(shape, generator=draws).to(policy.dtype) * 3
    observations = observations_of(policy, num_steps, num_envs)
    state = initial_state = tree_map(
        lambda leaf: torch.rand(leaf.shape, generator=draws).to(leaf) - 0.5, policy.init_state(num_envs)
    )
    action_type = distribution.action_dtype or policy.dtype
    previous_action = torch.ones(num_envs, *distribution.action_shape, dtype=action_type)
    previous_reward = torch.full((num_envs,), 5.0, dtype=policy.dtype)
    snapshot, seen_inputs, steps = policy.acting_snapshot(), [], []
    for t in range(num_steps):
        inputs = PolicyInputs(
            tree_map(lambda leaf, t=t: leaf[t], observations),
            previous_action if seen.previous_action else None,
            previous_reward if seen.previous_reward else None,
            episode_starts[t] if seen.episode_start else None,
            None if masks is None else masks[t],
        )
        with torch.inference_mode():
            step = snapshot.step(inputs, state, is_first[t])
        seen_inputs.append(inputs)
        steps.append(step)
        previous_action, previous_reward, state = step.actions, rewards[t], step.state
    nothing = torch.zeros(shape, dtype=torch.bool)
    return Rollout(
        inputs=tree_map(lambda *leaves: torch.stack(leaves), *seen_inputs),
        actions=torch.stack([step.actions for step in steps]),
        log_probs=torch.stack([step.log_probs for step in steps]),
        values=torch.stack([step.values for step in steps]),
        rewards=rewards,
        next_values=torch.zeros(shape, dtype=policy.dtype),
        is_first=is_first,
        terminated=nothing,
        truncated=nothing,
        credit_cuts=nothing,
        valid=~nothing,
        initial_state=initial_state,
    )


def value_alone(policy: RecurrentPolicy, inputs: PolicyInputs, state: Any, is_first: Tensor) -> Tensor:
    with torch.inference_mode():
        return policy.acting_snapshot().values(inputs, state, is_first)


def cut_out(rollout: Rollout, begin: int, end: int, initial_state: Any) -> Rollout:
    """Return the steps from ``begin`` to ``end`` as a rollout of their own."""
    names = [field.name for field in dataclasses.fields(rollout) if field.name != "initial_state"]
    pieces = {name: tree_map(lambda leaf: leaf[begin:end], getattr(rollout, name)) for name in names}
    return Rollout(**pieces, initial_state=initial_state)


def assert_replayed(policy: RecurrentPolicy, rollout: Rollout, tolerance: float = 1e-9) -> None:
    evaluation = rollout.replay(policy)
    torch.testing.assert_close(evaluation.log_probs, rollout.log_probs, rtol=0, atol=tolerance)
    torch.testing.assert_close(evaluation.values, rollout.values, rtol=0, atol=tolerance)


# Acting equals evaluating


SEEN = [InputsConfig(*flags) for flags in itertools.product([False, True], repeat=3)]


@pytest.mark.parametrize(("name", "critic_memory", "inputs"), covering(CELLS, ["shared", "separate"], SEEN))
def test_evaluating_gives_back_what_was_stored_while_acting(
    name: str, critic_memory: str, inputs: InputsConfig
) -> None:
    policy = make(cell=name, critic_memory=critic_memory, inputs=inputs)
    assert_replayed(policy, play(policy))
    first = make(cell=name, critic_memory=critic_memory, inputs=inputs, dtype=torch.float32, noise=0.0)
    assert_replayed(first, play(first), 1e-5)


CONFIGS: list[dict[str, Any]] = [
    {"num_layers": 2},
    {"num_layers": 3, "encoder_sizes": ()},
    {"head_sizes": (4,)},
    {"head_sizes": (4, 3), "encoder_sizes": (7, 5)},
    {"cell": "gru", "memory_length": 20},
    {"memory_length": 20},
    {"memory_length": 20, "memory_init": "log_spaced", "num_layers": 2},
    {"normalize_observations": True, "scale_rewards": True},
    {"normalize_observations": True, "cell": "gru", "num_layers": 2, "head_sizes": (3,)},
    {"num_layers": 3, "residual": True, "layer_norm": True},
    {"highway": True, "encoder_sizes": (6, 6, 6, 4)},
    {"sequence": "loop"},
]


@pytest.mark.parametrize(("config", "critic_memory"), covering(CONFIGS, ["shared", "separate"]), ids=str)
def test_every_part_of_the_network_acts_as_it_evaluates(config: dict[str, Any], critic_memory: str) -> None:
    policy = make(critic_memory=critic_memory, **config)
    rollout = play(policy)
    assert_replayed(policy, rollout)
    policy.update_normalisers(
        rollout.inputs.observations, rollout.rewards, rollout.valid, rollout.rewards * 4
    )  # Now with statistics, if there are any.
    assert_replayed(policy, play(policy))


def test_highway_layers_need_two_equal_widths() -> None:
    with pytest.raises(ValueError, match=r"highway is set, but none of encoder_sizes \(6, 4\) is as wide"):
        make(highway=True, encoder_sizes=(6, 4))


def test_the_loop_is_the_reference_of_the_fast_path() -> None:
    policy, loop = make(), make(sequence="loop")
    rollout = play(policy)
    fast, plain = rollout.replay(policy), rollout.replay(loop)
    torch.testing.assert_close(fast.values, plain.values, rtol=0, atol=1e-12)
    assert (loop.sequence_path, policy.sequence_path) == ("loop of steps", "reset steps into the dense kernel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ALL_CELLS["lstm"], "sequence", None)
        rollout.replay(loop)  # The fast path isn't used.


OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(5, start=2),
    "multi-discrete": spaces.MultiDiscrete([[2, 3], [2, 2]]),
    "multi-binary": spaces.MultiBinary((2, 2)),
    "image": spaces.Box(0, 255, (5, 6, 3), np.uint8),
    "nested": spaces.Dict(
        {"a": spaces.Tuple((spaces.Discrete(3), VECTOR)), "b": spaces.Box(0, 255, (3, 7, 7), np.uint8)}
    ),
}
ACTIONS: dict[str, tuple[spaces.Space[Any], dict[str, Any]]] = {
    "discrete from 4": (spaces.Discrete(3, start=4), {}),
    "multi-discrete": (spaces.MultiDiscrete([[2, 3], [2, 2]]), {}),
    "multi-binary": (spaces.MultiBinary((2, 2)), {}),
    "numbers": (spaces.Box(-1, 1, (2, 2)), {}),
    "squashed numbers": (spaces.Box(-1, 3, (2,)), {"squash_actions": True, "initial_log_std": -0.5}),
}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_every_observation_space_is_acted_on_as_it_is_evaluated(name: str) -> None:
    policy = make(OBSERVATIONS[name], normalize_observations=True)
    assert_replayed(policy, play(policy))


@pytest.mark.parametrize(("name", "critic_memory"), covering(ACTIONS, ["shared", "separate"]))
def test_actions_of_every_space_are_given_back_with_their_log_probabilities(name: str, critic_memory: str) -> None:
    space, config = ACTIONS[name]
    policy = make(action_space=space, critic_memory=critic_memory, **config)
    assert_replayed(policy, play(policy))


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3])], ids=["discrete", "multi"])
def test_masks_bind_while_acting_and_while_evaluating(space: Any) -> None:
    policy = make(action_space=space)
    sizes = [3] if isinstance(space, spaces.Discrete) else [2, 3]
    masks = torch.cat([torch.rand(12, 4, n, generator=torch.Generator().manual_seed(n)) < 0.6 for n in sizes], -1)
    masks[..., 0] = masks[..., -1] = True
    rollout = play(policy, masks=masks)
    assert_replayed(policy, rollout)
    starts = torch.tensor([0, 2])[: len(sizes)]
    assert masks.gather(-1, rollout.actions.reshape(12, 4, -1) + starts).all()
    unmasked = replace(rollout, inputs=rollout.inputs._replace(action_masks=None))
    assert not torch.allclose(unmasked.replay(policy).log_probs, rollout.log_probs)


def test_what_follows_a_rollout_begins_from_the_state_that_evaluation_ends_with() -> None:
    policy = make(critic_memory="separate", num_layers=2)
    rollout = play(policy)
    half = play(policy, num_steps=6)
    state = half.replay(policy).state
    torch.testing.assert_close(
        policy.replay_state(half.inputs, half.is_first, half.initial_state), state, rtol=0, atol=0
    )
    rest = cut_out(rollout, 6, 12, cut_out(rollout, 0, 6, rollout.initial_state).replay(policy).state)
    torch.testing.assert_close(rest.replay(policy).values, rollout.values[6:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", MEMORIES)
def test_a_reset_at_another_step_or_another_initial_state_is_noticed(name: str) -> None:
    """The replay would be worthless if it held for wrong resets as well."""
    policy = make(cell=name)
    rollout = play(policy)
    wrong = [
        replace(rollout, is_first=rollout.is_first.roll(1, 0)),
        replace(rollout, is_first=torch.zeros_like(rollout.is_first)),
        replace(rollout, initial_state=policy.init_state(4)),
    ]
    for other in wrong:
        assert not torch.allclose(other.replay(policy).values, rollout.values, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("name", "critic_memory"), covering(CELLS, ["shared", "separate"]))
def test_what_comes_before_a_reset_changes_nothing_after_it(name: str, critic_memory: str) -> None:
    """Nor does it get a gradient from there."""
    policy = make(cell=name, critic_memory=critic_memory)
    rollout = play(policy)
    is_first = torch.zeros(12, 4, dtype=torch.bool)
    is_first[5, :2] = True
    observations = rollout.inputs.observations.clone().requires_grad_()
    seen = replace(rollout, is_first=is_first, inputs=rollout.inputs._replace(observations=observations))
    evaluation = seen.replay(policy)
    after = evaluation.values[5:, :2].sum() + evaluation.log_probs[5:, :2].sum()
    (grad,) = torch.autograd.grad(after, observations, retain_graph=True)
    assert not grad[:5].any()
    assert grad[5:, :2].all()
    if name != "none":
        (grad,) = torch.autograd.grad(evaluation.values[5:, 2:].sum(), observations)
        assert grad[:5, 2:].all()
    changed = seen.inputs._replace(
        observations=torch.cat([torch.randn(5, 4, 3).double(), observations.detach()[5:]]),
        previous_actions=torch.cat([seen.inputs.previous_actions[:6].roll(1, 1), seen.inputs.previous_actions[6:]]),
        previous_rewards=torch.cat([torch.randn(6, 4).double(), seen.inputs.previous_rewards[6:]]),
    )
    again = replace(seen, inputs=changed, initial_state=policy.init_state(4)).replay(policy)
    assert torch.equal(again.values[5:, :2], evaluation.values[5:, :2])
    assert torch.equal(again.log_probs[5:, :2], evaluation.log_probs[5:, :2])


# Acting


def test_acting_carries_no_gradient_and_its_results_can_be_stored() -> None:
    policy = make()
    rollout = play(policy)
    evaluation = rollout.replay(policy)  # Inference tensors, copied by stack, may enter a backward pass.
    (evaluation.values.sum() + evaluation.log_probs.sum() + evaluation.entropies.sum()).backward()
    assert all(parameter.grad is not None for parameter in policy.parameters())
    assert not rollout.values.requires_grad


def test_the_likeliest_action_is_taken_where_chance_is_not_wanted() -> None:
    policy = make()
    inputs, state, is_first = _one_step(policy)
    before = policy.generator.get_state()
    actions, after = policy.act(inputs, state, is_first, deterministic=True)
    assert torch.equal(policy.generator.get_state(), before)
    one = tree_map(lambda leaf: leaf.unsqueeze(0), inputs)
    rollout = play(policy, 1)
    scores = [
        replace(
            rollout,
            inputs=one,
            actions=torch.full((1, 4), action),
            is_first=is_first.unsqueeze(0),
            initial_state=state,
        )
        .replay(policy)
        .log_probs[0]
        for action in range(3)
    ]
    assert torch.equal(torch.stack(scores).argmax(0), actions)
    assert all(
        torch.equal(a, b)
        for a, b in zip(tree_leaves(after), tree_leaves(policy.step(inputs, state, is_first).state), strict=True)
    )


def _one_step(policy: RecurrentPolicy) -> tuple[PolicyInputs, Any, Tensor]:
    rollout = play(policy, 1)
    return tree_map(lambda leaf: leaf[0], rollout.inputs), rollout.initial_state, rollout.is_first[0]


def test_act_and_step_draw_the_same_action_from_the_same_generator_state() -> None:
    policy = make()
    arguments = _one_step(policy)
    before = policy.generator.get_state()
    step = policy.step(*arguments)
    policy.generator.set_state(before)
    actions, _ = policy.act(*arguments, deterministic=False)
    assert torch.equal(actions, step.actions)


@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
def test_a_value_alone_is_that_of_the_step_and_draws_nothing(critic_memory: str) -> None:
    policy = make(critic_memory=critic_memory, scale_rewards=True)
    policy.return_moments.update(torch.tensor([[-3.0], [3.0]]))  # type: ignore[union-attr]
    arguments = _one_step(policy)
    before = policy.generator.get_state()
    values = value_alone(policy, *arguments)
    assert torch.equal(policy.generator.get_state(), before)
    assert torch.equal(values, policy.step(*arguments).values)


def test_a_snapshot_leaves_the_state_it_was_given_as_it_was() -> None:
    policy = make(num_layers=2)
    inputs, state, _ = _one_step(policy)
    before = copy.deepcopy(state)
    policy.step(inputs, state, torch.tensor([True, False, True, False]))
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(state), tree_leaves(before), strict=True))


@pytest.mark.parametrize("name", MEMORIES)
def test_acting_from_an_reset_state_is_acting_from_the_initial_one(name: str) -> None:
    policy = make(cell=name, critic_memory="separate")
    inputs, state, _ = _one_step(policy)
    state = tree_map(lambda leaf: torch.full_like(leaf, torch.nan), state)
    first, none = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    inputs = inputs._replace(
        previous_actions=torch.zeros(4, dtype=torch.int64), previous_rewards=torch.zeros(4).double()
    )
    reset = value_alone(policy, inputs, state, first)
    quiet = inputs._replace(previous_rewards=torch.zeros(4).double())
    fresh = value_alone(policy, quiet, policy.init_state(4), first)
    assert torch.isfinite(reset).all()
    assert torch.equal(reset, fresh)
    assert torch.isnan(value_alone(policy, inputs, state, none)).all()


# What is seen


def plain() -> RecurrentPolicy:
    """Return a policy whose encoder is the identity, so that what is encoded can be read."""
    return make(spaces.Box(-9, 9, (1,)), encoder_sizes=(), noise=0.0, scale_rewards=True)


def test_previous_action_and_reward_are_zero_where_memory_begins_and_nowhere_else() -> None:
    policy = plain()
    inputs = PolicyInputs(
        torch.tensor([[1.0], [2.0], [3.0]]).double(),
        previous_actions=torch.tensor([2, 2, 1]),
        previous_rewards=torch.tensor([7.0, 8.0, 9.0]).double(),
        episode_starts=torch.tensor([True, True, False]),
    )
    encoded = policy.input_features(
        policy.actor.encoder, inputs, torch.tensor([True, False, False]), policy.reward_scale, policy.dtype
    )
    expected = [
        [1, 0, 0, 0, 0, 1],  # Memory begins, and with it an episode.
        [2, 0, 0, 1, 8, 1],  # An inner episode start: the last action and reward are still known.
        [3, 0, 1, 0, 9, 0],
    ]
    torch.testing.assert_close(encoded, torch.tensor(expected).double(), rtol=0, atol=1e-6)


def test_nothing_that_stands_in_the_place_of_an_unknown_reward_is_seen() -> None:
    policy = plain()
    inputs = PolicyInputs(
        torch.zeros(1, 1).double(), torch.tensor([2]), torch.tensor([torch.nan]).double(), torch.tensor([True])
    )
    encoded = policy.input_features(
        policy.actor.encoder, inputs, torch.tensor([True]), policy.reward_scale, policy.dtype
    )
    assert encoded.tolist() == [[0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize(("reward", "seen"), [(8.0, 2.0), (-8.0, -2.0), (1000.0, 10.0), (-1000.0, -10.0)])
def test_previous_rewards_are_seen_in_deviations_of_rewards_and_outliers_are_clipped(
    reward: float, seen: float
) -> None:
    policy = make(spaces.Box(-9, 9, (1,)), encoder_sizes=(), noise=0.0, normalize_observations=True, scale_rewards=True)
    policy.return_moments.update(torch.tensor([[-99.0], [99.0]]))  # type: ignore[union-attr]
    policy.reward_moments.update(torch.tensor([[-4.0], [4.0]]))  # type: ignore[union-attr]
    inputs = PolicyInputs(
        torch.zeros(1, 1).double(), torch.tensor([0]), torch.tensor([reward]).double(), torch.tensor([False])
    )
    encoded = policy.input_features(
        policy.actor.encoder, inputs, torch.tensor([False]), policy.reward_scale, policy.dtype
    )
    torch.testing.assert_close(encoded[0, 4], torch.tensor(seen).double(), rtol=0, atol=1e-7)


def test_as_long_as_no_reward_has_come_rewards_and_returns_are_not_scaled() -> None:
    policy = make(normalize_observations=True, scale_rewards=True)
    rollout = play(policy)
    nothing = torch.zeros_like(rollout.rewards)
    policy.update_normalisers(rollout.inputs.observations, nothing, rollout.valid, nothing)
    assert not policy.lacks_statistics
    assert (float(policy.reward_scale), float(policy.return_scale)) == (1.0, 1.0)
    policy.update_normalisers(rollout.inputs.observations, rollout.rewards, rollout.valid, rollout.rewards)
    assert (
        float(policy.return_scale)
        == float(policy.reward_scale)
        == pytest.approx(float(torch.cat([nothing, rollout.rewards]).std(correction=0)), rel=1e-4)
    )


@pytest.mark.parametrize(("lifetime", "on"), [("episode", False), ("trial", True), ("lifelong", True)])
def test_the_last_step_is_seen_by_default_where_memory_outlives_the_episode(lifetime: Any, on: bool) -> None:
    memory = MemoryConfig(lifetime, episodes_per_trial=2 if lifetime == "trial" else None)
    policy = make(memory=memory, inputs=InputsConfig())
    assert policy.inputs == InputsConfig(on, on, on)
    first: Any = policy.actor.encoder.layers[0]
    assert first.in_features == 3 + (3 + 1 + 1) * on


def test_numbers_as_previous_actions_are_seen_as_the_env_saw_them() -> None:
    space = spaces.Box(-1, 1, (2,))
    policy = make(spaces.Box(-9, 9, (1,)), space, encoder_sizes=(), inputs=InputsConfig(True, False, False))
    inputs = PolicyInputs(torch.zeros(1, 1).double(), torch.tensor([[5.0, -0.5]]).double())
    encoded = policy.input_features(
        policy.actor.encoder, inputs, torch.tensor([False]), policy.reward_scale, policy.dtype
    )
    assert encoded.tolist() == [[0, 1, -0.5]]


# Where the gradient ends


def value_dependence(policy: RecurrentPolicy, rollout: Rollout) -> Tensor:
    """Return (T, T) bool: whether the value of step t has a gradient to the observation of step s."""
    observations = rollout.inputs.observations.clone().requires_grad_()
    values = replace(rollout, inputs=rollout.inputs._replace(observations=observations)).replay(policy).values
    rows = [torch.autograd.grad(value.sum(), observations, retain_graph=True)[0] for value in values]
    return torch.stack([(row != 0).flatten(1).any(1) for row in rows])


@pytest.mark.parametrize(
    ("name", "horizon", "critic_memory"), covering(MEMORIES, [1, 2, 3, 6, 7, 8, None], ["shared", "separate"])
)
def test_the_horizon_cuts_the_gradient_every_so_many_steps_and_nothing_else(
    name: str, horizon: int | None, critic_memory: str
) -> None:
    policy = make(cell=name, memory=MemoryConfig("lifelong", bptt_horizon=horizon), critic_memory=critic_memory)
    rollout = play(policy, num_steps=7, rate=0.0)
    steps = torch.arange(7)
    piece = steps // (horizon or 7)
    expected = (piece.unsqueeze(1) == piece) & (steps.unsqueeze(1) >= steps)
    assert torch.equal(value_dependence(policy, rollout), expected)
    assert_replayed(policy, rollout)
    whole = make(cell=name, critic_memory=critic_memory)
    evaluation, uncut = rollout.replay(policy), rollout.replay(whole)
    for one, other in zip(tree_leaves(tuple(evaluation)), tree_leaves(tuple(uncut)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_the_horizon_is_counted_from_the_rollouts_start_and_not_from_a_reset() -> None:
    policy = make(memory=MemoryConfig("lifelong", bptt_horizon=4))
    rollout = play(policy, num_steps=8, num_envs=1, rate=0.0)
    is_first = torch.zeros(8, 1, dtype=torch.bool)
    is_first[2] = True
    seen = value_dependence(policy, replace(rollout, is_first=is_first))
    piece = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
    steps = torch.arange(8)
    assert torch.equal(seen, (piece.unsqueeze(1) == piece) & (steps.unsqueeze(1) >= steps))


# The past computed again instead of kept


def evaluation_and_gradients(policy: RecurrentPolicy, rollout: Rollout) -> dict[str, Tensor]:
    """Return log-probabilities, values, final state and the gradients of their sum by name."""
    observations = rollout.inputs.observations.clone().requires_grad_()
    state = tree_map(lambda leaf: leaf.clone().requires_grad_(), rollout.initial_state)
    seen = replace(rollout, inputs=rollout.inputs._replace(observations=observations), initial_state=state)
    evaluation = seen.replay(policy)
    results = [evaluation.log_probs, evaluation.values, *tree_leaves(evaluation.state)]
    sources = {"observations": observations, **{f"state {k}": leaf for k, leaf in enumerate(tree_leaves(state))}}
    sources |= dict(policy.named_parameters())
    loss = torch.stack([result.square().sum() for result in results]).sum()
    grads = torch.autograd.grad(loss, list(sources.values()), allow_unused=True, materialize_grads=True)
    values = {f"result {k}": result.detach() for k, result in enumerate(results)}
    return values | {f"d {name}": grad for name, grad in zip(sources, grads, strict=True)}


@pytest.mark.parametrize(
    ("name", "horizon", "num_layers", "critic_memory"),
    covering(CELLS, [None, 1, 3, 4, 7], [1, 2], ["shared", "separate"]),
)
def test_recomputing_the_past_changes_no_value_and_no_gradient(
    name: str, horizon: int | None, num_layers: int, critic_memory: str
) -> None:
    """Alone, and with a horizon that is shorter, as long or longer than a segment of 4 steps."""
    policies = [
        make(
            cell=name,
            num_layers=num_layers,
            critic_memory=critic_memory,
            normalize_observations=True,
            scale_rewards=True,
            memory=MemoryConfig("lifelong", bptt_horizon=horizon, recompute=recompute),
        )
        for recompute in (False, True)
    ]
    rollout = play(policies[0])
    for policy in policies:
        policy.update_normalisers(rollout.inputs.observations, rollout.rewards, rollout.valid, rollout.rewards)
    expected, got = (evaluation_and_gradients(policy, rollout) for policy in policies)
    for key, value in got.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-10, atol=1e-10, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("horizon", [None, 3])
def test_recomputing_the_past_cuts_the_gradient_where_keeping_it_does(horizon: int | None) -> None:
    rollout = play(make(), num_steps=7)
    kept, recomputed = (
        value_dependence(make(memory=MemoryConfig("lifelong", bptt_horizon=horizon, recompute=recompute)), rollout)
        for recompute in (False, True)
    )
    assert torch.equal(kept, recomputed)


@pytest.mark.parametrize(("horizon", "segments"), [(None, [4, 4, 4]), (6, [4, 2, 4, 2])])
def test_the_encoder_is_recomputed_with_the_cell_and_only_where_there_is_a_gradient(
    monkeypatch: pytest.MonkeyPatch, horizon: int | None, segments: list[int]
) -> None:
    policy = make(memory=MemoryConfig("lifelong", bptt_horizon=horizon, recompute=True))
    rollout, encode = play(policy), policy.input_features
    lengths: list[int] = []

    def counted(encoder: Any, inputs: PolicyInputs, *rest: Any) -> Tensor:
        lengths.append(len(inputs.observations))
        return encode(encoder, inputs, *rest)

    monkeypatch.setattr(policy, "input_features", counted)
    policy.replay_state(rollout.inputs, rollout.is_first, rollout.initial_state)
    assert lengths == [12]
    lengths.clear()
    rollout.replay(policy).values.sum().backward()
    assert lengths[: len(segments)] == segments
    assert sorted(lengths[len(segments) :]) == sorted(segments)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_an_update_that_recomputes_the_past_gives_the_same_weights(name: str) -> None:
    weights, metrics = [], []
    for recompute in (False, True):
        policy = make(cell=name, memory=MemoryConfig("lifelong", recompute=recompute))
        rollout = play(policy)
        config = PPOConfig(num_steps=12, num_minibatches=2, update_epochs=2, learning_rate=1e-2)
        generator = torch.Generator().manual_seed(0)
        agent = PPO(policy, config, num_envs=4, total_steps=1000, generator=generator)
        before = [parameter.detach().clone() for parameter in policy.parameters()]
        metrics.append(agent.update(rollout))
        weights.append([parameter.detach() for parameter in policy.parameters()])
        assert all((old - new).abs().max() > 1e-3 for old, new in zip(before, weights[-1], strict=True))
    for kept, recomputed in zip(*weights, strict=True):
        torch.testing.assert_close(recomputed, kept, rtol=0, atol=1e-8)
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-7, abs=1e-9)


# Whole sequences


def test_selected_envs_are_whole_sequences_in_the_order_of_time() -> None:
    policy = make(spaces.Box(-99, 99, (2,)), critic_memory="separate")
    rollout = play(policy, 5, 6)
    tags = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(5.0), indexing="xy"), -1).double()  # (env, t)
    rollout = replace(rollout, inputs=rollout.inputs._replace(observations=tags))
    lanes = torch.tensor([4, 1, 5])
    selected = rollout.select(lanes)
    assert (selected.num_steps, selected.num_envs) == (5, 3)
    for column, env in enumerate(lanes.tolist()):
        assert selected.inputs.observations[:, column].tolist() == [[env, t] for t in range(5)]
    everything = rollout.replay(policy)
    torch.testing.assert_close(selected.replay(policy).values, everything.values[:, lanes], rtol=0, atol=1e-12)
    torch.testing.assert_close(selected.replay(policy).log_probs, everything.log_probs[:, lanes], rtol=0, atol=1e-12)
    for part, whole in zip(tree_leaves(selected.initial_state), tree_leaves(rollout.initial_state), strict=True):
        assert torch.equal(part, whole[lanes])
    replace(selected)  # It passes the checks of a rollout.


# Normalisers


@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
def test_normalisers_change_nothing_before_their_first_update(critic_memory: str) -> None:
    """But for the 1e-8 that keeps a variance from being 0."""
    bare = make(critic_memory=critic_memory)
    rollout = play(bare)
    policy = make(critic_memory=critic_memory, normalize_observations=True, scale_rewards=True)
    assert policy.lacks_statistics
    assert not bare.lacks_statistics
    for name in ("log_probs", "values"):
        one, other = (getattr(rollout.replay(each), name) for each in (policy, bare))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
def test_statistics_change_by_the_update_alone(critic_memory: str) -> None:
    policy = make(critic_memory=critic_memory, normalize_observations=True, scale_rewards=True)
    rollout = play(policy)
    policy.update_normalisers(rollout.inputs.observations, rollout.rewards, rollout.valid, rollout.rewards)
    assert not policy.lacks_statistics
    buffers = {key: value.clone() for key, value in policy.named_buffers()}
    policy.train()
    play(policy)
    rollout.replay(policy).values.sum().backward()
    policy.replay_state(rollout.inputs, rollout.is_first, rollout.initial_state)
    policy.step(*_one_step(policy))
    for key, value in policy.named_buffers():
        assert torch.equal(value, buffers[key]), key
    policy.update_normalisers(rollout.inputs.observations, rollout.rewards, rollout.valid, rollout.rewards)
    changed = [key for key, value in policy.named_buffers() if not torch.equal(value, buffers[key])]
    assert "return_moments.count" in changed
    assert "actor.encoder.moments.count" in changed
    assert ("critic.encoder.moments.count" in changed) == (critic_memory == "separate")


def test_statistics_are_those_of_the_valid_steps() -> None:
    policy = make(normalize_observations=True, scale_rewards=True, critic_memory="separate")
    rollout = play(policy)
    valid = torch.rand(12, 4, generator=torch.Generator().manual_seed(0)) < 0.7
    observations = rollout.inputs.observations.masked_fill(~valid.unsqueeze(-1), torch.nan)
    rollout = replace(rollout, valid=valid, inputs=rollout.inputs._replace(observations=observations))
    sums = (3 * rollout.rewards).masked_fill(~valid, torch.nan)
    policy.update_normalisers(rollout.inputs.observations, rollout.rewards, rollout.valid, sums)
    samples = observations[valid].numpy()
    for trunk in policy.trunks():
        np.testing.assert_allclose(trunk.encoder.moments.mean.numpy(), samples.mean(0), atol=1e-12)  # type: ignore[union-attr]
        np.testing.assert_allclose(trunk.encoder.moments.variance.numpy(), samples.var(0), atol=1e-12)  # type: ignore[union-attr]
    deviation = float(rollout.rewards[valid].std(correction=0))
    assert float(policy.return_scale) == pytest.approx(3 * deviation, abs=1e-6)
    assert float(policy.reward_scale) == pytest.approx(deviation, abs=1e-6)


def test_values_are_in_raw_units_of_the_reward() -> None:
    policy = make(scale_rewards=True, inputs=InputsConfig(False, False, False))
    rollout = play(policy)
    before = rollout.replay(policy).values
    policy.return_moments.update(torch.tensor([[-30.0], [30.0]]))  # type: ignore[union-attr]
    assert float(policy.return_scale) == pytest.approx(30)
    torch.testing.assert_close(rollout.replay(policy).values, before * 30, rtol=1e-6, atol=0)
    torch.testing.assert_close(play(policy).values, before * 30, rtol=1e-6, atol=0)


def test_observations_are_normalised_by_their_statistics() -> None:
    unscaled = InputsConfig(True, False, True)  # Previous rewards have statistics of their own.
    policy = make(normalize_observations=True, inputs=unscaled)
    rollout = play(policy)
    policy.update_normalisers(rollout.inputs.observations, rollout.rewards, rollout.valid, rollout.rewards)
    moments: Any = policy.actor.encoder.moments
    by_hand = (rollout.inputs.observations - moments.mean) / (moments.variance + 1e-8).sqrt()
    bare = make(inputs=unscaled)
    given = replace(rollout, inputs=rollout.inputs._replace(observations=by_hand))
    torch.testing.assert_close(rollout.replay(policy).values, given.replay(bare).values, rtol=0, atol=1e-9)


# Memories of actor and critic


@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
def test_the_values_alone_are_those_of_the_whole_evaluation(critic_memory: str) -> None:
    policy = make(critic_memory=critic_memory, scale_rewards=True)
    rollout = play(policy)
    assert torch.equal(
        policy.values(rollout.inputs, rollout.is_first, rollout.initial_state), rollout.replay(policy).values
    )


def test_a_separate_critic_shares_nothing_with_the_actor() -> None:
    policy = make(critic_memory="separate")
    rollout = play(policy)
    evaluation = rollout.replay(policy)
    assert len(rollout.initial_state) == 2
    names, parameters = zip(*policy.named_parameters(), strict=True)
    for loss, own in (
        (evaluation.values, ("critic.", "value_head.")),
        (evaluation.log_probs, ("actor.", "policy_head.")),
    ):
        grads = torch.autograd.grad(loss.sum(), parameters, allow_unused=True, retain_graph=True)
        reached = {name for name, grad in zip(names, grads, strict=True) if grad is not None}
        assert reached == {name for name in names if name.startswith(own)}


def test_with_a_shared_memory_both_heads_reach_it() -> None:
    policy = make()
    evaluation = play(policy).replay(policy)
    assert len(policy.init_state(2)) == 1
    for loss in (evaluation.values, evaluation.log_probs):
        (grad,) = torch.autograd.grad(loss.sum(), [policy.actor.cell.weight_hh], retain_graph=True)  # type: ignore[list-item]
        assert grad.any()


@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
def test_the_memories_of_a_policy_begin_with_the_time_scales_asked_for(critic_memory: str) -> None:
    config = {"memory_length": 64, "memory_init": "log_spaced", "critic_memory": critic_memory}
    expected = (2 ** torch.arange(1.0, 7.0) - 1).log().double()  # τ = 2, 4 .. 64
    for trunk in make(noise=0.0, **config).trunks():
        _, forget, *_ = trunk.cell.bias_ih.detach().chunk(4)  # type: ignore[union-attr, operator]
        torch.testing.assert_close(forget, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"memory_init": "log_spaced"}, "memory_init is 'log_spaced', but memory_length is not set"),
        (
            {"memory_init": "linear", "memory_length": 9},
            "memory_init is 'linear'; it must be one of chrono, log_spaced",
        ),
        ({"memory_length": 2}, "memory_length is 2; it must be at least 3 steps"),
    ],
    ids=str,
)
def test_time_scales_that_make_no_sense_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        PolicyConfig(**settings)


def test_heads_start_small_for_the_policy_and_at_1_for_the_value() -> None:
    policy = make(noise=0.0)
    last_policy: Any = policy.policy_head[-1]
    last_value: Any = policy.value_head[-1]
    gram = last_policy.weight @ last_policy.weight.t()
    torch.testing.assert_close(gram, 1e-4 * torch.eye(3).double(), rtol=0, atol=1e-9)
    assert float(last_value.weight.norm().detach()) == pytest.approx(1, abs=1e-6)


# Copies


def _trained(**config: Any) -> RecurrentPolicy:
    policy = make(normalize_observations=True, scale_rewards=True, critic_memory="separate", num_layers=2, **config)
    rollout = play(policy)
    policy.update_normalisers(rollout.inputs.observations, rollout.rewards, rollout.valid, rollout.rewards)
    return policy


def test_a_copy_acts_evaluates_and_draws_like_its_original() -> None:
    policy = _trained()
    other = copy.deepcopy(policy)
    one, another = play(policy), play(other)
    assert torch.equal(one.actions, another.actions)
    assert torch.equal(one.values, another.values)
    assert other.generator is not policy.generator
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    assert torch.equal(one.replay(policy).values, one.replay(copy.deepcopy(policy)).values)


def test_a_policy_is_all_in_its_state_dict() -> None:
    policy = _trained()
    rollout = play(policy)
    torch.manual_seed(99)
    other = RecurrentPolicy(VECTOR, DISCRETE, policy.config, policy.memory, policy.inputs).double()
    assert not torch.allclose(rollout.replay(other).values, rollout.values)
    other.load_state_dict(policy.state_dict())
    assert_replayed(other, rollout)


def test_a_policy_moved_to_single_precision_and_back_computes_nearly_the_same() -> None:
    policy = _trained()
    rollout = play(policy)
    statistics = policy.actor.encoder.moments.variance.clone()  # type: ignore[union-attr]
    single = copy.deepcopy(policy).float()
    assert single.dtype == torch.float32
    assert all(leaf.dtype == torch.float32 for leaf in tree_leaves(single.init_state(2)))
    assert torch.equal(single.actor.encoder.moments.variance, statistics)  # type: ignore[union-attr]
    fields = {field.name: getattr(rollout, field.name) for field in dataclasses.fields(rollout)}
    small = tree_map(lambda leaf: leaf.float() if leaf.is_floating_point() else leaf, fields)
    evaluation = Rollout(**small).replay(single)
    assert evaluation.values.dtype == torch.float32
    torch.testing.assert_close(evaluation.values.double(), rollout.values, rtol=0, atol=1e-4)
    torch.testing.assert_close(rollout.replay(single.double()).values, rollout.values, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
@pytest.mark.parametrize("name", CELLS)
def test_the_full_product_of_options_acts_as_it_evaluates(name: str, critic_memory: str) -> None:
    memory_lengths = [None, 30] if name in ("lstm", "gru") else [None]
    options = itertools.product([1, 2, 3], [(), (4,)], [(), (5,)], [False, True], memory_lengths, SEEN, ACTIONS)
    for num_layers, head, encoder, normalised, memory_length, inputs, actions in options:
        space, config = ACTIONS[actions]
        policy = make(
            action_space=space,
            inputs=inputs,
            cell=name,
            critic_memory=critic_memory,
            num_layers=num_layers,
            head_sizes=head,
            encoder_sizes=encoder,
            normalize_observations=normalised,
            scale_rewards=normalised,
            memory_length=memory_length,
            **config,
        )
        if normalised:
            rollout = play(policy, 3)
            policy.update_normalisers(rollout.inputs.observations, rollout.rewards, rollout.valid, rollout.rewards)
        assert_replayed(policy, play(policy, 5))


@pytest.mark.gpu
@pytest.mark.parametrize("name", CELLS)
def test_on_a_gpu_evaluating_gives_back_what_was_stored(name: str) -> None:
    """In float32 at initial weights, to 1e-5, with TensorFloat-32 off; acted on the CPU, evaluated on the GPU."""
    policy = make(cell=name, dtype=torch.float32, noise=0.0, num_layers=2)
    rollout = play(policy).to(torch.device("cuda"))
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        assert_replayed(policy.cuda(), rollout, 1e-5)


# Probe envs


PROBES: list[type[ProbeEnv]] = [
    ConstantValueEnv,
    ObservationValueEnv,
    DiscountEnv,
    ActionEnv,
    RecallEnv,
    ForgetEnv,
]


def episode(env: gym.Env[Any, Any], choose: Any, seed: int | None = None) -> tuple[list[Any], list[float]]:
    """Play an episode: all observations but the last one, and the rewards."""
    observation, _ = env.reset(seed=seed)
    seen, rewards, done = [], [], False
    while not done:
        seen.append(observation.tolist())
        observation, reward, terminated, truncated, _ = env.step(choose(seen))
        rewards.append(float(reward))
        done = terminated or truncated
    return seen, rewards


@pytest.mark.parametrize("probe", PROBES)
def test_every_probe_is_a_proper_env_that_a_policy_can_read(probe: type[ProbeEnv]) -> None:
    check_env(probe(), skip_render_check=True)
    policy = make(probe().observation_space, probe().action_space)
    assert_replayed(policy, play(policy))


def test_probes_without_memory_pay_what_they_say() -> None:
    constant, seen_value, discount, action = ConstantValueEnv(), ObservationValueEnv(), DiscountEnv(), ActionEnv()
    for seed in range(10):
        assert episode(constant, lambda _: 0, seed) == ([[0]], [1])
        seen, rewards = episode(seen_value, lambda _: 1, seed)
        assert seen == [rewards]
        assert abs(rewards[0]) == 1
        assert episode(discount, lambda _: 0, seed) == ([[0], [1]], [0, 1])
        assert episode(action, lambda _: 0, seed)[1] == [-1]
        assert episode(action, lambda _: 1, seed)[1] == [1]


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_a_recall_is_won_by_memory_and_by_nothing_else(num_steps: int) -> None:
    env = RecallEnv(num_steps)
    env.reset(seed=0)
    results: dict[str, list[float]] = {"memory": [], "always 1": []}
    for _ in range(200):
        seen, rewards = episode(env, lambda seen: int(seen[0][0] > 0))
        assert [question for _, question in seen] == [0] * num_steps + [1]
        assert abs(seen[0][0]) == 1
        assert all(cue == 0 for cue, _ in seen[1:])
        assert rewards[:-1] == [0] * num_steps
        results["memory"].append(sum(rewards))
        results["always 1"].append(sum(episode(env, lambda _: 1)[1]))
    assert results["memory"] == [1] * 200
    assert abs(sum(results["always 1"])) < 5 * math.sqrt(200)


def test_a_recall_needs_a_step_between() -> None:
    with pytest.raises(ValueError, match="num_steps is 0"):
        RecallEnv(0)


def test_the_forget_env_pays_the_sign_before_which_tells_nothing_about_the_one_seen() -> None:
    env = ForgetEnv()
    env.reset(seed=0)
    history = [(seen[0][0], rewards[0]) for seen, rewards in (episode(env, lambda _: 0) for _ in range(400))]
    signs, paid = (np.array(column) for column in zip(*history, strict=True))
    assert (paid[1:] == signs[:-1]).all()
    assert abs((paid * signs).sum()) < 5 * math.sqrt(400)
    assert abs(paid.sum()) < 5 * math.sqrt(400)
