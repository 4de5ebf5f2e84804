"""Training with a teacher by CTC, and with memories that read whole sequences."""

import csv
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlstm
from rlstm.agents.teacher import Teacher
from rlstm.api import experiments as api
from rlstm.cli import main
from rlstm.losses.ctc import ctc_loss, greedy_labels, label_error_rate
from rlstm.training.checkpoints import load_checkpoint
from rlstm.training.config import ConfigError
from rlstm.training.run_directory import RunDirectory
from rlstm.training.teaching import Teaching

SPOKEN: dict[str, Any] = {
    "env": "rlstm/SpokenStrings-v0",
    "env_kwargs": {"min_labels": 1, "max_labels": 3, "max_duration": 5},
    "hidden_size": 5,
    "batch_size": 4,
    "num_threads": 1,
    "eval_episodes": 3,
}
BOTH = {**SPOKEN, "bidirectional": True}


@pytest.fixture
def cut_strings():
    """Register an env that cuts its strings after four steps, for one test."""
    gym.register(
        "test/CutStrings-v0",
        entry_point="rlstm.envs.base.batched:SingleEnv",
        vector_entry_point="rlstm.envs.base.batched:BatchedVectorEnv",
        max_episode_steps=4,
        kwargs={"task": "rlstm.envs.sequences.spoken:SpokenStrings"},
    )
    yield
    del gym.registry["test/CutStrings-v0"]


@pytest.fixture
def start(request: pytest.FixtureRequest):
    """Make runs that are closed when the test ends; returns the agent of each."""

    def begin(settings: dict[str, Any], **more: Any) -> Teacher:
        training, _ = api._make_training(api.make_config("teacher", **{**settings, **more}))
        request.addfinalizer(training.close)
        assert isinstance(training, Teaching)
        return training.agent

    return begin


def train(path: Path, settings: dict[str, Any], agent: str = "teacher", **more: Any) -> Any:
    return api.train(agent, ui="none", run_dir=str(path), **{**settings, **more})


def rows(path: Path) -> list[dict[str, str]]:
    with (path / "progress.csv").open() as file:
        return list(csv.DictReader(file))


def test_ctc_is_chosen_where_the_env_gives_strings_and_cross_entropy_on_request(start):
    assert start(SPOKEN).objective.name == "ctc"
    assert start(SPOKEN, loss="cross-entropy").objective.name == "cross-entropy"
    assert start(SPOKEN, optimizer="dekf", dtype="float64", cell="lstm").objective.name == "cross-entropy"
    assert start({**SPOKEN, "env": "rlstm/AnBn-v0", "env_kwargs": {}}).objective.name == "cross-entropy"


@pytest.mark.parametrize("settings", [SPOKEN, BOTH, {**BOTH, "num_layers": 2}])
def test_an_update_descends_the_loss_of_every_sequence_read_alone(start, settings):
    agent = start(settings, dtype="float64", max_grad_norm=1e9)
    drawn = agent.source.sequences(0)
    lengths = drawn.valid.sum(0).tolist()
    assert len(set(lengths)) > 1
    losses, strings = [], []
    for row, length in enumerate(lengths):
        first = torch.zeros(length, 1, dtype=torch.bool)
        first[0] = True
        inputs = drawn.inputs._replace(observations=drawn.inputs.observations[:length, row : row + 1])
        outputs = agent.policy.outputs(inputs, first, agent.policy.init_state(1))
        losses.append(ctc_loss(outputs, drawn.labels[:, [row]].T, None, blank=10))
        strings.append(greedy_labels(outputs.detach(), None, blank=10)[0])
    found = torch.nn.utils.rnn.pad_sequence(strings, batch_first=True, padding_value=-1)
    loss = torch.stack(losses).mean()
    actor = [parameter for name, parameter in agent.policy.named_parameters() if not name.startswith("value_head")]
    gradients = torch.autograd.grad(loss, actor)
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in gradients))
    metrics, num_steps, _ = agent.update(0, 0)
    assert metrics["train/loss"] == pytest.approx(float(loss.detach()), rel=1e-9)
    assert metrics["train/grad_norm"] == pytest.approx(float(norm), rel=1e-6)
    assert metrics["teacher/label_error_rate"] == label_error_rate(found, drawn.labels.T)
    assert num_steps == sum(lengths)


def test_drawn_strings_are_those_of_the_sequences(start):
    drawn = start(SPOKEN).source.sequences(3)
    for row, length in enumerate(drawn.valid.sum(0).tolist()):
        path = [int(target.argmax()) for target in drawn.targets[:length, row]]
        runs = [one for step, one in enumerate(path) if step == 0 or path[step - 1] != one]
        assert [one for one in runs if one != 10] == [one for one in drawn.labels[:, row].tolist() if one >= 0]


def test_chosen_and_split_sequences_keep_their_strings(start):
    drawn = start(SPOKEN).source.sequences(0)
    chosen, (first, others) = drawn.select(torch.tensor([2, 0])), drawn.split(1)
    assert torch.equal(chosen.labels, drawn.labels[:, [2, 0]][: len(chosen.labels)])
    assert torch.equal(torch.cat([first.labels, others.labels], 1), drawn.labels)


@pytest.mark.parametrize("settings", [SPOKEN, BOTH])
def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path, settings):
    train(tmp_path / "whole", settings, total_steps=1_200, eval_every=600, checkpoint_every=600)
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    for step in list((tmp_path / "half" / "checkpoints").glob("step_*")):
        if int(step.name.removeprefix("step_")) > 900:
            shutil.rmtree(step)
    rlstm.resume(str(tmp_path / "half"), ui="none")
    ends = [load_checkpoint(RunDirectory(str(tmp_path / name)), "latest").model for name in ("whole", "half")]
    assert all(torch.equal(one, ends[1][name]) for name, one in ends[0].items())
    last = rows(tmp_path / "whole")[-1]
    assert 0 < float(last["eval/label_error_rate"]) <= 2
    assert float(last["teacher/label_error_rate"]) > 0
    assert "eval/success_rate" in last


@pytest.mark.parametrize("settings", [SPOKEN, BOTH])
def test_a_few_updates_lower_the_loss(tmp_path, settings):
    easy = {"min_labels": 1, "max_labels": 1, "noise": 0.0, "voices": 0.0, "max_duration": 4}
    more = {"env_kwargs": easy, "learning_rate": 2e-2, "hidden_size": 16, "batch_size": 16, "total_steps": 12_000}
    train(tmp_path / "run", settings, **more)
    losses = [float(row["train/loss"]) for row in rows(tmp_path / "run")]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_evaluate_plays_what_cannot_act_and_all_else_refuses_it(tmp_path, capsys):
    path = str(tmp_path / "run")
    train(Path(path), BOTH, total_steps=500)
    result = rlstm.evaluate(path, episodes=4)
    assert result.label_error_rate is not None
    with pytest.raises(ConfigError, match="is bidirectional: it reads a sequence from both ends"):
        rlstm.load(path)
    with pytest.raises(ConfigError, match="is bidirectional"):
        rlstm.record(path, episodes=2)
    for words in ("inspect", "card", "watch", "export --format onnx --out away"):
        verb, *flags = words.split()
        assert main([verb, path, *flags]) == 2
        assert "is bidirectional" in capsys.readouterr().err


@pytest.mark.parametrize("agent", ["ppo", "reinforce", "evolino", "random"])
def test_agents_that_act_refuse_a_memory_of_the_future(tmp_path, agent):
    settings = {name: value for name, value in BOTH.items() if name != "batch_size"}
    with pytest.raises(ConfigError, match=f"bidirectional is set, but an agent of {agent} acts"):
        train(tmp_path / "run", settings, agent, total_steps=100)


def test_a_washout_that_ctc_does_not_read_is_named(start):
    with pytest.warns(UserWarning, match="washout is 3, which has no effect: the loss is ctc"):
        start(SPOKEN, washout=3)


@pytest.mark.usefixtures("cut_strings")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env": "rlstm/AnBn-v0", "env_kwargs": {}, "loss": "ctc"}, "there are no strings of labels"),
        ({"env": "rlstm/Adding-v0", "env_kwargs": {}, "loss": "ctc"}, "there are no strings of labels"),
        ({"loss": "ctc", "inputs.previous_action": True}, "there are no strings of labels"),
        ({"env": "test/CutStrings-v0", "env_kwargs": {"min_labels": 5}}, "has 4 steps for . labels, .* CTC needs"),
        ({"bidirectional": True, "env": "rlstm/TMaze-v0", "env_kwargs": {}}, "can't draw whole sequences"),
        ({"bidirectional": True, "inputs.previous_action": True}, "inputs has previous_action"),
        ({"bidirectional": True, "memory.lifetime": "lifelong"}, "memory.lifetime is 'lifelong'"),
        ({"bidirectional": True, "optimizer": "dekf"}, "optimizer is 'dekf', which carries derivatives forward"),
        ({"loss": "ctc", "optimizer": "dekf"}, "loss is 'ctc', but optimizer is 'dekf'"),
        ({"bidirectional": True, "normalize_observations": True}, "normalize_observations is set"),
        ({"bidirectional": True, "demonstrations": "some.safetensors"}, "demonstrations is some.safetensors"),
        ({"bidirectional": True, "cell": "time_aware_lstm"}, "reads the elapsed time"),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_training(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", {**SPOKEN, **settings}, total_steps=100)
    assert not (tmp_path / "run" / "checkpoints").exists()
