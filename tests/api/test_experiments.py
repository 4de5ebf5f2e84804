"""The library from Python: train, resume, evaluate, load and act."""

import math
import re
import sys
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlstm
import rlstm.api.experiments as api
from rlstm.api.configs import make_config
from rlstm.api.finished_runs import evaluate_run, open_run
from rlstm.api.stored_runs import read_config
from rlstm.core.errors import EnvironmentFailure, UnknownNameError
from rlstm.core.seeding import integer_seeds
from rlstm.evaluation.evaluate import evaluate, evaluation_envs
from rlstm.training.checkpoints import load_checkpoint
from rlstm.training.config import ConfigError
from rlstm.training.run_directory import RunDirectory, RunDirectoryError
from rlstm.vector.sub_env import TrialEnv

UPDATE = 4 * 8
TINY = {
    "env": "rlstm/TMaze-v0",
    "env_kwargs": {"corridor_length": 3, "noise": True},
    "num_envs": 4,
    "num_steps": 8,
    "hidden_size": 6,
    "encoder_sizes": (5,),
    "total_steps": 3 * UPDATE,
    "eval_every": 0,
    "eval_episodes": 3,
    "num_threads": 1,
}
PPO = {"num_minibatches": 2, "learning_rate": 0.05}
MEMORIES = {
    "episode": {},
    "trial": {"lifetime": "trial", "episodes_per_trial": 3},
    "lifelong": {"lifetime": "lifelong", "credit": "episode"},
}


def train(path, agent="ppo", **settings):
    return rlstm.train(agent, ui="none", run_dir=str(path), **{**TINY, **(PPO if agent == "ppo" else {}), **settings})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    return train(path, keep_checkpoints=9)


def evaluated(run_dir, episodes):
    """The observations, actions and rewards of a greedy evaluation in one lane, and the seed of that lane."""
    directory = RunDirectory.open(run_dir)
    run = open_run(run_dir)
    policy, memory = run.policy, run.policy.memory
    one_lane = evaluation_envs(run.spec, read_config(directory, num_envs=1).env, memory, episodes)
    actions, step = [], one_lane.step
    one_lane.step = lambda chosen: actions.append(chosen[0]) or step(chosen)
    result = evaluate(policy, one_lane, episodes, seed=5)
    return actions, result, integer_seeds(5, "evaluation", 1)[0]


@pytest.mark.parametrize("settings", [{}, {"normalize_observations": True, "critic_memory": "separate"}])
@pytest.mark.parametrize("lifetime", MEMORIES)
def test_a_loaded_agent_acts_as_in_an_evaluation_step_by_step(tmp_path, lifetime, settings):
    path = train(tmp_path / "run", memory=MEMORIES[lifetime], **settings).run_dir
    episodes = 6
    actions, result, seed = evaluated(path, episodes)
    agent = rlstm.load(path, checkpoint="latest")
    env = gym.make("rlstm/TMaze-v0", **TINY["env_kwargs"])
    if lifetime == "trial":
        env = TrialEnv(env, 3)
    taken, returns, reward = [], [], 0.0
    for episode in range(episodes):
        observation, info = env.reset(seed=seed if episode == 0 else None)
        if lifetime == "episode" or episode == 0 or (lifetime == "trial" and info["trial_start"]):
            agent.reset()
        total, over, begins = 0.0, False, True
        while not over:
            action = agent.act(observation, reward, begins, deterministic=True)
            taken.append(action)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over, begins = total + reward, terminated or truncated, False
        returns.append(total)
    assert taken == [int(action) for action in actions[: len(taken)]]
    np.testing.assert_allclose(returns, result.returns, rtol=1e-12)
    assert len(taken) > episodes


def greedy_outputs(agent, observations, **options):
    """What the heads put out, which tells more than the actions."""
    seen = []
    forward = agent._snapshot._forward
    agent._snapshot._forward = lambda *a: seen.append(forward(*a)) or seen[-1]
    for observation in observations:
        agent.act(observation, deterministic=True, **options)  # Sampled ones would differ by themselves.
    agent._snapshot._forward = forward
    return torch.cat([outputs for outputs, _ in seen])


def test_an_agent_remembers_until_it_is_reset(run):
    agent = rlstm.load(run.run_dir)
    observations = np.random.default_rng(0).random((6, 3)).astype(np.float32)
    first = greedy_outputs(agent, observations)
    went_on = greedy_outputs(agent, observations)
    agent.reset()
    again = greedy_outputs(agent, observations)
    assert torch.equal(first, again)
    assert not torch.equal(first, went_on)


def test_reward_and_episode_start_are_seen_by_an_agent_trained_with_them(tmp_path):
    path = train(tmp_path / "run", memory=MEMORIES["trial"]).run_dir
    agent = rlstm.load(path)
    observations = np.ones((3, 3), dtype=np.float32)
    results = []
    for options in ({"reward": 0.0}, {"reward": 1.0}, {"reward": 0.0, "episode_start": True}):
        agent.reset()
        results.append(greedy_outputs(agent, observations, **options))
    plain, rewarded, started = results
    assert torch.equal(plain[0], rewarded[0])  # What came before the first observation of a memory is nothing.
    assert torch.equal(plain[0], started[0])
    assert not torch.equal(plain[1], rewarded[1])
    assert not torch.equal(plain[1], started[1])
    agent.reset()
    agent.act(observations[0])
    with pytest.raises(ValueError, match=r"to see the reward of its action before.* act\(observation, reward\)"):
        agent.act(observations[1])


def test_stochastic_actions_are_sampled(run):
    agent = rlstm.load(run.run_dir)
    observation = np.zeros(3, dtype=np.float32)
    assert len({agent.act(observation, deterministic=False) for _ in range(200)}) > 1


def test_masked_actions_are_not_taken(run):
    agent = rlstm.load(run.run_dir)
    for allowed in range(4):
        mask = np.arange(4) == allowed
        assert agent.act(np.zeros(3, dtype=np.float32), action_mask=mask) == allowed


def test_an_observation_of_another_shape_is_refused(run):
    agent = rlstm.load(run.run_dir)
    with pytest.raises(ValueError, match=r"observation has shape \(5,\), its space \(3,\)"):
        agent.act(np.zeros(5, dtype=np.float32))
    assert agent.act([0.0, 1.0, 1.0]) in range(4)  # Lists of the right shape will do.


def test_an_action_is_one_of_the_envs_action_space(run):
    action = rlstm.load(run.run_dir).act(np.zeros(3, dtype=np.float32))
    assert type(action) is int


# Evaluation of a run.


def test_an_evaluation_of_a_run_is_repeatable_and_its_seed_decides(run):
    results = [evaluate_run(run.run_dir, episodes=20, seed=seed, deterministic=False) for seed in (3, 3, 4)]
    assert results[0].returns.tolist() == results[1].returns.tolist()
    assert results[0].returns.tolist() != results[2].returns.tolist()
    assert len(results[0].returns) == 20


def test_an_evaluation_may_change_arguments_of_the_env(run):
    mine = evaluate_run(run.run_dir, episodes=4, deterministic=False)
    longer = evaluate_run(run.run_dir, episodes=4, deterministic=False, env_kwargs={"max_steps": 4})
    assert mine.lengths.max() > 4
    assert longer.lengths.max() <= 4


@pytest.mark.parametrize("which", ["latest", "best", 0])
def test_a_checkpoint_can_be_chosen(run, which):
    agent = rlstm.load(run.run_dir, checkpoint=which)
    model = load_checkpoint(run.run_dir, which).model
    assert all(torch.equal(tensor, model[name]) for name, tensor in agent.policy.state_dict().items())


# Settings.


def test_a_run_can_start_from_the_best_weights_of_another(tmp_path, run):
    train(tmp_path / "next", init_from=run.run_dir, total_steps=UPDATE)
    begun = load_checkpoint(tmp_path / "next", 0).model
    best = load_checkpoint(run.run_dir, "best").model
    assert all(torch.equal(tensor, best[name]) for name, tensor in begun.items())
    fresh = load_checkpoint(run.run_dir, 0).model
    assert not all(torch.equal(tensor, fresh[name]) for name, tensor in begun.items())
    after = load_checkpoint(tmp_path / "next", "latest").model
    assert not all(torch.equal(tensor, best[name]) for name, tensor in after.items())


def test_a_run_can_not_start_from_another_network(tmp_path, run):
    with pytest.raises(ConfigError, match="another network"):
        train(tmp_path / "next", init_from=run.run_dir, hidden_size=7)
    assert not (tmp_path / "next").exists()


def test_a_run_directory_is_never_written_over(run):
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        train(run.run_dir)


@pytest.mark.parametrize(
    ("settings", "error", "complaint"),
    [
        ({"agent": "pp"}, UnknownNameError, "Unknown agent 'pp'. Did you mean 'ppo'"),
        ({"hiden_size": 3}, ConfigError, "Unknown setting 'hiden_size'. Did you mean 'hidden_size'"),
        ({"lr": 1e-3}, ConfigError, "Unknown setting 'lr'. It is called 'learning_rate' here."),
        ({"shared_lstm": True}, ConfigError, "It is called 'critic_memory' here: shared."),
        ({"env": "rlstm/TMaz-v0"}, UnknownNameError, "Did you mean 'rlstm/TMaze-v0'"),
        ({"env": ""}, ConfigError, "No env was given"),
        ({"cell": "lstn"}, ValueError, "Did you mean 'lstm'"),
        ({"env_kwargs": {"corridor_length": 0}}, EnvironmentFailure, "corridor_length"),
        ({"memory": {"lifetime": "episode", "credit": "lifelong"}}, ConfigError, "outlive"),
        ({"num_minibatches": 3}, ValueError, "one of 1, 2, 4"),
    ],
)
def test_a_senseless_setting_is_refused_before_a_run_directory_is_made(tmp_path, settings, error, complaint):
    with pytest.raises(error, match=complaint):
        train(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_has_nothing_left_to_resume(run):
    with pytest.raises(ConfigError, match="nothing is left to do"):
        api.resume(run.run_dir, ui="none")


# Envs of users.


def test_an_env_of_a_users_module_is_trained_on_evaluated_loaded_and_resumed(tmp_path, user_module):
    settings = {"env": "user/Signal-v0", "env_kwargs": {}, "env_import": [user_module]}
    path = train(tmp_path / "run", **settings).run_dir
    result = evaluate_run(path, episodes=5)
    assert result.lengths.tolist() == [4] * 5
    assert rlstm.load(path).act(np.zeros(2, dtype=np.float32)) in (0, 1)
    assert api.resume(path, total_steps=4 * UPDATE, ui="none").steps == 4 * UPDATE


def test_the_module_may_stand_before_the_id(tmp_path, user_module):
    path = train(tmp_path / "run", env=f"{user_module}:user/Signal-v0", env_kwargs={}).run_dir
    assert evaluate_run(path, episodes=2).lengths.tolist() == [4] * 2


def test_an_agent_is_loaded_where_its_env_is_not(tmp_path, user_module, monkeypatch):
    settings = {"env": "user/Signal-v0", "env_kwargs": {}, "env_import": [user_module]}
    path = train(tmp_path / "run", **settings).run_dir
    expected = rlstm.load(path).act(np.zeros(2, dtype=np.float32), deterministic=True)
    monkeypatch.delitem(gym.registry, "user/Signal-v0")
    monkeypatch.delitem(sys.modules, user_module)
    monkeypatch.setattr(sys, "path", [])
    agent = rlstm.load(path)
    assert agent.act(np.zeros(2, dtype=np.float32), deterministic=True) == expected
    assert repr(agent).startswith(f"LoadedAgent({path}, best checkpoint, step {3 * UPDATE}, cell lstm, observations")
    with pytest.raises(EnvironmentFailure, match="Could not import"):
        evaluate_run(path, episodes=2, trust=True)


def test_an_unknown_env_is_told_with_those_that_the_modules_register(tmp_path, user_module):
    with pytest.raises(UnknownNameError, match=f"Registered by {user_module}: .*user/Signal-v0"):
        train(tmp_path / "run", env="Heater-v0", env_kwargs={}, env_import=[user_module])


class Bounded(gym.Env):
    """Takes actions up to a limit."""

    observation_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, limit=1.0):
        self.action_space = gym.spaces.Box(0.0, limit, (1,))

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        return np.zeros(1, dtype=np.float32), 1.0, False, False, {}


def test_arguments_that_change_the_units_of_actions_are_refused(tmp_path, registered):
    path = train(tmp_path / "run", env=registered(Bounded), env_kwargs={}).run_dir
    with pytest.raises(ConfigError, match=r"actions Box\(0.0, 5.0.*was trained for .*Box\(0.0, 1.0"):
        evaluate_run(path, episodes=2, env_kwargs={"limit": 5.0})
    assert len(evaluate_run(path, episodes=2, env_kwargs={"limit": 1.0}).returns) == 2


@pytest.mark.parametrize(
    ("agent", "expected"), [("ppo", "sampled"), ("reinforce", "sampled"), ("evolino", "likeliest")]
)
def test_evaluations_choose_actions_as_the_agent_was_trained_to(agent, expected):
    assert make_config(agent).eval_actions(numbers=False) == expected
    assert make_config(agent).eval_actions(numbers=True) == "likeliest"
    for actions in ("likeliest", "sampled"):
        assert make_config(agent, eval_actions=actions).eval_actions(numbers=True) == actions


@pytest.mark.parametrize("actions", ["likeliest", "sampled"])
def test_what_plays_a_run_chooses_actions_as_its_evaluations_did(tmp_path, actions):
    path = train(tmp_path / "run", eval_actions=actions).run_dir
    chosen = actions == "likeliest"
    played = [evaluate_run(path, episodes=8, deterministic=one).returns.tolist() for one in (None, chosen, not chosen)]
    assert played[0] == played[1] != played[2]
    assert rlstm.load(path)._deterministic is chosen
    assert rlstm.record(path, episodes=1, output=tmp_path / "file").metadata["deterministic"] is chosen


def test_results_are_printed_short(tmp_path, run):
    result = evaluate_run(run.run_dir, episodes=4)
    assert re.fullmatch(r"EvaluationResult\(episodes=4, mean_return=\S+, .*\)", repr(result))
    found = rlstm.record(run.run_dir, episodes=2, output=tmp_path / "file")
    assert re.fullmatch(r"Demonstrations\(2 trajectories, 2 episodes, \d+ steps\)", repr(found))


class Levels(gym.Env):
    """Tells by its reward what it was made with."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    made: ClassVar[list] = []

    def __init__(self, **kwargs):
        self.made.append(kwargs)

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action):
        return np.zeros(2, dtype=np.float32), 1.0, False, False, {}


EXOTIC = {"limit": math.inf, "sizes": (1, 2), "names": {"a"}, "table": {0: 1.5}, "start": np.arange(2.0)}


@pytest.fixture
def registered():
    names = []

    def register(entry_point, **options):
        names.append(f"levels/L{len(names)}-v0")
        gym.register(names[-1], entry_point, max_episode_steps=4, **options)
        return names[-1]

    yield register
    for name in names:
        gym.registry.pop(name, None)
    Levels.made.clear()


def assert_made_alike(kwargs):
    assert kwargs.keys() == EXOTIC.keys()
    for name, value in EXOTIC.items():
        assert type(kwargs[name]) is type(value), name
        np.testing.assert_equal(kwargs[name], value)


@pytest.mark.parametrize("place", ["env_kwargs", "register"])
def test_arguments_of_an_env_come_back_as_what_they_were(tmp_path, registered, place):
    entry_point = f"{__name__}:Levels"
    env = registered(entry_point, kwargs=EXOTIC) if place == "register" else registered(entry_point)
    settings = {"env": env, "env_kwargs": {} if place == "register" else EXOTIC}
    path = train(tmp_path / "run", **settings).run_dir
    assert_made_alike(Levels.made[-1])
    Levels.made.clear()
    evaluate_run(path, episodes=2)
    assert_made_alike(Levels.made[-1])
    Levels.made.clear()
    api.resume(path, total_steps=4 * UPDATE, ui="none")
    assert_made_alike(Levels.made[-1])


def test_an_argument_that_can_not_be_stored_is_refused_before_anything_is_made(tmp_path, registered):
    env = registered(f"{__name__}:Levels")
    with pytest.raises(ConfigError, match=r"env_kwargs\['f'\] is <built-in function max>.* a run can't store it"):
        train(tmp_path / "run", env=env, env_kwargs={"f": max})
    assert not Levels.made
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", ["class", "function", "argument"])
def test_an_env_that_only_this_process_knows_trains_and_needs_to_be_registered_again(tmp_path, registered, what, capfd):
    if what == "argument":
        env = registered(f"{__name__}:Levels", kwargs={"f": max})
    else:
        env = registered(Levels if what == "class" else lambda **kwargs: Levels(**kwargs))
    path = rlstm.train(
        "ppo", ui="plain", run_dir=str(tmp_path / "run"), **{**TINY, **PPO, "env": env, "env_kwargs": {}}
    )
    assert "registered with a class, a function or another object in one process alone" in capfd.readouterr().err
    path = path.run_dir
    assert evaluate_run(path, episodes=2).lengths.tolist() == [4, 4]
    rlstm.load(path).act(np.zeros(2))
    api.resume(path, total_steps=4 * UPDATE, ui="none")
    rlstm.record(path, episodes=2)
    spec = gym.registry.pop(env)
    with pytest.raises(RunDirectoryError, match="resumed and evaluated only where the same is registered first"):
        evaluate_run(path, episodes=2)
    gym.registry[env] = spec


def test_the_best_checkpoint_is_what_every_use_takes(tmp_path):
    path = train(tmp_path / "run", eval_every=UPDATE, total_steps=5 * UPDATE, keep_checkpoints=9).run_dir
    best = int((tmp_path / "run" / "checkpoints" / "best").read_text().removeprefix("step_"))
    assert open_run(path).step == best
    assert rlstm.load(path)._snapshot is not None
    weights = load_checkpoint(path, "best").model
    assert all(torch.equal(weights[name], value) for name, value in rlstm.load(path).policy.state_dict().items())


def test_a_run_does_not_start_from_actions_in_other_units(tmp_path):
    settings = {"env": "rlstm/PendulumNoVel-v0", "env_kwargs": {}}
    path = train(tmp_path / "raw", scale_actions=False, **settings).run_dir
    with pytest.raises(
        ConfigError, match=r"scale_actions is True, but .*raw was trained with False.*--no-scale-actions"
    ):
        train(tmp_path / "next", init_from=path, **settings)
    train(tmp_path / "next", init_from=path, scale_actions=False, **settings)
