"""The number of threads of a run: measured without touching the run, kept by its checkpoints, told in its header."""

import os

import numpy as np
import pytest
import torch

import rlstm.api.experiments as api
from rlstm.api.finished_runs import evaluate_run
from rlstm.core.threads import ThreadChoice
from rlstm.core.trees import tree_leaves
from rlstm.training import on_policy
from rlstm.training.checkpoints import load_checkpoint
from rlstm.training.config import ConfigError
from rlstm.training.on_policy import Training
from rlstm.training.rehearsal import measured_choice, time_in_turns

UPDATE = 4 * 8
TINY = {
    "env": "rlstm/TMaze-v0",
    "env_kwargs": {"corridor_length": 3, "noise": True},
    "num_envs": 4,
    "hidden_size": 6,
    "encoder_sizes": (5,),
    "total_steps": 3 * UPDATE,
    "eval_every": 0,
    "eval_episodes": 2,
    "checkpoint_every": 1,
    "keep_checkpoints": 99,
    "device": "cpu",
}
AGENTS = {
    "ppo": {"num_steps": 8, "num_minibatches": 2, "normalize_observations": True, "scale_rewards": True},
    "ppo in sequences of trials": {
        "env": "rlstm/BernoulliBandit-v0",
        "env_kwargs": {},
        "memory": {"lifetime": "trial", "episodes_per_trial": 4},
        "num_steps": 8,
        "sequence_length": 4,
        "num_minibatches": 8,
        "exploration": "noveld",
    },
    "reinforce": {"num_episodes": 6, "total_steps": 200},
    "random": {"num_steps": 8},
}


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    """Two cores, whatever there are; torch's number of threads is put back."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture
def measured(monkeypatch):
    """A function that makes measuring, which still takes place, end in a number of threads; it returns the calls."""

    def arrange(count):
        calls = []

        def choice(training, limit):
            calls.append(limit)
            measured_choice(training, limit)
            return ThreadChoice(count, "measured")

        monkeypatch.setattr(on_policy, "measured_choice", choice)
        return calls

    return arrange


def train(path, agent="ppo", ui="none", **settings):
    return api.train(agent.split()[0], ui=ui, run_dir=str(path), **{**TINY, **AGENTS[agent], **settings})


def reached(path):
    """All weights and all that goes on beside them, but for what a clock says."""
    checkpoint = load_checkpoint(path, "latest")
    trainer = {name: value for name, value in checkpoint.trainer.items() if name != "seconds"}
    leaves = [leaf.tolist() if hasattr(leaf, "tolist") else leaf for leaf in tree_leaves(trainer)]
    return {name: tensor.tolist() for name, tensor in checkpoint.model.items()}, repr(leaves)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_run_that_measures_equals_one_that_is_told_the_same_number(tmp_path, measured, agent):
    calls = measured(2)
    train(tmp_path / "measured", agent)
    train(tmp_path / "told", agent, num_threads=2)
    assert calls == [2]
    assert reached(tmp_path / "measured") == reached(tmp_path / "told")


def test_measuring_steps_no_env_and_draws_nothing(monkeypatch):
    config = api.make_config("ppo", **{**TINY, **AGENTS["ppo"]})
    training, _ = api._make_training(config)
    before = repr(tree_leaves({**training.training_state(), **training.own_state(with_episodes=True)}))
    drawn = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    monkeypatch.setattr(training.envs, "step", None)
    monkeypatch.setattr(training.envs, "reset", None)
    choice = measured_choice(training, 2)
    assert choice.count in (1, 2)
    assert "times as fast" in choice.reason
    assert repr(tree_leaves({**training.training_state(), **training.own_state(with_episodes=True)})) == before
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert np.random.get_state()[1].tolist() == drawn[1]  # noqa: NPY002
    training.close()


def test_a_resumed_run_keeps_its_number_and_does_not_measure(tmp_path, measured):
    measured(2)
    train(tmp_path / "whole", total_steps=4 * UPDATE)
    train(tmp_path / "half", total_steps=2 * UPDATE)
    calls = measured(1)
    api.resume(tmp_path / "half", total_steps=4 * UPDATE, ui="none")
    assert calls == []
    assert torch.get_num_threads() == 2
    assert reached(tmp_path / "half") == reached(tmp_path / "whole")


def test_who_resumes_may_give_another_number_and_is_told_what_that_means(tmp_path, capsys):
    train(tmp_path / "run", num_threads=2)
    api.resume(tmp_path / "run", total_steps=4 * UPDATE, num_threads=1, ui="plain")
    assert "had 2 threads up to here and goes on with 1 (num_threads)" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "run", "latest").trainer["num_threads"] == 1
    api.resume(tmp_path / "run", total_steps=5 * UPDATE, ui="plain")
    assert "up to here" not in capsys.readouterr().err
    assert torch.get_num_threads() == 1


def test_a_run_is_measured_anew_on_request(tmp_path, measured):
    measured(2)
    train(tmp_path / "run")
    calls = measured(1)
    api.resume(tmp_path / "run", total_steps=4 * UPDATE, num_threads=0, ui="none")
    assert calls == [2]
    assert load_checkpoint(tmp_path / "run", "latest").trainer["num_threads"] == 1


def test_the_header_says_what_was_chosen_and_why(tmp_path, measured, capsys, monkeypatch):
    measured(2)
    train(tmp_path / "measured", ui="plain")
    assert "threads 2 (measured)" in capsys.readouterr().err
    train(tmp_path / "told", ui="plain", num_threads=1)
    assert "threads 1 (num_threads)" in capsys.readouterr().err
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    train(tmp_path / "bounded", ui="plain")
    assert "threads 1 (OMP_NUM_THREADS)" in capsys.readouterr().err


def test_under_omp_num_threads_1_nothing_is_measured(tmp_path, measured, monkeypatch):
    calls = measured(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    train(tmp_path / "run")
    assert calls == []
    assert torch.get_num_threads() == 1


def test_evolution_computes_with_one_thread_whatever_is_asked_for(tmp_path):
    settings = {name: TINY[name] for name in ("env", "env_kwargs", "num_envs", "hidden_size", "eval_episodes")}
    settings |= {"population": 4, "total_steps": 200, "num_threads": 2}
    api.train("evolino", ui="none", run_dir=str(tmp_path / "run"), **settings)
    assert torch.get_num_threads() == 1


def test_after_a_lasting_fall_threads_are_measured_again_and_the_user_is_told(tmp_path, measured, capsys, monkeypatch):
    """Updates of 10 seconds each, fast ones first; the 15th ends the second slow window at the latest."""
    measured(2)
    update = Training.update

    def timed(self):
        metrics, _ = update(self)
        slow = self.num_updates > 5
        if slow:
            measured(1)
        return metrics | {"time/fps": 10.0 if slow else 100.0}, {"collect": 5.0, "update": 5.0}

    monkeypatch.setattr(Training, "update", timed)
    train(tmp_path / "run", total_steps=15 * UPDATE, ui="plain")
    told = [line for line in capsys.readouterr().err.splitlines() if "measured again" in line]
    assert len(told) == 1
    assert "half of 100 steps/s" in told[0]
    assert "2 before, now 1 (measured)" in told[0]
    at = {step: load_checkpoint(tmp_path / "run", step * UPDATE).trainer["num_threads"] for step in (5, 10, 11, 15)}
    assert at == {5: 2, 10: 2, 11: 1, 15: 1}  # That of update 10 was written before.


def test_a_number_that_was_asked_for_is_never_reconsidered(tmp_path, measured):
    calls = measured(1)
    config = api.make_config("ppo", **{**TINY, **AGENTS["ppo"], "num_threads": 2})
    training, _ = api._make_training(config)
    training.choose_threads()
    assert [training.reconsider_threads(rate, 10.0) for rate in [100.0] * 5 + [1.0] * 10] == [None] * 15
    assert calls == []
    training.close()


def test_rounds_go_through_all_numbers_and_a_hopeless_one_is_left_out():
    now, passes = [0], []

    def rehearse(num_steps):
        passes.append((now[0], num_steps))
        return {1: 0.01, 2: 0.008, 4: 0.5}[now[0]]

    seconds = time_in_turns(rehearse, 64, [1, 2, 4], lambda count: now.__setitem__(0, count))
    assert seconds == {1: [0.01] * 5, 2: [0.008] * 5}
    assert passes[:6] == [(1, 8), (1, 8), (2, 8), (2, 8), (4, 8), (4, 8)]
    assert [count for count, _ in passes[6:]] == [1, 2, 2, 1, 1, 2, 2, 1, 1, 2]
    assert {steps for _, steps in passes[6:]} == {40}  # 50 milliseconds.


def test_a_finished_run_is_played_with_one_thread_or_as_many_as_were_asked_for(tmp_path, measured):
    measured(2)
    train(tmp_path / "run")
    for asked, threads in ((None, 1), (2, 2)):
        evaluate_run(tmp_path / "run", episodes=2, num_threads=asked)
        assert torch.get_num_threads() == threads
    with pytest.raises(ConfigError, match="num_threads is 0; it must be at least 1"):
        evaluate_run(tmp_path / "run", episodes=2, num_threads=0)
