"""Evaluation: complete episodes, fixed quotas, seeds of its own, and nothing of training disturbed."""

import random
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlstm.envs  # noqa: F401 - registers our envs.
from rlstm.api import experiments as api
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.seeding import integer_seeds
from rlstm.evaluation.evaluate import EvaluationResult, _quotas, evaluate, evaluation_envs
from rlstm.policies.inputs import PolicyInputs
from rlstm.rollouts.collect import collect, start
from rlstm.vector.config import EnvConfig
from rlstm.vector.make import make, resolve_spec
from tests import kit
from tests.kit import covering

TRIALS = MemoryConfig("trial", episodes_per_trial=2)


def lanes(kind="native", memory=None, num_envs=3, env="rlstm/TMaze-v0", **env_kwargs):
    config = EnvConfig(env=env, env_kwargs=env_kwargs, num_envs=num_envs, vectorization=kind)
    return make(resolve_spec(config), config, memory or MemoryConfig())


def carrier(envs, memory=None):
    """A policy made by hand that plays the T-maze: east in the corridor, and at the junction where the sign told.

    Unit 0 of an Elman memory holds the sign, unit 1 tells the junction from everything else.
    """
    inputs = InputsConfig(False, False, False)
    policy = kit.make_policy(
        envs.observation_space,
        envs.action_space,
        memory,
        inputs,
        noise=0.0,
        cell="elman",
        hidden_size=3,
        encoder_sizes=(),
    )
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        cell = dict(policy.actor.cell.named_parameters())
        # Observations: start north 0 1 1, start south 1 1 0, corridor 1 0 1, junction 0 1 0.
        cell["weight_ih"].copy_(torch.tensor([[-20.0, 0, 20], [-20, 20, -20], [0, 0, 0]]))
        cell["bias_ih"].copy_(torch.tensor([0.0, -10, 0]))
        cell["weight_hh"].copy_(torch.tensor([[40.0, 0, 0], [0, 0, 0], [0, 0, 0]]))
        head = policy.policy_head[-1]
        head.weight.copy_(torch.tensor([[9.0, 9, 0], [0, 0, 0], [-9, 9, 0], [0, 0, 0]]))
        head.bias.copy_(torch.tensor([-9.0, 0, -9, -99]))
    return policy


@pytest.mark.parametrize(("kind", "num_envs"), covering(["native", "sync", "async"], [1, 3]))
def test_a_memory_made_by_hand_scores_the_optimum_in_every_kind_of_envs(kind, num_envs):
    envs = lanes(kind, num_envs=num_envs, corridor_length=6)
    result = evaluate(carrier(envs), envs, 20, seed=0)
    envs.close()
    assert result.returns.tolist() == [4.0] * 20
    assert result.lengths.tolist() == [7] * 20
    assert result.success_rate == 1.0


def test_without_its_memory_it_scores_as_a_guess():
    envs = lanes(corridor_length=6)
    result = evaluate(carrier(envs), envs, 60, seed=0, ablate_memory=True)
    assert result.mean_return < 3


def test_trials_are_played_to_their_end_and_summed():
    envs = lanes(memory=TRIALS, corridor_length=2)
    result = evaluate(carrier(envs, TRIALS), envs, 7, seed=0)
    assert len(result.returns) == 8
    assert result.trial_returns.tolist() == result.returns.reshape(4, 2).sum(1).tolist()
    assert result.summary()["mean_trial_return"] == result.trial_returns.mean()


@pytest.mark.parametrize(
    ("episodes", "num_envs", "quotas"), [(7, 3, [3, 2, 2]), (3, 3, [1, 1, 1]), (2, 3, [1, 1, 0]), (1, 1, [1])]
)
def test_quotas_are_even_and_add_up(episodes, num_envs, quotas):
    assert _quotas(episodes, num_envs).tolist() == quotas


@pytest.mark.parametrize("episodes", [1, 4, 5, 11])
def test_each_env_plays_its_quota_and_its_later_episodes_count_for_nothing(episodes):
    """Lane 0 has episodes of one step, lane 1 of two, lane 2 of four: counting whoever is done first would favour 0."""
    scripts = ("E", ".C", "...B")
    envs = kit.scripted(*scripts)
    result = evaluate(kit.make_policy(), envs, episodes, seed=0)
    expected, lengths = [], []
    for lane, quota in enumerate(_quotas(episodes, 3)):
        length = len(scripts[lane])
        for episode in range(quota):
            expected.append(sum(kit.reward(lane, episode * length + t) for t in range(length)))
            lengths.append(length)
    assert result.returns.tolist() == expected
    assert result.lengths.tolist() == lengths
    assert len(result.returns) == episodes


def test_successes_are_those_of_the_last_step():
    result = evaluate(kit.make_policy(), kit.scripted("E", "C", "..B"), 3, seed=0)
    assert result.successes.tolist() == [1, 0, 1]


def test_an_env_that_says_nothing_of_success_has_no_rate():
    envs = lanes("sync", env="CartPole-v1", num_envs=2)
    policy = kit.make_policy(envs.observation_space, envs.action_space)
    result = evaluate(policy, envs, 2, seed=0)
    assert result.success_rate is None
    assert result.metrics()["eval/success_rate"] is None


def test_the_same_seed_plays_the_same_episodes_and_another_seed_others():
    def play(seed, deterministic):
        envs = lanes(corridor_length=3)
        policy = kit.make_policy(envs.observation_space, envs.action_space)
        result = evaluate(policy, envs, 20, seed=seed, deterministic=deterministic)
        return result.returns.tolist()

    assert play(0, False) == play(0, False)
    assert play(0, False) != play(1, False)
    assert play(0, True) != play(0, False)


def test_an_evaluation_leaves_policy_and_random_numbers_of_training_as_they_were():
    envs, training = lanes(), lanes()
    policy = kit.make_policy(envs.observation_space, envs.action_space, normalize_observations=True)
    collector_state = start(policy, training, [0, 1, 2])
    collect(policy, training, collector_state, 5)

    def everything():
        rng = np.random.get_state()  # noqa: NPY002
        return [
            policy.generator.get_state().tolist(),
            torch.get_rng_state().tolist(),
            random.getstate(),
            [rng[1].tolist(), rng[2]],
            {name: tensor.tolist() for name, tensor in policy.state_dict().items()},
            repr(collector_state.state_dict()),
            repr(training.get_state()),
        ]

    before, generator = everything(), policy.generator
    for deterministic in (True, False):
        evaluate(policy, envs, 5, seed=0, deterministic=deterministic)
    assert policy.generator is generator
    assert everything() == before


def test_the_generator_of_training_comes_back_after_an_env_has_broken():
    envs = kit.scripted("....", kind="sync", broken={1: RuntimeError("gone")})
    policy = kit.make_policy()
    generator = policy.generator
    with pytest.raises(RuntimeError, match="gone"):
        evaluate(policy, envs, 1, seed=0)
    assert policy.generator is generator


def test_the_episodes_are_not_those_of_training():
    """The first observations of noisy corridors tell one episode from another."""
    envs = lanes(num_envs=8, noise=True)

    def second_observations(stream):
        envs.reset(integer_seeds(0, stream, 8))
        return envs.step(np.ones(8, dtype=np.int64)).observations[:, 0].tolist()

    assert not set(second_observations("envs")) & set(second_observations("evaluation"))


def test_the_envs_are_reset_with_the_seeds_of_the_evaluation():
    envs, seeds = kit.scripted("E", "E"), []
    reset = envs.reset
    envs.reset = lambda given: seeds.append(given) or reset(given)
    evaluate(kit.make_policy(), envs, 2, seed=7)
    assert seeds == [integer_seeds(7, "evaluation", 2)]


@pytest.mark.parametrize(("episodes", "memory", "num_lanes"), [(50, None, 16), (3, None, 3), (7, TRIALS, 4)])
def test_there_are_no_envs_without_anything_to_play(episodes, memory, num_lanes):
    config = EnvConfig(env="rlstm/TMaze-v0")
    envs = evaluation_envs(resolve_spec(config), config, memory or MemoryConfig(), episodes)
    assert envs.num_envs == num_lanes


def test_a_lifelong_memory_is_not_reset_between_the_episodes_of_an_evaluation():
    """The actions are those of a policy that is stepped by hand and reset once, or before every episode."""

    def make_policy(lifetime):
        policy = kit.make_policy(memory=MemoryConfig(lifetime), inputs=InputsConfig(False, False, False), noise=1.0)
        with torch.no_grad():
            policy.actor.encoder.layers[0].weight[:, 1] *= 0.05  # Time would drown everything else.
        return policy

    played = {}
    for lifetime, is_reset in (("episode", lambda t: t % 3 == 0), ("lifelong", lambda t: t == 0)):
        policy, envs = make_policy(lifetime), kit.scripted("..E", tell_episodes=False)
        evaluate(policy, envs, 8, seed=0)
        state, expected = policy.init_state(1), []
        for t in range(24):
            inputs = PolicyInputs(torch.tensor([[0.0, t, 0, 0]], dtype=torch.float64))
            action, state = policy.act(inputs, state, torch.tensor([is_reset(t)]), deterministic=True)
            expected.append(action.item())
        played[lifetime] = np.array(envs.envs.actions).ravel().tolist()
        assert played[lifetime] == expected
    assert played["episode"] != played["lifelong"]


def test_a_policy_on_masked_actions_evaluates_within_the_mask():
    class OnlyTwo(gym.Env):
        observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(3)

        def reset(self, *, seed=None, options=None):
            return 0, {"action_mask": np.array([False, False, True])}

        def step(self, action):
            return 0, float(action == 2), True, False, {"action_mask": np.array([False, False, True])}

    gym.register("rlstm-test/OnlyTwo-v0", OnlyTwo)
    try:
        envs = lanes("sync", env="rlstm-test/OnlyTwo-v0")
        policy = kit.make_policy(envs.observation_space, envs.action_space)
        assert evaluate(policy, envs, 10, seed=0).mean_return == 1.0
        assert evaluate(policy, envs, 10, seed=0, deterministic=False).mean_return == 1.0
    finally:
        gym.registry.pop("rlstm-test/OnlyTwo-v0")


def test_an_episode_that_never_ends_counts_as_it_stands():
    envs = kit.scripted(".........." * 3, "..E......." * 3)
    policy = kit.make_policy(envs.observation_space, envs.action_space)
    result = evaluate(policy, envs, 4, seed=0, max_steps=7)
    assert result.lengths.tolist() == [7, 7, 3, 7]
    assert result.cut.tolist() == [True, True, False, True]
    assert result.summary()["cut"] == 3
    assert result.success_rate == 1 / 4  # An episode that was cut is no success, as its return counts too.


def test_an_episode_that_ends_at_the_limit_is_not_cut():
    envs = kit.scripted("..E......." * 3)
    policy = kit.make_policy(envs.observation_space, envs.action_space)
    assert not evaluate(policy, envs, 1, seed=0, max_steps=3).cut.any()


# Trial curves.


def first_arm(envs, memory):
    """A policy that always pulls the first arm."""
    policy = kit.make_policy(envs.observation_space, envs.action_space, memory)
    head = policy.policy_head[-1]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([50.0, 0.0]))
    return policy


def outcome_of_trials(returns, regrets, num_trials):
    returns, regrets = np.array(returns, dtype=float), np.array(regrets, dtype=float)
    trial_returns = returns.reshape(num_trials, -1).sum(axis=1) if num_trials else np.zeros(0)
    lengths, clipped = np.ones(len(returns), dtype=int), np.zeros(len(returns), dtype=int)
    cut = np.zeros(len(returns), dtype=bool)
    return EvaluationResult(returns, lengths, np.zeros(len(returns)), trial_returns, regrets, clipped, cut, {})


def test_the_trial_curve_is_the_mean_of_each_place_in_a_trial():
    """Lane 0 earns 1, 2, 3, 4 and lane 1 earns 101, 102, 103, 104: two trials of two episodes each."""
    envs = kit.scripted("E", "E", memory=TRIALS)
    result = evaluate(kit.make_policy(memory=TRIALS), envs, 8, seed=0)
    assert result.trial_curve.tolist() == [(1 + 3 + 101 + 103) / 4, (2 + 4 + 102 + 104) / 4]
    assert result.regret_curve is None
    assert {name: curve.tolist() for name, curve in result.trial_curves().items()} == {"trial/return": [52.0, 53.0]}


@pytest.mark.parametrize("kind", ["native", "sync", pytest.param("async", marks=pytest.mark.slow)])
def test_the_regret_of_an_episode_is_that_of_all_its_steps_in_every_kind_of_envs(kind):
    """The first arm of an easy bandit pays .9 or .1: pulled twice it loses 0 or twice .8."""
    memory = MemoryConfig("trial", episodes_per_trial=3)
    envs = lanes(kind, memory, 8, "rlstm/BernoulliBandit-v0", probabilities="easy", pulls=2)
    result = evaluate(first_arm(envs, memory), envs, 24, seed=0)
    envs.close()
    native = lanes("native", memory, 8, "rlstm/BernoulliBandit-v0", probabilities="easy", pulls=2)
    native.reset(integer_seeds(0, "evaluation", 8))
    is_worse = native.get_state()["native"]["probabilities"][:, 0] < 0.5
    assert 0 < is_worse.sum() < 8
    np.testing.assert_allclose(result.regrets, np.repeat(1.6 * is_worse, 3), atol=1e-12)
    np.testing.assert_allclose(result.regret_curve, [1.6 * is_worse.mean()] * 3)
    np.testing.assert_allclose(
        result.trial_curves()["trial/cumulative_regret"], 1.6 * is_worse.mean() * np.array([1, 2, 3])
    )


def test_a_trial_with_an_unknown_regret_is_no_part_of_the_regret_curve():
    nan = float("nan")
    result = outcome_of_trials(range(6), [0.5, 0.25, nan, 0.0, 1.5, 0.75], 3)
    assert result.regret_curve.tolist() == [1.0, 0.5]
    assert result.trial_curves()["trial/cumulative_regret"].tolist() == [1.0, 1.5]
    assert outcome_of_trials(range(4), [0.5, nan, nan, 0.0], 2).regret_curve is None


@pytest.mark.parametrize("num_trials", [0, 4])
def test_trials_of_one_episode_and_no_trials_have_no_curves(num_trials):
    assert outcome_of_trials([1.0, 2.0, 3.0, 4.0], [0.0] * 4, num_trials).trial_curves() == {}


def curve_points(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_a_run_has_a_curve_for_each_evaluation_and_a_resumed_one_no_later_ones(tmp_path):
    settings = {
        "env": "rlstm/BernoulliBandit-v0",
        "memory": {"lifetime": "trial", "episodes_per_trial": 3},
        "num_envs": 4,
        "num_steps": 6,
        "hidden_size": 4,
        "encoder_sizes": (),
        "num_threads": 1,
        "total_steps": 4 * 24,
        "eval_every": 24,
        "eval_episodes": 30,
        "checkpoint_every": 24,
        "keep_checkpoints": 9,
    }
    whole, half = tmp_path / "whole", tmp_path / "half"
    api.train("ppo", ui="none", run_dir=str(whole), **settings)
    curves = {path.name: curve_points(path) for path in (whole / "trial_curves").iterdir()}
    assert sorted(curves) == ["step_000000024", "step_000000048", "step_000000072", "step_000000096"]
    for of_trial in curves.values():
        assert sorted(of_trial) == ["trial/cumulative_regret", "trial/return"]
        assert all([place for place, _ in points] == [1, 2, 3] for points in of_trial.values())
    with np.load(whole / "evaluations.npz") as evaluations:
        expected = evaluations["results"][-1].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose([value for _, value in curves["step_000000096"]["trial/return"]], expected, rtol=1e-6)

    shutil.copytree(whole, half)
    for later in (72, 96):
        shutil.rmtree(half / "checkpoints" / f"step_{later}")
    (half / "trial_curves" / "step_000009999").mkdir()  # As of an evaluation that is not made again.
    api.resume(half, ui="none")
    assert {path.name: curve_points(path) for path in (half / "trial_curves").iterdir()} == curves


def test_a_run_without_trials_has_no_folder_of_curves(tmp_path):
    tiny = {"num_envs": 4, "num_steps": 6, "hidden_size": 4, "total_steps": 24, "eval_episodes": 2, "num_threads": 1}
    api.train("ppo", ui="none", run_dir=str(tmp_path / "run"), env="rlstm/BernoulliBandit-v0", **tiny)
    assert (tmp_path / "run" / "evaluations.npz").exists()
    assert not (tmp_path / "run" / "trial_curves").exists()
