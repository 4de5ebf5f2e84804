"""MiniGrid's Memory: step by step beside minigrid's own env, and by scripts that see only the pictures."""

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs import ENVS
from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.minigrid.layouts import (
    BALL,
    EAST,
    FORWARD,
    KEY,
    LEFT,
    NORTH,
    NUM_ACTIONS,
    RIGHT,
    WALL,
    layout_number,
)
from rlstm.envs.minigrid.memory import MiniGridMemory

SIZES = [(7, False), (9, False), (11, False), (13, False), (13, True), (17, True)]
IDS = [f"rlstm/MiniGridMemory{name}-v0" for name in ("S7", "S9", "S11", "S13", "S13Random", "S17Random")]

over_sizes = pytest.mark.parametrize(("size", "random_length"), SIZES)
over_views = pytest.mark.parametrize("view_size", [7, 3])


def make_real(size: int, random_length: bool, view_size: int = 7) -> Any:
    reason = "minigrid is not installed: pip install 'rlstm-torch[envs]'"
    memory = pytest.importorskip("minigrid.envs.memory", reason=reason)
    return memory.MemoryEnv(size=size, random_length=random_length, agent_view_size=view_size)


def layout_of(real: Any, task: MiniGridMemory) -> int:
    """The number of the layout that minigrid has drawn."""
    end, middle = int(real.success_pos[0]) - 1, real.size // 2
    in_room, in_north = (real.grid.get(*place).type for place in ((1, middle - 1), (end + 1, middle - 2)))
    kinds = {"key": KEY, "ball": BALL}
    return layout_number(task.hallway_ends.tolist().index(end), kinds[in_room], kinds[in_north])


def put(env: SingleEnv, layout: int, pose: int, elapsed_steps: int = 0) -> None:
    state = {"layouts": layout, "poses": pose, "elapsed_steps": elapsed_steps, "episode_over": False}
    env.set_state({**env.get_state(), **{name: np.array([value]) for name, value in state.items()}})


def make(layout: int = 0, x: int = 1, **arguments: Any) -> SingleEnv:
    """An environment whose agent is at x, looking to the east."""
    env = SingleEnv(MiniGridMemory, **arguments)
    env.reset(seed=0)
    put(env, layout, 4 * (x - 1) + EAST)
    return env


# Beside minigrid.


@over_views
@over_sizes
def test_minigrid_gives_the_same_step_by_step(size: int, random_length: bool, view_size: int) -> None:
    rng = np.random.default_rng(size)
    real, ours = (
        make_real(size, random_length, view_size),
        SingleEnv(MiniGridMemory, size=size, random_length=random_length, view_size=view_size),
    )
    assert ours.observation_space == real.observation_space["image"]
    assert ours.action_space == real.action_space
    ours.reset(seed=0)
    steps, endings = 0, set()
    while steps < 3_000:
        seen, _ = real.reset(seed=int(rng.integers(2**31)))
        assert real.agent_dir == EAST
        # Every third episode begins shortly before the limit, so that some are truncated, with or without an end.
        real.step_count = int(real.max_steps - rng.integers(4, 12)) if rng.integers(3) == 0 else 0
        put(ours, layout_of(real, ours.task), 4 * (int(real.agent_pos[0]) - 1), real.step_count)
        np.testing.assert_array_equal(ours.task.observe()[0], seen["image"])
        over = False
        while not over:
            # Mostly onward, else it would rarely come to an arm.
            action = int(rng.choice(NUM_ACTIONS, p=[0.14, 0.14, 0.6, 0.03, 0.03, 0.03, 0.03]))
            seen, *expected, _ = real.step(action)
            image, *found, info = ours.step(action)
            np.testing.assert_array_equal(image, seen["image"])
            assert found == expected
            assert info == {"is_success": found[0] > 0}
            steps, over = steps + 1, found[1] or found[2]
        endings.add((found[0] > 0, found[1], found[2]))
    assert {(True, True, False), (False, True, False), (False, False, True)} <= endings


@pytest.mark.parametrize("view_size", [3, 5, 7, 9])
@over_sizes
def test_minigrid_shows_the_same_from_everywhere_in_every_layout(
    size: int, random_length: bool, view_size: int
) -> None:
    real, ours = (
        make_real(size, random_length, view_size),
        make(size=size, random_length=random_length, view_size=view_size),
    )
    task, layouts, seed = ours.task, set(), 0
    while len(layouts) < (8 if random_length else 4):
        real.reset(seed=seed)
        seed += 1
        layout = layout_of(real, task)
        if layout in layouts:
            continue
        layouts.add(layout)
        arms = int(real.success_pos[0])  # x = E + 1
        free = [place for place in itertools.product(range(1, arms + 1), range(size)) if not real.grid.get(*place)]
        compared = 0
        for pose in range(task.num_poses):
            put(ours, layout, pose)
            _, place, direction = task._draw_cells(0)
            if tuple(place) in free:
                real.agent_pos, real.agent_dir = tuple(place), direction
                np.testing.assert_array_equal(task.observe()[0], real.gen_obs()["image"])
                compared += 1
        assert compared == 4 * (arms + 7)  # Those of the row, the other 5 of the room, and the 2 arms.


@pytest.mark.parametrize(("size", "random_length"), [(7, False), (9, True)])
def test_minigrid_begins_in_the_same_places_as_often(size: int, random_length: bool) -> None:
    real, num_envs = make_real(size, random_length), 20_000
    ours = BatchedVectorEnv(MiniGridMemory, num_envs, size=size, random_length=random_length)
    ours.reset(seed=0)
    state = ours.get_state()
    starts = list(zip(state["layouts"].tolist(), state["poses"].tolist(), strict=True))
    theirs = []
    for seed in range(2_500):
        real.np_random = np.random.default_rng(seed)
        real._gen_grid(size, size)
        theirs.append((layout_of(real, ours.task), 4 * (int(real.agent_pos[0]) - 1) + real.agent_dir))
    assert set(starts) == set(theirs)
    ends = ours.task.hallway_ends
    for start in set(starts):
        expected = 1 / (len(ends) * 4 * ends[start[0] // 4])
        for found in (starts, theirs):
            assert abs(found.count(start) / len(found) - expected) < 4.5 * np.sqrt(expected / len(found))


# By hand.


def test_the_pictures_around_a_start_by_hand() -> None:
    env = make(layout_number(0, KEY, BALL), x=1, view_size=3)
    unseen, empty, wall, key = (0, 0, 0), (1, 0, 0), (2, 5, 0), (5, 1, 0)

    def columns(picture: Any) -> list[list[tuple[int, ...]]]:
        return [[tuple(cell) for cell in column] for column in picture.tolist()]

    assert columns(env.task.observe()[0]) == [[empty, empty, key], [empty] * 3, [empty] * 3]
    assert columns(env.step(LEFT)[0]) == [[wall] * 3, [wall, key, empty], [wall, empty, empty]]
    # Nothing is changed by a walk into an object, nor by picking it up.
    for action in (FORWARD, 3, 4, 5, 6):
        assert columns(env.step(action)[0]) == [[wall] * 3, [wall, key, empty], [wall, empty, empty]]
    assert columns(env.step(LEFT)[0]) == [[unseen, wall, empty], [unseen, wall, empty], [unseen, wall, key]]


@pytest.mark.parametrize(("in_room", "in_north"), list(itertools.product((KEY, BALL), repeat=2)))
@pytest.mark.parametrize("turn", [LEFT, RIGHT])
def test_the_arm_of_the_like_object_pays_and_both_end_the_episode(in_room: int, in_north: int, turn: int) -> None:
    env = make(layout_number(0, in_room, in_north), x=4)
    assert [env.step(action)[1:4] for action in (FORWARD, turn)] == [(0.0, False, False)] * 2
    _, reward, terminated, truncated, info = env.step(FORWARD)
    is_right = (turn == LEFT) == (in_room == in_north)
    assert (terminated, truncated, info) == (True, False, {"is_success": is_right})
    assert reward == ((1 - 0.9 * (3 / 245)) if is_right else 0.0)


@over_sizes
def test_the_limit_is_five_times_the_cells_and_may_be_another(size: int, random_length: bool) -> None:
    for arguments, limit in (({}, 5 * size**2), ({"max_steps": 9}, 9)):
        env = SingleEnv(MiniGridMemory, size=size, random_length=random_length, **arguments)
        env.reset(seed=0)
        truncated = [env.step(LEFT)[3] for _ in range(limit)]
        assert truncated == [False] * (limit - 1) + [True]


def look_then_match(env: SingleEnv, picture: Any) -> tuple[float, bool]:
    """Play an episode by the pictures alone: turn back to the object in the room, then to the end, and choose."""
    width = env.task.view_size
    middle, near = width // 2, width - 1
    objects = (KEY, BALL)
    outcome: tuple[Any, ...] = (picture, 0.0, False, False, {})

    def do(*actions: int) -> None:
        nonlocal outcome
        for action in actions:
            outcome = env.step(action)

    def sees(x: int, y: int) -> int:
        return int(outcome[0][x, y, 0])

    in_room = sees(middle - 1, near)  # From the place beside it.
    if in_room not in objects:
        do(LEFT, LEFT)
        while not any(sees(middle + 1, y) in objects for y in range(width)):
            do(FORWARD)
        in_room = next(sees(middle + 1, y) for y in range(width) if sees(middle + 1, y) in objects)
        do(RIGHT, RIGHT)
    while sees(middle, near - 1) != WALL:
        do(FORWARD)
    do(LEFT)
    if sees(middle, near - 2) != in_room:
        do(RIGHT, RIGHT)
    do(FORWARD)
    assert outcome[2]
    return float(outcome[1]), bool(outcome[4]["is_success"])


@over_views
@over_sizes
def test_who_looks_first_always_finds_the_right_arm(size: int, random_length: bool, view_size: int) -> None:
    env = SingleEnv(MiniGridMemory, size=size, random_length=random_length, view_size=view_size)
    outcomes = [look_then_match(env, env.reset(seed=seed)[0]) for seed in range(40)]
    assert all(success for _, success in outcomes)
    mean = float(np.mean([reward for reward, _ in outcomes]))
    assert 0.87 < mean < env.optimal_return.value


# Returns, tasks, and what is told of them.


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({}, "unknown"),
        ({"size": 9}, "unknown"),
        ({"size": 11}, "exact"),
        ({"view_size": 3}, "exact"),
        ({"size": 13, "random_length": True}, "bound"),
        ({"size": 13, "random_length": True, "view_size": 3}, "exact"),
    ],
)
def test_half_the_turns_are_wrong_only_where_the_junction_hides_the_room(arguments: dict[str, Any], kind: str) -> None:
    task = MiniGridMemory(1, **arguments)
    assert task.memoryless_return.kind == kind
    if kind == "exact":
        assert task.memoryless_return.value == task.optimal_return.value / 2
    if kind == "bound":
        # Of the hallways' ends 4, ..., 10 the room is seen from the junctions of 4, 5 and 6.
        shares = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
        best = [1 - 0.9 * (end + 5) / 2 / 845 for end in range(4, 11)]
        np.testing.assert_allclose(task.memoryless_return.value, np.mean(np.multiply(shares, best)), rtol=1e-12)


def test_the_bound_of_the_return_is_the_way_to_the_right_arm() -> None:
    # From x = 1, ..., 4 to the arm it is 6, 5, 4 and 3 steps.
    assert MiniGridMemory(1).optimal_return.value == pytest.approx(1 - 0.9 * 4.5 / 245, rel=1e-12)
    assert MiniGridMemory(1, max_steps=4).optimal_return.value == pytest.approx((0.1 + 0.325) / 4, rel=1e-12)


def test_a_kept_task_is_the_same_layout_from_another_start() -> None:
    env = BatchedVectorEnv(MiniGridMemory, 3_000, size=9, random_length=True)
    env.reset(seed=0)
    first = env.get_state()
    env.reset(options={"new_task": False})
    kept = env.get_state()
    np.testing.assert_array_equal(kept["layouts"], first["layouts"])
    assert (kept["poses"] != first["poses"]).mean() > 0.6
    assert (kept["poses"] // 4 < env.task.hallway_ends[kept["layouts"] // 4]).all()
    env.reset()
    assert (env.get_state()["layouts"] != first["layouts"]).mean() > 0.8


def test_lanes_of_random_lengths_are_single_envs_and_go_on_from_their_state() -> None:
    arguments = {"size": 17, "random_length": True, "max_steps": 15}
    vector = BatchedVectorEnv(MiniGridMemory, 4, **arguments)
    singles = [SingleEnv(MiniGridMemory, **arguments) for _ in range(4)]
    seen, _ = vector.reset(seed=5)
    for lane, single in enumerate(singles):
        np.testing.assert_array_equal(single.reset(seed=5 + lane)[0], seen[lane])
    actions = np.random.default_rng(0).integers(0, 3, (80, 4))
    outcomes, state = [], vector.get_state()
    for action in actions:
        outcomes.append(vector.step(action))
        for lane, single in enumerate(singles):
            image, reward, terminated, truncated, _ = single.step(action[lane])
            if terminated or truncated:
                image, _ = single.reset()
            np.testing.assert_array_equal(outcomes[-1][0][lane], image)
            assert [values[lane] for values in outcomes[-1][1:4]] == [reward, terminated, truncated]
    other = BatchedVectorEnv(MiniGridMemory, 4, **arguments)
    other.set_state(state)
    for action, expected in zip(actions, outcomes, strict=True):
        for found, value in zip(other.step(action)[:4], expected, strict=False):
            np.testing.assert_array_equal(found, value)


def test_the_hidden_state_is_the_pose_and_the_side_of_the_right_arm() -> None:
    env = make(layout_number(0, KEY, BALL), x=3, size=9, random_length=True)
    assert env.task.hidden_state().tolist() == [[3, 2, 0, 1, 0, 0, 0, 1]]
    env.step(LEFT)
    env.step(FORWARD)
    assert env.task.hidden_state().tolist() == [[3, 2, -1, 0, 0, 0, 1, 1]]
    env = make(layout_number(1, BALL, BALL), x=5, size=9, random_length=True)
    for action in (FORWARD, RIGHT, FORWARD):
        env.step(action)
    assert env.task.hidden_state().tolist() == [[6, 0, 1, 0, 1, 0, 0, -1]]


def test_the_rows_are_those_of_minigrid() -> None:
    tasks = [gym.make(env_id).unwrapped.task for env_id in IDS]
    assert [(task.size, task.random_length) for task in tasks] == SIZES
    assert {task.view_size for task in tasks} == {7}
    assert [env_id for env_id in ENVS if "MiniGrid" in env_id] == IDS
    assert [len(task.hallway_ends) for task in tasks] == [1, 1, 1, 1, 7, 11]


# What is drawn, and what is refused.


def test_the_text_shows_the_maze_from_above() -> None:
    env = make(layout_number(0, BALL, KEY), x=3, render_mode="ansi")
    assert env.render().splitlines() == [
        "#######",
        "#####K#",
        "#B..#.#",
        "#..>..#",
        "#...#.#",
        "#####B#",
        "#######",
        "step 0 of 245",
    ]
    env.step(LEFT)
    env.step(FORWARD)
    assert env.render().splitlines()[2:4] == ["#B.^#.#", "#.....#"]


def test_the_image_shows_the_maze_from_above() -> None:
    env = make(layout_number(0, KEY, KEY), x=4, render_mode="rgb_array")
    image = env.render()
    assert image.shape == (224, 224, 3)
    wall, floor, key, ball = (40, 40, 40), (225, 225, 225), (70, 110, 200), (60, 170, 80)
    places = {(0, 0): wall, (2, 1): key, (5, 5): ball, (1, 5): key, (3, 1): floor, (3, 4): (200, 60, 50)}
    assert {place: tuple(image[32 * place[0] + 16, 32 * place[1] + 16]) for place in places} == places
    assert tuple(image[32 * 3 + 16, 32 * 5 + 16]) == (240, 190, 180)  # What is ahead.
    env.step(LEFT)
    assert env.task._draw_cells(0)[2] == NORTH
    assert tuple(env.render()[32 * 2 + 16, 32 * 4 + 16]) == wall


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 8}, "size must be an odd number >= 7, but got 8"),
        ({"size": 5}, "size must be an integer >= 7, but got 5"),
        ({"size": 7.0}, "size must be an integer >= 7, but got 7.0"),
        ({"view_size": 4}, "view_size must be an odd number >= 3, but got 4"),
        ({"view_size": 1}, "view_size must be an integer >= 3, but got 1"),
        ({"random_length": 1}, "random_length must be True or False, but got 1"),
        ({"max_steps": 0}, "max_steps must be an integer >= 1, but got 0"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(MiniGridMemory, **arguments)
