"""The loop: what is due when, what is written, which checkpoint is the best, and what a run refuses to load."""

import csv
import random
import signal

import gymnasium as gym
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlstm.api.experiments as api
from rlstm.core.seeding import integer_seeds
from rlstm.training.checkpoints import Checkpoint, list_checkpoints, load_checkpoint
from rlstm.training.config import ConfigError
from rlstm.training.loop import _due
from rlstm.training.on_policy import Training
from rlstm.training.run_directory import RunDirectory
from rlstm.training.weights import load_weights
from rlstm.vector.adapter import VectorEnvs

UPDATE = 4 * 8
TINY = {
    "env": "rlstm/TMaze-v0",
    "env_kwargs": {"corridor_length": 2},
    "num_envs": 4,
    "num_steps": 8,
    "num_minibatches": 2,
    "hidden_size": 6,
    "encoder_sizes": (5,),
    "total_steps": 5 * UPDATE,
    "eval_episodes": 3,
    "num_threads": 1,
}


def train(path, **settings):
    return api.train("ppo", ui="none", run_dir=str(path), **{**TINY, **settings})


@pytest.fixture(scope="module")
def often(tmp_path_factory):
    """A run with evaluations after every second update and checkpoints after every third."""
    path = tmp_path_factory.mktemp("runs") / "often"
    train(path, eval_every=2 * UPDATE, checkpoint_every=3 * UPDATE, keep_checkpoints=99)
    return path


@pytest.fixture(scope="module")
def never(tmp_path_factory):
    """A run without evaluations and checkpoints before its end."""
    path = tmp_path_factory.mktemp("runs") / "never"
    train(path, eval_every=0, checkpoint_every=0)
    return path


def rows(path):
    with (path / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def training_of(**settings):
    return api._make_training(api.make_config("ppo", **{**TINY, **settings}))[0]


@pytest.mark.parametrize(
    ("every", "before", "now", "due"),
    [
        (10, 0, 9, False),
        (10, 0, 10, True),
        (10, 10, 19, False),
        (10, 8, 12, True),
        (10, 8, 35, True),
        (10, 12, 18, False),
        (0, 0, 100, False),
    ],
)
def test_an_event_is_due_where_a_multiple_was_reached(every, before, now, due):
    assert _due(every, before, now) is due


def test_evaluations_and_checkpoints_come_when_due_and_at_the_end(often):
    evaluations = np.load(often / "evaluations.npz")
    assert evaluations["timesteps"].tolist() == [2 * UPDATE, 4 * UPDATE, 5 * UPDATE]
    assert evaluations["results"].shape == (3, 3)
    saved = set(list_checkpoints(often))
    assert {0, 3 * UPDATE, 5 * UPDATE} <= saved <= {0, 2 * UPDATE, 3 * UPDATE, 4 * UPDATE, 5 * UPDATE}
    table = rows(often)
    assert [int(row["step"]) for row in table] == [UPDATE * k for k in range(1, 6)]
    assert [row["eval/mean_reward"] != "" for row in table] == [False, True, False, True, True]


def test_with_zero_there_is_one_evaluation_and_one_checkpoint_at_the_end(never):
    assert np.load(never / "evaluations.npz")["timesteps"].tolist() == [5 * UPDATE]
    assert list_checkpoints(never) == [0, 5 * UPDATE]


def test_the_best_checkpoint_is_that_of_the_best_evaluation(tmp_path, monkeypatch):
    """Returns of 1, 3, 3, 2: the third, since of equals the later one has learnt longer."""
    results = iter([1.0, 3.0, 3.0, 2.0, 0.0])
    evaluate = Training.evaluate

    def scripted(self, should_stop):
        result = evaluate(self, should_stop)
        result.returns[:] = next(results)
        return result

    monkeypatch.setattr(Training, "evaluate", scripted)
    train(tmp_path / "run", eval_every=UPDATE, checkpoint_every=0, keep_checkpoints=1)
    assert load_checkpoint(tmp_path / "run", "best").step == 3 * UPDATE
    assert load_checkpoint(tmp_path / "run", "latest").step == 5 * UPDATE
    assert load_checkpoint(tmp_path / "run", "latest").trainer["best_return"] == 3.0


def test_a_run_ends_with_the_update_that_reaches_the_total(tmp_path):
    result = train(tmp_path / "run", total_steps=2 * UPDATE + 1, eval_every=0)
    assert result.steps == 3 * UPDATE
    assert result.interrupted is False
    assert result.run_dir == str(tmp_path / "run")
    last = rows(tmp_path / "run")[-1]
    assert float(last["rollout/ep_rew_mean"]) == result.mean_return
    assert float(last["rollout/success_rate"]) == result.success_rate


def test_what_is_logged_is_what_the_episodes_brought(never):
    statistics = load_checkpoint(never, "latest").trainer["carry"]["statistics"]
    last = rows(never)[-1]
    assert float(last["rollout/ep_rew_mean"]) == np.mean(statistics["finished"]["returns"])
    assert float(last["rollout/success_rate"]) == np.mean(statistics["finished"]["successes"])
    assert int(float(last["time/total_timesteps"])) == 5 * UPDATE
    assert float(rows(never)[0]["recurrent/resets_per_step"]) >= 1 / 8  # Step 0 at least.
    assert "rollout/trial_rew_mean" not in last


def test_trials_are_logged_where_there_are_any(tmp_path):
    train(tmp_path / "run", eval_every=0, memory={"lifetime": "trial", "episodes_per_trial": 2})
    last = rows(tmp_path / "run")[-1]
    assert last["rollout/trial_rew_mean"] != ""
    assert last["eval/mean_trial_reward"] != ""


def test_an_evaluation_in_the_middle_changes_nothing_of_what_follows(often, never):
    one, other = (load_checkpoint(path, "latest") for path in (often, never))
    assert all(torch.equal(tensor, other.model[name]) for name, tensor in one.model.items())
    assert torch.equal(one.trainer["agent"]["action_generator"], other.trainer["agent"]["action_generator"])


def test_the_same_seed_gives_the_same_run_whatever_was_random_before(never, tmp_path):
    torch.manual_seed(2)
    random.seed(2)
    train(tmp_path / "again", eval_every=0)
    one, other = (load_checkpoint(path, "latest").model for path in (never, tmp_path / "again"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


# Batches of complete episodes.

EPISODES = {name: value for name, value in TINY.items() if not name.startswith("num_")} | {"num_envs": 4}


def reinforce_of(**settings):
    return api._make_training(api.make_config("reinforce", **{**EPISODES, "num_episodes": 6, **settings}))[0]


def test_steps_and_resets_are_counted_where_they_are_valid(monkeypatch):
    training = reinforce_of()
    rollouts, collect = [], training.agent.collect
    monkeypatch.setattr(training.agent, "collect", lambda *a: rollouts.append(collect(*a)) or rollouts[-1])
    for count in (1, 2, 3):
        metrics, _ = training.update()
        (*_, last) = rollouts
        assert not last.valid.all()
        steps = int(last.valid.sum())
        assert metrics["recurrent/resets_per_step"] == pytest.approx(6 / steps)
        assert metrics["time/total_timesteps"] == training.step == sum(int(one.valid.sum()) for one in rollouts)
        assert metrics["rollout/ep_len_mean"] == pytest.approx(training.step / (6 * count))
    training.close()


@pytest.mark.parametrize(
    ("settings", "separate"),
    [
        ({}, True),
        ({"baseline": "mean"}, False),
        ({"baseline": "none"}, False),
        ({"critic_memory": "shared"}, False),
        ({"baseline": "mean", "critic_memory": "separate"}, True),
    ],
)
def test_the_critic_s_memory_is_the_agent_s_choice_unless_one_was_made(settings, separate):
    training = reinforce_of(**settings)
    assert (training.policy.critic is not None) is separate
    training.close()


@pytest.mark.parametrize(("settings", "separate"), [({}, False), ({"critic_memory": "separate"}, True)])
def test_ppo_s_critic_shares_the_actor_s_memory_unless_told_otherwise(settings, separate):
    training = training_of(**settings)
    assert (training.policy.critic is not None) is separate
    training.close()


# Checkpoints of other networks.


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"hidden_size": 7}, "actor.cell"),
        ({"cell": "gru"}, "actor.cell"),
        ({"critic_memory": "separate"}, "critic"),
        ({"inputs": {"previous_action": True}}, "actor.encoder"),
        ({"normalize_observations": False}, "actor.encoder.moments"),
    ],
)
def test_weights_of_another_network_are_refused_by_the_first_difference(tmp_path, settings, name):
    training, other = training_of(), training_of(**settings)
    checkpoint = Checkpoint(0, dict(other.policy.state_dict()), {}, {}, tmp_path)
    before = {key: tensor.clone() for key, tensor in training.policy.state_dict().items()}
    with pytest.raises(ConfigError, match=f"another network: '{name}"):
        load_weights(training.policy, checkpoint)
    assert all(torch.equal(tensor, before[key]) for key, tensor in training.policy.state_dict().items())


def test_a_checkpoint_holds_a_training_as_it_stands(tmp_path):
    """Saved and loaded into a new one, which then does the same."""
    training = training_of()
    for _ in range(2):
        training.update()
    config = {"agent": "ppo", "settings": {}}
    directory = RunDirectory.create(tmp_path / "run", config=config, env_spec=training.spec.to_json(), command=[])
    training.save(directory)
    other = training_of()
    other.update()
    assert other.load(load_checkpoint(directory, "latest")) is None
    assert (other.step, other.num_updates) == (2 * UPDATE, 2)
    metrics = [{k: v for k, v in one.update()[0].items() if "time/" not in k} for one in (training, other)]
    assert metrics[0] == metrics[1]
    assert all(torch.equal(a, b) for a, b in zip(training.policy.parameters(), other.policy.parameters(), strict=True))


def test_the_envs_are_closed_when_the_network_can_not_be_built(monkeypatch):
    closed = []
    monkeypatch.setattr(VectorEnvs, "close", lambda self: closed.append(self))
    with pytest.raises(ValueError, match="num_minibatches is 3"):
        training_of(num_minibatches=3)
    assert [envs.num_envs for envs in closed] == [4]


def test_an_update_leaves_the_state_that_the_new_weights_give_to_be_carried_on():
    training = training_of()
    metrics = [training.update()[0] for _ in range(3)]
    assert all(one["recurrent/state_staleness_rms"] > 0 for one in metrics[1:])  # The first fills the normalisers.
    stale = training_of(refresh_states=False)
    for _ in range(3):
        stale.update()
    assert not torch.equal(stale.collector_state.state[0].h, training.collector_state.state[0].h)
    training.close()
    stale.close()


# Evaluations


def test_without_episodes_there_are_no_evaluations_at_the_end_neither(tmp_path):
    result = train(tmp_path / "run", eval_every=UPDATE, eval_episodes=0)
    assert not (tmp_path / "run" / "evaluations.npz").exists()
    assert (result.eval_return, result.best_return, result.best_step) == (None, None, None)
    assert not (tmp_path / "run" / "checkpoints" / "best").exists()


def test_evaluations_of_training_have_seeds_of_their_own(tmp_path, monkeypatch):
    """The best checkpoint is chosen by them: scored on the same episodes it would look better than it is."""
    train(tmp_path / "run")
    seeds = [set(integer_seeds(0, stream, 64)) for stream in ("training_evaluation", "evaluation")]
    assert not seeds[0] & seeds[1]
    met, reset = [], VectorEnvs.reset
    monkeypatch.setattr(VectorEnvs, "reset", lambda self, seeds, *a: met.append(list(seeds)) or reset(self, seeds, *a))
    training_of(eval_episodes=4).evaluate(lambda: False)
    assert set(met[-1]) <= seeds[0]


def test_the_first_rollout_that_only_fills_normalisers_is_never_the_best(tmp_path, monkeypatch):
    evaluate, results = Training.evaluate, iter([99.0, 1.0, 2.0, 0.0, 0.0])

    def scripted(self, should_stop):
        result = evaluate(self, should_stop)
        result.returns[:] = next(results)
        return result

    monkeypatch.setattr(Training, "evaluate", scripted)
    result = train(tmp_path / "run", eval_every=UPDATE)
    assert (result.best_return, result.best_step) == (2.0, 3 * UPDATE)
    assert result.eval_return == 0.0


def test_what_is_best_is_known_after_a_resume(tmp_path):
    first = train(tmp_path / "run", eval_every=UPDATE)
    again = api.resume(tmp_path / "run", total_steps=5 * UPDATE + 1, ui="none")
    assert again.best_return >= first.best_return
    assert again.best_step in (first.best_step, 6 * UPDATE)


def test_one_ctrl_c_ends_an_evaluation(tmp_path, monkeypatch):
    steps, step = [], VectorEnvs.step

    def interrupted(self, actions):
        steps.append(len(steps))
        if len(steps) == 5 * 8 + 3:  # In the evaluation at the end.
            signal.raise_signal(signal.SIGINT)
        return step(self, actions)

    monkeypatch.setattr(VectorEnvs, "step", interrupted)
    result = train(tmp_path / "run", eval_every=0, eval_episodes=50, env_kwargs={"corridor_length": 20})
    assert result.interrupted
    assert result.eval_return is None
    assert len(steps) < 5 * 8 + 5
    assert list_checkpoints(tmp_path / "run")[-1] == 5 * UPDATE


def test_a_function_is_told_of_every_evaluation_and_may_end_the_run(tmp_path):
    told = []

    def end_at_the_second(step, metrics):
        told.append((step, metrics["eval/mean_reward"]))
        return len(told) < 2

    settings = {**TINY, "eval_every": UPDATE, "run_dir": str(tmp_path / "run")}
    result = api.train("ppo", ui="none", on_evaluation=end_at_the_second, **settings)
    assert [step for step, _ in told] == [UPDATE, 2 * UPDATE]
    assert result.steps == 2 * UPDATE
    assert not result.interrupted
    assert list_checkpoints(tmp_path / "run")[-1] == 2 * UPDATE
    assert told[1][1] == result.eval_return


@pytest.mark.parametrize("settings", [{"eval_episodes": 0}, {"eval_env": "none"}])
def test_a_function_that_would_never_be_called_is_refused(tmp_path, settings):
    settings = {**TINY, **settings, "run_dir": str(tmp_path / "run")}
    with pytest.raises(ConfigError, match="on_evaluation is given, but nothing is evaluated"):
        api.train("ppo", ui="none", on_evaluation=print, **settings)
    assert not (tmp_path / "run").exists()


def test_what_the_function_raises_loses_nothing(tmp_path):
    def fail(step, metrics):
        raise KeyError("no such dashboard")

    settings = {**TINY, "eval_every": 2 * UPDATE, "checkpoint_every": 0, "run_dir": str(tmp_path / "run")}
    with pytest.raises(KeyError, match="no such dashboard"):
        api.train("ppo", ui="none", on_evaluation=fail, **settings)
    assert list_checkpoints(tmp_path / "run")[-1] == 2 * UPDATE


def test_a_policy_that_waits_where_it_takes_the_likeliest_actions_is_pointed_out(tmp_path, monkeypatch, capfd):
    evaluate = Training.evaluate

    def waiting(self, should_stop):
        result = evaluate(self, should_stop)
        result.returns[:] = -1000.0
        return result

    monkeypatch.setattr(Training, "evaluate", waiting)
    for name, told in (("likeliest", True), ("sampled", False)):
        settings = {**TINY, "eval_every": 0, "eval_actions": name, "run_dir": str(tmp_path / name)}
        api.train("ppo", ui="plain", **settings)
        found = "The likeliest actions reach -1000 in evaluation, those sampled in training" in capfd.readouterr().err
        assert found is told


# Actions on a bound


@pytest.mark.parametrize(("log_std", "warned"), [(3.0, True), (-1.0, False)])
def test_actions_that_mostly_lie_on_a_bound_are_told_of_once(log_std, warned):
    training = training_of(env="rlstm/PendulumNoVel-v0", env_kwargs={}, initial_log_std=log_std, learning_rate=1e-9)
    shares = [training.update()[0]["rollout/clipped_actions"] for _ in range(25)]
    assert ["lie on a bound" in one for one in training.news] == [True] * warned
    assert (min(shares) > 0.8) is warned


@pytest.mark.parametrize("agent", ["ppo", "evolino"])
def test_named_numbers_of_info_are_logged_in_training_and_evaluation(tmp_path, agent):
    settings = {"log_info": ("regret",), "env": "rlstm/BernoulliBandit-v0", "env_kwargs": {}, "eval_every": 0}
    settings = {**TINY, **settings, "run_dir": str(tmp_path / "run")}
    if agent == "evolino":
        settings = {name: value for name, value in settings.items() if name not in ("num_steps", "num_minibatches")}
        settings |= {"population": 4}
    api.train(agent, ui="none", **settings)
    last = rows(tmp_path / "run")[-1]
    assert 0 <= float(last["eval/info/regret"]) <= 1
    if agent == "ppo":
        assert 0 < float(last["rollout/info/regret"]) < 1


# Where evaluations play


@pytest.mark.parametrize("kind", ["native", "sync"])
@pytest.mark.parametrize("memory", [{}, {"lifetime": "lifelong", "credit": "episode"}], ids=["episode", "lifelong"])
def test_envs_in_which_an_evaluation_played_go_on_as_if_there_had_been_none(tmp_path, kind, memory):
    """Weights and episodes are those of a run without evaluations before the end, to the last bit."""
    settings = {"vectorization": kind, "memory": memory, "env_kwargs": {"corridor_length": 5, "noise": True}}
    train(tmp_path / "same", eval_every=UPDATE, eval_env="same", **settings)
    train(tmp_path / "none", eval_env="none", **settings)
    one, other = (load_checkpoint(tmp_path / name, "latest") for name in ("same", "none"))
    assert all(torch.equal(value, other.model[name]) for name, value in one.model.items())
    assert repr(one.trainer["carry"]["statistics"]) == repr(other.trainer["carry"]["statistics"])
    assert len(np.load(tmp_path / "same" / "evaluations.npz")["timesteps"]) == 5
    assert not (tmp_path / "none" / "evaluations.npz").exists()


def test_envs_that_can_not_be_put_back_are_refused_unless_batches_begin_anew(tmp_path, user_module):
    settings = {"env": "user/Signal-v0", "env_kwargs": {}, "env_import": (user_module,), "eval_env": "same"}
    with pytest.raises(ConfigError, match="eval_env is 'same', but the envs can't be put back"):
        train(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
    shared = {
        name: value for name, value in {**TINY, **settings}.items() if name not in ("num_steps", "num_minibatches")
    }
    result = api.train("reinforce", ui="none", run_dir=str(tmp_path / "batches"), num_episodes=4, **shared)
    assert result.eval_return is not None
    with pytest.raises(ConfigError, match="eval_env is 'same', but evolution makes envs as it needs them"):
        api.train("evolino", ui="none", run_dir=str(tmp_path / "evolution"), **shared)


def test_a_run_does_not_fail_at_its_end_where_no_second_env_may_live(tmp_path, monkeypatch, capfd):
    class Port(gym.Env):
        observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
        open = 0

        def __init__(self):
            if Port.open:
                raise OSError("port 5005 is taken")
            Port.open += 1

        def reset(self, *, seed=None, options=None):
            return np.zeros(2, dtype=np.float32), {}

        def step(self, action):
            return np.zeros(2, dtype=np.float32), 1.0, False, False, {}

        def close(self):
            Port.open -= 1

    gym.register("port/One-v0", Port, max_episode_steps=4)
    settings = {**TINY, "env": "port/One-v0", "env_kwargs": {}, "num_envs": 1, "num_minibatches": 1, "total_steps": 64}
    try:
        result = api.train("ppo", ui="plain", run_dir=str(tmp_path / "run"), **settings)
    finally:
        gym.registry.pop("port/One-v0")
    told = capfd.readouterr().err
    assert "No evaluation, since its envs could not be made" in told
    assert "OSError: port 5005 is taken If only one may live, try --eval-env same or none." in told
    assert (result.steps, result.eval_return, result.interrupted) == (64, None, False)
    assert list_checkpoints(tmp_path / "run")[-1] == 64


# What is told


def test_a_header_that_is_no_terminal_has_lines_that_can_be_read(tmp_path, capfd):
    api.train("ppo", ui="plain", run_dir=str(tmp_path / "run"), **TINY)
    head = capfd.readouterr().err.split("step 32/")[0].splitlines()
    assert len(head) > 1
    assert max(map(len, head[:-1])) <= 120
    assert head[0].startswith("agent ppo | env rlstm/TMaze-v0")


def test_a_total_that_is_overshot_by_an_update_is_told(tmp_path, capfd):
    api.train("ppo", ui="plain", run_dir=str(tmp_path / "run"), **{**TINY, "total_steps": 20})
    assert "The run took 32 steps instead of 20" in capfd.readouterr().err
    api.train("ppo", ui="plain", run_dir=str(tmp_path / "two"), **TINY)
    assert "instead of" not in capfd.readouterr().err


def test_tensorboard_has_what_differs_from_the_defaults_and_what_was_run(tmp_path):
    train(tmp_path / "run", learning_rate=0.01, env="CartPole-v1", env_kwargs={})
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag.endswith("text_summary")]
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags}
    assert texts.keys() >= {"command/text_summary", "config/text_summary", "env/text_summary"}
    assert '"learning_rate": 0.01' in texts["config/text_summary"]
    assert "pole is attached" in texts["env/text_summary"]
    (hparams,) = [
        content
        for _, content in events.summary_metadata.items()
        if content.plugin_data.plugin_name == "hparams" and b"learning_rate" in content.plugin_data.content
    ][:1]
    assert b"hidden_size" in hparams.plugin_data.content
    assert b"gae_lambda" not in hparams.plugin_data.content
