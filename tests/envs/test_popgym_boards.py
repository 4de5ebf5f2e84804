"""Boards, bandit and control tasks side by side with POPGym 1.0.7, from the same hidden state and by the same actions.

A `Pair` holds both environments of one level. `begin` resets theirs and puts ours into the same state; where payouts or
noise are drawn, theirs gets the numbers that ours is about to draw.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.lane_random import LaneRandom
from rlstm.envs.base.registration import ENVS

pytest.importorskip("popgym", reason="POPGym isn't installed: pip install 'rlstm-torch[envs]'")
from popgym.envs import (
    battleship,
    minesweeper,
    multiarmed_bandit,
    noisy_position_only_cartpole,
    noisy_position_only_pendulum,
    position_only_cartpole,
    position_only_pendulum,
    velocity_only_cartpole,
)

# POPGym's VelocityOnlyCartPole has infinite bounds, and its dependencies use what is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

MODULES = {
    "MultiarmedBandit": (multiarmed_bandit, "MultiarmedBandit"),
    "Battleship": (battleship, "Battleship"),
    "Minesweeper": (minesweeper, "MineSweeper"),
    "PositionOnlyCartPole": (position_only_cartpole, "PositionOnlyCartPole"),
    "NoisyPositionOnlyCartPole": (noisy_position_only_cartpole, "NoisyPositionOnlyCartPole"),
    "VelocityOnlyCartPole": (velocity_only_cartpole, "VelocityOnlyCartPole"),
    "PositionOnlyPendulum": (position_only_pendulum, "PositionOnlyPendulum"),
    "NoisyPositionOnlyPendulum": (noisy_position_only_pendulum, "NoisyPositionOnlyPendulum"),
}
LEVELS = ("Easy", "Medium", "Hard")
CASES = [(name, level) for name in MODULES for level in LEVELS]
over_cases = pytest.mark.parametrize(("name", "level"), CASES)

CARTPOLE_STATE = ("positions", "velocities", "angles", "angular_velocities")
PENDULUM_STATE = ("angles", "angular_velocities")


class Numbers:
    """Stands in for a generator of theirs and gives the numbers that our task draws next."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.copy = LaneRandom(1)
        self.lane = np.zeros(1, dtype=np.int64)

    def random(self) -> float:
        self.copy.set_state(self.task.random.get_state())
        return float(self.copy.uniform(self.lane)[0])

    def normal(self, mean: float, sigma: Any) -> Any:
        self.copy.set_state(self.task.random.get_state())
        return mean + sigma * self.copy.normal(self.lane, (2,))[0]


class Pair:
    def __init__(self, name: str, level: str) -> None:
        module, their_name = MODULES[name]
        self.name = name
        self.theirs = getattr(module, their_name + level)()
        self.ours = gym.make(f"rlstm/{name}{level}-v0").unwrapped
        self.task = self.ours.task

    def put(self, **arrays: Any) -> None:
        """Gives our lane these values, each without the axis of lanes."""
        state = self.ours.get_state()
        for name, value in arrays.items():
            state[name] = np.asarray(value).astype(state[name].dtype).reshape(state[name].shape)
        self.ours.set_state(state)

    def begin(self, seed: int) -> tuple[Any, Any]:
        """First observations, ours and theirs."""
        self.theirs.np_random = np.random.default_rng(seed)
        first, _ = self.theirs.reset()
        self.ours.reset(seed=seed)
        if self.name == "MultiarmedBandit":
            self.put(payout_probabilities=self.theirs.bandits)
            self.theirs.np_random = Numbers(self.task)
        elif self.name == "Battleship":
            self.put(ships=self.theirs.board)
        elif self.name == "Minesweeper":
            self.put(mines=self.theirs.hidden_grid == minesweeper.HiddenSquare.MINE)
        else:
            names = CARTPOLE_STATE if "CartPole" in self.name else PENDULUM_STATE
            self.put(**dict(zip(names, self.theirs.state, strict=True)))
        if "Noisy" in self.name:
            # Their first noise is part of their first observation, and is seen from it where nothing is clipped.
            state = np.asarray(self.theirs.state)
            exact = state[[0, 2]] if "CartPole" in self.name else np.array([np.cos(state[0]), np.sin(state[0])])
            self.put(noises=first - exact.astype(np.float32))
            self.theirs.np_random = Numbers(self.task)
        return self.task.observe()[0], first

    def sample_action(self, rng: np.random.Generator, step: int) -> Any:
        """Mostly sensible, so that episodes reach all that can happen."""
        if self.name == "Battleship" and rng.random() < 0.7:
            return np.array(np.divmod(step % self.task.board_size**2, self.task.board_size))
        if self.name == "Minesweeper" and rng.random() < 0.95:
            closed = np.flatnonzero(~(self.task.opened[0] | self.task.mines[0]))
            return np.array(np.divmod(rng.choice(closed), self.task.board_size))
        if "CartPole" in self.name:
            position, velocity, angle, speed = (float(getattr(self.task, name)[0]) for name in CARTPOLE_STATE)
            wobble = 0.1 * (step // 100) * rng.normal()
            return int(angle + 0.5 * speed + 0.05 * position + 0.1 * velocity > wobble)
        if "Pendulum" in self.name:
            return rng.uniform(-2.0, 2.0, 1).astype(np.float32)
        return rng.integers(
            self.ours.action_space.nvec if "nvec" in vars(self.ours.action_space) else self.task.num_arms
        )


def assert_step_equal(pair: Pair, found: Any, expected: Any) -> None:
    observation, reward, terminated, truncated, _ = found
    their_observation, their_reward, their_terminated, their_truncated, _ = expected
    assert observation in pair.ours.observation_space
    assert np.max(np.abs(observation - their_observation)) <= 1e-6
    assert abs(reward - their_reward) <= 1e-9
    assert terminated == their_terminated
    # POPGym's Minesweeper says truncated only if not terminated; ours says so at the last step in any case.
    assert (truncated and not terminated) == (their_truncated and not their_terminated)


def play_one_episode(pair: Pair, seed: int) -> tuple[int, bool]:
    """Compares every step; returns how many there were and whether it was a success."""
    rng = np.random.default_rng(seed)
    first, their_first = pair.begin(seed)
    np.testing.assert_allclose(first, their_first, rtol=0, atol=1e-6)
    step, over = 0, False
    while not over:
        action = pair.sample_action(rng, step)
        # Theirs first, as `Numbers` looks at what ours is going to draw.
        expected = pair.theirs.step(action)
        found = pair.ours.step(action)
        assert_step_equal(pair, found, expected)
        over = found[2] or found[3]
        step += 1
    return step, found[4]["is_success"]


@over_cases
def test_a_few_episodes_equal_popgyms(name: str, level: str) -> None:
    pair = Pair(name, level)
    for seed in range(2):
        play_one_episode(pair, seed)


@pytest.mark.slow
@over_cases
def test_hundreds_of_episodes_equal_popgyms(
    name: str, level: str, record_property: Callable[[str, object], None]
) -> None:
    pair = Pair(name, level)
    outcomes = [play_one_episode(pair, seed) for seed in range(200)]
    lengths, successes = zip(*outcomes, strict=True)
    limit = ENVS[f"rlstm/{name}{level}-v0"].load_task()(1, **ENVS[f"rlstm/{name}{level}-v0"].arguments).max_steps
    assert max(lengths) == limit
    if name in ("Battleship", "Minesweeper", "MultiarmedBandit"):
        assert 0 < sum(successes) < 200
    for key, value in (("env", f"rlstm/{name}{level}-v0"), ("episodes", len(lengths)), ("steps", sum(lengths))):
        record_property(key, value)  # For scripts/experiments/popgym_parity.py.


@over_cases
def test_spaces_are_popgyms(name: str, level: str) -> None:
    pair = Pair(name, level)
    assert pair.ours.action_space == pair.theirs.action_space
    if name == "VelocityOnlyCartPole":
        # Gymnasium's checker warns of infinite bounds; ours are finite and never attained.
        assert pair.ours.observation_space.shape == pair.theirs.observation_space.shape
        assert pair.ours.observation_space.dtype == pair.theirs.observation_space.dtype
    else:
        assert pair.ours.observation_space == pair.theirs.observation_space


def first_states(make: Callable[[], Any], read: Callable[[Any], Any], num: int) -> Any:
    env = make()
    states = []
    for seed in range(num):
        env.np_random = np.random.default_rng(seed)
        env.reset()
        states.append(read(env))
    return np.array(states, dtype=np.float64).reshape(num, -1)


def assert_same_frequencies(ours: Any, theirs: Any) -> None:
    """Means and pairwise products of 0s and 1s agree within 5 standard errors, (episodes, cells) each."""
    for one, other in ((ours, theirs), (pairwise_products(ours), pairwise_products(theirs))):
        mean, other_mean = one.mean(axis=0), other.mean(axis=0)
        pooled = 0.5 * (mean + other_mean)
        errors = np.sqrt(pooled * (1 - pooled) * (1 / len(one) + 1 / len(other)))
        assert np.all(np.abs(mean - other_mean) <= 5 * errors + 1e-12)


def pairwise_products(values: Any) -> Any:
    first, second = np.triu_indices(values.shape[1], k=1)
    return values[:, first] * values[:, second]


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_ships_lie_as_often_in_each_cell_and_pair_of_cells_as_popgyms(level: str) -> None:
    theirs = first_states(getattr(battleship, f"Battleship{level}"), lambda env: env.board, 3_000)
    ours = gym.make_vec(f"rlstm/Battleship{level}-v0", 10_000, "vector_entry_point")
    ours.reset(seed=0)
    assert_same_frequencies(ours.get_state()["ships"].astype(np.float64), theirs)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_mines_lie_as_often_in_each_cell_and_pair_of_cells_as_popgyms(level: str) -> None:
    theirs = first_states(getattr(minesweeper, f"MineSweeper{level}"), lambda env: env.hidden_grid == 1, 3_000)
    ours = gym.make_vec(f"rlstm/Minesweeper{level}-v0", 10_000, "vector_entry_point")
    ours.reset(seed=0)
    assert_same_frequencies(ours.get_state()["mines"].astype(np.float64), theirs)


@pytest.mark.parametrize("name", ["PositionOnlyCartPole", "PositionOnlyPendulum"])
def test_starts_are_distributed_as_popgyms(name: str) -> None:
    module, their_name = MODULES[name]
    theirs = first_states(getattr(module, f"{their_name}Easy"), lambda env: env.state, 1_000)
    ours = gym.make_vec(f"rlstm/{name}Easy-v0", 10_000, "vector_entry_point")
    ours.reset(seed=0)
    names = CARTPOLE_STATE if "CartPole" in name else PENDULUM_STATE
    starts = np.stack([ours.get_state()[one] for one in names], axis=1)
    scale = starts.std(axis=0)
    assert np.all(np.abs(starts.mean(axis=0) - theirs.mean(axis=0)) < 5 * scale * np.sqrt(1 / 1_000 + 1 / 10_000))
    for quantile in (0.0, 0.25, 0.5, 0.75, 1.0):
        gap = np.abs(np.quantile(starts, quantile, axis=0) - np.quantile(theirs, quantile, axis=0))
        assert np.all(gap < 0.4 * scale)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["NoisyPositionOnlyCartPole", "NoisyPositionOnlyPendulum"])
def test_noise_has_popgyms_size_and_is_independent_and_normal(name: str, level: str) -> None:
    num_envs, num_steps = 2_000, 10
    sigma = Pair(name, level).theirs.noise_sigma[0]
    ours = gym.make_vec(f"rlstm/{name}{level}-v0", num_envs, "vector_entry_point")
    ours.reset(seed=0)
    noises = [ours.get_state()["noises"]]
    for _ in range(num_steps - 1):
        ours.step(np.zeros((num_envs, *ours.single_action_space.shape), dtype=ours.single_action_space.dtype))
        noises.append(ours.get_state()["noises"])
    samples = np.stack(noises, axis=1).reshape(num_envs, -1) / sigma
    assert np.abs(samples.mean(axis=0)).max() < 5 / np.sqrt(num_envs)
    assert np.abs(samples.std(axis=0) - 1).max() < 5 / np.sqrt(2 * num_envs)
    assert np.abs(np.corrcoef(samples.T) - np.eye(2 * num_steps)).max() < 5 / np.sqrt(num_envs)
    within_one, within_two = (np.mean(np.abs(samples) < limit) for limit in (1, 2))
    assert (within_one, within_two) == (pytest.approx(0.6827, abs=0.012), pytest.approx(0.9545, abs=0.006))
