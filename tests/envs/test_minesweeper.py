"""Minesweeper: cells opened by hand, numbers by a slow reference, and mines drawn fairly."""

import itertools
from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.popgym.minesweeper import Minesweeper

slow = pytest.mark.slow


def with_mines(picture: list[str], **arguments: Any) -> SingleEnv:
    mines = np.array([[cell == "*" for cell in row] for row in picture])
    env = SingleEnv(Minesweeper, board_size=len(picture), num_mines=int(mines.sum()), **arguments)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "mines": mines.reshape(1, -1)})
    return env


def test_a_hand_computed_episode_that_ends_on_a_mine() -> None:
    env = with_mines(["*..", ".*.", "..."])
    new, repeat, mine = 1 / 7, -0.5 / 5, -0.5 - 1 / 7
    table = [((0, 2), 1, new), ((0, 1), 2, new), ((0, 2), 1, repeat), ((2, 0), 1, new), ((0, 1), 2, repeat)]
    for cell, number, reward in table:
        found = env.step(np.array(cell))
        assert found == (number, pytest.approx(reward, abs=1e-15), False, False, {"is_success": False})
    # The number of a mine's cell counts the mine itself.
    assert env.step(np.array((1, 1))) == (2, pytest.approx(mine, abs=1e-15), True, False, {"is_success": False})


def test_opening_all_safe_cells_is_success_and_makes_1() -> None:
    env = with_mines(["*..", ".*.", "..."])
    cells = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)]
    outcomes = [env.step(np.array(cell)) for cell in cells]
    assert sum(outcome[1] for outcome in outcomes) == pytest.approx(1.0, abs=1e-12)
    assert [outcome[2] for outcome in outcomes] == [False] * 6 + [True]
    assert [outcome[4]["is_success"] for outcome in outcomes] == [False] * 6 + [True]


def test_an_episode_is_truncated_after_as_many_steps_as_safe_cells() -> None:
    env = with_mines(["*..", ".*.", "..."])
    outcomes = [env.step(np.array((2, 2))) for _ in range(7)]
    assert [outcome[2:4] for outcome in outcomes] == [(False, False)] * 6 + [(False, True)]
    assert sum(outcome[1] for outcome in outcomes) == pytest.approx(1 / 7 - 6 * 0.1, abs=1e-12)


@pytest.mark.parametrize(("board_size", "num_mines"), [(2, 1), (3, 6), (6, 6), (8, 10), (5, 22)])
def test_numbers_rewards_and_ends_follow_a_reference_in_plain_python(board_size: int, num_mines: int) -> None:
    num_envs, rng = 40, np.random.default_rng(0)
    env = BatchedVectorEnv(Minesweeper, num_envs, board_size=board_size, num_mines=num_mines)
    env.reset(seed=0)
    mines = env.get_state()["mines"].reshape(num_envs, board_size, board_size)
    opened: list[set[tuple[int, int]]] = [set() for _ in range(num_envs)]
    running, num_safe = set(range(num_envs)), board_size**2 - num_mines
    for step in range(1, num_safe + 1):
        actions = rng.integers(0, board_size, (num_envs, 2))
        observations, rewards, terminated, truncated, infos = env.step(actions)
        seen = infos.get("final_obs", observations)
        for lane in list(running):
            row, column = (int(number) for number in actions[lane])
            around = itertools.product(range(row - 1, row + 2), range(column - 1, column + 2))
            inside = [cell for cell in around if min(cell) >= 0 and max(cell) < board_size]
            assert seen[lane] == sum(mines[lane][cell] for cell in inside)
            if mines[lane, row, column]:
                expected, over = -0.5 - 1 / num_safe, True
            elif (row, column) in opened[lane]:
                expected, over = -0.5 / (num_safe - 2), False
            else:
                opened[lane].add((row, column))
                expected, over = 1 / num_safe, len(opened[lane]) == num_safe
            assert rewards[lane] == pytest.approx(expected, abs=1e-15)
            assert terminated[lane] == over
            assert truncated[lane] == (step == num_safe)
            if over or step == num_safe:
                assert infos["final_info"]["is_success"][lane] == (len(opened[lane]) == num_safe)
                running.remove(lane)


@pytest.mark.parametrize(
    ("board_size", "num_mines"),
    [pytest.param(2, 1, marks=slow), (3, 2), pytest.param(3, 6, marks=slow)],
)
def test_every_set_of_mines_is_equally_likely(board_size: int, num_mines: int) -> None:
    num_envs = 20_000
    env = BatchedVectorEnv(Minesweeper, num_envs, board_size=board_size, num_mines=num_mines)
    env.reset(seed=0)
    found = Counter(tuple(np.flatnonzero(mines).tolist()) for mines in env.get_state()["mines"])
    expected = list(itertools.combinations(range(board_size**2), num_mines))
    assert found.keys() == set(expected)
    mean = num_envs / len(expected)
    excess = sum((found[mines] - mean) ** 2 / mean for mines in expected)
    assert excess < len(expected) - 1 + 5 * np.sqrt(2 * (len(expected) - 1))


def test_kept_mines_are_kept_and_all_cells_are_closed_again() -> None:
    env = SingleEnv(Minesweeper)
    env.reset(seed=0)
    kept = env.get_state()["mines"]
    cell = np.array(divmod(int(np.flatnonzero(~kept[0])[0]), 4))
    for _ in range(3):
        assert env.step(cell)[1] > 0
        assert env.step(cell)[1] < 0
        assert env.reset(options={"new_task": False})[0] == 0
        assert np.array_equal(env.get_state()["mines"], kept)
    assert any(not np.array_equal(env.reset() and env.get_state()["mines"], kept) for _ in range(20))


def test_the_mines_of_later_episodes_replace_those_before() -> None:
    env = BatchedVectorEnv(Minesweeper, 20)
    env.reset(seed=0)
    num_drawn = 0
    for _ in range(100):
        before = env.get_state()["mines"]
        env.step(np.zeros((20, 2), dtype=np.int64))
        mines, goes_on = env.get_state()["mines"], env.task.elapsed_steps > 0
        assert np.all(mines.sum(axis=1) == 2)
        assert np.array_equal(mines[goes_on], before[goes_on])
        num_drawn += int((mines != before).any(axis=1).sum())
    assert num_drawn > 20


def test_a_number_near_a_mine_is_forgotten_at_the_next_start() -> None:
    env = BatchedVectorEnv(Minesweeper, 50, num_mines=8)
    env.reset(seed=0)
    observations, _, terminated, _, infos = env.step(np.zeros((50, 2), dtype=np.int64))
    assert 0 < terminated.sum() < 50
    assert np.all(observations[terminated] == 0)
    assert np.all(infos["final_obs"][terminated] >= 1)


@pytest.mark.parametrize(
    ("level", "board_size", "num_mines", "num_numbers", "num_steps"),
    [("Easy", 4, 2, 3, 14), ("Medium", 6, 6, 7, 30), ("Hard", 8, 10, 10, 54)],
)
def test_levels_have_popgyms_sizes(
    level: str, board_size: int, num_mines: int, num_numbers: int, num_steps: int
) -> None:
    task = gym.make(f"rlstm/Minesweeper{level}-v0").unwrapped.task
    assert (task.board_size, task.num_mines, task.max_steps) == (board_size, num_mines, num_steps)
    assert task.observation_space == gym.spaces.Discrete(num_numbers)


def test_the_bound_is_that_of_a_blind_first_cell() -> None:
    # Of 100 first cells of the level Easy, 12.5 have a mine.
    bound = SingleEnv(Minesweeper).optimal_return
    assert bound.kind == "bound"
    assert bound.value == pytest.approx(0.875 - 0.125 * (0.5 + 1 / 14), abs=1e-12)


def test_opening_with_knowledge_of_all_mines_attains_the_bound() -> None:
    num_envs = 4_000
    env = BatchedVectorEnv(Minesweeper, num_envs)
    env.reset(seed=0)
    mines = env.get_state()["mines"]
    order = np.argsort(mines[:, 1:], axis=1, kind="stable") + 1
    cells = np.concatenate([np.zeros((num_envs, 1), dtype=np.int64), order], axis=1)[:, :14]
    returns, running = np.zeros(num_envs), np.ones(num_envs, dtype=bool)
    for step in range(14):
        _, rewards, terminated, *_ = env.step(np.stack(np.divmod(cells[:, step], 4), axis=1))
        returns += np.where(running, rewards, 0.0)
        running &= ~terminated
    assert abs(returns.mean() - env.optimal_return.value) < 5 * returns.std() / np.sqrt(num_envs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"board_size": 1}, "board_size must be an integer >= 2, but got 1"),
        ({"num_mines": 0}, "num_mines must be an integer >= 1, but got 0"),
        ({"num_mines": 14}, "num_mines must be at most 13 on the 16 cells of board_size 4, but got 14"),
        ({"num_mines": True}, "num_mines must be an integer >= 1, but got True"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(Minesweeper, **arguments)


def test_the_text_shows_what_was_opened() -> None:
    env = with_mines(["*..", ".*.", "..."], render_mode="ansi")
    env.step(np.array([0, 1]))
    assert env.render() == "* 2 .\n. * .\n. . .\nstep 1: last number 2"
