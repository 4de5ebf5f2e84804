"""Battleship: shots by hand, and ships that lie as a slow reference in plain Python says."""

import itertools
from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.popgym.battleship import Battleship

slow = pytest.mark.slow


def with_board(picture: list[str], ship_sizes: list[int], **arguments: Any) -> SingleEnv:
    env = SingleEnv(Battleship, board_size=len(picture), ship_sizes=ship_sizes, **arguments)
    env.reset(seed=0)
    board = np.array([[cell == "o" for cell in row] for row in picture])
    env.set_state({**env.get_state(), "ships": board.reshape(1, -1)})
    return env


def test_a_hand_computed_episode_of_hits_misses_and_repeats() -> None:
    env = with_board([".oo", "...", "o.."], [2, 1])
    hit, miss = 1 / 3, -1 / 6
    table = [
        ((0, 0), 0, miss),
        ((0, 1), 1, hit),
        ((0, 1), 0, miss),  # Already hit.
        ((2, 0), 1, hit),
        ((0, 0), 0, miss),  # Already shot at.
    ]
    for cell, seen, reward in table:
        assert env.step(np.array(cell)) == (seen, pytest.approx(reward, abs=0), False, False, {"is_success": False})
    assert env.step(np.array((0, 2))) == (1, pytest.approx(hit, abs=0), True, False, {"is_success": True})


def test_all_hits_make_1_and_each_cell_once_makes_0() -> None:
    env = SingleEnv(Battleship)
    env.reset(seed=3)
    ships = env.get_state()["ships"][0]
    start = env.get_state()
    for cells, value in ((np.flatnonzero(ships), 1.0), (np.argsort(ships, kind="stable"), 0.0)):
        env.set_state(start)
        outcomes = [env.step(np.array(divmod(int(cell), 8))) for cell in cells]
        assert sum(outcome[1] for outcome in outcomes) == pytest.approx(value, abs=1e-12)
        assert [outcome[2] for outcome in outcomes] == [False] * (len(cells) - 1) + [True]
        assert outcomes[-1][4]["is_success"]


def test_each_episode_ends_with_its_own_last_hit() -> None:
    env = with_board([".oo", "...", "o.."], [2, 1])
    for _ in range(3):
        assert [env.step(np.array(cell))[2] for cell in ((0, 1), (2, 0), (1, 1), (0, 2))] == [False] * 3 + [True]
        env.reset(options={"new_task": False})


@pytest.mark.parametrize(("level", "board_size"), [("Easy", 8), ("Medium", 10), ("Hard", 12)])
def test_levels_have_popgyms_boards_and_end_after_as_many_shots_as_cells(level: str, board_size: int) -> None:
    env = gym.make(f"rlstm/Battleship{level}-v0").unwrapped
    env.reset(seed=0)
    assert env.get_state()["ships"].sum() == 12
    ends = [env.step(np.zeros(2, dtype=np.int64))[2:4] for _ in range(board_size**2)]
    assert ends == [(False, False)] * (board_size**2 - 1) + [(False, True)]


def sizes_of_ships(board: Any, ship_sizes: tuple[int, ...]) -> bool:
    """Whether ships of these sizes can cover exactly this board, by search."""
    cells = set(zip(*(line.tolist() for line in np.nonzero(board)), strict=True))

    def fits(left: set[Any], sizes: tuple[int, ...]) -> bool:
        if not sizes:
            return not left
        size, rest = sizes[0], sizes[1:]
        for (row, column), (down, right) in itertools.product(left, ((0, 1), (1, 0))):
            ship = {(row + step * down, column + step * right) for step in range(size)}
            if ship <= left and fits(left - ship, rest):
                return True
        return False

    return fits(cells, tuple(sorted(ship_sizes, reverse=True)))


@pytest.mark.parametrize(("board_size", "ship_sizes"), [(8, (2, 3, 3, 4)), (5, (5, 3)), (4, (1, 1, 2)), (3, (3, 1))])
def test_every_board_is_made_of_whole_ships_that_do_not_overlap(board_size: int, ship_sizes: tuple[int, ...]) -> None:
    env = BatchedVectorEnv(Battleship, 150, board_size=board_size, ship_sizes=ship_sizes)
    env.reset(seed=0)
    boards = env.get_state()["ships"].reshape(-1, board_size, board_size)
    assert all(board.sum() == sum(ship_sizes) and sizes_of_ships(board, ship_sizes) for board in boards)


def chances_of_boards(board_size: int, ship_sizes: tuple[int, ...]) -> dict[frozenset[int], float]:
    """Each ship uniform among its free placements, one after the other: all boards with their probabilities."""
    chances = {frozenset(): 1.0}
    for size in ship_sizes:
        placements = []
        for row, column in itertools.product(range(board_size), range(board_size)):
            if column + size <= board_size:
                placements.append(frozenset(row * board_size + column + step for step in range(size)))
            if row + size <= board_size:
                placements.append(frozenset((row + step) * board_size + column for step in range(size)))
        after: dict[frozenset[int], float] = {}
        for board, chance in chances.items():
            free = [placement for placement in placements if not placement & board]
            for placement in free:
                after[board | placement] = after.get(board | placement, 0.0) + chance / len(free)
        chances = after
    return chances


@pytest.mark.parametrize(
    ("board_size", "ship_sizes"),
    [
        (3, (2, 2)),
        pytest.param(4, (3, 2), marks=slow),
        pytest.param(3, (1, 2), marks=slow),
        pytest.param(2, (1, 1), marks=slow),
    ],
)
def test_boards_come_as_often_as_by_placing_ship_after_ship(board_size: int, ship_sizes: tuple[int, ...]) -> None:
    num_envs = 20_000
    env = BatchedVectorEnv(Battleship, num_envs, board_size=board_size, ship_sizes=ship_sizes)
    env.reset(seed=0)
    found = Counter(frozenset(np.flatnonzero(board).tolist()) for board in env.get_state()["ships"])
    expected = chances_of_boards(board_size, ship_sizes)
    assert found.keys() == expected.keys()
    excess = sum((found[board] - num_envs * chance) ** 2 / (num_envs * chance) for board, chance in expected.items())
    freedom = len(expected) - 1
    assert excess < freedom + 5 * np.sqrt(2 * freedom)


def test_a_kept_board_is_kept_and_its_shots_are_forgotten() -> None:
    env = SingleEnv(Battleship, board_size=4, ship_sizes=[2, 3])
    env.reset(seed=0)
    kept = env.get_state()["ships"]
    cell = np.array(divmod(int(np.flatnonzero(kept[0])[0]), 4))
    for _ in range(3):
        assert env.step(cell)[0] == 1
        assert env.step(cell)[0] == 0
        assert env.reset(options={"new_task": False})[0] == 0
        assert np.array_equal(env.get_state()["ships"], kept)
    assert any(not np.array_equal(env.reset() and env.get_state()["ships"], kept) for _ in range(20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"board_size": 1}, "board_size must be an integer >= 2, but got 1"),
        ({"board_size": 3, "ship_sizes": [4]}, "ship_sizes must be at most board_size 3, but got 4 in"),
        ({"ship_sizes": []}, r"ship_sizes must be a list or tuple of one size or more, but got \[\]"),
        ({"ship_sizes": 3}, "ship_sizes must be a list or tuple of one size or more, but got 3"),
        ({"ship_sizes": [2, 0]}, "ship_sizes of each ship must be an integer >= 1, but got 0"),
        ({"ship_sizes": [2, 2.0]}, "ship_sizes of each ship must be an integer >= 1, but got 2.0"),
        ({"board_size": 4, "ship_sizes": (2, 3, 3, 4)}, r"leave space .* 4 x 4 cells ship 4 of \(2, 3, 3, 4\)"),
        ({"board_size": 2, "ship_sizes": (1, 1, 1, 1)}, "cover fewer than the 4 cells of board_size 2, but .* cover 4"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(Battleship, **arguments)


@pytest.mark.parametrize(("board_size", "ship_sizes"), list(itertools.product((2, 3, 4), [(1, 2), (2, 2), (2, 2, 2)])))
def test_what_the_constructor_accepts_always_finds_room(board_size: int, ship_sizes: tuple[int, ...]) -> None:
    try:
        env = BatchedVectorEnv(Battleship, 5_000, board_size=board_size, ship_sizes=ship_sizes)
    except ValueError:
        assert board_size <= 3
        return
    env.reset(seed=0)
    assert np.all(env.get_state()["ships"].sum(axis=1) == sum(ship_sizes))


def test_the_text_shows_what_was_shot_at() -> None:
    env = with_board([".o", ".."], [1], render_mode="ansi")
    assert env.render() == ". o\n. .\nstep 0: last shot hit 0"
    env.step(np.array([1, 0]))
    env.step(np.array([0, 1]))
    assert env.render() == ". X\n- .\nstep 2: last shot hit 1"
