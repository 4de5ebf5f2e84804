"""The embedded Reber grammar against its strings, written down as a regular expression and enumerated."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import SingleEnv
from rlstm.envs.sequences.reber import EmbeddedReber

SYMBOLS = "BTPSXVE"
LOOP = "T*V(?:PXT*V)*(?:V|PS)"
INNER = f"B(?:TS*X(?:S|X{LOOP})|P{LOOP})E"
STRING = re.compile(f"BT{INNER}TE|BP{INNER}PE")
LONGEST, LONGEST_COMPLETION = 30, 9


def write_loops(room: int) -> Iterator[tuple[str, float]]:
    """All of LOOP with at most `room` symbols, with their probabilities."""
    for num_t in range(room - 1):
        beginning, probability = "T" * num_t + "V", 0.5 ** (num_t + 1)
        yield beginning + "V", probability / 2
        if room >= num_t + 3:
            yield beginning + "PS", probability / 4
        for rest, factor in write_loops(room - num_t - 3):
            yield beginning + "PX" + rest, probability / 4 * factor


@cache
def write_strings() -> dict[str, float]:
    """All strings of at most LONGEST symbols, with their probabilities."""
    inner = {f"P{loop}": 0.5 * factor for loop, factor in write_loops(LONGEST - 7)}
    for num_s in range(LONGEST - 9):
        beginning, probability = "T" + "S" * num_s + "X", 0.5 ** (num_s + 2)
        inner[f"{beginning}S"] = probability / 2
        for loop, factor in write_loops(LONGEST - 9 - num_s):
            inner[f"{beginning}X{loop}"] = probability / 2 * factor
    strings = {f"B{first}B{word}E{first}E": p / 2 for word, p in inner.items() for first in "TP"}
    return {string: p for string, p in strings.items() if len(string) <= LONGEST}


@cache
def legal_after() -> dict[str, set[str]]:
    """What follows each beginning of these strings."""
    following: dict[str, set[str]] = {}
    for string in write_strings():
        for end in range(1, len(string)):
            following.setdefault(string[:end], set()).add(string[end])
    return following


def as_answer(symbols: set[str]) -> Any:
    return np.array([symbol in symbols for symbol in SYMBOLS]).astype(int)


def read_episode(env: Any, **reset: Any) -> tuple[str, list[set[str]]]:
    """One whole episode with the targets on the way."""
    symbol, _ = env.reset(**reset)
    read, targets, terminated = SYMBOLS[symbol], [], False
    while not terminated:
        symbol, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert not truncated
        targets.append({SYMBOLS[index] for index in np.flatnonzero(info["target"])})
        read += SYMBOLS[symbol]
    return read, targets


def sample_strings(num: int) -> list[str]:
    sequences = EmbeddedReber.sample_sequences(num, np.random.default_rng(0))
    lengths = sequences.valid.sum(axis=0)
    letters = np.array(list(SYMBOLS))[sequences.inputs].T
    # The last E is seen after the last step, so inputs lack it.
    return ["".join(row[:length]) + "E" for row, length in zip(letters, lengths, strict=True)]


def test_the_enumeration_is_of_the_regular_expression_and_of_nearly_all_strings() -> None:
    strings = write_strings()
    assert all(STRING.fullmatch(string) for string in strings)
    assert 0.99 < sum(strings.values()) < 1
    # The shortest strings have 9 symbols: four choices of one half in each.
    assert {s: p for s, p in strings.items() if len(s) <= 9} == {
        f"B{first}B{word}E{first}E": p for first in "TP" for word, p in (("TXS", 1 / 16), ("PVV", 1 / 16))
    }


def test_strings_are_in_the_grammar_and_targets_are_what_it_goes_on_with() -> None:
    env, following, checked = SingleEnv(EmbeddedReber), legal_after(), 0
    for seed in range(100):
        read, targets = read_episode(env, seed=seed)
        assert STRING.fullmatch(read)
        # The beginnings of longer strings may have only longer ways on than were written down.
        for end in range(1, min(len(read), LONGEST - LONGEST_COMPLETION)):
            assert targets[end - 1] == following[read[:end]], read[:end]
            checked += 1
    assert checked > 1_000


def test_frequencies_and_lengths_of_strings_are_those_of_the_grammar() -> None:
    num = 20_000
    found = sample_strings(num)
    assert all(STRING.fullmatch(string) for string in found)
    strings = write_strings()

    def assert_share(count: int, probability: float) -> None:
        assert abs(count / num - probability) < 5 * np.sqrt(probability * (1 - probability) / num)

    for string in sorted(strings, key=strings.__getitem__)[-12:]:
        assert_share(found.count(string), strings[string])
    lengths = [len(string) for string in found]
    for length in range(9, 21):
        assert_share(lengths.count(length), sum(p for string, p in strings.items() if len(string) == length))
    assert min(lengths) == 9
    # One symbol more than the 11 sets that are asked for on average.
    assert np.mean(lengths) == pytest.approx(12, abs=5 * np.std(lengths) / np.sqrt(num))


def test_the_symbol_after_the_inner_string_is_always_the_second_one() -> None:
    env = SingleEnv(EmbeddedReber)
    seconds = set()
    for seed in range(50):
        read, targets = read_episode(env, seed=seed)
        assert read[1] == read[-2]
        assert targets[-2] == {read[1]}
        assert targets[-1] == {"E"}
        seconds.add(read[1])
    assert seconds == {"T", "P"}


def test_a_hand_written_string_a_step_at_a_time() -> None:
    word = "BPBTSXXTVVEPE"
    seed = next(s for s in range(50_000) if read_episode_fast(s, len(word)) == word)
    env, unit = SingleEnv(EmbeddedReber), pytest.approx(1 / 11, abs=1e-12)
    assert env.reset(seed=seed)[0] == 0
    rights = ["TP", "B", "TP", "SX", "SX", "SX", "TV", "TV", "PV", "E", "P", "E"]
    for step, (right, symbol) in enumerate(zip(rights, word[1:], strict=True)):
        answer = as_answer(set(right))
        if step in (3, 10):
            answer[SYMBOLS.index("T")] ^= 1  # One symbol too many is wrong.
        found = env.step(answer)
        assert SYMBOLS[found[0]] == symbol
        assert found[1] == (0.0 if step in (3, 10) else unit)
        assert found[2:4] == (step == 11, False)
        assert found[4]["target"].tolist() == as_answer(set(right)).tolist()
        assert found[4]["is_success"] is False


def read_episode_fast(seed: int, longest: int) -> str:
    """The symbols of an episode, as far as `longest` symbols."""
    env = SingleEnv(EmbeddedReber)
    read = SYMBOLS[env.reset(seed=seed)[0]]
    for _ in range(longest - 1):
        symbol, _, terminated, _, _ = env.step(np.zeros(7, dtype=int))
        read += SYMBOLS[symbol]
        if terminated:
            break
    return read


@pytest.mark.parametrize("wrong_at", [None, "first", "last"])
@pytest.mark.parametrize("num_strings", [1, 3])
def test_success_is_every_set_right_in_all_strings(num_strings: int, wrong_at: str | None) -> None:
    env = SingleEnv(EmbeddedReber, num_strings=num_strings)
    for seed in range(20):
        read, targets = read_episode(env, seed=seed)
        env.reset(seed=seed)
        wrong_step = {None: None, "first": 0, "last": len(targets) - 1}[wrong_at]
        for step, target in enumerate(targets):
            _, _, terminated, _, info = env.step(as_answer(target ^ {"X"} if step == wrong_step else target))
            assert info["is_success"] is (terminated and wrong_at is None)
        assert terminated
        assert read.endswith("E")


def test_the_continual_form_is_strings_after_each_other_with_b_legal_in_between() -> None:
    env = SingleEnv(EmbeddedReber, num_strings=4)
    for seed in range(30):
        read, targets = read_episode(env, seed=seed)
        words = STRING.findall(read)
        assert len(words) == 4
        assert "".join(words) == read
        ends = np.cumsum([len(word) for word in words])
        assert [targets[end - 1] for end in ends[:-1]] == [{"B"}] * 3
        assert len(targets) == len(read) - 1


@pytest.mark.parametrize("num_strings", [1, 2, 3, 10])
def test_the_memoryless_value_is_the_best_of_all_tables_from_symbols_to_sets(num_strings: int) -> None:
    # Of one string, by hand: how often each symbol is followed by the set that follows it most often. B twice, T half a
    # time inside from node 1 and once at the loop, where {T, V} follows; P, S and X half a time each; V once.
    inside = 2 + 1 + 0.5 + 0.5 + 0.5 + 1
    after_e = max(0.5 * num_strings, num_strings - 1)
    best = (num_strings * inside + after_e) / (11 * num_strings + num_strings - 1)
    assert SingleEnv(EmbeddedReber, num_strings=num_strings).memoryless_return.value == pytest.approx(best, abs=1e-12)


@pytest.mark.slow
def test_sums_over_the_enumerated_strings_give_the_memoryless_value_too() -> None:
    following, followed, num_sets = legal_after(), {}, 0.0
    for string, probability in write_strings().items():
        for end in range(1, len(string)):
            # Beginnings too long for all their ways on to be written down are rare.
            key = string[end - 1], "".join(sorted(following[string[:end]]))
            followed[key] = followed.get(key, 0.0) + probability
            num_sets += probability
    best = sum(max(p for (symbol, _), p in followed.items() if symbol == one) for one in SYMBOLS)
    assert best / num_sets == pytest.approx(SingleEnv(EmbeddedReber).memoryless_return.value, abs=0.01)
    assert num_sets == pytest.approx(11, abs=0.1)


def test_the_text_shows_the_symbol_and_what_is_legal() -> None:
    env = SingleEnv(EmbeddedReber, num_strings=2, render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "string 1 of 2: B  next: T P"
    terminated, texts = False, []
    while not terminated:
        terminated = env.step(np.zeros(7, dtype=int))[2]
        texts.append(env.render())
    assert "string 1 of 2: E  next: T" in texts or "string 1 of 2: E  next: P" in texts
    assert "string 2 of 2: E  next: B" in texts
    assert texts[-1] == "string 2 of 2: E  next: "


@pytest.mark.parametrize("num_strings", [0, 1.5, True])
def test_impossible_arguments_are_named(num_strings: Any) -> None:
    with pytest.raises(ValueError, match=f"num_strings must be an integer >= 1, but got {num_strings}"):
        SingleEnv(EmbeddedReber, num_strings=num_strings)
