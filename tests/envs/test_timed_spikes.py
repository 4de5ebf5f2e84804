"""Measuring and generating spikes, by hand and against trains written out step by step."""

from typing import Any

import numpy as np
import pytest

from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv
from rlstm.envs.sequences.timed_spikes import GenerateSpikes, MeasureSpikes

both_tasks = pytest.mark.parametrize("task", [MeasureSpikes, GenerateSpikes])


def with_delays(env: Any, delays: list[int], interval: int) -> Any:
    """Puts a train into lane 0; the places of spikes are counted out step by step."""
    env.reset(seed=0)
    state, steps, step = env.get_state(), [], -1
    for delay in delays:
        step += interval + delay
        steps.append(step)
    state["delays"][0, :-1] = delays
    state["spike_steps"][0, :-1] = steps
    env.set_state(state)
    return env


def play(env: Any, answers: list[float]) -> tuple[list[Any], list[float], list[float], list[bool], list[bool]]:
    seen, rewards, targets, ends, successes = [env.task.observe()[0].tolist()], [], [], [], []
    for answer in answers:
        observation, reward, terminated, truncated, info = env.step(np.array([answer], dtype=np.float32))
        assert not truncated
        seen.append(observation.tolist())
        rewards.append(reward)
        targets.append(float(info["target"][0]) if "target" in info else np.nan)
        ends.append(terminated)
        successes.append(info["is_success"])
    return seen, rewards, targets, ends, successes


def test_a_hand_computed_train_is_measured() -> None:
    env = with_delays(SingleEnv(MeasureSpikes, interval=2, max_delay=4, num_intervals=3), [1, 0, 4], 2)
    # Intervals of 3, 2 and 6 steps, and then nothing more.
    train = [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1]
    answers = [0.0, 1.0, 0.25, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9]
    seen, rewards, targets, ends, successes = play(env, answers)
    assert seen == [*train, 0]
    expected = {4: -0.25, 10: -0.01}
    assert rewards == [pytest.approx(expected.get(step, 0.0), abs=1e-7) for step in range(11)]
    nan = np.nan
    assert np.array_equal(targets, [nan, nan, 0.25, nan, 0.0, nan, nan, nan, nan, nan, 1.0], equal_nan=True)
    assert ends == [False] * 10 + [True]
    assert not any(successes)


def test_a_hand_computed_train_is_generated() -> None:
    env = with_delays(SingleEnv(GenerateSpikes, interval=2, max_delay=4, num_intervals=3), [1, 0, 4], 2)
    answers = [0.0, 0.5, 1.0, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    seen, rewards, targets, ends, successes = play(env, answers)
    assert seen == [[0.25]] * 3 + [[0.0]] * 2 + [[1.0]] * 6 + [[0.0]]
    expected = {1: -0.25, 4: -0.5625}
    assert rewards == [pytest.approx(expected.get(step, 0.0), abs=0) for step in range(11)]
    assert targets == [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1]
    assert ends == [False] * 10 + [True]
    assert not any(successes)


@pytest.mark.parametrize(("errors", "is_success"), [((0.12, -0.12), True), ((0.13, 0.0), False), ((0.0, -0.13), False)])
def test_measuring_succeeds_if_every_answer_rounds_to_the_right_delay(
    errors: tuple[float, float], is_success: bool
) -> None:
    env = with_delays(SingleEnv(MeasureSpikes, interval=1, max_delay=4, num_intervals=2), [1, 2], 1)
    # What is answered where there is no spike doesn't count.
    answers = [1.0, 0.25 + errors[0], 1.0, 1.0, 0.5 + errors[1]]
    assert play(env, answers)[4] == [False, False, False, False, is_success]


@pytest.mark.parametrize(
    ("answers", "is_success"),
    [
        ([0.49, 0.51, 0.0, 0.49, 0.51], True),
        ([0.51, 1.0, 0.0, 0.0, 1.0], False),
        ([0.0, 0.49, 0.0, 0.0, 1.0], False),
        ([0.0, 1.0, 0.0, 0.0, 0.49], False),
    ],
)
def test_generating_succeeds_if_every_answer_rounds_to_the_right_one(answers: list[float], is_success: bool) -> None:
    env = with_delays(SingleEnv(GenerateSpikes, interval=1, max_delay=4, num_intervals=2), [1, 2], 1)
    assert play(env, answers)[4] == [False, False, False, False, is_success]


def test_a_failure_is_forgotten_in_the_next_episode() -> None:
    env = SingleEnv(MeasureSpikes, interval=1, max_delay=1, num_intervals=2)
    for episode in range(4):
        env.reset(seed=episode)
        delays = env.get_state()["delays"][0]
        terminated, spikes = False, 0
        while not terminated:
            is_spike = env.task.observe()[0] == 1
            right = float(delays[spikes])
            answer = right if episode % 2 else 1 - right
            spikes += is_spike
            _, _, terminated, _, info = env.step(np.array([answer], dtype=np.float32))
        assert info["is_success"] is (episode % 2 == 1)


@pytest.mark.parametrize("was_wrong", [False, True])
def test_whether_all_was_right_so_far_belongs_to_the_state(was_wrong: bool) -> None:
    env, other = (SingleEnv(GenerateSpikes, interval=1, max_delay=1, num_intervals=2) for _ in range(2))
    with_delays(env, [0, 0], 1)
    env.step(np.array([0.0 if was_wrong else 1.0], dtype=np.float32))
    other.set_state(env.get_state())
    assert other.step(np.ones(1, dtype=np.float32))[4]["is_success"] is not was_wrong


@both_tasks
def test_delays_are_uniform_and_spikes_come_as_late_as_they_say(task: Any) -> None:
    num_envs, interval, max_delay, num_intervals = 5_000, 7, 4, 6
    env = BatchedVectorEnv(task, num_envs, interval=interval, max_delay=max_delay, num_intervals=num_intervals)
    env.reset(seed=0)
    state = env.get_state()
    delays = state["delays"][:, :-1]
    shares = np.stack([(delays == delay).mean(axis=0) for delay in range(max_delay + 1)])
    np.testing.assert_allclose(shares, 1 / 5, atol=0.03)
    assert np.abs(np.corrcoef(delays, rowvar=False) - np.eye(num_intervals)).max() < 0.07
    spikes = np.column_stack([np.full(num_envs, -1), state["spike_steps"][:, :-1]])
    assert np.array_equal(np.diff(spikes, axis=1), interval + delays)
    assert np.unique(delays, axis=0).shape[0] > 4_000


def test_the_two_tasks_change_what_is_seen_and_what_is_asked() -> None:
    arguments = {"interval": 5, "max_delay": 3, "num_intervals": 4}
    measure, generate = (
        BatchedVectorEnv(MeasureSpikes, 9, **arguments),
        BatchedVectorEnv(GenerateSpikes, 9, **arguments),
    )
    spikes, _ = measure.reset(seed=0)
    delays, _ = generate.reset(seed=0)
    nothing = np.zeros((9, 1), dtype=np.float32)
    for _ in range(60):
        measured, generated = measure.task.step(nothing).info["target"], generate.task.step(nothing).info["target"]
        assert np.array_equal(generated[:, 0], spikes)
        is_spike = spikes == 1
        np.testing.assert_allclose(measured[is_spike], delays[is_spike], atol=1e-7)
        assert np.isnan(measured[~is_spike]).all()
        over = np.flatnonzero(measure.task.next_spikes == 4)
        for task in (measure.task, generate.task):
            task.reset(over, np.ones(over.size, dtype=bool))
        spikes, delays = measure.task.observe(), generate.task.observe()


def test_the_shortest_train_is_one_step() -> None:
    env = with_delays(SingleEnv(GenerateSpikes, interval=1, max_delay=1, num_intervals=1), [0], 1)
    assert play(env, [1.0]) == ([[0.0], [0.0]], [0.0], [1.0], [True], [True])
    other = with_delays(SingleEnv(MeasureSpikes, interval=1, max_delay=1, num_intervals=1), [0], 1)
    assert play(other, [0.0]) == ([1, 0], [0.0], [0.0], [True], [True])


def test_memoryless_returns_by_hand() -> None:
    # D / M is 0 or 1, and 1/2 is wrong by 1/2 each time.
    measure = SingleEnv(MeasureSpikes, interval=9, max_delay=1, num_intervals=6)
    assert measure.memoryless_return.value == pytest.approx(-1.5)
    # D / M is 0, .1, ..., 1 with the variance .1.
    assert SingleEnv(MeasureSpikes).memoryless_return.value == pytest.approx(-1.0)
    # Intervals of 1 and 2 steps: 1 is always right in the first, 1/2 costs 1/4 twice in the second.
    generate = SingleEnv(GenerateSpikes, interval=1, max_delay=1, num_intervals=6)
    assert generate.memoryless_return.value == pytest.approx(-6 * (0 + 0.5) / 2)


def test_hidden_state_is_the_steps_to_the_next_spike_and_its_delay() -> None:
    env = with_delays(SingleEnv(GenerateSpikes, interval=2, max_delay=4, num_intervals=2), [1, 0], 2)
    states = []
    for _ in range(5):
        states.append(env.task.hidden_state()[0].tolist())
        env.step(np.zeros(1, dtype=np.float32))
    assert states == [[2, 0.25], [1, 0.25], [0, 0.25], [1, 0], [0, 0]]


def test_renders_show_the_present_step_on_the_right() -> None:
    env = with_delays(SingleEnv(MeasureSpikes, interval=2, max_delay=4, num_intervals=3), [1, 0, 4], 2)
    for step in range(11):
        text = env.task.render_text(0)
        assert text == f"step {step}, {'..|.|.....|'[:step].count('|')} of 3 spikes: {'..|.|.....|'[: step + 1]}"
        env.step(np.zeros(1, dtype=np.float32))


@both_tasks
@pytest.mark.parametrize("name", ["interval", "max_delay", "num_intervals"])
def test_impossible_arguments_are_named(task: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, but got 0"):
        BatchedVectorEnv(task, **{name: 0})
