"""What a loaded agent makes of an observation of a user's own program: read, held or refused, memory unchanged."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlstm.api.loaded_agent import LoadedAgent
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.policies.inputs import PolicyInputs
from tests import kit

NUMBERS = spaces.Box(-1, 1, (2,), np.float32)
HEATER = spaces.Box(200, 1000, (1,), np.float32)


def make_agent(observation_space=NUMBERS, action_space=None, **options):
    config = {"normalize_observations": False}
    return LoadedAgent(kit.make_policy(observation_space, action_space or spaces.Discrete(4), **config), **options)


def memory(agent):
    return tree_map(torch.clone, agent._state)


def same(one, other):
    return all(map(torch.equal, tree_leaves(one), tree_leaves(other)))


def test_lists_float64_and_values_beyond_the_bounds_are_read_alike():
    states = []
    for observation in ([0.5, 3.0], np.array([0.5, 3.0]), np.array([0.5, 3.0], dtype=np.float32), (0.5, 3.0)):
        agent = make_agent()
        agent.act(observation)
        states.append(memory(agent))
    assert all(same(states[0], other) for other in states[1:])


def test_a_mask_of_the_observation_and_one_that_is_given_both_hold():
    space = spaces.Dict({"x": NUMBERS, "action_mask": spaces.MultiBinary(4)})
    agent = make_agent(space)
    seen = {"x": [0.1, 0.2], "action_mask": [1, 0, 1, 0]}
    for _ in range(5):
        assert agent.act(seen, action_mask=[0, 1, 1, 1], deterministic=False) == 2
    with pytest.raises(ValueError, match="allows no action"):
        agent.act(seen, action_mask=[0, 1, 0, 1])


def test_what_reset_returns_is_told_apart_from_an_observation():
    with pytest.raises(ValueError, match="a pair, as reset returns it: give its first part"):
        make_agent().act((np.zeros(2, dtype=np.float32), {}))


def test_parts_of_dicts_and_tuples_may_be_lists_and_numbers():
    space = spaces.Dict({"pair": spaces.Tuple((NUMBERS, spaces.Discrete(3))), "bits": spaces.MultiBinary(2)})
    states = []
    for observation in (
        {"pair": ([0.5, 3.0], 2), "bits": [1, 0]},
        {"pair": (np.float64([0.5, 3.0]), np.int64(2)), "bits": np.int8([1, 0])},
    ):
        agent = make_agent(space)
        agent.act(observation)
        states.append(memory(agent))
    assert same(*states)
    with pytest.raises(ValueError, match=r"'bits' is missing"):
        agent.act({"pair": ([0.5, 3.0], 2)})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_leaves_the_memory(bad):
    agent, other = make_agent(), make_agent()
    for one in (agent, other):
        one.act([0.1, 0.2])
    before = memory(agent)
    with pytest.raises(ValueError, match=r"The observation holds (nan|inf|-inf) in .*nan='hold'"):
        agent.act([bad, 0.2])
    with pytest.raises(ValueError, match="The reward is"):
        agent.act([0.1, 0.2], reward=bad)
    assert same(before, agent._state)
    assert agent.act([0.3, 0.4]) == other.act([0.3, 0.4])
    assert same(agent._state, other._state)


def test_what_is_not_finite_in_a_part_is_named_by_its_key():
    agent = make_agent(spaces.Dict({"pair": spaces.Tuple((NUMBERS, spaces.Discrete(3)))}))
    with pytest.raises(ValueError, match=r"The observation\['pair'\]\[0\] holds nan in \[nan, 1.0\]"):
        agent.act({"pair": ([np.nan, 1.0], 1)})
    held, other = make_agent(agent.policy.observation_space, nan="hold"), make_agent(agent.policy.observation_space)
    for given, meant in (([0.5, 1.0], [0.5, 1.0]), ([np.nan, 0.2], [0.5, 0.2])):
        held.act({"pair": (given, 1)})
        other.act({"pair": (meant, 1)})
    assert same(held._state, other._state)


def test_a_held_number_is_the_last_good_one():
    agent, other = make_agent(nan="hold"), make_agent()
    for given, meant in [([0.1, 0.2], [0.1, 0.2]), ([np.nan, 0.3], [0.1, 0.3]), ([0.5, np.inf], [0.5, 0.3])]:
        agent.act(given)
        other.act(meant)
        assert same(agent._state, other._state)


def test_at_first_a_held_number_is_what_it_was_in_the_mean_in_training():
    policies = [kit.make_policy(NUMBERS, spaces.Discrete(4), normalize_observations=True) for _ in range(2)]
    for policy in policies:
        policy.actor.encoder.moments.update(torch.tensor([[0.5, 0.1], [0.7, 0.3]]).double())
    agent, other = LoadedAgent(policies[0], nan="hold"), LoadedAgent(policies[1])
    for _ in range(2):
        agent.reset()
        other.reset()
        agent.act([np.nan, 0.3])
        other.act([0.6, 0.3])
        for one, meant in zip(tree_leaves(agent._state), tree_leaves(other._state), strict=True):
            torch.testing.assert_close(one, meant, rtol=0, atol=1e-6)


def test_an_observation_that_is_written_to_later_is_held_as_it_was():
    agent, other, shown = make_agent(nan="hold"), make_agent(), np.array([0.1, 0.2])
    agent.act(shown)
    shown[:] = np.nan
    agent.act(shown)
    for _ in range(2):
        other.act([0.1, 0.2])
    assert same(agent._state, other._state)


def test_another_word_for_nan_is_refused():
    with pytest.raises(ValueError, match="nan is 'ignore'; it must be one of refuse, hold"):
        make_agent(nan="ignore")


@pytest.mark.parametrize("mask", [[True] * 3, [[True] * 5]])
def test_a_mask_of_another_size_is_refused(mask):
    with pytest.raises(ValueError, match="it must have 4 booleans"):
        make_agent().act([0.1, 0.2], action_mask=mask)


def test_a_mask_that_allows_nothing_is_refused():
    with pytest.raises(ValueError, match="The action mask allows no action"):
        make_agent().act([0.1, 0.2], action_mask=[False] * 4)


def test_a_mask_where_no_action_can_be_masked_is_refused():
    with pytest.raises(ValueError, match="can't be masked"):
        make_agent(action_space=spaces.MultiBinary(4)).act([0.1, 0.2], action_mask=[True] * 4)


def test_actions_are_in_the_units_of_the_env():
    agent = make_agent(action_space=HEATER)
    actions = np.array([agent.act([0.1, 0.2], deterministic=False) for _ in range(300)])
    assert HEATER.contains(actions[0])
    assert (abs(actions.mean() - 600) < 150) & (actions.std() > 200)


# What it thinks, several envs, and going on after a restart

MIXED = spaces.Dict({"x": NUMBERS, "n": spaces.Discrete(3, start=-1), "bits": spaces.MultiBinary(2)})


def mixed(seed, count):
    space = spaces.Dict(MIXED.spaces)
    space.seed(seed)
    return [space.sample() for _ in range(count)]


def stacked(observations):
    return tree_map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *observations)


def make_mixed(memory=None):
    torch.manual_seed(0)
    config = {"normalize_observations": False, "critic_memory": "separate", "num_layers": 2}
    return kit.make_policy(MIXED, spaces.Discrete(4), memory=memory or MemoryConfig("lifelong"), **config)


@pytest.mark.parametrize("lifetime", ["episode", "lifelong"])
def test_several_envs_act_as_each_would_alone(lifetime):
    memory = MemoryConfig(lifetime)
    agents = [LoadedAgent(make_mixed(memory)) for _ in range(3)]
    batch = LoadedAgent(make_mixed(memory), num_envs=3)
    for step in range(6):
        begins = np.array([step == 0, step in (0, 2), step in (0, 4)])
        rewards = np.arange(3.0) + step
        seen = mixed(step, 3)
        masks = np.array([[True] * 4, [False, True, True, True], [True, step % 2 == 0, True, False]])
        batch.reset(begins)
        actions = batch.act(stacked(seen), rewards, begins, masks)
        assert actions.shape == (3,)
        for row, agent in enumerate(agents):
            if begins[row]:
                agent.reset()
            assert agent.act(seen[row], rewards[row], bool(begins[row]), masks[row]) == actions[row]
            assert agent.value == pytest.approx(batch.value[row], abs=1e-6)
            np.testing.assert_allclose(agent.action_probabilities, batch.action_probabilities[row], atol=1e-6)
            for name, held in agent.memory.items():
                np.testing.assert_allclose(held, batch.memory[name][row], atol=1e-6)


def test_value_and_probabilities_are_those_of_the_policy():
    policy = make_mixed()
    agent = LoadedAgent(policy)
    with pytest.raises(ValueError, match="act on an observation first"):
        _ = agent.value
    (seen,) = mixed(0, 1)
    mask = np.array([True, False, True, True])
    agent.act(seen, action_mask=mask)
    inputs = PolicyInputs(
        tree_map(lambda leaf: torch.as_tensor(np.asarray(leaf))[None], seen),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1),
        torch.ones(1, dtype=torch.bool),
        torch.as_tensor(mask)[None],
    )
    first = torch.ones(1, 1, dtype=torch.bool)
    sequence = tree_map(lambda leaf: leaf[None], inputs)
    for action, probability in enumerate(agent.action_probabilities):
        result = policy.evaluate(sequence, torch.full((1, 1), action), first, policy.init_state(1))
        assert probability == pytest.approx(float(result.log_probs.detach().exp()), abs=1e-6)
        assert agent.value == pytest.approx(float(result.values.detach()), abs=1e-5)
    assert agent.action_probabilities[1] == 0
    assert sorted(agent.memory) == sorted(
        f"{place}layer{layer}.{leaf}" for place in ("", "critic.") for layer in (0, 1) for leaf in "hc"
    )


@pytest.mark.parametrize(
    ("space", "shapes"),
    [(spaces.MultiDiscrete([2, 3]), [(2,), (3,)]), (spaces.MultiBinary(3), (3,)), (HEATER, None)],
)
def test_probabilities_have_the_shape_of_the_choices(space, shapes):
    agent = make_agent(action_space=space)
    agent.act([0.1, 0.2])
    found = agent.action_probabilities
    if isinstance(found, list):
        assert [one.shape for one in found] == shapes
    else:
        assert (None if found is None else found.shape) == shapes


@pytest.mark.parametrize("num_envs", [None, 2])
def test_a_program_that_begins_anew_goes_on_in_the_middle_of_an_episode(tmp_path, num_envs):
    def play(agent, steps):
        seen = [mixed(step, num_envs or 1) for step in steps]
        seen = [stacked(one) if num_envs else one[0] for one in seen]
        return [np.asarray(agent.act(one, 0.5, deterministic=False)).tolist() for one in seen]

    agent = LoadedAgent(make_mixed(), num_envs=num_envs)
    play(agent, range(4))
    torch.save(agent.state_dict(), tmp_path / "state.pt")
    value, memory_before = agent.value, agent.memory
    expected = play(agent, range(4, 12))
    other = LoadedAgent(make_mixed(), num_envs=num_envs)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert np.array_equal(other.value, value)
    assert all(np.array_equal(held, memory_before[name]) for name, held in other.memory.items())
    assert play(other, range(4, 12)) == expected
    assert all(np.array_equal(held, agent.memory[name]) for name, held in other.memory.items())


def test_the_state_of_another_agent_is_refused():
    with pytest.raises(ValueError, match="The state is of a memory"):
        make_agent().load_state_dict(LoadedAgent(make_mixed()).state_dict())
    with pytest.raises(ValueError, match="num_envs is 0"):
        make_agent(num_envs=0)
    with pytest.raises(ValueError, match="envs is True; it must be booleans"):
        make_agent(num_envs=2).reset(True)
    with pytest.raises(ValueError, match="reward has shape"):
        make_agent(num_envs=2).act(np.zeros((2, 2)), np.zeros(3))
