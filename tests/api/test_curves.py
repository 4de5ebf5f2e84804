"""Curves of runs: how runs are found, grouped and named, and what is refused."""

import json
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from rlstm.api.comparison import ablate, compare, default_threshold
from rlstm.api.curves import read_curves
from rlstm.core.errors import UnknownNameError
from rlstm.core.statistics import interval
from rlstm.training.config import ConfigError
from rlstm.training.run_directory import RunDirectoryError
from tests.kit import write_run


def labels(paths, **options):
    return [group.label for group in read_curves(paths, **options).groups]


def test_runs_that_differ_in_their_seed_alone_are_one_group(tmp_path) -> None:
    for seed, end in enumerate((1.0, 2.0, 4.0)):
        write_run(tmp_path / f"one/s{seed}", seed, {100: 0.0, 200: end})
    write_run(tmp_path / "two", 0, {100: 0.0, 200: 3.0}, cell="gru")
    one, two = read_curves([tmp_path]).groups
    assert (one.label, one.seeds, one.finals.tolist()) == ("cell=lstm", (0, 1, 2), [1.0, 2.0, 4.0])
    assert one.final == pytest.approx((0.25 * 1 + 2 + 0.25 * 4) / 1.5)
    assert one.final_interval[0] < one.final < one.final_interval[1]
    assert (two.label, two.seeds, two.final, two.final_interval) == ("cell=gru", (0,), 3.0, None)
    assert (two.runs, two.settings) == ((tmp_path / "two",), {"cell": "gru"})


def test_a_run_alone_has_the_name_of_its_folder_and_seeds_alone_that_of_their_agent(tmp_path) -> None:
    assert labels([write_run(tmp_path / "third", 3, {100: 1.0})]) == ["third"]
    write_run(tmp_path / "fourth", 4, {100: 1.0})
    assert labels([tmp_path]) == ["ppo"]


def test_a_label_has_the_settings_that_tell_groups_apart_and_a_note_the_others(tmp_path) -> None:
    write_run(tmp_path / "a", 0, {100: 1.0}, cell="lstm", memory_length=40, total_steps=100)
    write_run(tmp_path / "b", 0, {100: 1.0}, cell="none", total_steps=200)
    curves = read_curves([tmp_path])
    assert [group.label for group in curves.groups] == ["cell=lstm", "cell=none"]
    assert curves.notes == ("The groups differ in memory_length, total_steps too.",)
    assert curves.groups[1].settings == {"cell": "none", "memory_length": "none", "total_steps": "200"}
    write_run(tmp_path / "c", 0, {100: 1.0}, cell="none", total_steps=200, env_kwargs={"corridor_length": 5})
    assert labels([tmp_path])[2] == "cell=none, env_kwargs.corridor_length=5"


def test_folders_are_kept_apart_only_if_asked_and_if_all_in_them_is_alike(tmp_path) -> None:
    for folder in ("before", "after"):
        for seed in (0, 1):
            write_run(tmp_path / folder / str(seed), seed, {100: 1.0})
    folders = [tmp_path / "before", tmp_path / "after"]
    (together,) = read_curves(folders).groups
    assert together.seeds == (0, 1, 0, 1)
    assert labels(folders, by_folder=True) == [str(folder) for folder in folders]
    write_run(tmp_path / "after" / "gru", 0, {100: 1.0}, cell="gru")
    assert labels(folders, by_folder=True) == [
        f"cell=lstm, {tmp_path / 'before'}",
        f"cell=lstm, {tmp_path / 'after'}",
        "cell=gru",
    ]
    write_run(tmp_path / "before" / "gru", 0, {100: 1.0}, cell="gru")
    assert labels(folders, by_folder=True) == ["cell=lstm", "cell=gru"]


def test_a_run_named_twice_counts_once_and_a_seed_there_twice_is_noted(tmp_path) -> None:
    one = write_run(tmp_path / "one", 0, {100: 1.0})
    assert read_curves([one, tmp_path]).groups[0].seeds == (0,)
    write_run(tmp_path / "two", 0, {100: 1.0})
    assert "runs of the same seed (0) are not independent" in " ".join(read_curves([tmp_path]).notes)


def test_evaluations_are_shown_where_there_are_any_and_any_column_that_is_named(tmp_path) -> None:
    write_run(tmp_path / "a", 0, {200: 5.0}, {100: 1.0, 200: 2.0})
    assert read_curves([tmp_path]).metric == "eval/mean_reward"
    training = read_curves([tmp_path], "rollout/ep_rew_mean").groups[0]
    assert (training.steps.tolist(), training.line.tolist()) == ([100, 200], [1.0, 2.0])
    write_run(tmp_path / "other" / "b", 0, None, {100: 1.0})
    assert read_curves([tmp_path / "other"]).metric == "rollout/ep_rew_mean"
    with pytest.raises(UnknownNameError, match=r"Unknown metric 'eval/mean_rewards'. Did you mean 'eval/mean_reward'?"):
        read_curves([tmp_path], "eval/mean_rewards")


def test_a_run_without_evaluations_is_left_out_if_found_and_refused_if_named(tmp_path) -> None:
    write_run(tmp_path / "a", 0, {100: 5.0})
    bare = write_run(tmp_path / "b", 1, None, {100: 1.0})
    curves = read_curves([tmp_path])
    assert curves.groups[0].seeds == (0,)
    assert curves.notes == (f"Left out, because they have no value of 'eval/mean_reward' so far: {bare}.",)
    with pytest.raises(RunDirectoryError, match=r"b has no value of .*: --metric rollout/ep_rew_mean"):
        read_curves([tmp_path / "a", bare])
    (bare / "progress.csv").unlink()
    with pytest.raises(RunDirectoryError, match=r"no value of 'rollout/ep_rew_mean': none is logged so far. Leave it"):
        read_curves([bare])


def test_a_group_ends_where_its_first_run_does(tmp_path) -> None:
    write_run(tmp_path / "a", 0, {100: 0.0, 200: 2.0})
    write_run(tmp_path / "b", 1, {100: 0.0, 300: 4.0})
    curves = read_curves([tmp_path])
    assert (curves.groups[0].steps.tolist(), curves.groups[0].finals.tolist()) == ([100, 200], [2.0, 2.0])
    assert curves.notes == ("ppo: shown up to step 200, which all runs have reached; one is at 300.",)
    write_run(tmp_path / "c", 2, {50: 0.0})
    with pytest.raises(RunDirectoryError, match="ppo: the runs have no steps in common"):
        read_curves([tmp_path])


def test_different_envs_are_refused_by_name(tmp_path) -> None:
    write_run(tmp_path / "a", 0, {100: 1.0})
    write_run(tmp_path / "b", 0, {100: 1.0}, env="CartPole-v1")
    with pytest.raises(ConfigError, match=r"different envs: CartPole-v1, rlstm/TMaze-v0"):
        read_curves([tmp_path])


def test_what_is_no_run_is_told(tmp_path) -> None:
    with pytest.raises(RunDirectoryError, match="holds no run"):
        read_curves([tmp_path])
    with pytest.raises(RunDirectoryError, match="missing does not exist"):
        read_curves([tmp_path / "missing"])
    run = write_run(tmp_path / "run", 0, {100: 1.0})
    (run / "progress.csv").write_text("step,eval/mean_reward\n100,high\n")
    with pytest.raises(RunDirectoryError, match=r"progress.csv can't be read"):
        read_curves([run])
    (tmp_path / "config.json").write_text("{}")  # Of another program.
    run.joinpath("config.json").unlink()
    with pytest.raises(RunDirectoryError, match=r"env_spec.json can't be read"):
        read_curves([tmp_path])


def test_references_hold_without_wrappers_and_trials_and_for_returns(tmp_path) -> None:
    plain = write_run(tmp_path / "plain", 0, {100: 1.0})
    known = {"memoryless_return": 1.95, "optimal_return": 4.0}
    unknown = dict.fromkeys(known)
    kwargs = {"corridor_length": 20}
    assert read_curves([plain]).references == known
    wrapped = write_run(tmp_path / "wrapped", 0, {100: 1.0}, env_wrappers=["noise=0.1"], env_kwargs=kwargs)
    assert read_curves([wrapped]).references == unknown
    trials = {"memory.lifetime": "trial", "memory.episodes_per_trial": 2}
    assert read_curves([write_run(tmp_path / "trials", 0, {100: 1.0}, **trials)]).references == unknown
    both = read_curves([plain, wrapped])
    assert both.references == unknown
    assert [group.references for group in both.groups] == [known, unknown]
    assert "not the same for all groups" in both.notes[-1]


def test_an_env_that_can_not_be_made_costs_the_references_and_nothing_else(tmp_path) -> None:
    curves = read_curves([write_run(tmp_path / "a", 0, {100: 1.0}, env="Gone-v0")])
    assert curves.groups[0].final == 1.0
    assert curves.references == {"memoryless_return": None, "optimal_return": None}
    assert curves.notes[0].startswith("The best returns are left out, because the env can't be made: ")
    assert "Gone-v0" not in gym.registry


def test_groups_are_compared_with_the_first(tmp_path) -> None:
    ends = {"lstm": (1.0, 3.0), "gru": (2.0, 3.0), "none": (0.0,)}
    for cell, values in ends.items():
        for seed, value in enumerate(values):
            write_run(tmp_path / cell / str(seed), seed, {100: 0.0, 200: value}, cell=cell)
    curves = read_curves([tmp_path / cell for cell in ends], by_folder=True)
    threshold = default_threshold(curves.groups)
    assert threshold == pytest.approx(0.9 * 2.5)  # The finals are 2, 2.5 and 0.
    first, second, third = compare(curves, threshold)
    assert (first.improvement, second.improvement, third.improvement) == (None, 0.625, 0.0)
    assert second.improvement_interval[0] < 0.625 < second.improvement_interval[1]
    assert third.improvement_interval is None
    assert [one.steps_to_threshold for one in (first, second, third)] == [None, 200, None]
    assert compare(curves, 0.0)[0].steps_to_threshold == 100


def test_an_ablation_pairs_each_run_with_itself(tmp_path, monkeypatch) -> None:
    def evaluate_run(run, *, episodes, ablate_memory, trust):
        return SimpleNamespace(mean_return=(1.0 if ablate_memory else 3.0) * int(run.name) + episodes)

    monkeypatch.setattr("rlstm.api.comparison.evaluate_run", evaluate_run)
    for seed in (1, 2, 4):
        write_run(tmp_path / str(seed), seed, {100: 1.0})
    found = ablate(read_curves([tmp_path]).groups[0], episodes=10)
    assert (found.intact.tolist(), found.ablated.tolist()) == ([13.0, 16.0, 22.0], [11.0, 12.0, 14.0])
    assert found.loss == pytest.approx((0.25 * 2 + 4 + 0.25 * 8) / 1.5)
    assert found.loss_interval == interval(np.array([2.0, 4.0, 8.0]))


def test_settings_that_a_run_was_stored_without_are_those_of_its_time(tmp_path) -> None:
    old = write_run(tmp_path / "old", 0, {100: 1.0})
    write_run(tmp_path / "new", 1, {100: 1.0}, scale_actions=True)
    assert "scale_actions" not in json.loads((old / "config.json").read_text())["settings"]
    assert labels([tmp_path]) == ["scale_actions=True", "scale_actions=False"]
