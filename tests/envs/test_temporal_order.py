"""Temporal order, by hand and against the rules read symbol by symbol."""

from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.sequences.temporal_order import TemporalOrder

slow = pytest.mark.slow

NUM_ENVS = 20_000
LETTERS = "EBabcdXY"
CLASSES = {
    2: ["XX", "XY", "YX", "YY"],
    3: ["XXX", "XXY", "XYX", "XYY", "YXX", "YXY", "YYX", "YYY"],
}
# Of the paper, by number of markers, first and last place each.
WINDOWS = {2: [(10, 20), (50, 60)], 3: [(10, 20), (33, 43), (66, 76)]}


def with_symbols(letters: str, answer: int, **arguments: Any) -> SingleEnv:
    env = SingleEnv(TemporalOrder, **arguments)
    env.reset(seed=0)
    state = env.get_state()
    table = np.ones_like(state["symbols"])
    table[0, : len(letters)] = [LETTERS.index(letter) for letter in letters]
    env.set_state({**state, "symbols": table, "lengths": np.array([len(letters)]), "answers": np.array([answer])})
    return env


@pytest.mark.parametrize(("answer", "reward"), [(2, 1.0), (0, 0.0), (1, 0.0), (3, 0.0)])
def test_a_hand_made_sequence(answer: int, reward: float) -> None:
    letters = "EYabcXddaB"
    env = with_symbols(letters, 2, length=10)
    seen = LETTERS[env.task.observe()[0]]
    for step in range(10):
        observation, found, terminated, truncated, info = env.step(answer)
        seen += LETTERS[observation]
        is_last = step == 9
        assert (found, terminated, truncated) == (reward if is_last else 0.0, is_last, False)
        assert info == {"is_success": is_last and reward == 1.0, "target": 2 if is_last else -1}
    assert seen == letters + "B"


@pytest.mark.parametrize(
    ("num_markers", "length"),
    [
        pytest.param(2, 100, marks=slow),
        pytest.param(3, 100, marks=slow),
        (2, 10),
        pytest.param(3, 10, marks=slow),
        (3, 57),
    ],
)
def test_sequences_and_answers_follow_the_rules_read_symbol_by_symbol(num_markers: int, length: int) -> None:
    env = BatchedVectorEnv(TemporalOrder, NUM_ENVS, num_markers=num_markers, length=length)
    observations, _ = env.reset(seed=0)
    assert not observations.any()
    state = env.get_state()
    symbols, lengths, answers = state["symbols"], state["lengths"], state["answers"]
    assert set(np.unique(lengths)) == set(range(length, length + length // 10 + 1))
    for lane in range(300):
        sequence = "".join(LETTERS[symbol] for symbol in symbols[lane, : lengths[lane]])
        assert (sequence[0], sequence[-1], LETTERS[symbols[lane, lengths[lane]]]) == ("E", "B", "B")
        assert not set(sequence[1:-1]) & set("EB")
        markers = "".join(letter for letter in sequence if letter in "XY")
        assert CLASSES[num_markers][answers[lane]] == markers
    inside = symbols[:, 1 : length - 1]
    assert set(np.unique(inside)) == {2, 3, 4, 5, 6, 7}
    shares = np.bincount(inside[inside < 6], minlength=6)[2:] / (inside < 6).sum()
    np.testing.assert_allclose(shares, 0.25, atol=0.01)
    counts = np.bincount(answers, minlength=2**num_markers)
    np.testing.assert_allclose(counts / NUM_ENVS, 1 / 2**num_markers, atol=0.015)


@pytest.mark.parametrize("num_markers", [2, 3])
def test_the_places_are_those_of_the_paper_and_uniform_on_their_windows(num_markers: int) -> None:
    env = BatchedVectorEnv(TemporalOrder, NUM_ENVS, num_markers=num_markers)
    env.reset(seed=1)
    is_marker = env.get_state()["symbols"] >= 6
    assert (is_marker.sum(axis=1) == num_markers).all()
    shares = is_marker.mean(axis=0)
    expected = np.zeros_like(shares)
    for first, last in WINDOWS[num_markers]:
        expected[first : last + 1] = 1 / 11
    assert (shares[expected == 0] == 0).all()
    np.testing.assert_allclose(shares, expected, atol=0.01)
    places = np.argwhere(is_marker)[:, 1].reshape(NUM_ENVS, num_markers)
    correlations = np.corrcoef(np.column_stack([places, env.get_state()["lengths"]]), rowvar=False)
    assert np.abs(correlations - np.eye(num_markers + 1)).max() < 0.04


@pytest.mark.parametrize("num_markers", [2, 3])
@pytest.mark.parametrize("length", range(10, 131, 11))
def test_at_every_length_the_windows_are_apart_and_inside(num_markers: int, length: int) -> None:
    env = BatchedVectorEnv(TemporalOrder, 500, num_markers=num_markers, length=length)
    env.reset(seed=0)
    symbols, lengths = env.get_state()["symbols"], env.get_state()["lengths"]
    assert ((symbols >= 6).sum(axis=1) == num_markers).all()
    assert (symbols[:, 0] == 0).all()
    assert (symbols[np.arange(500), lengths - 1] == 1).all()


def test_hidden_state_is_the_steps_to_come_and_the_answer_as_one_of_four() -> None:
    env = BatchedVectorEnv(TemporalOrder, 8, length=20)
    env.reset(seed=0)
    env.step(np.zeros(8, dtype=np.int64))
    state = env.get_state()
    expected = np.column_stack([state["lengths"] - 1, np.eye(4)[state["answers"]]]).astype(np.float32)
    assert np.array_equal(env.task.hidden_state(), expected)


def test_renders_show_the_newest_symbol_on_the_right() -> None:
    env = with_symbols("EYabcXddaB", 2, length=10)
    for step in range(10):
        assert env.task.render_text(0) == f"symbol {step + 1} of 10: {'EYabcXddaB'[: step + 1]}"
        env.step(0)
    assert env.task.render_text(0) == "symbol 10 of 10: EYabcXddaB"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_markers": 1}, "num_markers must be an integer >= 2, but got 1"),
        ({"num_markers": 4}, "num_markers must be 2 or 3, but got 4"),
        ({"length": 9}, "length must be an integer >= 10, but got 9"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(TemporalOrder, **arguments)
