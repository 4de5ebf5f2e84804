"""Whatever is wrong is refused, with the value and what would be right."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from rlstm.envs import ENVS
from rlstm.envs.base.batched import BatchedTask, BatchedVectorEnv, ReturnReference, SingleEnv
from rlstm.envs.base.batched_task import exact
from rlstm.envs.base.checks import check_actions
from rlstm.envs.control.cartpole_no_vel import CartPoleNoVel
from rlstm.envs.mazes.tmaze import TMaze
from rlstm.envs.popgym.repeat_previous import RepeatPrevious

# One env for each kind of action space; the others are refused by the same adapters.
KINDS = {"rlstm/TMaze-v0", "rlstm/BattleshipEasy-v0", "rlstm/AnBn-v0", "rlstm/PendulumNoVel-v0"}
over_envs = pytest.mark.parametrize(
    "env_id", [pytest.param(env_id, marks=[] if env_id in KINDS else pytest.mark.slow) for env_id in ENVS]
)


def make_vector(env_id: str, num_envs: int = 3, **arguments: Any) -> Any:
    return gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **arguments)


def forbidden(space: Any, huge: int) -> Any:
    """An action of the right shape and kind that is outside of the space."""
    if isinstance(space, gym.spaces.Box):
        action = np.zeros(space.shape, dtype=space.dtype)
        action.flat[-1] = np.nan if huge < 0 else huge
        return action
    action = np.array(space.sample())
    action.flat[-1] = huge
    return action[()]


@over_envs
@pytest.mark.parametrize("outside", [-1, 999, 2**40, -(2**62)])
def test_an_action_outside_the_space_is_named_with_its_lane(env_id: str, outside: int) -> None:
    env = make_vector(env_id)
    env.reset(seed=0)
    wrong = forbidden(env.single_action_space, outside)
    actions = env.action_space.sample()
    actions[1] = wrong
    with pytest.raises(
        ValueError, match=r"(?s)The action .* of lane 1 is outside (Discrete|MultiDiscrete|Box)"
    ) as caught:
        env.step(actions)
    assert str(actions[1]) in str(caught.value)
    single = gym.make(env_id).unwrapped
    single.reset(seed=0)
    with pytest.raises(ValueError, match=r"(?s)The action .* of lane 0 is outside (Discrete|MultiDiscrete|Box)"):
        single.step(wrong)


@over_envs
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda actions: actions.astype(bool), "dtype bool"),
        (lambda actions: actions.astype(complex), "dtype complex128, but (Discrete|MultiDiscrete|Box).* needs"),
        (lambda actions: actions[:2], r"shape \(2.*\), but 3 environments with .* need \(3,"),
        (lambda actions: actions[..., None], r"shape \(3, "),
        (lambda actions: 0, r"shape \(\)"),
    ],
)
def test_actions_of_the_wrong_kind_or_shape_are_refused(env_id: str, change: Any, message: str) -> None:
    env = make_vector(env_id)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(change(env.action_space.sample()))


def test_a_refused_action_changes_nothing() -> None:
    env = make_vector("rlstm/TMaze-v0")
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match="outside"):
        env.step(np.array([0, 9, 0]))
    assert all(np.array_equal(array, before[name]) for name, array in env.get_state().items())


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.uint64, np.int64])
def test_every_integer_dtype_is_an_action(dtype: Any) -> None:
    env = make_vector("rlstm/TMaze-v0")
    env.reset(seed=0)
    env.step(np.array([1, 3, 0], dtype=dtype))
    assert env.get_state()["positions"].tolist() == [1, 0, 0]


@pytest.mark.parametrize("outside", [7, 11])
def test_a_discrete_space_that_starts_elsewhere_is_checked_at_both_ends(outside: int) -> None:
    space = gym.spaces.Discrete(3, start=8)
    assert check_actions(space, [8, 10], 2).tolist() == [8, 10]
    with pytest.raises(ValueError, match=f"action {outside} of lane 1"):
        check_actions(space, [9, outside], 2)


@pytest.mark.parametrize("outside", [1.5, -1.5, np.nan])
def test_box_actions_are_checked_lane_by_lane(outside: float) -> None:
    space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    assert check_actions(space, [[0.0, 1.0], [-1.0, 0.5]], 2).dtype == np.float32
    with pytest.raises(ValueError, match="of lane 1 is outside Box"):
        check_actions(space, [[0.0, 1.0], [0.0, outside]], 2)


@over_envs
def test_before_the_first_reset_nothing_works_and_the_error_says_reset(env_id: str) -> None:
    env, single = make_vector(env_id, render_mode="ansi"), gym.make(env_id, render_mode="ansi").unwrapped
    calls: list[Callable[[], Any]] = [lambda: env.step(np.zeros(3, dtype=int)), lambda: single.step(0)]
    for call in [*calls, env.get_state, single.get_state, env.render, single.render]:
        with pytest.raises(ResetNeeded, match=r"call reset\(\) before"):
            call()


def test_a_single_env_refuses_to_step_when_its_episode_is_over_also_after_a_restore() -> None:
    env, other = SingleEnv(CartPoleNoVel, max_steps=1), SingleEnv(CartPoleNoVel, max_steps=1)
    env.reset(seed=0)
    assert env.step(0)[3]
    other.set_state(env.get_state())
    for finished in (env, other):
        with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
            finished.step(0)


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        (TMaze, {"num_envs": 0}, "num_envs must be an integer >= 1, but got 0"),
        (TMaze, {"num_envs": 2.0}, "num_envs must be an integer >= 1, but got 2.0"),
        (TMaze, {"max_episode_steps": 0}, "max_episode_steps must be an integer >= 1, but got 0"),
        (TMaze, {"episodes_per_trial": 0}, "episodes_per_trial must be an integer >= 1, but got 0"),
        (TMaze, {"corridor_length": 0}, "corridor_length must be an integer >= 1, but got 0"),
        (TMaze, {"corridor_length": True}, "corridor_length must be an integer >= 1, but got True"),
        (
            TMaze,
            {"corridor_length": 9, "max_steps": 9},
            "max_steps for corridor_length 9 .* >= 10, but got 9",
        ),
        (TMaze, {"noise": 1}, "noise must be True or False, but got 1"),
        (TMaze, {"render_mode": "human"}, "render_mode must be None or one of .*, but got 'human'"),
        (RepeatPrevious, {"num_decks": 0}, "num_decks must be an integer >= 1, but got 0"),
        (RepeatPrevious, {"k": 0}, "k must be an integer >= 1, but got 0"),
        (RepeatPrevious, {"k": 52}, "k must be less than the 52 cards of num_decks=1, but got 52"),
        (
            RepeatPrevious,
            {"episodes_per_trial": 2},
            "supports_new_task is False.*: leave episodes_per_trial",
        ),
        (CartPoleNoVel, {"max_steps": 0}, "max_steps must be an integer >= 1, but got 0"),
        (
            CartPoleNoVel,
            {"episodes_per_trial": 2},
            "supports_new_task is False.*: leave episodes_per_trial",
        ),
    ],
)
def test_impossible_constructor_arguments_are_named(task: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchedVectorEnv(task, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": [1, 2]}, "Got 2 seeds for 3 environments"),
        ({"seed": [1, -2, 3]}, "seed must be an integer >= 0, but got -2"),
        ({"options": {"new_task": "no"}}, "options new_task must be True or False, but got 'no'"),
        ({"options": {"reset_mask": np.ones(3, dtype=bool)}}, "reset_mask isn't supported"),
        ({"options": {"new_task": False}}, "contradicts episodes_per_trial"),
    ],
)
def test_impossible_resets_are_refused(arguments: dict[str, Any], message: str) -> None:
    env = BatchedVectorEnv(TMaze, 3, episodes_per_trial=2)
    with pytest.raises(ValueError, match=message):
        env.reset(**arguments)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    env = BatchedVectorEnv(TMaze, 3)
    env.reset(seed=0)
    before = env.get_state()
    missing = {name: array for name, array in before.items() if name != "positions"}
    other_dtype = {**before, "positions": before["positions"].astype(float)}
    more_lanes = BatchedVectorEnv(TMaze, 4)
    more_lanes.reset(seed=0)
    for state, message in (
        (missing, r"lacks \['positions'\]"),
        ({**before, "speed": np.zeros(3)}, r"unknown \['speed'\]"),
        (other_dtype, r"'positions' is float64\(3,\), but this environment needs int64\(3,\)"),
        (more_lanes.get_state(), r"needs .*\(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            env.set_state(state)
    single = SingleEnv(TMaze)
    with pytest.raises(ValueError, match="episode_over"):
        single.set_state(before)
    assert all(np.array_equal(array, before[name]) for name, array in env.get_state().items())


def test_rendering_without_a_mode_says_what_to_pass() -> None:
    env = SingleEnv(TMaze)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="render_mode one of"):
        env.render()


def test_a_reference_without_value_must_be_unknown() -> None:
    with pytest.raises(ValueError, match="'exact' can't have the value None"):
        ReturnReference(None, "exact", "")


def test_a_task_that_declares_too_little_is_refused_by_what_it_lacks() -> None:
    class Nameless(BatchedTask):
        memory, memory_length, source = "nothing", 0, "here"
        optimal_return = exact(1.0, "one step")

        def __init__(self, num_envs: int) -> None:
            space = gym.spaces.Discrete(2)
            super().__init__(num_envs, observation_space=space, action_space=space, max_steps=1)

        begin_episodes = advance = observe = render_text = None  # type: ignore[assignment]

    for adapter in (SingleEnv, BatchedVectorEnv):
        with pytest.raises(ValueError, match="Nameless has no memoryless_return"):
            adapter(Nameless)
