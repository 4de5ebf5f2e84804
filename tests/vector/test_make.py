"""How lanes are made, that all kinds of them live through the same, and the many forms of what vector envs return."""

import functools
import os
import subprocess
import sys
import textwrap
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import rlstm.envs  # noqa: F401 - registers them.
from rlstm.core.errors import EnvironmentFailure, UnknownNameError
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.rollouts.collect import collect, start
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec
from rlstm.vector.sub_env import SubEnv
from rlstm.vector.workers import WorkerEnvs
from tests import kit

SHORT = {
    "rlstm/TMaze-v0": {"corridor_length": 2, "noise": True},
    "rlstm/RepeatPrevious-v0": {"k": 2},
    "rlstm/CartPoleNoVel-v0": {},
}
TRIALS = MemoryConfig("trial", episodes_per_trial=2)


def lanes(env_id, kind="auto", memory=None, num_envs=3, context=None, **env_kwargs):
    config = EnvConfig(env=env_id, env_kwargs=env_kwargs, num_envs=num_envs, vectorization=kind)
    return make(resolve_spec(config), config, memory or MemoryConfig(), context=context)


def played(envs, memory=None, num_steps=60):
    """Everything that a policy stores while it plays in the lanes, and its statistics."""
    policy = kit.make_policy(envs.observation_space, envs.action_space, memory=memory, noise=0.05)
    try:
        collector_state = start(policy, envs, integer_seeds(0, "envs", envs.num_envs))
        rollout = collect(policy, envs, collector_state, num_steps)
    finally:
        envs.close()
    return kit.rollout_leaves(rollout), repr(collector_state.statistics.state_dict())


def assert_same_play(left, right):
    for (name, one), other in zip(left[0].items(), right[0].values(), strict=True):
        assert one.equal(other), name
    assert left[1] == right[1]


@pytest.mark.parametrize("env_id", SHORT)
def test_native_sync_and_async_envs_are_the_same(env_id):
    native = played(lanes(env_id, "native", **SHORT[env_id]))
    assert (native[0]["terminated"] | native[0]["truncated"]).any()
    for kind in ("sync", "async"):
        assert_same_play(native, played(lanes(env_id, kind, **SHORT[env_id])))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_native_sync_and_async_envs_have_the_same_trials(kind):
    native = played(lanes("rlstm/TMaze-v0", "native", TRIALS, corridor_length=2), TRIALS)
    other = played(lanes("rlstm/TMaze-v0", kind, TRIALS, corridor_length=2), TRIALS)
    assert_same_play(native, other)
    ends = native[0]["terminated"] | native[0]["truncated"]
    assert native[0]["credit_cuts"].any()
    assert (ends & ~native[0]["credit_cuts"]).any()


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_workers_of_every_start_method_are_the_same(context):
    native = played(lanes("rlstm/TMaze-v0", "native", num_envs=2, corridor_length=2))
    workers = lanes("rlstm/TMaze-v0", "async", num_envs=2, context=context, corridor_length=2)
    assert_same_play(native, played(workers))


def test_other_seeds_are_other_episodes():
    """The control: equality of the kinds is no accident of an env without randomness."""
    envs = lanes("rlstm/TMaze-v0", noise=True)
    first = envs.reset(integer_seeds(0, "envs", 3)).observations
    actions = np.ones(3, dtype=np.int64)
    first = envs.step(actions).observations
    envs.reset(integer_seeds(1, "envs", 3))
    assert (envs.step(actions).observations[:, 0] != first[:, 0]).all()
    assert len(set(first[:, 0].tolist())) == 3


def test_streams_of_seeds_share_no_env():
    """Integer seeds s and s + 1 would share all but one lane, and evaluation would see training's episodes."""
    streams = [integer_seeds(seed, stream, 64) for seed in range(4) for stream in ("envs", "evaluation")]
    everything = [seed for stream in streams for seed in stream]
    assert len(set(everything)) == len(everything)
    assert all(type(seed) is int and 0 <= seed < 2**63 for seed in everything)
    assert integer_seeds(3, "envs", 5) == integer_seeds(3, "envs", 64)[:5]


def test_each_env_is_reset_with_its_own_seed():
    seeds = []
    envs = kit.scripted("...", "...", "...", kind="sync")
    for env in envs.envs.envs:
        reset = env.unwrapped.reset
        env.unwrapped.reset = lambda *, seed=None, options=None, reset=reset: seeds.append(seed) or reset()
    envs.reset([7, 5, 2**62])
    assert seeds == [7, 5, 2**62]


# Which kind is taken.


@pytest.mark.parametrize("env_id", SHORT)
def test_our_envs_run_natively_unless_told_otherwise(env_id):
    for kind, taken in (("auto", "native"), ("sync", "sync")):
        envs = lanes(env_id, kind, **SHORT[env_id])
        envs.close()
        assert envs.kind == taken


def test_a_native_env_that_resets_in_the_next_step_is_left_for_single_ones():
    envs = lanes("CartPole-v1")
    envs.close()
    assert envs.kind == "sync"
    assert "3 single envs in this process" in envs.description
    assert "NEXT_STEP" in envs.description
    assert envs.envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP


def test_a_native_env_that_resets_in_the_next_step_is_refused_by_name():
    with pytest.raises(EnvironmentFailure, match=r"'CartPole-v1' can't run natively: .*NEXT_STEP.*sync or async"):
        lanes("CartPole-v1", "native")


def test_an_env_without_a_batched_form_runs_as_single_ones():
    envs = lanes("Acrobot-v1")
    envs.close()
    assert "it has no batched form" in envs.description
    with pytest.raises(EnvironmentFailure, match="it has no batched form"):
        lanes("Acrobot-v1", "native")


@pytest.mark.parametrize("kind", ["auto", "native", "sync", "async"])
def test_a_wrong_argument_is_named_before_any_worker_starts(kind):
    with pytest.raises(EnvironmentFailure, match=r"'rlstm/TMaze-v0'.*corridor_lenght"):
        lanes("rlstm/TMaze-v0", kind, corridor_lenght=3)
    with pytest.raises(EnvironmentFailure, match=r"'rlstm/TMaze-v0'.*corridor_length"):
        lanes("rlstm/TMaze-v0", kind, corridor_length=0)


@pytest.mark.parametrize("kind", ["auto", "sync"])
def test_trials_are_refused_where_the_env_does_not_keep_its_task(kind):
    with pytest.raises(EnvironmentFailure, match=r"RepeatPrevious.*supports_new_task.*insist"):
        lanes("rlstm/RepeatPrevious-v0", kind, TRIALS)
    with pytest.raises(EnvironmentFailure, match=r"CartPole-v1.*supports_new_task.*insist"):
        lanes("CartPole-v1", kind, TRIALS)


@pytest.mark.parametrize("env_id", ["rlstm/RepeatPrevious-v0", "CartPole-v1"])
@pytest.mark.parametrize("kind", ["auto", "sync"])
def test_trials_over_any_env_can_be_insisted_on(kind, env_id):
    memory = MemoryConfig("trial", episodes_per_trial=2, insist_on_trials=True)
    leaves, _ = played(lanes(env_id, kind, memory), memory, num_steps=210)
    ends = (leaves["terminated"] | leaves["truncated"])[:, 0]
    assert leaves["credit_cuts"][ends, 0].tolist() == [episode % 2 == 1 for episode in range(int(ends.sum()))]


class VectorEnvWithoutTrials(gym.vector.VectorEnv):
    """Takes any argument and has never heard of trials."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs=1, **anything):
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)


@pytest.fixture
def env_without_trials():
    gym.register(
        "rlstm-test/WithoutTrials-v0",
        functools.partial(kit.ScriptedEnv, "..E"),
        vector_entry_point=VectorEnvWithoutTrials,
    )
    yield "rlstm-test/WithoutTrials-v0"
    gym.registry.pop("rlstm-test/WithoutTrials-v0")


def test_a_native_env_that_ignores_the_number_of_episodes_gets_no_trials(env_without_trials):
    """Without the declaration every episode would silently count as a trial."""
    assert lanes(env_without_trials).kind == "native"
    envs = lanes(env_without_trials, memory=TRIALS)
    assert envs.kind == "sync"
    assert "supports_new_task" in envs.description
    with pytest.raises(EnvironmentFailure, match="supports_new_task"):
        lanes(env_without_trials, "native", TRIALS)


# Names and imports.


@pytest.mark.parametrize(("wrong", "near"), [("rlstm/TMaz-v0", "rlstm/TMaze-v0"), ("CartPol-v1", "CartPole-v1")])
def test_an_unknown_id_is_answered_with_the_nearest(wrong, near):
    with pytest.raises(UnknownNameError, match=f"'{wrong}'.*'{near}'.*--env-import"):
        resolve_spec(EnvConfig(env=wrong))


@pytest.mark.parametrize("config", [{"env_import": ("no_such_module_xyz",)}, {"env": "no_such_module_xyz:A-v0"}])
def test_a_module_that_is_not_there_is_named(config):
    with pytest.raises(EnvironmentFailure, match=r"'no_such_module_xyz'.*ModuleNotFoundError"):
        resolve_spec(EnvConfig(**{"env": "CartPole-v1", **config}))


def test_a_module_that_fails_to_import_is_named_with_its_own_words(tmp_path, monkeypatch):
    (tmp_path / "broken_envs_module.py").write_text("raise OSError('no simulator here')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvironmentFailure, match="'broken_envs_module': OSError: no simulator here"):
        resolve_spec(EnvConfig(env="CartPole-v1", env_import=("broken_envs_module",)))


def test_envs_are_at_least_one():
    with pytest.raises(ValueError, match="num_envs is 0"):
        EnvConfig(env="CartPole-v1", num_envs=0)


# The many forms of infos.


class AnyForm(gym.vector.VectorEnv):
    """Three lanes, of which the first and the third end at every step; ``infos`` is whatever the test wants."""

    num_envs = 3
    single_action_space = gym.spaces.Discrete(2)

    def __init__(self, infos, observation_space=None):
        self.infos = infos
        self.single_observation_space = observation_space or gym.spaces.Box(-1, 1, (2,), np.float32)

    def step(self, actions):
        ends = np.array([True, False, True])
        return np.zeros((3, 2), dtype=np.float32), np.zeros(3), ends, ~ends & False, self.infos


FINAL = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
OBJECTS = np.array([None, None, None], dtype=object)
OBJECTS[0], OBJECTS[2] = FINAL[0], FINAL[2]
ENDED = np.array([True, False, True])
UNKNOWN = [None, None]


@pytest.mark.parametrize(
    ("infos", "successes"),
    [
        pytest.param({"final_obs": FINAL}, UNKNOWN, id="full array and nothing else"),
        pytest.param({"final_obs": OBJECTS, "_final_obs": ENDED}, UNKNOWN, id="objects"),
        pytest.param(
            {
                "final_obs": OBJECTS,
                "_final_obs": ENDED,
                "final_info": {"is_success": np.array([True, True, False]), "_is_success": ENDED},
                "_final_info": ENDED,
            },
            [1, 0],
            id="Gymnasium's own",
        ),
        pytest.param({"final_obs": FINAL, "final_info": {"is_success": np.array([0, 1, 1])}}, [0, 1], id="no masks"),
        pytest.param({"final_obs": FINAL, "is_success": np.array([1.0, 0.0, 0.0])}, [1, 0], id="no final_info"),
        pytest.param(
            {
                "final_obs": FINAL,
                "final_info": {"is_success": np.array([1, 0, 0]), "_is_success": [True, False, False]},
            },
            [1, None],
            id="one lane doesn't say",
        ),
        pytest.param({"final_obs": FINAL, "final_info": {"other": np.zeros(3)}}, UNKNOWN, id="of something else"),
        pytest.param(
            {"final_obs": FINAL, "final_info": np.array([{"a": 1}, None, {"a": 2}], dtype=object)}, UNKNOWN, id="list"
        ),
    ],
)
def test_final_observations_and_successes_are_found_in_every_form(infos, successes):
    step = VectorEnvs(AnyForm(infos), "native", "").step(np.zeros(3, dtype=np.int64))
    assert step.finished.tolist() == [0, 2]
    assert step.final_observations.tolist() == FINAL[[0, 2]].tolist()
    assert [None if np.isnan(one) else one for one in step.successes] == successes
    assert step.trial_ends.tolist() == [True, False, True]


LAST = np.array([0.5, 9.0, 0.25])  # Of which only those of the first and the third lane are of a last step.
RUNNING = np.array([9.0, 0.75, 9.0])


@pytest.mark.parametrize(
    ("infos", "regrets"),
    [
        pytest.param({}, None, id="not given"),
        pytest.param({"regret": RUNNING, "_regret": ~ENDED}, [None, 0.75, None], id="not given at the end"),
        pytest.param(
            {"regret": RUNNING, "_regret": ~ENDED, "final_info": {"regret": LAST, "_regret": ENDED}},
            [0.5, 0.75, 0.25],
            id="Gymnasium's own",
        ),
        pytest.param({"regret": RUNNING, "final_info": {"regret": LAST}}, [0.5, 0.75, 0.25], id="no masks"),
        pytest.param({"final_info": {"regret": LAST, "_regret": ENDED}}, [0.5, None, 0.25], id="only at the end"),
        pytest.param({"regret": RUNNING, "final_info": {"other": LAST}}, [None, 0.75, None], id="of the reset"),
        pytest.param({"regret": np.array([1, 2, 3])}, [1, 2, 3], id="no final_info"),
        pytest.param({"regret": RUNNING, "_regret": np.zeros(3, dtype=bool)}, None, id="masked everywhere"),
        pytest.param({"regret": np.array(["a", "b", "c"])}, None, id="words"),
        pytest.param({"regret": np.zeros((3, 2))}, None, id="several a lane"),
    ],
)
def test_regrets_of_the_step_are_found_in_every_form(infos, regrets):
    step = VectorEnvs(AnyForm({"final_obs": FINAL, **infos}), "native", "").step(np.zeros(3, dtype=np.int64))
    found = None if step.regrets is None else [None if np.isnan(one) else one for one in step.regrets]
    assert found == regrets


@pytest.mark.parametrize(
    ("target", "found"),
    [
        pytest.param(np.array([-1, 2, 0]), [None, 2, 0], id="a class below 0"),
        pytest.param(np.array([np.nan, 2.5, 0.0]), [None, 2.5, 0.0], id="no number"),
        pytest.param(np.array([-1.5, 2.5, 0.0]), [-1.5, 2.5, 0.0], id="numbers below 0"),
        pytest.param(np.array([[1, -1], [2, 0], [0, 0]]), [None, [2, 0], [0, 0]], id="one of two classes below 0"),
        pytest.param(np.array([-1, -1, -1]), None, id="nothing"),
    ],
)
def test_a_target_that_means_nothing_asks_nothing(target, found):
    infos = {"final_obs": FINAL, "target": target, "final_info": {"target": target}}
    step = VectorEnvs(AnyForm(infos), "native", "").step(np.zeros(3, dtype=np.int64))
    if found is None:
        assert step.targets is None
        assert step.has_target is None
    else:
        rows = zip(step.targets.tolist(), step.has_target, strict=True)
        assert [value if given else None for value, given in rows] == found


def test_what_an_env_says_of_regret_at_a_reset_is_of_no_step():
    class TellsAtReset(AnyForm):
        def reset(self, *, seed=None, options=None):
            return np.zeros((3, 2), dtype=np.float32), {"regret": LAST}

    assert VectorEnvs(TellsAtReset({}), "native", "").reset([0, 1, 2]).regrets is None


@pytest.mark.parametrize("kind", ["native", "sync", "async"])
def test_a_reset_has_no_regret_and_an_env_without_it_never_has(kind):
    envs = lanes("rlstm/BernoulliBandit-v0", kind)
    assert envs.reset([0, 1, 2]).regrets is None
    assert envs.step(np.zeros(3, dtype=np.int64)).regrets.shape == (3,)
    envs.close()
    envs = lanes("rlstm/TMaze-v0", kind)
    envs.reset([0, 1, 2])
    assert envs.step(np.ones(3, dtype=np.int64)).regrets is None
    envs.close()


def test_final_observations_of_a_dict_space_are_a_dict_in_either_form():
    leaves = {"a": FINAL, "b": np.array([7, 8, 9])}
    objects = np.array([{key: leaf[lane] for key, leaf in leaves.items()} for lane in range(3)], dtype=object)
    for final in (leaves, objects):
        step = VectorEnvs(AnyForm({"final_obs": final}), "native", "").step(np.zeros(3, dtype=np.int64))
        assert {key: leaf.tolist() for key, leaf in step.final_observations.items()} == {
            "a": FINAL[[0, 2]].tolist(),
            "b": [7, 9],
        }


def test_a_native_env_that_forgets_the_final_observations_is_told_so():
    with pytest.raises(EnvironmentFailure, match="final_obs"):
        VectorEnvs(AnyForm({}), "native", "").step(np.zeros(3, dtype=np.int64))


def test_where_only_some_envs_end_a_trial_only_those_begin_one():
    infos = {"final_obs": FINAL, "trial_start": np.array([False, True, True])}
    step = VectorEnvs(AnyForm(infos), "native", "").step(np.zeros(3, dtype=np.int64))
    assert step.trial_ends.tolist() == [False, False, True]  # Lane 1 goes on.


class ComposedEnv(gym.Env):
    """A Dict of a Tuple and a number: observations that can't be one array."""

    observation_space = gym.spaces.Dict(
        {
            "pair": gym.spaces.Tuple((gym.spaces.Box(0, 9, (2,), np.float32), gym.spaces.Discrete(9))),
            "bits": gym.spaces.MultiBinary(2),
        }
    )
    action_space = gym.spaces.MultiDiscrete([2, 3])

    def _observe(self):
        return {"pair": (np.full(2, self.t, dtype=np.float32), self.t), "bits": np.array([1, 0], dtype=np.int8)}

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        return self._observe(), 1.0, False, self.t == 3, {}


def test_nested_observations_and_their_final_ones_reach_the_rollout():
    functions = [lambda lane=lane: SubEnv(ComposedEnv(), lane) for lane in range(2)]
    vector = gym.vector.SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP)
    envs = VectorEnvs(vector, "sync", "")
    policy = kit.make_policy(envs.observation_space, envs.action_space)
    rollout = collect(policy, envs, start(policy, envs, [0, 1]), 7)
    assert rollout.inputs.observations["pair"][1][:, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert rollout.truncated[:, 0].tolist() == [False, False, True, False, False, True, False]
    assert rollout.replay(policy).log_probs.sub(rollout.log_probs).abs().max() < 1e-12


# Exact state.


@pytest.mark.parametrize("memory", [MemoryConfig(), TRIALS], ids=["episodes", "trials"])
@pytest.mark.parametrize("kind", ["native", "sync", "async"])
def test_envs_go_on_from_their_state_bit_for_bit(kind, memory):
    generator = np.random.default_rng(0)
    actions = generator.integers(4, size=(60, 2))
    envs = lanes("rlstm/TMaze-v0", kind, memory, num_envs=2, corridor_length=2, noise=True)
    envs.reset([3, 4])
    for t in range(25):
        envs.step(actions[t])
    state = envs.get_state()
    other = lanes("rlstm/TMaze-v0", kind, memory, num_envs=2, corridor_length=2, noise=True)
    other.reset([9, 9])
    other.set_state(state, [1, 2])
    for t in range(25, 60):
        expected, got = envs.step(actions[t]), other.step(actions[t])
        for one, two in zip(expected, got, strict=True):
            np.testing.assert_array_equal(one, two)
    for one in (envs, other):  # Steps in messages go on too.
        with pytest.raises(EnvironmentFailure, match="at its step 61"):
            one._check(np.array([[np.nan]]), np.zeros(1)) if one.step(actions[0]) else None
    envs.close()
    other.close()


def test_envs_whose_envs_have_no_state_say_so():
    for envs in (lanes("CartPole-v1"), VectorEnvs(AnyForm({}), "native", "")):
        envs.reset([0, 1, 2]) if envs.kind == "sync" else None
        assert envs.get_state() is None


# Workers.


def test_a_worker_that_breaks_names_its_env_and_the_rest_can_be_closed():
    envs = lanes("rlstm/TMaze-v0", "async", num_envs=2)
    envs.reset([0, 1])
    with pytest.raises(EnvironmentFailure, match="Env 1, its step 1: step raised: ValueError"):
        envs.step(np.array([0, 99]))
    envs.close()


@pytest.mark.skipif(os.name != "posix", reason="signals to a process group")
def test_ctrl_c_in_a_terminal_leaves_the_workers_to_the_main_process(tmp_path):
    """A terminal sends SIGINT to the workers too; they must outlive it, for the run to end in order."""
    program = textwrap.dedent("""
        import os, signal
        import numpy as np
        import rlstm.envs
        from rlstm.core.memory_boundaries import MemoryConfig
        from rlstm.vector.config import EnvConfig
        from rlstm.vector.make import make, resolve_spec
        config = EnvConfig(env="rlstm/TMaze-v0", num_envs=2, vectorization="async")
        envs = make(resolve_spec(config), config, MemoryConfig())
        envs.reset([0, 1])
        caught = []
        signal.signal(signal.SIGINT, lambda *_: caught.append(1))
        os.killpg(0, signal.SIGINT)
        for _ in range(20):
            envs.step(np.ones(2, dtype=np.int64))
        envs.close()
        print("in order", caught)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, start_new_session=True, check=False
    )
    assert done.stdout == "in order [1]\n", done.stderr
    assert done.returncode == 0


class EndsItsProcess(kit.ScriptedEnv):
    """Ends the process at its second step, as a simulator does that crashes."""

    def step(self, action):
        if self.t == 1 and self.lane == 1:
            os._exit(3)
        return super().step(action)


class CannotBeClosed(kit.ScriptedEnv):
    closed: ClassVar[list] = []

    def close(self):
        self.closed.append(self.lane)
        if self.lane == 0:
            raise RuntimeError("the port is busy")


def asynchronous(env_type):
    functions = [functools.partial(lambda lane: SubEnv(env_type("....", lane), lane), lane) for lane in range(2)]
    first = functions[0]()
    spaces = {"observation_space": first.observation_space, "action_space": first.action_space}
    return VectorEnvs(WorkerEnvs(functions, **spaces), "async", "")


def test_a_worker_that_dies_is_named_with_its_exit_code_and_the_rest_is_closed():
    envs = asynchronous(EndsItsProcess)
    envs.reset([0, 0])
    envs.step(np.zeros(2, dtype=np.int64))
    with pytest.raises(
        EnvironmentFailure, match="The worker process of env 1 ended with the exit code 3 at its step 2"
    ):
        envs.step(np.zeros(2, dtype=np.int64))
    envs.close()
    assert not any(process.is_alive() for process in envs.envs.processes)


def test_an_env_that_can_not_be_closed_is_told_of_and_the_others_are_closed():
    CannotBeClosed.closed.clear()
    functions = [lambda lane=lane: SubEnv(CannotBeClosed("....", lane), lane) for lane in range(3)]
    vector = gym.vector.SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP)
    envs = VectorEnvs(vector, "sync", "")
    with pytest.warns(UserWarning, match="Env 0 could not be closed: RuntimeError: the port is busy"):
        envs.close()
    assert CannotBeClosed.closed == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:Env 0 could not be closed:UserWarning")
def test_workers_whose_env_can_not_be_closed_end():
    envs = asynchronous(CannotBeClosed)
    envs.reset([0, 0])
    envs.close()
    assert not any(process.is_alive() for process in envs.envs.processes)
