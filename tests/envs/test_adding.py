"""The adding and the multiplication problem, by hand and against the rules read pair by pair."""

import math
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.sequences.adding import Adding

NUM_ENVS = 20_000


def with_pairs(pairs: list[tuple[float, float]], answer: float, **arguments: Any) -> SingleEnv:
    env = SingleEnv(Adding, **arguments)
    env.reset(seed=0)
    state = env.get_state()
    table = np.zeros_like(state["pairs"])
    table[0, : len(pairs)] = pairs
    env.set_state({**state, "pairs": table, "lengths": np.array([len(pairs)]), "answers": np.array([answer])})
    return env


def drawn(**arguments: Any) -> tuple[Any, Any, Any, BatchedVectorEnv]:
    env = BatchedVectorEnv(Adding, NUM_ENVS, **arguments)
    env.reset(seed=0)
    state = env.get_state()
    return state["pairs"].astype(np.float64), state["lengths"], state["answers"], env


def marks(pairs: Any) -> Any:
    """The two marked places of each sequence, the earlier one first, (NUM_ENVS, 2)."""
    is_marked = pairs[:, :, 1] == 1
    assert (is_marked.sum(axis=1) == 2).all()
    return np.argwhere(is_marked)[:, 1].reshape(-1, 2)


def read_the_rules(pairs: Any, operation: str) -> float:
    """The answer to one sequence, pair by pair."""
    total, product = 0.0, 1.0
    for number, marker in pairs:
        if marker == 1:
            total += number
            product *= number
    return 0.5 + total / 4 if operation == "sum" else product


def test_a_hand_computed_sequence() -> None:
    pairs = [(0.1, -1.0), (0.5, 1.0), (-0.75, 1.0), (0.9, 0.0), (0.3, -1.0)]
    env = with_pairs(pairs, 0.5 + (0.5 - 0.75) / 4, length=5)
    seen = [env.task.observe()[0].tolist()]
    for step, answer in enumerate([0.0, 1.0, 0.5, 0.25, 0.5]):
        observation, reward, terminated, truncated, info = env.step(np.array([answer], dtype=np.float32))
        seen.append(observation.tolist())
        is_last = step == 4
        assert reward == pytest.approx(-((0.5 - 0.4375) ** 2) if is_last else 0.0, abs=1e-12)
        assert (terminated, truncated, info["is_success"]) == (is_last, False, False)
        assert not is_last or info["target"].tolist() == [0.4375]
    np.testing.assert_allclose(seen, [*pairs, (0.0, 0.0)], rtol=0, atol=1e-7)


@pytest.mark.parametrize("operation", ["sum", "product"])
def test_only_the_last_step_is_asked(operation: str) -> None:
    env = BatchedVectorEnv(Adding, 50, length=12, operation=operation)
    env.reset(seed=0)
    answers = env.get_state()["answers"]
    lengths = env.get_state()["lengths"]
    for step in range(12):
        _, rewards, terminated, _, infos = env.step(np.zeros((50, 1), dtype=np.float32))
        assert np.array_equal(terminated, lengths == step + 1)
        assert (rewards[~terminated] == 0).all()
        assert np.array_equal(rewards[terminated], -np.square(answers[terminated]))
        assert np.isnan(infos["target"][infos["_target"]]).all()
    assert np.array_equal(infos["final_info"]["target"][terminated][:, 0], answers[terminated])


@pytest.mark.parametrize(("error", "is_success"), [(0.0399, True), (-0.0399, True), (0.0401, False), (-0.0401, False)])
def test_success_is_an_error_below_four_hundredths(error: float, is_success: bool) -> None:
    env = with_pairs([(0.0, -1.0), (0.5, 1.0), (0.5, 1.0), (0.0, -1.0)], 0.75, length=4)
    for step in range(4):
        info = env.step(np.array([0.75 + error], dtype=np.float32))[4]
        assert info["is_success"] is (is_success and step == 3)


@pytest.mark.parametrize("operation", ["sum", "product"])
@pytest.mark.parametrize("length", [4, 11, 100])
def test_sequences_and_answers_follow_the_rules_read_pair_by_pair(length: int, operation: str) -> None:
    pairs, lengths, answers, env = drawn(length=length, operation=operation)
    low = -1.0 if operation == "sum" else 0.0
    places = marks(pairs)
    assert set(np.unique(lengths)) == set(range(length, length + length // 10 + 1))
    for lane in range(80):
        sequence = pairs[lane, : lengths[lane]]
        assert answers[lane] == pytest.approx(read_the_rules(sequence, operation), abs=1e-12)
        markers = sequence[:, 1].tolist()
        expected = [-1.0] + [0.0] * (len(sequence) - 2) + [-1.0]
        for place in places[lane]:
            expected[place] = 1.0
        assert markers == expected
        assert pairs[lane, lengths[lane]].tolist() == [0.0, 0.0]
        first_is_marked = places[lane, 0] == 0
        neutral = 0.0 if operation == "sum" else 1.0
        assert (sequence[0, 0] == neutral) == first_is_marked
    numbers = pairs[:, 1:length, 0]
    assert low <= numbers.min() < low + 0.01
    assert 0.99 < numbers.max() <= 1.0
    assert numbers.mean() == pytest.approx((low + 1) / 2, abs=0.01)
    assert answers.min() >= 0.0
    assert answers.max() <= 1.0
    assert np.abs(answers.var() + env.memoryless_return.value) < 0.05 * answers.var()


@pytest.mark.parametrize("length", [100, 50, 20])
def test_one_mark_is_among_the_first_ten_the_other_in_the_first_half(
    length: int,
) -> None:
    pairs, _, _, _ = drawn(length=length)
    places = marks(pairs)
    half = length // 2
    # The first mark is uniform on ten places, the second on the half - 1 others of the first half.
    both = np.zeros((half, half))
    for first in range(10):
        for second in range(half):
            if second != first:
                both[min(first, second), max(first, second)] += 1 / 10 / (half - 1)
    counts = np.zeros((half, half))
    np.add.at(counts, (places[:, 0], places[:, 1]), 1)
    possible = both > 0
    assert counts[~possible].sum() == 0
    chi_squared = (np.square(counts - NUM_ENVS * both)[possible] / (NUM_ENVS * both)[possible]).sum()
    degrees = possible.sum() - 1
    assert abs(chi_squared - degrees) < 5 * math.sqrt(2 * degrees)


def test_the_lag_is_at_least_half_the_length() -> None:
    pairs, lengths, _, _ = drawn(length=30)
    lags = lengths - 1 - marks(pairs)[:, 1]
    assert lags.min() == 15


def test_the_memoryless_return_is_minus_the_variance_of_the_answer_written_out() -> None:
    # With length 4 the first two pairs are marked, so one of the two numbers is known.
    assert SingleEnv(Adding, length=4).memoryless_return.value == pytest.approx(-1 / 48)
    assert SingleEnv(Adding, length=4, operation="product").memoryless_return.value == pytest.approx(-1 / 12)
    # With length 100 the first pair is marked with p = .1 + .9 / 49; U[-1, 1] has the variance 1/3.
    p = 0.1 + 0.9 / 49
    assert SingleEnv(Adding).memoryless_return.value == pytest.approx(-(p / 48 + (1 - p) / 24))
    square, mean = p / 3 + (1 - p) / 9, p / 2 + (1 - p) / 4
    assert SingleEnv(Adding, operation="product").memoryless_return.value == pytest.approx(-(square - mean**2))


def test_hidden_state_is_the_steps_to_come_and_the_answer() -> None:
    env = BatchedVectorEnv(Adding, 6, length=20)
    env.reset(seed=0)
    env.step(np.zeros((6, 1), dtype=np.float32))
    state = env.get_state()
    expected = np.stack([state["lengths"] - 1, state["answers"]], axis=1).astype(np.float32)
    assert np.array_equal(env.task.hidden_state(), expected)


def test_renders_show_the_newest_pair_on_the_right() -> None:
    pairs = [(-1.0, -1.0), (1.0, 1.0), (0.0, 1.0), (0.6, 0.0), (0.2, -1.0)]
    env = with_pairs(pairs, 0.75, length=5)
    task = env.task
    texts = []
    for _ in range(5):
        texts.append(task.render_text(0))
        env.step(np.zeros(1, dtype=np.float32))
    assert texts[0] == "pair 1 of 5: -1.000, marker -1"
    assert texts[3] == "pair 4 of 5: +0.600, marker +0"
    assert task.render_text(0) == "all 5 pairs seen"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 3}, "length must be an integer >= 4, but got 3"),
        ({"length": 10.0}, "length must be an integer >= 4, but got 10.0"),
        ({"operation": "difference"}, "operation must be one of sum, product, but got 'difference'"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(Adding, **arguments)
