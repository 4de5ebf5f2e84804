"""The account of episodes against sums by hand, and its state."""

import numpy as np
import pytest

from rlstm.rollouts.statistics import EpisodeStatistics


def add(statistics, rewards, finished=(), successes=None, trial_ends=()):
    count = len(statistics.returns)
    ends = np.zeros(count, dtype=bool)
    ends[list(trial_ends)] = True
    values = np.full(len(finished), np.nan) if successes is None else np.array(successes, dtype=np.float64)
    statistics.add(np.array(rewards, dtype=np.float64), np.array(finished, dtype=np.intp), values, ends)
    statistics.settle()


def story(statistics):
    """Two lanes; lane 0 ends after steps 1 and 3 (its trial after 3), lane 1 after step 2."""
    add(statistics, [1, 10])
    add(statistics, [2, 20], finished=[0], successes=[1])
    add(statistics, [4, 40], finished=[1], successes=[np.nan], trial_ends=[1])
    add(statistics, [8, 80], finished=[0], successes=[0], trial_ends=[0])


def test_returns_lengths_successes_and_trials_are_those_added_up_by_hand():
    statistics = EpisodeStatistics(2)
    story(statistics)
    assert {name: list(values) for name, values in statistics.finished.items()} == {
        "returns": [3, 70, 12],
        "lengths": [2, 3, 2],
        "successes": [1, 0],  # Lane 1 doesn't say.
        "trial_returns": [70, 15],
    }
    assert statistics.num_episodes == 3
    assert statistics.metrics(trials=True) == {
        "rollout/ep_rew_mean": 85 / 3,
        "rollout/ep_len_mean": 7 / 3,
        "rollout/success_rate": 0.5,
        "rollout/episodes": 3.0,
        "rollout/ep_rew_mean_of_all": 85 / 3,
        "rollout/trial_rew_mean": 42.5,
    }
    assert "rollout/trial_rew_mean" not in statistics.metrics(trials=False)
    assert statistics.returns.tolist() == [0, 80]
    assert statistics.lengths.tolist() == [0, 1]


def test_two_episodes_that_end_at_once_are_both_counted():
    statistics = EpisodeStatistics(3)
    add(statistics, [1, 2, 3], finished=[0, 2], successes=[1, 0])
    assert list(statistics.finished["returns"]) == [1, 3]
    assert statistics.returns.tolist() == [0, 2, 0]


def test_before_an_episode_has_ended_there_is_nothing_to_report():
    statistics = EpisodeStatistics(2)
    add(statistics, [1, 1])
    assert statistics.metrics(trials=True) == {}


@pytest.mark.parametrize("window", [1, 3])
def test_means_are_over_the_last_episodes(window):
    statistics = EpisodeStatistics(1, window=window)
    for reward in (1, 2, 4, 8, 16):
        add(statistics, [reward], finished=[0])
    assert statistics.metrics(trials=False)["rollout/ep_rew_mean"] == np.mean([1, 2, 4, 8, 16][-window:])
    assert statistics.num_episodes == 5


def test_an_account_goes_on_from_its_state_unfinished_episodes_included():
    statistics, other = EpisodeStatistics(2), EpisodeStatistics(2)
    story(statistics)
    add(other, [7, 7], finished=[1], trial_ends=[1])  # Something to be forgotten.
    other.load_state_dict(statistics.state_dict())
    for one in (statistics, other):
        add(one, [100, 100], finished=[0, 1], successes=[1, 1], trial_ends=[1])
    assert repr(other.state_dict()) == repr(statistics.state_dict())
    assert list(other.finished["returns"]) == [3, 70, 12, 100, 180]


def test_a_saved_state_does_not_change_with_what_comes_after():
    statistics = EpisodeStatistics(1)
    saved = statistics.state_dict()
    add(statistics, [5], finished=[0])
    add(statistics, [5])
    assert repr(saved) == repr(EpisodeStatistics(1).state_dict())


def test_a_trial_counts_its_own_episodes_only():
    statistics = EpisodeStatistics(1)
    for reward, trial_ends in ((1, []), (2, [0]), (4, []), (8, [0])):
        add(statistics, [reward], finished=[0], trial_ends=trial_ends)
    assert list(statistics.finished["trial_returns"]) == [3, 12]


def test_the_mean_of_all_episodes_forgets_none_and_survives_a_reset_of_the_envs():
    statistics = EpisodeStatistics(2, window=1)
    story(statistics)
    add(statistics, [1000, 0])
    statistics.begin()
    metrics = statistics.metrics(trials=False)
    assert metrics["rollout/ep_rew_mean"] == 12
    assert metrics["rollout/ep_rew_mean_of_all"] == 85 / 3
    assert statistics.returns.tolist() == statistics.lengths.tolist() == statistics.trial_returns.tolist() == [0, 0]


def test_numbers_of_info_are_means_over_the_steps_of_finished_episodes():
    """Env 0 says 1, 3 and nothing, then ends; env 1 says 10 and goes on; idle or silent steps don't count."""
    statistics, nobody = EpisodeStatistics(2, log_info=("energy", "error")), np.zeros(0, dtype=np.intp)
    for logged in ([[1, np.nan], [10, 5]], [[3, np.nan], [np.nan, np.nan]]):
        statistics.add(np.ones(2), nobody, np.zeros(0), np.zeros(2, dtype=bool), np.array(logged, dtype=float))
    assert "rollout/info/energy" not in statistics.metrics(trials=False)
    ends = np.array([True, False])
    statistics.add(np.ones(2), np.array([0]), np.array([np.nan]), ends, np.array([[np.nan, np.nan], [20, 7]]))
    statistics.settle()
    saved = statistics.state_dict()
    metrics = statistics.metrics(trials=False)
    assert metrics["rollout/info/energy"] == 2.0
    assert "rollout/info/error" not in metrics  # Never said in a finished episode.
    other = EpisodeStatistics(2, log_info=("energy", "error"))
    other.load_state_dict(saved)
    for one in (statistics, other):  # Env 0 has begun anew, env 1 goes on.
        one.add(np.ones(2), np.array([0, 1]), np.full(2, np.nan), ~ends | ends, np.array([[8.0, 1.0], [0.0, 0.0]]))
        one.settle()
        assert one.metrics(trials=False)["rollout/info/energy"] == (2 + 8 + 10) / 3
        assert one.metrics(trials=False)["rollout/info/error"] == (1 + 4) / 2
