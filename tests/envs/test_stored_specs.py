"""Specs written by earlier versions, whose entry points are no more, make the same envs and wrappers."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, WrapperSpec

import rlstm
from rlstm.api.experiments import resume
from rlstm.api.finished_runs import evaluate_run
from rlstm.envs.stored_specs import present_spec
from rlstm.envs.wrappers import WRAPPERS

# As version 0.1 wrote the env_spec.json of `rlstm train ppo --env rlstm/ActiveTMaze-v0+mask=1,0+flicker=0.3`.
STORED = {
    "id": "rlstm/ActiveTMaze-v0",
    "entry_point": "rlstm.envs.ni_tmaze:NiTMazeEnv",
    "reward_threshold": 0.95,
    "nondeterministic": False,
    "max_episode_steps": None,
    "order_enforce": True,
    "disable_env_checker": False,
    "kwargs": {"corridor_length": 7, "active": True},
    "additional_wrappers": [
        {"name": "mask", "entry_point": "rlstm.envs.wrappers:MaskBox", "kwargs": {"keep": [1, 0]}},
        {"name": "flicker", "entry_point": "rlstm.envs.wrappers:Flicker", "kwargs": {"probability": 0.3}},
    ],
    "vector_entry_point": "rlstm.envs.ni_tmaze:NiTMazeVectorEnv",
}


class Mine(gym.Env):
    """The env of a user."""

    observation_space, action_space = spaces.Box(0, 1, (1,)), spaces.Discrete(2)


def test_a_stored_spec_makes_the_env_with_its_own_arguments_and_wrappers() -> None:
    spec = present_spec(EnvSpec.from_json(json.dumps(STORED)))
    env = gym.make(spec)
    assert env.unwrapped.task.corridor_length == 7  # Not that of the present row.
    assert (env.transform.probability, env.env.transform.keep) == (0.3, [1, 0])
    words = ["mask=1,0", "flicker=0.3"]
    added = [
        WrapperSpec(word.partition("=")[0], row.entry_point, row.read(word.partition("=")[2]))
        for word in words
        for row in [WRAPPERS[word.partition("=")[0]]]
    ]
    assert list(spec.additional_wrappers) == added
    again = gym.make(EnvSpec.from_json(spec.to_json()))
    np.testing.assert_array_equal(env.reset(seed=3)[0], again.reset(seed=3)[0])
    vector = gym.make_vec(
        EnvSpec.from_json(json.dumps({**json.loads(spec.to_json()), "additional_wrappers": []})),
        2,
        vectorization_mode="vector_entry_point",
    )
    assert vector.task.corridor_length == 7


def test_the_present_spec_of_a_present_spec_is_the_same() -> None:
    spec = present_spec(EnvSpec.from_json(json.dumps(STORED)))
    assert present_spec(spec) == spec
    assert gym.spec("rlstm/ActiveTMaze-v0").kwargs["corridor_length"] == 20


@pytest.mark.parametrize("env_id", ["Mine-v0", "rlstm/TMaze-v0"])
def test_the_env_and_the_wrappers_of_a_user_stay_as_they_are_stored(env_id: str) -> None:
    wrapper = WrapperSpec("flicker", "my_wrappers:Flicker", {"often": 3})
    stored = EnvSpec(env_id, entry_point=f"{Mine.__module__}:Mine", kwargs={"size": 3}, additional_wrappers=(wrapper,))
    assert present_spec(stored) == stored


def test_a_run_that_stored_former_entry_points_is_evaluated_and_resumed(tmp_path) -> None:
    result = rlstm.train(
        "random",
        env="rlstm/TMaze-v0+flicker=0.3",
        env_kwargs={"corridor_length": 3},
        total_steps=64,
        num_envs=2,
        run_dir=str(tmp_path / "run"),
        ui="none",
        num_threads=1,
    )
    before = evaluate_run(result.run_dir, episodes=4)
    path = tmp_path / "run" / "env_spec.json"
    spec = json.loads(path.read_text())
    former = {"entry_point": "rlstm.envs.tmaze:TMazeEnv", "vector_entry_point": "rlstm.envs.tmaze:TMazeVectorEnv"}
    wrapper = {"name": "flicker", "entry_point": "rlstm.envs.wrappers:Flicker", "kwargs": {"probability": 0.3}}
    path.write_text(json.dumps({**spec, **former, "kwargs": {}, "additional_wrappers": [wrapper]}))
    (tmp_path / "run" / "manifest.json").unlink()  # Which runs of that time didn't have.
    assert str(evaluate_run(result.run_dir, episodes=4)) == str(before)
    assert resume(result.run_dir, total_steps=512, ui="none").steps == 512
