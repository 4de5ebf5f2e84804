"""Learning to learn: a trial keeps its task, over single environments with `TrialEnv` as in the batched form."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec
from rlstm.vector.sub_env import TrialEnv

NUM_ENVS, EPISODES_PER_TRIAL = 20, 4

over_tasks = pytest.mark.parametrize(
    ("env_id", "kwargs", "names", "num_tasks"),
    [
        ("rlstm/BernoulliBandit-v0", {}, ["probabilities"], np.inf),
        ("rlstm/BernoulliBandit-v0", {"probabilities": "hard", "pulls": 2}, ["probabilities"], 2),
        ("rlstm/TabularMDP-v0", {"horizon": 3}, ["mean_rewards", "cumulative_transitions"], np.inf),
        ("rlstm/TwoStep-v0", {"num_trials": 2, "swap_probability": 0.0}, ["rich_places"], 2),
    ],
)


def assert_tasks_last_for_trials(tasks: Any, num_tasks: float) -> None:
    """`tasks` (episodes, features) of consecutive episodes, of which the first begins a trial."""
    trials = tasks.reshape(-1, EPISODES_PER_TRIAL, tasks.shape[-1])
    assert (trials == trials[:, :1]).all()
    assert len(np.unique(trials[:, 0], axis=0)) == min(num_tasks, len(trials))


@over_tasks
def test_trial_env_keeps_the_task_of_a_single_env(
    env_id: str, kwargs: dict[str, Any], names: list[str], num_tasks: float
) -> None:
    env = TrialEnv(gym.make(env_id, **kwargs), EPISODES_PER_TRIAL)
    tasks, starts = [], []
    for episode in range(NUM_ENVS * EPISODES_PER_TRIAL):
        _, info = env.reset(seed=0 if episode == 0 else None)
        starts.append(info["trial_start"])
        over = False
        while not over:
            state = env.unwrapped.get_state()
            _, _, over, _, _ = env.step(0)
        tasks.append(np.concatenate([state[name].ravel() for name in names]))
    assert starts == [True, False, False, False] * NUM_ENVS
    assert_tasks_last_for_trials(np.array(tasks), num_tasks)


@over_tasks
def test_the_batched_form_keeps_the_task_of_each_lane(
    env_id: str, kwargs: dict[str, Any], names: list[str], num_tasks: float
) -> None:
    config = EnvConfig(env=env_id, env_kwargs=kwargs, num_envs=NUM_ENVS)
    memory = MemoryConfig(lifetime="trial", episodes_per_trial=EPISODES_PER_TRIAL)
    lanes = make(resolve_spec(config), config, memory)
    assert lanes.kind == "native"
    outcome = lanes.reset(list(range(NUM_ENVS)))
    tasks, starts = [], []
    while len(tasks) < NUM_ENVS * EPISODES_PER_TRIAL:
        state = lanes.envs.get_state()
        outcome = lanes.step(np.zeros(NUM_ENVS, dtype=np.int64))
        if len(outcome.finished):
            tasks.append(np.concatenate([state[name].reshape(NUM_ENVS, -1) for name in names], axis=1))
            starts.append(outcome.trial_ends)
    assert np.array(starts).all(axis=1).tolist() == [False, False, False, True] * NUM_ENVS
    assert np.array(starts).any(axis=1).tolist() == [False, False, False, True] * NUM_ENVS
    for lane in range(NUM_ENVS):
        assert_tasks_last_for_trials(np.array(tasks)[:, lane], num_tasks)


def test_the_rich_side_of_the_two_step_task_goes_on_from_where_it_swapped_to() -> None:
    env = gym.make("rlstm/TwoStep-v0", num_trials=3, swap_probability=1.0).unwrapped
    env.reset(seed=0)
    for _ in range(5):
        first = env.get_state()["rich_places"]
        for _ in range(6):
            env.step(0)
        assert env.get_state()["rich_places"] == 3 - first
        env.reset(options={"new_task": False})
        assert env.get_state()["rich_places"] == 3 - first
