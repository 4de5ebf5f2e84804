"""Concentration against plain lists of cards, its rewards by hand, and its best play by dynamic programming."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.popgym.concentration import FAILED_PAIRS_AT_BEST, Concentration

RANKS = np.arange(13).repeat(4)  # Places 0 ... 3 are aces, 4 ... 7 twos and so on.
UNIT = 1 / 104


@pytest.fixture(scope="module")
def plays() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "concentration_plays", Path(__file__).parent / "plays/concentration.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_cards(types: Any, **arguments: Any) -> SingleEnv:
    env = SingleEnv(Concentration, **arguments)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "types": np.array([types], dtype=np.int64)})
    return env


def in_view(observation: Any) -> dict[int, int]:
    return {int(place): int(observation[place]) for place in np.flatnonzero(observation != 13)}


def test_the_table_of_rewards_by_hand() -> None:
    env = with_cards(RANKS)
    # Choice, reward, what is in view by place.
    table = [
        (0, 0, {0: 0}),
        (4, -2, {0: 0, 4: 1}),  # No pair: both are seen, until the next choice.
        (4, 0, {4: 1}),
        (4, -2, {4: 1}),  # The same card twice.
        (4, 0, {4: 1}),
        (7, 4, {4: 1, 7: 1}),  # A pair stays.
        (7, -1, {4: 1, 7: 1}),  # Already up: the next choice is a first one again.
        (4, -1, {4: 1, 7: 1}),
        (51, 0, {4: 1, 7: 1, 51: 12}),
        (7, -2, {4: 1, 7: 1, 51: 12}),
        (5, 0, {4: 1, 7: 1, 5: 1}),
        (4, -2, {4: 1, 7: 1, 5: 1}),  # Of the same type, but found before.
        (51, 0, {4: 1, 7: 1, 51: 12}),
        (50, 4, {4: 1, 7: 1, 51: 12, 50: 12}),
    ]
    for choice, reward, view in table:
        observation, found, terminated, truncated, info = env.step(choice)
        assert in_view(observation) == view
        assert found == pytest.approx(reward * UNIT, abs=1e-15)
        assert (terminated, truncated, info) == (False, False, {"is_success": False})


class PlainConcentration:
    """The rules once more, for one game, with lists."""

    def __init__(self, types: list[int], num_types: int) -> None:
        self.types, self.num_types = types, num_types
        self.found: list[int] = []
        self.pair: list[int] = []

    def step(self, place: int) -> tuple[list[int], float]:
        size = len(self.types)
        if len(self.pair) == 2 or (self.pair and self.pair[0] in self.found):
            self.pair = []
        self.pair.append(place)
        up = [*self.found, *self.pair]
        view = [kind if index in up else self.num_types for index, kind in enumerate(self.types)]
        if place in self.found:
            return view, -len(self.pair) / (2 * size)
        if len(self.pair) == 1:
            return view, 0.0
        first, second = self.pair
        if first == second or self.types[first] != self.types[second]:
            return view, -2 / (2 * size)
        self.found += self.pair
        return view, 2 / size


@pytest.mark.parametrize(
    ("num_decks", "deck_type", "num_types"), [(1, "colors", 2), (2, "colors", 2), (1, "ranks", 13)]
)
@pytest.mark.parametrize("skill", [0.0, 0.8, 0.97])
def test_play_is_that_of_plain_lists(num_decks: int, deck_type: str, num_types: int, skill: float) -> None:
    env, rng = SingleEnv(Concentration, num_decks=num_decks, deck_type=deck_type), np.random.default_rng(0)
    size = 52 * num_decks
    for _ in range(6):
        env.reset()
        game = PlainConcentration(env.get_state()["types"][0].tolist(), num_types)
        for step in range(2 * size):
            place = int(rng.integers(size))
            if rng.random() < skill:
                waits = len(game.pair) == 1 and game.pair[0] not in game.found
                wanted = [game.types[game.pair[0]]] if waits else list(range(num_types))
                taken = game.found + (game.pair if waits else [])
                place = next(one for one in range(size) if one not in taken and game.types[one] in wanted)
            view, reward = game.step(place)
            observation, found, terminated, truncated, info = env.step(place)
            assert observation.tolist() == view
            assert found == pytest.approx(reward, abs=1e-15)
            assert terminated == info["is_success"] == (len(game.found) == size)
            assert truncated == (step == 2 * size - 1)
            if terminated or truncated:
                break


def test_finding_all_cards_at_once_earns_1_and_is_success_also_at_the_limit() -> None:
    for wasted in (0, 26):
        env = with_cards(RANKS)
        outcomes = [env.step(place) for place in [0, 4] * wasted]
        outcomes += [env.step(place) for place in range(52)]
        assert sum(outcome[1] for outcome in outcomes) == pytest.approx(1.0 - 2 * wasted * UNIT, abs=1e-12)
        assert [outcome[2] for outcome in outcomes] == [False] * (len(outcomes) - 1) + [True]
        assert outcomes[-1][3] is (wasted == 26)
        assert outcomes[-1][4] == {"is_success": True}


def test_an_episode_is_cut_after_twice_as_many_steps_as_cards() -> None:
    for num_decks, deck_type, limit in [(1, "colors", 104), (2, "colors", 208), (1, "ranks", 104)]:
        env = SingleEnv(Concentration, num_decks=num_decks, deck_type=deck_type)
        env.reset(seed=0)
        outcomes = [env.step(0) for _ in range(limit)]
        assert [outcome[3] for outcome in outcomes] == [False] * (limit - 1) + [True]
        assert not any(outcome[2] for outcome in outcomes)


def test_cards_are_whole_decks_and_every_episode_is_another() -> None:
    env = BatchedVectorEnv(Concentration, 300, num_decks=1, deck_type="ranks")
    env.reset(seed=0)
    types = env.get_state()["types"]
    assert all(np.bincount(cards).tolist() == [4] * 13 for cards in types)
    assert np.unique(types, axis=0).shape[0] == 300
    env.reset()
    assert (env.get_state()["types"] != types).any(axis=1).all()


@pytest.mark.parametrize("num_decks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_best_play_of_two_types_follows_from_dynamic_programming(num_decks: int, plays: ModuleType) -> None:
    per_type = 26 * num_decks
    all_choices, _ = plays.solve_two_types(per_type, True)
    simple, gambles = plays.solve_two_types(per_type, False)
    least = all_choices[per_type, per_type, 0, 0]
    assert FAILED_PAIRS_AT_BEST[num_decks, "colors"] == pytest.approx(least, abs=1e-9)
    # The simple choices attain it, and with them no game meets the step limit.
    assert simple[per_type, per_type, 0, 0] == pytest.approx(least, abs=1e-12)
    assert gambles.any()
    value = SingleEnv(Concentration, num_decks=num_decks, deck_type="colors").optimal_return.value
    assert value == pytest.approx(1 - 2 * least / (104 * num_decks), abs=1e-9)


def test_two_programs_agree_on_two_types(plays: ModuleType) -> None:
    for per_type in (2, 4, 10, 26):
        for all_choices in (False, True):
            one = plays.solve_two_types(per_type, all_choices)[0][per_type, per_type, 0, 0]
            assert plays.solve_many_types(2, per_type, all_choices) == pytest.approx(one, abs=1e-12)


def test_the_program_by_hand(plays: ModuleType) -> None:
    # One pair of each of two types: the second card matches with probability 1/3, else all is known after one failure.
    assert plays.solve_two_types(2, True)[0][2, 2, 0, 0] == pytest.approx(2 / 3, abs=1e-12)
    # One type can't fail.
    assert plays.solve_many_types(1, 4, True) == 0.0


@pytest.mark.slow
def test_the_best_play_of_ranks_follows_from_dynamic_programming(plays: ModuleType) -> None:
    for all_choices in (False, True):
        least = plays.solve_many_types(13, 4, all_choices)
        assert FAILED_PAIRS_AT_BEST[1, "ranks"] == pytest.approx(least, abs=1e-9)


def test_other_decks_have_a_bound_only() -> None:
    assert SingleEnv(Concentration, num_decks=2, deck_type="ranks").optimal_return.kind == "bound"
    assert SingleEnv(Concentration).optimal_return.kind == "exact"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_decks": 0}, "num_decks must be an integer >= 1, but got 0"),
        # A deck has an odd number of cards of a suit.
        ({"deck_type": "suits"}, "deck_type must be one of colors, ranks, but got 'suits'"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(Concentration, **arguments)


def test_the_text_shows_the_cards_in_view() -> None:
    env = with_cards(RANKS, render_mode="ansi")
    env.step(14)
    assert env.render() == "\n".join([" ".join("?" * 13), "? 4" + " ?" * 11, *[" ".join("?" * 13)] * 2])
