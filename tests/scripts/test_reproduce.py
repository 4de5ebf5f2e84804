"""The script that repeats learning results: what it runs, what it reads from runs, and what it tells of them."""

import csv
import json

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
    row = scripts.reproduce.run_seed("small", 3, 1, str(tmp_path))
    first, last = tmp_path / "small-seed3-stage1", tmp_path / "small-seed3"
    assert json.loads((last / "config.json").read_text())["settings"]["init_from"] == str(first)
    ended = load_checkpoint(RunDirectory.open(first), "best").model
    began = load_checkpoint(RunDirectory.open(last), 0).model
    assert all(torch.equal(value, began[name]) for name, value in ended.items())
    assert row["total_steps"] == 128
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


def test_intervals_begin_with_three_seeds(scripts) -> None:
    rows = [row(str(seed), "1000", str(1 - seed / 10), "True") for seed in range(3)]
    assert "| 0.95 |" in scripts.reproduce.table(rows[:2], "T-maze")
    assert "| 0.9 [0.8, 1] |" in scripts.reproduce.table(rows, "T-maze")


def row(seed, reached, final, solved, experiment="tmaze", total_steps="300000"):
    seconds = "12.0" if reached else ""
    names = {"experiment": experiment, "seed": seed, "reached_at": reached, "seconds_to_criterion": seconds}
    return {**names, "final": final, "solved": solved, "total_steps": total_steps}


def test_experiments_of_one_title_share_a_line(scripts) -> None:
    rows = [
        row("0", "3000", "0.9", "True", "memory-length-7", "80000"),
        row("0", "", "0.1", "False", "memory-length-30", "310000"),
        row("0", "1000", "0.8", "True", "memory-length-1", "20000"),
    ]
    *_, rule, line = scripts.reproduce.table(rows, "bsuite").splitlines()
    assert set(rule) == {"|", "-"}
    assert line.startswith("| Memory lengths 1 to 100 (training return ≥ 0.25) | 2 of 3 |")
    assert "| 0.1 | 2,000 | 12 s | 20,000 to 310,000 |" in line


def test_the_table_lists_failures_as_failures(scripts) -> None:
    rows = [row("0", "90112", "1", "True"), row("1", "", "0.5", "False"), row("2", "90112", "0.6", "False")]
    line = scripts.reproduce.table(rows, "T-maze").splitlines()[-1]
    assert line.startswith("| Corridor 20, LSTM (success ≥ 0.99) | 1 of 3 |")
    assert "| 0.5 | 90,112 | 12 s | 300,000 |" in line
    assert "| never |" in scripts.reproduce.table(rows[1:2], "T-maze")
    assert scripts.reproduce.table([], "T-maze") == ""
