"""Genomes, and populations that act as their members would alone."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rlstm.api.envs import resolve_env
from rlstm.cells import CELLS as ALL_CELLS
from rlstm.core.errors import UnsupportedSpaceError
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.trees import tree_leaves
from rlstm.evolution.parameters import ParameterLayout
from rlstm.evolution.population import PopulationSnapshot, play_population
from rlstm.policies.config import PolicyConfig
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make

CELLS = [name for name, cell in ALL_CELLS.items() if not cell.reads_maps]  # Those that read vectors.

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
CHOICE = spaces.Discrete(4)
NUMBERS = spaces.Box(-1, 1, (2,), np.float32)
NETWORKS = {
    **{cell: {"cell": cell, "encoder_sizes": ()} for cell in CELLS},
    "stack": {"num_layers": 2, "encoder_sizes": (4,)},
    "residual stack": {"num_layers": 3, "residual": True, "layer_norm": True, "encoder_sizes": ()},
    "highway": {"highway": True, "encoder_sizes": (4, 4, 4)},
    "deep": {"encoder_sizes": (4, 3), "head_sizes": (6,), "critic_memory": "separate"},
}


def make_policy(observations=VECTOR, actions=CHOICE, memory=None, inputs=None, **network) -> RecurrentPolicy:
    config = PolicyConfig(**{"hidden_size": 5, **network})
    policy = RecurrentPolicy(observations, actions, config, memory or MemoryConfig(), inputs or InputsConfig()).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.normal_(std=0.6)
    return policy


def some_genomes(layout: ParameterLayout, count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.7 * torch.randn((count, layout.num_genes), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("readout", [True, False])
def test_a_genome_holds_what_acts_and_nothing_else(network, readout) -> None:
    policy = make_policy(**network)
    layout = ParameterLayout(policy, readout=readout)
    genome = some_genomes(layout, 1)[0]
    kept = {name: value.clone() for name, value in policy.named_parameters()}
    layout.write(policy, genome)
    assert torch.equal(layout.read(policy), genome)
    inside = {gene.name for gene in layout.genes}
    for name, value in policy.named_parameters():
        if name in inside:
            assert not torch.equal(value, kept[name])
        elif name.startswith("actor") and name.endswith("bias_hh"):
            assert not value.any()
        else:
            assert torch.equal(value, kept[name])
    assert any(name.startswith("policy_head") for name in inside) == readout
    assert not any(name.startswith(("critic", "value_head")) for name in inside)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_policys_own_genome_acts_as_the_policy(network) -> None:
    """Whatever it has learnt in parameters that are no genes."""
    policy = make_policy(**network)
    layout = ParameterLayout(policy)
    other = make_policy(**network)
    layout.write(other, layout.read(policy))
    state, own = policy.init_state(2), other.init_state(2)
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        inputs = PolicyInputs(torch.randn((2, 3), generator=generator, dtype=torch.float64))
        is_first = torch.tensor([step == 0, step == 0])
        _, state = policy.act(inputs, state, is_first, deterministic=True)
        _, own = other.act(inputs, own, is_first, deterministic=True)
        for one, two in zip(tree_leaves(state[0]), tree_leaves(own[0]), strict=True):
            assert torch.allclose(one, two, rtol=0, atol=1e-12)


def test_a_cell_has_the_genes_of_the_literature() -> None:
    """4 (X + H + 1) weights for each memory cell, and Y (H + 1) in the readout."""
    assert ParameterLayout(make_policy(encoder_sizes=()), readout=False).num_genes == 5 * 4 * (3 + 5 + 1)
    assert ParameterLayout(make_policy(encoder_sizes=())).num_genes == 5 * 4 * (3 + 5 + 1) + 4 * (5 + 1)


def test_a_group_is_all_that_enters_a_unit_and_leaves_it() -> None:
    policy = make_policy(encoder_sizes=(), hidden_size=2)
    layout = ParameterLayout(policy)
    groups = layout.groups(policy)
    split = layout.split(groups.unsqueeze(0))
    for unit in range(2):
        own = split["actor.cell.weight_ih"][0, unit, 0]
        for gate in range(4):
            for name in ("weight_ih", "weight_hh", "bias_ih"):
                assert (split[f"actor.cell.{name}"][0, 2 * gate + unit] == own).all()
        assert (split["policy_head.0.weight"][0, :, unit] == own).all()
    biases = split["policy_head.0.bias"][0]
    assert (biases == biases[0]).all()
    assert groups.unique().tolist() == [0, 1, 2]
    assert (groups == biases[0]).sum() == 4


def test_groups_of_deep_networks_follow_the_units() -> None:
    policy = make_policy(encoder_sizes=(4,), head_sizes=(6,), num_layers=2, hidden_size=3)
    layout = ParameterLayout(policy)
    groups = layout.groups(policy)
    assert groups.unique().tolist() == list(range(4 + 3 + 3 + 6 + 1))
    split = layout.split(groups.unsqueeze(0))
    hidden = split["policy_head.0.bias"][0]
    assert torch.equal(split["policy_head.2.weight"][0], hidden.expand(4, 6))
    top = split["actor.cell.layers.1.bias_ih"][0]
    assert torch.equal(top, top[:3].repeat(4))
    assert (split["actor.encoder.layers.0.weight"][0] == split["actor.encoder.layers.0.bias"][0].unsqueeze(1)).all()
    assert len(groups.unique()) == len(set(groups.tolist()))
    # Without the readout only the encoder and the memory are there.
    assert ParameterLayout(policy, readout=False).groups(policy).max() == 4 + 3 + 3 - 1


def test_a_block_of_cells_is_a_unit() -> None:
    """Two blocks of two cells: gates of the blocks, then the cells' inputs, 0 0 1 1."""
    policy = make_policy(cell="lstm_1997", cell_kwargs={"cells_per_block": 2}, encoder_sizes=(), hidden_size=4)
    layout = ParameterLayout(policy)
    groups = layout.groups(policy)
    split = layout.split(groups.unsqueeze(0))
    first, second = split["actor.cell.bias"][0, :2].tolist()
    assert first != second
    assert split["actor.cell.bias"][0].tolist() == [first, second, first, second, first, first, second, second]
    for name in ("weight_ih", "weight_hh"):
        assert (split[f"actor.cell.{name}"][0] == split["actor.cell.bias"][0].unsqueeze(1)).all()
    assert split["policy_head.0.weight"][0, 0].tolist() == [first, first, second, second]
    assert len(groups.unique()) == 3


def test_a_head_of_the_mlstm_is_a_unit() -> None:
    policy = make_policy(cell="mlstm", cell_kwargs={"num_heads": 2}, encoder_sizes=(), hidden_size=4)
    layout = ParameterLayout(policy)
    groups = layout.groups(policy)
    split = layout.split(groups.unsqueeze(0))
    one, two = split["actor.cell.norm_weight"][0, [0, 2]].tolist()
    assert split["actor.cell.norm_weight"][0].tolist() == [one, one, two, two]
    assert split["actor.cell.bias_ih"][0].tolist() == [one, one, two, two] * 4 + [one, two] * 2
    assert split["policy_head.0.weight"][0, 0].tolist() == [one, one, two, two]
    assert len(groups.unique()) == 3


def test_cells_without_units_are_refused_by_name() -> None:
    policy = make_policy(cell="xlstm", encoder_sizes=(), hidden_size=8)
    with pytest.raises(ValueError, match="The cell 'xlstm' has blocks of several layers, so no strategy"):
        ParameterLayout(policy).groups(policy)


def test_what_a_residual_layer_wraps_belongs_to_its_units() -> None:
    policy = make_policy(num_layers=2, residual=True, layer_norm=True, hidden_size=3, encoder_sizes=())
    groups = ParameterLayout(policy).groups(policy)
    assert groups.unique().tolist() == list(range(3 + 3 + 1))


@pytest.mark.parametrize(
    ("network", "actions"),
    [
        *(pytest.param(network, CHOICE, id=f"{name}, choice") for name, network in NETWORKS.items()),
        pytest.param(next(iter(NETWORKS.values())), NUMBERS, id="numbers"),
        *(
            pytest.param(network, NUMBERS, id=f"{name}, numbers", marks=pytest.mark.slow)
            for name, network in list(NETWORKS.items())[1:]
        ),
    ],
)
def test_each_member_acts_as_it_would_alone(network, actions) -> None:
    """Members differ, envs of a member differ, memory is reset in some envs: seven steps, actions and states."""
    policy = make_policy(actions=actions, inputs=InputsConfig(previous_action=True, previous_reward=True), **network)
    layout = ParameterLayout(policy)
    genomes, num_envs = some_genomes(layout, 3), 2
    together = PopulationSnapshot(policy, layout, genomes)
    state = together.init_state(3 * num_envs)
    alone = [make_policy(actions=actions, inputs=policy.inputs, **network) for _ in range(3)]
    for one, genome in zip(alone, genomes, strict=True):
        layout.write(one, genome)
    states = [one.init_state(num_envs) for one in alone]
    generator = torch.Generator().manual_seed(1)
    differ = 0
    previous = torch.zeros(
        6, *policy.distribution.action_shape, dtype=policy.distribution.action_dtype or torch.float64
    )
    with torch.inference_mode():
        for step in range(7):
            observations = torch.randn((6, 3), generator=generator, dtype=torch.float64)
            rewards = torch.randn(6, generator=generator, dtype=torch.float64)
            is_first = torch.tensor([step == 0 or env == step for env in range(6)])
            inputs = PolicyInputs(observations, previous, rewards)
            chosen, state = together.act(inputs, state, is_first, generator=None)
            for index, one in enumerate(alone):
                rows = slice(2 * index, 2 * index + 2)
                own = PolicyInputs(observations[rows], previous[rows], rewards[rows])
                expected, states[index] = one.act(own, states[index], is_first[rows], deterministic=True)
                assert torch.allclose(chosen[rows].double(), expected.double(), rtol=0, atol=1e-9)
            differ += int((chosen[0] != chosen[2]).any())
            previous = chosen
    assert differ


def test_a_sampled_action_is_drawn_from_the_members_own_distribution() -> None:
    policy = make_policy(actions=spaces.Discrete(2), cell="none", encoder_sizes=())
    layout = ParameterLayout(policy)
    genomes = torch.zeros(2, layout.num_genes, dtype=torch.float64)
    genomes[1, -1] = 30.0  # The bias of the second choice.
    snapshot = PopulationSnapshot(policy, layout, genomes)
    with torch.inference_mode():
        inputs, is_first = PolicyInputs(torch.zeros(400, 3, dtype=torch.float64)), torch.ones(400, dtype=torch.bool)
        actions, _ = snapshot.act(inputs, snapshot.init_state(400), is_first, generator=policy.generator)
    assert 70 < int(actions[:200].sum()) < 130
    assert int(actions[200:].sum()) == 200


def make_envs(env: str, count: int, memory: MemoryConfig | None = None, kind: str = "auto", **env_kwargs):
    config = EnvConfig(env=env, env_kwargs=env_kwargs, num_envs=count, vectorization=kind)
    return make(resolve_env(config), config, memory or MemoryConfig())


@pytest.mark.parametrize(
    ("env", "kind", "memory", "episodes"),
    [
        ("rlstm/CartPoleNoVel-v0", "native", MemoryConfig(), 1),
        ("rlstm/CartPoleNoVel-v0", "sync", MemoryConfig(), 2),
        ("rlstm/BernoulliBandit-v0", "native", MemoryConfig(lifetime="trial", episodes_per_trial=4), 8),
        ("rlstm/MinesweeperEasy-v0", "native", MemoryConfig(), 2),
    ],
)
def test_a_population_plays_as_each_of_its_members(env, kind, memory, episodes) -> None:
    seeds, population = [5, 6, 7], 6
    envs = make_envs(env, population * len(seeds), memory, kind)
    policy = make_policy(envs.observation_space, envs.action_space, memory)
    layout = ParameterLayout(policy)
    genomes = some_genomes(layout, population)
    together = play_population(policy, layout, genomes, envs, seeds=seeds, episodes=episodes)
    envs.close()
    assert together.returns.shape == (population * len(seeds) * episodes,)
    returns, lengths = (values.reshape(population, -1) for values in (together.returns, together.lengths))
    for index, genome in enumerate(genomes):
        alone_envs = make_envs(env, len(seeds), memory, kind)
        alone = play_population(policy, layout, genome[None], alone_envs, seeds=seeds, episodes=episodes)
        alone_envs.close()
        np.testing.assert_array_equal(returns[index], alone.returns)
        np.testing.assert_array_equal(lengths[index], alone.lengths)
    assert len(np.unique(lengths if "Bandit" not in env else returns)) > 1  # Some are through before others.


class MaskedEnv(gym.Env):
    """Allows two of three choices at a time, refuses the third, and ends after as many steps as the choices say."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(3)

    def _observe(self):
        mask = np.ones(3, dtype=np.int8)
        mask[self.t % 3] = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {"action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.left = 0, 30
        return self._observe()

    def step(self, action):
        if action == self.t % 3:
            raise ValueError("forbidden")
        self.t, self.left = self.t + 1, self.left - 1 - 3 * int(action)
        observation, info = self._observe()
        return observation, 1.0, self.left <= 0, False, info


def test_idle_envs_do_only_what_is_allowed(monkeypatch) -> None:
    monkeypatch.setitem(gym.registry, "tests/Masked-v0", EnvSpec("tests/Masked-v0", entry_point=MaskedEnv))
    envs = make_envs("tests/Masked-v0", 12)
    policy = make_policy(envs.observation_space, envs.action_space)
    layout = ParameterLayout(policy)
    result = play_population(policy, layout, some_genomes(layout, 12), envs, seeds=[3], episodes=2)
    envs.close()
    lengths = result.lengths.reshape(12, 2).sum(1)
    assert np.sort(lengths)[6] < lengths.max()  # Half were through while others went on.


def test_members_that_are_through_are_left_out(monkeypatch) -> None:
    envs = make_envs("rlstm/CartPoleNoVel-v0", 8)
    policy = make_policy(envs.observation_space, envs.action_space)
    layout = ParameterLayout(policy)
    sizes = []
    act = PopulationSnapshot.act
    monkeypatch.setattr(
        PopulationSnapshot,
        "act",
        lambda self, inputs, *rest, **kw: sizes.append(len(rest[1])) or act(self, inputs, *rest, **kw),
    )
    result = play_population(policy, layout, some_genomes(layout, 8), envs, seeds=[1])
    envs.close()
    assert sizes[0] == 8
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= 4
    assert len(sizes) == result.lengths.max()


def test_all_members_meet_the_same_episodes() -> None:
    envs = make_envs("rlstm/CartPoleNoVel-v0", 9)
    policy = make_policy(envs.observation_space, envs.action_space)
    layout = ParameterLayout(policy)
    genome = some_genomes(layout, 1)
    result = play_population(policy, layout, genome.expand(3, -1), envs, seeds=[1, 2, 3], episodes=2)
    envs.close()
    lengths = result.lengths.reshape(3, 6)
    assert (lengths == lengths[0]).all()
    assert len(np.unique(lengths[0])) > 1


def test_envs_may_have_seeds_of_their_own() -> None:
    envs = make_envs("rlstm/CartPoleNoVel-v0", 4)
    policy = make_policy(envs.observation_space, envs.action_space)
    layout = ParameterLayout(policy)
    genome = some_genomes(layout, 1).expand(2, -1)
    own = play_population(policy, layout, genome, envs, seeds=[1, 2, 3, 4], episodes=3)
    common = play_population(policy, layout, genome, envs, seeds=[1, 2], episodes=3)
    envs.close()
    assert own.returns[:6].tolist() == common.returns[:6].tolist() == common.returns[6:].tolist()
    assert own.returns[6:].tolist() != common.returns[6:].tolist()


def test_sampled_actions_are_drawn_from_the_generator_given() -> None:
    envs = make_envs("rlstm/CartPoleNoVel-v0", 4)
    policy = make_policy(envs.observation_space, envs.action_space)
    layout = ParameterLayout(policy)
    genomes = some_genomes(layout, 2)
    returns = []
    for seed in (0, 0, 1):
        drawn = torch.Generator().manual_seed(seed)
        result = play_population(policy, layout, genomes, envs, seeds=[1, 2], generator=drawn, episodes=1)
        returns.append(result.returns.tolist())
    before = policy.generator.get_state()
    returns.append(play_population(policy, layout, genomes, envs, seeds=[1, 2], episodes=1).returns.tolist())
    assert torch.equal(policy.generator.get_state(), before)
    envs.close()
    assert returns[0] == returns[1]
    assert returns[0] not in returns[2:]


def test_what_can_not_be_played_is_refused() -> None:
    memory = MemoryConfig(lifetime="trial", episodes_per_trial=4)
    envs = make_envs("rlstm/BernoulliBandit-v0", 4, memory)
    policy = make_policy(envs.observation_space, envs.action_space, memory)
    layout = ParameterLayout(policy)
    with pytest.raises(ValueError, match="3 policies under 2 seeds need 6 envs, not 4"):
        play_population(policy, layout, some_genomes(layout, 3), envs, seeds=[0, 1], episodes=4)
    with pytest.raises(ValueError, match="episodes is 6; it must be a multiple of 4"):
        play_population(policy, layout, some_genomes(layout, 2), envs, seeds=[0, 1], episodes=6)
    with pytest.raises(ValueError, match="episodes is 0; it must be at least 1"):
        play_population(policy, layout, some_genomes(layout, 2), envs, seeds=[0, 1], episodes=0)
    long = torch.zeros(2, layout.num_genes + 7)
    with pytest.raises(ValueError, match=rf"\(2, {long.shape[1]}\) were given; here one has {layout.num_genes} genes"):
        play_population(policy, layout, long, envs, seeds=[0, 1], episodes=4)
    with pytest.raises(ValueError, match="here one has"):
        layout.write(policy, long[0])
    silent = ParameterLayout(policy, readout=False)
    with pytest.raises(ValueError, match="without one they can't act"):
        play_population(policy, silent, some_genomes(silent, 2), envs, seeds=[0, 1], episodes=4)
    envs.close()
    picture = spaces.Dict({"image": spaces.Box(0, 255, (7, 7, 3), np.uint8), "direction": spaces.Discrete(4)})
    with pytest.raises(UnsupportedSpaceError, match="can't share an encoder with weights of its own"):
        ParameterLayout(make_policy(picture, gym.spaces.Discrete(2)))
