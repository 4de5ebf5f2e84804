"""The 89-state maze, against the maze written out in rows counted from the south, as PyBrain does."""

from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.mazes.maze89 import FEELINGS, FORWARD, STAY, TURN_AROUND, TURN_LEFT, TURN_RIGHT, Maze89

# 1 is a wall. The first row is the southernmost, and north is the next row.
TOPOLOGY = [
    [1, 1, 1, 1, 1, 1, 1, 1, 1],
    [1, 1, 0, 0, 0, 0, 0, 1, 1],
    [1, 0, 0, 1, 0, 1, 0, 0, 1],
    [1, 1, 0, 1, 0, 1, 0, 1, 1],
    [1, 0, 0, 1, 0, 1, 0, 0, 1],
    [1, 1, 0, 0, 0, 0, 0, 1, 1],
    [1, 1, 1, 1, 1, 1, 1, 1, 1],
]
GOAL = (2, 7)
NORTH_EAST_SOUTH_WEST = [(1, 0), (0, 1), (-1, 0), (0, -1)]

Place = tuple[int, int, int]  # Row from the south, column, heading.


def plain_move(place: Place, action: int) -> Place:
    row, column, heading = place
    if action == FORWARD:
        ahead = (row + NORTH_EAST_SOUTH_WEST[heading][0], column + NORTH_EAST_SOUTH_WEST[heading][1])
        return place if TOPOLOGY[ahead[0]][ahead[1]] else (*ahead, heading)
    return row, column, (heading + {STAY: 0, TURN_AROUND: 2, TURN_RIGHT: 1, TURN_LEFT: -1}[action]) % 4


def plain_walls(place: Place) -> list[int]:
    """In front, to the right, behind, to the left."""
    row, column, heading = place
    sides = [NORTH_EAST_SOUTH_WEST[(heading + turn) % 4] for turn in range(4)]
    return [TOPOLOGY[row + side[0]][column + side[1]] for side in sides]


# The environment counts cells row by row from the north, and headings within a cell.
PLACES: list[Place] = [
    (row, column, heading)
    for row in range(6, -1, -1)
    for column in range(9)
    if not TOPOLOGY[row][column]
    for heading in range(4)
]
STARTS = [index for index, place in enumerate(PLACES) if place[:2] != GOAL]


def at(states: Any, env: Any) -> None:
    """Puts the lanes into these states."""
    env.set_state({**env.get_state(), "states": np.array(states)})


def test_there_are_89_states_and_the_goal_is_in_a_dead_end() -> None:
    assert len(STARTS) + 1 == 89
    assert sum(plain_walls((*GOAL, 0))) == 3


def test_every_action_in_every_state_moves_as_on_the_map_and_is_felt_and_rewarded_so() -> None:
    env = BatchedVectorEnv(Maze89, len(STARTS), action_noise=0.0, feeler_noise=0.0)
    env.reset(seed=0)
    num_arrivals = 0
    for action in range(5):
        at(STARTS, env)
        # Stepping the task itself, as the adapter would put those that arrive elsewhere.
        transition = env.task.step(np.full(len(STARTS), action))
        after = [plain_move(PLACES[state], action) for state in STARTS]
        assert [PLACES[state] for state in env.task.states] == after
        assert env.task.observe().tolist() == [plain_walls(place) for place in after]
        arrived = [place[:2] == GOAL for place in after]
        num_arrivals += sum(arrived)
        assert transition.rewards.tolist() == [float(there) for there in arrived]
        assert transition.terminated.tolist() == transition.info["is_success"].tolist() == arrived
    assert num_arrivals == 1


def test_a_hand_written_walk_to_the_goal() -> None:
    env = SingleEnv(Maze89, action_noise=0.0, feeler_noise=0.0)
    env.reset(seed=0)
    at([PLACES.index((4, 7, 0))], env)  # In the niche two above the goal's, looking north.
    table = [
        # action, walls in front, to the right, behind, to the left
        (STAY, [1, 1, 1, 0]),
        (TURN_LEFT, [0, 1, 1, 1]),
        (FORWARD, [1, 0, 0, 0]),
        (TURN_LEFT, [0, 1, 0, 0]),
        (FORWARD, [0, 1, 0, 1]),
        (FORWARD, [0, 1, 0, 0]),
        (TURN_RIGHT, [1, 0, 0, 0]),
        (FORWARD, [1, 0, 0, 0]),
        (TURN_AROUND, [0, 0, 1, 0]),
    ]
    for action, walls in table:
        observation, *outcome = env.step(action)
        assert observation.tolist() == walls
        assert outcome == [0.0, False, False, {"is_success": False}]
    observation, *outcome = env.step(FORWARD)
    assert observation.tolist() == [1, 1, 0, 1]
    assert outcome == [1.0, True, False, {"is_success": True}]


def test_one_action_in_ten_is_replaced_by_any_of_the_five() -> None:
    num_envs = 10_000
    state = PLACES.index((3, 4, 0))  # In the middle of the middle corridor, where all five actions differ.
    outcomes = [PLACES.index(plain_move(PLACES[state], action)) for action in range(5)]
    for action in range(5):
        env = BatchedVectorEnv(Maze89, num_envs)
        env.reset(seed=action)
        at(np.full(num_envs, state), env)
        env.step(np.full(num_envs, action))
        chances = np.array([(env.task.states == outcome).mean() for outcome in outcomes])
        expected = np.where(np.arange(5) == action, 0.92, 0.02)
        assert np.all(np.abs(chances - expected) < 5 * np.sqrt(expected * (1 - expected) / num_envs))


def test_each_feeler_errs_one_time_in_ten_on_its_own_and_anew_at_each_step() -> None:
    num_envs = 20_000
    env = BatchedVectorEnv(Maze89, num_envs)
    env.reset(seed=0)
    errors = []
    for _ in range(2):
        errors.append(env.task.observe() != np.array([plain_walls(PLACES[state]) for state in env.task.states]))
        env.task.step(np.full(num_envs, STAY))
    errors = np.concatenate(errors, axis=1)
    assert np.abs(errors.mean(axis=0) - 0.1).max() < 5 * 0.3 / np.sqrt(num_envs)
    assert np.abs(np.corrcoef(errors.T) - np.eye(8)).max() < 5 / np.sqrt(num_envs)


def test_feelers_err_no_more_and_no_less_after_a_random_action_or_in_some_starts() -> None:
    num_envs, state = 20_000, PLACES.index((3, 4, 0))
    walls_by_state = np.array([plain_walls(place) for place in PLACES])
    env = BatchedVectorEnv(Maze89, num_envs)
    env.reset(seed=0)
    errors = env.task.observe() != walls_by_state[env.task.states]
    parts = [errors[env.task.states < 46], errors[env.task.states >= 46]]
    at(np.full(num_envs, state), env)
    env.task.step(np.full(num_envs, STAY))
    errors = env.task.observe() != walls_by_state[env.task.states]
    parts += [errors[env.task.states == state], errors[env.task.states != state]]
    for part in parts:
        assert part.shape[0] > 1_000
        assert np.abs(part.mean(axis=0) - 0.1).max() < 5 * 0.3 / np.sqrt(part.shape[0])


def test_feelers_that_always_err_tell_the_opposite_and_failing_actions_are_uniform() -> None:
    env = BatchedVectorEnv(Maze89, 20_000, action_noise=1.0, feeler_noise=1.0)
    observations, _ = env.reset(seed=0)
    assert np.array_equal(1 - observations, [plain_walls(PLACES[state]) for state in env.task.states])
    state = PLACES.index((3, 4, 0))
    at(np.full(20_000, state), env)
    env.step(np.full(20_000, FORWARD))
    outcomes = [PLACES.index(plain_move(PLACES[state], action)) for action in range(5)]
    chances = np.array([(env.task.states == outcome).mean() for outcome in outcomes])
    assert np.abs(chances - 0.2).max() < 5 * 0.4 / np.sqrt(20_000)


def test_all_88_starts_are_as_likely() -> None:
    num_envs = 22_000
    env = BatchedVectorEnv(Maze89, num_envs)
    env.reset(seed=0)
    counts = np.bincount(env.task.states, minlength=92)
    assert counts[[state for state in range(92) if state not in STARTS]].sum() == 0
    assert np.abs(counts[STARTS] - 250).max() < 5 * np.sqrt(250)


def plain_values(max_steps: int, action_noise: float) -> dict[Place, float]:
    """The probability of being at the goal within so many steps, if the place is in view: by plain recursion."""
    values = {place: float(place[:2] == GOAL) for place in PLACES}
    for _ in range(max_steps):
        before = {}
        for place in PLACES:
            after = [values[plain_move(place, action)] for action in range(5)]
            noisy = [(1 - action_noise) * value + action_noise * sum(after) / 5 for value in after]
            before[place] = 1.0 if place[:2] == GOAL else max(noisy)
        values = before
    return values


@pytest.mark.parametrize(("max_steps", "action_noise"), [(1, 0.0), (1, 0.1), (13, 0.1), (30, 0.5), (60, 1.0)])
def test_the_bound_is_the_optimum_with_the_place_in_view(max_steps: int, action_noise: float) -> None:
    values = plain_values(max_steps, action_noise)
    reference = SingleEnv(Maze89, max_steps=max_steps, action_noise=action_noise).optimal_return
    assert reference.kind == "bound"
    assert reference.value == pytest.approx(np.mean([values[PLACES[state]] for state in STARTS]), abs=1e-12)
    if (max_steps, action_noise) == (1, 0.0):
        assert reference.value == pytest.approx(1 / 88)


def test_the_bound_of_endless_episodes_is_sure_arrival_and_soon_computed() -> None:
    assert SingleEnv(Maze89, max_steps=10**12).optimal_return.value == pytest.approx(1.0, abs=1e-12)


def test_play_that_sees_the_place_attains_the_bound() -> None:
    max_steps, num_envs = 13, 20_000
    env = BatchedVectorEnv(Maze89, num_envs, max_steps=max_steps)
    env.reset(seed=0)
    best_actions = []
    for steps_left in range(max_steps, 0, -1):
        values = plain_values(steps_left - 1, 0.1)
        best_actions.append([int(np.argmax([values[plain_move(place, a)] for a in range(5)])) for place in PLACES])
    arrived = np.zeros(num_envs, dtype=bool)
    for actions in np.array(best_actions):
        _, _, terminated, truncated, _ = env.step(np.where(arrived, STAY, actions[env.task.states]))
        # Envs that arrived begin another episode, which doesn't count.
        arrived |= terminated
    value = env.optimal_return.value
    assert truncated[~arrived].all()
    assert abs(arrived.mean() - value) < 5 * np.sqrt(value * (1 - value) / num_envs)


def test_a_policy_that_tracks_the_place_arrives_far_more_often_than_wandering() -> None:
    num_envs, num_steps = 120, 100
    moves = np.array([[PLACES.index(plain_move(place, action)) for place in PLACES] for action in range(5)])
    transitions = 0.9 * np.eye(92)[moves] + 0.1 * np.eye(92)[moves].mean(axis=0)  # (actions, from, to)
    errors = np.array([plain_walls(place) for place in PLACES])[:, None] != FEELINGS
    likelihoods = np.where(errors, 0.1, 0.9).prod(axis=2)  # (states, feelings)
    is_goal = np.array([place[:2] == GOAL for place in PLACES])
    values = is_goal.astype(float)
    for _ in range(200):
        values = np.where(is_goal, 1.0, 0.95 * (transitions @ values).max(axis=0))
    action_values = (transitions @ values).T
    rates = []
    for tracks in (True, False):
        env, rng = BatchedVectorEnv(Maze89, num_envs), np.random.default_rng(0)
        observations, _ = env.reset(seed=1)
        beliefs, arrived = np.tile(~is_goal / 88.0, (num_envs, 1)), np.zeros(num_envs, dtype=bool)
        for _ in range(num_steps):
            beliefs = beliefs * likelihoods[:, (observations @ [1, 2, 4, 8]).astype(int)].T
            beliefs /= beliefs.sum(axis=1, keepdims=True)
            actions = (beliefs @ action_values).argmax(axis=1) if tracks else rng.integers(5, size=num_envs)
            observations, _, terminated, _, _ = env.step(actions)
            # The belief after arrival, and so the rest of that lane, doesn't count.
            beliefs = np.einsum("bi,bij->bj", beliefs, transitions[actions]) * ~is_goal + 1e-12
            arrived |= terminated
        rates.append(arrived.mean())
    assert rates[0] > 0.75
    assert rates[1] < 0.25


def test_the_step_limit_truncates() -> None:
    env = SingleEnv(Maze89, max_steps=3, action_noise=0.0)
    env.reset(seed=0)
    assert [env.step(STAY)[1:4] for _ in range(3)] == [(0.0, False, False)] * 2 + [(0.0, False, True)]


def test_the_text_shows_the_map_the_heading_and_what_is_felt() -> None:
    env = SingleEnv(Maze89, action_noise=0.0, feeler_noise=0.0, render_mode="ansi")
    env.reset(seed=0)
    at([PLACES.index((2, 6, 0))], env)
    env.step(TURN_RIGHT)
    assert env.render().splitlines() == [
        "#########",
        "##     ##",
        "#  # #  #",
        "## # # ##",
        "#  # #>G#",
        "##     ##",
        "#########",
        "feels ..#.",
    ]
    env.step(TURN_LEFT)
    assert env.render().splitlines()[4] == "#  # #^G#"


def test_the_image_shows_the_goal_and_which_way_the_agent_looks() -> None:
    env = SingleEnv(Maze89, render_mode="rgb_array")
    env.reset(seed=0)
    noses = []
    for heading in range(4):
        at([PLACES.index((2, 6, heading))], env)
        image = env.render()
        assert image.shape == (7 * 24, 9 * 24, 3)
        assert tuple(image[4 * 24 + 12, 7 * 24 + 12]) == (60, 170, 80)
        agent = image[4 * 24 : 5 * 24, 6 * 24 : 7 * 24]
        assert tuple(agent[12, 12]) == (200, 60, 50)
        edges = {"north": agent[1, 12], "east": agent[12, 22], "south": agent[22, 12], "west": agent[12, 1]}
        noses.append([name for name, pixel in edges.items() if tuple(pixel) == (60, 20, 20)])
    assert noses == [["north"], ["east"], ["south"], ["west"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 0}, "max_steps must be an integer >= 1, but got 0"),
        ({"max_steps": None}, "max_steps must be an integer >= 1, but got None"),
        ({"action_noise": -0.1}, r"action_noise must be a number in \[0.0, 1.0\], but got -0.1"),
        ({"feeler_noise": 1.1}, r"feeler_noise must be a number in \[0.0, 1.0\], but got 1.1"),
        ({"feeler_noise": float("nan")}, "feeler_noise must be a number .* but got nan"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(Maze89, **arguments)
