"""Wrappers: tables worked out by hand, the same from single and vector envs, and exact state."""

import copy
import json
import zlib
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.envs import wrappers as w
from rlstm.envs.base.checks import load_class
from rlstm.envs.base.registration import ENVS
from rlstm.envs.wrappers import wrap
from rlstm.envs.wrappers.adapters import TransformedEnv, TransformedVectorEnv
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec, with_wrappers

STACKS = [
    "mask=0",
    "flicker=0.4",
    "noise=0.2",
    "delay=1",
    "delay=3",
    "hold",
    "hold delay=2 hold",
    "sticky=0.5",
    "previous",
    "markovian",
    "flicker flicker",
    "sticky previous noise=0.1 delay=2 flicker",
    "delay=2 sticky markovian",
    "actions=1,0",
    "actions=1,0 sticky=0.1 previous delay=1",
    "previous actions=1",
]


class Counting(gym.Env):
    """Shows [step, 10 + step, episode]; pays the step; the episode ends after ``length`` steps."""

    observation_space = spaces.Box(0, 100, (3,), np.float32)

    def __init__(self, length=4, action_space=None):
        self.length, self.episode, self.actions = length, -1, []
        self.action_space = action_space or spaces.Discrete(3, start=5)

    def _observe(self):
        return np.array([self.t, 10 + self.t, self.episode], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        self.actions.append(np.asarray(action).tolist())
        return self._observe(), float(self.t), self.t == self.length, False, {}


class Composed(gym.Env):
    """A dict of images, vectors, choices and text, with a mask; a new draw at every step."""

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(3, 200, (2, 2, 3), np.uint8),
            "pair": spaces.Tuple((spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(5, start=2))),
            "many": spaces.MultiDiscrete([3, 4], start=[1, 0]),
            "text": spaces.Text(9),
            "action_mask": spaces.MultiBinary(2),
        }
    )
    action_space = spaces.Discrete(2)

    def _observe(self):
        draw = {name: space.sample() for name, space in self.observation_space.spaces.items()}
        given = {"action_mask": np.ones(2, dtype=np.int8), "text": f"step{self.t}"}
        return draw | {name: value for name, value in given.items() if name in draw}

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            super().reset(seed=seed)
            self.observation_space = copy.deepcopy(type(self).observation_space)
            self.observation_space.seed(seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        return self._observe(), 0.5 * self.t, self.t == 5, False, {}


def same_step(*functions):
    return SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP)


def lanes(env_id, words, kind="auto", memory=None, num_envs=3, **env_kwargs):
    config = EnvConfig(
        env=env_id,
        env_kwargs=env_kwargs,
        env_wrappers=tuple(words.split()),
        num_envs=num_envs,
        vectorization=kind,
    )
    spec = with_wrappers(resolve_spec(config), config.env_wrappers, w.WRAPPERS)
    return make(spec, config, memory or MemoryConfig())


def random_actions(envs, num_steps, seed=0):
    envs.action_space.seed(seed)
    return [np.array([envs.action_space.sample() for _ in range(envs.num_envs)]) for _ in range(num_steps)]


def trajectories(envs, num_steps=60, seeds=(3, 4, 5)):
    steps = [envs.reset(list(seeds))]
    return steps + [envs.step(actions) for actions in random_actions(envs, num_steps)]


def assert_same(left, right):
    for index, (one, other) in enumerate(zip(left, right, strict=True)):
        for name, a, b in zip(one._fields, one, other, strict=True):
            for left_leaf, right_leaf in zip(tree_leaves(a), tree_leaves(b), strict=True):
                np.testing.assert_array_equal(left_leaf, right_leaf, err_msg=f"{name} of step {index}")


def column(env, num_steps, action=5):
    """The first entries of the observations over episodes that are reset at their end."""
    seen = [env.reset(seed=0)[0]]
    for _ in range(num_steps):
        observation, _, terminated, _, _ = env.step(action)
        seen.append(observation)
        if terminated:
            seen.append(env.reset()[0])
    return seen


# What each does, by hand.


def test_a_mask_keeps_the_named_entries_in_their_order_with_their_bounds():
    env = wrap(gym.make("CartPole-v1"), w.MaskBox, keep=[2, 0])
    full, seen = gym.make("CartPole-v1").reset(seed=1)[0], env.reset(seed=1)[0]
    assert seen.tolist() == [full[2], full[0]]
    assert env.observation_space.high.tolist() == gym.make("CartPole-v1").observation_space.high[[2, 0]].tolist()
    assert env.observation_space.contains(env.step(1)[0])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, [0, 0, 1, 2, 3, 0, 0, 1, 2, 3]),
        (2, [0, 0, 0, 1, 2, 0, 0, 0, 1, 2]),
        (3, [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]),
        (9, [0] * 10),
    ],
)
def test_a_delay_shows_the_observation_of_so_many_steps_ago_or_the_first(steps, expected):
    seen = column(wrap(Counting(), w.Delay, steps=steps), 8)[:10]
    assert [one[0] for one in seen] == expected
    assert [one[2] for one in seen] == [0] * 5 + [1] * 5


class DropsOut(Counting):
    """Its second number is NaN at odd steps, its first one infinite where every second episode begins."""

    def _observe(self):
        seen = super()._observe()
        seen[1] = np.nan if self.t % 2 else seen[1]
        seen[0] = -np.inf if self.t == 0 and self.episode % 2 else seen[0]
        return seen


def test_hold_shows_what_is_not_finite_as_it_was_last_in_its_episode():
    env = wrap(DropsOut(), w.Hold)
    assert [one.tolist() for one in column(env, 6)[:7]] == [
        [0, 10, 0],
        [1, 10, 0],
        [2, 12, 0],
        [3, 12, 0],
        [4, 14, 0],
        [2, 10, 1],  # The mean of what was seen in its place, 0 to 4.
        [1, 10, 1],
    ]


def test_hold_begins_with_nothing_where_nothing_was_seen():
    class Dead(Counting):
        observation_space = spaces.Box(5, 100, (3,), np.float32)

        def _observe(self):
            return np.full(3, np.nan, dtype=np.float32)

    assert wrap(Dead(), w.Hold).reset()[0].tolist() == [5, 5, 5]

    class Bytes(Counting):
        observation_space = spaces.Box(0, 255, (3,), np.uint8)

    with pytest.raises(ValueError, match="hold is for numbers that may not be finite"):
        wrap(Bytes(), w.Hold)


def test_a_lane_that_holds_is_put_back_to_where_it_was():
    env = wrap(DropsOut(length=9), w.Hold)
    env.reset(seed=0)
    env.step(5)
    env.step(5)
    state, expected = env.transform.get_state(), env.step(5)[0].tolist()
    env.step(5)
    env.transform.set_state(state)
    env.unwrapped.t = 2
    assert env.step(5)[0].tolist() == expected == [3, 12, 0]


def test_flicker_blanks_the_whole_observation_as_often_as_it_says():
    env = wrap(Counting(length=10_000), w.Flicker, probability=0.3)
    seen = np.array(column(env, 4000))
    blank = seen[:, 1] == 0
    assert abs(blank.mean() - 0.3) < 0.03
    assert (seen[blank] == 0).all()
    assert (seen[~blank, 1] == 10 + np.arange(4001)[~blank]).all()
    firsts = [env.reset()[0][1] == 0 for _ in range(1000)]
    assert abs(np.mean(firsts) - 0.3) < 0.05


def test_flicker_always_and_never():
    assert (np.array(column(wrap(Counting(), w.Flicker, probability=1.0), 8)) == 0).all()
    assert (np.array(column(wrap(Counting(), w.Flicker, probability=0.0), 8))[:, 1] >= 10).all()


def test_noise_has_its_spread_is_fresh_for_every_number_and_stays_inside():
    env = wrap(Counting(length=10_000), w.Noise, std=2.0)
    noise = np.array(column(env, 3000)) - np.array(column(Counting(length=10_000), 3000))
    inside = noise[10:80, :2].ravel()  # Away from the bounds 0 and 100.
    assert abs(inside.std() - 2.0) < 0.4
    assert abs(inside.mean()) < 0.5
    assert abs(np.corrcoef(noise[10:80, 0], noise[10:80, 1])[0, 1]) < 0.4
    seen = np.array(column(env, 3000))
    assert (seen.min(), seen.max()) == (0, 100)
    assert seen.dtype == np.float32


def test_sticky_repeats_what_was_carried_out_but_never_into_a_new_episode():
    env = Counting(length=3)
    sticky = wrap(env, w.StickyAction, probability=1.0)
    sticky.reset(seed=0)
    for action in (6, 7, 5):
        sticky.step(action)
    sticky.reset()
    for action in (7, 5, 5):
        sticky.step(action)
    assert env.actions == [6, 6, 6, 7, 7, 7]


def test_sticky_repeats_as_often_as_it_says_and_the_repeated_action_too():
    env = Counting(length=10_000, action_space=spaces.Discrete(5001))
    sticky = wrap(env, w.StickyAction, probability=0.25)
    sticky.reset(seed=0)
    for action in range(5000):
        sticky.step(action)
    repeated = np.diff(env.actions) == 0
    assert abs(repeated.mean() - 0.25) < 0.03
    assert abs((repeated[1:] & repeated[:-1]).mean() - 0.0625) < 0.02
    carried_out = np.array(env.actions)
    own = carried_out == np.arange(5000)
    assert (carried_out[1:][~own[1:]] == carried_out[:-1][~own[1:]]).all()


def test_the_previous_action_and_reward_are_appended_and_zero_at_first():
    seen = column(wrap(Counting(length=2), w.PreviousActionReward), 3, action=6)
    assert [one.tolist() for one in seen] == [
        [0, 10, 0, 0, 0, 0, 0],
        [1, 11, 0, 0, 1, 0, 1],
        [2, 12, 0, 0, 1, 0, 2],
        [0, 10, 1, 0, 0, 0, 0],
        [1, 11, 1, 0, 1, 0, 1],
    ]


@pytest.mark.parametrize(
    ("space", "action", "flat"),
    [
        (spaces.Discrete(3), 2, [0, 0, 1]),
        (spaces.MultiDiscrete([2, 3]), [1, 0], [0, 1, 1, 0, 0]),
        (spaces.MultiDiscrete([2, 3], start=[1, 1]), [1, 3], [1, 0, 0, 0, 1]),
        (spaces.Box(-2, 2, (2,), np.float32), [0.5, -1.5], [0.5, -1.5]),
        (spaces.MultiBinary(3), [1, 0, 1], [1, 0, 1]),
    ],
)
def test_every_kind_of_action_is_shown(space, action, flat):
    env = wrap(Counting(action_space=space), w.PreviousActionReward)
    env.reset(seed=0)
    observation = env.step(np.array(action))[0]
    assert observation[3:].tolist() == [*flat, 1.0]
    assert env.observation_space.contains(observation)


def test_previous_makes_a_dict_of_what_is_no_vector_and_joins_one_that_is_there():
    env = wrap(gym.make("FrozenLake-v1"), w.PreviousActionReward)
    observation = env.reset(seed=0)[0]
    assert env.observation_space.contains(observation)
    assert list(observation) == ["observation", "previous_action", "previous_reward"]
    composed = wrap(Composed(), w.PreviousActionReward)
    observation = composed.reset(seed=0)[0]
    assert composed.observation_space.contains(observation)
    assert observation.keys() == {*Composed.observation_space.spaces, "previous_action", "previous_reward"}
    with pytest.raises(ValueError, match=r"previous adds \['previous_action'"):
        wrap(composed, w.PreviousActionReward)


def test_the_markovian_view_is_the_hidden_state_also_at_the_end():
    env = wrap(gym.make("rlstm/TMaze-v0", corridor_length=2, max_steps=3), w.MarkovianView)
    task = env.unwrapped.task
    seen = [env.reset(seed=0)[0]]
    np.testing.assert_array_equal(seen[0], task.hidden_state()[0])
    for _ in range(3):
        seen.append(env.step(1)[0])
        np.testing.assert_array_equal(seen[-1], task.hidden_state()[0])
        assert env.observation_space.contains(seen[-1])
    assert len({tuple(one) for one in seen}) == 4


def test_the_order_of_wrappers_counts():
    delayed = wrap(wrap(Counting(), w.Delay, steps=1), w.PreviousActionReward)
    late = wrap(wrap(Counting(), w.PreviousActionReward), w.Delay, steps=1)
    for env in (delayed, late):
        env.reset(seed=0)
        env.step(5)
    assert delayed.step(6)[0].tolist() == [1, 11, 0, 0, 1, 0, 2]
    assert late.step(6)[0].tolist() == [1, 11, 0, 1, 0, 0, 1]


# Nested observations.


@pytest.mark.parametrize(
    ("transform", "arguments"), [(w.Flicker, {"probability": 1.0}), (w.Noise, {"std": 30.0}), (w.Delay, {"steps": 2})]
)
def test_of_a_dict_all_numbers_are_changed_but_neither_text_nor_the_mask(transform, arguments):
    env, bare = wrap(Composed(), transform, **arguments), Composed()
    bare.reset(seed=3)
    env.reset(seed=3)
    seen, full = env.step(0)[0], bare.step(0)[0]
    assert env.observation_space.contains(seen)
    assert seen["text"] == full["text"] == "step1"
    assert seen["action_mask"].tolist() == [1, 1]
    assert (seen["image"] != full["image"]).any()
    assert (seen["pair"][0] != full["pair"][0]).all()
    if transform is w.Flicker:  # What is nearest to zero.
        assert (seen["image"] == 3).all()
        assert (seen["pair"][0] == 0).all()
        assert (seen["pair"][1], seen["many"].tolist()) == (2, [1, 0])


@pytest.mark.parametrize(
    "words", ["flicker=0.5", "noise=20", "delay=2", "previous", "noise=9 delay=1 flicker previous"]
)
def test_vector_wrappers_of_nested_observations_give_what_single_ones_give(words):
    """Gymnasium's own vector env gives final observations one by one, ours as full arrays: both are read."""

    def wrapped(env):
        for name, _, text in (word.partition("=") for word in words.split()):
            env = wrap(env, **w.WRAPPERS[name].read(text or None))
        return env

    class Textless(Composed):
        observation_space = spaces.Dict({k: v for k, v in Composed.observation_space.items() if k != "text"})

    outside = wrapped(same_step(Textless, Textless))
    inside = same_step(*[lambda: wrapped(Textless())] * 2)
    assert outside.single_observation_space == inside.single_observation_space
    left, right = outside.reset(seed=[7, 8])[0], inside.reset(seed=[7, 8])[0]
    for step in range(12):
        tree_map(np.testing.assert_array_equal, left, right)
        left, *_, infos = outside.step(np.array([step % 2, 1]))
        right, *_, expected = inside.step(np.array([step % 2, 1]))
        assert ("final_obs" in infos) == ("final_obs" in expected) == (step % 5 == 4)
        if "final_obs" in infos:
            for lane in range(2):
                final = tree_map(lambda leaf, lane=lane: leaf[lane], infos["final_obs"])
                tree_map(np.testing.assert_array_equal, final, expected["final_obs"][lane])


# The same from all kinds of lanes.


@pytest.mark.parametrize("words", STACKS)
@pytest.mark.parametrize("env_id", ["rlstm/TMaze-v0", "rlstm/CartPoleNoVel-v0"])
def test_native_and_sync_lanes_give_the_same(env_id, words):
    kwargs = {"corridor_length": 2, "noise": True} if env_id == "rlstm/TMaze-v0" else {}
    native, sync = (lanes(env_id, words, kind, **kwargs) for kind in ("native", "sync"))
    assert native.kind == "native"
    assert native.observation_space == sync.observation_space
    left = trajectories(native, 60)
    assert sum(len(step.finished) for step in left) > 5
    assert_same(left, trajectories(sync, 60))


FIRST_ROWS = {row.task: env_id for env_id, row in reversed(ENVS.items())}.values()


@pytest.mark.parametrize(
    "env_id", [pytest.param(env_id, marks=[] if env_id in FIRST_ROWS else pytest.mark.slow) for env_id in ENVS]
)
def test_the_hidden_state_of_every_env_of_ours_can_be_seen_and_wrapped(env_id):
    native, sync = (lanes(env_id, "sticky markovian noise=0.1", kind, num_envs=2) for kind in ("native", "sync"))
    assert native.kind == "native"
    assert_same(trajectories(native, 20, (1, 2)), trajectories(sync, 20, (1, 2)))


def test_async_lanes_give_the_same():
    words = "sticky previous noise=0.1 delay=2 flicker"
    envs = [lanes("rlstm/TMaze-v0", words, kind, num_envs=2, corridor_length=2) for kind in ("native", "async")]
    left, right = (trajectories(one, seeds=(1, 2)) for one in envs)
    assert_same(left, right)
    envs[1].close()


@pytest.mark.parametrize("words", ["delay=2 flicker", "previous markovian"])
def test_trials_go_on_under_wrappers(words):
    memory = MemoryConfig("trial", episodes_per_trial=2)
    native, sync = (lanes("rlstm/TMaze-v0", words, kind, memory, corridor_length=2) for kind in ("native", "sync"))
    left = trajectories(native, 120)
    assert_same(left, trajectories(sync, 120))
    starts, ends = (np.array([getattr(s, n) for s in left[1:]]) for n in ("trial_ends", "terminated"))
    assert 0 < starts.sum() < ends.sum()


def test_the_last_observations_are_those_that_the_wrapper_would_have_shown():
    functions = [lambda: Counting(length=3)] * 2
    env = wrap(same_step(*functions), w.Delay, steps=2)
    env.reset(seed=[0, 1])
    for _ in range(3):
        observations, *_, infos = env.step(np.array([5, 5]))
    assert infos["final_obs"][:, 0].tolist() == [1, 1]
    assert observations.tolist() == [[0, 10, 1], [0, 10, 1]]
    assert [env.step(np.array([5, 5]))[0][:, 0].tolist() for _ in range(2)] == [[0, 0], [0, 0]]


def test_lanes_that_end_apart_keep_apart():
    functions = [lambda: Counting(length=2), lambda: Counting(length=3)]
    env = wrap(same_step(*functions), w.Delay, steps=1)
    seen = [env.reset(seed=0)[0]] + [env.step(np.array([5, 5]))[0] for _ in range(6)]
    assert [one[0, 0] for one in seen] == [0, 0, 0, 0, 0, 0, 0]
    assert [one[1, 0] for one in seen] == [0, 0, 1, 0, 0, 1, 0]
    assert [one[0, 2] for one in seen] == [0, 0, 1, 1, 2, 2, 3]


def test_the_arrays_of_an_env_are_not_written_into():
    class Keeping(SyncVectorEnv):
        def step(self, actions):
            self.given = super().step(actions)
            self.kept = self.given[0].copy()
            return self.given

    inner = Keeping([lambda: Counting(length=2)] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    env = wrap(wrap(inner, w.Delay, steps=1), w.Flicker, probability=1.0)
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.array([5, 5]))
        assert (inner.given[0] == inner.kept).all()


# Random streams.


def blanks(env, seed, num_steps=64):
    first = env.reset(seed=seed)[0]
    return [bool((one == 0).all()) for one in (first, *(env.step(5)[0] for _ in range(num_steps)))]


def test_a_seed_repeats_the_stream_another_gives_another_and_none_goes_on():
    env = wrap(Counting(length=10_000), w.Flicker)
    first = blanks(env, 1)
    assert blanks(env, 1) == first
    assert blanks(env, 2) != first
    assert blanks(env, None) != blanks(env, None)
    other = wrap(Counting(length=10_000), w.Flicker)
    assert blanks(other, None) != blanks(wrap(Counting(length=10_000), w.Flicker), None)
    assert blanks(other, 1) == first


def test_every_lane_has_a_stream_of_its_own():
    functions = [lambda: Counting(length=10_000)] * 3
    env = wrap(same_step(*functions), w.Flicker)
    for seed in (5, [5, 6, 7], [9, 1, None]):
        env.reset(seed=seed)
        seen = np.array([(env.step(np.full(3, 5))[0] == 0).all(axis=1) for _ in range(64)])
        assert len({tuple(lane) for lane in seen.T}) == 3


def test_no_two_wrappers_share_a_stream_nor_one_with_its_env():
    """Else a flickering step would be told by the noise, or twice the same flicker be no more than one."""
    inner = wrap(gym.make("rlstm/TMaze-v0"), w.Flicker)
    outer = wrap(wrap(wrap(inner, w.Delay, steps=1), w.Noise, std=1.0), w.Flicker)
    vector = lanes("rlstm/TMaze-v0", "flicker delay=1 noise=1 flicker", num_envs=1)
    outer.reset(seed=4)
    vector.reset([4])
    found, env = [], vector.envs
    while hasattr(env, "transform"):
        found.append(env.transform.random.keys[0])
        env = env.env
    keys = [env.transform.random.keys[0] for env in (outer, outer.env, outer.env.env, inner)]
    assert found == keys
    assert len({*keys, inner.unwrapped.task.random.keys[0]}) == 5


def test_wrappers_leave_the_env_its_own_stream():
    bare = trajectories(lanes("rlstm/TMaze-v0", "", corridor_length=2))
    wrapped = trajectories(lanes("rlstm/TMaze-v0", "noise=0.3 flicker=0.5 delay=2", corridor_length=2))
    for one, other in zip(bare, wrapped, strict=True):
        np.testing.assert_array_equal(one.rewards, other.rewards)
        np.testing.assert_array_equal(one.terminated, other.terminated)


# Exact state.


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        *(("native", words) for words in STACKS),
        *(pytest.param("sync", words, marks=[] if " " in words else pytest.mark.slow) for words in STACKS),
    ],
)
def test_lanes_go_on_from_their_state_bit_for_bit(kind, words):
    envs, other = (lanes("rlstm/TMaze-v0", words, kind, corridor_length=2, noise=True) for _ in range(2))
    trajectories(envs, 25)
    state = envs.get_state()
    trajectories(other, 7, seeds=(8, 9, 10))
    other.set_state(state, [1, 2, 3])
    actions = random_actions(envs, 60, seed=1)
    expected = [envs.step(one) for one in actions]
    assert_same(expected, [other.step(one) for one in actions])
    other.set_state(state, [1, 2, 3])  # The state was not written into.
    assert_same(expected, [other.step(one) for one in actions])


def test_a_state_may_be_taken_over_before_any_reset():
    env = wrap(wrap(gym.make("rlstm/TMaze-v0").unwrapped, w.StickyAction, probability=0.5), w.Delay, steps=2)
    env.reset(seed=0)
    env.step(1)
    other = wrap(wrap(gym.make("rlstm/TMaze-v0").unwrapped, w.StickyAction, probability=0.5), w.Delay, steps=2)
    for one, two in ((env, other), (env.env, other.env), (env.unwrapped, other.unwrapped)):
        two.set_state(one.get_state())
    for action in (1, 2, 3, 1, 0, 1):
        np.testing.assert_array_equal(env.step(action)[0], other.step(action)[0])


@pytest.mark.parametrize("kind", ["native", "sync"])
def test_a_state_of_other_wrappers_is_refused(kind):
    envs, other = lanes("rlstm/TMaze-v0", "delay=2", kind), lanes("rlstm/TMaze-v0", "delay=3", kind)
    envs.reset([1, 2, 3])
    with pytest.raises((ValueError, EnvironmentFailure), match="The state's 'ring_0'"):
        other.set_state(envs.get_state(), [1, 2, 3])
    bare = lanes("rlstm/TMaze-v0", "", "native")
    bare.reset([1, 2, 3])
    if kind == "native":
        with pytest.raises(ValueError, match="no place for that of a wrapper"):
            other.set_state(bare.get_state(), [1, 2, 3])


def test_where_the_env_has_no_state_there_is_none():
    sync = lanes("CartPole-v1", "delay=2")
    sync.reset([1, 2, 3])
    assert sync.get_state() is None
    inner = same_step(Counting)
    stack = wrap(wrap(inner, w.Delay, steps=1), w.Delay, steps=1)
    assert stack.get_state() is None
    assert VectorEnvs(stack, "native", "").get_state() is None


# Specs.


def spec_of(words, env_id="rlstm/TMaze-v0"):
    return with_wrappers(resolve_spec(EnvConfig(env=env_id)), tuple(words.split()), w.WRAPPERS)


@pytest.mark.parametrize("words", STACKS)
def test_a_spec_with_wrappers_is_written_and_read_and_makes_the_same(words):
    spec = spec_of(words)
    read = EnvSpec.from_json(json.dumps(json.loads(spec.to_json())))
    assert read.additional_wrappers == spec.additional_wrappers
    config = EnvConfig(env="rlstm/TMaze-v0", env_wrappers=tuple(words.split()), num_envs=3)
    assert_same(trajectories(make(spec, config, MemoryConfig())), trajectories(make(read, config, MemoryConfig())))
    assert gym.make(read).spec.to_json() == gym.make(spec).spec.to_json()


def test_the_registered_spec_stays_as_it_is():
    spec_of("flicker")
    assert gym.spec("rlstm/TMaze-v0").additional_wrappers == ()


def test_a_spec_without_the_wrappers_of_the_config_is_refused():
    config = EnvConfig(env="rlstm/TMaze-v0", env_wrappers=("flicker",))
    with pytest.raises(EnvironmentFailure, match=r"wrappers \[\], its config \['flicker'\]"):
        make(resolve_spec(config), config, MemoryConfig())


def test_a_wrapper_without_a_batched_form_takes_single_envs_and_the_user_is_told(monkeypatch):
    flatten = SimpleNamespace(entry_point="gymnasium.wrappers:FlattenObservation", read=lambda _: {})
    monkeypatch.setitem(w.WRAPPERS, "mine", flatten)
    envs = lanes("rlstm/TMaze-v0", "flicker mine")
    assert envs.kind == "sync"
    assert "the wrapper 'mine' has no batched form" in envs.description
    with pytest.raises(EnvironmentFailure, match="'mine' has no batched form"):
        lanes("rlstm/TMaze-v0", "flicker mine", "native")


def prewrapped(**kwargs):
    return gym.wrappers.FlattenObservation(wrap(gym.make("CartPole-v1"), w.Delay, steps=1))


@pytest.fixture
def prewrapped_env():
    gym.register("rlstm-test/Prewrapped-v0", prewrapped)
    yield "rlstm-test/Prewrapped-v0"
    gym.registry.pop("rlstm-test/Prewrapped-v0")


@pytest.mark.parametrize("words", ["mask=0,2", "mask=0,2 flicker", "mask=0,2 flicker previous"])
def test_an_entry_point_that_wraps_by_itself_gets_the_wrappers_too(prewrapped_env, words):
    """gymnasium.make would skip as many of the spec's as the entry point has put on."""
    envs = lanes(prewrapped_env, words)
    assert envs.observation_space.shape == ((5,) if "previous" in words else (2,))


@pytest.mark.filterwarnings("ignore:.*(different from the unwrapped version|A Box observation space):UserWarning")
@pytest.mark.parametrize("name", ["Flicker", "Delay", "Hold", "StickyAction", "PreviousActionReward"])
def test_wrapped_envs_pass_gymnasiums_checker(name):
    arguments = {"Delay": {"steps": 2}}.get(name, {})
    check_env(wrap(gym.make("rlstm/TMaze-v0").unwrapped, getattr(w, name), **arguments), skip_render_check=True)


# Fewer actions.


class Masked(Counting):
    """Forbids action 5 at every second step, in infos, or with ``in_sight`` in the observation."""

    def __init__(self, length=4, in_sight=None):
        super().__init__(length)
        self.in_sight = in_sight
        if in_sight is not None:
            self.observation_space = spaces.Dict({"at": Counting.observation_space, "action_mask": in_sight})

    @property
    def mask(self):
        return np.array([self.t % 2, 1, 0], dtype=np.int8)

    def _observe(self):
        at = super()._observe()
        return at if self.in_sight is None else {"at": at, "action_mask": self.mask}

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        return observation, info | {"action_mask": self.mask}

    def step(self, action):
        *outcome, info = super().step(action)
        return *outcome, info | {"action_mask": self.mask}


def test_the_actions_that_are_kept_are_numbered_in_their_order():
    inner = Counting(length=10)
    env = wrap(inner, w.KeepActions, keep=[7, 5])
    assert env.action_space == spaces.Discrete(2)
    assert env.observation_space == inner.observation_space
    env.reset(seed=0)
    for action in (0, 1, 1, np.int64(0)):
        env.step(action)
    assert inner.actions == [7, 5, 5, 7]
    for wrong, told in ((2, "outside Discrete"), (7, "outside Discrete"), (0.5, "needs integers"), (-1, "outside")):
        with pytest.raises(ValueError, match=told):
            env.step(wrong)
    vector = wrap(same_step(*[Counting] * 2), w.KeepActions, keep=[7, 5])
    assert vector.single_action_space == spaces.Discrete(2)
    assert vector.action_space == spaces.MultiDiscrete([2, 2])
    vector.reset(seed=0)
    vector.step(np.array([0, 1]))
    assert [one.unwrapped.actions for one in vector.env.envs] == [[7], [5]]


def test_a_wrapper_outside_shows_the_new_numbers_and_one_inside_the_old_ones():
    outside = wrap(wrap(Counting(), w.KeepActions, keep=[7, 5]), w.PreviousActionReward)
    inside = wrap(wrap(Counting(), w.PreviousActionReward), w.KeepActions, keep=[7, 5])
    for env in (outside, inside):
        env.reset(seed=0)
    assert outside.step(0)[0].tolist() == [1, 11, 0, 1, 0, 1]
    assert inside.step(0)[0].tolist() == [1, 11, 0, 0, 0, 1, 1]


def test_policies_see_and_give_the_new_numbers_in_all_kinds_of_lanes():
    for kind in ("native", "sync", "async"):
        envs = lanes("rlstm/TMaze-v0", "actions=3,1", kind, num_envs=2)
        assert envs.action_space == spaces.Discrete(2)
        envs.reset([1, 2])
        envs.step(np.array([0, 1]))
        if kind != "async":  # Its workers would say so on the screen.
            with pytest.raises((EnvironmentFailure, ValueError), match=r"outside Discrete\(2\)"):
                envs.step(np.array([1, 2]))
        envs.close()


@pytest.mark.parametrize("in_sight", [None, spaces.MultiBinary(3), spaces.Box(0, 1, (3,), np.int8)])
def test_a_mask_is_cut_to_the_actions_that_are_kept(in_sight):
    env = wrap(Masked(in_sight=in_sight), w.KeepActions, keep=[6, 5])
    masks = []
    for observation, info in (env.reset(seed=0), *((out[0], out[-1]) for out in map(env.step, (0, 1, 0)))):
        assert observation in env.observation_space
        masks.append(info["action_mask"].tolist())
        assert in_sight is None or observation["action_mask"].tolist() == masks[-1]
    assert masks == [[1, 0], [1, 1], [1, 0], [1, 1]]
    if in_sight is not None:
        assert env.observation_space["action_mask"].shape == (2,)

    vector = wrap(same_step(*[lambda: Masked(2, in_sight)] * 2), w.KeepActions, keep=[6, 5])
    observations, infos = vector.reset(seed=0)
    assert infos["action_mask"].tolist() == [[1, 0]] * 2
    observations, *_, infos = vector.step(np.array([0, 0]))
    assert observations in vector.observation_space
    assert infos["action_mask"].tolist() == [[1, 1]] * 2
    observations, *_, infos = vector.step(np.array([0, 0]))
    assert infos["action_mask"].tolist() == infos["final_info"]["action_mask"].tolist() == [[1, 0]] * 2
    if in_sight is not None:
        assert observations["action_mask"].tolist() == infos["final_obs"]["action_mask"].tolist() == [[1, 0]] * 2


def test_no_mask_stays_none():
    class Free(Counting):
        def reset(self, **kwargs):
            return super().reset(**kwargs)[0], {"action_mask": None}

    assert wrap(Free(), w.KeepActions, keep=[5]).reset()[1] == {"action_mask": None}


@pytest.mark.parametrize("mask", [[1, 1], np.ones((3, 4))])
def test_a_mask_of_another_size_is_named(mask):
    class Wrong(Counting):
        def reset(self, **kwargs):
            return super().reset(**kwargs)[0], {"action_mask": mask}

    with pytest.raises(ValueError, match=r"An action_mask has the shape .* one number for each of Discrete"):
        wrap(Wrong(), w.KeepActions, keep=[5]).reset()


@pytest.fixture
def masked_env():
    gym.register("rlstm-test/Masked-v0", Masked)
    yield "rlstm-test/Masked-v0"
    gym.registry.pop("rlstm-test/Masked-v0")


@pytest.mark.parametrize("in_sight", [None, spaces.MultiBinary(3)])
def test_policies_get_the_mask_of_the_actions_that_are_kept(masked_env, in_sight):
    envs = lanes(masked_env, "actions=6,5", num_envs=2, in_sight=in_sight)
    steps = [envs.reset([1, 2]), *(envs.step(np.array([0, 0])) for _ in range(4))]
    masks = [step.action_masks.tolist() for step in steps]
    assert masks == [[[True, bool(t % 2)]] * 2 for t in (0, 1, 2, 3, 0)]


class Targeted(Counting):
    """Says a target at every step: a teacher's action, or a number that is none."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def step(self, action):
        *outcome, info = super().step(action)
        return *outcome, info | {"target": self.target}


def test_who_answers_with_an_action_keeps_its_numbers():
    env = wrap(Targeted(6), w.KeepActions, keep=[5, 6])
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"info\['target'\], have the environment's numbers: leave actions out"):
        env.step(0)


def test_a_target_that_is_no_action_is_left_alone():
    env = wrap(Targeted(0.5), w.KeepActions, keep=[5, 6])
    env.reset(seed=0)
    assert env.step(0)[-1]["target"] == 0.5


# A part of MiniGrid's picture.


class Pictures(gym.Env):
    """Shows x, y and the step in each cell of a picture, alone or in a dict."""

    action_space = spaces.Discrete(2)

    def __init__(self, width=7, in_dict=False):
        self.width, self.in_dict = width, in_dict
        self.observation_space = spaces.Box(0, 255, (width, width, 3), np.uint8)
        if in_dict:
            self.observation_space = spaces.Dict({"image": self.observation_space, "direction": spaces.Discrete(4)})

    def _observe(self):
        x, y = np.indices((self.width, self.width))
        image = np.stack([x, y, np.full_like(x, self.t)], axis=-1).astype(np.uint8)
        return {"image": image, "direction": self.t} if self.in_dict else image

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        return self._observe(), 0.0, self.t == 2, False, {}


@pytest.mark.parametrize("in_dict", [False, True])
def test_the_near_view_is_what_is_ahead_of_the_agent(in_dict):
    env = wrap(Pictures(in_dict=in_dict), w.NearView, size=3)
    vector = wrap(same_step(*[lambda: Pictures(in_dict=in_dict)] * 2), w.NearView, size=3)
    seen, many = env.reset(seed=0)[0], vector.reset(seed=0)[0]
    for t in (0, 1):
        assert seen in env.observation_space
        assert many in vector.observation_space
        image = seen["image"] if in_dict else seen
        images = many["image"] if in_dict else many
        assert image[:, :, 0].tolist() == [[x] * 3 for x in (2, 3, 4)]
        assert image[:, :, 1].tolist() == [[4, 5, 6]] * 3
        assert (image[:, :, 2] == t).all()
        assert (images == image).all()
        assert not in_dict or seen["direction"] == t
        seen, many = env.step(0)[0], vector.step(np.zeros(2, int))[0]
    assert (seen["image"] if in_dict else seen)[1, 2].tolist() == [3, 6, 2]


def test_fewer_actions_and_a_near_view_of_a_native_env_stay_native_and_go_on():
    words = "actions=0,1,2 view=3 one_hot=11 previous"
    native, sync, other = (lanes("rlstm/MiniGridMemoryS7-v0", words, kind) for kind in ("native", "sync", "native"))
    assert (native.kind, native.action_space) == ("native", spaces.Discrete(3))
    assert native.observation_space == sync.observation_space
    left = trajectories(native, 80)
    assert_same(left, trajectories(sync, 80))
    state = native.get_state()
    actions = random_actions(native, 60, seed=1)
    expected = [native.step(one) for one in actions]
    other.set_state(state, [1, 2, 3])
    assert_same(expected, [other.step(one) for one in actions])


@pytest.mark.parametrize(("size", "most"), [(7, 0.0), (9, 0.06), (11, 0.1), (13, 0.06)])
def test_a_view_of_three_of_minigrids_seven_differs_in_walls_alone(size, most):
    """MiniGrid's own view of three is lit by its own cells alone; the larger picture has more light."""
    reason = "minigrid is not installed: pip install 'rlstm-torch[envs]'"
    memory = pytest.importorskip("minigrid.envs.memory", reason=reason)
    rng, steps, different = np.random.default_rng(0), 0, 0
    large = wrap(memory.MemoryEnv(size=size), w.NearView, size=3)
    small = memory.MemoryEnv(size=size, agent_view_size=3)
    assert large.observation_space["image"] == small.observation_space["image"]
    while steps < 2_000:
        seed, over = int(rng.integers(2**31)), False
        ours, theirs = large.reset(seed=seed)[0], small.reset(seed=seed)[0]
        while not over:
            unequal = (ours["image"] != theirs["image"]).any(axis=-1)
            assert (ours["image"][unequal] == (2, 5, 0)).all()  # Walls,
            assert (theirs["image"][unequal] == 0).all()  # which MiniGrid doesn't show,
            assert not unequal.any() or (small.agent_dir in (1, 3) and unequal[:, 0].sum() == unequal.sum())  # afar.
            steps, different = steps + 1, different + bool(unequal.any())
            action = int(rng.choice(3, p=[0.2, 0.2, 0.6]))
            ours, *_ = large.step(action)
            theirs, _, terminated, truncated, _ = small.step(action)
            over = terminated or truncated
    assert different / steps <= most
    assert (different > 0) == (most > 0)


# Symbols.


class Symbols(gym.Env):
    """Shows the picture [[t, 2], [1, 3 - t]] of symbols, what can't be one, and text."""

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (2, 2), np.uint8),
            "pair": spaces.Tuple((spaces.Box(-1, 1, (1,), np.float32), spaces.Box(0, 9, (1,), np.int64))),
            "mission": spaces.Text(9),
            "action_mask": spaces.Box(0, 1, (2,), np.int8),
        }
    )
    action_space = spaces.Discrete(2)

    def _observe(self):
        image = np.array([[self.t, 2], [1, 3 - self.t]], np.uint8)
        pair = (np.array([0.5], np.float32), np.array([self.t]))
        return {"image": image, "pair": pair, "mission": "go", "action_mask": np.ones(2, np.int8)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        return self._observe(), 0.0, self.t == 3, False, {}


def test_one_hot_shows_every_symbol_as_a_vector():
    env = wrap(Symbols(), w.OneHot, count=4)
    assert env.observation_space["image"] == spaces.MultiBinary(16)
    assert env.observation_space["pair"][1] == spaces.MultiBinary(4)
    seen = [env.reset()[0], *(env.step(0)[0] for _ in range(3))]
    for t, observation in enumerate(seen):
        assert observation in env.observation_space
        vectors = observation["image"].reshape(4, 4)
        assert vectors.sum() == 4
        assert vectors.argmax(1).tolist() == [t, 2, 1, 3 - t]
        assert observation["pair"][0] == np.float32(0.5)
        assert observation["pair"][1].tolist() == [int(t == symbol) for symbol in range(4)]
        assert observation["mission"] == "go"
        assert observation["action_mask"].tolist() == [1, 1]


def test_one_hot_reads_the_same_in_vector_envs():
    class Textless(Symbols):
        observation_space = spaces.Dict({k: v for k, v in Symbols.observation_space.items() if k != "mission"})

        def _observe(self):
            return {key: value for key, value in super()._observe().items() if key != "mission"}

    envs = wrap(same_step(Textless, Textless), w.OneHot, count=4)
    single = wrap(Textless(), w.OneHot, count=4)
    many, one = envs.reset()[0], single.reset()[0]
    for _ in range(3):
        np.testing.assert_array_equal(many["image"][1], one["image"])
        np.testing.assert_array_equal(many["pair"][1][0], one["pair"][1])
        many, one = envs.step(np.zeros(2, int))[0], single.step(0)[0]


def test_one_hot_of_no_lanes_is_empty():
    class Digits(Counting):
        observation_space = spaces.Box(0, 9, (2, 3), np.uint8)

    transform = w.OneHot(Digits(), count=10)
    assert transform.begin(np.zeros(0, np.int64), np.zeros((0, 2, 3), np.uint8)).shape == (0, 60)


def test_one_hot_refuses_symbols_beyond_its_count():
    env = wrap(Symbols(), w.OneHot, count=3)
    with pytest.raises(ValueError, match="reads the numbers 0 to 2, but 0 to 3 are seen: use one_hot=4"):
        env.reset()


# Refusals.


@pytest.mark.parametrize(
    ("make_env", "told"),
    [
        (lambda: wrap(gym.make("CartPole-v1"), w.MaskBox, keep=[4]), r"\[4\]; it must list .* from 0 to 3"),
        (lambda: wrap(gym.make("CartPole-v1"), w.MaskBox, keep=[]), "one or more different indices"),
        (lambda: wrap(gym.make("CartPole-v1"), w.MaskBox, keep=[1, 1]), "one or more different indices"),
        (lambda: wrap(gym.make("CartPole-v1"), w.MaskBox, keep=[-1]), "an index of mask must be an integer >= 0"),
        (lambda: wrap(gym.make("FrozenLake-v1"), w.MaskBox, keep=[0]), r"entries of a vector, but .*Discrete\(16\)"),
        (
            lambda: wrap(Counting(), w.Flicker, probability=1.5),
            r"flicker must be a number in \[0.0, 1.0\], but got 1.5",
        ),
        (lambda: wrap(Counting(), w.StickyAction, probability=-1), "sticky must be a number"),
        (lambda: wrap(Composed(), w.StickyAction), "action mask forbids"),
        (lambda: wrap(gym.make("Taxi-v4"), w.StickyAction).reset(seed=0), "action mask forbids"),
        (lambda: wrap(Counting(), w.Noise, std=float("nan")), "noise must be a number"),
        (lambda: wrap(gym.make("FrozenLake-v1"), w.Noise, std=1.0), "noise is added to a Box"),
        (lambda: wrap(Counting(), w.OneHot, count=4), "one_hot reads whole numbers of a Box, but"),
        (lambda: wrap(Symbols(), w.OneHot, count=1), "count of one_hot must be an integer >= 2"),
        (lambda: wrap(Counting(), w.Delay, steps=0), "delay must be an integer >= 1"),
        (lambda: wrap(gym.make("CartPole-v1"), w.MarkovianView), "hidden_state.*CartPoleEnv doesn't have"),
        (lambda: wrap(gym.make("Pendulum-v1"), w.KeepActions, keep=[0]), r"a Discrete space's, but .*Box"),
        (lambda: wrap(gym.make("CartPole-v1"), w.KeepActions, keep=[0, 2]), r"\[0, 2\]; .* actions from 0 to 1"),
        (lambda: wrap(gym.make("CartPole-v1"), w.KeepActions, keep=[1, 1]), "one or more different actions"),
        (lambda: wrap(gym.make("CartPole-v1"), w.KeepActions, keep=[]), "one or more different actions"),
        (lambda: wrap(Counting(), w.KeepActions, keep=[4]), "one of actions must be an integer >= 5, but got 4"),
        (lambda: wrap(Masked(in_sight=spaces.MultiBinary(2)), w.KeepActions, keep=[5]), "make it MultiBinary or a Box"),
        (lambda: wrap(gym.make("CartPole-v1"), w.NearView, size=3), "view cuts MiniGrid's picture"),
        (lambda: wrap(Composed(), w.NearView, size=7), "it must be odd and less than the picture's width, 2"),
        (
            lambda: wrap(Pictures(), w.NearView, size=7),
            "size of view is 7; it must be odd and less than the picture's width, 7",
        ),
        (
            lambda: wrap(Pictures(), w.NearView, size=4),
            "size of view is 4; it must be odd and less than the picture's width, 7",
        ),
        (lambda: wrap(Pictures(), w.NearView, size=1), "size of view must be an integer >= 3, but got 1"),
        (lambda: wrap(SyncVectorEnv([Counting]), w.MaskBox, keep=[0]), "needs SAME_STEP"),
        (lambda: wrap(same_step(Composed), w.Flicker), "have text"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(make_env, told):
    with pytest.raises(ValueError, match=told):
        make_env()


def test_a_space_that_can_not_be_changed_is_named():
    class Sequences(Counting):
        observation_space = spaces.Sequence(spaces.Discrete(3))

    with pytest.raises(ValueError, match=r"Sequence.* can't be changed"):
        wrap(Sequences(), w.Delay, steps=1)


def test_every_wrapper_reads_its_usage_and_serves_single_and_vector_envs():
    for name, row in w.WRAPPERS.items():
        single = gym.envs.registration.load_env_creator(row.entry_point)
        assert (single, gym.envs.registration.load_env_creator(single.vector_entry_point)) == (
            TransformedEnv,
            TransformedVectorEnv,
        )
        assert row.usage.partition("=")[0] == name
        assert load_class("transform", row.read(row.usage.partition("=")[2] or None)["transform"], w.Transform)
        assert row.effect


def test_the_streams_of_the_wrappers_are_those_of_stored_runs():
    names = [
        "MaskBox",
        "OneHot",
        "Flicker",
        "Noise",
        "Delay",
        "Hold",
        "StickyAction",
        "PreviousActionReward",
        "MarkovianView",
        "KeepActions",
        "NearView",
    ]
    assert [row.transform.__name__ for row in w.WRAPPERS.values()] == names
    assert [row.transform.stream for row in w.WRAPPERS.values()] == [
        *(f"{one}Change" for one in names[:-3]),
        *names[-3:],
    ]
    env = wrap(Counting(length=100), w.Flicker)
    env.reset(seed=7)
    word = np.random.SeedSequence([7, zlib.crc32(b"FlickerChange"), 0]).generate_state(1, np.uint64)[0]
    assert env.transform.random.keys[0] == np.random.SeedSequence(int(word)).generate_state(1, np.uint64)[0]


class Doubling(w.Transform):
    """A transform as a user writes it: one class for single and vector envs."""

    stream = "Doubling"

    def __init__(self, env, factor=2):
        super().__init__(env)
        self.factor = factor

    def see(self, rows, observations):
        return observations * self.factor


def test_a_transform_of_a_user_serves_single_and_vector_envs():
    single = wrap(Counting(length=2), Doubling, factor=3)
    vector = wrap(same_step(*[lambda: Counting(length=2)] * 2), Doubling, factor=3)
    first = single.reset(seed=0)[0]
    assert first.tolist() == [0, 30, 0]
    assert vector.reset(seed=0)[0].tolist() == [[0, 30, 0]] * 2
    assert single.step(5)[0].tolist() == vector.step([5, 5])[0][1].tolist() == [3, 33, 0]
    assert vector.step([5, 5])[4]["final_obs"].tolist() == [[6, 36, 0]] * 2


@pytest.mark.parametrize("transform", ["flicker", "rlstm.envs.wrappers:Flick", TransformedEnv])
def test_what_is_no_transform_is_refused(transform):
    with pytest.raises(ValueError, match="transform must be a Transform or its name, such as 'module:Class', but got"):
        wrap(Counting(), transform)


@pytest.mark.parametrize(("wrong", "told"), [(1.5, "needs integers"), (7, "outside Discrete"), ([0, 1], "shape")])
def test_sticky_refuses_what_the_env_refuses_whatever_is_repeated(wrong, told):
    for probability in (0.0, 1.0):
        env = wrap(gym.make("rlstm/TMaze-v0"), w.StickyAction, probability=probability)
        env.reset(seed=0)
        env.step(1)
        with pytest.raises(ValueError, match=told):
            env.step(wrong)
