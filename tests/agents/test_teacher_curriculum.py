"""A teacher's curriculum: sequences come from the env of a stage, and episodes played in it decide when it is over."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import rlstm
from rlstm.api import experiments as api
from rlstm.rollouts.statistics import Outcome
from rlstm.training import teaching
from rlstm.training.checkpoints import list_checkpoints, load_checkpoint
from rlstm.training.config import ConfigError
from rlstm.training.run_directory import RunDirectory
from tests.training.test_resume import assert_same_run, everything, stopped_at

LENGTHS = """
[[stage]]
env_kwargs = { length = 10 }
success = 0.0
episodes = 8

[[stage]]
env_kwargs = { length = 20 }
mean_return = -99.0
episodes = 5
"""
"""Passed by any policy, each after two updates of ``ADDING``."""
ADDING = {
    "env": "rlstm/Adding-v0",
    "env_kwargs": {"length": 40},
    "hidden_size": 3,
    "batch_size": 4,
    "total_steps": 4 * (2 * 10 + 2 * 20 + 2 * 40),
    "eval_episodes": 2,
    "num_envs": 2,
    "eval_every": 0,
    "checkpoint_every": 1,
    "keep_checkpoints": 99,
    "num_threads": 1,
}


def train(folder: Path, text: str = LENGTHS, **settings: Any) -> list[dict[str, str]]:
    """Train with a curriculum; returns the rows of progress.csv."""
    file = folder.parent / "stages.toml"
    file.write_text(text)
    rlstm.train("teacher", ui="none", run_dir=str(folder), curriculum=str(file), **{**ADDING, **settings})
    with (folder / "progress.csv").open(newline="") as rows:
        return list(csv.DictReader(rows))


def test_sequences_are_those_of_the_stage_and_then_of_the_runs_own_env(tmp_path: Path) -> None:
    rows = train(tmp_path / "run")
    steps = np.diff([0, *(float(row["step"]) for row in rows)])
    lengths = np.array([10, 20, 40])[[int(float(row["curriculum/stage"])) - 1 for row in rows]]
    assert sorted(set(lengths)) == [10, 20, 40]
    assert ((steps >= 4 * lengths) & (steps <= 4 * 1.1 * lengths)).all()
    # Eight episodes are judged after as many sequences, two updates; so are five, which two updates hold.
    assert lengths.tolist()[:5] == [10, 10, 20, 20, 40]


def test_a_stage_is_judged_by_so_many_episodes_in_its_env_each_time_by_others(tmp_path: Path, monkeypatch) -> None:
    played = []
    true = teaching.evaluate

    def evaluate(policy: Any, envs: Any, episodes: int, **options: Any) -> Any:
        result = true(policy, envs, episodes, **options)
        played.append((episodes, int(result.lengths.min()), options["seed"]))
        return result

    monkeypatch.setattr(teaching, "evaluate", evaluate)
    train(tmp_path / "run", LENGTHS.replace("success = 0.0", "success = 1.0"))
    assert len(played) > 3
    assert {(episodes, length // 10) for episodes, length, _ in played} == {(8, 1)}
    assert len({seed for *_, seed in played}) == len(played)


def test_episodes_of_a_stage_are_cut_as_evaluations_are_and_a_cut_one_is_no_success(tmp_path: Path) -> None:
    file = tmp_path / "stages.toml"
    file.write_text(LENGTHS)
    training, _ = api._make_training(api.make_config("teacher", curriculum=str(file), eval_max_steps=2, **ADDING))
    training.curriculum.pass_stage = lambda *_: None
    for _ in range(3):
        training.update()
    training.close()
    assert [one.success for one in training._played] == [0.0] * 8
    assert not training.news  # Not even that success can never be told.


def test_envs_that_only_evaluations_need_are_not_kept() -> None:
    training, _ = api._make_training(api.make_config("teacher", **ADDING))
    training.update()
    assert training._envs._made.keys() == {4}
    training.close()


def test_a_run_that_stays_in_a_stage_says_so_at_its_end(tmp_path: Path) -> None:
    file = tmp_path / "stages.toml"
    file.write_text(LENGTHS.replace("success = 0.0", "success = 1.0"))
    training, _ = api._make_training(api.make_config("teacher", curriculum=str(file), **ADDING))
    assert training.closing_words() is not None
    assert "stage 1 of 2" in training.closing_words()
    assert not training.plays_own_env
    training.update()
    training.update()
    assert training._played == []  # Two updates are judged before the third.
    training.update()
    assert [type(one) for one in training._played] == [Outcome] * 8
    assert re.search(r"with success 0[.0-9]*; it asks for success 1 over 8 episodes", training.closing_words())
    training.close()


def test_a_run_stopped_in_any_stage_goes_on_bit_for_bit(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    expected = everything(tmp_path / "whole")
    stages = set()
    for step in list_checkpoints(tmp_path / "whole")[:-1]:
        stages.add(load_checkpoint(RunDirectory(tmp_path / "whole"), step).trainer["stage"])
        part = stopped_at(tmp_path / "whole", tmp_path / f"part-{step}", step)
        rlstm.resume(part, ui="none")
        assert_same_run(part, expected)
    assert stages == {1, 2, 3}


class Unasked(gym.Env[Any, Any]):
    """Asks nothing if ``silent``."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, silent: bool = False) -> None:
        self.silent = silent

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 0.0, True, False, {"target": -1 if self.silent else 1}


@pytest.mark.parametrize(
    ("silent", "place"), [((False, True, False), "Stage 2 of"), ((False, False, True), "The run's own env, behind")]
)
def test_a_later_env_that_asks_nothing_is_refused_before_training(tmp_path: Path, silent: Any, place: str) -> None:
    gym.register("teacher-test/Unasked-v0", Unasked)
    stages = [f"[[stage]]\nmean_return = 0\nenv_kwargs = {{ silent = {str(one).lower()} }}" for one in silent[:2]]
    try:
        with pytest.raises(ConfigError, match=rf"{place} the curriculum .*info\['target'\]"):
            train(tmp_path / "run", "\n".join(stages), env="teacher-test/Unasked-v0", env_kwargs={"silent": silent[2]})
    finally:
        gym.registry.pop("teacher-test/Unasked-v0")
    assert not (tmp_path / "run").exists()


class Spoken(Unasked):
    """Has the spaces of an env whose sequences have strings of labels, but no strings."""

    def __init__(self) -> None:
        super().__init__()
        env = gym.make("rlstm/SpokenStrings-v0")
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return np.zeros(self.observation_space.shape, np.float32), {}

    def step(self, action: Any) -> Any:
        return self.reset()[0], 0.0, True, False, {"target": 1}


def test_stages_of_different_losses_are_refused_but_where_the_loss_is_named(tmp_path: Path) -> None:
    gym.register("teacher-test/Spoken-v0", Spoken)
    spoken, strings = "teacher-test/Spoken-v0", "rlstm/SpokenStrings-v0"
    try:
        for own, first, losses in ((spoken, strings, "cross-entropy, .* ctc"), (strings, spoken, "ctc, .* cross-entr")):
            stages = f'[[stage]]\nmean_return = 0\nenv = "{first}"'
            with pytest.raises(ConfigError, match=rf"The run's own env, .*its loss is {losses}.*--loss"):
                train(tmp_path / "run", stages, env=own, env_kwargs={})
            train(tmp_path / first[:3], stages, env=own, env_kwargs={}, loss="cross-entropy", total_steps=1)
    finally:
        gym.registry.pop("teacher-test/Spoken-v0")


def test_demonstrations_have_no_stages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="demonstrations is d, which are of one env: leave one of the two out"):
        train(tmp_path / "run", demonstrations="d")
