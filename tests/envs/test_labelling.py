"""Labelling whole sequences: placements, collapsed answers and edit distances, against rules read one by one."""

import itertools
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.sequences.digit_strips import DigitStrips
from rlstm.envs.sequences.spoken import SpokenStrings
from rlstm.envs.sequences.temporal_order import TemporalOrder

BLANK = 10
over_tasks = pytest.mark.parametrize("task", [DigitStrips, SpokenStrings])


def collapse(answers: Any) -> list[int]:
    """Runs merged, blanks left out."""
    return [int(answer) for answer, _ in itertools.groupby(answers) if answer != BLANK]


def edit_distance(one: list[int], other: list[int]) -> int:
    """The recursion as it is defined, over all pairs of beginnings."""
    if not one or not other:
        return len(one) + len(other)
    same = edit_distance(one[:-1], other[:-1]) + (one[-1] != other[-1])
    return min(same, edit_distance(one[:-1], other) + 1, edit_distance(one, other[:-1]) + 1)


def play(env: Any, answers: list[int]) -> tuple[float, dict[str, Any]]:
    """Play the answers, then blanks; the return and the last info."""
    total, terminated, step = 0.0, False, 0
    while not terminated:
        action = answers[step] if step < len(answers) else BLANK
        _, reward, terminated, _, info = env.step(action)
        assert terminated or (info["labels"] == -1).all()
        total, step = total + reward, step + 1
    return total, info


@over_tasks
def test_a_return_is_one_minus_the_edit_distance_over_the_labels(task: Any) -> None:
    env, rng = SingleEnv(task, min_labels=2, max_labels=4), np.random.default_rng(0)
    for seed in range(60):
        env.reset(seed=seed)
        labels = [label for label in env.task.strings[0].tolist() if label >= 0]
        # Answers that are often right: among few labels, with runs and blanks.
        answers = rng.choice([*labels, *labels, BLANK, int(rng.integers(10))], size=int(rng.integers(9))).tolist()
        total, info = play(env, answers)
        distance = edit_distance(collapse(answers), labels)
        assert total == pytest.approx(1 - distance / len(labels), abs=1e-12)
        assert info["is_success"] == (distance == 0)
        assert [label for label in info["labels"].tolist() if label >= 0] == labels


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], 0.0),
        ([3], 1 / 3),  # Two are left out at the end,
        ([3, 7], 2 / 3),  # one in the middle,
        ([7], 1 / 3),  # two at the beginning.
        ([3, 3, BLANK, 3, 7, 7], 1.0),
        ([3, BLANK, BLANK, 3, BLANK, 7], 1.0),
        ([3, 3, 3, 7, BLANK], 2 / 3),  # Without a blank a run is one label.
        ([3, BLANK, 3, BLANK, 7, BLANK, 7], 2 / 3),
        ([7, 3, BLANK, 3], 1 / 3),
        ([0, 1, 2, 0, 1, 2, 0, 1], -5 / 3),  # Nothing is clipped.
    ],
)
def test_a_hand_made_string(answers: list[int], expected: float) -> None:
    env = SingleEnv(SpokenStrings, min_labels=3, max_labels=4)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "strings": np.array([[3, 3, 7, -1]])})
    total, info = play(env, answers)
    assert total == pytest.approx(expected, abs=1e-12)
    assert info["is_success"] == (expected == 1.0)
    assert info["labels"].tolist() == [3, 3, 7, -1]


@over_tasks
def test_targets_collapse_to_the_string_and_widths_are_as_asked_for(task: Any) -> None:
    env = BatchedVectorEnv(task, 3_000, max_gap=2)
    env.reset(seed=0)
    state = env.get_state()
    shortest, longest = (8, 8) if task is DigitStrips else (4, 12)
    counts, gaps_between, equal_neighbours = set(), set(), 0
    for lane in range(3_000):
        length = int(state["lengths"][lane])
        labels = [label for label in state["strings"][lane].tolist() if label >= 0]
        alignment = state["alignments"][lane]
        assert (alignment[length:] == BLANK).all()
        runs = [(int(label), len(list(run))) for label, run in itertools.groupby(alignment[:length].tolist())]
        assert [label for label, _ in runs if label != BLANK] == labels
        assert all(shortest <= width <= longest for label, width in runs if label != BLANK)
        assert all(width <= 2 for label, width in runs if label == BLANK)
        gaps_between |= {width for label, width in runs[1:-1] if label == BLANK}
        counts.add(len(labels))
        equal_neighbours += sum(one == other for one, other in itertools.pairwise(labels))
    assert counts == set(range(3, 9))
    assert gaps_between == {1, 2}
    assert equal_neighbours > 100
    np.testing.assert_allclose(np.bincount(state["strings"][state["strings"] >= 0]), 1650, rtol=0.15)


@over_tasks
def test_whole_sequences_are_those_of_sample_sequences_with_their_strings(task: Any) -> None:
    found = task.sample_labelled(9, np.random.default_rng(4))
    expected = task.sample_sequences(9, np.random.default_rng(4))
    for one, other in zip(found[:3], expected, strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype
    assert np.array_equal(found.lengths, found.valid.sum(axis=0))
    for lane, length in enumerate(found.lengths):
        labels = [label for label in found.labels[lane].tolist() if label >= 0]
        assert collapse(found.targets[:length, lane]) == labels


@over_tasks
def test_a_vector_env_draws_what_its_reset_begins_and_cuts_at_its_limit(task: Any) -> None:
    env = BatchedVectorEnv(task, 5, max_episode_steps=30)
    drawn, expected = env.draw_labelled([3, 4, 5, 6, 7]), env.draw_sequences([3, 4, 5, 6, 7])
    assert all(np.array_equal(one, other) for one, other in zip(drawn[:3], expected, strict=True))
    assert drawn.lengths.max() == 30
    env.reset(seed=3)
    assert np.array_equal(env.task.strings, drawn.labels)
    assert BatchedVectorEnv(TemporalOrder, 2).draw_labelled([0, 1]) is None


@over_tasks
def test_hidden_state_is_the_steps_to_come_and_the_target(task: Any) -> None:
    env = BatchedVectorEnv(task, 4)
    env.reset(seed=0)
    for _ in range(6):
        state, hidden = env.get_state(), env.task.hidden_state()
        target = env.step(np.zeros(4, dtype=np.int64))[4]["target"]
        assert np.array_equal(hidden[:, 0], state["lengths"] - state["elapsed_steps"])
        assert np.array_equal(hidden[:, 1:], np.eye(11)[target])


def test_pictures_show_what_was_seen_in_black_and_the_rest_in_blue() -> None:
    env = SingleEnv(DigitStrips, render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(29):
        env.step(BLANK)
    scale = env.render().shape[1] // env.task.longest
    picture = env.render()[::scale, ::scale].astype(int)
    strip = env.task.strips[0, :-1].T
    assert (picture.shape[0], picture.shape[1]) == strip.shape
    darkest = np.argwhere(strip == 1.0)
    assert (darkest[:, 1] <= 29).any()
    assert (darkest[:, 1] > 29).any()
    for row, column in darkest:
        assert picture[row, column].tolist() == ([40, 40, 40] if column <= 29 else [60, 90, 190])
    assert (picture[strip == 0.0] == 245).all()
    assert env.task.render_text(0).startswith(f"step 29 of {env.task.lengths[0]}: ")


@over_tasks
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_labels": 0}, "min_labels must be an integer >= 1, but got 0"),
        ({"min_labels": 4, "max_labels": 3}, "max_labels must be an integer >= 4, but got 3"),
        ({"max_gap": 0}, "max_gap must be an integer >= 1, but got 0"),
        ({"noise": -0.1}, r"noise must be a number in \[0, 1\], but got -0.1"),
    ],
)
def test_impossible_arguments_are_named(task: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(task, **arguments)
