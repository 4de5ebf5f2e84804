"""Both adapters over every task of the table: contract, parity of single and vector, autoreset, trials, resume."""

import copy
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from rlstm.envs import ENVS

NUM_ENVS = 5


def make_vector(env_id: str, num_envs: int = NUM_ENVS, **arguments: Any) -> Any:
    return gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **arguments)


def draw_actions(space: Any, num_steps: int, num_envs: int, seed: int = 0) -> Any:
    """Random actions of any action space, (num_steps, num_envs, ...)."""
    rng, shape = np.random.default_rng(seed), (num_steps, num_envs, *space.shape)
    if hasattr(space, "nvec"):
        return rng.integers(space.start, space.start + space.nvec, shape)
    if hasattr(space, "n"):
        return rng.integers(space.start, space.start + space.n, shape)
    return rng.uniform(space.low, space.high, shape).astype(space.dtype)


def assert_same(found: Any, expected: Any) -> None:
    """Equality to the last bit, dtypes included, of what reset() or step() gave."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert np.asarray(found).dtype == np.asarray(expected).dtype
        assert np.array_equal(found, expected, equal_nan=np.asarray(expected).dtype.kind == "f")


def step_singles_like_a_vector_env(
    singles: list[Any], actions: Any, finished_episodes: list[int], episodes_per_trial: int | None
) -> list[dict[str, Any]]:
    """One step of single environments with SAME_STEP autoreset, written out lane by lane."""
    lanes = []
    for index, (single, action) in enumerate(zip(singles, actions, strict=True)):
        observation, reward, terminated, truncated, info = single.step(action)
        lane = {"observation": observation, "reward": reward, "terminated": terminated, "truncated": truncated}
        lane["info"] = info
        if terminated or truncated:
            finished_episodes[index] += 1
            trial_start = episodes_per_trial is not None and finished_episodes[index] % episodes_per_trial == 0
            options = None if episodes_per_trial is None else {"new_task": trial_start}
            lane["observation"], _ = single.reset(options=options)
            lane.update(final_obs=observation, trial_start=trial_start)
        lanes.append(lane)
    return lanes


def assert_lanes_equal(lanes: list[dict[str, Any]], outcome: Any, with_trials: bool, step_info: tuple[str, ...]) -> int:
    """Compares the singles' step with the vector environment's; returns how many lanes finished."""
    observations, rewards, terminated, truncated, infos = outcome
    finished = np.array(["final_obs" in lane for lane in lanes])
    assert ("final_obs" in infos) == finished.any()
    assert ("trial_start" in infos) == (finished.any() and with_trials)
    for index, lane in enumerate(lanes):
        assert_same(observations[index], lane["observation"])
        assert rewards[index] == lane["reward"]
        assert (terminated[index], truncated[index]) == (lane["terminated"], lane["truncated"])
        for name in step_info:
            # What means nothing at a step is not in a single environment's info.
            is_given = name in lane["info"] and not finished[index]
            assert infos[f"_{name}"][index] == is_given
            assert not is_given or np.array_equal(infos[name][index], lane["info"][name])
        if finished[index]:
            assert_same(infos["final_obs"][index], lane["final_obs"])
            for name, value in lane["info"].items():
                assert np.array_equal(infos["final_info"][name][index], value, equal_nan=name == "target")
            assert not with_trials or infos["trial_start"][index] == lane["trial_start"]
    if finished.any():
        masks = [infos["_final_obs"], infos["_final_info"], infos["final_info"]["_is_success"]]
        for mask in masks + ([infos["_trial_start"]] if with_trials else []):
            assert np.array_equal(mask, finished)
    return int(finished.sum())


def longest_episode(env_id: str, arguments: dict[str, Any]) -> int:
    task = ENVS[env_id].load_task()(1, **{**ENVS[env_id].arguments, **arguments})
    # An episode can't be shorter than what must be remembered in it.
    return max(task.max_steps or 600, (task.memory_length or 0) + 1)


def play_both(
    env_id: str, num_steps: int, max_episode_steps: int | None, episodes_per_trial: int | None, **arguments: Any
) -> int:
    """Plays single and vector environments side by side; returns how many episodes ended."""
    vector = make_vector(
        env_id, max_episode_steps=max_episode_steps, episodes_per_trial=episodes_per_trial, **arguments
    )
    singles = [gym.make(env_id, max_episode_steps=max_episode_steps, **arguments) for _ in range(NUM_ENVS)]
    observations, infos = vector.reset(seed=7)
    for index, single in enumerate(singles):
        assert_same(single.reset(seed=7 + index)[0], observations[index])
    assert ("trial_start" in infos) == (episodes_per_trial is not None)
    assert np.all(infos.get("trial_start", True))
    ended, finished_episodes = 0, [0] * NUM_ENVS
    for actions in draw_actions(vector.single_action_space, num_steps, NUM_ENVS):
        lanes = step_singles_like_a_vector_env(singles, actions, finished_episodes, episodes_per_trial)
        ended += assert_lanes_equal(lanes, vector.step(actions), episodes_per_trial is not None, vector.task.step_info)
    return ended


def test_gymnasiums_checker_finds_nothing(env_id: str, arguments: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A recommendation. Pendulum's torque is in newton metres, as in Gymnasium's own.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        check_env(gym.make(env_id, **arguments).unwrapped)


def test_observations_stay_in_the_space_and_are_never_written_to_again(env_id: str, arguments: dict[str, Any]) -> None:
    env = make_vector(env_id, max_episode_steps=20, **arguments)
    returned = [env.reset(seed=0)]
    kept = copy.deepcopy(returned)
    assert returned[0][0] in env.observation_space
    for actions in draw_actions(env.single_action_space, 50, NUM_ENVS):
        observations, rewards, terminated, truncated, infos = env.step(actions)
        assert observations in env.observation_space
        assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)
        assert "final_obs" not in infos or infos["final_obs"] in env.observation_space
        returned.append((observations, rewards, terminated, truncated, infos))
        kept.append(copy.deepcopy(returned[-1]))
    assert_same(returned, kept)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(env_id: str, arguments: dict[str, Any]) -> None:
    env = make_vector(env_id, **arguments)
    actions = draw_actions(env.single_action_space, 60, NUM_ENVS)
    runs = [[env.reset(seed=seed), *(env.step(action) for action in actions)] for seed in (3, 3, 4)]
    assert_same(runs[1], runs[0])
    draws = env.get_state()["random_counters"].any()  # A fixed start leaves a seed nothing to change.
    assert draws == any(  # Of observations or rewards: of a bandit nothing is to be seen.
        not np.array_equal(one[index], other[index])
        for one, other in zip(runs[0], runs[2], strict=True)
        for index in range(min(len(one), 3) - 1)
    )


@pytest.mark.usefixtures("over_variants")
def test_single_env_equals_its_lane_in_the_vector_env(env_id: str, arguments: dict[str, Any]) -> None:
    ended = play_both(env_id, 50, None, None, **arguments)
    assert ended >= NUM_ENVS or longest_episode(env_id, arguments) > 50


def test_single_env_equals_its_lane_under_a_time_limit_from_outside(env_id: str, arguments: dict[str, Any]) -> None:
    assert play_both(env_id, 30, 7, None, **arguments) >= NUM_ENVS * (30 // 7)


@pytest.mark.parametrize("episodes_per_trial", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_single_env_equals_its_lane_under_trials(
    env_id: str, arguments: dict[str, Any], episodes_per_trial: int
) -> None:
    assert play_both(env_id, 80, 11, episodes_per_trial, **arguments) >= NUM_ENVS * (80 // 11)


@pytest.mark.slow
def test_single_env_equals_its_lane_over_many_steps(env_id: str, arguments: dict[str, Any]) -> None:
    assert play_both(env_id, 6_000, None, None, **arguments) >= min(10, 6_000 // longest_episode(env_id, arguments))


def test_gymnasiums_sync_vector_env_gives_the_same(env_id: str, arguments: dict[str, Any]) -> None:
    vector = make_vector(env_id, **arguments)
    sync = gym.make_vec(
        env_id, NUM_ENVS, "sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}, **arguments
    )
    assert_same(vector.reset(seed=1)[0], sync.reset(seed=1)[0])
    for actions in draw_actions(vector.single_action_space, 60, NUM_ENVS):
        found, expected = vector.step(actions), sync.step(actions)
        assert_same(found[:4], expected[:4])
        assert ("final_obs" in found[4]) == ("final_obs" in expected[4])
        for name in vector.task.step_info:
            rows = found[4][f"_{name}"]
            assert np.array_equal(rows, expected[4].get(f"_{name}", np.zeros(NUM_ENVS, dtype=bool)))
            assert not rows.any() or np.array_equal(found[4][name][rows], expected[4][name][rows], equal_nan=True)
        if "final_obs" in expected[4]:
            mask = expected[4]["_final_obs"]
            assert np.array_equal(found[4]["_final_obs"], mask)
            assert np.array_equal(found[4]["final_obs"][mask], np.stack(list(expected[4]["final_obs"][mask])))
            successes = expected[4]["final_info"]["is_success"]
            assert np.array_equal(found[4]["final_info"]["is_success"][mask], successes[mask])


@pytest.mark.parametrize("fresh", [pytest.param(False, marks=pytest.mark.slow), True], ids=["same instance", "fresh"])
def test_a_restored_vector_env_goes_on_bit_for_bit(env_id: str, arguments: dict[str, Any], fresh: bool) -> None:
    if ENVS[env_id].load_task().supports_new_task:
        arguments = {**arguments, "episodes_per_trial": 3}
    env = make_vector(env_id, max_episode_steps=7, **arguments)
    actions = draw_actions(env.single_action_space, 60, NUM_ENVS)
    env.reset(seed=5)
    for action in actions[:25]:
        env.step(action)
    state = env.get_state()
    kept = copy.deepcopy(state)
    expected = [env.step(action) for action in actions[25:]]
    assert_same(state, kept)
    other = make_vector(env_id, max_episode_steps=7, **arguments) if fresh else env
    other.set_state(state)
    assert_same([other.step(action) for action in actions[25:]], expected)
    assert_same(state, kept)


@pytest.mark.parametrize("fresh", [pytest.param(False, marks=pytest.mark.slow), True], ids=["same instance", "fresh"])
def test_a_restored_single_env_goes_on_bit_for_bit(env_id: str, arguments: dict[str, Any], fresh: bool) -> None:
    def play(env: Any, actions: Any) -> list[Any]:
        outcomes = []
        for action in actions:
            outcomes.append(env.step(action))
            if outcomes[-1][2] or outcomes[-1][3]:
                outcomes.append(env.reset())
        return outcomes

    # The unwrapped environment, as wrappers such as OrderEnforcing have a state of their own.
    env = gym.make(env_id, **arguments).unwrapped
    actions = draw_actions(env.action_space, 120, 1)[:, 0]
    env.reset(seed=5)
    play(env, actions[:50])
    state = env.get_state()
    expected = play(env, actions[50:])
    other = gym.make(env_id, **arguments).unwrapped if fresh else env
    other.set_state(state)
    assert_same(play(other, actions[50:]), expected)


@pytest.mark.usefixtures("over_variants")
def test_two_instances_with_one_state_have_equal_states_ever_after(env_id: str, arguments: dict[str, Any]) -> None:
    env, other = make_vector(env_id, **arguments), make_vector(env_id, **arguments)
    env.reset(seed=1)
    other.reset(seed=2)
    actions = draw_actions(env.single_action_space, 40, NUM_ENVS)
    for action in actions[:20]:
        env.step(action)
    other.set_state(env.get_state())
    assert_same(other.task.observe(), env.task.observe())
    for action in actions[20:]:
        env.step(action)
        other.step(action)
    assert_same(other.get_state(), env.get_state())


def test_a_reset_without_seed_goes_on_with_the_stream_lane_by_lane() -> None:
    env, other = (make_vector("rlstm/CartPoleNoVel-v0", num_envs=3) for _ in range(2))
    first, _ = env.reset(seed=[4, 9, 2])
    assert_same(other.reset(seed=[4, 9, 2])[0], first)
    second, _ = env.reset()
    assert not np.array_equal(second, first)
    mixed, _ = other.reset(seed=[None, 9, None])
    assert np.array_equal(mixed[[0, 2]], second[[0, 2]])
    assert np.array_equal(mixed[1], first[1])


def test_without_any_seed_lanes_and_instances_differ() -> None:
    starts = np.concatenate([make_vector("rlstm/CartPoleNoVel-v0", num_envs=3).reset()[0] for _ in range(2)])
    assert np.unique(starts[:, 0]).size == 6
    singles = [gym.make("rlstm/CartPoleNoVel-v0").reset()[0][0] for _ in range(3)]
    assert np.unique(singles).size == 3


def test_a_trial_keeps_its_task_and_the_next_one_draws_anew() -> None:
    num_envs, episodes_per_trial, east_then_north = 64, 4, [1, 0]
    env = make_vector("rlstm/TMaze-v0", num_envs, corridor_length=1, episodes_per_trial=episodes_per_trial)
    observations, infos = env.reset(seed=0)
    assert infos["trial_start"].all()
    assert infos["_trial_start"].all()
    signs, starts = [observations[:, 0]], []
    for _ in range(12):
        for action in east_then_north:
            observations, *_, infos = env.step(np.full(num_envs, action))
        signs.append(observations[:, 0])
        starts.append(infos["trial_start"])
    signs, starts = np.array(signs), np.array(starts)
    assert starts.all(axis=1).tolist() == [False, False, False, True] * 3
    assert not starts[[0, 1, 2, 4, 5, 6]].any()
    changed = signs[1:] != signs[:-1]
    assert not changed[~starts].any()
    assert 0.3 < changed[starts].mean() < 0.7


def test_without_trials_every_reset_draws_anew_unless_options_say_no() -> None:
    env = make_vector("rlstm/TMaze-v0", num_envs=64)
    first, infos = env.reset(seed=0)
    assert infos == {}
    kept, _ = env.reset(options={"new_task": False})
    drawn, _ = env.reset()
    assert np.array_equal(kept, first)
    assert not np.array_equal(drawn, first)


def test_a_single_env_keeps_its_task_when_asked_and_the_first_reset_always_draws() -> None:
    env = gym.make("rlstm/TMaze-v0")
    first_signs = {tuple(gym.make("rlstm/TMaze-v0").reset(seed=s, options={"new_task": False})[0]) for s in range(9)}
    assert len(first_signs) == 2
    sign, _ = env.reset(seed=0)
    for _ in range(20):
        assert np.array_equal(env.reset(options={"new_task": False})[0], sign)
    assert any(not np.array_equal(env.reset(options={"new_task": True})[0], sign) for _ in range(20))


@pytest.mark.parametrize(("mode", "kind"), [("ansi", str), ("rgb_array", np.ndarray)])
def test_both_adapters_render_every_mode(env_id: str, arguments: dict[str, Any], mode: str, kind: type) -> None:
    vector, single = make_vector(env_id, render_mode=mode, **arguments), gym.make(env_id, render_mode=mode, **arguments)
    vector.reset(seed=0)
    single.reset(seed=0)
    for actions in draw_actions(single.action_space, 4, NUM_ENVS):
        frames, frame = vector.render(), single.render()
        assert len(frames) == NUM_ENVS
        assert_same(frames[0], frame)
        assert isinstance(frame, kind)
        if isinstance(frame, np.ndarray):
            assert (frame.ndim, frame.shape[2], frame.dtype) == (3, 3, np.uint8)
        vector.step(actions)
        _, _, terminated, truncated, _ = single.step(actions[0])
        if terminated or truncated:
            single.reset()


def test_metadata_tell_the_truth(env_id: str, arguments: dict[str, Any]) -> None:
    single, vector = gym.make(env_id, **arguments), make_vector(env_id, **arguments)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    for env in (single, vector):
        assert env.metadata["supports_new_task"] is ENVS[env_id].load_task().supports_new_task
        assert env.unwrapped.optimal_return == ENVS[env_id].describe(**arguments).optimal_return
        assert env.unwrapped.memoryless_return == ENVS[env_id].describe(**arguments).memoryless_return
