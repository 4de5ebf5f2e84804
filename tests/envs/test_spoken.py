"""Spoken strings: what is heard of a symbol, by hand."""

from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.sequences.spoken import FORMANTS, VOWELS, SpokenStrings, smoothed

PLAIN = {"voices": 0.0, "smoothing": 0, "noise": 0.0}
UNIT = 2 * (FORMANTS - FORMANTS.min(axis=0)) / (FORMANTS.max(axis=0) - FORMANTS.min(axis=0)) - 1


def steps_of_symbols(env: Any, lane: int) -> list[Any]:
    """The steps of each symbol of a lane."""
    alignment = env.task.alignments[lane]
    cuts = np.flatnonzero(np.diff(alignment)) + 1
    return [part for part in np.split(np.arange(len(alignment)), cuts) if alignment[part[0]] != 10]


def test_a_symbol_glides_in_a_straight_line_between_its_vowels_at_the_rate_drawn() -> None:
    env = BatchedVectorEnv(SpokenStrings, 40, **PLAIN)
    env.reset(seed=0)
    durations = set()
    for lane in range(40):
        assert not env.task.strips[lane][env.task.alignments[lane] == 10].any()
        for steps in steps_of_symbols(env, lane):
            label = env.task.alignments[lane, steps[0]]
            path = np.linspace(UNIT[label], UNIT[(label + 3) % 10], len(steps))
            np.testing.assert_allclose(env.task.strips[lane, steps, 1:], path, atol=1e-6)
            assert (env.task.strips[lane, steps, 0] == 1).all()
            durations.add(len(steps))
    assert durations == set(range(4, 13))


def test_no_symbol_is_another_or_another_backwards() -> None:
    glides = {(first, (first + 3) % len(VOWELS)) for first in range(len(VOWELS))}
    assert len(glides | {(last, first) for first, last in glides}) == 2 * len(VOWELS)


def test_a_voice_multiplies_all_formants_of_a_sequence() -> None:
    env = BatchedVectorEnv(SpokenStrings, 50, **{**PLAIN, "voices": 0.05})
    env.reset(seed=0)
    low, high = FORMANTS.min(axis=0), FORMANTS.max(axis=0)
    factors = []
    for lane in range(50):
        ratios = []
        for steps in steps_of_symbols(env, lane):
            first = FORMANTS[env.task.alignments[lane, steps[0]]]
            ratios.append(((env.task.strips[lane, steps[0], 1:] + 1) / 2 * (high - low) + low) / first)
        assert np.ptp(ratios) < 1e-5
        factors.append(float(np.mean(ratios)))
    assert 0.95 <= min(factors) < 0.97
    assert 1.03 < max(factors) <= 1.05


def test_smoothing_is_a_mean_over_neighbours_and_zero_beyond_the_ends() -> None:
    features = np.array([3.0, 0.0, 6.0, 9.0]).reshape(1, 4, 1)
    assert smoothed(features, 0).ravel().tolist() == [3, 0, 6, 9]
    assert smoothed(features, 1).ravel().tolist() == [1, 3, 5, 5]


def test_smoothing_and_noise_are_those_asked_for() -> None:
    plain, smooth, noisy = (
        BatchedVectorEnv(SpokenStrings, 200, **{**PLAIN, **more}) for more in ({}, {"smoothing": 2}, {"noise": 0.2})
    )
    for env in (plain, smooth, noisy):
        env.reset(seed=0)
    lane = plain.task.strips[:1, :-1].astype(np.float64)
    length = int(plain.task.lengths[0])
    np.testing.assert_allclose(smooth.task.strips[:1, :length], smoothed(lane, 2)[:, :length], atol=1e-6)
    is_said = plain.task.alignments != 10
    difference = (noisy.task.strips - plain.task.strips)[is_said]
    assert abs(difference.std() - 0.2) < 0.01
    assert abs(difference.mean()) < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_duration": 1}, "min_duration must be an integer >= 2, but got 1"),
        ({"max_duration": 3}, "max_duration must be an integer >= 4, but got 3"),
        ({"voices": 0.6}, r"voices must be a number in \[0, 0.5\], but got 0.6"),
        ({"smoothing": -1}, "smoothing must be an integer >= 0, but got -1"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(SpokenStrings, **arguments)


@pytest.mark.parametrize(
    ("num", "rng", "message"), [(0, np.random.default_rng(0), "num"), (2, 7, "rng must be a numpy.random.Generator")]
)
def test_sequences_with_strings_need_a_number_and_a_generator(num: int, rng: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpokenStrings.sample_labelled(num, rng)
