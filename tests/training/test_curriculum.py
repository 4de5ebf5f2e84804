"""Stages are passed in order when their criterion holds; nothing but what was learnt crosses to the next one."""

import contextlib
import csv
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlstm.api.experiments as api
from rlstm.agents import load_agent
from rlstm.api.configs import make_config
from rlstm.api.envs import resolve_env
from rlstm.api.found_runs import find_runs
from rlstm.cli import main
from rlstm.core.errors import EnvironmentFailure, RunDirectoryError
from rlstm.core.seeding import integer_seeds
from rlstm.core.trees import tree_leaves
from rlstm.rollouts.statistics import EpisodeStatistics, Outcome
from rlstm.training.checkpoints import list_checkpoints, load_checkpoint
from rlstm.training.config import ConfigError
from rlstm.training.curriculum import Curriculum
from rlstm.training.on_policy import Training
from rlstm.training.presets import PRESETS
from rlstm.training.stages import Stage, read_curriculum
from rlstm.vector.adapter import VectorEnvs
from tests.training.test_resume import TINY, assert_same_run, everything, stopped_at, train

NAN = math.nan
THREE = """
[[stage]]
env_kwargs = { corridor_length = 1, max_steps = 3 }
success = 0.0
episodes = 12

[[stage]]
env_kwargs = { corridor_length = 2, max_steps = 4 }
mean_return = -9.0
episodes = 20

[[stage]]
env = "rlstm/TMaze-v0"
env_kwargs = { max_steps = 9 }
success = 0.0
episodes = 5
"""
"""Passed by any policy, after one to three updates of ``TINY`` each."""


@pytest.fixture(autouse=True)
def others() -> Iterator[None]:
    """A cart that falls after 7 steps, and a T-maze with two actions."""
    two = gym.spaces.Discrete(2)
    gym.register("my/Cart-v0", gym.spec("CartPole-v1").entry_point, max_episode_steps=7)
    gym.register("my/Turn-v0", lambda: gym.wrappers.TransformAction(gym.make("rlstm/TMaze-v0"), int, two))
    yield
    for env_id in ("my/Cart-v0", "my/Turn-v0"):
        del gym.registry[env_id]


@pytest.fixture
def three(tmp_path: Path) -> str:
    return written(tmp_path, THREE)


def written(folder: Path, text: str) -> str:
    path = folder / "stages.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def outcomes(*returns: float, success: float = NAN) -> list[Outcome]:
    return [Outcome(one, success) for one in returns]


def stages_of(path: Path) -> list[float]:
    with (path / "progress.csv").open(newline="") as file:
        return [float(row["curriculum/stage"]) for row in csv.DictReader(file)]


# The rule.


def test_a_stage_is_not_passed_before_so_many_episodes_have_finished() -> None:
    stage = Stage(success=0.5, episodes=4)
    good = [Outcome(0.0, 1.0)]
    assert [stage.is_passed(good * count) for count in (0, 1, 3, 4, 5)] == [False, False, False, True, True]


def test_the_last_episodes_are_asked_and_exactly_the_threshold_passes() -> None:
    stage = Stage(mean_return=0.8, episodes=3)
    assert stage.is_passed(outcomes(-50.0, 0.8, 0.8, 0.8))
    assert not stage.is_passed(outcomes(50.0, 0.8, 0.8, 0.7999))
    shares = Stage(success=0.9, episodes=10)
    assert shares.is_passed([Outcome(0.0, 0.0)] + [Outcome(0.0, 1.0)] * 9)
    assert not shares.is_passed([Outcome(0.0, 0.0)] * 2 + [Outcome(0.0, 1.0)] * 8)


def test_an_episode_that_does_not_say_is_no_success() -> None:
    stage = Stage(success=0.5, episodes=2)
    assert stage.value([Outcome(0.0, 1.0), Outcome(0.0, NAN)]) == 0.5
    assert not stage.says_nothing([Outcome(0.0, 1.0), Outcome(0.0, NAN)])
    assert stage.says_nothing(outcomes(1.0, 1.0))
    assert not stage.says_nothing(outcomes(1.0))
    assert not Stage(mean_return=1.0, episodes=1).says_nothing(outcomes(1.0))


def test_statistics_of_a_stage_begin_anew_and_sums_over_the_run_go_on() -> None:
    statistics = EpisodeStatistics(2, num_outcomes=3)
    everyone, ends = np.arange(2), np.ones(2, dtype=bool)
    for success in (0.0, 1.0):
        statistics.add(np.array([1.0, 3.0]), everyone, np.array([success, NAN]), ends)
        statistics.settle()
    assert [one.episode_return for one in statistics.outcomes] == [3.0, 1.0, 3.0]  # The last three.
    copy = EpisodeStatistics(2, num_outcomes=3)
    copy.load_state_dict(statistics.state_dict())
    assert repr(copy.outcomes) == repr(statistics.outcomes)
    statistics.add(np.array([7.0, 7.0]), everyone[:0], np.zeros(0), ~ends)
    statistics.settle()
    statistics.begin_stage()
    assert not statistics.outcomes
    assert statistics.metrics(trials=True) == {"rollout/episodes": 4.0, "rollout/ep_rew_mean_of_all": 2.0}
    statistics.add(np.array([1.0, 1.0]), everyone, np.ones(2), ends)
    statistics.settle()
    assert list(statistics.outcomes) == [Outcome(1.0, 1.0)] * 2  # Nothing of the running episodes before.


# The change.


def make_training(curriculum: str, agent: str = "ppo", **settings) -> Training:
    short = {"num_steps": 8, "num_minibatches": 2} if agent == "ppo" else {"num_episodes": 6}
    config = make_config(agent, **{**TINY, **short, "curriculum": curriculum, **settings})
    return Training(config, load_agent(agent)[0], resolve_env(config.env))


@pytest.mark.parametrize("agent", ["ppo", "reinforce"])
def test_nothing_crosses_the_change(agent, three, monkeypatch) -> None:
    """Under ppo nothing else would ever end memory or credit."""
    lifetime = "lifelong" if agent == "ppo" else "episode"
    memory = {"lifetime": lifetime}
    inputs = {"previous_action": True, "previous_reward": True, "episode_start": True}
    seeds = []
    reset = VectorEnvs.reset

    def told_reset(self, given, options=None):
        seeds.append(list(given))
        return reset(self, given, options)

    monkeypatch.setattr(VectorEnvs, "reset", told_reset)
    with contextlib.closing(make_training(three, agent, memory=memory, inputs=inputs)) as training:
        before, rollouts = 1, []
        collect = training.agent.collect

        def kept(envs, state):
            rollouts.append(collect(envs, state))
            return rollouts[-1]

        training.agent.collect = kept
        changes = 0
        while training.curriculum.number < 4:
            old_envs, seen = training.envs, len(seeds)
            carried = [leaf.clone() for leaf in tree_leaves(training.collector_state.state)]
            training.update()
            rollout, number = rollouts[-1], training.curriculum.number
            if number == before:
                if agent == "ppo" and training.num_updates > 1:
                    assert not rollout.is_first[0].any()
                    for leaf, old in zip(tree_leaves(rollout.initial_state), carried, strict=True):
                        assert torch.equal(leaf, old)
                continue
            changes, before = changes + 1, number
            assert training.envs is not old_envs
            assert old_envs.envs.closed
            assert rollout.is_first[0].all()
            assert rollout.inputs.episode_starts[0].all()
            assert not rollout.inputs.previous_actions[0].any()
            assert not rollout.inputs.previous_rewards[0].any()
            for leaf in tree_leaves(rollout.initial_state):
                assert not leaf.any()
                assert not leaf.requires_grad
            assert seeds[seen] == integer_seeds(0, "envs", 4, number)
            assert seeds[seen] not in seeds[:seen]
        assert changes == 3


def test_no_discounted_sum_of_rewards_crosses_the_change(three) -> None:
    """With credit that never ends, the sums of PPO would go on."""
    memory = {"lifetime": "lifelong"}
    with contextlib.closing(make_training(three, memory=memory, gamma=1.0)) as training:
        while training.curriculum.number == 1:
            sums_before = training.agent._return_sums.clone()
            training.update()
        rewards = []
        collect = training.agent.collect

        def kept(envs, state):
            rollout = collect(envs, state)
            rewards.append(rollout.rewards.sum(0))
            return rollout

        assert sums_before.any()
        training.agent.collect = kept
        while training.curriculum.number == 2:
            sums = training.agent._return_sums.clone()
            training.update()
        assert training.curriculum.number == 3
        assert sums.any()
        assert torch.allclose(training.agent._return_sums, rewards[-1], atol=1e-6)


def test_what_the_agent_has_learnt_goes_on_untouched(three) -> None:
    with contextlib.closing(make_training(three, normalize_observations=True)) as training:
        while not training.curriculum._stage.is_passed(training._statistics.outcomes):
            training.update()
        model = {name: tensor.clone() for name, tensor in training.policy.state_dict().items()}
        optimiser = [
            leaf.clone() for leaf in tree_leaves(training.agent.state_dict()["optimizer"]) if hasattr(leaf, "clone")
        ]
        training.curriculum.number += 1
        training._begin_stage()
        assert all(torch.equal(tensor, model[name]) for name, tensor in training.policy.state_dict().items())
        now = [leaf for leaf in tree_leaves(training.agent.state_dict()["optimizer"]) if hasattr(leaf, "clone")]
        assert all(map(torch.equal, now, optimiser))


def test_envs_are_those_of_the_stage_and_evaluations_play_the_runs_own(tmp_path, three) -> None:
    seen = []

    def kwargs_of(envs):
        task = envs.envs.unwrapped.task
        return task.corridor_length, task.max_steps

    with contextlib.closing(make_training(three, env_kwargs={"corridor_length": 3, "noise": True})) as training:
        seen.append(kwargs_of(training.envs))
        while training.curriculum.number < 4:
            before = training.curriculum.number
            training.update()
            if training.curriculum.number != before:
                seen.append(kwargs_of(training.envs))
            with training.evaluation_envs(2) as envs:
                assert kwargs_of(envs) == (3, 40)
    assert seen == [(1, 3), (2, 4), (3, 9), (3, 40)]  # A stage that names the run's env is layered over it, too.


def test_another_env_takes_none_of_the_runs_arguments_and_all_of_its_wrappers(tmp_path) -> None:
    text = '[[stage]]\nenv = "my/Cart-v0"\nmean_return = 1\nepisodes = 1'
    settings = {"env": "CartPole-v1", "env_wrappers": ("mask=0,2",), "env_kwargs": {"sutton_barto_reward": True}}
    with contextlib.closing(make_training(written(tmp_path, text), **settings)) as training:
        assert training.envs.observation_space.shape == (2,)
        inner = training.envs.envs.envs[0]
        assert inner.get_wrapper_attr("_sutton_barto_reward") is False
        assert inner.spec.max_episode_steps == 7
        training.update()
        training.update()
        assert training.envs.envs.envs[0].get_wrapper_attr("_sutton_barto_reward") is True


# Exact resume.


@pytest.mark.parametrize(("agent", "kind"), [("ppo", "native"), ("ppo", "sync"), ("reinforce", "native")])
def test_a_run_resumed_at_any_update_equals_the_uninterrupted_one(tmp_path, three, agent, kind) -> None:
    settings = {"curriculum": three, "vectorization": kind, "eval_every": 0}
    settings |= {"total_steps": 8 * 32} if agent == "ppo" else {"total_steps": 300}
    settings |= {"memory": {"lifetime": "lifelong"}, "scale_rewards": True} if agent == "ppo" else {}
    train(tmp_path / "whole", agent, **settings)
    Path(three).unlink()  # The run has a copy.
    expected = everything(tmp_path / "whole")
    stages = stages_of(tmp_path / "whole")
    assert sorted(set(stages)) == [1.0, 2.0, 3.0, 4.0]
    assert stages == sorted(stages)
    steps = list_checkpoints(tmp_path / "whole")
    for step in steps[:-1]:
        path = stopped_at(tmp_path / "whole", tmp_path / f"from_{step}", step)
        api.resume(path, ui="none")
        assert_same_run(path, expected)
        assert api.RunDirectory.open(path).read_config()["settings"]["curriculum"] == three
    assert {load_checkpoint(tmp_path / "whole", step).trainer["stage"] for step in steps} == {1, 2, 3, 4}


def test_it_does_with_workers(tmp_path, three) -> None:
    settings = {"curriculum": three, "vectorization": "async", "num_envs": 2, "total_steps": 6 * 16, "eval_every": 0}
    train(tmp_path / "whole", **settings)
    assert {1.0, 2.0} <= set(stages_of(tmp_path / "whole"))
    path = stopped_at(tmp_path / "whole", tmp_path / "half", list_checkpoints(tmp_path / "whole")[3])
    api.resume(path, ui="none")
    assert_same_run(path, everything(tmp_path / "whole"))


def test_envs_without_a_state_go_on_in_their_stage(tmp_path, user_module) -> None:
    text = "[[stage]]\nsuccess = 0.0\nepisodes = 2\n[[stage]]\nsuccess = 2\n"
    settings = {"env": "user/Signal-v0", "env_kwargs": {}, "env_import": (user_module,)}
    settings |= {"curriculum": written(tmp_path, text), "eval_every": 0}
    train(tmp_path / "run", total_steps=2 * 32, **settings)
    api.resume(tmp_path / "run", total_steps=4 * 32, ui="none")
    assert stages_of(tmp_path / "run") == [1.0, 2.0, 2.0, 2.0]


def test_a_run_with_a_curriculum_may_start_from_another(tmp_path, three) -> None:
    train(tmp_path / "first", total_steps=64)
    train(tmp_path / "next", total_steps=64, init_from=str(tmp_path / "first"), curriculum=three)
    first, began = load_checkpoint(tmp_path / "first", "best"), load_checkpoint(tmp_path / "next", 0)
    assert all(torch.equal(tensor, began.model[name]) for name, tensor in first.model.items())


# What is told.


def told(tmp_path, capsys, text, **settings):
    train_settings = {"curriculum": written(tmp_path, text), "eval_every": 0, "ui": "plain", **settings}
    merged = {**TINY, "num_steps": 8, "num_minibatches": 2, "run_dir": str(tmp_path / "run"), **train_settings}
    api.train("ppo", **merged)
    return capsys.readouterr().err


def test_stages_that_are_passed_are_told(tmp_path, capsys) -> None:
    err = told(tmp_path, capsys, THREE, total_steps=8 * 32)
    assert "curriculum stage 1 of 3, corridor_length=1 max_steps=3 until success 0 over 12 episodes" in err
    lines = [line for line in err.splitlines() if line.startswith("Stage")]
    assert [line.split(":")[0].rsplit(" ", 1)[0] for line in lines] == [
        f"Stage {number} of 3 passed at step" for number in (1, 2, 3)
    ]
    assert "success 0" in lines[0]
    assert lines[0].endswith("; now corridor_length=2 max_steps=4")
    assert "mean return -0." in lines[1]
    assert lines[2].endswith("; now the run's own env")
    assert "was not passed" not in err
    assert (tmp_path / "run" / "curriculum.toml").read_text(encoding="utf-8") == THREE


def test_a_curriculum_that_was_not_passed_is_told_at_the_end(tmp_path, capsys) -> None:
    text = "[[stage]]\nenv_kwargs = { corridor_length = 1, max_steps = 2 }\nsuccess = 1.5\nepisodes = 10"
    err = told(tmp_path, capsys, text)
    first, last = err.index("Stage 1 can never be passed: success is 1.5"), err.index("The curriculum was not passed")
    assert first < err.index("step 32/192") < last
    assert "the run stayed in stage 1 of 1, corridor_length=1 max_steps=2, with success 0" in err[last:]
    assert "it asks for success 1.5 over 10 episodes" in err[last:]


def test_a_stage_in_which_nothing_finished_or_that_the_last_update_passed_is_told(tmp_path, capsys) -> None:
    long = "[[stage]]\nenv_kwargs = { corridor_length = 90 }\nsuccess = 1.0"
    assert "with no episode finished in it; it asks for" in told(tmp_path, capsys, long, total_steps=32)
    (tmp_path / "run").rename(tmp_path / "other")
    text = "[[stage]]\nenv_kwargs = { max_steps = 4 }\nsuccess = 0.0\nepisodes = 2"
    assert "The run passed stage 1 of 1 with its last update, success " in told(tmp_path, capsys, text, total_steps=32)


@pytest.mark.parametrize(("env", "optimum"), [("PassiveTMaze", "1"), ("Maze89", "≤ 1")])
def test_a_mean_return_above_the_best_is_warned_of(tmp_path, env, optimum) -> None:
    settings = {"env": f"rlstm/{env}-v0", "env_kwargs": {}}
    with contextlib.closing(
        make_training(written(tmp_path, "[[stage]]\nmean_return = 1.5\n[[stage]]\nmean_return = 1.0"), **settings)
    ) as training:
        (warning,) = training.news
    assert warning.startswith("Stage 1 can't be passed but by chance: mean_return is 1.5")
    assert warning.endswith(f"is {optimum}.")
    unknown = {"env_wrappers": ("flicker=0.5",), **settings}
    with contextlib.closing(make_training(written(tmp_path, "[[stage]]\nmean_return = 1.5"), **unknown)) as training:
        assert training.news == []  # Wrappers may change what is best.


def test_success_where_no_info_says_it_is_told_once(tmp_path, capsys) -> None:
    text = "[[stage]]\nsuccess = 0.5\nepisodes = 3"
    settings = {"env": "CartPole-v1", "env_kwargs": {}, "total_steps": 1024, "checkpoint_every": 0, "num_steps": 32}
    err = told(tmp_path, capsys, text, **settings)
    assert err.count("Stage 1 can never be passed: success is asked for, but the env's info has no is_success") == 1


def test_likeliest_actions_are_not_compared_across_envs(three) -> None:
    with contextlib.closing(make_training(three)) as training:
        assert not training.plays_own_env
        training.curriculum.number = 4
        assert training.plays_own_env
    with contextlib.closing(make_training(None)) as training:
        assert training.plays_own_env
        assert "curriculum" not in training.facts()
        assert "curriculum/stage" not in training.update()[0]


# What is refused.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[stage", "is not valid TOML"),
        ("", "has no stages: begin each with a line [[stage]]"),
        ("stage = []", "has no stages"),
        ("[stage]\nsuccess = 1", "has no stages"),
        ("stage = [3]", "Stage 1 of the curriculum ... it is 3; it must be a table"),
        ("[[stages]]\nsuccess = 1", "Unknown table 'stages'. Did you mean 'stage'?"),
        ("[[stage]]\nsucess = 1", "Stage 1 of the curriculum ... Unknown key 'sucess'. Did you mean 'success'?"),
        ("[[stage]]\nsuccess = 1\n[[stage]]", "Stage 2 ... neither success nor mean_return; give one of them"),
        ("[[stage]]\nsuccess = 1\nmean_return = 1", "Stage 1 ... both success and mean_return; give one of them"),
        ("[[stage]]\nsuccess = '1'", "success is '1'; it must be a number"),
        ("[[stage]]\nsuccess = true", "success is True; it must be a number"),
        ("[[stage]]\nmean_return = nan", "mean_return is nan; it must be a number"),
        ("[[stage]]\nsuccess = 1\nepisodes = 0.5", "episodes is 0.5; it must be a whole number"),
        ("[[stage]]\nsuccess = 1\nepisodes = 0", "episodes is 0; it must be at least 1"),
        ("[[stage]]\nsuccess = 1\nenv_kwargs = 3", "env_kwargs is 3; it must be a table"),
        ("[[stage]]\nsuccess = 1\nenv = 3", "env is 3; it must be text"),
        ("[[stage]]\nsuccess = 1\nenv = 'rlstm/TMaze-v0+hold'", "wrappers are those of the run: give the id alone"),
        ("[[stage]]\nsuccess = 1\nenv = 'rlstm/TMazes-v0'", "Stage 1 ... Did you mean 'rlstm/TMaze-v0'?"),
        (
            "[[stage]]\nsuccess = 1\n[[stage]]\nsuccess = 1\nenv = 'CartPole-v1'",
            "Stage 2 ... its observation space is Box ... that of the run's own env Box ... change its env",
        ),
        (
            "[[stage]]\nsuccess = 1\nenv = 'my/Turn-v0'",
            "Stage 1 ... its action space is Discrete(2), that of the run's own env Discrete(4)",
        ),
    ],
)
def test_a_curriculum_that_makes_no_sense_is_refused_before_there_is_a_folder(tmp_path, text, message) -> None:
    with pytest.raises(ConfigError, match=".*".join(map(re.escape, message.split(" ... ")))):
        train(tmp_path / "run", curriculum=written(tmp_path, text))
    assert not (tmp_path / "run").exists()


def test_arguments_that_an_env_refuses_are_refused_with_the_stage(tmp_path) -> None:
    text = "[[stage]]\nsuccess = 1\n[[stage]]\nsuccess = 1\nenv_kwargs = { corridor_length = 0 }"
    with pytest.raises(EnvironmentFailure, match=r"Stage 2 of the curriculum .*corridor_length must be .*Change its"):
        train(tmp_path / "run", curriculum=written(tmp_path, text))
    assert not (tmp_path / "run").exists()


def test_a_missing_file_same_envs_and_evolution_are_refused(tmp_path, three) -> None:
    with pytest.raises(ConfigError, match=r"Can't read the curriculum .*none.toml: No such file"):
        train(tmp_path / "run", curriculum=str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match=r"eval_env is 'same', but with a curriculum .*use own, or none"):
        train(tmp_path / "run", curriculum=three, eval_env="same")
    with pytest.raises(ConfigError, match=r"curriculum is .*evolution .*ppo, reinforce or a teacher"):
        train(tmp_path / "run", "evolino", curriculum=three)
    assert not (tmp_path / "run").exists()


def test_a_curriculum_is_read_as_it_is_written(three) -> None:
    text, stages = read_curriculum(three)
    assert text == THREE
    assert stages == (
        Stage({"corridor_length": 1, "max_steps": 3}, success=0.0, episodes=12),
        Stage({"corridor_length": 2, "max_steps": 4}, mean_return=-9.0, episodes=20),
        Stage({"max_steps": 9}, success=0.0, episodes=5, env="rlstm/TMaze-v0"),
    )
    assert Stage(success=1.0).episodes == 100


@pytest.mark.parametrize("length", [100, 250, 500, 1000])
def test_the_curricula_of_presets_are_found_by_name(length, tmp_path, monkeypatch) -> None:
    """From whatever folder, whatever it holds; a file of that name is told by its folder."""
    monkeypatch.chdir(tmp_path)
    _, stages = read_curriculum(f"passive-tmaze-{length}")
    lengths = [stage.env_kwargs["corridor_length"] for stage in stages]
    assert lengths == sorted(lengths)
    assert lengths[-1] < length
    Path(f"passive-tmaze-{length}").write_text("[[stage]]\nsuccess = 0.5", encoding="utf-8")
    assert read_curriculum(f"passive-tmaze-{length}")[1] == stages
    assert read_curriculum(f"./passive-tmaze-{length}")[1] == (Stage(success=0.5),)
    assert read_curriculum(tmp_path / f"passive-tmaze-{length}")[1] == (Stage(success=0.5),)


def test_runs_of_other_stages_are_not_compared_as_seeds(tmp_path, three) -> None:
    """Whatever the file was called, and wherever it lay."""
    other = tmp_path / "other.toml"
    for name, text in (("a", THREE), ("b", THREE.replace("episodes = 12", "episodes = 13")), ("c", THREE)):
        other.write_text(text, encoding="utf-8")
        train(tmp_path / name, total_steps=32, curriculum=str(other))
    found = [find_runs([tmp_path / name])[0].settings["curriculum"] for name in "abc"]
    assert found[0] == found[2] != found[1]


def test_every_curriculum_of_a_preset_is_there_and_fits_its_env() -> None:
    """Its stages are made, by the preset's own env and wrappers."""
    named = {name: one.settings["curriculum"] for name, one in PRESETS.items() if "curriculum" in one.settings}
    assert len(named) >= 8
    for name in named:
        config = make_config(PRESETS[name].agent, name)
        assert Curriculum(config, resolve_env(config.env)).warnings == []


# The command line.


def test_the_command_trains_resumes_and_evaluates(tmp_path, three, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    words = "train ppo --env rlstm/TMaze-v0 --env-kwargs corridor_length=3 --curriculum stages.toml --run-dir run"
    small = "--num-envs 4 --num-steps 8 --num-minibatches 2 --hidden-size 8 --eval-episodes 2 --num-threads 1"
    assert main(f"{words} {small} --total-steps 128 --ui none --json".split()) == 0
    assert json.loads(capfd.readouterr().out)["steps"] == 128
    Path("stages.toml").write_text("no longer a curriculum", encoding="utf-8")
    assert main(["resume", "run", "--total-steps", "256", "--ui", "none", "--json"]) == 0
    assert stages_of(Path("run"))[0] == 1.0
    assert stages_of(Path("run"))[-1] == 4.0
    capfd.readouterr()
    assert main(["evaluate", "run", "--episodes", "2", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["episodes"] == 2
    assert main(f"{words}-2 {small} --total-steps 128 --ui none --json".split()) == 2
    assert "The curriculum stages.toml is not valid TOML" in json.loads(capfd.readouterr().out)["error"]
    assert not Path("run-2").exists()
    settings = f'curriculum = "{three}"\nenv = "rlstm/TMaze-v0"'
    Path("settings.toml").write_text(settings, encoding="utf-8")
    Path("stages.toml").write_text(THREE, encoding="utf-8")
    config = f"train ppo --config settings.toml --env-kwargs corridor_length=3 {small} --total-steps 32 --run-dir third"
    assert main(f"{config} --ui none --json".split()) == 0
    assert stages_of(Path("third")) == [1.0]


def test_a_copy_that_is_gone_is_told(tmp_path, three) -> None:
    train(tmp_path / "run", total_steps=32, curriculum=three)
    (tmp_path / "run" / "curriculum.toml").unlink()
    with pytest.raises(
        RunDirectoryError, match=r"run/curriculum\.toml is not as .* removed .* restore the file from a"
    ):
        api.resume(tmp_path / "run", total_steps=64, ui="none")
    (tmp_path / "run" / "manifest.json").unlink()  # As in runs of an earlier version.
    with pytest.raises(ConfigError, match=r"run/curriculum.toml: No such file or directory.* restore it from a copy"):
        api.resume(tmp_path / "run", total_steps=64, ui="none")
