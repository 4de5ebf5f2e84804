"""Statistics over seeds: against values by hand, and against scipy."""

import numpy as np
import pytest

from rlstm.core.statistics import MOST_POINTS, align, improvement, improvement_interval, interquartile_mean, interval

FIVE = np.array([0.5, 0.5325, 0.61, 0.49, 0.57])


def test_the_interquartile_mean_counts_outer_values_in_part() -> None:
    assert interquartile_mean(np.array([4.0, 1.0, 3.0, 2.0])) == 2.5
    # 5 values: 1.25 fall away on each side.
    expected = (0.75 * 2 + 3 + 0.75 * 10) / 2.5
    assert interquartile_mean(np.array([0.0, 2.0, 3.0, 10.0, 100.0])) == pytest.approx(expected)
    assert interquartile_mean(np.array([7.0])) == 7.0


def test_the_interquartile_mean_of_four_or_eight_is_the_trimmed_mean() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).normal(size=(8, 5))
    assert interquartile_mean(values, axis=0) == pytest.approx(stats.trim_mean(values, 0.25, axis=0))
    assert interquartile_mean(values[:4, 0]) == pytest.approx(stats.trim_mean(values[:4, 0], 0.25))


def test_an_interval_is_the_bootstrap_of_the_interquartile_mean_over_seeds() -> None:
    draws = np.random.default_rng(0).choice(FIVE, (2000, len(FIVE)))
    means = [interquartile_mean(draw) for draw in draws]
    assert interval(FIVE) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=1e-12)
    assert interval(np.ones(5)) == (1.0, 1.0)


def test_an_interval_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    options = {"n_resamples": 2000, "method": "percentile", "rng": np.random.default_rng(0)}
    found = stats.bootstrap((FIVE,), interquartile_mean, **options).confidence_interval
    assert interval(FIVE) == pytest.approx((found.low, found.high), abs=1e-12)


def test_every_point_of_a_curve_has_its_interval() -> None:
    low, high = interval(np.stack([FIVE, 10 * FIVE], axis=1))
    assert low == pytest.approx(interval(FIVE)[0] * np.array([1, 10]))
    assert high == pytest.approx(interval(FIVE)[1] * np.array([1, 10]))


@pytest.mark.parametrize(
    ("values", "baseline", "expected"),
    [
        ([2.0, 3.0], [1.0], 1.0),
        ([1.0], [2.0, 3.0], 0.0),
        ([1.0, 1.0], [1.0], 0.5),
        ([1.0, 3.0], [2.0, 3.0], 0.375),  # Of four pairs one is won, and one a tie.
    ],
)
def test_improvement_counts_pairs_that_are_won_and_half_of_the_ties(values, baseline, expected) -> None:
    assert improvement(np.array(values), np.array(baseline)) == expected


def test_improvement_is_the_statistic_of_mann_and_whitney() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    values, baseline = rng.integers(0, 6, 7).astype(float), rng.integers(0, 5, 9).astype(float)
    assert improvement(values, baseline) == pytest.approx(stats.mannwhitneyu(values, baseline).statistic / 63)


def test_seeds_of_both_sides_are_drawn_for_the_interval_of_improvement() -> None:
    assert improvement_interval(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == (1.0, 1.0)
    # The one pair that is lost is drawn alone in 1 of 16 samples, the pairs that are won are alone in 9 of 16.
    assert improvement_interval(np.array([1.0, 3.0]), np.array([0.0, 2.0])) == (0.0, 1.0)
    # Were the seeds of one side kept, this one would be 1/2.
    assert improvement_interval(np.array([2.0, 2.0]), np.array([1.0, 3.0])) == (0.0, 1.0)
    assert improvement_interval(np.array([1.0, 3.0]), np.array([2.0, 2.0])) == (0.0, 1.0)


def test_curves_are_interpolated_to_the_steps_that_all_have_reached() -> None:
    one = np.array([0, 10, 20]), np.array([0.0, 1.0, 3.0])
    other = np.array([5, 10, 40]), np.array([4.0, 5.0, 8.0])
    steps, values = align([one, other])
    assert steps.tolist() == [5, 10, 20]
    assert values.tolist() == [[0.5, 1.0, 3.0], [4.0, 5.0, 6.0]]


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    long = np.arange(1, 5001)
    steps, values = align([(long, 2.0 * long)])
    assert (len(steps), steps[0], steps[-1]) == (MOST_POINTS, 1, 5000)
    assert values[0] == pytest.approx(2.0 * steps)


def test_curves_without_a_common_step_are_refused() -> None:
    curves = [(np.array([steps]), np.zeros(1)) for steps in (1_000, 2_000)]
    with pytest.raises(ValueError, match="begins at step 2,000, another ends at step 1,000"):
        align(curves)
