"""The table of environments and their registration."""

import importlib
import json
import subprocess
import sys
import warnings
from functools import partial

import gymnasium as gym
import pytest

import rlstm.envs
from rlstm.envs import ENVS, register_envs
from rlstm.envs.base.batched import BatchedVectorEnv, SingleEnv

over_envs = pytest.mark.parametrize("env_id", ENVS)


def test_registering_twice_is_silent_and_changes_nothing() -> None:
    before = {env_id: gym.spec(env_id) for env_id in ENVS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register_envs()
        importlib.reload(rlstm.envs)
    assert all(gym.spec(env_id) is spec for env_id, spec in before.items())


@over_envs
def test_specs_survive_json_and_rebuild_the_environment(env_id: str) -> None:
    env = gym.make(env_id)
    assert env.spec is not None
    rebuilt = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert rebuilt.observation_space == env.observation_space
    assert json.loads(env.spec.to_json())["kwargs"] == {"task": ENVS[env_id].task, **ENVS[env_id].arguments}


@over_envs
def test_make_vec_passes_arguments_and_limits(env_id: str) -> None:
    env = gym.make_vec(env_id, num_envs=6, vectorization_mode="vector_entry_point", max_episode_steps=1)
    assert type(env) is BatchedVectorEnv
    assert type(env.task) is ENVS[env_id].load_task()
    assert env.num_envs == 6
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[3].all()


def test_make_vec_passes_the_arguments_of_the_task_and_of_trials() -> None:
    env = gym.make_vec(
        "rlstm/TMaze-v0",
        num_envs=2,
        vectorization_mode="vector_entry_point",
        corridor_length=7,
        noise=True,
        episodes_per_trial=3,
        render_mode="ansi",
    )
    assert (env.task.corridor_length, env.task.noise, env.episodes_per_trial) == (7, True, 3)
    assert env.render_mode == "ansi"


@over_envs
def test_every_row_tells_all_that_a_listing_shows(env_id: str) -> None:
    description = ENVS[env_id].describe()
    assert description.id == env_id
    assert description.memory
    assert description.source
    assert description.memory_length is None or description.memory_length >= 0
    for reference in (description.optimal_return, description.memoryless_return):
        assert reference.reason
    spec, optimal = gym.spec(env_id), description.optimal_return.value
    threshold = spec.reward_threshold
    assert threshold is None or optimal is None or threshold <= optimal


def test_references_follow_the_arguments() -> None:
    assert ENVS["rlstm/TMaze-v0"].describe(corridor_length=50).memory_length == 50
    assert ENVS["rlstm/CartPoleNoVel-v0"].describe(max_steps=90).optimal_return.value == 90.0
    assert ENVS["rlstm/RepeatPrevious-v0"].describe(k=1).memoryless_return.value == 1.0


def test_importing_the_environments_imports_no_torch() -> None:
    code = "import sys, rlstm.envs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("mode", ["single", "vector_entry_point"])
def test_an_unknown_argument_is_named_with_its_task(mode: str) -> None:
    make = gym.make if mode == "single" else partial(gym.make_vec, vectorization_mode=mode)
    with pytest.raises(TypeError, match=r"TMaze.__init__\(\) got an unexpected keyword argument 'corridor'"):
        make("rlstm/TMaze-v0", corridor=3)


@pytest.mark.parametrize("task", ["TMaze", "rlstm.envs.mazes.tmaze:Tmaze", "rlstm.envs.mazes.tmaze:np", SingleEnv, 3])
def test_what_is_no_task_is_refused(task: object) -> None:
    with pytest.raises(ValueError, match="task must be a BatchedTask or its name, such as 'module:Class', but got"):
        SingleEnv(task)
