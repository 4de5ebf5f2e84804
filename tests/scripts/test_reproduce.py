"""The script that repeats learning results: what it runs, what it reads from runs, and what it tells of them."""

import csv
import json
from concurrent.futures import Future

import pytest
import torch

from rlstm.cli.train import experiment as parse_experiment
from rlstm.training.checkpoints import load_checkpoint
from rlstm.training.run_directory import RunDirectory

FIELDS = ("step", "eval/mean_reward", "eval/success_rate", "rollout/ep_rew_mean_of_all", "time/time_elapsed")


def write_progress(path, rows):
    """A run directory with rows of step, success rate (None where nothing was evaluated) and seconds."""
    path.mkdir()
    with (path / "progress.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for step, success, seconds in rows:
            evaluated = {} if success is None else {"eval/mean_reward": 4 * success, "eval/success_rate": success}
            writer.writerow({"step": step, "time/time_elapsed": seconds, **evaluated})
    return path


def test_a_run_is_solved_if_the_criterion_is_met_and_still_met_at_the_end(scripts, tmp_path) -> None:
    experiment = scripts.catalogue.EXPERIMENTS["tmaze"]
    rows = [(100, 0.5, 1.0), (200, None, 2.0), (300, 0.99, 3.04), (400, 1.0, 4.0)]
    solved = scripts.reproduce.read_outcome([write_progress(tmp_path / "solved", rows)], experiment)
    assert solved == {
        "reached_at": 300,
        "seconds_to_criterion": 3.0,
        "final": "1",
        "total_steps": 400,
        "steps_per_second": 100,
        "seconds": 4.0,
        "solved": True,
    }
    lost = scripts.reproduce.read_outcome([write_progress(tmp_path / "lost", [*rows, (500, 0.6, 5.0)])], experiment)
    assert (lost["reached_at"], lost["final"], lost["solved"]) == (300, "0.6", False)
    never = scripts.reproduce.read_outcome([write_progress(tmp_path / "never", rows[:2])], experiment)
    assert (never["reached_at"], never["seconds_to_criterion"], never["solved"]) == ("", "", False)


def test_steps_and_seconds_of_all_stages_count_and_the_last_one_decides(scripts, tmp_path) -> None:
    experiment = scripts.catalogue.EXPERIMENTS["tmaze-500"]
    first = write_progress(tmp_path / "first", [(100, 1.0, 1.0), (1000, 1.0, 8.0)])
    last = write_progress(tmp_path / "last", [(50, 0.7, 2.0), (60, 1.0, 3.0), (70, 1.0, 4.0)])
    outcome = scripts.reproduce.read_outcome([first, last], experiment)
    assert (outcome["reached_at"], outcome["seconds_to_criterion"]) == (1060, 11.0)
    assert (outcome["total_steps"], outcome["seconds"], outcome["steps_per_second"]) == (1070, 12.0, 89)


def test_a_stage_begins_with_the_weights_of_the_one_before(scripts, tmp_path, monkeypatch) -> None:
    small = (
        "--num-envs",
        "4",
        "--num-steps",
        "8",
        "--hidden-size",
        "4",
        "--memory-length",
        "none",
        "--eval-every",
        "0",
    )
    stages = tuple((*small, "--env-kwargs", f"corridor_length={n}", "--total-steps", "64") for n in (2, 3))
    experiment = scripts.catalogue.Experiment("T-maze", "", "tmaze", stages[1], "success", 0.99, stages=stages[:1])
    monkeypatch.setitem(scripts.catalogue.EXPERIMENTS, "small", experiment)
    row, curve = scripts.reproduce.run_seed("small", 3, 1, str(tmp_path))
    first, last = tmp_path / "small-seed3-stage1", tmp_path / "small-seed3"
    assert json.loads((last / "config.json").read_text())["settings"]["init_from"] == str(first)
    ended = load_checkpoint(RunDirectory.open(first), "best").model
    began = load_checkpoint(RunDirectory.open(last), 0).model
    assert all(torch.equal(value, began[name]) for name, value in ended.items())
    assert row["total_steps"] == 128
    assert {(point["seed"], 64 < point["step"] <= 128) for point in curve} == {(3, True)}
    assert set(curve[0]) == set(scripts.learning_curves.COLUMNS)
    one, other = row["command"].split(" && ")
    assert one.endswith("--run-dir runs/small-seed3-stage1")
    assert other.endswith("--init-from runs/small-seed3-stage1")
    assert str(tmp_path) not in row["command"]


def test_every_experiment_is_a_run_that_rlstm_accepts(scripts) -> None:
    """Their flags are read and make a config; nothing is trained."""
    for name, experiment in scripts.catalogue.EXPERIMENTS.items():
        assert experiment.group in scripts.catalogue.GROUPS, name
        assert experiment.measure in scripts.catalogue.MEASURES, name
        for flags in experiment.runs:
            config, _ = parse_experiment(experiment.agent, ["--preset", experiment.preset, *flags])
            assert config.run.total_steps > 0


class Pool:
    """Runs in this process what a pool of processes would."""

    def __init__(self, jobs, **options) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass

    def submit(self, function, *arguments) -> Future:
        future: Future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def results(scripts, tmp_path, monkeypatch):
    """A folder of results with a row and a curve of seed 0 of the T-maze, and runs that cost nothing."""
    reproduce = scripts.reproduce
    monkeypatch.setattr(reproduce, "RESULTS", tmp_path / "learning.csv")
    monkeypatch.setattr(scripts.learning_curves, "CURVES", tmp_path / "curves")
    monkeypatch.setattr(scripts.learning_tables, "PAGE", tmp_path / "RESULTS.md")
    monkeypatch.setattr(scripts.learning_picture, "PAGE", tmp_path / "RESULTS.md")
    monkeypatch.setattr(scripts.short_table, "README", tmp_path / "README.md")
    monkeypatch.setattr(reproduce, "ProcessPoolExecutor", Pool)
    (tmp_path / "RESULTS.md").write_text("no marks\n")
    (tmp_path / "README.md").write_text("no marks\n")

    def run_seed(name, seed, num_threads, runs):
        there = scripts.results_table.read_rows(reproduce.RESULTS)
        assert runs is None or [one["final"] for one in there] == ["0.4", "0.4"]  # The old ones wait for the new.
        row = dict.fromkeys(reproduce.COLUMNS, "0") | {"experiment": name, "seed": seed, "final": "0.6"}
        return reproduce.Result(row, [point(seed, 7)])

    monkeypatch.setattr(reproduce, "run_seed", run_seed)
    for seed in (0, 1):
        row = dict.fromkeys(reproduce.COLUMNS, "0") | {"experiment": "tmaze", "seed": seed, "final": "0.4"}
        reproduce.store(reproduce.Result(row, [point(seed, 5), point(seed, 6)]))
    return tmp_path


def point(seed, step):
    return {"seed": seed, "step": step, "eval_return": "1", "eval_success": "", "training_return": "2"}


def run(scripts, monkeypatch, *words) -> None:
    monkeypatch.setattr("sys.argv", ["reproduce", *words])
    scripts.reproduce.main()


def finals_and_steps(scripts, folder):
    rows = scripts.results_table.read_rows(folder / "learning.csv")
    points = scripts.results_table.read_rows(folder / "curves" / "tmaze.csv")
    return [(one["seed"], one["final"]) for one in rows], [(one["seed"], one["step"]) for one in points]


def test_a_seed_that_is_there_is_left_alone(scripts, results, monkeypatch) -> None:
    run(scripts, monkeypatch, "tmaze", "--seeds", "0", "2")
    rows, points = finals_and_steps(scripts, results)
    assert rows == [("0", "0.4"), ("1", "0.4"), ("2", "0.6")]
    assert points == [("0", "5"), ("0", "6"), ("1", "5"), ("1", "6"), ("2", "7")]


def test_again_replaces_the_row_and_the_curve_of_a_seed_once_known(scripts, results, monkeypatch) -> None:
    run(scripts, monkeypatch, "tmaze", "--seeds", "0", "--again", "--runs", "runs")
    rows, points = finals_and_steps(scripts, results)
    assert rows == [("0", "0.6"), ("1", "0.4")]
    assert points == [("0", "7"), ("1", "5"), ("1", "6")]


def test_a_group_is_all_its_experiments(scripts, results, monkeypatch) -> None:
    run(scripts, monkeypatch, "--group", "Passive T-maze", "--seeds", "0")
    rows = scripts.results_table.read_rows(results / "learning.csv")
    group = [name for name, one in scripts.catalogue.EXPERIMENTS.items() if one.group == "Passive T-maze"]
    assert sorted(row["experiment"] for row in rows) == sorted(["tmaze", "tmaze", *group])


def test_tables_train_nothing(scripts, results, monkeypatch) -> None:
    begin, end = scripts.learning_tables.marks("remember")
    (results / "RESULTS.md").write_text(f"{begin}\n{end}\n")
    monkeypatch.setattr(scripts.reproduce, "run_seed", None)
    run(scripts, monkeypatch, "--tables")
    assert "Corridor 20, LSTM" in (results / "RESULTS.md").read_text()


def test_a_picture_of_no_curves_says_so(scripts, results, monkeypatch, capsys) -> None:
    (results / "curves" / "tmaze.csv").unlink()
    run(scripts, monkeypatch, "--picture")
    assert "run an experiment first" in capsys.readouterr().out
