"""Autoencode against a plain list of cards, and by hand."""

from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.popgym.autoencode import Autoencode


def with_deck(suits: Any, **arguments: Any) -> SingleEnv:
    env = SingleEnv(Autoencode, **arguments)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "suits": np.array([suits], dtype=np.int64)})
    return env


def test_the_turn_from_watching_to_playing_by_hand() -> None:
    env = with_deck([0] * 48 + [1, 2, 1, 3], render_mode="ansi")
    for _ in range(47):
        outcome = env.step(0)
        assert outcome[1:] == (0.0, False, False, {"is_success": False})
        assert not np.signbit(outcome[1])
    unit = 1 / 52
    # Answer, reward, next mode, next suit. The last card, 3, comes with the change to play.
    table = [
        (3, 0.0, 1, 1),
        (3, 0.0, 1, 2),
        (3, 0.0, 1, 1),
        (3, 0.0, 0, 3),
        (3, unit, 0, 0),
        (0, -unit, 0, 0),
        (2, unit, 0, 0),
        (2, -unit, 0, 0),
        (0, unit, 0, 0),
    ]
    for answer, reward, mode, suit in table:
        observation, found, terminated, truncated, _ = env.step(answer)
        assert (observation.tolist(), terminated, truncated) == ([mode, suit], False, False)
        assert found == pytest.approx(reward, abs=1e-15)
        assert not np.signbit(found) or reward < 0
    assert env.render().startswith("play card 47 of 52: ")
    assert env.render().endswith("[S]")


@pytest.mark.parametrize("num_decks", [1, 2, 3])
def test_random_play_is_that_of_a_stack_of_cards(num_decks: int) -> None:
    env, rng = SingleEnv(Autoencode, num_decks=num_decks), np.random.default_rng(num_decks)
    for _ in range(3):
        observation, _ = env.reset()
        deck = env.get_state()["suits"][0].tolist()
        stack, total, steps, terminated = [deck.pop(0)], 0.0, 0, False
        assert observation.tolist() == [1, stack[-1]]
        while not terminated:
            action = int(rng.integers(4))
            if deck:
                stack.append(deck.pop(0))
                expected, reward = [int(len(deck) > 0), stack[-1]], 0.0
            else:
                expected, reward = [0, 0], (1 if stack.pop() == action else -1) / (52 * num_decks)
            observation, found, terminated, truncated, _ = env.step(action)
            assert observation.tolist() == expected
            assert found == pytest.approx(reward, abs=1e-15)
            assert terminated == (not stack)
            assert not truncated
            total, steps = total + found, steps + 1
        assert steps == 104 * num_decks - 1
        assert env.task.memory_length == steps - 1


@pytest.mark.parametrize("wrong_at", [None, 0, 50, 51, 77, 102])
def test_one_wrong_answer_is_no_success_but_nothing_counts_while_watching(wrong_at: int | None) -> None:
    suits = [0, 1, 2, 3] * 13
    env = with_deck(suits)
    for step in range(103):
        right = suits[min(102 - step, 51)]
        outcome = env.step((right + 1) % 4 if step == wrong_at else right)
    assert outcome[2]
    assert outcome[4]["is_success"] is (wrong_at is None or wrong_at < 51)


def test_a_failed_episode_doesnt_spoil_the_next() -> None:
    env = SingleEnv(Autoencode)
    for skilled in (False, True):
        env.reset(seed=0)
        suits = env.get_state()["suits"][0]
        outcomes = [env.step(suits[min(102 - step, 51)] if skilled else 0) for step in range(103)]
        assert outcomes[-1][4]["is_success"] is skilled


def test_the_memoryless_value_is_that_of_counted_frequencies() -> None:
    env = BatchedVectorEnv(Autoencode, 4_000)
    env.reset(seed=0)
    suits = env.get_state()["suits"]
    best = np.zeros(4)
    # What is answered to (play, 0) is the only choice that isn't plain: all four are tried.
    for answer in range(4):
        answers = np.full_like(suits, answer)
        answers[:, -1] = np.where(suits[:, -1] == 0, answer, suits[:, -1])
        right = (answers == suits).mean(axis=1)
        # The last suit is each with probability 1/4, and it decides the rest.
        best[answer] = 2 * np.mean([right[suits[:, -1] == suit].mean() for suit in range(4)]) - 1
    assert best.argmax() == 0
    assert best[0] == pytest.approx(env.memoryless_return.value, abs=1e-12)


def test_impossible_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="num_decks must be an integer >= 1, but got 0"):
        SingleEnv(Autoencode, num_decks=0)


def test_the_text_fills_while_watching_and_empties_in_play() -> None:
    env = with_deck([1, 2, 3, 0] * 13, render_mode="ansi")
    num_known = []
    for _ in range(104):
        num_known.append(sum(env.render().partition(": ")[2].count(suit) for suit in "SDCH"))
        if len(num_known) < 104:
            env.step(0)
    assert num_known == [*range(1, 53), *range(51, -1, -1)]
