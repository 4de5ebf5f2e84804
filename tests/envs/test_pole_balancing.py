"""Pole balancing without velocities: observations, failure, both fitnesses, starts, and references."""

import math
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.control.pole_balancing import PoleBalancing
from rlstm.envs.control.pole_dynamics import CartWithPoles

# Forces in units of 10 N by position, angles and velocities: linear feedback that balances.
GAINS = {1: np.array([-0.28, -3.75, -0.40, -0.96]), 2: np.array([0.21, 5.70, -4.13, 0.35, 1.50, -0.35])}
LIMITS = {1: np.array([2.4, math.radians(12)]), 2: np.array([2.4, math.radians(36), math.radians(36)])}


def make_actor(num_poles: int = 2) -> Any:
    """Feedback by differences; the velocities before the first step are taken as 0."""
    memory: dict[str, Any] = {}

    def act(observations: Any) -> Any:
        before = memory.get("last", observations)
        memory["last"] = observations
        velocities = (observations - before) * LIMITS[num_poles] / 0.02
        pushes = np.concatenate([observations * LIMITS[num_poles], velocities], axis=1) @ GAINS[num_poles]
        return np.clip(-pushes, -1, 1)[:, None].astype(np.float32)

    return act


def started(num_envs: int = 1, **arguments: Any) -> PoleBalancing:
    task = PoleBalancing(num_envs, **arguments)
    task.random.seed(np.arange(num_envs), list(range(num_envs)))
    task.reset(np.arange(num_envs), np.ones(num_envs, dtype=bool))
    return task


def full_state(task: PoleBalancing) -> Any:
    """x, x', theta_1, theta_1', ..., (B, 2 + 2 P)."""
    return np.stack([task.coordinates, task.velocities], axis=2).reshape(task.num_envs, -1)


@pytest.mark.parametrize("num_poles", [1, 2])
def test_a_step_is_two_runge_kutta_steps_under_ten_newtons_times_the_action(
    num_poles: int,
) -> None:
    task = PoleBalancing(30, num_poles=num_poles)
    rng = np.random.default_rng(0)
    states = rng.uniform(-0.3, 0.3, (30, 2 + 2 * num_poles))
    task.place(np.arange(30), states)
    actions = rng.uniform(-1, 1, (30, 1)).astype(np.float32)
    task.step(actions)
    cart = CartWithPoles([0.5, 0.05][:num_poles], [0.1, 0.01][:num_poles])
    for lane in range(30):
        q, v = states[lane, 0::2, None], states[lane, 1::2, None]
        for _ in range(2):
            q, v = cart.integrate(q, v, 10.0 * actions[lane].astype(np.float64), 0.01, 1)
        expected = np.stack([q[:, 0], v[:, 0]], axis=1).ravel()
        np.testing.assert_allclose(full_state(task)[lane], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("num_poles", [1, 2])
def test_observed_are_position_and_angles_in_units_of_the_limits(num_poles: int) -> None:
    task = PoleBalancing(1, num_poles=num_poles)
    state = np.array([[1.2, 5.0, math.radians(6), 7.0, math.radians(-9), 8.0]])[:, : 2 + 2 * num_poles]
    task.place(np.array([0]), state)
    expected = [0.5, 6 / 12] if num_poles == 1 else [0.5, 6 / 36, -9 / 36]
    np.testing.assert_allclose(task.observe()[0], expected, rtol=1e-6)
    np.testing.assert_allclose(task.hidden_state()[0, 1:], [*state[0, 0::2], *state[0, 1::2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("num_poles", "state", "fallen"),
    [
        (2, [2.39, 0, 0, 0, 0, 0], False),
        (2, [-2.41, 0, 0, 0, 0, 0], True),
        (2, [0, 0, math.radians(-36.5), 0, 0, 0], True),
        (2, [0, 0, math.radians(35), 0, 0, 0], False),
        (2, [0, 0, 0, 0, math.radians(37), 0], True),
        (2, [0, 0, 0, 0, math.radians(-20), 0], False),
        (1, [0, 0, math.radians(11.5), 0], False),
        (1, [0, 0, math.radians(12.5), 0], True),
        (1, [2.41, 0, 0, 0], True),
    ],
)
def test_falling_or_leaving_the_track_terminates_and_such_a_step_earns_nothing(
    num_poles: int, state: list[float], fallen: bool
) -> None:
    task = PoleBalancing(1, num_poles=num_poles, max_steps=1)
    task.place(np.array([0]), np.array([state]))
    transition = task.step(np.zeros((1, 1), dtype=np.float32))
    assert transition.terminated[0] == fallen
    assert transition.rewards[0] == (0.0 if fallen else 1.0)
    assert transition.info["is_success"][0] != fallen


def play(task: PoleBalancing, act: Any) -> tuple[Any, list[Any]]:
    """One episode in a single lane: its rewards and the full states after the steps."""
    rewards, states = [], []
    while True:
        transition = task.step(act(task.observe()))
        rewards.append(transition.rewards[0])
        states.append(full_state(task)[0])
        if transition.terminated[0] or len(rewards) == task.max_steps:
            return rewards, states


def damping_fitness(states: list[Any], fallen: bool, max_steps: int) -> float:
    """0.1 t / max_steps + 0.9 f2, written out."""
    balanced = states[:-1] if fallen else states
    still = 0.0
    if len(balanced) >= 100:
        still = 0.75 / sum(abs(s[0]) + abs(s[1]) + abs(s[2]) + abs(s[3]) for s in balanced[-100:])
    return 0.1 * len(balanced) / max_steps + 0.9 * still


def give_up_after(act: Any, num_steps: int) -> Any:
    steps = iter(range(10**6))
    return lambda observations: act(observations) if next(steps) < num_steps else np.ones((1, 1), dtype=np.float32)


@pytest.mark.parametrize("num_poles", [1, 2])
@pytest.mark.parametrize(
    ("surrender", "max_steps"),
    [pytest.param(10**6, 1000, marks=pytest.mark.slow), (10**6, 99), (10**6, 100), (20, 1000), (170, 1000)],
)
def test_the_return_is_the_damping_fitness(num_poles: int, surrender: int, max_steps: int) -> None:
    task = started(num_poles=num_poles, fitness="damping", max_steps=max_steps)
    rewards, states = play(task, give_up_after(make_actor(num_poles), surrender))
    fallen = len(rewards) < max_steps
    assert fallen == (surrender < max_steps)
    expected = damping_fitness(states, fallen, max_steps)
    np.testing.assert_allclose(sum(rewards), expected, rtol=1e-9)
    assert np.allclose(rewards[:-1], 0.1 / max_steps, rtol=1e-12, atol=0)
    assert (rewards[-1] > 0.002) == (len(states) - fallen >= 100)


def test_f2_counts_from_a_hundred_balanced_steps_on() -> None:
    lengths = set()
    for surrender in range(90, 102):
        task = started(fitness="damping")
        rewards, states = play(task, give_up_after(make_actor(), surrender))
        np.testing.assert_allclose(sum(rewards), damping_fitness(states, True, 1000), rtol=1e-9)
        assert (rewards[-1] > 0.0) == (len(states) - 1 >= 100)
        lengths.add(len(states) - 1)
    assert {99, 100} <= lengths


def test_the_motion_of_an_episode_is_not_paid_for_in_the_next() -> None:
    task = started(fitness="damping", max_steps=300)
    first, _ = play(task, give_up_after(make_actor(), 120))
    task.reset(np.array([0]), np.array([True]))
    rewards, states = play(task, make_actor())
    assert len(first) < 300 == len(rewards)
    np.testing.assert_allclose(sum(rewards), damping_fitness(states, False, 300), rtol=1e-9)


def test_a_restored_episode_is_paid_for_the_motion_before_the_restore() -> None:
    task, other = (started(fitness="damping", max_steps=150) for _ in range(2))
    act = make_actor()
    for _ in range(100):
        task.step(act(task.observe()))
    other.set_state(task.get_state())
    for _ in range(50):
        actions = act(task.observe())
        expected, found = task.step(actions), other.step(actions)
    assert found.rewards[0] == expected.rewards[0] > 0.01


def test_standing_still_at_the_equilibrium_is_paid_for_with_a_finite_reward() -> None:
    task = started(fitness="damping", start_angle=0, max_steps=120)
    rewards, _ = play(task, lambda observations: np.zeros((1, 1), dtype=np.float32))
    np.testing.assert_allclose(sum(rewards), 0.1 + 0.9 * 0.75 / 1e-6, rtol=1e-9)


def test_the_standard_return_is_the_number_of_balanced_steps() -> None:
    task = started()
    rewards, states = play(task, give_up_after(make_actor(), 40))
    assert sum(rewards) == len(states) - 1
    assert 40 < len(states) < 100


def test_a_fixed_start_leans_by_the_angle_and_draws_nothing() -> None:
    for num_poles in (1, 2):
        for arguments, degrees in (({}, 4.0), ({"start_angle": -4.5}, -4.5)):
            task = started(3, num_poles=num_poles, **arguments)
            expected = np.zeros((3, 2 + 2 * num_poles))
            expected[:, 2] = math.radians(degrees)
            assert np.array_equal(full_state(task), expected)
            assert not task.random.counters.any()


def test_random_starts_are_uniform_on_the_ranges_of_the_generalisation_test() -> None:
    starts = full_state(started(4_000, start="random"))
    ranges = np.array([2.16, 1.35, math.radians(3.6), math.radians(8.6)])
    scaled = starts[:, :4] / ranges
    assert np.abs(scaled).max() <= 1.0
    assert np.all(np.abs(scaled.mean(axis=0)) < 5 / np.sqrt(3 * 4_000))
    assert np.all(np.abs(scaled.std(axis=0) - 1 / np.sqrt(3)) < 0.02)
    assert np.abs(np.corrcoef(scaled.T) - np.eye(4)).max() < 5 / np.sqrt(4_000)
    assert not starts[:, 4:].any()


@pytest.mark.parametrize("angle", [-5.0, *(pytest.param(one, marks=pytest.mark.slow) for one in (-4.0, 4.5, 5.0))])
@pytest.mark.parametrize("num_poles", [1, 2])
def test_feedback_from_observations_balances_from_every_angle_that_is_called_exact(
    num_poles: int, angle: float
) -> None:
    task = started(num_poles=num_poles, start_angle=angle)
    assert task.optimal_return.kind == "exact"
    rewards, _ = play(task, make_actor(num_poles))
    assert sum(rewards) == task.optimal_return.value == 1000


def test_references_promise_no_more_than_is_known() -> None:
    assert PoleBalancing(1, start_angle=5.5).optimal_return.kind == "bound"
    assert PoleBalancing(1, start="random").optimal_return.kind == "bound"
    assert PoleBalancing(1, fitness="damping").optimal_return.kind == "unknown"
    assert PoleBalancing(1, num_poles=1).memoryless_return.kind == "unknown"


def test_no_way_of_falling_leaves_the_observation_space() -> None:
    env = BatchedVectorEnv(PoleBalancing, 400, start="random")
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    pushes, largest = np.ones((400, 1), dtype=np.float32), 0.0
    for step in range(600):
        # Half of the lanes push at random for a while, the others so that the short pole swings up.
        if step % 4 == 0:
            pushes[:200] = rng.choice([-1.0, 1.0], (200, 1))
        angles, spins = env.task.coordinates[200:, 2:], env.task.velocities[200:, 2:]
        pushes[200:] = np.where(rng.random((200, 1)) < 0.05, -1.0, 1.0) * np.where(spins + angles > 0, -1.0, 1.0)
        observations, _, _, _, infos = env.step(pushes)
        seen = infos.get("final_obs", observations)
        largest = max(largest, float(np.abs(seen).max()))
        assert seen in env.observation_space
    assert largest > 1.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_poles": 0}, "num_poles must be an integer >= 1, but got 0"),
        ({"num_poles": 3}, "num_poles must be 1 or 2, but got 3"),
        ({"fitness": "best"}, "fitness must be one of standard, damping, but got 'best'"),
        ({"start": "upright"}, "start must be one of fixed, random, but got 'upright'"),
        ({"max_steps": 0}, "max_steps must be an integer >= 1, but got 0"),
        ({"start_angle": 36.5}, r"start_angle for num_poles 2 must be a number in \[-36, 36\], but got 36.5"),
        (
            {"num_poles": 1, "start_angle": 13},
            r"start_angle for num_poles 1 must be a number in \[-12, 12\], but got 13",
        ),
        ({"start_angle": math.nan}, "start_angle .* but got nan"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(PoleBalancing, **arguments)
