"""Evaluation of bidirectional memories: episodes are read before they are answered, and label errors are counted."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlstm.envs  # noqa: F401 - registers our envs.
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.memory_boundaries import MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.evaluation.evaluate import evaluate
from rlstm.policies.inputs import PolicyInputs
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec
from tests import kit

SHORT = {"min_labels": 1, "max_labels": 3, "max_duration": 5}


def lanes(kind="native", num_envs=3, env="rlstm/SpokenStrings-v0", **env_kwargs):
    config = EnvConfig(env=env, env_kwargs=env_kwargs, num_envs=num_envs, vectorization=kind)
    return make(resolve_spec(config), config, MemoryConfig())


def policy_for(envs, **config):
    return kit.make_policy(envs.observation_space, envs.action_space, bidirectional=True, **config)


class Foresight(gym.Env):
    """Shows 0 or 1 at each of 3 steps; the right answer is what the next step will show, 0 at the last one."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, echoes: bool = False) -> None:
        self.echoes, self.shown = echoes, [0] * 4

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shown, self.t = [*self.np_random.integers(2, size=3).tolist(), 0], 0
        return np.array([self.shown[0]], dtype=np.float32), {}

    def step(self, action):
        is_right = action == self.shown[self.t + 1]
        self.t += 1
        shown = 1 - int(action) if self.echoes else self.shown[self.t]
        return np.array([shown], dtype=np.float32), float(is_right), self.t == 3, False, {"is_success": bool(is_right)}


gym.register("test/Foresight-v0", Foresight)


def clairvoyant(envs):
    """A policy made by hand: the memory of the future keeps the last observation it has read, that of the next step.

    Reading back, unit 0 is the sign of the present observation, unit 1 that of unit 0 one step later.
    """
    config = {"cell": "elman", "hidden_size": 2, "encoder_sizes": (), "noise": 0.0}
    policy = policy_for(envs, **config)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        future = dict(policy.actor.cell.future.named_parameters())
        future["weight_ih"].copy_(torch.tensor([[9.0], [0.0]]))
        future["weight_hh"].copy_(torch.tensor([[0.0, 0.0], [9.0, 0.0]]))
        head = policy.policy_head[-1]
        head.weight[1, 3] = 9.0
        head.bias[1] = -4.0
    return policy


def test_a_memory_of_the_future_answers_what_is_still_to_come():
    envs = lanes("sync", 4, "test/Foresight-v0")
    result = evaluate(clairvoyant(envs), envs, 40, seed=0)
    assert (result.returns == 3.0).all()
    ablated = evaluate(clairvoyant(envs), envs, 40, seed=0, ablate_memory=True)
    assert 1.2 < ablated.mean_return < 2.6


def test_what_depends_on_the_answers_is_refused():
    envs = lanes("sync", 4, "test/Foresight-v0", echoes=True)
    with pytest.raises(EnvironmentFailure, match=r"showed something else at step [23] when it was played again"):
        evaluate(clairvoyant(envs), envs, 40, seed=0)


def test_answers_are_those_of_the_whole_episode_read_alone():
    envs = lanes(num_envs=3, **SHORT)
    policy = policy_for(envs)
    result = evaluate(policy, envs, 6, seed=0, deterministic=True)
    expected = []
    for lane in range(3):
        one = lanes(num_envs=3, **SHORT)
        task = one.envs.unwrapped.task
        step = one.reset(integer_seeds(0, "evaluation", 3))
        for _ in range(2):
            length, strip = int(task.lengths[lane]), task.strips[lane].copy()
            inputs = torch.as_tensor(strip[:length]).double().unsqueeze(1)
            is_first = torch.zeros(length, 1, dtype=torch.bool)
            is_first[0] = True
            seen = PolicyInputs(inputs, None, None, None)
            answers = policy.outputs(seen, is_first, policy.init_state(1)).argmax(-1)[:, 0]
            total = 0.0
            for answer in answers.tolist():
                actions = np.zeros(3, dtype=np.int64)
                actions[lane] = answer
                step = one.step(actions)
                total += step.rewards[lane]
            assert lane in step.finished
            expected.append(total)
    np.testing.assert_allclose(result.returns, expected, atol=1e-12)


def test_sampled_answers_follow_the_seed():
    envs = lanes(num_envs=3, **SHORT)
    policy = policy_for(envs)
    runs = [evaluate(policy, envs, 9, seed=seed, deterministic=False).returns.tolist() for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("kind", ["native", "sync", pytest.param("async", marks=pytest.mark.slow)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_label_error_rate_sums_errors_and_labels_over_episodes(kind, bidirectional):
    envs = lanes(kind, **SHORT)
    policy = kit.make_policy(envs.observation_space, envs.action_space, bidirectional=bidirectional, noise=1.0)
    result = evaluate(policy, envs, 12, seed=0)
    envs.close()
    errors, labels = result.label_errors.T
    np.testing.assert_allclose(result.returns, 1 - errors / labels, atol=1e-12)
    assert set(labels) == {1, 2, 3}
    assert result.label_error_rate == errors.sum() / labels.sum() == result.summary()["label_error_rate"]
    assert result.metrics()["eval/label_error_rate"] == result.label_error_rate


def test_where_there_are_no_strings_there_is_no_rate():
    envs = kit.scripted("...E", "..E")
    result = evaluate(kit.make_policy(), envs, 4, seed=0)
    assert result.label_error_rate is None
    assert "label_error_rate" not in result.summary()
    assert "eval/label_error_rate" not in result.metrics()


def test_episodes_that_are_cut_count_no_labels():
    envs = lanes(**SHORT)
    policy = kit.make_policy(envs.observation_space, envs.action_space)
    whole = evaluate(policy, envs, 30, seed=0)
    limited = evaluate(policy, envs, 30, seed=0, max_steps=int(np.median(whole.lengths)))
    assert 0 < limited.cut.sum() < 30
    assert np.isnan(limited.label_errors[limited.cut]).all()
    assert not np.isnan(limited.label_errors[~limited.cut]).any()
    assert evaluate(policy, envs, 3, seed=0, max_steps=2).label_error_rate is None
