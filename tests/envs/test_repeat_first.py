"""RepeatFirst by hand: rewards, ends, decks, and what the present suit tells about the first."""

from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.popgym.repeat_first import RepeatFirst


def with_deck(suits: Any, **arguments: Any) -> SingleEnv:
    env = SingleEnv(RepeatFirst, **arguments)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "suits": np.array([suits], dtype=np.int64)})
    return env


def test_a_hand_computed_beginning() -> None:
    env = with_deck([2, 0, 1, 2, 3] + [0] * 47, render_mode="ansi")
    unit = 1 / 51
    # Answer, next suit, reward: the first suit is 2.
    for answer, suit, reward in [(2, 0, unit), (0, 1, -unit), (2, 2, unit), (3, 3, -unit), (2, 0, unit)]:
        assert env.step(answer) == (suit, pytest.approx(reward, abs=1e-15), False, False, {"is_success": False})
    assert env.render() == "card 6 of 52: [C] S"


@pytest.mark.parametrize(("num_decks", "num_steps"), [(1, 51), (8, 415), (16, 831)])
def test_episodes_end_with_the_last_card_and_right_answers_earn_1(num_decks: int, num_steps: int) -> None:
    env = SingleEnv(RepeatFirst, num_decks=num_decks)
    first, _ = env.reset(seed=3)
    outcomes = [env.step(first) for _ in range(num_steps)]
    assert [outcome[2] for outcome in outcomes] == [False] * (num_steps - 1) + [True]
    assert not any(outcome[3] for outcome in outcomes)
    assert sum(outcome[1] for outcome in outcomes) == pytest.approx(1.0, abs=1e-9)
    assert outcomes[-1][4]["is_success"]
    assert env.task.memory_length == num_steps - 1


@pytest.mark.parametrize("wrong_at", [0, 25, 50])
def test_one_wrong_answer_is_no_success_and_the_next_episode_may_be_one(wrong_at: int) -> None:
    env = SingleEnv(RepeatFirst)
    for wrong in (wrong_at, None):
        first, _ = env.reset(seed=1)
        for step in range(51):
            outcome = env.step((first + (step == wrong)) % 4)
        assert outcome[4]["is_success"] is (wrong is None)


def test_every_deck_has_thirteen_cards_of_each_suit_per_deck_and_orders_differ() -> None:
    env = BatchedVectorEnv(RepeatFirst, 200, num_decks=2)
    env.reset(seed=0)
    suits = env.get_state()["suits"]
    assert all(np.bincount(deck, minlength=4).tolist() == [26] * 4 for deck in suits)
    assert np.unique(suits, axis=0).shape[0] == 200
    assert np.abs(suits.mean(axis=0) - 1.5).max() < 5 * np.sqrt(1.25 / 200)


@pytest.mark.parametrize("num_decks", [1, 8, 16])
def test_the_memoryless_value_is_the_best_of_all_tables_from_suit_to_answer(num_decks: int) -> None:
    num_cards = 52 * num_decks
    # P(first suit, present suit), summed over the steps at which something is asked.
    pairs = (np.full((4, 4), num_cards / 4) - np.eye(4)) / (4 * (num_cards - 1)) * (num_cards - 2) + np.eye(4) / 4
    right = pairs.max(axis=0).sum()
    assert np.array_equal(pairs.argmax(axis=0), np.arange(4))
    value = SingleEnv(RepeatFirst, num_decks=num_decks).memoryless_return.value
    assert value == pytest.approx(2 * right / (num_cards - 1) - 1, abs=1e-12)


def test_impossible_arguments_are_named() -> None:
    for num_decks in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=f"num_decks must be an integer >= 1, but got {num_decks}"):
            SingleEnv(RepeatFirst, num_decks=num_decks)


def test_the_text_shows_the_first_and_the_present_card() -> None:
    env = with_deck([0, 3] + [0] * 50, render_mode="ansi")
    assert env.render() == "card 1 of 52: [S] S"
    env.step(0)
    assert env.render() == "card 2 of 52: [S] H"
