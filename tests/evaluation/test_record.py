"""Recording: every action stands beside the observation it answers, and what is written can be played again exactly."""

import copy
import functools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

import rlstm.envs  # noqa: F401 - registers our envs.
from rlstm.api.loaded_agent import LoadedAgent
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.evaluation import evaluate as evaluation
from rlstm.evaluation import record as recording
from rlstm.evaluation.evaluate import evaluate
from rlstm.evaluation.record import record
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec
from rlstm.vector.sub_env import SubEnv, TrialEnv
from tests import kit
from tests.kit import covering

SCRIPTS = ("E", ".C", "...B")
MEMORIES = {
    "episode": MemoryConfig(),
    "trial": MemoryConfig("trial", episodes_per_trial=2),
    "trial of reset memories": MemoryConfig("episode", episodes_per_trial=2),
    "lifelong": MemoryConfig("lifelong", credit="episode"),
}
VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
OBSERVATIONS = {
    "vector": VECTOR,
    "discrete": spaces.Discrete(5),
    "multi_discrete": spaces.MultiDiscrete([3, 2]),
    "multi_binary": spaces.MultiBinary(4),
    "dict": spaces.Dict({"b": VECTOR, "a": spaces.Dict({"c": spaces.Discrete(3)})}),
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.Dict({"x": VECTOR}))),
}
ACTIONS = {
    "discrete": spaces.Discrete(3, start=-1),
    "box": spaces.Box(-1.0, 1.0, (1, 2), np.float32),
    "multi_discrete": spaces.MultiDiscrete([[2, 3], [4, 2]], dtype=np.int32),
    "multi_binary": spaces.MultiBinary(3),
}


class Chance(gym.Env):
    """Random observations, random ends; the reward is a sum over the action, different at every step."""

    metadata = {"supports_new_task": True}  # noqa: RUF012

    def __init__(self, observation_space, action_space):
        self.observation_space = copy.deepcopy(observation_space)  # With a generator of its own.
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed % 2**32)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, dtype=self.action_space.dtype))
        answer = np.asarray(action, dtype=np.float64).reshape(-1)
        reward = float(answer @ self.np_random.normal(size=answer.size)) + self.np_random.normal()
        end = self.np_random.random() < 0.3
        return self.observation_space.sample(), reward, end, False, {"is_success": reward > 0}


def lane(observation_space, action_space, memory, index):
    env = Chance(observation_space, action_space)
    return SubEnv(env if memory.episodes_per_trial is None else TrialEnv(env, memory.episodes_per_trial), index)


def chance(observation_space, action_space, memory, num_envs=3):
    functions = [functools.partial(lane, observation_space, action_space, memory, index) for index in range(num_envs)]
    return VectorEnvs(gym.vector.SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP), "sync", "chance")


def policy_for(envs, memory=None, **config):
    return kit.make_policy(envs.observation_space, envs.action_space, memory, **config)


def steps(demonstrations, trajectory):
    """The observation, action, reward and start of every step of a trajectory."""
    for t in range(demonstrations.lengths[trajectory]):
        observation = tree_map(lambda leaf, t=t: leaf[t, trajectory], demonstrations.observations)
        row = (
            array[t, trajectory]
            for array in (demonstrations.actions, demonstrations.rewards, demonstrations.episode_starts)
        )
        yield observation, *row


def trajectories_of_lanes(demonstrations, memory, episodes, num_envs):
    """The trajectories of every lane, by their columns."""
    per_trajectory = {"episode": 1, "trial": 2, "lifelong": None}[memory.lifetime]
    quotas, trajectory = evaluation.episode_quotas(episodes, num_envs, memory), 0
    for index, quota in enumerate(quotas):
        count = 1 if per_trajectory is None else quota // per_trajectory
        yield index, range(trajectory, trajectory + count)
        trajectory += count
    assert trajectory == demonstrations.num_trajectories


# What stands in which row.


@pytest.mark.parametrize(("name", "episodes", "kind"), covering(MEMORIES, [3, 5, 11], ["native", "sync"]))
def test_rows_hold_an_observation_its_answer_and_what_that_brought(kind, name, episodes):
    """Observations of scripted lanes tell lane and time, so do rewards; final observations answer nothing."""
    memory = MEMORIES[name]
    envs = kit.scripted(*SCRIPTS, kind=kind, memory=memory)
    given, step = [], envs.step
    envs.step = lambda actions: given.append(np.array(actions)) or step(actions)
    demonstrations = record(policy_for(envs, memory), envs, episodes, seed=0, deterministic=False)
    for index, trajectories in trajectories_of_lanes(demonstrations, memory, episodes, 3):
        times = iter(range(1000))
        for trajectory in trajectories:
            for observation, action, reward, starts in steps(demonstrations, trajectory):
                t = next(times)
                assert (observation[0], observation[1], observation[3]) == (index, t, 0.0)
                assert action == given[t][index]
                assert reward == kit.reward(index, t)
                assert starts == (t % len(SCRIPTS[index]) == 0)
    assert len({int(action) for action in demonstrations.actions[demonstrations.valid]}) > 1


@pytest.mark.parametrize(
    ("name", "lengths", "starts"),
    [
        ("episode", [1, 1, 2, 2, 4], [[0]] * 5),
        ("trial of reset memories", [1, 1, 2, 2, 4, 4], [[0]] * 6),
        ("trial", [2, 4, 8], [[0, 1], [0, 2], [0, 4]]),
        ("lifelong", [2, 4, 4], [[0, 1], [0, 2], [0]]),
    ],
)
def test_a_column_is_the_trajectory_of_one_memory(name, lengths, starts):
    memory = MEMORIES[name]
    envs = kit.scripted(*SCRIPTS, memory=memory)
    demonstrations = record(policy_for(envs, memory), envs, 5, seed=0)
    assert demonstrations.lengths.tolist() == lengths
    assert [np.flatnonzero(column).tolist() for column in demonstrations.episode_starts.T] == starts
    assert demonstrations.valid.tolist() == [[t < length for length in lengths] for t in range(max(lengths))]


def test_past_the_end_of_a_trajectory_everything_is_zero():
    envs = chance(OBSERVATIONS["dict"], ACTIONS["box"], MemoryConfig())
    demonstrations = record(policy_for(envs), envs, 9, seed=0)
    assert len(set(demonstrations.lengths.tolist())) > 1
    past = ~demonstrations.valid
    for array in (demonstrations.actions, demonstrations.rewards, *tree_leaves(demonstrations.observations)):
        assert not array[past].any()
        assert array[~past].any()


def test_successes_are_those_of_the_last_episode_of_a_trajectory():
    for name, expected in (("episode", [1, 1, 0, 0, 1, 1]), ("trial", [1, 0, 1]), ("lifelong", [1, 0, 1])):
        memory = MEMORIES[name]
        envs = kit.scripted("E", ".C", "...B", memory=memory)
        assert record(policy_for(envs, memory), envs, 6, seed=0).successes.tolist() == expected
    envs = kit.scripted("EC", memory=MEMORIES["trial"])
    assert record(policy_for(envs, MEMORIES["trial"]), envs, 2, seed=0).successes.tolist() == [0]


def test_an_env_that_writes_into_the_array_it_has_returned_is_recorded_all_the_same():
    class InPlace(kit.ScriptedVectorEnv):
        def _observe(self, t, episodes, last):
            observation = super()._observe(t, episodes, last)
            if last:
                return observation
            if not hasattr(self, "array"):
                self.array = observation
            self.array[:] = observation
            return self.array

    envs = VectorEnvs(InPlace(["...E"]), "native", "in place")
    demonstrations = record(policy_for(envs), envs, 1, seed=0)
    assert demonstrations.observations[:, 0, 1].tolist() == [0, 1, 2, 3]


# What can be done with it.


@pytest.mark.parametrize(("observations", "actions"), covering(OBSERVATIONS, ACTIONS))
def test_played_again_under_the_same_seeds_every_kind_of_action_brings_the_same(observations, actions):
    spaces_of_env = OBSERVATIONS[observations], ACTIONS[actions]
    memory = MemoryConfig()
    envs = chance(*spaces_of_env, memory)
    demonstrations = record(policy_for(envs), envs, 7, seed=3, deterministic=False)
    demonstrations.check_spaces(*spaces_of_env)
    assert demonstrations.actions.dtype == ACTIONS[actions].dtype
    assert demonstrations.actions.shape[2:] == ACTIONS[actions].shape
    for index, trajectories in trajectories_of_lanes(demonstrations, memory, 7, 3):
        fresh, seed = lane(*spaces_of_env, memory, index), integer_seeds(3, "demonstrations", 3)[index]
        for trajectory in trajectories:
            shown, _ = fresh.reset(seed=seed)
            seed, end = None, False
            for observation, action, reward, _ in steps(demonstrations, trajectory):
                assert not end
                kit.assert_trees_equal(tree_map(np.asarray, shown), observation)
                shown, brought, end, _, _ = fresh.step(action)
                assert brought == reward
            assert end


@pytest.mark.parametrize("kind", ["native", "sync"])
def test_a_trial_played_again_keeps_its_task_and_brings_the_same(kind):
    memory = MEMORIES["trial"]
    config = EnvConfig(env="rlstm/BernoulliBandit-v0", num_envs=3, vectorization=kind)
    envs = make(resolve_spec(config), config, memory)
    demonstrations = record(policy_for(envs, memory), envs, 12, seed=3, deterministic=False)
    assert demonstrations.num_trajectories == 6
    for index, trajectories in trajectories_of_lanes(demonstrations, memory, 12, 3):
        env, seed = TrialEnv(gym.make(config.env), 2), integer_seeds(3, "demonstrations", 3)[index]
        for trajectory in trajectories:
            for observation, action, reward, starts in steps(demonstrations, trajectory):
                if starts:
                    shown, _ = env.reset(seed=seed)
                    seed = None
                np.testing.assert_array_equal(shown, observation)
                shown, brought, *_ = env.step(action)
                assert brought == reward


@pytest.mark.parametrize(("actions", "name"), covering(ACTIONS, MEMORIES))
def test_the_agent_shown_what_it_saw_answers_as_it_did(actions, name):
    """Memory, last action, last reward and starts included: what learns from a column sees what its teacher saw."""
    memory = MEMORIES[name]
    envs = chance(OBSERVATIONS["dict"], ACTIONS[actions], memory)
    policy = policy_for(envs, memory)
    demonstrations = record(policy, envs, 8, seed=1)
    agent = LoadedAgent(policy)
    answers = set()
    for trajectory in range(demonstrations.num_trajectories):
        agent.reset()
        before = 0.0
        for observation, action, reward, starts in steps(demonstrations, trajectory):
            answer = agent.act(observation, before, bool(starts))
            np.testing.assert_allclose(answer, action, rtol=1e-6, atol=1e-9)
            answers.add(str(np.round(answer, 3)))
            before = float(reward)
    assert len(answers) > 1


# How it is played.


@pytest.mark.parametrize("deterministic", [True, False])
def test_it_is_played_as_an_evaluation_plays_but_on_seeds_of_its_own(deterministic):
    def played(stream, seed):
        envs = chance(VECTOR, ACTIONS["box"], MemoryConfig())
        options = {"seed": seed, "deterministic": deterministic}
        return evaluate(policy_for(envs), envs, 7, stream=stream, **options).returns.tolist()

    envs = chance(VECTOR, ACTIONS["box"], MemoryConfig())
    policy = policy_for(envs)
    before = policy.generator.get_state()
    demonstrations = record(policy, envs, 7, seed=2, deterministic=deterministic)
    assert (policy.generator.get_state() == before).all()
    returns = demonstrations.rewards.sum(axis=0)
    np.testing.assert_allclose(returns, played("demonstrations", 2), rtol=1e-12)
    assert demonstrations.mean_return == pytest.approx(np.mean(returns))
    for stream, seed in (("evaluation", 2), ("demonstrations", 3)):
        assert not np.isclose(returns[0], played(stream, seed)[0])
    assert demonstrations.metadata["episodes_played"] == 7
    assert demonstrations.metadata["success_rate"] == demonstrations.successes.mean()


def test_sampled_actions_are_not_those_of_an_evaluation_with_the_same_seed():
    """Nothing but the actions is random in scripted lanes, and they are the same whatever is done."""
    envs = kit.scripted("." * 29 + "E")
    evaluate(policy_for(envs), envs, 1, seed=0, deterministic=False)
    demonstrations = record(policy_for(envs), envs, 1, seed=0, deterministic=False)
    evaluated, recorded = (envs.envs.actions[begin : begin + 30] for begin in (0, 30))
    np.testing.assert_array_equal(np.concatenate(recorded), demonstrations.actions[:, 0])
    assert (np.concatenate(evaluated) != demonstrations.actions[:, 0]).any()


def test_an_episode_without_an_end_is_no_demonstration(monkeypatch):
    for module in (evaluation, recording):
        monkeypatch.setattr(module, "MAX_LENGTH", 50)
    envs = kit.scripted("." * 49 + "E", "." * 48 + "E")
    assert record(policy_for(envs), envs, 2, seed=0).lengths.tolist() == [50, 49]
    with pytest.raises(EnvironmentFailure, match=r"has not ended after 50 steps, .*max_episode_steps"):
        record(policy_for(envs), kit.scripted(".", "E"), 2, seed=0)


def test_envs_with_nothing_to_play_leave_no_column():
    for name, memory in MEMORIES.items():
        envs = kit.scripted("E", "E", "E", memory=memory)
        demonstrations = record(policy_for(envs, memory), envs, 2, seed=0)
        assert demonstrations.num_trajectories == {"trial": 1}.get(name, 2)
