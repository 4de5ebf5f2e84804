"""The random streams of lanes: each its own, all uniform, resumable."""

import numpy as np
import pytest

from rlstm.envs.base.lane_random import LaneRandom, mix


def seeded(num_lanes: int, first_seed: int = 0) -> LaneRandom:
    random = LaneRandom(num_lanes)
    random.seed(range(num_lanes), range(first_seed, first_seed + num_lanes))
    return random


def test_mix_is_splitmix64() -> None:
    # SplitMix64 started at 0 outputs mix(GOLDEN) first; the value is published with its reference implementation.
    assert mix(np.array([0x9E3779B97F4A7C15], dtype=np.uint64))[0] == 0xE220A8397B1DCDAF


def test_a_word_is_a_hash_of_key_and_counter_written_out_in_python_integers() -> None:
    def mix_integer(word: int) -> int:
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return word ^ (word >> 31)

    random = seeded(2)
    key = int(random.keys[1])
    expected = [mix_integer(key ^ mix_integer(n * 0x9E3779B97F4A7C15 % 2**64)) for n in range(6)]
    assert random.words(np.array([1]), (2, 3)).ravel().tolist() == expected


def test_a_lanes_stream_does_not_depend_on_other_lanes() -> None:
    many, one = seeded(5, first_seed=10), seeded(1, first_seed=13)
    lane = np.array([0])
    many.uniform(np.array([0, 1]), (7,))
    for rows in (np.arange(5), np.array([3]), np.array([1, 3, 4]), np.array([4, 3])):
        drawn = many.uniform(rows, (2,))
        assert np.array_equal(drawn[list(rows).index(3)], one.uniform(lane, (2,))[0])


def test_only_the_given_rows_advance() -> None:
    random = seeded(4)
    random.uniform(np.array([1, 3]), (2, 3))
    assert random.counters.tolist() == [0, 6, 0, 6]


def test_drawing_at_once_equals_drawing_one_by_one() -> None:
    rows = np.arange(3)
    one_by_one = seeded(3)
    expected = np.stack([one_by_one.uniform(rows) for _ in range(6)], axis=1)
    assert np.array_equal(seeded(3).uniform(rows, (6,)), expected)


def test_uniforms_are_uniform_in_every_lane() -> None:
    draws = seeded(8).uniform(np.arange(8), (20_000,))
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    counts = np.stack([np.histogram(lane, bins=64, range=(0.0, 1.0))[0] for lane in draws])
    expected = 20_000 / 64
    chi_squared = ((counts - expected) ** 2 / expected).sum(axis=1)
    # 63 degrees of freedom: mean 63, standard deviation 11.2; five of them either way.
    assert np.all(np.abs(chi_squared - 63) < 5 * np.sqrt(126))
    assert np.all(np.abs(draws.mean(axis=1) - 0.5) < 5 * np.sqrt(1 / 12 / 20_000))


def test_streams_of_neighbouring_seeds_and_successive_draws_are_uncorrelated() -> None:
    draws = seeded(16).uniform(np.arange(16), (10_000,))
    between_lanes = np.corrcoef(draws) - np.eye(16)
    assert np.abs(between_lanes).max() < 5 / np.sqrt(10_000)
    for lag in (1, 2, 3):
        within = np.mean((draws[:, lag:] - 0.5) * (draws[:, :-lag] - 0.5), axis=1) * 12
        assert np.abs(within).max() < 5 / np.sqrt(10_000)


def test_the_first_draws_of_neighbouring_seeds_are_uniform_over_lanes() -> None:
    first = seeded(5_000).uniform(np.arange(5_000))
    assert abs(first.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 5_000)
    assert np.unique(first).size == 5_000


def test_integers_are_uniform() -> None:
    draws = seeded(4).integers(np.arange(4), 5, (25_000,))
    counts = np.bincount(draws.ravel(), minlength=5)
    assert counts.size == 5
    assert np.abs(counts - 20_000).max() < 5 * np.sqrt(100_000 * 0.2 * 0.8)


def test_normals_have_the_moments_of_the_normal() -> None:
    draws = seeded(4).normal(np.arange(4), (50_000,)).ravel()
    assert abs(draws.mean()) < 5 / np.sqrt(draws.size)
    assert abs(draws.var() - 1) < 5 * np.sqrt(2 / draws.size)
    assert abs(np.mean(draws**4) - 3) < 5 * np.sqrt(96 / draws.size)


def test_permutations_are_permutations_and_each_is_as_likely() -> None:
    orders = seeded(12_000).permutation(np.arange(12_000), 4)
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(4), (12_000, 1)))
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert counts.size == 24
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)


def test_a_restored_state_goes_on_with_the_same_numbers() -> None:
    random, rows = seeded(3), np.arange(3)
    random.uniform(rows, (5,))
    state = random.get_state()
    expected = random.uniform(rows, (5,))
    other = LaneRandom(3)
    other.set_state(state)
    assert np.array_equal(other.uniform(rows, (5,)), expected)
    assert not np.shares_memory(state["random_counters"], random.counters)


def test_seeding_a_lane_again_starts_its_stream_anew_and_leaves_the_others() -> None:
    random, rows = seeded(2), np.arange(2)
    first = random.uniform(rows)
    random.seed([0], [0])
    second = random.uniform(rows)
    assert second[0] == first[0]
    assert second[1] != first[1]


@pytest.mark.parametrize("seed", [-1, 1.5, "7"])
def test_an_impossible_seed_is_refused(seed: object) -> None:
    with pytest.raises(ValueError, match="seed must be an integer >= 0"):
        LaneRandom(1).seed([0], [seed])  # type: ignore[list-item]


@pytest.mark.parametrize("high", [0, -3, 2**32 + 1])
def test_an_impossible_range_of_integers_is_refused(high: int) -> None:
    with pytest.raises(ValueError, match=f"high is {high}"):
        seeded(1).integers(np.array([0]), high)
