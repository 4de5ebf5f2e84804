"""HigherLower by hand, and its two returns by exact recursion on small decks and by simulation on whole ones."""

import itertools
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.popgym import higher_lower
from rlstm.envs.popgym.higher_lower import HigherLower

slow = pytest.mark.slow


def with_deck(ranks: Any, **arguments: Any) -> SingleEnv:
    env = SingleEnv(HigherLower, **arguments)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "ranks": np.array([ranks], dtype=np.int64)})
    return env


def test_a_hand_computed_beginning() -> None:
    env = with_deck([6, 7, 3, 3, 12, 0] + [0] * 46, render_mode="ansi")
    unit = 1 / 52
    # Guess, next rank, reward, more right than wrong so far.
    table = [
        (0, 7, unit, True),
        (0, 3, -unit, False),
        (1, 3, 0.0, False),
        (0, 12, unit, True),
        (1, 0, unit, True),
        (0, 0, 0.0, True),
    ]
    for guess, rank, reward, ahead in table:
        outcome = env.step(guess)
        assert outcome == (rank, pytest.approx(reward, abs=1e-15), False, False, {"is_success": ahead})
        assert not np.signbit(outcome[1]) or reward < 0
    assert env.render().startswith("card 7 of 52: A, score 2\nto come: ")


@pytest.mark.parametrize("num_decks", [1, 2, 3])
def test_random_play_is_that_of_plain_comparisons_to_the_last_card(num_decks: int) -> None:
    env, rng = SingleEnv(HigherLower, num_decks=num_decks), np.random.default_rng(0)
    present, _ = env.reset(seed=0)
    num_cards, seen, score = 52 * num_decks, [present], 0
    for step in range(num_cards - 1):
        guess = int(rng.integers(2))
        following, reward, terminated, truncated, info = env.step(guess)
        points = 0 if following == present else 1 if (following > present) == (guess == 0) else -1
        score += points
        assert reward == pytest.approx(points / num_cards, abs=1e-15)
        assert (terminated, truncated) == (step == num_cards - 2, False)
        seen.append(following)
        present = following
    assert info["is_success"] is (score > 0)
    assert np.bincount(seen).tolist() == [4 * num_decks] * 13
    assert env.task.memory_length == num_cards - 2


def test_as_many_right_as_wrong_is_no_success() -> None:
    env = with_deck([0, 1, 2] + [2] * 49)
    outcomes = [env.step(guess) for guess in [0, 1] + [0] * 49]
    assert outcomes[-1][2]
    assert outcomes[-1][4] == {"is_success": False}


def mean_return_of_counting(deck: list[int]) -> float:
    """By all orders of a small deck."""
    total, orders = 0.0, list(itertools.permutations(deck))
    for order in orders:
        for place in range(len(order) - 1):
            to_come = np.array(order[place + 1 :])
            total += abs(np.sign(to_come - order[place]).sum()) / len(to_come)
    return total / len(orders) / len(deck)


@pytest.mark.parametrize(
    ("num_ranks", "per_rank"),
    [
        (3, 2),
        pytest.param(4, 2, marks=slow),
        pytest.param(2, 4, marks=slow),
        pytest.param(7, 1, marks=slow),
        (2, 1),
    ],
)
def test_the_sum_over_hypergeometric_odds_is_the_mean_over_all_orders(
    num_ranks: int, per_rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(higher_lower, "NUM_RANKS", num_ranks)
    monkeypatch.setattr(higher_lower, "CARDS_PER_DECK", num_ranks * per_rank)
    deck = [rank for rank in range(num_ranks) for _ in range(per_rank)]
    found = higher_lower._counting_return.__wrapped__(1)
    assert found == pytest.approx(mean_return_of_counting(deck), abs=1e-12)


def test_the_memoryless_value_is_the_best_table_from_rank_to_guess() -> None:
    for num_decks in (1, 2, 3):
        deck = np.arange(13).repeat(4 * num_decks)
        signs = np.sign(deck[None, :] - deck[:, None]).sum(axis=1)
        # Each of the N - 1 guesses is about a pair that is equally likely to be any two cards.
        value = np.abs(signs).sum() / deck.size / deck.size
        assert SingleEnv(HigherLower, num_decks=num_decks).memoryless_return.value == pytest.approx(value, abs=1e-12)


def test_orders_differ_and_every_rank_is_dealt_first() -> None:
    env = BatchedVectorEnv(HigherLower, 400)
    first, _ = env.reset(seed=0)
    assert np.unique(first).size == 13
    assert np.unique(env.get_state()["ranks"], axis=0).shape[0] == 400


def test_impossible_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="num_decks must be an integer >= 1, but got 0"):
        SingleEnv(HigherLower, num_decks=0)


def test_the_text_shows_the_cards_to_come() -> None:
    env = SingleEnv(HigherLower, render_mode="ansi")
    rank, _ = env.reset(seed=0)
    left = np.full(13, 4)
    for _ in range(51):
        left[rank] -= 1
        words = env.render().partition("to come: ")[2].split()
        assert words == [f"{count}x{name}" for name, count in zip("A23456789TJQK", left, strict=True)]
        rank = env.step(0)[0]
