"""The study that processes share: which trials there are, whatever is stopped, fails or dies."""

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import rlstm
from rlstm.api.configs import make_config
from rlstm.api.tuning.claims import Claims
from rlstm.api.tuning.plan import Options, Plan, make_plan
from rlstm.core.errors import NonFiniteError, TuningError
from rlstm.training.config import ExperimentConfig
from rlstm.training.config_layers import read_config_file
from rlstm.training.result import TrainResult
from rlstm.training.run_directory import RunDirectoryError

pytest.importorskip("optuna", reason="rlstm.tune needs optuna (pip install 'rlstm-torch[tune]').")

from rlstm.api.tuning import work as work_module
from rlstm.api.tuning.study import Job, SharedStudy

Value = Callable[[ExperimentConfig[Any]], float]

SEARCH = {"learning_rate": "1e-4..1e-2", "cell": "lstm,gru", "hidden_size": "8,128", "memory.bptt_horizon": "none,16"}
DEAD = 2**22 + 1  # Above the largest process number.


class Trainer:
    """Stands for training: what an experiment reaches is known at once, and grows evenly with its steps."""

    def __init__(self, value: Value, stops_before: int | None = None) -> None:
        self.value, self.stops_before = value, stops_before
        self.played: list[ExperimentConfig[Any]] = []

    def __call__(self, config: ExperimentConfig[Any], *, ui: str, on_evaluation: Callable[..., bool]) -> TrainResult:
        assert ui == "none"
        if self.stops_before == len(self.played):
            raise KeyboardInterrupt
        self.played.append(config)
        value, total = self.value(config), config.run.total_steps
        for step in range(config.run.eval_every or total, total + 1, config.run.eval_every or total):
            if not on_evaluation(step, {"eval/mean_reward": value * step / total}):
                break
        return TrainResult(config.run.run_dir or "", step, 1.0, 1.0, None, None, eval_return=value * step / total)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trainer]:
    def use(value: Value, stops_before: int | None = None) -> Trainer:
        one = Trainer(value, stops_before)
        monkeypatch.setattr(work_module, "train_config", one)
        return one

    return use


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(work_module, "_PAUSE", 0.01)


def hidden(config: ExperimentConfig[Any]) -> float:
    """A return that wider networks reach, and that luck has a part in."""
    return config.policy.hidden_size + config.run.seed % 7 / 10


def tune(folder: Path, **options: Any) -> Any:
    settings = {"env": "rlstm/TMaze-v0", "steps_per_trial": 100, "trials": 6, "pruner": "none", "search": SEARCH}
    return rlstm.tune("ppo", search_only=True, study_dir=folder, ui="none", **{**settings, **options})


def plan(seed: int = 0, **options: Any) -> Plan:
    config = make_config("ppo", env="rlstm/TMaze-v0", seed=seed)
    made = Options(**{"steps_per_trial": 100, "trials": 6, "pruner": "none", **options})
    return make_plan(config, "default settings", (), SEARCH, made, only=True)


def joined(folder: Path, made: Plan | None = None) -> SharedStudy:
    for name in ("alive", "trials", "final"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return SharedStudy(folder, made or plan())


def drawn(trainer: Trainer) -> list[tuple[Any, ...]]:
    """What the trials of a search have drawn, and their seeds."""
    configs = [config for config in trainer.played if config.run.seed < 1000]
    return [
        (config.run.seed, config.policy.cell, config.policy.hidden_size, config.algorithm.learning_rate)
        for config in configs
    ]


def test_a_seed_decides_the_trials(trainer, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        one = trainer(hidden)
        tune(tmp_path / name, trials=14, seed=seed, finalists=1, final_seeds=1)
        found.append(drawn(one))
    assert found[0] == found[1]
    assert [trial[1:] for trial in found[0]] != [trial[1:] for trial in found[2]]
    assert [trial[0] for trial in found[2]] == list(range(1, 15))
    assert len(set(found[0])) == 14


def test_the_search_begins_with_the_settings_that_it_varies(trainer, tmp_path: Path) -> None:
    one = trainer(hidden)
    result = tune(tmp_path)
    assert drawn(one)[0] == (0, "lstm", 128, 1e-3)
    assert [trial.is_start for trial in result.trials] == [True, False, False, False, False, False]
    assert one.played[0].memory.bptt_horizon is None
    assert {config.memory.bptt_horizon for config in one.played} == {None, 16}


def test_stopped_and_gone_on_with_it_is_the_same_search(trainer, tmp_path: Path) -> None:
    whole = trainer(hidden)
    result = tune(tmp_path / "whole", trials=12)
    parts = []
    for stops_before in (2, 5, None):
        part = trainer(hidden, stops_before)
        parts.append(part)
        if stops_before is None:
            again = tune(tmp_path / "parts", trials=12)
        else:
            with pytest.raises(KeyboardInterrupt):
                tune(tmp_path / "parts", trials=12)
    assert [trial for part in parts for trial in drawn(part)] == drawn(whole)
    assert len(again.trials) == 12
    assert again.winner.returns == result.winner.returns
    assert (again.winner.values, again.verdict()) == (result.winner.values, again.verdict())


def test_a_lucky_seed_does_not_win(trainer, tmp_path: Path) -> None:
    """One trial is by far the best of the search, by its seed alone: fresh seeds find out."""

    def value(config: ExperimentConfig[Any]) -> float:
        lucky = config.run.seed == 3
        return 100.0 if lucky else -1.0 if config.policy.cell == "lstm" else 1.0

    one = trainer(value)
    result = tune(tmp_path, search={"cell": "lstm,gru,elman", "hidden_size": "8,128"}, trials=10, finalists=8)
    best = max(result.trials, key=lambda trial: trial.value)
    assert best.value == 100.0
    fresh = {config.run.seed for config in one.played} - set(range(10))
    assert fresh == {100_000, 100_001, 100_002}
    assert result.winner.mean == 1.0
    assert result.winner.values["cell"] != "lstm"
    assert result.beginning.mean == -1.0
    assert result.comparison.difference == 2.0


def test_the_start_wins_if_nothing_beats_it(trainer, tmp_path: Path) -> None:
    trainer(lambda config: 1.0 if config.algorithm.learning_rate == 1e-3 else 0.0)
    result = tune(tmp_path)
    assert result.winner.trial is None
    assert result.verdict() == "Nothing beat the default settings: 1 over the fresh seeds."
    stored = read_config_file(result.preset_file)
    assert stored == {"agent": "ppo", "env": "rlstm/TMaze-v0", "total_steps": 100}


def test_the_preset_file_holds_what_won(trainer, tmp_path: Path) -> None:
    trainer(lambda config: config.algorithm.learning_rate)
    result = tune(tmp_path, env_kwargs={"corridor_length": 4})
    stored = read_config_file(result.preset_file)
    assert stored.pop("agent") == "ppo"
    config = make_config("ppo", **stored)
    won = result.winner.values
    assert (
        config.algorithm.learning_rate == won["learning_rate"] == max(t.values["learning_rate"] for t in result.trials)
    )
    assert (config.policy.cell, config.policy.hidden_size) == (won["cell"], won["hidden_size"])
    assert config.env.env_kwargs == {"corridor_length": 4}
    assert not {"seed", "run_dir", "eval_every", "num_threads"} & set(stored)


def test_what_is_worse_than_the_median_is_pruned(trainer, tmp_path: Path) -> None:
    one = trainer(lambda config: 0.0 if config.run.seed > 5 else 10.0)
    result = tune(tmp_path, trials=8, pruner="median")
    assert [trial.outcome for trial in result.trials] == ["done"] * 6 + ["pruned"] * 2
    assert [trial.steps for trial in result.trials] == [100] * 6 + [40] * 2  # The first evaluation tells too little.
    assert all(trial.number < 6 for trial in result.trials if trial.outcome == "done")
    assert len(one.played) == 8 + 3 * 4


def test_halving_keeps_a_third(trainer, tmp_path: Path) -> None:
    trainer(lambda config: config.run.seed if config.run.seed < 100 else 0.0)
    result = tune(tmp_path, trials=6, pruner="halving")
    assert "pruned" not in {trial.outcome for trial in result.trials}  # Each is better than those before it.
    trainer(lambda config: -config.run.seed)
    result = tune(tmp_path / "falling", trials=6, pruner="halving")
    assert [trial.outcome for trial in result.trials].count("pruned") >= 4


def test_trials_end_with_the_budget(trainer, tmp_path: Path) -> None:
    trainer(hidden)
    assert len(tune(tmp_path / "steps", trials=None, budget_steps=350).trials) == 4
    assert len(tune(tmp_path / "both", trials=3, budget_steps=350).trials) == 3


def test_a_failing_trial_is_told_and_the_search_goes_on(trainer, tmp_path: Path) -> None:
    def value(config: ExperimentConfig[Any]) -> float:
        if config.run.seed == 2:
            raise NonFiniteError("the loss is nan")
        return hidden(config)

    trainer(value)
    result = tune(tmp_path, search={**SEARCH, "num_steps": "16", "sequence_length": "16,7"}, trials=8)
    reasons = [trial.reason for trial in result.trials if trial.outcome == "failed"]
    assert reasons.count("NonFiniteError: the loss is nan") == 1
    assert any("ConfigError: sequence_length is 7" in reason for reason in reasons)
    assert len(result.trials) == 8


def test_what_fails_is_the_worst_for_the_sampler(trainer, tmp_path: Path) -> None:
    def value(config: ExperimentConfig[Any]) -> float:
        if config.policy.cell == "gru":
            raise NonFiniteError("the loss is nan")
        return 1.0

    one = trainer(value)
    tune(tmp_path, trials=30, search={"cell": "lstm,gru"}, final_seeds=1)
    cells = [trial[1] for trial in drawn(one)]
    assert cells[:10].count("gru") >= 3  # As chance has it.
    assert cells[10:].count("gru") <= 4


def test_a_search_whose_every_trial_fails_says_why(trainer, tmp_path: Path) -> None:
    def value(config: ExperimentConfig[Any]) -> float:
        raise NonFiniteError(f"the {'loss' if config.run.seed else 'return'} is nan")

    trainer(value)
    told = "No trial could be trained.* 3 x NonFiniteError: the loss is nan; 1 x NonFiniteError: the return is nan"
    with pytest.raises(TuningError, match=told):
        tune(tmp_path, trials=4)
    assert not (tmp_path / "best.toml").exists()


def test_a_value_that_is_no_number_is_a_failure(trainer, tmp_path: Path) -> None:
    trainer(lambda config: float("nan") if config.run.seed == 1 else 1.0)
    result = tune(tmp_path)
    assert [trial.outcome for trial in result.trials].count("failed") == 1
    assert result.trials[1].reason == "the evaluation's mean return is nan"


def abandon(study: SharedStudy, job: Job) -> None:
    """Leave a trial as a process does that is killed."""
    path = study.folder / "alive" / job.claim
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": DEAD}))


def test_a_trial_whose_process_died_is_run_again(tmp_path: Path) -> None:
    study = joined(tmp_path)
    first = study.next_job()
    abandon(study, first)
    second = joined(tmp_path).next_job()
    assert first.record.is_start
    assert (second.record.number, second.record.attempt, second.record.seed) == (1, 2, first.record.seed)
    assert second.record.values == first.record.values
    assert second.record.is_start
    assert [one.outcome for one in study.trials()] == ["died", "running"]
    assert study.finish(first, 1.0, 100) is False  # It was not dead after all: too late.
    assert study.finish(second, 2.0, 100) is True
    assert [one.value for one in study.trials()] == [None, 2.0]


def test_a_trial_that_kills_its_process_again_and_again_is_given_up(tmp_path: Path) -> None:
    study = joined(tmp_path, plan(trials=1))
    for _ in range(3):
        abandon(study, study.next_job())
    assert study.next_job() is True
    assert [one.outcome for one in study.trials()] == ["died", "died", "failed"]
    assert study.trials()[-1].reason == "its process died 3 times"


def test_what_another_machine_plays_is_waited_for_until_it_is_silent(tmp_path: Path) -> None:
    study = joined(tmp_path, plan(trials=1))
    job = study.next_job()
    path = tmp_path / "alive" / job.claim
    path.write_text(json.dumps({"machine": "another", "pid": DEAD}))
    assert study.next_job() is False
    os.utime(path, (time.time() - 170, time.time() - 170))
    assert study.next_job() is False
    os.utime(path, (time.time() - 190, time.time() - 190))
    again = study.next_job()
    assert again.record.attempt == 2


def test_a_claim_is_kept_alive_and_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlstm.api.tuning.claims._TOUCHED_EVERY", 0.01)
    claims = Claims(tmp_path)
    claims.make("one")
    os.utime(tmp_path / "one", (0, 0))
    assert claims.abandoned("one")
    with claims.kept("one"):
        deadline = time.monotonic() + 10
        while claims.abandoned("one") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not claims.abandoned("one")
    assert not (tmp_path / "one").exists()
    assert not claims.abandoned("one", age=170.0)  # Its file may not be seen yet.
    assert claims.abandoned("one", age=190.0)


@pytest.mark.slow
def test_a_lock_of_a_killed_process_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rlstm.api.tuning.study._BROKEN_AFTER", 3)
    study = joined(Path("study"))
    for name in ("turn.lock", "journal.log.lock"):
        Path("study", name).touch()
    began = time.monotonic()
    assert isinstance(study.next_job(), Job)
    assert 6 <= time.monotonic() - began < 30


def play_together(studies: Sequence[SharedStudy], value: Callable[[Job], float]) -> list[Job]:
    """Let several processes, here one after the other, take jobs in turn and finish them late."""
    played: list[Job] = []
    open_jobs: list[tuple[SharedStudy, Job]] = []
    for study in itertools.cycle(studies):
        job = study.next_job()
        if job is True:
            return played
        if isinstance(job, Job):
            open_jobs.append((study, job))
            played.append(job)
        if len(open_jobs) == len(studies) or job is False:
            owner, done = open_jobs.pop(0)
            owner.finish(done, value(done), 100)
            owner.claims.drop(done.claim)
    raise AssertionError


def test_processes_share_the_trials_and_the_final_round(tmp_path: Path) -> None:
    studies = [joined(tmp_path, plan(trials=9)) for _ in range(3)]
    played = play_together(studies, lambda job: job.record.values["learning_rate"])
    trials = [job for job in played if not job.is_final]
    finals = [(job.record.candidate, job.record.seed) for job in played if job.is_final]
    assert sorted(job.record.number for job in trials) == list(range(9))
    assert len(finals) == len(set(finals)) == 3 * 4
    assert {seed for _, seed in finals} == {100_000, 100_001, 100_002}
    assert len({job.run_dir for job in played}) == len(played)
    assert len({tuple(job.record.values.values()) for job in trials}) == 9


def test_more_trials_later_train_new_finalists_only(trainer, tmp_path: Path) -> None:
    trainer(hidden)
    first = tune(tmp_path)
    one = trainer(lambda config: 100 + hidden(config) if config.run.seed >= 6 else hidden(config))
    second = tune(tmp_path, trials=8)
    assert [config.run.seed for config in one.played[:2]] == [6, 7]
    assert len(one.played) == 2 + 3 * 2  # The third finalist and the start have been trained.
    assert [finalist.trial for finalist in first.finalists] != [finalist.trial for finalist in second.finalists]
    assert {6, 7} < {finalist.trial for finalist in second.finalists}
    third = trainer(hidden)
    assert tune(tmp_path, trials=3).winner == second.winner
    assert third.played == []


def test_another_study_is_not_joined(trainer, tmp_path: Path) -> None:
    one = trainer(hidden)
    tune(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for options, told in (
        ({"env": "rlstm/TMaze-v0", "env_kwargs": {"corridor_length": 9}}, "env_kwargs is"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"steps_per_trial": 200}, "total_steps is 100 there and 200 here"),
        ({"search": {**SEARCH, "cell": "lstm,elman"}}, "search.cell is lstm,gru there and lstm,elman here"),
        ({"gamma": 0.5}, "gamma is 0.99 there and 0.5 here"),
        ({"search": {"cell": "lstm,gru"}}, "search.hidden_size is 8,128 there and not there here"),
    ):
        with pytest.raises(TuningError, match=told):
            tune(tmp_path, **options)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(one.played) == 6 + 3 * 4
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(RunDirectoryError, match="is no study"):
        tune(tmp_path / "full")


def test_importances_name_what_mattered(trainer, tmp_path: Path) -> None:
    trainer(lambda config: -abs(math.log10(config.algorithm.learning_rate / 5e-3)))
    result = tune(tmp_path, trials=20)
    assert next(iter(result.importances)) == "learning_rate"
    assert set(result.importances) == set(SEARCH)
    assert sum(result.importances.values()) == pytest.approx(1.0)
    assert tune(tmp_path / "few", trials=5).importances == {}


def test_choices_are_kept_as_what_they_are(tmp_path: Path) -> None:
    search = {"encoder_sizes": "none,8x4", "popart": "true,false", "num_envs": "2..8", "vf_coef": "0.1..0.9"}
    made = make_plan(make_config("ppo", env="rlstm/TMaze-v0"), "", (), search, Options(trials=30), only=True)
    study = joined(tmp_path, made)
    seen = [study.next_job().record.values for _ in range(25)]
    assert {values["encoder_sizes"] for values in seen} == {(), (8, 4)}
    assert {values["popart"] for values in seen} == {True, False}
    assert {type(values["num_envs"]) for values in seen} == {int}
    assert all(2 <= values["num_envs"] <= 8 and 0.1 <= values["vf_coef"] <= 0.9 for values in seen)
    assert study.trials()[3].values == seen[3]
