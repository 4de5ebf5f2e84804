"""Digit strips: where images come from, and how they stand on a strip."""

import sys
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.sequences import digit_images
from rlstm.envs.sequences.digit_images import distort, load_split
from rlstm.envs.sequences.digit_strips import DigitStrips

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'rlstm-torch[digits]'")


def images_of(split: str) -> set[bytes]:
    return {image.tobytes() for image in load_split(split)[0]}


def test_no_image_is_in_two_splits_and_together_they_are_all() -> None:
    train, fit, validation, test = (images_of(split) for split in ("train", "fit", "validation", "test"))
    assert train == fit | validation
    assert not fit & validation
    assert not train & test
    assert [len(fit), len(validation), len(test)] == [900, 450, 447]


@pytest.mark.parametrize("split", ["train", "fit", "validation", "test"])
def test_every_symbol_of_a_strip_is_an_image_of_its_digit_and_split(split: str) -> None:
    known = {image.tobytes(): digit for image, digit in zip(*load_split(split), strict=True)}
    env = BatchedVectorEnv(DigitStrips, 300, split=split)
    env.reset(seed=0)
    state, tops_seen = env.get_state(), set()
    for lane in range(300):
        strip, alignment = state["strips"][lane], state["alignments"][lane]
        starts = np.flatnonzero((alignment != 10) & (np.concatenate([[10], alignment[:-1]]) != alignment))
        for start in starts:
            block = strip[start : start + 8].T.astype(np.float64)
            tops = [top for top in range(5) if block[top : top + 8].tobytes() in known]
            tops_seen |= set(tops)
            assert {known[np.ascontiguousarray(block[top : top + 8]).tobytes()] for top in tops} == {alignment[start]}
        assert not strip[alignment == 10].any()
    assert tops_seen == set(range(5))


def test_images_are_drawn_from_all_of_a_digit() -> None:
    env = BatchedVectorEnv(DigitStrips, 4_000, height=8)
    env.reset(seed=0)
    rows = np.arange(4_000)
    drawn = env.task._draw_images(rows, np.full((4_000, 8), 7))
    assert len({image.tobytes() for image in drawn.reshape(-1, 8, 8)}) == int((load_split("train")[1] == 7).sum())


def test_noise_is_added_within_the_space() -> None:
    clean, noisy = BatchedVectorEnv(DigitStrips, 200), BatchedVectorEnv(DigitStrips, 200, noise=0.1)
    clean.reset(seed=0)
    noisy.reset(seed=0)
    grey = (clean.task.strips > 0.4) & (clean.task.strips < 0.6)
    difference = (noisy.task.strips - clean.task.strips)[grey]
    assert abs(difference.std() - 0.1) < 0.01
    assert abs(difference.mean()) < 0.01
    assert noisy.task.strips.min() >= 0
    assert noisy.task.strips.max() <= 1


def test_nothing_is_distorted_by_no_change_and_a_shift_is_a_shift() -> None:
    images = load_split("train")[0][:20]
    np.testing.assert_allclose(distort(images, np.zeros((20, 2, 3))), images, atol=1e-12)
    down = np.zeros((20, 2, 3))
    down[:, 0, 2] = -0.25  # One point of eight, in halves of a side.
    moved = distort(images, down)
    np.testing.assert_allclose(moved[:, 1:], images[:, :-1], atol=1e-12)
    assert not moved[:, 0].any()
    right = np.zeros((20, 2, 3))
    right[:, 1, 2] = -0.125
    between = (images[:, :, 1:] + images[:, :, :-1]) / 2
    np.testing.assert_allclose(distort(images, right)[:, :, 1:], between, atol=1e-12)


def test_a_stretch_by_two_shows_the_middle_half() -> None:
    image = np.zeros((1, 8, 8))
    image[0, :, :] = np.arange(8)[:, None] / 8
    changes = np.zeros((1, 2, 3))
    changes[0, 0, 0] = -0.5
    expected = (3.5 + (np.arange(8) - 3.5) / 2) / 8
    np.testing.assert_allclose(distort(image, changes)[0], np.repeat(expected[:, None], 8, axis=1), atol=1e-12)


def test_a_distorted_strip_differs_and_keeps_its_string() -> None:
    plain, changed = BatchedVectorEnv(DigitStrips, 50), BatchedVectorEnv(DigitStrips, 50, distortion=0.2)
    plain.reset(seed=0)
    changed.reset(seed=0)
    assert np.array_equal(plain.task.alignments, changed.task.alignments)
    difference = np.abs(plain.task.strips - changed.task.strips)[:, :-1][plain.task.alignments[:, :-1] != 10]
    assert 0.02 < difference.mean() < 0.3
    assert changed.task.optimal_return.kind == "bound"


def test_without_scikit_learn_the_env_is_described_and_a_reset_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digit_images.load_split.cache_clear()
    env = SingleEnv(DigitStrips)
    with pytest.raises(ImportError, match=r"pip install 'rlstm-torch\[digits\]'"):
        env.reset(seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "all"}, "split must be one of train, fit, validation, test, but got 'all'"),
        ({"height": 7}, "height must be an integer >= 8, but got 7"),
        ({"distortion": 0.6}, r"distortion must be a number in \[0, 0.5\], but got 0.6"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(DigitStrips, **arguments)
