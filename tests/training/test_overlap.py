"""Runs that collect while they learn: the same bits whatever is faster, resumed exactly, stopped in order."""

import os
import signal
import threading
import time

import pytest

from rlstm.agents.ppo import PPO
from rlstm.api import experiments as api
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.threads import ThreadChoice
from rlstm.rollouts.overlap import Overlap
from rlstm.training.checkpoints import list_checkpoints, load_checkpoint
from rlstm.training.config import ConfigError
from rlstm.training.on_policy import Training
from tests.faulty_env import ID, FaultyEnv
from tests.training.test_resume import (
    ALGORITHMS,
    MEMORIES,
    TINY,
    UPDATE,
    assert_same_run,
    everything,
    middle,
    stopped_at,
)

OVERLAP = {"advantages": "vtrace", "overlap": True, **ALGORITHMS["ppo"]}


def train(path, **settings):
    return api.train("ppo", ui="none", run_dir=str(path), **{**TINY, **OVERLAP, **settings})


def training_of(**settings):
    return api._make_training(api.make_config("ppo", **{**TINY, **OVERLAP, **settings}))[0]


def numbers(path, column):
    return [float(row[column]) for row in everything(path)["rows"] if row[column]]


@pytest.fixture
def in_turns(monkeypatch):
    """Collect the whole rollout before learning begins, in the thread that learns."""
    monkeypatch.setattr(threading.Thread, "start", lambda thread: thread.run())
    monkeypatch.setattr(threading.Thread, "join", lambda thread, timeout=None: None)


NETWORKS = {
    "plain": {},
    "normalised": {"popart": True, "critic_memory": "separate"},
    "stale states": {"refresh_states": False},
}


@pytest.mark.parametrize(
    ("network", "lifetime"), [("plain", "episode"), ("normalised", "trial"), ("stale states", "trial")]
)
def test_a_run_is_the_same_to_the_last_bit_whichever_is_faster(tmp_path, request, network, lifetime):
    settings = {**NETWORKS[network], "memory": MEMORIES[lifetime], "vectorization": "sync"}
    train(tmp_path / "first", **settings)
    train(tmp_path / "second", **settings)
    assert_same_run(tmp_path / "second", everything(tmp_path / "first"))
    request.getfixturevalue("in_turns")
    train(tmp_path / "in turns", **settings)
    assert_same_run(tmp_path / "in turns", everything(tmp_path / "first"))


def test_rollouts_are_one_update_old_once_something_is_learnt(tmp_path):
    """The first only tells where values begin, the second is its successor's; from the fourth on other weights act."""
    train(tmp_path / "run", learning_rate=0.1, anneal_lr=False, dtype="float64")
    ratios = numbers(tmp_path / "run", "train/vtrace_ratio")
    assert len(ratios) == 5
    on_policy = [abs(ratio - 1) < 1e-9 for ratio in ratios]
    assert on_policy == [True, True, False, False, False]
    assert max(numbers(tmp_path / "run", "train/first_ratio_error")) <= 1e-9


def test_in_float32_stored_steps_are_those_of_the_weights_that_acted_up_to_rounding(tmp_path):
    train(tmp_path / "run", total_steps=12 * UPDATE, eval_every=0)
    errors = numbers(tmp_path / "run", "train/first_ratio_error")
    assert len(errors) == 11
    assert max(errors) <= 1e-4


@pytest.mark.parametrize(
    ("network", "kind", "lifetime"),
    [("plain", "native", "episode"), ("normalised", "sync", "trial"), ("stale states", "async", "episode")],
)
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, network, kind, lifetime):
    settings = {**NETWORKS[network], "memory": MEMORIES[lifetime], "vectorization": kind}
    train(tmp_path / "whole", **settings)
    expected = everything(tmp_path / "whole")
    for step in (UPDATE, middle(tmp_path / "whole")):  # Before and after the first rollout that is collected ahead.
        path = stopped_at(tmp_path / "whole", tmp_path / f"stopped at {step}", step)
        assert (load_checkpoint(path, "latest").trainer["next_rollout"] is None) == (step == UPDATE)
        api.resume(path, ui="none")
        assert_same_run(path, expected)


def test_a_finished_run_that_goes_on_to_a_larger_total_equals_one_of_that_total(tmp_path):
    train(tmp_path / "whole", anneal_lr=False, eval_every=2 * UPDATE)
    train(tmp_path / "short", anneal_lr=False, eval_every=2 * UPDATE, total_steps=4 * UPDATE)
    api.resume(tmp_path / "short", total_steps=6 * UPDATE, ui="none")
    assert_same_run(tmp_path / "short", everything(tmp_path / "whole"))


def test_evaluations_in_the_training_s_own_envs_leave_the_rollout_that_is_ahead(tmp_path):
    train(tmp_path / "none", eval_env="none")
    train(tmp_path / "same", eval_env="same")
    models = [load_checkpoint(tmp_path / name, "latest").model for name in ("none", "same")]
    assert all(tensor.equal(models[1][name]) for name, tensor in models[0].items())


def test_ctrl_c_ends_the_update_and_loses_nothing(tmp_path, monkeypatch):
    update = Training.update

    def interrupted(self):
        if self.num_updates == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self)

    monkeypatch.setattr(Training, "update", interrupted)
    result = train(tmp_path / "stopped")
    assert (result.interrupted, result.steps) == (True, 4 * UPDATE)
    monkeypatch.setattr(Training, "update", update)
    api.resume(tmp_path / "stopped", ui="none")
    train(tmp_path / "whole")
    assert_same_run(tmp_path / "stopped", everything(tmp_path / "whole"))


def test_a_second_ctrl_c_while_both_work_stops_at_once_and_leaves_no_thread(tmp_path, monkeypatch):
    collecting, update = Overlap.collecting, PPO.update

    def interrupted(self, *arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return collecting(self, *arguments)

    def impatient(self, rollout):
        metrics = update(self, rollout)
        if self.num_updates == 2:  # Beside the first rollout that is collected ahead.
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(20)  # Any thread may get the signal, and the main one then runs its handler.
            raise AssertionError("went on after the second Ctrl-C")
        return metrics

    monkeypatch.setattr(Overlap, "collecting", interrupted)
    monkeypatch.setattr(PPO, "update", impatient)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", checkpoint_every=0, eval_every=0)
    assert threading.active_count() == before
    assert list_checkpoints(tmp_path / "run") == [0]


@pytest.fixture
def faulty():
    """Arrange faults for a test, and none for others."""
    FaultyEnv.arrange(None)
    yield FaultyEnv.arrange
    FaultyEnv.arrange(None)


FAULTY = {"env": ID, "env_kwargs": {}, "env_import": ("tests.faulty_env",), "num_envs": 2, "num_minibatches": 1}


@pytest.mark.parametrize(
    ("kind", "fault", "words"),
    [
        ("sync", ("raise", "step", 75), "OSError: the simulator has gone"),  # 16 steps an update.
        ("sync", ("sys.exit", "step", 75), "SystemExit: no licence"),
        ("async", ("die", "step", 37), "with the exit code 5"),  # Each worker counts its own.
    ],
)
def test_an_env_that_breaks_meanwhile_is_told_and_what_was_learnt_is_saved(tmp_path, faulty, kind, fault, words):
    faulty(fault)
    with pytest.raises(EnvironmentFailure, match=words) as failure:
        train(tmp_path / "run", **FAULTY, vectorization=kind, total_steps=8 * 16, eval_episodes=0)
    assert "is saved: rlstm resume" in "".join(failure.value.__notes__)
    saved = load_checkpoint(tmp_path / "run", "latest")
    assert (saved.step, saved.trainer["num_updates"]) == (4 * 16, 4)  # The fifth rollout broke, beside the fourth.
    assert saved.trainer["carry"] is None
    assert len((tmp_path / "run" / "progress.csv").read_text().splitlines()) == 1 + 4
    faulty(None)
    assert api.resume(tmp_path / "run", ui="none").steps == 8 * 16


def test_where_envs_can_t_be_put_back_the_rollout_ahead_is_dropped(tmp_path):
    train(tmp_path / "run", total_steps=4 * UPDATE)
    training = training_of()
    try:
        checkpoint = load_checkpoint(tmp_path / "run", "latest")
        checkpoint.trainer["envs"] = None
        assert "begins a new episode" in training.load(checkpoint)
        assert training.agent.overlap.take() is None
    finally:
        training.close()


def test_a_curriculum_is_refused_beside_overlap(tmp_path):
    path = tmp_path / "stages.toml"
    path.write_text("[[stage]]\nenv_kwargs = {corridor_length = 2}\nsuccess = 0.9\n")
    with pytest.raises(ConfigError, match=f"overlap is set, but curriculum is {path}"):
        training_of(curriculum=str(path))


def test_reinforce_knows_no_overlap(tmp_path):
    with pytest.raises(ConfigError, match="overlap"):
        api.train("reinforce", ui="none", run_dir=str(tmp_path / "run"), **TINY, overlap=True)


def test_of_the_threads_that_may_be_chosen_the_collector_has_half(monkeypatch):
    limits = []
    chosen = ThreadChoice(2, "measured")
    monkeypatch.setattr(
        "rlstm.training.on_policy.measured_choice", lambda training, limit: limits.append(limit) or chosen
    )
    training = training_of()
    try:
        assert training.measure_threads(4) == chosen
        assert training.measure_threads(2).count == 1
        assert training.measure_threads(1).count == 1
    finally:
        training.close()
    assert limits == [2]
