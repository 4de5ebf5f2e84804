"""Tasks with a teacher: whole sequences, and where targets are found."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from rlstm.envs import ENVS
from rlstm.envs.base.batched import BatchedVectorEnv, ReturnReference, SingleEnv, Transition
from rlstm.envs.base.teacher import TeacherTask

TEACHER_IDS = [env_id for env_id, row in ENVS.items() if issubclass(row.load_task(), TeacherTask)]
over_teachers = pytest.mark.parametrize("env_id", TEACHER_IDS)


class Countdown(TeacherTask):
    """Sees how many steps are left, 1 to 4, and is asked for ten times as many; the limit is 3 steps."""

    memory, source = "nothing", "this test"
    state_arrays: ClassVar[tuple[str, ...]] = ("left",)
    memory_length = 0
    optimal_return = memoryless_return = ReturnReference(None, "unknown", "a test needs none")
    resets: ClassVar[list[list[int]]] = []

    def __init__(self, num_envs: int, max_steps: int | None = 3) -> None:
        super().__init__(num_envs, gym.spaces.Box(0, 4, (2,), np.float32), gym.spaces.Box(0, 1, (1,)), max_steps)
        self.left = np.zeros(num_envs, dtype=np.int64)

    def begin_episodes(self, rows: Any, new_task: Any) -> None:
        assert new_task.all()
        self.resets.append(rows.tolist())
        self.left[rows] = 1 + self.random.integers(rows, 4)

    def advance(self, actions: Any) -> Transition:
        targets = 10.0 * self.left[:, None]
        self.left -= 1
        over = self.left == 0
        return Transition(np.zeros(self.num_envs), over, {"is_success": over, "target": targets})

    def observe(self) -> Any:
        return np.stack([self.left, -self.left], axis=1).astype(np.float32)

    def render_text(self, lane: int) -> str:
        return ""


def make_vector(env_id: str, num_envs: int) -> Any:
    return gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point")


def some_actions(env: Any, rng: np.random.Generator) -> Any:
    """Actions (B, ...) inside the space; seeded, unlike those of a space's own sample()."""
    env.action_space.seed(int(rng.integers(2**31)))
    return env.action_space.sample()


def assert_equal(found: Any, expected: Any) -> None:
    assert np.array_equal(found, expected, equal_nan=np.asarray(expected).dtype.kind == "f")


def test_there_are_tasks_with_a_teacher() -> None:
    names = ("Sines", "MackeyGlass", "Adding", "Multiplication", "TemporalOrder", "MeasureSpikes")
    assert {f"rlstm/{name}-v0" for name in (*names, "GenerateSpikes")} <= set(TEACHER_IDS)


@over_teachers
def test_sequences_are_what_stepping_the_vector_env_from_the_same_seeds_gives(env_id: str) -> None:
    num = 7
    row = ENVS[env_id]
    sequences = row.load_task().sample_sequences(num, np.random.default_rng(3), **row.arguments)
    env = make_vector(env_id, num)
    seeds = np.random.default_rng(3).integers(2**63, size=num)
    observations, _ = env.reset(seed=[int(seed) for seed in seeds])
    rng, running = np.random.default_rng(0), np.ones(num, dtype=bool)
    for inputs, targets, valid in zip(*sequences, strict=True):
        assert np.array_equal(valid, running)
        assert np.array_equal(inputs[valid], observations[valid])
        assert not inputs[~valid].any()
        assert not targets[~valid].any()
        observations, _, terminated, truncated, infos = env.step(some_actions(env, rng))
        assert_equal(targets[infos["_target"] & running], infos["target"][infos["_target"] & running])
        ended = running & (terminated | truncated)
        if ended.any():
            assert_equal(targets[ended], infos["final_info"]["target"][ended])
        running &= ~(terminated | truncated)
    assert not running.any()


@over_teachers
def test_sequences_have_the_shapes_and_dtypes_of_the_spaces(env_id: str) -> None:
    row = ENVS[env_id]
    inputs, targets, valid = row.load_task().sample_sequences(3, np.random.default_rng(0), **row.arguments)
    env = gym.make(env_id)
    num_steps = len(valid)
    assert inputs.shape == (num_steps, 3, *env.observation_space.shape)
    assert inputs.dtype == env.observation_space.dtype
    assert targets.shape == (num_steps, 3, *env.action_space.shape)
    assert (valid.shape, valid.dtype) == ((num_steps, 3), np.bool_)
    assert valid[0].all()
    assert valid[-1].any()
    assert (np.diff(valid.astype(int), axis=0) <= 0).all()


@over_teachers
def test_the_generator_alone_decides_which_sequences_are_drawn(env_id: str) -> None:
    row, rng = ENVS[env_id], np.random.default_rng(5)
    task = row.load_task()
    first, second = (task.sample_sequences(4, rng, **row.arguments) for _ in range(2))
    again = task.sample_sequences(4, np.random.default_rng(5), **row.arguments)
    for found, expected in zip(again, first, strict=True):
        assert_equal(found, expected)
    assert first.inputs.shape != second.inputs.shape or not np.array_equal(first.inputs, second.inputs)
    assert any(not np.array_equal(first.inputs[:, 0], first.inputs[:, lane]) for lane in range(1, 4))


@over_teachers
def test_actions_change_neither_observations_nor_targets(env_id: str) -> None:
    one, other = make_vector(env_id, 4), make_vector(env_id, 4)
    one.reset(seed=2)
    other.reset(seed=2)
    for step in range(120):
        outcome = one.step(some_actions(one, np.random.default_rng(step)))
        expected = other.step(some_actions(other, np.random.default_rng(9_999 + step)))
        assert np.array_equal(outcome[0], expected[0])
        assert_equal(outcome[4]["target"], expected[4]["target"])
        assert np.array_equal(outcome[2], expected[2])


@over_teachers
def test_a_reward_is_best_where_the_target_is_answered(env_id: str) -> None:
    row = ENVS[env_id]
    task = row.load_task()(32, **row.arguments)
    task.random.seed(np.arange(32), range(32))
    task.reset(np.arange(32), np.ones(32, dtype=bool))
    returns, running, successes = np.zeros(32), np.ones(32, dtype=bool), np.zeros(32, dtype=bool)
    while running.any():
        # The target is known after the step only, so it is looked up in a copy that takes the step first.
        state = task.get_state()
        zeros = np.zeros((32, *task.action_space.shape), dtype=task.action_space.dtype)
        target = task.step(zeros).info["target"]
        task.set_state(state)
        asked = ~np.isnan(target) if target.dtype.kind == "f" else target >= 0
        transition = task.step(np.where(asked, target, 0).astype(task.action_space.dtype))
        returns += np.where(running, transition.rewards, 0)
        ended = running & transition.terminated
        successes[ended] = transition.info["is_success"][ended]
        running &= ~transition.terminated
        if transition.terminated.any():
            rows = np.flatnonzero(transition.terminated)
            task.reset(rows, np.ones(rows.size, dtype=bool))
    assert successes.all()
    assert abs(returns.mean() - task.optimal_return.value) < 4 * returns.std() / np.sqrt(32) + 1e-9


def test_sequences_of_different_lengths_end_by_themselves_or_at_the_limit() -> None:
    inputs, targets, valid = Countdown.sample_sequences(64, np.random.default_rng(0))
    starts = inputs[0, :, 0].astype(int)
    assert set(starts) == {1, 2, 3, 4}
    assert len(valid) == 3
    assert valid.sum(axis=0).tolist() == np.minimum(starts, 3).tolist()
    for lane, start in enumerate(starts):
        seen = ([*range(start, 0, -1), 0, 0])[:3]
        assert inputs[:, lane].tolist() == [[left, -left] for left in seen]
        assert targets[:, lane].tolist() == [[10.0 * left] for left in seen]
    assert (inputs.dtype, targets.dtype) == (np.float32, np.float64)
    assert len(Countdown.sample_sequences(64, np.random.default_rng(0), max_steps=None).valid) == 4


def test_nothing_is_drawn_once_all_sequences_are_over() -> None:
    Countdown.resets.clear()
    Countdown.sample_sequences(1, np.random.default_rng(0))
    assert Countdown.resets == [[0]]


@pytest.mark.parametrize("num", [0, -3, 2.0, True])
def test_an_impossible_number_of_sequences_is_named(num: Any) -> None:
    with pytest.raises(ValueError, match=f"num must be an integer >= 1, but got {num}"):
        Countdown.sample_sequences(num, np.random.default_rng(0))


def test_an_impossible_argument_of_the_task_is_named() -> None:
    with pytest.raises(ValueError, match="length must be an integer >= 4, but got 1"):
        ENVS["rlstm/Adding-v0"].load_task().sample_sequences(2, np.random.default_rng(0), length=1)


def test_the_single_env_gives_the_target_of_every_step_also_of_the_last() -> None:
    env = SingleEnv(Countdown, max_steps=None)
    for seed in range(8):
        observation, _ = env.reset(seed=seed)
        terminated = False
        while not terminated:
            left = observation[0]
            observation, _, terminated, _, info = env.step(np.zeros(1, dtype=np.float32))
            assert info["target"].tolist() == [10.0 * left]


def test_the_vector_env_gives_the_last_target_in_final_info_only() -> None:
    env = BatchedVectorEnv(Countdown, 16)
    observations, _ = env.reset(seed=0)
    for _ in range(30):
        expected = 10.0 * observations[:, :1]
        observations, _, terminated, truncated, infos = env.step(np.zeros((16, 1), dtype=np.float32))
        ended = terminated | truncated
        assert np.array_equal(infos["_target"], ~ended)
        assert np.array_equal(infos["target"][~ended], expected[~ended])
        if ended.any():
            assert np.array_equal(infos["final_info"]["_target"], ended)
            assert np.array_equal(infos["final_info"]["target"][ended], expected[ended])


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    ("sequence_id", "sequence_arguments"),
    [
        ("rlstm/Adding-v0", {"length": 8}),
        ("rlstm/GenerateSpikes-v0", {"interval": 2, "num_intervals": 2}),
        ("rlstm/TemporalOrder-v0", {"length": 12}),
    ],
)
def test_gymnasiums_vector_envs_pass_targets_on(
    sequence_id: str, sequence_arguments: dict[str, Any], mode: str
) -> None:
    num_envs = 2
    ours = gym.make_vec(sequence_id, num_envs, "vector_entry_point", **sequence_arguments)
    theirs = gym.make_vec(
        sequence_id, num_envs, mode, vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}, **sequence_arguments
    )
    try:
        assert np.array_equal(ours.reset(seed=4)[0], theirs.reset(seed=4)[0])
        num_ended = 0
        for step in range(40):
            actions = some_actions(ours, np.random.default_rng(step))
            _, _, terminated, _, found = ours.step(actions)
            expected = theirs.step(actions)[4]
            has_target = found["_target"]
            assert np.array_equal(has_target, expected.get("_target", np.zeros(num_envs, dtype=bool)))
            if has_target.any():
                assert_equal(found["target"][has_target], expected["target"][has_target])
            if terminated.any():
                last = expected["final_info"]["target"][terminated]
                assert_equal(found["final_info"]["target"][terminated], last)
                assert np.isfinite(last).all()
                num_ended += int(terminated.sum())
        assert num_ended >= 4
    finally:
        theirs.close()


def test_what_is_no_generator_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"rng must be a numpy.random.Generator, but got 0"):
        Countdown.sample_sequences(3, 0)
