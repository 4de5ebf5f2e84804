"""An exported policy acts as the loaded agent does, without torch, and refuses what that refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import rlstm.envs  # noqa: F401 - registers our envs.
from rlstm.api.loaded_agent import LoadedAgent
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.export.write import export_policy
from rlstm.runtime import OnnxPolicy
from rlstm.runtime.observations import read_masks, read_observations
from tests import kit
from tests.export import cases

FACTS = {"run": "mine", "checkpoint_step": 7, "deterministic": True}


@pytest.fixture(scope="module")
def env():
    with gym.make("rlstm/TMaze-v0", corridor_length=4) as env:
        yield env


@pytest.fixture(scope="module")
def agent(env):
    """A policy that sees the previous action and reward, and remembers over two episodes."""
    memory = MemoryConfig(lifetime="trial", episodes_per_trial=2)
    return LoadedAgent(
        kit.make_policy(env.observation_space, env.action_space, memory, dtype=kit.torch.float32, noise=1.0)
    )


@pytest.fixture(scope="module")
def folder(agent, tmp_path_factory):
    return export_policy(agent.policy, "onnx", tmp_path_factory.mktemp("exports") / "mine", FACTS).folder


@pytest.fixture
def policy(folder):
    return OnnxPolicy(folder, rng=np.random.default_rng(0))


def test_it_acts_as_the_loaded_agent_over_whole_trials(env, agent, policy):
    actions = []
    for trial in range(5):
        agent.reset()
        policy.reset()
        reward = 0.0
        for episode in range(2):
            observation, _ = env.reset(seed=10 * trial + episode)
            done, start = False, True
            while not done:
                mask = np.random.default_rng(len(actions)).random(4) < 0.7
                mask[len(actions) % 4] = True
                mask = mask if len(actions) % 2 else None
                action = policy.act(observation, reward, start, mask)
                assert type(action) is int
                assert action == agent.act(observation, reward, start, mask, deterministic=True)
                np.testing.assert_allclose(policy.state_dict()["state.actor.h"], agent._state[0].h, atol=1e-5)
                observation, reward, terminated, truncated, _ = env.step(action)
                done, start = terminated or truncated, False
                actions.append(action)
    assert len(actions) > 40
    assert len(set(actions)) > 2


def test_importing_and_acting_loads_no_torch_and_no_gymnasium(folder, policy):
    code = (
        "import sys; from rlstm.runtime import OnnxPolicy; import numpy as np\n"
        f"policy = OnnxPolicy({str(folder)!r})\n"
        "actions = [policy.act([0.0, 1.0, float(t % 2)], reward=t) for t in range(6)]\n"
        "print(actions, sorted({'torch', 'gymnasium', 'rlstm.core.trees'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    actions = [policy.act([0.0, 1.0, float(t % 2)], reward=t) for t in range(6)]
    assert process.stdout.strip() == f"{actions} []"


def test_a_batch_is_as_many_single_ones(folder, policy):
    singles = [OnnxPolicy(folder) for _ in range(3)]
    random = np.random.default_rng(1)
    for t in range(8):
        observations, rewards = random.random((3, 3)), random.normal(size=3)
        starts, resets = random.random(3) < 0.3, random.random(3) < 0.3
        for one, reset in zip(singles, resets, strict=True):
            if reset and t:
                one.reset()
        actions = policy.act_batch(observations, rewards, starts, resets=resets)
        for row, one in enumerate(singles):
            assert one.act(observations[row], rewards[row], starts[row]) == actions[row]
            assert one.value == pytest.approx(policy.value[row], abs=1e-5)
            np.testing.assert_allclose(one.action_probabilities, policy.action_probabilities[row], atol=1e-6)


def test_a_reward_that_is_missing_is_asked_for_but_at_first(policy):
    policy.act([0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="to see the reward of its action before, and none is given"):
        policy.act([0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="none is given"):
        policy.act_batch(np.zeros((1, 3)))
    policy.reset()
    policy.act([0.0, 1.0, 0.0])


def test_another_number_of_envs_needs_a_reset(policy):
    policy.act_batch(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="There are 2 observations, but the memory is of another number; call reset"):
        policy.act_batch(np.zeros((2, 3)), np.zeros(2))
    policy.reset()
    assert policy.act_batch(np.zeros((2, 3))).shape == (2,)
    for wrong in (np.zeros(3), 1.0, np.zeros((2, 4))):
        with pytest.raises(ValueError, match="The observation has shape"):
            policy.act_batch(wrong)
    with pytest.raises(ValueError, match=r"Rewards \(3,\) and episode starts \(2,\) must be \(2,\)"):
        policy.act_batch(np.zeros((2, 3)), rewards=np.zeros(3))


def test_sampled_actions_follow_the_probabilities(policy):
    actions = policy.act_batch(np.zeros((20_000, 3)), deterministic=False)
    shares = np.bincount(actions, minlength=4) / len(actions)
    np.testing.assert_allclose(shares, policy.action_probabilities[0], atol=0.015)
    assert (shares > 0.02).sum() > 1
    policy.reset()
    allowed = np.tile([False, True, True, False], (1000, 1))
    actions = policy.act_batch(np.zeros((1000, 3)), action_masks=allowed, deterministic=False)
    assert set(actions) == {1, 2}
    assert policy.action_probabilities[0][[0, 3]].tolist() == [0, 0]


def test_the_generator_decides_what_is_sampled(policy):
    drawn = []
    for seed in (1, 1, 2):
        policy.reset()
        drawn.append(policy.act_batch(np.zeros((50, 3)), deterministic=False, rng=np.random.default_rng(seed)).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_memory_can_be_kept_and_loaded(folder, policy):
    for t in range(3):
        policy.act([0.0, 1.0, t], reward=t)
    other = OnnxPolicy(folder)
    other.load_state_dict(policy.state_dict())
    for t in range(3):
        assert policy.act([1.0, 0.0, t], reward=t) == other.act([1.0, 0.0, t], reward=t)
        assert policy.value == other.value
    fresh = OnnxPolicy(folder)
    other.load_state_dict(fresh.state_dict())
    assert [other.act([0, 0, 0]), other.value] == [fresh.act([0, 0, 0]), fresh.value]
    with pytest.raises(ValueError, match="The memory is of another policy: it holds"):
        policy.load_state_dict({"state.actor.h": np.zeros((1, 5))})


def test_nothing_is_known_before_the_first_step(policy):
    with pytest.raises(ValueError, match="Nothing was seen since the reset"):
        policy.value  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0, np.nan, 0.0],), r"The observation holds nan in \[\[0.0, nan, 0.0\]\]: it must be finite"),
        (([0.0, 0.0],), r"The observation has shape \(2,\), its space \(3,\)"),
        (([0.0, 0.0, "x"],), "The observation has dtype <U32, its space float32"),
        (([[0.0], 0.0, 0.0],), "The observation is no array"),
        ((([0.0, 0.0, 0.0], {}),), "a pair, as reset returns it: give its first part"),
        (([0.0, 0.0, 0.0], np.inf), "The reward is inf; it must be a finite number"),
        (([0.0, 0.0, 0.0], 0.0, False, [1, 1]), r"The action mask has shape \(2,\); it must have 4 booleans"),
        (([0.0, 0.0, 0.0], 0.0, False, [0, 0, 0, 0]), "The action mask allows no action"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_the_memory(policy, arguments, message):
    policy.act([0.0, 1.0, 1.0])
    before = policy.state_dict()
    with pytest.raises(ValueError, match=message):
        policy.act(*arguments)
    kit.assert_trees_equal(policy.state_dict(), before)


def test_parts_of_an_observation_are_read_by_their_places():
    leaves = [
        {"name": "a", "path": ["pair", 0], "shape": [None, 2], "dtype": "float32"},
        {"name": "b", "path": ["pair", 1], "shape": [None], "dtype": "int64", "low": -1, "high": 1},
        {"name": "c", "path": ["bits"], "shape": [None, 2], "dtype": "int8"},
    ]
    observation = {"pair": ([1, 2.5], 1), "bits": np.array([1, 0]), "mission": "go", "action_mask": [1]}
    found = read_observations(observation, leaves, batched=False)
    assert {name: (array.tolist(), str(array.dtype)) for name, array in found.items()} == {
        "a": ([[1.0, 2.5]], "float32"),
        "b": ([1], "int64"),
        "c": ([[1, 0]], "int8"),
    }
    bad = {
        r"The observation\['pair'\]\[1\] is \[2\], but it must be from -1 to 1": {"pair": ([1, 2], 2)},
        r"The observation\['pair'\] must have a part 1, which is missing": {"pair": ([1, 2],)},
        r"The observation\['pair'\] must have a part 0, but it is 3": {"pair": 3},
        r"The observation\['bits'\] is \[\[300, 0\]\], but it must be from -128 to 127": {"bits": [300, 0]},
        r"The observation\['bits'\] has dtype float64": {"bits": [0.5, 0]},
        r"The observation has a part 'more', which the policy does not know": {"more": 1},
    }
    for message, change in bad.items():
        with pytest.raises(ValueError, match=message):
            read_observations({**observation, **change}, leaves, batched=False)


def test_masks_are_refused_where_actions_have_none():
    assert read_masks(None, None, 2) is None
    with pytest.raises(ValueError, match="can't be masked"):
        read_masks([True], None, 1)


def test_a_damaged_or_strange_folder_is_refused(folder, tmp_path):
    def copied(name):
        return Path(shutil.copytree(folder, tmp_path / name))

    damaged = copied("damaged") / "policy.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"policy.onnx is damaged: its checksum differs"):
        OnnxPolicy(damaged.parent)
    for name, change, message in (
        ("newer", {"format_version": 2}, "has format_version 2, but 1 is read here"),
        ("other", {"files": {"policy.pt2": ""}}, "holds policy.pt2, but no policy.onnx. Export with --format onnx"),
    ):
        path = copied(name) / "policy.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(ValueError, match=message):
            OnnxPolicy(path.parent)
    with pytest.raises(ValueError, match=r"is no exported policy: policy.json can't be read"):
        OnnxPolicy(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["dict_and_box", "choices", "bits", "start", "elapsed", "seconds", "squashed_box"])
def test_every_kind_of_space_acts_as_the_loaded_agent(case, tmp_path):
    agent = LoadedAgent(cases.make_policy(case))
    policy = OnnxPolicy(export_policy(agent.policy, "onnx", tmp_path / "mine", FACTS).folder)
    space = agent.policy.observation_space
    space.seed(0)
    for t in range(20):
        observation = space.sample()
        if isinstance(observation, dict) and "action_mask" in observation:
            observation["action_mask"] = np.array([t % 3 == 0, t % 3 < 2, t % 2 == 0 or t % 3 == 2], dtype=np.int8)
        theirs, mine = (one.act(observation, reward=t % 3) for one in (agent, policy))
        np.testing.assert_allclose(mine, theirs, atol=1e-5, rtol=1e-5)
        assert np.asarray(mine).dtype == np.asarray(theirs).dtype
    if case == "choices":
        assert [len(one) for one in policy.action_probabilities] == [2, 1, 4, 3]
        assert all(one.sum() == pytest.approx(1) for one in policy.action_probabilities)
    elif case == "bits":
        assert policy.action_probabilities.shape == (4,)
    elif "box" in case:
        with pytest.raises(ValueError, match="no probabilities"):
            policy.action_probabilities  # noqa: B018
