"""First visits: hashed observations, counted anew in each episode of each env."""

import copy

import numpy as np
import pytest
import torch

from rlstm.exploration.visits import EpisodicVisits, keys_of


def play(num_steps, num_envs, alphabet, share_of_ends, seed):
    """Observations before and after random steps, ``(T, B, 2)``, and where episodes end."""
    rng = np.random.default_rng(seed)
    shown = rng.integers(alphabet, size=(num_steps + 1, num_envs))
    ends = rng.random((num_steps, num_envs)) < share_of_ends
    last = rng.integers(alphabet, size=(num_steps, num_envs))
    after = np.where(ends, last, shown[1:])

    def vectors(numbers):
        return torch.tensor(np.stack([numbers, -numbers], -1), dtype=torch.float32)

    return vectors(shown[:-1]), vectors(after), ends


def firsts_by_sets(rollouts):
    """The same by a set for each env, step by step."""
    seen: dict[int, set] = {}
    results = []
    for observations, after, ends in rollouts:
        result = np.zeros(ends.shape, dtype=bool)
        for t in range(len(ends)):
            for env in range(ends.shape[1]):
                visited = seen.setdefault(env, set())
                visited.add(tuple(observations[t, env].tolist()))
                came = tuple(after[t, env].tolist())
                result[t, env] = came not in visited
                visited.add(came)
                if ends[t, env]:
                    seen[env] = set()
        results.append(result)
    return results


@pytest.mark.parametrize(("alphabet", "share_of_ends"), [(3, 0.2), (8, 0.0), (8, 0.1), (50, 0.02), (4, 0.9)])
def test_first_visits_are_those_of_a_set_for_each_episode(alphabet, share_of_ends):
    rollouts = [play(12, 5, alphabet, share_of_ends, seed) for seed in range(6)]
    visits = EpisodicVisits()
    found = [visits.first_visits(*rollout) for rollout in rollouts]
    expected = firsts_by_sets(rollouts)
    assert any(one.any() and not one.all() for one in expected)
    np.testing.assert_array_equal(found, expected)


def test_what_was_visited_is_carried_by_its_state_and_forgotten_when_told():
    rollouts = [play(10, 4, 6, 0.1, seed) for seed in range(4)]
    whole, half = EpisodicVisits(), EpisodicVisits()
    for rollout in rollouts[:2]:
        whole.first_visits(*rollout)
    half.load_state_dict(copy.deepcopy(whole.state_dict()))
    fresh = EpisodicVisits()
    differ = False
    for rollout in rollouts[2:]:
        expected = whole.first_visits(*rollout)
        np.testing.assert_array_equal(half.first_visits(*rollout), expected)
        differ |= bool((fresh.first_visits(*rollout) != expected).any())
    assert differ
    whole.forget()
    np.testing.assert_array_equal(whole.first_visits(*rollouts[0]), firsts_by_sets(rollouts[:1])[0])


def test_only_running_episodes_are_kept():
    visits = EpisodicVisits()
    observations, after, ends = play(20, 3, 10**6, 0.0, 0)
    ends[9] = True
    visits.first_visits(observations, after, ends)
    # In each env 11 observations since the last end: the one that it began with, and those of ten steps.
    assert np.bincount(visits.envs).tolist() == [11, 11, 11]


def test_an_episode_that_shows_too_much_begins_to_count_anew():
    visits = EpisodicVisits(most=30)
    observations, after, ends = play(20, 3, 10**6, 0.0, 0)
    ends[:, 1] = [t == 12 for t in range(20)]
    visits.first_visits(observations, after, ends)
    assert np.bincount(visits.envs).tolist() == [21, 8, 21]
    assert not visits.first_visits(observations, after, ends & False)[1:, 0].any()
    later = play(20, 3, 10**6, 0.0, 1)
    visits.first_visits(*later)
    assert sorted(set(visits.envs)) == []  # 41, 41 and 42 keys.
    assert visits.first_visits(*later).all()


def test_both_zeros_are_one_observation():
    zeros = torch.zeros(2, 1, 3)
    np.testing.assert_array_equal(keys_of(zeros), keys_of(-zeros))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int8, torch.int64])
def test_equal_observations_have_equal_keys_and_others_have_not(dtype):
    numbers = torch.arange(120).reshape(10, 3, 4).to(dtype)
    tree = {"a": numbers, "b": (numbers[..., :1] * 0,)}
    keys = keys_of(tree)
    assert keys.shape == (10, 3)
    assert len(np.unique(keys)) == 30
    np.testing.assert_array_equal(keys, keys_of({"a": numbers.clone(), "b": (numbers[..., :1] * 0,)}))
    changed = numbers.clone()
    changed[4, 1, 3] += 1
    assert (keys_of({"a": changed, "b": tree["b"]}) != keys).sum() == 1


def test_no_two_of_a_million_small_images_share_a_key():
    images = torch.from_numpy(np.random.default_rng(0).integers(3, size=(1000, 1000, 9), dtype=np.uint8))
    distinct = len(np.unique(images.reshape(-1, 9).numpy(), axis=0))
    assert len(np.unique(keys_of(images))) == distinct
