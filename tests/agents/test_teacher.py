"""Training with a teacher: which sequences are learnt, by which gradient, and that a run can stop anywhere."""

import csv
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlstm
from rlstm.agents.teacher import Teacher
from rlstm.api import experiments as api
from rlstm.core.errors import DemonstrationsError
from rlstm.core.ranks import Ranks
from rlstm.core.seeding import integer_seeds
from rlstm.core.trees import tree_leaves
from rlstm.envs import ENVS
from rlstm.envs.base.teacher import TeacherTask
from rlstm.evaluation.demonstrations import Demonstrations, describe_space
from rlstm.evaluation.teacher_sequences import drawn_teacher_sequences, play_teacher_sequences
from rlstm.evaluation.teacher_source import taught_envs
from rlstm.training.checkpoints import load_checkpoint
from rlstm.training.config import ConfigError
from rlstm.training.result import TrainResult
from rlstm.training.run_directory import RunDirectory
from rlstm.training.teaching import Teaching

STRINGS: dict[str, Any] = {
    "env": "rlstm/AnBn-v0",
    "env_kwargs": {"max_n": 3},
    "hidden_size": 5,
    "batch_size": 4,
    "num_threads": 1,
    "eval_episodes": 3,
}
TAUGHT = [name for name, row in ENVS.items() if issubclass(row.load_task(), TeacherTask)]
FILTERED: dict[str, Any] = {**STRINGS, "optimizer": "dekf", "dtype": "float64", "cell": "peephole_lstm"}
ADDING: dict[str, Any] = {**STRINGS, "env": "rlstm/Adding-v0", "env_kwargs": {"length": 6}}


@pytest.fixture
def start(request: pytest.FixtureRequest):
    """Make runs that are closed when the test ends; returns each and its agent."""

    def begin(settings: dict[str, Any], **more: Any) -> tuple[Teaching, Teacher]:
        training, _ = api._make_training(api.make_config("teacher", **{**settings, **more}))
        request.addfinalizer(training.close)
        assert isinstance(training, Teaching)
        assert isinstance(training.agent, Teacher)
        return training, training.agent

    return begin


def train(path: Path, settings: dict[str, Any], **more: Any) -> TrainResult:
    return api.train("teacher", ui="none", run_dir=str(path), **{**settings, **more})


def demonstrations(num: int = 7) -> Demonstrations:
    """Return recordings of Repeat, lengths 2, 3, 4, 2, ...: the answer is the first observation's sign."""
    env = Repeat()
    lengths = np.array([2 + index % 3 for index in range(num)])
    valid = np.arange(4)[:, None] < lengths
    signs = np.where(np.arange(num) % 2 == 0, 1.0, -1.0)
    observations = np.zeros((4, num, 1), dtype=np.float32)
    observations[0, :, 0] = signs
    actions = np.where(valid, (signs > 0).astype(np.int64), 0)
    starts = np.zeros_like(valid)
    starts[0] = True
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    return Demonstrations(
        observations,
        actions,
        np.zeros(valid.shape),
        valid,
        starts,
        np.full(num, np.nan),
        describe_space(spaces["observation_space"]),
        describe_space(spaces["action_space"], bounds=True),
    )


class Repeat(gym.Env[Any, Any]):
    """A sign is shown at step 0 only; four times 1 is to be answered for +1 and 0 for -1."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.sign, self.time = int(self.np_random.integers(2)) * 2 - 1, 0
        return np.array([self.sign], dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        right = (action == 1) == (self.sign > 0)
        return np.zeros(1, dtype=np.float32), float(right), self.time == 4, False, {}


class Echo(gym.Env[Any, Any]):
    """Shows the last answer; its teacher asks for 0, 1, 0, 1: what is seen depends on what is answered."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        target = self.time % 2
        self.time += 1
        shown = np.array([2.0 * action - 1], dtype=np.float32)
        return shown, float(action == target), self.time == 4, False, {"target": target}


@pytest.fixture(autouse=True, scope="module")
def registered():
    """Register the envs of this module."""
    envs = {"teacher-test/Repeat-v0": Repeat, "teacher-test/Echo-v0": Echo}
    for name, env in envs.items():
        gym.register(name, env)
    yield
    for name in envs:
        del gym.registry[name]


# Sequences.


@pytest.mark.parametrize(
    ("env", "arguments"), [*((env, {}) for env in TAUGHT), ("rlstm/Sines-v0", {"feedback": True, "free_run": 30})]
)
def test_sequences_that_are_drawn_whole_are_those_that_would_be_played(
    start: Any, env: str, arguments: dict[str, Any]
) -> None:
    training, agent = start({**STRINGS, "env": env, "env_kwargs": arguments})
    envs, seeds = agent.envs(5), integer_seeds(3, "check", 5)
    drawn = drawn_teacher_sequences(training.policy, envs, seeds, washout=None)
    played = play_teacher_sequences(training.policy, envs, seeds, washout=None)
    assert drawn is not None
    asked = played.weights > 0
    for name in ("is_first", "weights", "valid"):
        # Memory may begin again in the idle tail of what is played.
        running = slice(None) if name != "is_first" else drawn.valid
        assert torch.equal(getattr(drawn, name)[running], getattr(played, name)[running]), name
    assert torch.equal(drawn.targets[asked], played.targets[asked])
    assert torch.equal(drawn.inputs.observations[drawn.valid], played.inputs.observations[drawn.valid])


def test_sequences_are_played_where_more_is_seen_than_they_hold(start: Any) -> None:
    training, agent = start(STRINGS, inputs={"previous_action": True})
    sequences = agent.source.sequences(0)
    assert drawn_teacher_sequences(training.policy, agent.envs(4), range(4), washout=None) is None
    before, answers = sequences.inputs.previous_actions, training.policy.distribution.mode(sequences.targets, None)
    inside = sequences.valid[1:]
    assert torch.equal(before[1:][inside], answers[:-1][inside])  # Teacher forcing.


def test_every_update_has_sequences_of_its_own_that_no_evaluation_plays(start: Any, monkeypatch: Any) -> None:
    training, _ = start(STRINGS)
    seen: list[int] = []
    monkeypatch.setattr(
        "rlstm.evaluation.teacher_source.drawn_teacher_sequences",
        lambda policy, envs, seeds, **rest: seen.extend(seeds) or drawn_teacher_sequences(policy, envs, seeds, **rest),
    )
    for _ in range(3):
        training.update()
    assert len(set(seen)) == len(seen) == 12
    assert not set(seen) & set(integer_seeds(0, "training_evaluation", 1000))
    assert not set(seen) & set(integer_seeds(0, "evaluation", 1000))


def test_steps_are_counted_up_to_the_end_of_each_sequence(start: Any) -> None:
    training, agent = start(STRINGS)
    lengths = agent.source.sequences(0).valid.sum(0)
    assert len(set(lengths.tolist())) > 1
    training.update()
    assert training.step == int(lengths.sum())


def test_demonstrations_are_read_once_each_in_an_order_that_changes(start: Any, tmp_path: Path) -> None:
    demonstrations().save(tmp_path / "d")
    settings = {**STRINGS, "env": "teacher-test/Repeat-v0", "env_kwargs": {}}
    _, agent = start(settings, demonstrations=str(tmp_path / "d"), batch_size=3)
    whole = agent.source._recorded
    whole.inputs.observations[1, :, 0] = torch.arange(7.0)  # So that each can be told.
    epochs = []
    for epoch in range(4):
        read = [agent.source.sequences(3 * epoch + batch) for batch in range(3)]
        assert [one.valid.shape[1] for one in read] == [3, 3, 1]
        assert all(len(one.valid) == int(one.valid.sum(0).max()) for one in read)
        epochs.append([int(number) for one in read for number in one.inputs.observations[1, :, 0]])
        assert sorted(epochs[-1]) == list(range(7))
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("optimizer", ["adam", "dekf"])
def test_a_batch_that_asks_nothing_changes_nothing(start: Any, tmp_path: Path, optimizer: str) -> None:
    demonstrations().save(tmp_path / "d")  # Of 2, 3 and 4 steps: the washout leaves one in two of seven.
    settings = {**FILTERED, "optimizer": optimizer, "env": "teacher-test/Repeat-v0", "env_kwargs": {}}
    training, agent = start(settings, demonstrations=str(tmp_path / "d"), batch_size=1, washout=3)
    changed = []
    for index in range(7):
        before = [weight.clone() for weight in training.policy.parameters()]
        metrics, steps, _ = agent.update(index, index)
        changed.append(any(not torch.equal(*pair) for pair in zip(before, training.policy.parameters(), strict=True)))
        assert ("train/loss" in metrics) == changed[-1] == (steps == 4)
        assert np.isfinite(list(metrics.values())).all()
    assert sum(changed) == 2
    assert agent.num_sequences == 7


def test_sequences_that_ask_nothing_are_not_counted_as_right(start: Any) -> None:
    _, agent = start(STRINGS)
    outputs = torch.zeros(3, 2, agent.policy.distribution.num_parameters)
    targets, weights = -torch.ones_like(outputs), torch.zeros(3, 2)
    targets[..., -1], weights[0, 0] = 1.0, 1.0  # The last is asked once, in the first sequence alone.
    for answer, share in ((0.0, 0.0), (9.0, 1.0)):
        outputs[..., -1] = answer
        loss = agent.objective(outputs, targets, weights, None, torch.ones(3, 2, dtype=torch.bool))
        assert agent.objective.accuracy(loss, weights)["right_sequences"] == share


def test_the_envs_with_a_teacher_are_named() -> None:
    assert taught_envs() == sorted(TAUGHT)


# The gradient.


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_gradient_is_that_of_the_mean_over_what_is_asked_through_whole_sequences(start: Any, cell: str) -> None:
    training, agent = start(ADDING, dtype="float64", cell=cell, hidden_size=3, max_grad_norm=1e9)
    policy, sequences = training.policy, agent.source.sequences(0)
    total, count = torch.zeros((), dtype=torch.float64), 0
    for lane in range(4):  # One after the other, step by step, each only up to its end.
        state, steps = policy.actor.cell.init_state(1), int(sequences.valid[:, lane].sum())
        for step in range(steps):
            seen = policy.actor.encoder(sequences.inputs.observations[step, lane : lane + 1], [], policy.dtype)
            features, state = policy.actor.cell.step(seen, state)
        total = total + (policy.policy_head(features) - sequences.targets[steps - 1, lane]).square().sum()
        count += 1
    expected = torch.autograd.grad(total / count, list(policy.actor.parameters()))
    outputs = agent._outputs(policy, sequences)
    loss = agent._loss(outputs, sequences)
    assert float(loss.value) == pytest.approx(float(total.detach() / count), rel=1e-12)
    found = torch.autograd.grad((outputs * loss.gradient).sum(), list(policy.actor.parameters()))
    for one, another in zip(found, expected, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-10, atol=1e-14)


def test_a_bptt_horizon_cuts_the_gradient_of_what_was_seen_before(start: Any) -> None:
    gradients = []
    for horizon in (None, 1):
        training, agent = start(ADDING, dtype="float64", memory={"bptt_horizon": horizon})
        outputs = agent._outputs(training.policy, agent.source.sequences(0))
        gradients.append(torch.autograd.grad(outputs[-1].sum(), training.policy.actor.cell.parameters())[0])
    assert not torch.allclose(*gradients)


def test_what_lies_behind_the_end_of_a_sequence_changes_nothing(start: Any) -> None:
    _, agent = start(STRINGS, dtype="float64")
    sequences = agent.source.sequences(0)
    assert not sequences.valid.all()
    loss = agent._loss(agent._outputs(agent.policy, sequences), sequences)
    observations = sequences.inputs.observations.masked_fill(~sequences.valid, 2)
    elsewhere = sequences._replace(
        inputs=sequences.inputs._replace(observations=observations),
        targets=sequences.targets.masked_fill(~sequences.valid.unsqueeze(-1), 5.0),
    )
    other = agent._loss(agent._outputs(agent.policy, elsewhere), elsewhere)
    assert torch.equal(loss.value, other.value)
    assert torch.equal(loss.gradient, other.gradient)


def test_decayed_weights_are_smaller_after_a_step(start: Any) -> None:
    sizes = []
    for decay in (0.0, 10.0):
        training, _ = start(STRINGS, weight_decay=decay, learning_rate=0.01)
        training.update()
        sizes.append(float(training.policy.actor.cell.weight_hh.detach().norm()))
    assert sizes[1] == pytest.approx(0.9 * sizes[0], rel=0.05)


@pytest.mark.parametrize(
    ("settings", "steps", "wanted"),
    [
        ({**STRINGS, "env_kwargs": {"max_n": 2}, "learning_rate": 0.03, "batch_size": 8}, 10_000, 0.99),
        ({**FILTERED, "env_kwargs": {"min_n": 3, "max_n": 3}, "batch_size": 8}, 2_000, 0.999),
        ({**STRINGS, "env": "teacher-test/Echo-v0", "env_kwargs": {}, "learning_rate": 0.02}, 3_000, 3.9),
    ],
)
def test_it_learns_what_its_teacher_answers(
    tmp_path: Path, settings: dict[str, Any], steps: int, wanted: float
) -> None:
    result = train(tmp_path / "run", settings, total_steps=steps, eval_every=0, eval_episodes=30)
    assert result.eval_return is not None
    assert result.eval_return >= wanted


def test_a_clone_acts_in_closed_loop_as_its_demonstrations(tmp_path: Path) -> None:
    demonstrations(12).save(tmp_path / "d")
    settings = {**STRINGS, "env": "teacher-test/Repeat-v0", "env_kwargs": {}, "learning_rate": 0.02}
    result = train(
        tmp_path / "run",
        settings,
        demonstrations=str(tmp_path / "d"),
        total_steps=6_000,
        eval_every=0,
        eval_episodes=20,
    )
    assert result.eval_return == 4.0


# Runs.


def everything(path: Path) -> Any:
    """Return all that a run has reached, but for what a clock says."""
    checkpoint = load_checkpoint(RunDirectory(path), "latest")
    trainer = {name: value for name, value in checkpoint.trainer.items() if name != "seconds"}
    with (path / "progress.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]
    leaves = tree_leaves([dict(sorted(checkpoint.model.items())), trainer])
    return rows, repr([leaf.tolist() if hasattr(leaf, "tolist") else leaf for leaf in leaves])


SOURCES: dict[str, dict[str, Any]] = {
    "drawn": STRINGS,
    "played": {**STRINGS, "inputs": {"previous_action": True}},
    "recorded": {**STRINGS, "env": "teacher-test/Repeat-v0", "env_kwargs": {}, "batch_size": 3},
    "normalised": {**ADDING, "normalize_observations": True, "weight_decay": 0.1},
    "filtered": {**FILTERED, "dekf_weight_noise": 0.2},
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_never_stopped(tmp_path: Path, source: str) -> None:
    settings = {**SOURCES[source], "total_steps": 400, "eval_every": 100, "checkpoint_every": 1}
    if source == "recorded":
        demonstrations().save(tmp_path / "d")
        settings["demonstrations"] = str(tmp_path / "d")
    train(tmp_path / "whole", settings)
    stops = iter([True, False])
    first = api.train(
        "teacher", ui="none", run_dir=str(tmp_path / "parts"), on_evaluation=lambda *_: next(stops), **settings
    )
    assert first.steps < 400
    rlstm.resume(tmp_path / "parts", ui="none")
    found, expected = everything(tmp_path / "parts"), everything(tmp_path / "whole")
    assert found == expected


def test_ppo_goes_on_from_a_clone_and_a_clone_from_ppo(tmp_path: Path) -> None:
    network = {"hidden_size": 5, "encoder_sizes": (), "normalize_observations": False, "scale_rewards": False}
    shared = {**network, "env": STRINGS["env"], "env_kwargs": STRINGS["env_kwargs"], "num_threads": 1}
    train(tmp_path / "clone", STRINGS, total_steps=100)
    learnt = rlstm.train(
        "ppo", ui="none", run_dir=str(tmp_path / "ppo"), init_from=str(tmp_path / "clone"), total_steps=64, num_envs=2,
        num_steps=16, num_minibatches=1, **shared,
    )  # fmt: skip
    assert learnt.steps == 64
    train(tmp_path / "again", STRINGS, init_from=str(tmp_path / "ppo"), total_steps=50, keep_checkpoints=99)
    begun = load_checkpoint(RunDirectory(tmp_path / "again"), 0).model
    given = load_checkpoint(RunDirectory(tmp_path / "ppo"), "best").model
    taken = {name for name in given if name.startswith(("actor.", "policy_head."))}
    assert taken
    assert all(torch.equal(begun[name], given[name]) for name in taken)


@pytest.mark.parametrize("values", [{"scale_rewards": True}, {"popart": True}, {"critic_memory": "separate"}])
def test_values_begin_anew_where_one_of_two_runs_has_none(tmp_path: Path, values: dict[str, Any]) -> None:
    network = {"hidden_size": 5, "encoder_sizes": (), "normalize_observations": False, "keep_checkpoints": 99}
    shared = {**network, "env": STRINGS["env"], "env_kwargs": STRINGS["env_kwargs"], "num_threads": 1, "ui": "none"}
    learns = {"total_steps": 64, "num_envs": 2, "num_steps": 16, "num_minibatches": 1, **values}
    train(tmp_path / "clone", STRINGS, total_steps=100)
    rlstm.train("ppo", run_dir=str(tmp_path / "fresh"), **shared, **learns)
    rlstm.train("ppo", run_dir=str(tmp_path / "ppo"), init_from=str(tmp_path / "clone"), **shared, **learns)
    fresh, begun = (load_checkpoint(RunDirectory(tmp_path / name), 0).model for name in ("fresh", "ppo"))
    given = load_checkpoint(RunDirectory(tmp_path / "clone"), "best").model
    assert fresh.keys() == begun.keys()
    for name, tensor in begun.items():
        source = given if name.startswith(("actor.", "policy_head.")) else fresh
        assert torch.equal(tensor, source[name]), name
    train(tmp_path / "again", STRINGS, init_from=str(tmp_path / "ppo"), total_steps=50)


@pytest.mark.parametrize(
    ("agent", "settings", "hint"),
    [
        ("ppo", {}, "decided by scale_rewards"),
        ("ppo", {"scale_rewards": False, "critic_memory": "separate"}, "decided by critic_memory"),
        ("teacher", {"hidden_size": 7}, "decided by cell, hidden_size"),
    ],
)
def test_weights_of_another_network_are_refused_by_the_setting_that_differs(
    tmp_path: Path, agent: str, settings: dict[str, Any], hint: str
) -> None:
    begun = {"env": STRINGS["env"], "env_kwargs": STRINGS["env_kwargs"], "num_threads": 1, "ui": "none"}
    network = {"hidden_size": 5, "encoder_sizes": (), "total_steps": 64}
    values = {"scale_rewards": False} if agent == "ppo" else {}
    rlstm.train(agent, run_dir=str(tmp_path / "given"), eval_episodes=2, **begun, **network, **values)
    begun["init_from"] = str(tmp_path / "given")
    with pytest.raises(ConfigError, match=hint):
        rlstm.train("ppo", run_dir=str(tmp_path / "ppo"), **begun, **{**network, **settings})


# Refusals, before anything is written.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env": "teacher-test/Repeat-v0", "env_kwargs": {}}, r"info\['target'\].*rlstm/Adding-v0.*rlstm/Sines-v0"),
        ({"washout": 99}, "washout is 99"),
        ({"loss": "squared"}, "loss is 'squared'.*choices"),
        ({"critic_memory": "separate"}, "critic_memory is 'separate', but a teacher has no critic"),
        ({"popart": True}, "popart is set, but a teacher has no critic"),
        ({"eval_env": "same"}, "eval_env is 'same', but a teacher makes envs"),
        ({"demonstrations": "nowhere"}, "nowhere can't be read"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({**FILTERED, "dtype": "float32"}, "float32 on cpu.*--dtype float64"),
        ({**FILTERED, "cell": "gru", "dekf_derivatives": "truncated"}, "takes one layer of lstm or peephole_lstm"),
        ({**FILTERED, "hidden_size": 600}, "would take .* GiB, derivatives .* GiB; at most 2 GiB"),
        ({**FILTERED, "dekf_measurement_noise": 0.0}, "dekf_measurement_noise is 0.0"),
        ({**FILTERED, "dekf_final_process_noise": 0.0}, "dekf_final_process_noise 0: neither goes"),
        ({**FILTERED, "loss": "squared"}, "loss is 'squared'"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValueError, DemonstrationsError), match=message):
        train(tmp_path / "run", {**STRINGS, **settings})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dekf_first_variance": 3.0}, "dekf_first_variance is 3.0, which has no effect: optimizer is 'adam'"),
        ({"optimizer": "dekf", "learning_rate": 0.1}, "learning_rate is 0.1, which has no effect: optimizer is 'dekf'"),
        ({"optimizer": "dekf", "memory": {"bptt_horizon": 3}}, "memory.bptt_horizon is 3, which has no effect"),
    ],
)
def test_settings_that_the_optimiser_does_not_read_are_named(start: Any, settings: Any, message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        start({**STRINGS, "dtype": "float64"}, **settings)


def test_a_batch_is_filtered_answer_by_answer_with_noises_that_fall(start: Any) -> None:
    training, agent = start(FILTERED, total_steps=100)
    before = training.policy.value_head[0].weight.clone()
    begun, steps, _ = agent.update(0, 0)
    assert begun["dekf/updates"] == steps
    ended, more, _ = agent.update(1, 100)
    assert ended["dekf/updates"] == steps + more
    assert (begun["dekf/measurement_noise"], ended["dekf/measurement_noise"]) == (100.0, 1.0)
    assert torch.equal(training.policy.value_head[0].weight, before)


def test_measuring_threads_leaves_the_filter_and_the_policy_alone(start: Any) -> None:
    training, agent = start(FILTERED)
    before = repr([training.policy.state_dict(), agent.state_dict()])
    assert agent.rehearse(4) > 0
    assert repr([training.policy.state_dict(), agent.state_dict()]) == before


def test_demonstrations_of_another_env_are_refused(tmp_path: Path) -> None:
    demonstrations().save(tmp_path / "d")
    with pytest.raises(DemonstrationsError, match="of another env"):
        train(tmp_path / "run", STRINGS, demonstrations=str(tmp_path / "d"))


def test_ranks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"2 ranks.*without torchrun"):
        api._make_training(api.make_config("teacher", **STRINGS), Ranks(0, 2))
