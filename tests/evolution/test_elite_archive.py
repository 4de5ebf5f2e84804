"""The elite archive: what is kept, what a trajectory weighs, and that it survives a checkpoint."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.plain_data import decode, encode
from rlstm.core.trees import tree_leaves
from rlstm.evaluation.demonstrations import Demonstrations, describe_space
from rlstm.evolution.elite_archive import LEAST_WEIGHT, EliteArchive
from rlstm.policies.config import PolicyConfig
from rlstm.policies.policy import InputsConfig, RecurrentPolicy

SEEN = spaces.Dict({"b": spaces.Box(-1.0, 1.0, (2,), np.float32), "a": spaces.Tuple((spaces.Discrete(4),))})
DONE = spaces.Discrete(3)


def played(*returns: float, lengths: tuple[int, ...] | None = None, mark: int = 0) -> Demonstrations:
    """Trajectories that get all of their return at their last step; the mark is their first action."""
    lengths = (2,) * len(returns) if lengths is None else lengths
    steps, count = max(lengths), len(returns)
    valid = np.arange(steps)[:, None] < lengths
    rewards = np.zeros((steps, count))
    rewards[np.array(lengths) - 1, np.arange(count)] = returns
    actions = np.where(valid, 2, 0)
    actions[0] = mark
    starts = np.zeros_like(valid)
    starts[0] = True
    observations = {
        "b": (valid[..., None] * np.array([0.5, mark])).astype(np.float32),
        "a": (np.where(valid, 3, 0),),
    }
    spaces_of = describe_space(SEEN), describe_space(DONE, bounds=True)
    return Demonstrations(observations, actions, rewards, valid, starts, np.full(count, np.nan), *spaces_of)


def test_the_best_are_kept_best_first_and_of_equals_the_first_ones() -> None:
    elites = EliteArchive(3)
    elites.offer(played(1.0, 5.0, 2.0, 0.0, mark=0))
    assert elites.returns.tolist() == [5.0, 2.0, 1.0]
    elites.offer(played(1.0, 2.0, -3.0, mark=1))
    assert elites.returns.tolist() == [5.0, 2.0, 2.0]
    assert elites.trajectories is not None
    assert elites.trajectories.actions[0].tolist() == [0, 0, 1]
    elites.offer(played(2.0, 2.0, mark=2))
    assert elites.trajectories.actions[0].tolist() == [0, 0, 1]


def test_trajectories_of_different_lengths_stand_side_by_side() -> None:
    elites = EliteArchive(3)
    elites.offer(played(1.0, 2.0, lengths=(1, 2), mark=1))
    elites.offer(played(3.0, 0.0, lengths=(4, 9), mark=2))
    kept = elites.trajectories
    assert kept is not None
    assert kept.lengths.tolist() == [4, 2, 1]
    assert kept.valid.shape == (4, 3)  # No longer than the longest that is kept.
    assert kept.actions.T.tolist() == [[2, 2, 2, 2], [1, 2, 0, 0], [1, 0, 0, 0]]
    assert kept.observations["a"][0].T.tolist() == [[3, 3, 3, 3], [3, 3, 0, 0], [3, 0, 0, 0]]
    assert kept.observations["b"].dtype == np.float32
    assert kept.observations["b"][0].tolist() == [[0.5, 2.0], [0.5, 1.0], [0.5, 1.0]]


def test_a_return_is_the_same_to_the_last_bit_whatever_stands_beside_it() -> None:
    rewards = np.random.default_rng(0).normal(size=(300, 4))
    one = played(*[0.0] * 4, lengths=(300, 200, 100, 50))
    one = dataclasses.replace(one, rewards=rewards * one.valid)
    for other in (
        dataclasses.replace(one, rewards=np.asfortranarray(one.rewards)),
        one.joined(played(0.0, lengths=(700,))),
        played(0.0).joined(one).select(np.array([1, 2, 3, 4])),
    ):
        assert other.returns[:4].tolist() == one.returns.tolist()
    assert [float(one.select(np.array([row])).returns[0]) for row in range(4)] == one.returns.tolist()


def test_weights_are_relative_whatever_scale_and_offset_rewards_have() -> None:
    weights = []
    for scale, offset in ((1.0, 0.0), (1000.0, 0.0), (1.0, -7.0), (0.01, 3.0)):
        elites = EliteArchive(4)
        elites.offer(played(*(scale * value + offset for value in (0.0, 1.0, 3.0, 4.0))))
        weights.append(elites.weights)
    assert weights[0].tolist() == [1.0, 0.75, 0.25, LEAST_WEIGHT]
    for others in weights[1:]:
        assert others == pytest.approx(weights[0])


@pytest.mark.parametrize("returns", [(2.0, 2.0, 2.0), (-1.0,)])
def test_equals_weigh_the_same(returns: tuple[float, ...]) -> None:
    elites = EliteArchive(5)
    elites.offer(played(*returns))
    assert elites.weights.tolist() == [1.0] * len(returns)


def test_teacher_sequences_ask_for_what_was_done_by_its_weight() -> None:
    policy = RecurrentPolicy(
        SEEN, DONE, PolicyConfig(hidden_size=3), MemoryConfig(), InputsConfig(), generator=torch.Generator()
    )
    elites = EliteArchive(3)
    with pytest.raises(ValueError, match="no elite episodes yet"):
        elites.teacher_sequences(policy, washout=0)
    elites.offer(played(0.0, 4.0, 1.0, lengths=(3, 2, 1), mark=1))
    sequences = elites.teacher_sequences(policy, washout=0)
    assert sequences.weights.T.tolist() == [[1.0, 1.0, 0.0], [0.25, 0.0, 0.0], [LEAST_WEIGHT] * 3]
    assert sequences.targets[:2, 0].tolist() == [[-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    assert elites.teacher_sequences(policy, washout=1).weights[:, 0].tolist() == [0.0, 1.0, 0.0]


def test_what_is_kept_survives_a_checkpoint() -> None:
    elites = EliteArchive(3)
    for state in ({"lives": None}, elites.state_dict()):
        elites.load_state_dict(decode(encode(state, "")))
        assert elites.trajectories is None
    elites.offer(played(1.0, 2.0, lengths=(1, 2), mark=1))
    file = io.BytesIO()
    torch.save(encode(elites.state_dict(), "elites"), file)
    file.seek(0)
    again = EliteArchive(3)
    again.load_state_dict(decode(torch.load(file, weights_only=True)))
    for one in (elites, again):
        one.offer(played(1.5, 0.0, mark=2))
    found, expected = (tree_leaves(one.state_dict()) for one in (again, elites))
    assert len(found) == len(expected)
    for leaf, other in zip(found, expected, strict=True):
        assert np.array_equal(leaf, other, equal_nan=isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f")
