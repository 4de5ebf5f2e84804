"""Many seeds from the command line, with processes that train."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlstm.cli.words import without_flags
from rlstm.training.seeds_folder import SeedsFolder
from tests.cli.conftest import SMALL

WORDS = [*SMALL, "--env", "rlstm/TMaze-v0", "--env-kwargs", "corridor_length=3", "--eval-episodes", "2"]


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlstm.api.seeds.num_cores", lambda: 2)


def test_a_seed_of_many_is_the_run_that_it_is_alone(rlstm) -> None:
    """And the folder is read by all that reads several runs."""
    words = [*WORDS, "--total-steps", "256"]
    result = rlstm("train ppo --seeds 1 2 --run-dir all --json", *words)
    assert (result.code, result.err) == (0, "")
    answer = result.json
    assert (answer["run_dir"], answer["num_seeds"], answer["done"], answer["complete"]) == ("all", 2, 2, True)
    assert [(one["seed"], one["run_dir"], one["steps"]) for one in answer["seeds"]] == [
        (1, "all/seed-1", 256),
        (2, "all/seed-2", 256),
    ]
    assert rlstm("train ppo --seed 2 --run-dir alone", *words).code == 0
    one, other = (Path(path, "checkpoints/step_256/model.safetensors") for path in ("all/seed-2", "alone"))
    assert one.read_bytes() == other.read_bytes()
    command = Path("all/seed-2/command.txt").read_text(encoding="utf-8")
    assert command == f"rlstm train ppo {' '.join(words).replace(' --ui none', '')} --seed 2 --run-dir all/seed-2\n"
    plotted = rlstm("plot all --json").json
    assert [group["seeds"] for group in plotted["groups"]] == [[1, 2]]
    compared = rlstm("compare all alone --json").json
    assert [len(group["seeds"]) for group in compared["groups"]] == [2, 1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--seeds 0 1 --seed 3", "--seed and --seeds are both given: leave --seed out."),
        ("--seeds", "--seeds names no seed: give some, e.g. --seeds 0 1 2."),
        ("--jobs 2", "--jobs is 2, but it is for many seeds: name them with --seeds 0 1 2."),
        ("--seeds 0 0", "The seeds name 0 more than once; each is trained once."),
        ("--seeds 0 1 --jobs 5", "jobs is 5, but there are 2 cores here: give 2 at most."),
    ],
)
def test_flags_of_seeds_that_make_no_sense_are_refused(rlstm, words: str, told: str) -> None:
    result = rlstm(f"train ppo --env rlstm/TMaze-v0 {words}")
    assert (result.code, result.err) == (2, f"error: {told}\n")


def test_jobs_are_for_a_folder_of_seeds(rlstm, trained: Path) -> None:
    result = rlstm(f"resume {trained} --jobs 1")
    assert result.code == 2
    assert "is no folder of several seeds: leave it out" in result.err


def test_flags_are_left_out_with_what_they_were_given() -> None:
    words = [
        "ppo",
        "--seeds",
        "0",
        "1",
        "--env",
        "A",
        "--json",
        "--run_dir=x",
        "--env-kwargs",
        "a=1",
        "b=2",
        "--jobs",
        "2",
    ]
    kept = without_flags(words, ("--seeds", "--json", "--run-dir", "--jobs"))
    assert kept == ["ppo", "--env", "A", "--env-kwargs", "a=1", "b=2"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_all_seeds_and_resume_goes_on_with_them(rlstm, number: signal.Signals) -> None:
    """As in a terminal, whose Ctrl-C goes to the whole group."""
    command = [sys.executable, "-m", "rlstm", "train", "ppo", *WORDS, "--total-steps", "1000000", "--eval-every", "0"]
    command += ["--seeds", "1", "2", "3", "--jobs", "2", "--run-dir", "all", "--json"]
    paths = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}, start_new_session=True
    )
    folder, deadline = None, time.monotonic() + 120
    while not all(folder and Path(folder.seed_path(seed), "progress.csv").exists() for seed in (1, 2)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
        folder = SeedsFolder.open("all") if Path("all/seeds.json").exists() else None
    time.sleep(1)
    os.killpg(process.pid, number)
    out, _ = process.communicate(timeout=60)
    answer = json.loads(out)
    assert process.returncode == 130
    assert [one["state"] for one in answer["seeds"]] == ["stopped", "stopped", "waiting"]
    steps = [one["steps"] for one in answer["seeds"]]
    assert [folder.step(seed) for seed in (1, 2)] == steps[:2]
    total = max(steps) + 256
    resumed = rlstm(f"resume all --total-steps {total} --ui none --json").json
    assert [one["state"] for one in resumed["seeds"]] == ["done"] * 3
    assert all(one["steps"] >= total for one in resumed["seeds"])


@pytest.mark.slow
def test_seeds_that_fail_are_named_with_their_errors(rlstm, my_env) -> None:
    words = [*SMALL, "--env", "My-v0", "--env-import", "my_env", "--total-steps", "256", "--eval-episodes", "2"]
    result = rlstm("train ppo --seeds 0 1 --run-dir all --json", *words, "--env-kwargs", "fault=infinite")
    assert result.code == 1
    assert (result.json["failed"], result.json["done"]) == (2, 0)
    assert "reward that is not finite" in result.json["seeds"][1]["error"]
    text = rlstm("resume all --ui none")
    assert text.code == 1
    assert "seed 0  failed: " in text.out
    assert "go on   rlstm resume all" in text.out
