"""Envs of other packages train as they are: what is collected is replayed exactly, whatever the spaces.

The default tier plays one env for each kind of spaces; the slow one trains PPO on all of them.
"""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import rlstm
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.core.text_leaves import drop_text, text_places, without_text
from rlstm.rollouts.collect import collect, start
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec
from rlstm.vector.sub_env import SubEnv
from tests import kit

POPGYM_KINDS = {
    "popgym-AutoencodeEasy-v0": "a Tuple of Discrete",
    "popgym-RepeatPreviousEasy-v0": "Discrete",
    "popgym-CountRecallEasy-v0": "MultiDiscrete",
    "popgym-ConcentrationEasy-v0": "a long MultiDiscrete",
    "popgym-PositionOnlyCartPoleEasy-v0": "Box",
    "popgym-VelocityOnlyCartpoleEasy-v0": "a Box without bounds",
    "popgym-PositionOnlyPendulumEasy-v0": "Box, and Box actions",
    "popgym-BattleshipEasy-v0": "Discrete, and MultiDiscrete actions",
}
POPGYM_TASKS = (
    *("Autoencode", "Battleship", "Concentration", "CountRecall", "HigherLower", "MineSweeper", "MultiarmedBandit"),
    *("NoisyPositionOnlyCartPole", "NoisyPositionOnlyPendulum", "PositionOnlyCartPole", "PositionOnlyPendulum"),
    *("RepeatFirst", "RepeatPrevious", "VelocityOnlyCartpole"),
)
POPGYM = [f"popgym-{task}{level}-v0" for task in POPGYM_TASKS for level in ("Easy", "Medium", "Hard")]
MINIGRID = [f"MiniGrid-Memory{size}-v0" for size in ("S7", "S9", "S11", "S13", "S13Random", "S17Random")]
CLASSIC_CONTROL = ["Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]
TOY_TEXT = ["Blackjack-v1", "CliffWalking-v1", "FrozenLake-v1", "FrozenLake8x8-v1", "Taxi"]

quiet = pytest.mark.filterwarnings("ignore")  # Of the packages.


def need(package):
    return pytest.importorskip(package, reason=f"{package} is not installed: pip install 'rlstm-torch[envs]'")


def newest(env_id):
    """The newest version of an env whose versions come and go with Gymnasium's."""
    versions = [one for one in gym.registry if one == env_id or one.startswith(f"{env_id}-v")]
    return max(versions, key=lambda one: gym.registry[one].version or 0)


def lanes(env_id, kind="auto", imports=()):
    config = EnvConfig(env=env_id, env_import=imports, num_envs=3, vectorization=kind)
    return make(resolve_spec(config), config, MemoryConfig())


def assert_replayed(env_id, imports=(), num_steps=70):
    """Evaluating a rollout with unchanged weights gives what was stored while it was collected."""
    envs = lanes(env_id, imports=imports)
    policy = kit.make_policy(envs.observation_space, envs.action_space, normalize_observations=True)
    try:
        rollout = collect(policy, envs, start(policy, envs, integer_seeds(0, "envs", 3)), num_steps)
    finally:
        envs.close()
    evaluation = rollout.replay(policy)
    assert (evaluation.log_probs - rollout.log_probs).abs().max() < 1e-9
    assert (evaluation.values - rollout.values).abs().max() < 1e-9
    return rollout


def train(tmp_path, env_id, imports=(), **env_kwargs):
    small = {"num_envs": 4, "num_steps": 64, "hidden_size": 8, "num_threads": 1, "device": "cpu"}
    run_dir = str(tmp_path / "run")
    result = rlstm.train(
        "ppo",
        env=env_id,
        env_import=imports,
        env_kwargs=env_kwargs,
        total_steps=512,
        eval_episodes=4,
        run_dir=run_dir,
        ui="none",
        **small,
    )
    assert result.steps == 512
    assert not result.interrupted


# Gymnasium's own.


@quiet
@pytest.mark.parametrize("env_id", [*CLASSIC_CONTROL, *TOY_TEXT])
def test_what_is_collected_in_envs_of_gymnasium_is_replayed(env_id):
    assert_replayed(newest(env_id))


@quiet
@pytest.mark.parametrize("env_id", [*CLASSIC_CONTROL, *TOY_TEXT])
@pytest.mark.slow
def test_ppo_trains_on_envs_of_gymnasium(tmp_path, env_id):
    # A policy that walks into a wall would go on walking for ever: that env has no limit of its own.
    limit = {"max_episode_steps": 200} if env_id.startswith("CliffWalking") else {}
    train(tmp_path, newest(env_id), **limit)


@quiet
@pytest.mark.slow
def test_ppo_trains_on_atari(tmp_path):
    pytest.importorskip("ale_py", reason="ale-py is not installed: pip install ale-py")
    train(tmp_path, "ALE/Pong-v5", ("ale_py",))


# POPGym.


@quiet
@pytest.mark.parametrize("env_id", POPGYM_KINDS)
def test_what_is_collected_in_envs_of_popgym_is_replayed(env_id):
    need("popgym")
    assert_replayed(env_id, ("popgym",))


@quiet
def test_the_list_of_popgym_is_complete():
    need("popgym")
    # The mazes need a package that POPGym doesn't bring along.
    assert {one for one in gym.registry if one.startswith("popgym-") and "Labyrinth" not in one} == set(POPGYM)
    assert POPGYM_KINDS.keys() <= set(POPGYM)


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("env_id", POPGYM)
def test_ppo_trains_on_popgym(tmp_path, env_id):
    need("popgym")
    train(tmp_path, env_id, ("popgym",))


# MiniGrid, whose observations hold text.


@quiet
def test_what_is_collected_in_minigrid_is_replayed_and_its_mission_left_out():
    need("minigrid")
    rollout = assert_replayed("MiniGrid-MemoryS7-v0", ("minigrid",))
    assert rollout.inputs.observations.keys() == {"image", "direction"}
    assert rollout.inputs.observations["image"].shape == (70, 3, 7, 7, 3)


@quiet
def test_who_makes_an_env_with_text_is_told_once_what_is_left_out():
    need("minigrid")
    for kind in ("sync", "async"):
        envs = lanes("MiniGrid-MemoryS7-v0", kind, ("minigrid",))
        step = envs.reset([1, 2, 3])
        assert step.observations.keys() == {"image", "direction"} == envs.observation_space.spaces.keys()
        envs.close()
        assert envs.description.count("the text in 'mission' is left out") == 1


@quiet
def test_the_list_of_minigrid_is_complete():
    need("minigrid")
    assert {one for one in gym.registry if one.startswith("MiniGrid-Memory")} == set(MINIGRID)


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("env_id", MINIGRID)
def test_ppo_trains_on_minigrid(tmp_path, env_id):
    need("minigrid")
    train(tmp_path, env_id, ("minigrid",))


# Text, without the package.

NUMBERS = spaces.Box(-1, 1, (2,), np.float32)
NESTED = spaces.Dict({"a": NUMBERS, "say": spaces.Text(5), "in": spaces.Dict({"b": NUMBERS, "say": spaces.Text(5)})})


def test_text_is_left_out_of_spaces_and_observations_alike_and_named():
    assert text_places(NESTED) == ["say", "in/say"]
    space = without_text(NESTED)
    assert space == spaces.Dict({"a": NUMBERS, "in": spaces.Dict({"b": NUMBERS})})
    assert space.contains(drop_text(NESTED, NESTED.sample()))


@pytest.mark.parametrize(
    "space",
    [
        NUMBERS,
        spaces.Text(5),
        spaces.Dict({"a": NUMBERS}),
        spaces.Dict({"say": spaces.Text(5)}),
        spaces.Tuple((NUMBERS, spaces.Text(5))),
    ],
    ids=["numbers", "nothing but text", "a dict of numbers", "a dict of nothing but text", "a tuple"],
)
def test_nothing_else_is_left_out(space):
    assert text_places(space) == []
    assert without_text(space) is space
    observation = space.sample()
    assert drop_text(space, observation) is observation


class Talking(gym.Env):
    observation_space, action_space = spaces.Dict({"a": NUMBERS, "say": spaces.Text(5)}), spaces.Discrete(2)
    extra: dict = {}  # noqa: RUF012 - changed by a test.

    def reset(self, *, seed=None, options=None):
        return {"a": np.zeros(2, dtype=np.float32), "say": "hello", **self.extra}, {}

    def step(self, action):
        return *self.reset()[:1], 0.0, True, False, {}


def test_an_observation_with_a_key_too_many_is_still_refused():
    lane = SubEnv(Talking(), 0)
    assert lane.reset()[0].keys() == {"a"} == lane.observation_space.spaces.keys()
    lane.env.extra = {"b": 1}
    with pytest.raises(RuntimeError, match=r"must be a dict with keys \['a'\]"):
        lane.step(0)


@pytest.fixture
def talking_natively():
    def vector(num_envs=1, **kwargs):
        return gym.vector.SyncVectorEnv([Talking] * num_envs, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)

    gym.register("rlstm-test/Talking-v0", Talking, vector_entry_point=vector)
    yield "rlstm-test/Talking-v0"
    gym.registry.pop("rlstm-test/Talking-v0")


def test_a_batched_form_with_text_is_left_for_single_envs(talking_natively):
    envs = lanes(talking_natively)
    assert envs.kind == "sync"
    assert "have text, which only single envs can leave out" in envs.description
    assert "the text in 'say' is left out" in envs.description
