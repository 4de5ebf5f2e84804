"""A user's own environment in trials: declared, refused because it isn't, and run by insisting."""

from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec

EPISODES_PER_TRIAL, NUM_ENVS = 3, 6


class GuessTheSide(gym.Env[Any, Any]):
    """One guess an episode: 1 for the right side. The side is the task."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "supports_new_task": True}
    observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if (options or {}).get("new_task", True):
            self.side = int(self.np_random.integers(2))
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        is_right = int(action) == self.side
        return np.zeros(1, dtype=np.float32), float(is_right), True, False, {"is_success": is_right}


class GuessWithoutSayingSo(GuessTheSide):
    """Keeps its task, but doesn't declare that it does."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for env_id, env in (("users/Guess-v0", GuessTheSide), ("users/Silent-v0", GuessWithoutSayingSo)):
        gym.register(env_id, entry_point=env)
    yield
    del gym.registry["users/Guess-v0"], gym.registry["users/Silent-v0"]


def make_lanes(env_id: str, vectorization: Any = "auto", **memory: Any) -> VectorEnvs:
    config = EnvConfig(env=env_id, num_envs=NUM_ENVS, vectorization=vectorization)
    settings = MemoryConfig(lifetime="trial", episodes_per_trial=EPISODES_PER_TRIAL, **memory)
    return make(resolve_spec(config), config, settings)


def guess_right_sides(lanes: VectorEnvs, num_trials: int) -> Any:
    """Rewards of always guessing side 1, so the sides themselves, (trials, episodes, lanes); checks trial starts."""
    lanes.reset(list(range(NUM_ENVS)))
    rewards = []
    for episode in range(1, num_trials * EPISODES_PER_TRIAL + 1):
        outcome = lanes.step(np.ones(NUM_ENVS, dtype=np.int64))
        assert outcome.terminated.all()
        assert np.array_equal(outcome.successes, outcome.rewards)
        assert (outcome.trial_ends == (episode % EPISODES_PER_TRIAL == 0)).all()
        rewards.append(outcome.rewards)
    return np.array(rewards).reshape(num_trials, EPISODES_PER_TRIAL, NUM_ENVS)


@pytest.mark.parametrize("vectorization", ["auto", "sync", "async"])
def test_an_env_that_declares_it_runs_in_trials(vectorization: str) -> None:
    lanes = make_lanes("users/Guess-v0", vectorization)
    try:
        assert lanes.kind == ("async" if vectorization == "async" else "sync")
        sides = guess_right_sides(lanes, num_trials=40)
    finally:
        lanes.envs.close()
    assert (sides == sides[:, :1]).all()
    shares = sides[:, 0].mean(axis=0)  # Of 40 trials, by lane.
    assert ((shares > 0.1) & (shares < 0.9)).all()


def test_without_trials_every_episode_draws_its_side() -> None:
    config = EnvConfig(env="users/Guess-v0", num_envs=NUM_ENVS)
    lanes = make(resolve_spec(config), config, MemoryConfig())
    lanes.reset(list(range(NUM_ENVS)))
    rewards = np.array([lanes.step(np.ones(NUM_ENVS, dtype=np.int64)).rewards for _ in range(60)])
    assert 0.3 < (rewards[1:] != rewards[:-1]).mean() < 0.7


@pytest.mark.parametrize("vectorization", ["auto", "sync", "async"])
def test_an_env_that_does_not_declare_it_is_refused_and_told_how_to_insist(vectorization: str) -> None:
    with pytest.raises(EnvironmentFailure, match=r"users/Silent-v0.*supports_new_task.*--memory\.insist-on-trials"):
        make_lanes("users/Silent-v0", vectorization)


def test_who_insists_gets_trials_all_the_same() -> None:
    sides = guess_right_sides(make_lanes("users/Silent-v0", insist_on_trials=True), num_trials=20)
    assert (sides == sides[:, :1]).all()
    assert 0.2 < sides[:, 0].mean() < 0.8
