"""The wrappers of one lane: trials, and the exact state of a stack of wrappers."""

import gymnasium as gym
import numpy as np
import pytest

import rlstm.envs  # noqa: F401 - registers our envs.
from rlstm.core.errors import EnvironmentFailure
from rlstm.vector.sub_env import SubEnv, TrialEnv, supports_new_task
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
