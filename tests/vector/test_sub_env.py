"""The wrappers of one lane: trials, and the exact state of a stack of wrappers."""

import re
from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest

import rlstm.envs  # noqa: F401 - registers our envs.
from rlstm.core.errors import EnvironmentFailure
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.sub_env import SubEnv, TrialEnv, supports_new_task
from rlstm.vector.workers import WorkerEnvs
from tests import kit


def trial_of(episodes_per_trial, script="E"):
    return TrialEnv(kit.ScriptedEnv(script), episodes_per_trial)


@pytest.mark.parametrize("episodes_per_trial", [1, 2, 3])
def test_the_first_reset_of_a_trial_asks_for_a_new_task_and_the_others_for_the_same(episodes_per_trial):
    env = trial_of(episodes_per_trial)
    told = [env.reset()[1]["trial_start"] for _ in range(7)]
    expected = [episode % episodes_per_trial == 0 for episode in range(7)]
    assert told == expected
    assert env.unwrapped.new_tasks == expected


def test_a_seed_begins_a_new_trial():
    env = trial_of(3)
    told = [env.reset(seed=seed)[1]["trial_start"] for seed in (0, None, 7, None, None, None)]
    assert told == [True, False, True, False, False, True]


def test_other_options_reach_the_env():
    seen = []
    env = trial_of(2)
    env.unwrapped.reset = lambda *, seed=None, options=None: seen.append(options) or (np.zeros(4, np.float32), {})
    env.reset(options={"level": 3})
    env.reset(options={"level": 4, "new_task": True})
    assert seen == [{"level": 3, "new_task": True}, {"level": 4, "new_task": False}]


def test_the_task_is_kept_within_a_trial_and_drawn_anew_with_the_next():
    env = TrialEnv(gym.make("rlstm/TMaze-v0"), 4)
    signs = [env.reset(seed=0 if episode == 0 else None)[0][0] for episode in range(400)]
    trials = np.array(signs).reshape(100, 4)
    assert (trials == trials[:, :1]).all()
    assert 20 < trials[:, 0].sum() < 80


def test_trials_need_an_env_that_keeps_its_task_unless_insisted_on():
    assert supports_new_task(gym.make("rlstm/TMaze-v0"))
    env = gym.make("rlstm/RepeatPrevious-v0")
    assert not supports_new_task(env)
    with pytest.raises(EnvironmentFailure, match=r"supports_new_task.*insist"):
        TrialEnv(env, 2)
    assert TrialEnv(env, 2, insist=True).reset(seed=0)[1]["trial_start"]


# States.


def random_play(env, num_steps, generator, script=None):
    """Plays, resetting at ends, and returns all that was seen."""
    seen = []
    for _ in range(num_steps):
        observation, reward, terminated, truncated, _ = env.step(int(generator.integers(env.action_space.n)))
        seen.append((np.asarray(observation).tolist(), float(reward), terminated, truncated))
        if terminated or truncated:
            observation, info = env.reset()
            seen.append((np.asarray(observation).tolist(), info.get("trial_start")))
    return seen


def stack(env_id, per_trial=None, lane=0, **kwargs):
    env = gym.make(env_id, **kwargs)
    return SubEnv(env if per_trial is None else TrialEnv(env, per_trial), lane)


STACKS = {
    "t-maze": (("rlstm/TMaze-v0",), {"corridor_length": 3, "noise": True}),
    "t-maze in trials": (("rlstm/TMaze-v0", 3), {"corridor_length": 3}),
    "t-maze with a time limit from outside": (("rlstm/TMaze-v0", 2), {"corridor_length": 3, "max_episode_steps": 7}),
    "cards": (("rlstm/RepeatPrevious-v0",), {}),
    "pole": (("rlstm/CartPoleNoVel-v0",), {"max_episode_steps": 9}),
}


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("num_steps", [0, 1, 5, 40])
def test_an_env_goes_on_from_its_state_bit_for_bit_through_all_wrappers(name, num_steps):
    arguments, kwargs = STACKS[name]
    env, other = stack(*arguments, **kwargs), stack(*arguments, lane=1, **kwargs)
    env.reset(seed=5)
    random_play(env, num_steps, np.random.default_rng(0))
    state = env.get_lane_state()
    other.reset(seed=99)
    random_play(other, 3, np.random.default_rng(7))
    other.set_lane_state([None, state])
    expected = random_play(env, 60, np.random.default_rng(1))
    assert random_play(other, 60, np.random.default_rng(1)) == expected
    assert other.get_lane_state().keys() == state.keys()


def test_the_steps_of_a_time_limit_are_part_of_the_state():
    """The control: without them the episode would last too long."""
    env = stack("rlstm/CartPoleNoVel-v0", max_episode_steps=4)
    env.reset(seed=0)
    env.step(0)
    state = env.get_lane_state()
    env.reset(seed=0)
    env.set_lane_state([state])
    assert [env.step(step % 2)[3] for step in (1, 0, 1)] == [False, False, True]


def test_the_steps_in_messages_go_on_too():
    env = SubEnv(gym.make("rlstm/TMaze-v0"), 0)
    env.reset(seed=0)
    for _ in range(3):
        env.step(1)
    other = SubEnv(gym.make("rlstm/TMaze-v0"), 0)
    other.reset(seed=0)
    other.set_lane_state([env.get_lane_state()])
    with pytest.raises(EnvironmentFailure, match="its step 4"):
        other.step(99)


class CountingWrapper(gym.Wrapper):
    """Multiplies rewards by how many it has given: a wrapper of a user, with a state."""

    count = 0

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        self.count += 1
        return observation, self.count * reward, *rest

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state):
        self.count = state["count"]


class InheritingWrapper(CountingWrapper):
    """Has its state from its base class."""


@pytest.mark.parametrize("wrapper", [CountingWrapper, InheritingWrapper])
def test_a_users_wrapper_may_bring_its_own_state(wrapper):
    env, other = (SubEnv(wrapper(gym.make("rlstm/TMaze-v0", corridor_length=3)), 0) for _ in range(2))
    env.reset(seed=5)
    random_play(env, 10, np.random.default_rng(0))
    other.reset(seed=1)
    other.set_lane_state([env.get_lane_state()])
    expected = random_play(env, 30, np.random.default_rng(1))
    assert random_play(other, 30, np.random.default_rng(1)) == expected


@pytest.mark.parametrize(
    "env",
    [
        lambda: gym.make("CartPole-v1"),
        lambda: gym.wrappers.FlattenObservation(gym.make("rlstm/TMaze-v0")),
        lambda: gym.wrappers.NormalizeReward(gym.make("rlstm/TMaze-v0")),
    ],
    ids=["an env without get_state", "a wrapper that says nothing", "a wrapper with a hidden state"],
)
def test_a_stack_of_which_one_part_has_no_state_has_none(env):
    lane = SubEnv(env(), 0)
    lane.reset(seed=0)
    assert lane.get_lane_state() is None


def test_an_env_that_can_be_read_but_not_written_has_no_state():
    class ReadOnly(kit.ScriptedEnv):
        def get_state(self):
            return {"t": self.t}

    lane = SubEnv(ReadOnly("..."), 0)
    lane.reset()
    assert lane.get_lane_state() is None


# What comes back from an env.


class SayingEnv(gym.Env):
    """Says what it is told to: one info a step, and observations that it writes into one array."""

    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)

    def __init__(self, infos=({},), action_space=None, reward=1.0, length=3):
        self.action_space = gym.spaces.Discrete(4) if action_space is None else action_space
        self.infos, self.reward, self.length, self.t = infos, reward, length, 0
        self.array = np.zeros(2, dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        self.array[:] = 0
        return self.array, {}

    def step(self, action):
        self.t += 1
        self.array[:] = self.t
        return self.array, self.reward, False, self.t == self.length, self.infos[(self.t - 1) % len(self.infos)]


def vector(kind, *envs, log_info=()):
    functions = [lambda env=env, lane=lane: SubEnv(env, lane, log_info) for lane, env in enumerate(envs)]
    if kind == "async":
        first = functions[0]()
        workers = WorkerEnvs(functions, observation_space=first.observation_space, action_space=first.action_space)
        return VectorEnvs(workers, kind, "", log_info=log_info)
    mode = gym.vector.AutoresetMode.SAME_STEP
    return VectorEnvs(gym.vector.SyncVectorEnv(functions, autoreset_mode=mode), kind, "", log_info=log_info)


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@KINDS
def test_what_lanes_say_in_other_types_is_counted_in_full(kind):
    said = [0, 1.2, None, np.float32(0.25), np.array([0.5]), True]
    others = ["words", 3, {"a": 1}, [1, 2], [[1], [2, 3]], None]
    lanes = [
        {"regret": one, "is_success": np.bool_(True), "note": other} for one, other in zip(said, others, strict=True)
    ]
    with closing(vector(kind, *(SayingEnv([info], length=1) for info in lanes))) as envs:
        envs.reset([0] * 6)
        outcome = envs.step(np.zeros(6, dtype=np.int64))
    assert outcome.regrets == pytest.approx([0, 1.2, np.nan, 0.25, 0.5, 1], nan_ok=True)
    assert outcome.successes.tolist() == [1.0] * 6


@pytest.mark.parametrize(
    ("said", "expected"),
    [(True, 1), (np.bool_(False), 0), (1, 1), (0.0, 0), (np.array([True]), 1), (np.array(0.0), 0), (None, None)],
)
def test_a_success_may_be_any_single_number(said, expected):
    envs = vector("sync", SayingEnv([{"is_success": said}], length=1))
    envs.reset([0])
    (found,) = envs.step(np.zeros(1, dtype=np.int64)).successes
    assert np.isnan(found) if expected is None else found == expected


@pytest.mark.parametrize("name", ["regret", "is_success"])
@pytest.mark.parametrize("said", ["yes", [1, 2], {"a": 1}, [[1], [1, 2]]], ids=str)
def test_what_is_no_number_is_named(name, said):
    env = SubEnv(SayingEnv([{name: said}]), 3)
    env.reset()
    with pytest.raises(EnvironmentFailure, match=rf"Env 3, its step 1: info\['{name}'\] must be one number: it is"):
        env.step(0)


@pytest.mark.parametrize(("said", "expected"), [(2, "must be 0 or 1: it is 2"), (-1.0, "it is -1"), (np.nan, None)])
def test_a_success_that_is_neither_is_refused_and_nan_is_unknown(said, expected):
    env = SubEnv(SayingEnv([{"is_success": said}]), 0)
    env.reset()
    if expected is None:
        assert "is_success" not in env.step(0)[4]
    else:
        with pytest.raises(EnvironmentFailure, match=expected):
            env.step(0)


@pytest.mark.parametrize("reward", [2, True, np.float32(2), np.array([2.0]), np.array(2)])
def test_a_reward_may_be_an_array_of_one(reward):
    env = SubEnv(SayingEnv(reward=reward), 0)
    env.reset()
    found = env.step(0)[1]
    assert type(found) is float
    assert found == float(np.asarray(reward).item())


@pytest.mark.parametrize("reward", [None, [1, 2], "2"])
def test_a_reward_that_is_no_number_is_named(reward):
    env = SubEnv(SayingEnv(reward=reward), 0)
    env.reset()
    with pytest.raises(EnvironmentFailure, match="reward must be one number: it is"):
        env.step(0)


@KINDS
def test_the_last_observation_of_an_env_that_writes_in_place_is_kept(kind):
    with closing(vector(kind, SayingEnv(), SayingEnv(length=2))) as envs:
        envs.reset([0, 0])
        outcomes = [envs.step(np.zeros(2, dtype=np.int64)) for _ in range(3)]
    assert outcomes[1].final_observations.tolist() == [[2, 2]]
    assert outcomes[2].final_observations.tolist() == [[3, 3]]
    assert outcomes[2].observations.tolist() == [[0, 0], [1, 1]]


MASK = np.array([True, False, True, True])


@KINDS
@pytest.mark.parametrize(
    "mask", [MASK.tolist(), MASK.astype(np.float32), MASK[np.newaxis]], ids=["list", "floats", "row"]
)
def test_masks_of_any_numbers_are_read(kind, mask):
    class Masked(SayingEnv):
        def reset(self, *, seed=None, options=None):
            return super().reset()[0], {"action_mask": mask}

    with closing(vector(kind, Masked([{"action_mask": mask}]), Masked([{"action_mask": None}]))) as envs:
        assert envs.reset([0, 0]).action_masks.tolist() == [MASK.tolist()] * 2
        assert envs.step(np.zeros(2, dtype=np.int64)).action_masks.tolist() == [MASK.tolist(), [True] * 4]


@KINDS
def test_a_mask_that_is_none_at_reset_allows_all_and_may_be_given_later(kind):
    class Masked(SayingEnv):
        def reset(self, *, seed=None, options=None):
            return super().reset()[0], {"action_mask": None}

    with closing(vector(kind, Masked([{"action_mask": MASK}]))) as envs:
        assert envs.reset([0]).action_masks.tolist() == [[True] * 4]
        assert envs.step(np.zeros(1, dtype=np.int64)).action_masks.tolist() == [MASK.tolist()]


@pytest.mark.parametrize(
    "space", [gym.spaces.MultiBinary(4), gym.spaces.MultiBinary([2, 2]), gym.spaces.Box(0, 1, (4,))]
)
def test_a_mask_that_no_action_can_have_is_refused(space):
    env = SubEnv(SayingEnv([{"action_mask": MASK}], space), 0)
    env.reset()
    with pytest.raises(
        EnvironmentFailure, match=r"info\['action_mask'\] must be left out: these actions can't be masked"
    ):
        env.step(space.sample())


@pytest.mark.parametrize("mask", [[True] * 3, "all", [[True], [True, False]], {"a": 1}], ids=str)
def test_a_mask_of_another_size_is_refused(mask):
    env = SubEnv(SayingEnv([{"action_mask": mask}]), 0)
    env.reset()
    with pytest.raises(EnvironmentFailure, match=r"info\['action_mask'\] must be an array of 4 booleans"):
        env.step(0)


def test_a_mask_in_the_observation_is_refused_where_no_action_can_have_one():
    class Masked(SayingEnv):
        observation_space = gym.spaces.Dict({"x": gym.spaces.Discrete(2), "action_mask": gym.spaces.MultiBinary(4)})

        def reset(self, *, seed=None, options=None):
            return {"x": 0, "action_mask": MASK.astype(np.int8)}, {}

    with pytest.raises(EnvironmentFailure, match="actions are MultiBinary"):
        vector("sync", Masked(action_space=gym.spaces.MultiBinary(4))).reset([0])
    assert vector("sync", Masked()).reset([0]).action_masks.tolist() == [MASK.tolist()]


@pytest.mark.parametrize(
    ("space", "target", "expected"),
    [
        (gym.spaces.Discrete(4), 2, 2),
        (gym.spaces.Discrete(4), np.array([2.0]), 2),
        (gym.spaces.Discrete(4), -1, None),
        (gym.spaces.Discrete(4), np.nan, None),
        (gym.spaces.Discrete(4), "left", None),
        (gym.spaces.Discrete(4), [1, 2], None),  # Not of an action: something else that the env calls a target.
        (gym.spaces.Discrete(4), {"x": 1}, None),
        (gym.spaces.Discrete(4), [[1], [2, 3]], None),
        (gym.spaces.Discrete(4), None, None),
        (gym.spaces.Box(-9, 9, (1,)), -1, [-1.0]),
        (gym.spaces.Box(-9, 9, (2,)), [1, 2], [1.0, 2.0]),
        (gym.spaces.Box(-9, 9, (2,)), [1, np.nan], None),
        (gym.spaces.MultiBinary([1, 2]), [[1, 0]], [[1, 0]]),
    ],
    ids=str,
)
def test_a_target_is_an_action_or_none(space, target, expected):
    env = SubEnv(SayingEnv([{"target": target}], space), 0)
    env.reset()
    info = env.step(space.sample())[4]
    assert info.keys() == ({"target"} if expected is not None else set())
    if expected is not None:
        assert info["target"].tolist() == expected
        assert info["target"].dtype == (np.float64 if isinstance(space, gym.spaces.Box) else np.int64)


@pytest.mark.parametrize("error", [ValueError, OverflowError])
def test_an_env_with_a_former_generator_gets_a_seed_that_it_takes(error):
    seeds = []

    class Legacy(SayingEnv):
        def reset(self, *, seed=None, options=None):
            seeds.append(seed)
            if seed is not None and seed >= 2**32:
                raise error("Seed must be between 0 and 2**32 - 1")
            return super().reset()

    SubEnv(Legacy(), 0).reset(seed=5 * 2**32 + 7)
    assert seeds == [5 * 2**32 + 7, 7]


def test_other_errors_of_a_reset_are_told_as_they_are():
    class Broken(SayingEnv):
        def reset(self, *, seed=None, options=None):
            raise ValueError("no such level")

    for seed in (None, 3, 2**40):
        with pytest.raises(EnvironmentFailure, match="reset raised: ValueError: no such level"):
            SubEnv(Broken(), 0).reset(seed=seed)


@KINDS
def test_lists_are_observations_at_the_end_of_an_episode_too(kind):
    class Lists(SayingEnv):
        observation_space = gym.spaces.Dict({"x": gym.spaces.Box(-9, 9, (2,), np.float32), "n": gym.spaces.Discrete(9)})

        def reset(self, *, seed=None, options=None):
            super().reset()
            return {"x": [0.0, 0.0], "n": 0}, {}

        def step(self, action):
            return {"x": [self.t + 1.0, 0.0], "n": self.t + 1}, *super().step(action)[1:]

    with closing(vector(kind, Lists(length=1), Lists(length=2))) as envs:
        envs.reset([0, 0])
        outcome = envs.step(np.zeros(2, dtype=np.int64))
    assert outcome.final_observations["x"].tolist() == [[1.0, 0.0]]
    assert outcome.final_observations["n"].tolist() == [1]


def test_a_discrete_observation_out_of_range_is_named():
    class Wrong(SayingEnv):
        observation_space = gym.spaces.Discrete(3)

        def reset(self, *, seed=None, options=None):
            return 3, {}

    with pytest.raises(EnvironmentFailure, match=r"Env 1, its step 0: wrong observation: observation is 3, outside"):
        SubEnv(Wrong(), 1).reset()


class OwnState(SayingEnv):
    """Has methods of the library's names with a meaning of its own."""

    def __init__(self, state, takes=True):
        super().__init__()
        self.state, self.takes = state, takes

    def get_state(self):
        return self.state

    def set_state(self, state):
        if not self.takes:
            raise TypeError("set_state() missing 1 required positional argument: 'qvel'")


@pytest.mark.parametrize(
    ("env", "fault"),
    [
        (SayingEnv(), None),
        (OwnState({"t": 3}), None),
        (OwnState(object()), r"OwnState.get_state\(\) returns is a object, which a checkpoint can't hold"),
        (OwnState({"t": 3}, takes=False), r"of OwnState are not those of an exact resume: .* argument: 'qvel'"),
    ],
    ids=["none", "of ours", "another type", "another meaning"],
)
def test_states_of_another_meaning_are_told_from_ours(env, fault):
    found = SubEnv(env, 0).state_fault()
    assert (found is None) if fault is None else re.search(fault, found)


# Numbers that are logged


@KINDS
def test_named_numbers_of_info_are_passed_on_in_one_form(kind):
    said = [{"energy": 1, "error": np.array([0.5])}, {"energy": None, "other": "text"}, {}]
    with closing(vector(kind, *(SayingEnv([one], length=1) for one in said), log_info=("energy", "error"))) as envs:
        assert envs.reset([0] * 3).logged is None
        for _ in range(2):
            logged = envs.step(np.zeros(3, dtype=np.int64)).logged
            np.testing.assert_array_equal(logged, [[1, 0.5], [np.nan, np.nan], [np.nan, np.nan]])


def test_a_logged_key_that_is_no_number_is_named():
    env = SubEnv(SayingEnv([{"energy": "high"}]), 0, ("energy",))
    env.reset()
    with pytest.raises(EnvironmentFailure, match=r"info\['energy'\] must be one number: it is 'high'"):
        env.step(0)


def test_a_batched_env_gives_its_numbers_by_name():
    class Batched(kit.ScriptedVectorEnv):
        def step(self, actions):
            *outcome, infos = super().step(actions)
            energy = {"energy": np.array([1.0, 2.0]), "_energy": np.array([True, self.t > 1])}
            if "final_info" in infos:
                infos["final_info"] |= {"energy": np.array([7.0, 8.0])}
            return *outcome, infos | energy

    envs = VectorEnvs(Batched(["..E", "...."]), "native", "", log_info=("energy", "unsaid"))
    envs.reset([0, 0])
    logged = [envs.step(np.zeros(2, dtype=np.int64)).logged[:, 0].tolist() for _ in range(3)]
    np.testing.assert_array_equal(logged, [[1, np.nan], [1, 2], [7, 2]])
