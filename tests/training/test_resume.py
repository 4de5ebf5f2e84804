"""A run that was stopped and resumed is the run that never stopped, bit for bit."""

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

import rlstm
import rlstm.api.experiments as api
from rlstm.agents import AGENTS
from rlstm.api.stored_runs import read_config
from rlstm.cells import CELLS
from rlstm.core.errors import CheckpointError, EnvironmentFailure, NonFiniteError
from rlstm.core.trees import tree_leaves
from rlstm.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint
from rlstm.training.config import ConfigError
from rlstm.training.loggers import CSVLogger
from rlstm.training.on_policy import Training
from rlstm.training.run_directory import RunDirectory
from tests import kit
from tests.kit import covering

UPDATE = 4 * 8  # Environment steps of an update of PPO and the random agent; REINFORCE's are as long as its episodes.
TINY = {
    "env": "rlstm/TMaze-v0",
    "env_kwargs": {"corridor_length": 3, "noise": True},
    "num_envs": 4,
    "hidden_size": 6,
    "encoder_sizes": (5,),
    "total_steps": 6 * UPDATE,
    "eval_every": 1,  # After every update.
    "eval_episodes": 3,
    "checkpoint_every": 1,
    "keep_checkpoints": 99,
    "num_threads": 1,
}
ALGORITHMS = {
    "ppo": {"num_steps": 8, "num_minibatches": 2, "update_epochs": 2, "learning_rate": 0.01},
    "reinforce": {"num_episodes": 6, "learning_rate": 0.01, "total_steps": 800},
    "evolino": {"population": 8, "sigma": 0.5, "normalize_observations": True, "total_steps": 24_000},
    "random": {"num_steps": 8},
}
CONSTANT = {  # Schedules that don't depend on the total, for runs that go on to a larger one.
    "ppo": {"anneal_lr": False},
    "reinforce": {"anneal_lr": False, "final_ent_coef": None},
}
ALGORITHMS["evolino rwr"] = ALGORITHMS["evolino"] | {"readout": "rwr", "elite_episodes": 5, "total_steps": 14_000}
MEMORIES = {
    "episode": {},
    "trial": {"lifetime": "trial", "episodes_per_trial": 2},
}


QUICK = [name for name in AGENTS if name not in ("evolino", "teacher")]  # The latter needs an env with a teacher.
EVOLINO = [  # Its own tests resume it; here the runs are longer.
    pytest.param("evolino", kind, lifetime, marks=pytest.mark.slow)
    for kind, lifetime in itertools.product(["native", "sync"], MEMORIES)
]


def train(path, agent="ppo", **settings):
    name = agent.split()[0]  # A variant of an agent has a second word.
    return api.train(
        name, ui="none", run_dir=str(path), **{**TINY, **ALGORITHMS.get(agent, kit.short_rollouts(name)), **settings}
    )


def everything(path):
    """All that a run has reached, but for what a clock says."""
    checkpoint = load_checkpoint(path, "latest")
    trainer = {name: value for name, value in checkpoint.trainer.items() if name != "seconds"}
    with (path / "progress.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]
    evaluations = {name: array.tolist() for name, array in np.load(path / "evaluations.npz").items()}
    best = (path / "checkpoints" / "best").read_text()
    return {
        "step": checkpoint.step,
        "model": {name: tensor.tolist() for name, tensor in checkpoint.model.items()},
        "trainer": repr([leaf.tolist() if hasattr(leaf, "tolist") else leaf for leaf in tree_leaves(trainer)]),
        "rows": rows,
        "evaluations": evaluations,
        "best": best,
    }


def assert_same_run(path, expected):
    found = everything(path)
    for part, value in expected.items():
        assert found[part] == value, part


def stopped_at(whole, path, step):
    """A copy of a run as if it had been killed after the checkpoint of ``step``, with rows that came later."""
    shutil.copytree(whole, path)
    (path / "checkpoints" / "latest").write_text(f"step_{step}\n")
    for later in list_checkpoints(path):
        if later > step:
            shutil.rmtree(path / "checkpoints" / f"step_{later}")
    best = load_checkpoint(path, step).trainer["best_step"]
    (path / "checkpoints" / "best").unlink()
    if best is not None:
        (path / "checkpoints" / "best").write_text(f"step_{best}\n")
    return path


def middle(path):
    """The step of the checkpoint in the middle of a run of several updates."""
    steps = list_checkpoints(path)
    assert len(steps) >= 5
    return steps[len(steps) // 2]


@pytest.mark.parametrize(
    ("agent", "kind", "lifetime"), covering([*QUICK, "evolino rwr"], ["native", "sync"], MEMORIES) + EVOLINO
)
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, agent, kind, lifetime):
    train(tmp_path / "whole", agent, vectorization=kind, memory=MEMORIES[lifetime])
    expected = everything(tmp_path / "whole")
    path = stopped_at(tmp_path / "whole", tmp_path / "half", middle(tmp_path / "whole"))
    assert everything(path)["trainer"] != expected["trainer"]
    api.resume(path, ui="none")
    assert_same_run(path, expected)


@pytest.mark.parametrize("cell", [name for name, cell in CELLS.items() if not cell.reads_maps])
def test_it_does_with_every_cell(tmp_path, cell):
    train(tmp_path / "whole", cell=cell, total_steps=2 * UPDATE, num_layers=2)
    path = stopped_at(tmp_path / "whole", tmp_path / "half", UPDATE)
    api.resume(path, ui="none")
    assert_same_run(path, everything(tmp_path / "whole"))


@pytest.mark.parametrize(("step", "dtype"), covering([1, 2, 3], ["float32", "float64"]))
def test_it_does_with_normalisers_annealing_and_a_critic_of_its_own(tmp_path, dtype, step):
    """Stopped before, at and after the first update that trains; the first only fills the normalisers."""
    train(
        tmp_path / "whole",
        dtype=dtype,
        normalize_observations=True,
        scale_rewards=True,
        critic_memory="separate",
        anneal_lr=True,
        total_steps=4 * UPDATE,
        memory={"lifetime": "lifelong", "credit": "episode"},
    )
    path = stopped_at(tmp_path / "whole", tmp_path / "half", step * UPDATE)
    api.resume(path, ui="none")
    assert_same_run(path, everything(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("normalisers", "critic_memory", "step"),
    [({"popart": True}, "detached", 1), ({"popart": True}, "separate", 2), ({"scale_rewards": False}, "shared", 1)],
)
def test_it_does_with_popart_and_values_that_began_at_returns(tmp_path, normalisers, critic_memory, step):
    """Stopped after the first rollout, which began the values, or after the first update that trains."""
    settings = {"value_bias": "returns", "normalize_observations": False, "critic_memory": critic_memory}
    train(tmp_path / "whole", **settings, **normalisers, total_steps=4 * UPDATE)
    path = stopped_at(tmp_path / "whole", tmp_path / "half", step * UPDATE)
    api.resume(path, ui="none")
    assert_same_run(path, everything(tmp_path / "whole"))


@pytest.mark.parametrize(("exploration", "credit", "step"), covering(["rnd", "noveld"], ["memory", "lifelong"], [1, 3]))
def test_it_does_with_a_bonus_a_rate_that_adapts_and_schedules(tmp_path, exploration, credit, step):
    """Episodes run on over the checkpoint, so what they have visited must too."""
    settings = {
        "env_kwargs": {"corridor_length": 12, "noise": False},
        "normalize_observations": True,
        "bonus_credit": credit,
        "final_bonus_coef": 0.1,
        "final_clip_coef": 0.05,
        "anneal_lr": False,
        "desired_kl": 0.01,
        "weight_decay": 0.01,
        "value_loss": "huber",
    }
    train(tmp_path / "whole", exploration=exploration, **settings, total_steps=5 * UPDATE)
    path = stopped_at(tmp_path / "whole", tmp_path / "half", step * UPDATE)
    api.resume(path, ui="none")
    assert_same_run(path, everything(tmp_path / "whole"))


@pytest.mark.parametrize("step", range(1, 6))
def test_it_does_with_a_bonus_and_a_curriculum(tmp_path, step):
    """Stopped before, at and after each change of the stage."""
    stages = [{"corridor_length": 1}, {"corridor_length": 2}]
    tables = [f"[[stage]]\nenv_kwargs = {{ corridor_length = {one['corridor_length']} }}\n" for one in stages]
    path = tmp_path / "stages.toml"
    path.write_text("".join(f"{table}success = 0.0\nepisodes = {2 * place}\n" for place, table in enumerate(tables, 1)))
    settings = {"exploration": "noveld", "normalize_observations": True, "curriculum": str(path)}
    train(tmp_path / "whole", **settings, total_steps=6 * UPDATE)
    with (tmp_path / "whole" / "progress.csv").open(newline="") as file:
        assert {row["curriculum/stage"] for row in csv.DictReader(file)} == {"1.0", "2.0", "3.0"}
    path.unlink()  # The run keeps its own.
    half = stopped_at(tmp_path / "whole", tmp_path / "half", step * UPDATE)
    api.resume(half, ui="none")
    assert_same_run(half, everything(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("dtype", "baseline", "place"),
    [("float32", "mean", 1), ("float64", "history", 2)],
)
def test_reinforce_does_with_normalisers_annealing_and_every_baseline(tmp_path, dtype, baseline, place):
    """Stopped before, at and after the first update that trains; the first only fills normalisers and means."""
    settings = {"anneal_lr": True, "final_ent_coef": 0.0, "baseline": baseline, "dtype": dtype, "total_steps": 500}
    train(tmp_path / "whole", "reinforce", **settings, inputs={"previous_reward": True})
    step = list_checkpoints(tmp_path / "whole")[place]
    assert place + 1 < len(list_checkpoints(tmp_path / "whole"))
    path = stopped_at(tmp_path / "whole", tmp_path / "half", step)
    api.resume(path, ui="none")
    assert_same_run(path, everything(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("env", "kind"), covering(["rlstm/RepeatPrevious-v0", "rlstm/CartPoleNoVel-v0"], ["native", "sync"])
)
def test_it_does_in_our_other_envs(tmp_path, env, kind):
    settings = {"env": env, "env_kwargs": {}, "vectorization": kind, "total_steps": 4 * UPDATE, "eval_episodes": 2}
    train(tmp_path / "whole", **settings)
    path = stopped_at(tmp_path / "whole", tmp_path / "half", 2 * UPDATE)
    api.resume(path, ui="none")
    assert_same_run(path, everything(tmp_path / "whole"))


@pytest.mark.parametrize("agent", [*QUICK, pytest.param("evolino", marks=pytest.mark.slow)])
def test_a_run_that_was_at_its_end_goes_on_to_a_larger_total(tmp_path, agent):
    settings = CONSTANT.get(agent, {})
    whole = train(tmp_path / "whole", agent, **settings)
    half = train(tmp_path / "half", agent, **settings, total_steps=middle(tmp_path / "whole"))
    total = whole.steps if agent in ("reinforce", "evolino") else 6 * UPDATE
    result = api.resume(tmp_path / "half", total_steps=total, ui="none")
    assert half.steps < result.steps == whole.steps
    assert_same_run(tmp_path / "half", everything(tmp_path / "whole"))


def test_a_run_may_be_resumed_from_the_state_it_began_with(tmp_path):
    """No lane has made a step yet, in single envs too."""
    for kind in ("native", "sync"):
        train(tmp_path / kind, vectorization=kind, total_steps=2 * UPDATE)
        path = stopped_at(tmp_path / kind, tmp_path / f"{kind}_begin", 0)
        api.resume(path, ui="none")
        assert_same_run(path, everything(tmp_path / kind))


def test_another_seed_is_another_run(tmp_path):
    """The control: runs are not equal because nothing in them is random."""
    train(tmp_path / "one", total_steps=2 * UPDATE)
    train(tmp_path / "two", total_steps=2 * UPDATE, seed=1)
    one, two = everything(tmp_path / "one"), everything(tmp_path / "two")
    assert all(one[part] != two[part] for part in ("model", "trainer", "rows"))


# Ctrl-C.


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("agent", ["ppo", pytest.param("reinforce", marks=pytest.mark.slow)])
def test_ctrl_c_in_the_middle_ends_in_a_checkpoint_from_which_the_run_goes_on(tmp_path, agent):
    many = {**CONSTANT[agent], "total_steps": 100_000, "eval_every": 0, "checkpoint_every": 0}
    settings = {**TINY, **ALGORITHMS[agent], **many}
    program = textwrap.dedent("""
        import dataclasses, json, sys
        from rlstm.api import experiments as api
        result = api.train(sys.argv[1], ui="none", run_dir=sys.argv[2], **json.loads(sys.argv[3]))
        print(json.dumps(dataclasses.asdict(result)))
    """)
    path = tmp_path / "stopped"
    process = subprocess.Popen(
        [sys.executable, "-c", program, agent, str(path), json.dumps(settings)], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    progress = path / "progress.csv"
    while time.monotonic() < deadline and not (progress.exists() and progress.read_text().count("\n") > 3):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    result = json.loads(output)
    assert result["interrupted"]
    done = result["steps"]
    assert 2 * UPDATE <= done < many["total_steps"]
    assert list_checkpoints(path) == [0, done]
    total = done + 2 * UPDATE
    api.resume(path, total_steps=total, ui="none")
    train(tmp_path / "whole", agent, **{**many, "total_steps": total})
    assert_same_run(path, everything(tmp_path / "whole"))


@pytest.fixture
def ctrl_c_in_update(monkeypatch):
    """A function that makes Ctrl-C fall into the update of a number."""

    def arrange(number):
        update = Training.update

        def interrupted(self):
            if self.num_updates == number - 1:
                os.kill(os.getpid(), signal.SIGINT)
            return update(self)

        monkeypatch.setattr(Training, "update", interrupted)
        return lambda: monkeypatch.setattr(Training, "update", update)

    return arrange


@pytest.mark.parametrize("number", [2, 3])
def test_ctrl_c_loses_no_evaluation_that_was_due(tmp_path, ctrl_c_in_update, number):
    """Evaluations are due after updates 3 and 6: the interrupted run has the same ones in the end."""
    restore = ctrl_c_in_update(number)
    result = train(tmp_path / "stopped", eval_every=3 * UPDATE)
    assert (result.interrupted, result.steps) == (True, number * UPDATE)
    restore()
    assert not api.resume(tmp_path / "stopped", ui="none").interrupted
    train(tmp_path / "whole", eval_every=3 * UPDATE)
    assert_same_run(tmp_path / "stopped", everything(tmp_path / "whole"))


@pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)
def test_ctrl_c_in_the_middle_of_reinforce_s_episodes_waits_for_their_end(tmp_path, ctrl_c_in_update, memory):
    restore = ctrl_c_in_update(3)
    settings = {"memory": memory, "eval_every": 300, "baseline": "mean"}
    result = train(tmp_path / "stopped", "reinforce", **settings)
    trainer = load_checkpoint(tmp_path / "stopped", "latest").trainer
    assert (result.interrupted, trainer["num_updates"]) == (True, 3)
    assert trainer["carry"]["statistics"]["num_episodes"] == 3 * 6
    restore()
    assert not api.resume(tmp_path / "stopped", ui="none").interrupted
    train(tmp_path / "whole", "reinforce", **settings)
    assert_same_run(tmp_path / "stopped", everything(tmp_path / "whole"))


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing_that_was_saved(tmp_path, monkeypatch):
    """The second falls into the evaluation; the update before it is already on disk."""
    update = Training.update

    def interrupted(self):
        if self.num_updates == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self)

    def impatient(self, should_stop):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("went on after the second Ctrl-C")

    monkeypatch.setattr(Training, "update", interrupted)
    monkeypatch.setattr(Training, "evaluate", impatient)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", eval_every=3 * UPDATE, checkpoint_every=0)
    assert list_checkpoints(tmp_path / "run") == [0, 3 * UPDATE]
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("number", [3, 6], ids=["in the middle", "at the last step"])
def test_an_evaluation_that_was_stopped_is_played_by_the_resumed_run(tmp_path, monkeypatch, number):
    """The signal comes while the evaluation is played, from whose envs the run's own draw no random numbers."""
    settings = {"eval_every": 3 * UPDATE, "memory": MEMORIES["trial"]}
    evaluate = Training.evaluate

    def interrupted(self, should_stop):
        if self.num_updates == number:
            np.random.random(), torch.rand(1)  # noqa: NPY002 - some of it has been played.
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, should_stop)

    monkeypatch.setattr(Training, "evaluate", interrupted)
    result = train(tmp_path / "stopped", **settings)
    assert (result.interrupted, result.complete, result.steps) == (True, False, number * UPDATE)
    monkeypatch.setattr(Training, "evaluate", evaluate)
    result = api.resume(tmp_path / "stopped", ui="none")
    assert (result.interrupted, result.complete, result.steps) == (False, True, 6 * UPDATE)
    train(tmp_path / "whole", **settings)
    rows = everything(tmp_path / "stopped")["rows"]
    assert [int(row["step"]) for row in rows if row["recurrent/gradient_lag_0"]] == [3 * UPDATE, 6 * UPDATE]
    assert_same_run(tmp_path / "stopped", everything(tmp_path / "whole"))
    with pytest.raises(ConfigError, match="nothing is left to do"):
        api.resume(tmp_path / "stopped", ui="none")


@pytest.mark.parametrize("number", [2, 3, 6], ids=["no evaluation", "in the middle", "at the last step"])
def test_a_run_killed_after_ctrl_c_has_lost_nothing(tmp_path, monkeypatch, number):
    """It is killed while the evaluation is played that is due, or before the row of the update is logged."""
    settings = {"eval_every": 3 * UPDATE, "checkpoint_every": 0}

    class Killed(BaseException):
        pass

    def killed(*args):
        raise Killed

    update = Training.update

    def interrupted(self):
        if self.num_updates == number - 1:
            os.kill(os.getpid(), signal.SIGTERM)
            monkeypatch.setattr(Training, "evaluate", killed)
            monkeypatch.setattr(CSVLogger, "log", killed)
        return update(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "update", interrupted)
        patch.setattr(Training, "evaluate", Training.evaluate)
        patch.setattr(CSVLogger, "log", CSVLogger.log)
        with pytest.raises(Killed):
            train(tmp_path / "stopped", **settings)
    monkeypatch.undo()
    assert list_checkpoints(tmp_path / "stopped")[-1] == number * UPDATE
    assert api.resume(tmp_path / "stopped", ui="none").steps == 6 * UPDATE
    train(tmp_path / "whole", **settings)
    assert_same_run(tmp_path / "stopped", everything(tmp_path / "whole"))


def test_a_row_that_was_logged_after_the_checkpoint_is_not_there_twice(tmp_path, monkeypatch):
    """Killed after Ctrl-C between the log and the second save of that step."""
    settings = {"eval_every": 3 * UPDATE}
    train(tmp_path / "whole", **settings)
    save, saved = Training.save, []

    class Killed(BaseException):
        pass

    def killed_at_the_second(self, directory, **options):
        saved.append(self.step)
        if saved.count(3 * UPDATE) == 2:
            raise Killed
        save(self, directory, **options)

    def interrupted(self, update=Training.update):
        if self.num_updates == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "save", killed_at_the_second)
        patch.setattr(Training, "update", interrupted)
        with pytest.raises(Killed):
            train(tmp_path / "stopped", **settings)
    assert (tmp_path / "stopped" / "progress.csv").read_text().count(f"\n{3 * UPDATE},") == 1
    api.resume(tmp_path / "stopped", ui="none")
    assert_same_run(tmp_path / "stopped", everything(tmp_path / "whole"))


@pytest.mark.parametrize("trainer", [{}, None, [], {"agent": None, "num_updates": 1}], ids=repr)
def test_a_trainer_that_lacks_what_the_run_needs_is_told(tmp_path, trainer):
    train(tmp_path / "run", total_steps=UPDATE)
    last = load_checkpoint(tmp_path / "run", "latest")
    save_checkpoint(tmp_path / "run", last.step, last.model, trainer, last.meta, keep=9, histories=last.histories)
    with pytest.raises(CheckpointError, match=r"step_32/trainer\.pt doesn't hold what this run needs"):
        api.resume(tmp_path / "run", total_steps=2 * UPDATE, ui="none")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    train(tmp_path / "run", total_steps=UPDATE)
    last = load_checkpoint(tmp_path / "run", "latest")
    name = max(last.model)
    last.model[name].view(-1)[0] = value
    save_checkpoint(tmp_path / "run", last.step, last.model, last.trainer, last.meta, keep=9, histories=last.histories)
    for go_on in (lambda: rlstm.load(tmp_path / "run", "latest"), lambda: api.resume(tmp_path / "run", total_steps=64)):
        with pytest.raises(CheckpointError, match=rf"model\.safetensors holds what is not finite: '{name}'"):
            go_on()


# What can't be resumed exactly, and what breaks.


def test_envs_without_a_state_begin_new_episodes_and_the_user_is_told(tmp_path, capsys, user_module):
    settings = {"env": "user/Signal-v0", "env_kwargs": {}, "env_import": (user_module,)}
    train(tmp_path / "run", total_steps=2 * UPDATE, **settings)
    capsys.readouterr()
    result = api.resume(tmp_path / "run", total_steps=4 * UPDATE, ui="plain")
    told = [line for line in capsys.readouterr().err.splitlines() if "state is not in the checkpoint" in line]
    assert len(told) == 1
    assert "new episode with an empty memory" in told[0]
    assert result.steps == 4 * UPDATE
    checkpoint = load_checkpoint(tmp_path / "run", "latest")
    finished = checkpoint.trainer["carry"]["statistics"]["finished"]["lengths"]
    assert set(finished) == {4.0}
    assert len(finished) == 4 * 2 * 2 * 2  # Two episodes a rollout and lane; those before the stop are still known.


@pytest.mark.parametrize("memory", [{}, {**MEMORIES["trial"], "insist_on_trials": True}], ids=MEMORIES)
def test_reinforce_needs_no_state_of_an_env_that_draws_from_its_own_seed(tmp_path, capsys, user_module, memory):
    """Every batch begins with seeded resets, so there is nothing to tell the user."""
    settings = {"env": "user/Signal-v0", "env_kwargs": {}, "env_import": (user_module,), "total_steps": 150}
    train(tmp_path / "whole", "reinforce", memory=memory, **settings)
    path = stopped_at(tmp_path / "whole", tmp_path / "half", middle(tmp_path / "whole"))
    assert load_checkpoint(path, "latest").trainer["envs"] is None
    capsys.readouterr()
    api.resume(path, ui="plain")
    assert "empty memory" not in capsys.readouterr().err
    assert_same_run(path, everything(tmp_path / "whole"))


def test_reinforce_goes_on_with_what_an_env_keeps_over_seeded_resets(tmp_path, user_module):
    """An env whose state says how often it was stepped, whatever its seed."""
    settings = {"env": "user/Dice-v0", "env_kwargs": {}, "env_import": (user_module,), "total_steps": 150}
    train(tmp_path / "whole", "reinforce", **settings)
    path = stopped_at(tmp_path / "whole", tmp_path / "half", middle(tmp_path / "whole"))
    assert load_checkpoint(path, "latest").trainer["envs"]["lanes"][0]["env"]["lived"] > 0
    api.resume(path, ui="none")
    assert_same_run(path, everything(tmp_path / "whole"))


def test_a_users_env_with_a_state_is_resumed_though_it_draws_from_global_generators(tmp_path, user_module):
    # Evaluations would draw from them too: exactness then depends on both runs evaluating at the same steps.
    settings = {"env": "user/Dice-v0", "env_kwargs": {}, "env_import": (user_module,), "total_steps": 4 * UPDATE}
    train(tmp_path / "whole", **settings)
    path = stopped_at(tmp_path / "whole", tmp_path / "half", 2 * UPDATE)
    api.resume(path, ui="none")
    assert_same_run(path, everything(tmp_path / "whole"))


def test_new_trajectories_after_a_resume_are_not_those_the_run_began_with(tmp_path, user_module):
    settings = {"env": "user/Signal-v0", "env_kwargs": {}, "env_import": (user_module,)}
    train(tmp_path / "run", total_steps=2 * UPDATE, **settings)
    first = load_checkpoint(tmp_path / "run", 0).trainer["carry"]["view"]["observations"]
    config = read_config(RunDirectory.open(tmp_path / "run"), total_steps=4 * UPDATE)
    training, _ = api._make_training(config)
    training.load(load_checkpoint(tmp_path / "run", "latest"))
    noise = [training.envs.step(np.zeros(4, dtype=np.int64)).observations[:, 0].tolist()]
    training.envs.reset(training._seeds)
    assert training.envs.step(np.zeros(4, dtype=np.int64)).observations[:, 0].tolist() != noise[0]
    assert first.shape == (4, 2)
    training.close()


def test_an_env_that_breaks_leaves_the_weights_of_the_last_update(tmp_path, user_module):
    settings = {"env": "user/Signal-v0", "env_kwargs": {"raise_at": 20}, "env_import": (user_module,)}
    with pytest.raises(EnvironmentFailure, match=r"Env 0, its step 20: step raised: OSError: the cable is out"):
        train(tmp_path / "run", eval_every=0, checkpoint_every=0, **settings)
    assert list_checkpoints(tmp_path / "run") == [0, 2 * UPDATE]  # It broke in the third update.
    train(tmp_path / "good", total_steps=2 * UPDATE, **settings)
    broken, good = (load_checkpoint(tmp_path / name, "latest") for name in ("run", "good"))
    assert all((good.model[name] == tensor).all() for name, tensor in broken.model.items())
    agent = rlstm.load(tmp_path / "run")
    assert agent.act(np.zeros(2, dtype=np.float32)) in (0, 1)
    # New envs count their steps anew, so two more updates fit before they break again.
    result = api.resume(tmp_path / "run", total_steps=4 * UPDATE, ui="none")
    assert result.steps == 4 * UPDATE


def test_an_env_that_breaks_in_an_evaluation_leaves_the_weights_of_the_last_update(tmp_path, monkeypatch):
    evaluate = Training.evaluate

    def broken(self, should_stop):
        raise EnvironmentFailure("no more")

    monkeypatch.setattr(Training, "evaluate", broken)
    with pytest.raises(EnvironmentFailure, match="no more"):
        train(tmp_path / "run", eval_every=2 * UPDATE, checkpoint_every=0)
    assert list_checkpoints(tmp_path / "run") == [0, 2 * UPDATE]
    monkeypatch.setattr(Training, "evaluate", evaluate)
    api.resume(tmp_path / "run", ui="none")
    train(tmp_path / "whole", eval_every=2 * UPDATE, checkpoint_every=0)
    found, expected = everything(tmp_path / "run"), everything(tmp_path / "whole")
    assert found["model"] == expected["model"]


@pytest.mark.parametrize(
    ("fault", "error", "complaint"),
    [
        ("nan_reward_at", EnvironmentFailure, "Env 0 returned a reward that is not finite at its step 20"),
        ("huge_reward_at", NonFiniteError, "Not finite in update 1: .*value_loss"),
    ],
)
def test_what_is_not_finite_leaves_the_last_good_checkpoint(tmp_path, user_module, fault, error, complaint):
    settings = {"env": "user/Signal-v0", "env_kwargs": {fault: 20}, "env_import": (user_module,)}
    with pytest.raises(error, match=complaint):
        train(tmp_path / "run", eval_every=0, **settings)
    assert list_checkpoints(tmp_path / "run") == [0, UPDATE, 2 * UPDATE]
    model = load_checkpoint(tmp_path / "run", "latest").model
    assert all(np.isfinite(tensor.numpy()).all() for tensor in model.values())


class SomeEarlyEnds(kit.ScriptedEnv):
    """Episodes of four steps, until one of the later ones ends after two."""

    def __init__(self) -> None:
        super().__init__("...E" * 20 + ".E...E")


def test_what_was_learnt_before_a_setting_did_not_fit_is_saved(tmp_path):
    import gymnasium as gym

    gym.register("test/SomeEarlyEnds-v0", entry_point=SomeEarlyEnds)
    settings = {"env": "test/SomeEarlyEnds-v0", "env_kwargs": {}, "vectorization": "sync", "eval_episodes": 0}
    with pytest.raises(ConfigError, match="sequence_length is 4, but memory doesn't begin anew every 4 steps") as told:
        train(tmp_path / "run", **settings, sequence_length=4, checkpoint_every=10_000, total_steps=40 * UPDATE)
    assert "All that was learnt up to step 320 is saved" in told.value.__notes__[0]
    assert list_checkpoints(tmp_path / "run")[-1] == 320


@pytest.mark.parametrize("broken", [1, 2], ids=["in between", "at the end"])
def test_an_evaluation_that_broke_is_played_by_the_resumed_run(tmp_path, monkeypatch, broken):
    settings = {"env": "rlstm/TMaze-v0", "num_envs": 4, "num_steps": 16, "total_steps": 256, "eval_every": 128}
    settings |= {"eval_episodes": 3, "hidden_size": 4, "num_threads": 1, "ui": "none"}
    api.train("ppo", run_dir=str(tmp_path / "whole"), **settings)
    evaluate, calls = Training.evaluate, []

    def break_once(training, should_stop):
        calls.append(training.step)
        if len(calls) == broken:
            raise EnvironmentFailure("The env broke.")
        return evaluate(training, should_stop)

    monkeypatch.setattr(Training, "evaluate", break_once)
    with pytest.raises(EnvironmentFailure):
        api.train("ppo", run_dir=str(tmp_path / "broken"), **settings)
    api.resume(tmp_path / "broken", ui="none")
    found, expected = (np.load(tmp_path / name / "evaluations.npz") for name in ("broken", "whole"))
    for name in ("timesteps", "results", "ep_lengths"):
        np.testing.assert_array_equal(found[name], expected[name])
