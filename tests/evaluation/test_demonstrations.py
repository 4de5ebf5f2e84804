"""Demonstrations as data and as a file: nothing is lost, nothing damaged or foreign is taken, nothing written over."""

import json
import pickle

import numpy as np
import pytest
import safetensors.numpy
from gymnasium import spaces

from rlstm.core.errors import DemonstrationsError
from rlstm.core.trees import tree_map
from rlstm.evaluation.demonstrations import Demonstrations, describe_space
from tests import kit

VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
OBSERVATIONS = {
    "vector": VECTOR,
    "image": spaces.Box(0, 255, (2, 4, 4), np.uint8),
    "float64": spaces.Box(-np.inf, np.inf, (), np.float64),
    "discrete": spaces.Discrete(5, start=2),
    "multi_discrete": spaces.MultiDiscrete([3, 2]),
    "multi_binary": spaces.MultiBinary((2, 2)),
    "dict": spaces.Dict({"b": VECTOR, "a/'x'": spaces.Dict({"c": spaces.Discrete(3)})}),
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.Dict({"x": VECTOR}), spaces.Tuple((VECTOR,)))),
}
ACTIONS = {
    "discrete": spaces.Discrete(3, start=-1),
    "box": spaces.Box(-1.0, 1.0, (1, 2), np.float64),
    "multi_discrete": spaces.MultiDiscrete([[2, 3], [4, 2]], dtype=np.int32),
    "multi_binary": spaces.MultiBinary(3),
}
LENGTHS = (3, 1, 4)


def made(observation_space=VECTOR, action_space=ACTIONS["discrete"], successes=(1.0, np.nan, 0.0)):
    """Three trajectories of random steps; the last has a second episode at its third step."""
    valid = np.arange(max(LENGTHS))[:, None] < np.array(LENGTHS)
    rng = np.random.default_rng(0)

    def column(*rows):
        return np.where(
            valid.reshape(*valid.shape, *[1] * (rows[0].ndim)), np.stack(rows).reshape(4, 3, *rows[0].shape), 0
        )

    def sampled(space):
        samples = [space.sample() for _ in range(12)]
        columns = tree_map(lambda *leaves: column(*(np.asarray(leaf) for leaf in leaves)), *samples)
        return tree_map(lambda leaf, sample: leaf.astype(np.asarray(sample).dtype), columns, samples[0])

    starts = np.zeros_like(valid)
    starts[0], starts[2, 2] = True, True
    return Demonstrations(
        sampled(observation_space),
        sampled(action_space),
        np.where(valid, rng.normal(size=valid.shape), 0.0),
        valid,
        starts,
        np.array(successes),
        describe_space(observation_space),
        describe_space(action_space, bounds=True),
        {"agent": "ppo", "step": 512, "env_spec": {"id": "My-v0", "kwargs": {"length": 3}}, "success_rate": None},
    )


def assert_same(left, right):
    for name in ("observations", "actions", "rewards", "valid", "episode_starts", "successes"):
        one, other = getattr(left, name), getattr(right, name)
        kit.assert_trees_equal(one, other)
        tree_map(lambda a, b: np.testing.assert_equal(a.dtype, b.dtype), one, other)
    shapes = (tree_map(np.shape, one.observations) for one in (left, right))
    assert next(shapes) == next(shapes)  # A list is no tuple.
    assert left.observation_space == right.observation_space
    assert left.action_space == right.action_space
    assert dict(left.metadata) == dict(right.metadata)


@pytest.mark.parametrize("observations", OBSERVATIONS)
@pytest.mark.parametrize("actions", ACTIONS)
def test_what_is_saved_comes_back_to_the_last_bit(tmp_path, observations, actions):
    demonstrations = made(OBSERVATIONS[observations], ACTIONS[actions])
    demonstrations.save(tmp_path / "file")
    loaded = Demonstrations.load(tmp_path / "file")
    assert_same(demonstrations, loaded)
    loaded.check_spaces(OBSERVATIONS[observations], ACTIONS[actions])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_arrays_that_are_views_of_others_are_saved_as_they_are(tmp_path):
    demonstrations = made()
    turned = Demonstrations(**{**vars(demonstrations), "rewards": np.asfortranarray(demonstrations.rewards)})
    turned.save(tmp_path / "file")
    assert_same(demonstrations, Demonstrations.load(tmp_path / "file"))


def test_the_header_can_be_read_by_other_programs(tmp_path):
    demonstrations = made()
    demonstrations.save(tmp_path / "file")
    with safetensors.safe_open(tmp_path / "file", "numpy") as file:
        header = file.metadata()
        np.testing.assert_array_equal(file.get_tensor("rewards"), demonstrations.rewards)
    assert json.loads(header["metadata"])["env_spec"]["id"] == "My-v0"
    assert json.loads(header["mean_return"]) == demonstrations.mean_return


def test_steps_episodes_and_returns_are_counted_over_the_trajectories():
    demonstrations = made()
    assert (demonstrations.num_trajectories, demonstrations.num_episodes, demonstrations.num_steps) == (3, 4, 8)
    assert demonstrations.lengths.tolist() == list(LENGTHS)
    assert demonstrations.mean_return == demonstrations.rewards[demonstrations.valid].sum() / 4


def test_only_successes_keeps_the_trajectories_that_end_in_one_and_their_length():
    demonstrations = made(OBSERVATIONS["dict"], successes=(1.0, 1.0, 0.0))
    kept = demonstrations.only_successes()
    assert kept.valid.shape == (3, 2)  # The longest trajectory has gone.
    assert kept.successes.tolist() == [1.0, 1.0]
    kit.assert_trees_equal(kept.observations, tree_map(lambda leaf: leaf[:3, :2], demonstrations.observations))
    np.testing.assert_array_equal(kept.actions, demonstrations.actions[:3, :2])
    np.testing.assert_array_equal(kept.rewards, demonstrations.rewards[:3, :2])


@pytest.mark.parametrize(
    ("successes", "complaint"),
    [((0.0, np.nan, 0.0), "none of the 3 trajectories"), ([np.nan] * 3, "says nothing of success")],
)
def test_where_nothing_succeeds_there_is_nothing_to_keep(successes, complaint):
    with pytest.raises(DemonstrationsError, match=complaint):
        made(successes=successes).only_successes()


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(DemonstrationsError, match=r"exists already\. Name another file with --output"):
        made().save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DemonstrationsError, match=r"there is no folder .*nowhere"):
        made().save(tmp_path / "nowhere" / "file")


# Files that are refused.


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "file"
    made().save(path)
    return path


def test_bytes_that_are_read_as_another_type_are_found(saved):
    content = saved.read_bytes()
    assert content.count(b'"F64"') > 0
    saved.write_bytes(content.replace(b'"F64"', b'"I64"'))
    with pytest.raises(DemonstrationsError, match="its checksum differs"):
        Demonstrations.load(saved)


@pytest.mark.parametrize("place", [0, 7, 8, 20, 300, -200, -1])
def test_a_changed_byte_is_found(saved, place):
    content = bytearray(saved.read_bytes())
    content[place] ^= 1
    saved.write_bytes(content)
    with pytest.raises(DemonstrationsError, match=str(saved)):
        Demonstrations.load(saved)


def test_every_text_of_the_header_is_under_the_checksum(saved):
    saved.write_bytes(saved.read_bytes().replace(b"My-v0", b"No-v0"))
    with pytest.raises(DemonstrationsError, match="checksum"):
        Demonstrations.load(saved)


@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_a_file_that_is_cut_off_is_refused(saved, left):
    saved.write_bytes(saved.read_bytes()[:left])
    with pytest.raises(DemonstrationsError, match=r"cut off.*Restore a copy, or record anew"):
        Demonstrations.load(saved)


def test_a_pickle_is_not_executed(saved):
    class Harmful:
        def __reduce__(self):
            return (pytest.fail, ("it was executed",))

    saved.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(DemonstrationsError, match="no safetensors file"):
        Demonstrations.load(saved)


@pytest.mark.parametrize("header", [None, {"format": "pt"}])
def test_another_safetensors_file_is_no_demonstration(saved, header):
    saved.write_bytes(safetensors.numpy.save({"weight": np.zeros(3)}, header))
    with pytest.raises(DemonstrationsError, match=r"holds no demonstrations\. Give a file written by 'rlstm record'"):
        Demonstrations.load(saved)


def test_a_file_of_another_version_says_which(saved):
    header = {"format": "rlstm demonstrations", "format_version": "2", "rlstm_version": '"9.0"'}
    saved.write_bytes(safetensors.numpy.save({"weight": np.zeros(3)}, header))
    with pytest.raises(DemonstrationsError, match=r"format_version 2 \(written by rlstm \"9.0\"\).* reads 1"):
        Demonstrations.load(saved)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DemonstrationsError, match=f"{path} can't be read"):
            Demonstrations.load(path)


# Envs that are refused.


@pytest.mark.parametrize(
    ("observations", "actions", "complaint"),
    [
        (
            {"b": spaces.Box(-1, 1, (4,), np.float32)},
            None,
            r"observations\['b'\] are of Box\(\(3,\), float32\), .*\(4,\)",
        ),
        ({"b": spaces.Box(-1, 1, (3,), np.float64)}, None, r"observations\['b'\] .* Box\(\(3,\), float64\)"),
        ({"b": spaces.Discrete(2)}, None, r"observations\['b'\] .* of Discrete\(2\)"),
        ({"z": VECTOR}, None, r"observations are of a Dict with b, t, those of this env of a Dict with b, t, z"),
        ({"t": spaces.Tuple((VECTOR,))}, None, r"observations\['t'\] are of a Tuple of 2, .* of a Tuple of 1"),
        ({"t": spaces.Tuple((VECTOR, spaces.Discrete(4)))}, None, r"observations\['t'\]\[1\] .*Discrete\(3\).*\(4\)"),
        ({}, spaces.Discrete(3), r"actions are of Discrete\(3, start=-1\), those of this env of Discrete\(3\)"),
        ({}, spaces.Box(-2, 2, (1, 2), np.float64), r"actions are of Discrete"),
    ],
)
def test_the_first_difference_from_another_env_is_named(observations, actions, complaint):
    space = {"b": VECTOR, "t": spaces.Tuple((VECTOR, spaces.Discrete(3)))}
    demonstrations = made(spaces.Dict(space))
    with pytest.raises(DemonstrationsError, match=complaint):
        demonstrations.check_spaces(spaces.Dict({**space, **observations}), actions or ACTIONS["discrete"])


def test_bounds_matter_for_actions_and_not_for_observations():
    demonstrations = made(VECTOR, ACTIONS["box"])
    demonstrations.check_spaces(spaces.Box(-7, 9, (3,), np.float32), ACTIONS["box"])
    with pytest.raises(DemonstrationsError, match=r"actions are of Box\(-1.0, 1.0, .*of Box\(-2.0, 2.0"):
        demonstrations.check_spaces(VECTOR, spaces.Box(-2, 2, (1, 2), np.float64))


# Arrays that are refused.


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rewards": np.zeros((4, 2))}, r"the same \(T, N\), not with \[\(4, 2\), \(4, 3\)\]"),
        ({"observations": {"x": np.zeros((5, 3, 1))}}, r"the same \(T, N\)"),
        ({"successes": np.zeros(2)}, r"successes has shape \(2,\); it must be \(3,\)"),
        ({"valid": np.array([[1, 1, 1], [1, 0, 0], [1, 0, 1], [0, 0, 1]], dtype=bool)}, "without a gap"),
        ({"valid": np.zeros((4, 3), dtype=bool)}, "without a gap"),
        ({"episode_starts": np.zeros((4, 3), dtype=bool)}, "must begin with an episode"),
        ({"episode_starts": np.ones((4, 3), dtype=bool)}, "no episode begins past its end"),
    ],
)
def test_what_is_no_demonstration_is_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        Demonstrations(**{**vars(made()), **change})


def test_a_description_of_a_space_is_json():
    for space in (*OBSERVATIONS.values(), *ACTIONS.values()):
        described = describe_space(space, bounds=True)
        assert json.loads(json.dumps(described)) == described
