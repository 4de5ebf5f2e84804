"""Long time lags, against sequences spelled out by hand."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.sequences.long_lag import LongLag


def read_sequence(env: Any, answer: int = 0, **reset: Any) -> tuple[list[int], list[int], list[float], bool]:
    """Symbols, targets and rewards of one sequence, and its success, always answering the same."""
    symbol, _ = env.reset(**reset)
    symbols, targets, rewards, terminated = [int(symbol)], [], [], False
    while not terminated:
        symbol, reward, terminated, truncated, info = env.step(answer)
        assert not truncated
        assert terminated or not info["is_success"]
        symbols.append(int(symbol))
        targets.append(info["target"])
        rewards.append(reward)
    return symbols, targets, rewards, info["is_success"]


@pytest.mark.parametrize("p", [2, 3, 10])
@pytest.mark.parametrize("answer", [0, 1])
def test_the_fixed_form_has_two_sequences_and_every_next_symbol_is_a_target(p: int, answer: int) -> None:
    env, firsts = SingleEnv(LongLag, p=p), set()
    for seed in range(20):
        symbols, targets, rewards, success = read_sequence(env, answer, seed=seed)
        first = symbols[0]
        assert symbols == [first, *range(2, p + 1), first]
        assert targets == symbols[1:]
        assert rewards == [0.0] * (p - 1) + [float(answer == first)]
        assert success is (answer == first)
        firsts.add(first)
    assert firsts == {0, 1}


@pytest.mark.parametrize("form", ["fixed", "random", "variable"])
def test_right_answers_before_the_last_symbol_earn_nothing(form: str) -> None:
    env, other = SingleEnv(LongLag, p=5, form=form), SingleEnv(LongLag, p=5, form=form)
    for seed in range(5):
        symbols, *_ = read_sequence(other, seed=seed)
        env.reset(seed=seed)
        outcomes = [env.step(symbol) for symbol in symbols[1:]]
        assert [outcome[1] for outcome in outcomes] == [0.0] * (len(symbols) - 2) + [1.0]
        assert [outcome[4]["is_success"] for outcome in outcomes] == [False] * (len(symbols) - 2) + [True]


@pytest.mark.parametrize("answer", [0, 1])
def test_the_random_form_has_random_distractors_and_only_the_last_symbol_as_target(answer: int) -> None:
    env, seen = SingleEnv(LongLag, p=6, form="random", num_distractors=3), set()
    for seed in range(40):
        symbols, targets, rewards, success = read_sequence(env, answer, seed=seed)
        assert len(symbols) == 7
        assert symbols[0] == symbols[-1] in (0, 1)
        assert set(symbols[1:-1]) <= {2, 3, 4}
        assert targets == [-1] * 5 + [symbols[0]]
        assert rewards == [0.0] * 5 + [float(success)]
        assert success is (answer == symbols[0])
        seen.add(tuple(symbols[1:-1]))
    assert len(seen) > 30


def test_the_variable_form_ends_with_the_trigger_and_the_first_symbol() -> None:
    env, lengths = SingleEnv(LongLag, p=4, form="variable", num_distractors=2), set()
    trigger = 4
    for seed in range(60):
        symbols, targets, rewards, success = read_sequence(env, 1, seed=seed)
        assert symbols[0] == symbols[-1] in (0, 1)
        assert symbols.index(trigger) == len(symbols) - 2 >= 4
        assert set(symbols[1:-2]) <= {2, 3}
        assert targets == [-1] * (len(symbols) - 2) + [symbols[0]]
        assert sum(rewards) == success == (symbols[0] == 1)
        lengths.add(len(targets))
    assert min(lengths) == 5
    assert len(lengths) > 8


def test_the_number_of_further_distractors_is_geometric() -> None:
    num = 20_000
    for stop in (0.1, 0.5, 1.0):
        env = BatchedVectorEnv(LongLag, num, p=5, form="variable", stop_probability=stop)
        env.reset(seed=0)
        tails = env.get_state()["lengths"] - 6
        for tail in range(12):
            share = stop * (1 - stop) ** tail
            assert abs((tails == tail).mean() - share) <= 5 * np.sqrt(share * (1 - share) / num)
        assert tails.min() == 0


@pytest.mark.parametrize("form", ["random", "variable"])
def test_symbols_are_uniform_at_every_place_and_say_nothing_of_the_first(form: str) -> None:
    num = 20_000
    env = BatchedVectorEnv(LongLag, num, p=5, form=form, num_distractors=4)
    firsts, _ = env.reset(seed=0)
    assert abs(firsts.mean() - 0.5) < 5 * np.sqrt(0.25 / num)
    for _ in range(4):
        symbols, *_ = env.step(np.zeros(num, dtype=int))
        pairs = np.array([[((firsts == first) & (symbols == s)).mean() for s in (2, 3, 4, 5)] for first in (0, 1)])
        assert np.abs(pairs - 1 / 8).max() < 5 * np.sqrt(1 / 8 * 7 / 8 / num)


def test_the_next_sequence_draws_its_own_first_symbol() -> None:
    env = SingleEnv(LongLag, p=2)
    env.reset(seed=0)
    firsts = [read_sequence(env)[0][0] for _ in range(60)]
    assert {first + 2 * second for first, second in pairwise(firsts)} == {0, 1, 2, 3}


def test_spaces_and_memory_length_follow_the_arguments() -> None:
    for arguments, num_symbols, memory_length in (
        ({}, 101, 99),
        ({"p": 7, "form": "random"}, 8, 6),
        ({"p": 7, "form": "random", "num_distractors": 3}, 5, 6),
        ({"p": 7, "form": "variable", "num_distractors": 3}, 6, None),
    ):
        env = SingleEnv(LongLag, **arguments)
        assert env.observation_space.n == env.action_space.n == num_symbols
        assert env.task.memory_length == memory_length


def test_text_and_picture_show_the_last_symbol_only_when_it_is_due() -> None:
    env = SingleEnv(LongLag, p=2, form="variable", num_distractors=3, stop_probability=1.0, render_mode="ansi")
    first, _ = env.reset(seed=0)
    texts = [env.render()]
    for _ in range(3):
        env.step(0)
        texts.append(env.render())
    name = "xy"[first]
    assert texts[0] == f"symbol 1: {name}"
    assert texts[1] in {f"symbol 2: a{i}" for i in (1, 2, 3)}
    assert texts[2:] == [f"symbol 3: trigger  next: {name}", f"symbol 4: {name}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": 1}, "p must be an integer >= 2, but got 1"),
        ({"form": "2a"}, "form must be one of fixed, random, variable, but got '2a'"),
        ({"form": "random", "num_distractors": 0}, "num_distractors must be an integer >= 1, but got 0"),
        ({"p": 5, "num_distractors": 3}, "num_distractors must be p - 1 = 4 in the form fixed, but got 3"),
        ({"stop_probability": 0.0}, "stop_probability must be more than 0"),
        ({"stop_probability": 1.5}, r"stop_probability must be a number in \[0.0, 1.0\], but got 1.5"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(LongLag, **arguments)
