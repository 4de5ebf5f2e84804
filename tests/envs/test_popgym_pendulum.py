"""POPGym's pendulums, and the physics of the pendulum side by side with Gymnasium's Pendulum-v1."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.control.pendulum_physics import stands_upright, step_pendulum
from rlstm.envs.popgym.pendulum import PopgymPendulum


def test_a_batch_of_random_states_moves_and_costs_as_gymnasiums_one_by_one() -> None:
    rng, num = np.random.default_rng(0), 500
    angles, speeds = rng.uniform(-20, 20, num), rng.uniform(-8, 8, num)
    torques = rng.uniform(-2, 2, (num, 1)).astype(np.float32)
    new_angles, new_speeds, costs = step_pendulum(angles, speeds, torques[:, 0])
    theirs = gym.make("Pendulum-v1").unwrapped
    theirs.reset(seed=0)
    for lane in range(num):
        theirs.state = np.array([angles[lane], speeds[lane]])
        _, reward, *_ = theirs.step(torques[lane])
        assert (new_angles[lane], new_speeds[lane]) == tuple(theirs.state)
        # The square of a single float32 is rounded by another routine than that of an array of them.
        assert costs[lane] == pytest.approx(-reward, abs=1e-9)
    assert np.abs(new_speeds).max() == 8.0


def test_whole_episodes_follow_gymnasiums_pendulum() -> None:
    rng = np.random.default_rng(0)
    theirs, ours = gym.make("Pendulum-v1").unwrapped, SingleEnv(PopgymPendulum)
    for seed in range(5):
        theirs.reset(seed=seed)
        ours.reset(seed=seed)
        angle, speed = theirs.state
        ours.set_state({**ours.get_state(), "angles": np.array([angle]), "angular_velocities": np.array([speed])})
        for _ in range(200):
            action = rng.uniform(-2, 2, 1).astype(np.float32)
            their_observation, their_reward, *_ = theirs.step(action)
            observation, reward, *_ = ours.step(action)
            assert np.abs(observation - their_observation[:2]).max() <= 1e-6
            assert reward == pytest.approx((1 + their_reward / 8.1368022) / 200, abs=1e-11)


def test_a_hanging_rod_a_standing_rod_and_the_worst_step_by_hand() -> None:
    angles, speeds = np.array([math.pi, 0.0, math.pi]), np.array([0.0, 0.0, 8.0])
    new_angles, new_speeds, costs = step_pendulum(angles, speeds, np.array([0.0, 2.0, 2.0]))
    assert costs == pytest.approx([math.pi**2, 0.004, math.pi**2 + 6.404])
    assert costs[2] == pytest.approx(16.2736044, abs=1e-7)
    assert new_speeds == pytest.approx([0.0, 0.3, 8.0], abs=1e-12)
    assert new_angles == pytest.approx([math.pi, 0.015, math.pi + 0.4], abs=1e-12)
    assert (angles.tolist(), speeds.tolist()) == ([math.pi, 0.0, math.pi], [0.0, 0.0, 8.0])


def test_starts_are_uniform_in_all_directions_and_slow() -> None:
    num = 20_000
    env = BatchedVectorEnv(PopgymPendulum, num)
    env.reset(seed=0)
    angles, speeds = env.task.angles, env.task.angular_velocities
    for values, limit in ((angles, math.pi), (speeds, 1.0)):
        assert np.abs(values).max() <= limit
        assert abs(values.mean()) < 5 * limit / np.sqrt(3 * num)
        assert abs(values.std() * np.sqrt(3) / limit - 1) < 0.02
    assert abs(np.corrcoef(angles, speeds)[0, 1]) < 5 / np.sqrt(num)


def test_standing_is_upright_by_whole_turns_and_slow() -> None:
    angles = np.array([0.0, 0.2, -0.2, 0.22, 2 * math.pi, -4 * math.pi + 0.1, math.pi, 0.0, 0.0])
    speeds = np.array([0.0, 0.9, -0.9, 0.0, 0.0, 0.5, 0.0, 1.1, -1.1])
    assert stands_upright(angles, speeds).tolist() == [True, True, True, False, True, True, False, False, False]


def test_success_is_standing_after_the_last_step() -> None:
    env = BatchedVectorEnv(PopgymPendulum, 2, max_steps=1)
    env.reset(seed=0)
    env.set_state({**env.get_state(), "angles": np.array([0.01, math.pi]), "angular_velocities": np.array([0.0, 0.0])})
    *_, truncated, infos = env.step(np.zeros((2, 1), dtype=np.float32))
    assert truncated.all()
    assert infos["final_info"]["is_success"].tolist() == [True, False]


def test_a_rod_that_stands_earns_1_and_one_that_hangs_what_its_angle_costs() -> None:
    for angle, value in ((0.0, 1.0), (math.pi, 1 - math.pi**2 / 8.1368022)):
        env = SingleEnv(PopgymPendulum, max_steps=20)
        env.reset(seed=0)
        env.set_state({**env.get_state(), "angles": np.array([angle]), "angular_velocities": np.zeros(1)})
        outcomes = [env.step(np.zeros(1, dtype=np.float32)) for _ in range(20)]
        assert sum(outcome[1] for outcome in outcomes) == pytest.approx(value, abs=1e-9)
        assert [outcome[3] for outcome in outcomes] == [False] * 19 + [True]
        assert outcomes[-1][4]["is_success"] is (angle == 0.0)


def test_noise_is_added_to_what_is_seen_clipped_and_never_part_of_the_state() -> None:
    num_envs, noise = 3_000, 0.2
    exact, noisy = BatchedVectorEnv(PopgymPendulum, num_envs), BatchedVectorEnv(PopgymPendulum, num_envs, noise=noise)
    seen, seen_with_noise = [exact.reset(seed=0)[0]], [noisy.reset(seed=0)[0]]
    rng = np.random.default_rng(0)
    for _ in range(5):
        actions = rng.uniform(-2, 2, (num_envs, 1)).astype(np.float32)
        seen.append(exact.step(actions)[0])
        seen_with_noise.append(noisy.step(actions)[0])
        assert np.array_equal(exact.get_state()["angles"], noisy.get_state()["angles"])
    one, other = np.array(seen), np.array(seen_with_noise)
    assert np.abs(other).max() == 1.0
    # In the middle of the range five standard deviations aren't clipped.
    gaps = (other - one)[np.abs(one) < 0.001]
    assert gaps.size > 5
    assert np.all(np.abs(gaps) < 5 * noise)
    inner = (other - one)[np.abs(one) < 0.3]
    assert abs(inner.mean()) < 5 * noise / np.sqrt(inner.size)
    assert abs(inner.std() / noise - 1) < 0.03


@pytest.mark.parametrize(
    ("name", "max_steps", "noise"),
    [
        ("PositionOnlyPendulum", (200, 150, 100), (0.0, 0.0, 0.0)),
        ("NoisyPositionOnlyPendulum", (200, 200, 200), (0.1, 0.2, 0.3)),
    ],
)
def test_levels_are_popgyms(name: str, max_steps: Any, noise: Any) -> None:
    tasks = [gym.make(f"rlstm/{name}{level}-v0").unwrapped.task for level in ("Easy", "Medium", "Hard")]
    assert tuple(task.max_steps for task in tasks) == max_steps
    assert tuple(task.noise for task in tasks) == noise
    assert [task.memory_length for task in tasks] == [None if noise[0] else 1] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 0}, "max_steps must be an integer >= 1, but got 0"),
        ({"noise": 10.5}, r"noise must be a number in \[0.0, 10.0\], but got 10.5"),
        ({"noise": "0.1"}, "noise must be a number in .*, but got '0.1'"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(PopgymPendulum, **arguments)


def test_an_action_beyond_the_torque_is_refused() -> None:
    env = BatchedVectorEnv(PopgymPendulum, 3)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="of lane 1 is outside Box"):
        env.step(np.array([[0.0], [2.1], [0.0]]))


def test_pictures_point_where_the_rod_does() -> None:
    task = PopgymPendulum(1)

    def rod(angle: float) -> tuple[float, float]:
        task.angles[:] = angle
        image = task.render_pixels(0)
        rows, columns = np.nonzero((image == (190, 70, 60)).all(axis=2))
        return float(rows.mean()) - 60, float(columns.mean()) - 60

    for angle in (0.0, 0.7, math.pi / 2, math.pi, -2.0):
        down, right = rod(angle)
        # The middle of the rod, but for what the axle hides.
        assert (down, right) == (
            pytest.approx(-27 * math.cos(angle), abs=2),
            pytest.approx(-27 * math.sin(angle), abs=2),
        )
    task.angles[:], task.angular_velocities[:] = 2 * math.pi + 0.5, -1.25
    assert task.render_text(0) == "step 0: angle +0.500 rad (-1.250 rad/s)"
