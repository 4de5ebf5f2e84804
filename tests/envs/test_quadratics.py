"""Quadratic functions: values are those of one function a sequence, and the last examples count."""

import numpy as np
import pytest

from rlstm.envs.sequences.quadratics import Quadratics


def terms(points):
    x1, x2 = np.moveaxis(np.asarray(points, dtype=np.float64), -1, 0)
    return np.stack([x1**2, x2**2, x1 * x2, x1, x2, np.ones_like(x1)], axis=-1)


def test_six_coefficients_explain_all_values_of_a_sequence() -> None:
    inputs, targets, valid = Quadratics.sample_sequences(50, np.random.default_rng(0), num_examples=30)
    assert valid.all()
    found = []
    for lane in range(50):
        design, values = terms(inputs[:, lane, :2]), 6.0 * targets[:, lane, 0]
        coefficients, *_ = np.linalg.lstsq(design[:12], values[:12], rcond=None)
        np.testing.assert_allclose(design @ coefficients, values, atol=1e-6)
        found.append(coefficients)
    assert np.abs(found).max() <= 1.0 + 1e-6
    np.testing.assert_allclose(np.std(found, axis=0), np.sqrt(1 / 3), atol=0.15)
    np.testing.assert_allclose(np.mean(found, axis=0), 0.0, atol=0.3)


def test_the_value_before_is_seen_one_step_late_and_none_at_first() -> None:
    inputs, targets, _ = Quadratics.sample_sequences(5, np.random.default_rng(1))
    assert not inputs[0, :, 2].any()
    np.testing.assert_allclose(inputs[1:, :, 2], targets[:-1, :, 0], atol=1e-7)


@pytest.mark.parametrize(("wrong_at", "lost"), [(0, 0.0), (2, 0.0), (3, 0.25), (4, 0.25)])
def test_only_the_last_steps_count(wrong_at: int, lost: float) -> None:
    task = Quadratics(3, num_examples=5, asked=2)
    lanes = np.arange(3)
    task.random.seed(lanes, [1, 2, 3])
    task.reset(lanes, np.ones(3, dtype=bool))
    returns = np.zeros(3)
    for step in range(5):
        right = task.values[:, step : step + 1]
        shift = np.where(right > 0, -np.sqrt(0.5), np.sqrt(0.5)) if step == wrong_at else 0.0
        transition = task.step(right + shift)
        returns += transition.rewards
        assert transition.terminated.tolist() == [step == 4] * 3
    np.testing.assert_allclose(returns, -lost, atol=1e-12)
    assert transition.info["is_success"].tolist() == [lost == 0.0] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_examples": 1}, "num_examples"),
        ({"asked": 0}, "asked"),
        ({"num_examples": 5, "asked": 6}, "asked must be at most num_examples 5, but got 6"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Quadratics(1, **arguments)
