"""The passive and the active T-maze, by hand and side by side with the rules written out for one agent."""

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.mazes.ni_tmaze import EAST, NORTH, SOUTH, WEST, NiTMaze

VIEWS = [[0, 0], [0, 1], [0, -1], [1, 0], [1, 1], [1, -1]]


def make(goal_side: int, **arguments: Any) -> SingleEnv:
    env = SingleEnv(NiTMaze, **arguments)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "goal_sides": np.array([goal_side])})
    return env


class PlainTMaze:
    """The rules for one agent at (x, y), with a set of free places and no tables."""

    def __init__(self, corridor_length: int, oracle_distance: int, goal_side: int) -> None:
        self.length, self.distance, self.goal_side = corridor_length, oracle_distance, goal_side
        self.end = corridor_length + oracle_distance
        self.free = {(x, 0) for x in range(self.end + 1)} | {(self.end, 1), (self.end, -1)}
        self.x, self.y, self.time, self.oracle_was_seen = oracle_distance, 0, 0, False

    def look(self) -> list[int]:
        if self.x == self.end:
            return [1, self.y]
        if self.x == 0 and not self.oracle_was_seen:
            self.oracle_was_seen = True
            return [0, self.goal_side]
        return [0, 0]

    def step(self, action: int) -> tuple[list[int], float, bool]:
        self.time += 1
        move_x, move_y = {EAST: (1, 0), NORTH: (0, 1), WEST: (-1, 0), SOUTH: (0, -1)}[action]
        if (self.x + move_x, self.y + move_y) in self.free:
            self.x, self.y = self.x + move_x, self.y + move_y
        over = self.time == self.length + 2 * self.distance + 1
        if over:
            return self.look(), float(self.y == self.goal_side), True
        return self.look(), -1 / self.length if self.x < self.time - self.distance else 0.0, False


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("corridor_length", [1, 2, 3, 6])
def test_the_plain_rules_give_the_same_episodes(corridor_length: int, active: bool) -> None:
    rng = np.random.default_rng(0)
    env = SingleEnv(NiTMaze, corridor_length=corridor_length, active=active)
    final_rewards = set()
    for episode in range(150):
        first, _ = env.reset(seed=episode)
        plain = PlainTMaze(corridor_length, int(active), int(env.get_state()["goal_sides"][0]))
        assert first.tolist() == plain.look()
        # Some go east nearly always, so that junction and arms are visited; the others wander.
        eagerness = [0.0, 0.4, 0.7][episode % 3]
        over = False
        while not over:
            action = EAST if rng.random() < eagerness else int(rng.integers(4))
            observation, reward, over = plain.step(action)
            found = env.step(action)
            assert found[0].tolist() == observation
            assert found[1:] == (reward, over, False, {"is_success": reward == 1.0})
        final_rewards.add(reward)
    assert final_rewards == {0.0, 1.0}


def test_a_hand_written_passive_episode() -> None:
    env = make(-1, corridor_length=3)
    assert env.task.observe()[0].tolist() == [0, -1]
    table = [
        # action, observation, reward, terminated, success
        (EAST, [0, 0], 0.0, False, False),
        (WEST, [0, 0], -1 / 3, False, False),  # Back at the oracle, which says nothing any more; behind by 2.
        (EAST, [0, 0], -1 / 3, False, False),
        (EAST, [0, 0], 0.0, True, False),
    ]
    for action, observation, *outcome in table:
        found = env.step(action)
        assert found[0].tolist() == observation
        assert [found[1], found[2], found[4]["is_success"]] == outcome


def test_a_hand_written_active_episode() -> None:
    env = make(1, corridor_length=2, active=True)
    assert env.task.observe()[0].tolist() == [0, 0]
    table = [
        (WEST, [0, 1], 0.0, False, False),
        (EAST, [0, 0], 0.0, False, False),
        (EAST, [0, 0], 0.0, False, False),
        (EAST, [1, 0], 0.0, False, False),
        (NORTH, [1, 1], 1.0, True, True),
    ]
    for action, observation, *outcome in table:
        found = env.step(action)
        assert found[0].tolist() == observation
        assert [found[1], found[2], found[4]["is_success"]] == outcome


def test_an_arm_can_be_left_and_only_the_last_place_counts() -> None:
    # Without a visit to the oracle there are two steps to spare.
    for actions, sides in (([NORTH, SOUTH, SOUTH], [1, 0, -1]), ([SOUTH, EAST, NORTH], [-1, -1, 0])):
        for goal_side in (1, -1):
            env = make(goal_side, corridor_length=1, active=True)
            assert env.step(EAST)[0].tolist() == [1, 0]
            outcomes = [env.step(action) for action in actions]
            assert [outcome[0].tolist() for outcome in outcomes] == [[1, side] for side in sides]
            assert [outcome[1] for outcome in outcomes] == [0.0, 0.0, float(sides[-1] == goal_side)]


def test_the_oracle_speaks_once_even_if_one_stays_there() -> None:
    env = make(1, corridor_length=4, active=True)
    seen = [env.step(action)[0].tolist() for action in (WEST, WEST, NORTH, EAST, WEST)]
    assert seen == [[0, 1], [0, 0], [0, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("corridor_length", [1, 4, 50])
def test_episodes_have_just_the_steps_of_the_shortest_way(corridor_length: int, active: bool) -> None:
    env = SingleEnv(NiTMaze, corridor_length=corridor_length, active=active)
    env.reset(seed=0)
    outcomes = [env.step(NORTH) for _ in range(corridor_length + (3 if active else 1))]
    assert [outcome[2] for outcome in outcomes] == [False] * (len(outcomes) - 1) + [True]
    assert not any(outcome[3] for outcome in outcomes)
    # Standing still is being behind at L steps: from the first to the last but one, or from the third when active.
    rewards = [outcome[1] for outcome in outcomes]
    assert rewards == [0.0] * (2 if active else 0) + [-1 / corridor_length] * corridor_length + [0.0]


def test_both_goals_are_as_likely_and_a_kept_task_is_the_same_goal() -> None:
    env = BatchedVectorEnv(NiTMaze, 4_000)
    first, _ = env.reset(seed=0)
    assert np.array_equal(np.unique(first[:, 1]), [-1, 1])
    assert abs(first[:, 1].mean()) < 5 / np.sqrt(4_000)
    assert np.array_equal(env.reset(options={"new_task": False})[0], first)
    assert not np.array_equal(env.reset()[0], first)


@pytest.mark.parametrize("active", [False, True])
def test_no_deterministic_memoryless_policy_beats_the_memoryless_return(active: bool) -> None:
    # All 4^6 maps from the six observations to actions, each with both goals.
    policies = np.array(list(itertools.product(range(4), repeat=len(VIEWS))))
    actions_by_view = np.repeat(policies, 2, axis=0)
    num_envs = len(actions_by_view)
    env = BatchedVectorEnv(NiTMaze, num_envs, corridor_length=2, active=active)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "goal_sides": np.tile([1, -1], num_envs // 2)})
    returns, observations, over = np.zeros(num_envs), env.task.observe(), False
    while not over:
        views = np.argmax((observations[:, None] == np.array(VIEWS)).all(axis=2), axis=1)
        observations, rewards, terminated, _, _ = env.step(actions_by_view[np.arange(num_envs), views])
        returns += rewards
        over = terminated.all()
    best = returns.reshape(-1, 2).mean(axis=1).max()
    assert best == env.memoryless_return.value == 0.5


def test_the_rows_are_the_passive_and_the_active_maze() -> None:
    passive, active = (gym.make(f"rlstm/{name}TMaze-v0").unwrapped.task for name in ("Passive", "Active"))
    assert (passive.active, passive.corridor_length, passive.num_steps, passive.memory_length) == (False, 50, 51, 50)
    assert (active.active, active.corridor_length, active.num_steps, active.memory_length) == (True, 20, 23, 21)


def test_the_text_shows_where_everything_is() -> None:
    env = make(-1, corridor_length=2, active=True, render_mode="ansi")
    assert env.render() == "   .\n?@..\n   G\nstep 0 of 5"
    env.step(WEST)
    assert env.render().splitlines()[1] == "!..."
    for action in (EAST, EAST, EAST, SOUTH):
        env.step(action)
    assert env.render() == "   .\n?...\n   @\nstep 5 of 5"


def test_the_image_shows_where_everything_is() -> None:
    env = make(1, corridor_length=3, render_mode="rgb_array")
    wall, floor, goal, agent = (40, 40, 40), (225, 225, 225), (60, 170, 80), (200, 60, 50)
    image = env.render()
    assert image.shape == (96, 128, 3)
    assert [tuple(image[16, 16 + 32 * column]) for column in range(4)] == [wall] * 3 + [goal]
    assert [tuple(image[48, 16 + 32 * column]) for column in range(4)] == [agent, floor, floor, floor]
    for action in (EAST, EAST, EAST, SOUTH):
        env.step(action)
    assert tuple(env.render()[80, 112]) == agent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"corridor_length": 0}, "corridor_length must be an integer >= 1, but got 0"),
        ({"corridor_length": 2.5}, "corridor_length must be an integer >= 1, but got 2.5"),
        ({"active": 1}, "active must be True or False, but got 1"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(NiTMaze, **arguments)
