"""The card tasks side by side with POPGym's: the same cards and actions give the same outcomes, step by step."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest

# popgym may warn about its own dependencies, which is none of our errors.
pytestmark = pytest.mark.filterwarnings("ignore")

LEVELS = ("Easy", "Medium", "Hard")


def dealt(deck: Any, types: Any) -> Any:
    """Types in the order of dealing: popgym deals from the end."""
    return types[deck.idx[::-1]]


def suits(theirs: Any) -> dict[str, Any]:
    return {"suits": dealt(theirs.deck, theirs.deck.suits_idx)}


def ranks(theirs: Any) -> dict[str, Any]:
    return {"ranks": dealt(theirs.deck, theirs.deck.ranks_idx)}


def two_decks(theirs: Any) -> dict[str, Any]:
    cards = dealt(theirs.value_deck, theirs.deck_idx_type)
    counts = np.bincount(cards[:1], minlength=theirs.num_distinct_cards)
    return {"dealt": cards, "queried": dealt(theirs.query_deck, theirs.deck_idx_type), "counts": counts}


def places(theirs: Any) -> dict[str, Any]:
    return {"types": theirs.deck_idx_type[theirs.deck.idx]}


def first_suit(theirs: Any, rng: Any) -> int:
    return int(theirs.card)


def previous_suit(theirs: Any, rng: Any) -> int:
    hand = theirs.deck["player"]
    return int(theirs.deck.suits_idx[hand[max(len(hand) - theirs.k, 0)]])


def last_suit(theirs: Any, rng: Any) -> int:
    return int(theirs.deck.suits_idx[theirs.deck["system"][-1]])


def count(theirs: Any, rng: Any) -> int:
    return int(theirs.counts[theirs.query])


def guess(theirs: Any, rng: Any) -> int:
    present, following = theirs.deck["player"][-1], theirs.deck.idx[len(theirs.deck) - 1]
    return int(theirs.deck.ranks_idx[following] < theirs.deck.ranks_idx[present])


def mate(theirs: Any, rng: Any) -> int:
    """Some card that isn't found yet; if one is turned up, one that matches it."""
    types, turned = theirs.deck_idx_type[theirs.deck.idx], theirs.deck["in_play_idx"]
    choices = np.setdiff1d(np.arange(types.size), [*theirs.deck["face_up_idx"], *turned])
    return int(rng.choice([place for place in choices if not turned or types[place] == types[turned[0]]]))


class Task(NamedTuple):
    module: str
    cards: Callable[[Any], dict[str, Any]]  # Their cards as our state arrays.
    right_answer: Callable[[Any, Any], int]
    num_steps: tuple[int, int, int]  # At the levels; for Concentration, at most.


TASKS = {
    "RepeatFirst": Task("repeat_first", suits, first_suit, (51, 415, 831)),
    "RepeatPrevious": Task("repeat_previous", suits, previous_suit, (51, 103, 155)),
    "Autoencode": Task("autoencode", suits, last_suit, (103, 207, 311)),
    "CountRecall": Task("count_recall", two_decks, count, (51, 103, 207)),
    "HigherLower": Task("higher_lower", ranks, guess, (51, 103, 155)),
    "Concentration": Task("concentration", places, mate, (104, 208, 104)),
}

over_tasks = pytest.mark.parametrize("name", TASKS)
over_levels = pytest.mark.parametrize("level", LEVELS)


def make_pair(name: str, level: str) -> tuple[Any, Any]:
    pytest.importorskip("popgym", reason="popgym is an optional package: pip install rlstm-torch[envs]")
    module = importlib.import_module(f"popgym.envs.{TASKS[name].module}")
    return getattr(module, name + level)(), gym.make(f"rlstm/{name}{level}-v0").unwrapped


def assert_same_observation(found: Any, expected: Any) -> None:
    assert np.array_equal(found, np.asarray(expected))


def play_episode(name: str, level: str, theirs: Any, ours: Any, seed: int, skill: float) -> list[float]:
    """Plays both with right answers, as often as `skill` says, among random ones; returns the rewards."""
    task, rng = TASKS[name], np.random.default_rng(seed)
    first, _ = theirs.reset(seed=seed)
    ours.reset(seed=0)
    cards = {key: np.asarray(value, dtype=np.int64)[None] for key, value in task.cards(theirs).items()}
    ours.set_state({**ours.get_state(), **cards})
    assert_same_observation(ours.task.observe()[0], first)
    rewards, over = [], False
    while not over:
        is_good = rng.random() < skill
        action = task.right_answer(theirs, rng) if is_good else int(rng.integers(theirs.action_space.n))
        expected, found = theirs.step(action), ours.step(action)
        assert_same_observation(found[0], expected[0])
        assert found[1] == pytest.approx(expected[1], rel=0, abs=1e-9)
        assert found[2:4] == expected[2:4]
        rewards.append(found[1])
        over = found[2] or found[3]
    num_steps = task.num_steps[LEVELS.index(level)]
    assert len(rewards) == num_steps or (name == "Concentration" and found[2] and len(rewards) < num_steps)
    return rewards


@over_levels
@over_tasks
def test_spaces_are_popgyms_with_tuples_as_arrays(name: str, level: str) -> None:
    theirs, ours = make_pair(name, level)
    assert ours.action_space == theirs.action_space
    if isinstance(theirs.observation_space, gym.spaces.Tuple):
        assert ours.observation_space.nvec.tolist() == [int(part.n) for part in theirs.observation_space]
    else:
        assert ours.observation_space == theirs.observation_space


@over_levels
@over_tasks
def test_a_few_episodes_are_popgyms(name: str, level: str) -> None:
    theirs, ours = make_pair(name, level)
    rewards = [play_episode(name, level, theirs, ours, seed, skill) for seed, skill in enumerate((0.0, 0.6, 1.0))]
    assert min(rewards[0]) < 0 < max(rewards[1])
    if name != "HigherLower":  # There the next card may be equal, and nothing is earned.
        assert sum(rewards[2]) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.slow
@over_levels
@over_tasks
def test_hundreds_of_episodes_are_popgyms(
    name: str, level: str, record_property: Callable[[str, object], None]
) -> None:
    theirs, ours = make_pair(name, level)
    skills = (0.0, 0.3, 0.7, 0.9, 0.97, 1.0)
    steps = [len(play_episode(name, level, theirs, ours, seed, skills[seed % 6])) for seed in range(300)]
    for key, value in (("env", f"rlstm/{name}{level}-v0"), ("episodes", len(steps)), ("steps", sum(steps))):
        record_property(key, value)  # For scripts/experiments/popgym_parity.py.
