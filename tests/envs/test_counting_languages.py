"""Counting languages against the language spelled out in strings."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.sequences.counting_languages import CountingLanguage


def spell(num_letters: int, n: int) -> str:
    return "S" + "".join(letter * n for letter in "abcde"[:num_letters]) + "T"


def legal_next(num_letters: int, read: str) -> set[str]:
    """What the strings of the language with this beginning go on with; longer ones than these add nothing."""
    strings = [spell(num_letters, n) for n in range(1, len(read) + 2)]
    return {string[len(read)] for string in strings if string.startswith(read) and len(string) > len(read)}


def read_string(env: Any, names: str, **reset: Any) -> tuple[str, list[set[str]]]:
    """One whole string with the targets on the way."""
    symbol, _ = env.reset(**reset)
    read, targets, terminated = names[symbol], [], False
    while not terminated:
        symbol, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert not truncated
        targets.append({names[1 + index] for index in np.flatnonzero(info["target"])})
        read += names[symbol]
    return read, targets


@pytest.mark.parametrize("num_letters", [2, 3, 5])
def test_strings_are_in_the_language_and_targets_are_what_it_goes_on_with(num_letters: int) -> None:
    env, names = SingleEnv(CountingLanguage, num_letters=num_letters, max_n=6), "Sabcde"[: num_letters + 1] + "T"
    lengths = set()
    for seed in range(40):
        read, targets = read_string(env, names, seed=seed)
        n = read.count("a")
        assert read == spell(num_letters, n)
        assert targets == [legal_next(num_letters, read[: i + 1]) for i in range(len(read) - 1)]
        lengths.add(n)
    assert lengths == set(range(1, 7))


def test_a_hand_written_string_a_step_at_a_time() -> None:
    env = SingleEnv(CountingLanguage, num_letters=3, min_n=2, max_n=2)
    unit = pytest.approx(1 / 7, abs=1e-15)
    table = [
        # The answer for a, b, c and T, the right one, the next symbol, the reward.
        ([1, 0, 0, 0], [1, 0, 0, 0], 1, unit),
        ([1, 1, 0, 0], [1, 1, 0, 0], 1, unit),
        ([0, 1, 0, 0], [1, 1, 0, 0], 2, 0.0),  # That a's might go on belongs to the answer, although they don't.
        ([0, 1, 0, 0], [0, 1, 0, 0], 2, unit),
        ([0, 1, 1, 0], [0, 0, 1, 0], 3, 0.0),  # One symbol too many is as wrong as one too few.
        ([0, 0, 1, 0], [0, 0, 1, 0], 3, unit),
        ([0, 0, 0, 1], [0, 0, 0, 1], 4, unit),
    ]
    assert env.reset(seed=0)[0] == 0
    for step, (answer, right, symbol, reward) in enumerate(table):
        found = env.step(np.array(answer))
        assert found[:4] == (symbol, reward, step == 6, False)
        assert found[4]["target"].tolist() == right
        assert found[4]["is_success"] is False


@pytest.mark.parametrize("wrong_at", [None, 0, 3, 8])
def test_a_string_is_accepted_if_and_only_if_every_set_was_right(wrong_at: int | None) -> None:
    env, names = SingleEnv(CountingLanguage, min_n=4, max_n=4), "SabT"
    symbol, _ = env.reset(seed=0)
    read, terminated, successes, total = names[symbol], False, [], 0.0
    while not terminated:
        answer = np.array([name in legal_next(2, read) for name in names[1:]]).astype(int)
        if len(successes) == wrong_at:
            answer[-1] ^= 1
        symbol, reward, terminated, _, info = env.step(answer)
        read += names[symbol]
        total += reward
        successes.append(info["is_success"])
    assert successes == [False] * 8 + [wrong_at is None]
    assert total == pytest.approx(1 if wrong_at is None else 8 / 9)


def test_an_error_counts_only_against_the_string_it_is_in() -> None:
    env = SingleEnv(CountingLanguage, max_n=1)
    for wrong in (True, False):
        env.reset(seed=0)
        env.step(np.array([1, 1, 1] if wrong else [1, 0, 0]))
        env.step(np.array([1, 1, 0]))
        assert env.step(np.array([0, 0, 1]))[4]["is_success"] is not wrong


@pytest.mark.parametrize(("min_n", "max_n"), [(1, 10), (4, 6), (7, 7)])
def test_n_is_uniform_from_min_n_to_max_n(min_n: int, max_n: int) -> None:
    env = BatchedVectorEnv(CountingLanguage, 20_000, min_n=min_n, max_n=max_n)
    env.reset(seed=0)
    counts = np.bincount(env.get_state()["repeats"], minlength=max_n + 1)
    share = 1 / (max_n - min_n + 1)
    assert counts[:min_n].sum() == 0
    assert np.abs(counts[min_n:] / 20_000 - share).max() <= 5 * np.sqrt(share * (1 - share) / 20_000)
    assert counts.size == max_n + 1


def test_each_episode_draws_its_own_n() -> None:
    env = SingleEnv(CountingLanguage)
    env.reset(seed=0)
    assert len({read_string(env, "SabT")[0] for _ in range(60)}) == 10


def test_targets_do_not_depend_on_the_range_that_n_is_drawn_from() -> None:
    for arguments in ({"min_n": 3, "max_n": 3}, {"min_n": 1, "max_n": 3}, {"min_n": 3, "max_n": 50}):
        env = SingleEnv(CountingLanguage, **arguments)
        env.reset(seed=0)
        env.set_state({**env.get_state(), "repeats": np.array([3])})
        targets = [env.step(np.zeros(3, dtype=int))[4]["target"].tolist() for _ in range(7)]
        assert targets == [[1, 0, 0], *[[1, 1, 0]] * 3, *[[0, 1, 0]] * 2, [0, 0, 1]]


@pytest.mark.parametrize(("num_letters", "min_n", "max_n"), [(2, 1, 10), (3, 1, 10), (3, 1, 2), (2, 1, 1), (4, 1, 3)])
def test_the_memoryless_value_is_the_best_of_all_tables_from_symbols_to_sets(
    num_letters: int, min_n: int, max_n: int
) -> None:
    followed: dict[str, dict[frozenset[str], int]] = {}
    num_sets = 0
    for n in range(min_n, max_n + 1):
        string = spell(num_letters, n)
        for end in range(1, len(string)):
            right = frozenset(legal_next(num_letters, string[:end]))
            sets = followed.setdefault(string[end - 1], {})
            sets[right] = sets.get(right, 0) + 1
            num_sets += 1
    best = sum(max(sets.values()) for sets in followed.values()) / num_sets
    env = SingleEnv(CountingLanguage, num_letters=num_letters, min_n=min_n, max_n=max_n)
    assert env.memoryless_return.value == best
    assert (best == 1) == (env.task.memory_length == 0)


def test_the_registered_ids_are_the_languages_of_two_and_three_letters() -> None:
    for env_id, num_letters, value in (("rlstm/AnBn-v0", 2, 110 / 120), ("rlstm/AnBnCn-v0", 3, 155 / 175)):
        env = gym.make(env_id).unwrapped
        assert (env.task.num_letters, env.task.min_n, env.task.max_n) == (num_letters, 1, 10)
        assert env.memoryless_return.value == pytest.approx(value)


def test_the_text_shows_the_string_and_what_is_legal() -> None:
    env = SingleEnv(CountingLanguage, num_letters=2, min_n=2, max_n=2, render_mode="ansi")
    env.reset(seed=0)
    texts = [env.render()]
    for _ in range(5):
        env.step(np.zeros(3, dtype=int))
        texts.append(env.render())
    assert texts == [
        "S  next: a",
        "Sa  next: a b",
        "Saa  next: a b",
        "Saab  next: b",
        "Saabb  next: T",
        "SaabbT  next: ",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_letters": 1}, "num_letters must be an integer >= 2, but got 1"),
        ({"num_letters": 27}, "num_letters must be an integer <= 26, but got 27"),
        ({"min_n": 0}, "min_n must be an integer >= 1, but got 0"),
        ({"max_n": 2.0}, "max_n for min_n 1 must be an integer >= 1, but got 2.0"),
        ({"min_n": 5, "max_n": 4}, "max_n for min_n 5 must be an integer >= 5, but got 4"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(CountingLanguage, **arguments)
