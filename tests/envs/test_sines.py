"""Superimposed sines against sums written out term by term."""

import math
from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.base.lane_random import LaneRandom
from rlstm.envs.sequences.sines import SuperimposedSines

# The first numbers of the literature's signal.
FREQUENCIES = (0.2, 0.311, 0.42, 0.51, 0.74)


def signal(start: float, step: int, num_sines: int) -> float:
    return sum(math.sin(frequency * (start + step)) for frequency in FREQUENCIES[:num_sines]) / num_sines


def start_of(seed: int) -> float:
    random = LaneRandom(1)
    random.seed([0], [seed])
    return float(2000 * math.pi * random.uniform(np.array([0]))[0])


@pytest.mark.parametrize("num_sines", [2, 3, 4, 5])
def test_an_episode_is_the_sum_term_by_term_shown_in_the_washout(num_sines: int) -> None:
    env = SingleEnv(SuperimposedSines, num_sines=num_sines, washout=6, free_run=9)
    rng = np.random.default_rng(0)
    for seed in range(5):
        start = start_of(seed)
        observation, _ = env.reset(seed=seed)
        for step in range(15):
            shown = [signal(start, step - 1, num_sines), 1.0] if step < 6 else [0.0, 0.0]
            np.testing.assert_allclose(observation, shown, rtol=0, atol=1e-6)
            action = rng.uniform(-1, 1, 1).astype(np.float32)
            observation, reward, terminated, truncated, info = env.step(action)
            target = signal(start, step, num_sines)
            assert info["target"].shape == (1,)
            assert info["target"][0] == pytest.approx(target, abs=1e-9)
            assert reward == pytest.approx(0.0 if step < 6 else -((float(action[0]) - target) ** 2), abs=1e-9)
            assert (terminated, truncated) == (step == 14, False)
        assert observation.tolist() == [0.0, 0.0]


def test_starts_are_spread_so_that_every_step_has_the_same_moments() -> None:
    for num_sines in (2, 5):
        env = BatchedVectorEnv(SuperimposedSines, 10_000, num_sines=num_sines, washout=2, free_run=8)
        env.reset(seed=0)
        series = env.get_state()["series"]
        assert np.abs(series.mean(axis=0)).max() < 5 * math.sqrt(0.5 / num_sines / 10_000)
        np.testing.assert_allclose(series.var(axis=0), 0.5 / num_sines, rtol=0.06)
        assert env.memoryless_return.value == pytest.approx(-8 / (2 * num_sines))


@pytest.mark.parametrize(("share", "is_success"), [(0.99, True), (1.01, False)])
def test_success_is_a_free_run_with_at_most_a_tenth_of_the_deviation_as_error(share: float, is_success: bool) -> None:
    env = SingleEnv(SuperimposedSines, num_sines=3, washout=5, free_run=20)
    env.reset(seed=1)
    targets = env.get_state()["series"][0, 1:]
    offset = share * 0.1 * math.sqrt(1 / 6)
    for step, target in enumerate(targets):
        # Whatever is answered in the washout doesn't count.
        answer = -1.0 if step < 5 else target + offset * (1 if target < 0 else -1)
        info = env.step(np.array([answer], dtype=np.float32))[4]
        assert info["is_success"] is (is_success and step == 24)


def test_errors_of_an_episode_are_not_carried_into_the_next() -> None:
    env = SingleEnv(SuperimposedSines, washout=1, free_run=2)
    for episode in range(4):
        env.reset(seed=episode)
        for target in env.get_state()["series"][0, 1:]:
            answer = (1.0 if target < 0 else -1.0) if episode % 2 == 0 else target
            info = env.step(np.array([answer], dtype=np.float32))[4]
        assert info["is_success"] is (episode % 2 == 1)


@pytest.mark.parametrize("was_wrong", [False, True])
def test_errors_so_far_belong_to_the_state(was_wrong: bool) -> None:
    env, other = (SingleEnv(SuperimposedSines, washout=1, free_run=3) for _ in range(2))
    env.reset(seed=0)
    targets = env.get_state()["series"][0, 1:]
    env.step(np.zeros(1, dtype=np.float32))
    wrong = 1.0 if targets[1] < 0 else -1.0
    env.step(np.array([wrong if was_wrong else targets[1]], dtype=np.float32))
    other.set_state(env.get_state())
    for target in targets[2:]:
        info = other.step(np.array([target], dtype=np.float32))[4]
    assert info["is_success"] is not was_wrong


def test_a_free_run_cut_short_from_outside_is_no_success() -> None:
    env = BatchedVectorEnv(SuperimposedSines, 3, max_episode_steps=104)
    env.reset(seed=0)
    for _ in range(104):
        state = env.get_state()
        step = int(state["elapsed_steps"][0])
        infos = env.step(state["series"][:, step + 1, None].astype(np.float32))[4]
    assert infos["_final_info"].all()
    assert not infos["final_info"]["is_success"].any()


def test_the_optimal_return_is_a_bound_where_the_washout_may_not_tell_the_phases() -> None:
    kinds = [SingleEnv(SuperimposedSines, washout=washout).optimal_return.kind for washout in (1, 39, 40, 100)]
    assert kinds == ["bound", "bound", "exact", "exact"]


def test_hidden_state_is_the_step_and_the_value_due() -> None:
    env = BatchedVectorEnv(SuperimposedSines, 2, washout=1, free_run=2)
    env.reset(seed=0)
    series = env.get_state()["series"]
    for step, due in enumerate([1, 2, 3]):
        expected = np.stack([np.full(2, step), series[:, due]], axis=1).astype(np.float32)
        assert np.array_equal(env.task.hidden_state(), expected)
        env.task.step(np.zeros((2, 1), dtype=np.float32))
    assert env.task.hidden_state()[:, 0].tolist() == [3, 3]


def test_renders_show_the_newest_value_on_the_right_and_in_red_once_it_is_hidden() -> None:
    env = SingleEnv(SuperimposedSines, washout=2, free_run=200, render_mode="rgb_array")
    env.reset(seed=3)
    assert env.task.render_text(0).startswith("step 0 of 202: washout, ")
    for colour in ((50, 100, 190), (50, 100, 190), (200, 60, 50)):
        newest = env.render()[::4, -1]
        height = round(float(1 - env.get_state()["series"][0, env.task.elapsed_steps[0]]) / 2 * 47)
        assert newest[height].tolist() == list(colour)
        assert np.unique(newest, axis=0).shape[0] == 2
        env.step(np.zeros(1, dtype=np.float32))
    assert env.task.render_text(0) == "step 3 of 202: free run"
    for _ in range(199):
        env.step(np.zeros(1, dtype=np.float32))
    assert env.render().shape == (192, 400, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_sines": 1}, "num_sines must be an integer >= 2, but got 1"),
        ({"num_sines": 6}, "num_sines must be an integer from 2 to 5, but got 6"),
        ({"num_sines": 2.0}, "num_sines must be an integer >= 2, but got 2.0"),
        ({"washout": 0}, "washout must be an integer >= 1, but got 0"),
        ({"free_run": 0}, "free_run must be an integer >= 1, but got 0"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SingleEnv(SuperimposedSines, **arguments)
