"""Where the boundaries of memory and of credit are reached."""

import numpy as np

from rlstm.rollouts.play import crosses


def test_each_boundary_is_crossed_where_it_lies():
    episode_ends = np.array([False, True, True, False])
    trial_ends = np.array([False, False, True, False])
    assert crosses("episode", episode_ends, trial_ends).tolist() == [False, True, True, False]
    assert crosses("trial", episode_ends, trial_ends).tolist() == [False, False, True, False]
    assert crosses("lifelong", episode_ends, trial_ends).tolist() == [False] * 4
