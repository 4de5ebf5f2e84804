"""RepeatPrevious, by hand and side by side with POPGym."""

from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.popgym.repeat_previous import RepeatPrevious

slow = pytest.mark.slow


def with_deck(suits: Any, **arguments: Any) -> SingleEnv:
    env = SingleEnv(RepeatPrevious, **arguments)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "suits": np.array([suits], dtype=np.int64)})
    return env


def test_a_hand_computed_beginning_with_k_3() -> None:
    env = with_deck([2, 0, 1, 1, 3] + [0] * 47, k=3)
    unit = 1 / 49
    table = [
        # Seen so far, answer, next suit, reward. Asked is the third card from the end.
        ("2", 2, 0, 0.0),
        ("2 0", 2, 1, 0.0),
        ("2 0 1", 2, 1, unit),
        ("2 0 1 1", 1, 3, -unit),
        ("2 0 1 1 3", 1, 0, unit),
        ("2 0 1 1 3 0", 1, 0, unit),
        ("2 0 1 1 3 0 0", 0, 0, -unit),
    ]
    for _, answer, suit, reward in table:
        assert env.step(answer) == (suit, pytest.approx(reward, abs=0), False, False, {"is_success": False})


@pytest.mark.parametrize(("num_decks", "k", "num_steps"), [(1, 4, 51), (2, 32, 103), (3, 64, 155)])
def test_episodes_end_with_the_last_card(num_decks: int, k: int, num_steps: int) -> None:
    env = SingleEnv(RepeatPrevious, num_decks=num_decks, k=k)
    env.reset(seed=0)
    outcomes = [env.step(0) for _ in range(num_steps)]
    assert [outcome[2] for outcome in outcomes] == [False] * (num_steps - 1) + [True]
    assert not any(outcome[3] for outcome in outcomes)
    assert sum(outcome[1] != 0 for outcome in outcomes) == 52 * num_decks - k


def test_one_wrong_answer_is_no_success() -> None:
    suits = [0, 1, 2, 3] * 13
    for wrong_at in (None, 1, 50, 51):
        env = with_deck(suits, k=2)
        for cards_seen in range(1, 52):
            right = suits[max(cards_seen - 2, 0)]
            outcome = env.step((right + 1) % 4 if cards_seen == wrong_at else right)
        # With one card seen nothing is asked yet, so a wrong answer there doesn't count.
        assert outcome[4]["is_success"] is (wrong_at in (None, 1))


def test_every_deck_has_thirteen_cards_of_each_suit_per_deck_and_orders_differ() -> None:
    env = BatchedVectorEnv(RepeatPrevious, 200, num_decks=2)
    env.reset(seed=0)
    suits = env.get_state()["suits"]
    assert all(np.bincount(deck, minlength=4).tolist() == [26] * 4 for deck in suits)
    assert np.unique(suits, axis=0).shape[0] == 200
    assert np.abs(suits.mean(axis=0) - 1.5).max() < 5 * np.sqrt(1.25 / 200)


@pytest.mark.parametrize(("num_decks", "k"), [(1, 4), pytest.param(2, 32, marks=slow)])
def test_the_memoryless_value_is_the_best_answer_to_the_present_suit(num_decks: int, k: int) -> None:
    env = BatchedVectorEnv(RepeatPrevious, 10_000, num_decks=num_decks, k=k)
    env.reset(seed=1)
    suits = env.get_state()["suits"]
    asked, present = suits[:, : 1 - k].ravel(), suits[:, k - 1 :].ravel()
    # The last card is present to no question.
    pairs = np.zeros((4, 4))
    valid = np.tile(np.arange(suits.shape[1] - k + 1) < suits.shape[1] - k, len(suits))
    np.add.at(pairs, (present[valid], asked[valid]), 1)
    pairs /= pairs.sum()
    num_cards = 52 * num_decks
    expected = np.full((4, 4), num_cards / 4) - np.eye(4)
    expected /= 4 * (num_cards - 1)
    assert np.abs(pairs - expected).max() < 5e-4
    # The exact table gives the exact value: the best answer to each present suit.
    assert 2 * expected.max(axis=1).sum() - 1 == pytest.approx(env.memoryless_return.value, abs=1e-12)


@pytest.mark.parametrize(("num_decks", "k"), [(1, 4), (2, 32), (3, 64), (1, 1)])
def test_popgym_gives_the_same_observations_rewards_and_ends(num_decks: int, k: int) -> None:
    popgym_module = pytest.importorskip("popgym.envs.repeat_previous")
    theirs = popgym_module.RepeatPrevious(num_decks=num_decks, k=k)
    rng = np.random.default_rng(0)
    for episode in range(5):
        first, _ = theirs.reset(seed=episode)
        # Their deck is dealt from the end.
        suits = theirs.deck.suits_idx[theirs.deck.idx[::-1]]
        ours = with_deck(suits, num_decks=num_decks, k=k)
        assert ours.task.observe()[0] == first
        terminated = False
        while not terminated:
            action = int(rng.integers(4))
            their_outcome, our_outcome = theirs.step(action), ours.step(action)
            assert our_outcome[:4] == their_outcome[:4]
            terminated = our_outcome[2]
