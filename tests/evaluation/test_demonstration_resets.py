"""Demonstrations recorded under trials, as teacher sequences of memories that live for an episode or a trial."""

import numpy as np
import pytest
from gymnasium import spaces

from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.evaluation.demonstrations import Demonstrations, describe_space
from rlstm.evaluation.teacher_sequences import teacher_sequences_from_demonstrations
from tests import kit

SPACE, ACTIONS = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3)
STARTS = np.array([[1, 0, 1, 0, 0], [1, 0, 0, 1, 0]], dtype=bool).T  # Two trials of two episodes each, (T, N).


@pytest.mark.parametrize("lifetime", ["episode", "trial"])
@pytest.mark.parametrize("washout", [0, 1, 9])
def test_a_memory_that_lives_for_an_episode_is_reset_within_a_recorded_trial(lifetime, washout):
    memory = MemoryConfig("trial", episodes_per_trial=2) if lifetime == "trial" else MemoryConfig()
    policy = kit.make_policy(SPACE, ACTIONS, memory=memory)
    recorded = Demonstrations(
        observations=np.zeros((5, 2, 2), dtype=np.float32),
        actions=np.ones((5, 2), dtype=np.int64),
        rewards=np.zeros((5, 2)),
        valid=np.ones((5, 2), dtype=bool),
        episode_starts=STARTS,
        successes=np.full(2, np.nan),
        observation_space=describe_space(SPACE),
        action_space=describe_space(ACTIONS),
    )
    sequences = teacher_sequences_from_demonstrations(policy, recorded, washout=washout)
    expected = STARTS.copy()
    if lifetime == "trial":
        expected[1:] = False
    assert sequences.is_first.tolist() == expected.tolist()
    asked = np.ones((5, 2))
    for step, row in zip(*np.nonzero(expected), strict=True):
        asked[step : step + washout, row] = 0
    assert sequences.weights.tolist() == asked.tolist()
