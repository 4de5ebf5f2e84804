"""CountRecall against plain counting, and its memoryless value by exact sums."""

from math import comb
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.popgym.count_recall import CountRecall

LEVELS = [(1, "colors", 2), (2, "suits", 4), (4, "ranks", 13)]


def test_a_hand_computed_beginning() -> None:
    env = SingleEnv(CountRecall, render_mode="ansi")
    env.reset(seed=0)
    dealt, queried = [1, 1, 0, 1] + [0] * 48, [1, 0, 1, 1] + [0] * 48
    cards = {"dealt": np.array([dealt]), "queried": np.array([queried]), "counts": np.array([[0, 1]])}
    env.set_state({**env.get_state(), **cards})
    assert env.render() == "card 1 of 52: R; how many R? [1]\nseen: 0xB 1xR"
    unit = 1 / 51
    # Answer, reward, next observation: asked are 1 of type 1, 0 of type 0, 2 of type 1, 3 of type 1, 2 of type 0.
    table = [(1, unit, [1, 0]), (0, unit, [0, 1]), (1, -unit, [1, 1]), (3, unit, [0, 0]), (26, -unit, [0, 0])]
    for answer, reward, observation in table:
        found = env.step(answer)
        assert found[0].tolist() == observation
        assert found[1:] == (pytest.approx(reward, abs=1e-15), False, False, {"is_success": False})


@pytest.mark.parametrize(("num_decks", "deck_type", "num_types"), LEVELS)
@pytest.mark.parametrize("skill", [0.5, 1.0])
def test_rewards_are_those_of_plain_counting(num_decks: int, deck_type: str, num_types: int, skill: float) -> None:
    env, rng = SingleEnv(CountRecall, num_decks=num_decks, deck_type=deck_type), np.random.default_rng(0)
    num_cards = 52 * num_decks
    for _ in range(2):
        observation, _ = env.reset()
        seen, rewards, terminated = [int(observation[0])], [], False
        while not terminated:
            right = seen.count(int(observation[1]))
            action = right if rng.random() < skill else int(rng.integers(num_cards // num_types + 1))
            observation, reward, terminated, truncated, info = env.step(action)
            seen.append(int(observation[0]))
            rewards.append(reward)
            assert reward == pytest.approx((1 if action == right else -1) / (num_cards - 1), abs=1e-15)
            assert not truncated
        assert len(rewards) == num_cards - 1
        assert [seen.count(kind) for kind in range(num_types)] == [num_cards // num_types] * num_types
        assert info["is_success"] is (skill == 1.0)
        assert env.task.memory_length == num_cards - 2


def test_a_failed_episode_doesnt_spoil_the_next() -> None:
    env = SingleEnv(CountRecall)
    for skilled in (False, True):
        observation, _ = env.reset(seed=0)
        counts = [0, 0]
        for _ in range(51):
            counts[observation[0]] += 1
            observation, *_, info = env.step(counts[observation[1]] if skilled else 26)
        assert info["is_success"] is skilled


@pytest.mark.parametrize(("num_decks", "deck_type", "num_types"), LEVELS)
def test_the_two_decks_are_whole_and_independent(num_decks: int, deck_type: str, num_types: int) -> None:
    env = BatchedVectorEnv(CountRecall, 500, num_decks=num_decks, deck_type=deck_type)
    env.reset(seed=0)
    state = env.get_state()
    for cards in (state["dealt"], state["queried"]):
        assert all(np.bincount(deck).tolist() == [52 * num_decks // num_types] * num_types for deck in cards)
    assert np.array_equal(state["counts"], np.eye(num_types, dtype=int)[state["dealt"][:, 0]])
    assert (state["dealt"] == state["queried"]).mean() == pytest.approx(1 / num_types, abs=0.02)


@pytest.mark.parametrize(("num_decks", "deck_type", "num_types"), LEVELS)
def test_the_memoryless_value_is_the_best_table_from_types_to_counts(
    num_decks: int, deck_type: str, num_types: int
) -> None:
    num_cards = 52 * num_decks
    per_type = num_cards // num_types

    def best_answer(marks: int, offset: int) -> float:
        """Most answers right in the mean, if `marks` of the other cards are of the type asked for."""
        others = num_cards - 1
        right = np.zeros(per_type + 1)
        for dealt_before in range(num_cards - 1):
            for hits in range(marks + 1):
                if 0 <= dealt_before - hits <= others - marks:
                    ways = comb(marks, hits) * comb(others - marks, dealt_before - hits)
                    right[hits + offset] += ways / comb(others, dealt_before)
        assert right[1] == pytest.approx(right.max(), abs=1e-9)
        return float(right.max())

    right = best_answer(per_type - 1, 1) / num_types + best_answer(per_type, 0) * (1 - 1 / num_types)
    value = SingleEnv(CountRecall, num_decks=num_decks, deck_type=deck_type).memoryless_return.value
    assert value == pytest.approx(2 * right / (num_cards - 1) - 1, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_decks": 0}, "num_decks must be an integer >= 1, but got 0"),
        ({"deck_type": "colours"}, "deck_type must be one of colors, suits, ranks, but got 'colours'"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(CountRecall, **arguments)


def test_the_text_shows_each_count() -> None:
    env = SingleEnv(CountRecall, deck_type="suits", render_mode="ansi")
    env.reset(seed=0)
    for step in range(52):
        words = env.render().partition("seen: ")[2].split()
        assert words == [f"{count}x{suit}" for suit, count in zip("SDCH", env.get_state()["counts"][0], strict=True)]
        if step < 51:
            env.step(0)
