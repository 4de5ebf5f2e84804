"""POPGym's CartPoles: the same motion as CartPole without velocities, seen in three ways."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.control.cartpole_no_vel import CartPoleNoVel
from rlstm.envs.popgym.cartpole import PopgymCartPole

STATE = ("positions", "velocities", "angles", "angular_velocities")
NUM_ENVS = 50


def play(env: Any, num_steps: int, seed: int = 0) -> list[Any]:
    """Observations and states of random play, the observations of ended episodes being their last ones."""
    rng = np.random.default_rng(seed)
    played = [(env.reset(seed=0)[0], {name: env.get_state()[name] for name in STATE})]
    for _ in range(num_steps):
        transition = env.task.step(rng.integers(0, 2, env.num_envs))
        played.append((env.task.observe(), {name: env.get_state()[name] for name in STATE}, transition))
    return played


def test_it_moves_and_falls_as_cartpole_without_velocities() -> None:
    ours, other = BatchedVectorEnv(PopgymCartPole, NUM_ENVS), BatchedVectorEnv(CartPoleNoVel, NUM_ENVS, max_steps=200)
    assert np.array_equal(ours.reset(seed=0)[0], other.reset(seed=0)[0])
    rng, num_ended = np.random.default_rng(0), 0
    for _ in range(300):
        actions = rng.integers(0, 2, NUM_ENVS)
        found, expected = ours.step(actions), other.step(actions)
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[2], expected[2])
        assert np.all(found[1] == 1 / 200)
        num_ended += int(found[2].sum())
    assert num_ended > NUM_ENVS


def test_velocities_are_seen_except_at_the_start_where_positions_are() -> None:
    played = play(BatchedVectorEnv(PopgymCartPole, NUM_ENVS, observed="velocities"), 12)
    for step, (observations, state, *_) in enumerate(played):
        names = ("positions", "angles") if step == 0 else ("velocities", "angular_velocities")
        assert np.array_equal(observations, np.stack([state[name] for name in names], axis=1).astype(np.float32))


def test_the_next_episode_of_a_lane_begins_with_positions_again() -> None:
    env = BatchedVectorEnv(PopgymCartPole, NUM_ENVS, observed="velocities")
    env.reset(seed=0)
    ended = np.zeros(NUM_ENVS, dtype=bool)
    rng = np.random.default_rng(1)
    for _ in range(30):
        observations, _, terminated, *_ = env.step(rng.integers(0, 2, NUM_ENVS))
        state = env.get_state()
        names = np.where(terminated, "positions", "velocities")
        expected = [state[name][lane] for lane, name in enumerate(names)]
        assert np.array_equal(observations[:, 0], np.array(expected, dtype=np.float32))
        ended |= terminated
    assert ended.any()


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_noise_is_added_to_what_is_seen_and_never_to_the_state(noise: float) -> None:
    exact, noisy = (
        play(BatchedVectorEnv(PopgymCartPole, 2_000), 8),
        play(BatchedVectorEnv(PopgymCartPole, 2_000, noise=noise), 8),
    )
    # The starts are drawn alike, so that the same actions make the same motion.
    gaps = []
    for one, other in zip(exact, noisy, strict=True):
        assert all(np.array_equal(one[1][name], other[1][name]) for name in STATE)
        gaps.append(other[0] - one[0])
    cart = np.array(gaps)[:, :, 0]  # Positions are never clipped: the bound is far away.
    assert abs(cart.std() / noise - 1) < 5 / np.sqrt(2 * cart.size)
    assert np.abs(np.corrcoef(cart) - np.eye(len(cart))).max() < 5 / np.sqrt(2_000)


def test_noisy_positions_are_clipped_to_the_bounds() -> None:
    env = BatchedVectorEnv(PopgymCartPole, 2_000, noise=0.3)
    observations, _ = env.reset(seed=0)
    high = env.single_observation_space.high
    assert np.abs(observations[:, 1]).max() == high[1]
    assert 0.05 < np.mean(np.abs(observations[:, 1]) == high[1]) < 0.35
    assert observations in env.observation_space


def test_without_noise_nothing_is_drawn_after_the_start() -> None:
    env = BatchedVectorEnv(PopgymCartPole, 3)
    env.reset(seed=0)
    before = env.get_state()["random_counters"]
    env.step(np.zeros(3, dtype=np.int64))
    assert np.array_equal(env.get_state()["random_counters"], before)


def test_speeds_stay_far_below_the_bounds() -> None:
    for action in (0, 1):
        env = BatchedVectorEnv(PopgymCartPole, 200, observed="velocities")
        env.reset(seed=action)
        for _ in range(60):
            observations, _, _, _, infos = env.step(np.full(200, action))
            seen = infos.get("final_obs", observations)
            assert np.all(np.abs(seen) < 0.25 * env.single_observation_space.high)
    assert env.single_observation_space.high.tolist() == pytest.approx([480.0, 41.888], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "max_steps", "observed", "noise"),
    [
        ("PositionOnlyCartPole", (200, 400, 600), "positions", (0.0, 0.0, 0.0)),
        ("NoisyPositionOnlyCartPole", (200, 200, 200), "positions", (0.1, 0.2, 0.3)),
        ("VelocityOnlyCartPole", (200, 400, 600), "velocities", (0.0, 0.0, 0.0)),
    ],
)
def test_levels_are_popgyms(name: str, max_steps: Any, observed: str, noise: Any) -> None:
    tasks = [gym.make(f"rlstm/{name}{level}-v0").unwrapped.task for level in ("Easy", "Medium", "Hard")]
    assert tuple(task.max_steps for task in tasks) == max_steps
    assert tuple(task.noise for task in tasks) == noise
    assert all(task.observed == observed for task in tasks)
    assert [task.memory_length for task in tasks] == [1 if name == "PositionOnlyCartPole" else None] * 3
    assert [task.optimal_return.kind for task in tasks] == ["bound" if noise[0] else "exact"] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 0}, "max_steps must be an integer >= 1, but got 0"),
        ({"observed": "angles"}, "observed must be one of positions, velocities, but got 'angles'"),
        ({"noise": -0.1}, r"noise must be a number in \[0.0, 10.0\], but got -0.1"),
        ({"noise": float("nan")}, "noise must be a number in .*, but got nan"),
        ({"noise": True}, "noise must be a number in .*, but got True"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(PopgymCartPole, **arguments)
