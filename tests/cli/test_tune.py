"""``rlstm tune``: a small search from end to end, what it prints, and what is refused before anything is written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlstm.cli.tune import read_plan

TINY = (
    "--env rlstm/TMaze-v0 --env-kwargs corridor_length=3 --steps-per-trial 64 --num-envs 2 --num-steps 16 "
    "--num-minibatches 1 --update-epochs 1 --hidden-size 4 --eval-episodes 2 --evaluations 2 --finalists 1 "
    "--final-seeds 2 --search cell=lstm,gru learning_rate --search-only --study-dir study"
)


@pytest.fixture
def optuna() -> None:
    pytest.importorskip("optuna", reason="rlstm tune needs optuna (pip install 'rlstm-torch[tune]').")


def test_a_small_search_ends_with_a_preset_that_trains(rlstm, optuna: None) -> None:
    answer = rlstm(f"tune ppo {TINY} --trials 3 --json").json
    assert [(trial["outcome"], trial["steps"]) for trial in answer["trials"]] == [("done", 64)] * 3
    assert [trial["is_start"] for trial in answer["trials"]] == [True, False, False]
    assert (answer["study_dir"], answer["preset_file"], answer["start"]) == (
        "study",
        "study/best.toml",
        "default settings",
    )
    assert sorted(one["trial"] or 0 for one in answer["finalists"])[0] == 0
    assert all(one["seeds"] == [100_000, 100_001] and len(one["returns"]) == 2 for one in answer["finalists"])
    assert {path.name for path in Path("study/trials").iterdir()} == {"0000", "0001", "0002"}
    assert len(list(Path("study/final").iterdir())) == 4
    assert list(Path("study/alive").iterdir()) == []
    trained = rlstm("train ppo --config study/best.toml --ui none --num-threads 1 --eval-episodes 2 --json").json
    assert trained["steps"] == 64

    again = rlstm(f"tune ppo {TINY} --trials 3")  # All is done: it tells once more.
    assert again.err == "study study: 2 settings searched, from the default settings\n"
    assert again.code == 0
    assert all(len(line) <= 120 for line in again.out.splitlines())
    for part in ("Trials of 64 steps, the best first:", "the start", "Final round, on seeds 100000 to 100001:"):
        assert part in again.out
    assert again.out.splitlines()[-1].split() == ["train", "rlstm", "train", "ppo", "--config", "study/best.toml"]


def test_presets_and_files_are_the_start(workplace: Path) -> None:
    Path("mine.toml").write_text('gamma = 0.9\nenv = "rlstm/TMaze-v0"\n')
    plan, _ = read_plan("ppo", ["--config", "mine.toml", "--num-envs", "16"])
    assert (plan.start, plan.base.algorithm.gamma) == ("mine.toml", 0.9)
    assert "gamma" in plan.space
    assert "num_envs" not in plan.space  # Given, though it is the default.
    plan, _ = read_plan(
        "ppo", ["--preset", "tmaze", "--inputs.previous-reward", "false", "--memory.bptt-horizon", "none"]
    )
    assert (plan.start, plan.base.env.env) == ("preset tmaze", "rlstm/TMaze-v0")
    assert not {"memory.bptt_horizon", "inputs.previous_reward"} & set(plan.space)
    assert "inputs.previous_action" in plan.space
    plan, _ = read_plan("evolino", ["--no-biases", "--memory.no-recompute"])
    assert plan.fixed == {"biases", "memory.recompute"}


def test_the_space_is_shown(rlstm) -> None:
    result = rlstm("tune ppo --show-space --gamma 0.9 --search vf_coef=0.1..0.9")
    assert result.code == 0
    lines = {line.split()[0]: line for line in result.out.splitlines() if line}
    assert lines["learning_rate"].split()[1:] == ["0.0001", "to", "0.01,", "logarithmic", "0.001"]
    assert lines["vf_coef"].split() == ["vf_coef", "0.1", "to", "0.9", "0.5"]
    assert lines["Fixed"] == "Fixed by flags: gamma."
    values = rlstm("tune evolino --show-space --json").json
    assert values["space"]["hidden_size"] == "4,8,16,32"
    assert values["start"]["hidden_size"] == 16


def test_errors_come_before_anything_is_written(rlstm) -> None:
    refusals = {
        "tune": (2, "Name an agent first: rlstm tune {ppo"),
        "tune pppo": (2, "Did you mean 'ppo'?"),
        "tune ppo": (2, "No env was given"),
        "tune random --env rlstm/TMaze-v0": (2, "learns nothing"),
        "tune ppo --env rlstm/TMaze-v9": (2, "TMaze-v0"),
        "tune ppo --env rlstm/TMaze-v0 --search cel=lstm": (2, "Did you mean 'cell'?"),
        "tune ppo --env rlstm/TMaze-v0 --search cell=lstm,gruu": (2, "Unknown cell 'gruu'. Did you mean 'gru'?"),
        "tune ppo --env rlstm/TMaze-v0 --search gamma=0.5..2": (2, "gamma is 2.0; it must lie in [0, 1]"),
        "tune ppo --env rlstm/TMaze-v0 --gamma 0.9 --search gamma=0.5..1": (2, "'gamma' is fixed by its flag"),
        "tune ppo --env rlstm/TMaze-v0 --eval-episodes 0": (2, "A search compares evaluations"),
        "tune ppo --env rlstm/TMaze-v0 --trials 0": (2, "trials is 0"),
        "tune ppo --env rlstm/TMaze-v0 --jobs 0": (2, "jobs is 0"),
        "tune ppo --env rlstm/TMaze-v0 --serch cell=gru": (2, "Did you mean '--search'?"),
    }
    for words, (code, text) in refusals.items():
        result = rlstm(words)
        assert (result.code, result.out) == (code, ""), words
        assert text in result.err
        assert result.err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_without_optuna_the_extra_is_named(rlstm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = rlstm("tune ppo --env rlstm/TMaze-v0")
    assert (result.code, list(Path().iterdir())) == (1, [])
    assert "pip install 'rlstm-torch[tune]'" in result.err


def test_a_search_whose_every_trial_fails_exits_with_the_reasons(rlstm, optuna: None) -> None:
    words = TINY.replace("cell=lstm,gru learning_rate", "sequence_length=7,9")
    result = rlstm(f"tune ppo {words} --trials 2 --json")
    assert result.code == 1
    assert "2 x ConfigError: sequence_length is" in result.json["error"] or "1 x ConfigError" in result.json["error"]


def test_another_study_in_the_folder_is_refused(rlstm, optuna: None) -> None:
    rlstm(f"tune ppo {TINY} --trials 1 --ui none")
    result = rlstm(f"tune ppo {TINY} --trials 1 --gae-lambda 0.5")
    assert result.code == 1
    assert "gae_lambda is 0.95 there and 0.5 here" in result.err


@pytest.mark.slow
def test_a_killed_search_goes_on_with_two_processes(rlstm, optuna: None, workplace: Path) -> None:
    words = [*TINY.split(), "--trials", "6", "--total-steps", "4096", "--steps-per-trial", "4096"]
    command = [sys.executable, "-m", "rlstm", "tune", "ppo", *words]
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not Path("study/alive/search-0001").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    answer = subprocess.run([*command, "--jobs", "2", "--json"], env=env, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    assert "attempt 2" in answer.stderr
    result = rlstm(f"tune ppo {' '.join(words)} --json").json
    assert [trial["outcome"] for trial in result["trials"]] == ["done"] * 6
    assert len({tuple(trial["values"].items()) for trial in result["trials"]}) == 6
    assert all(value is not None for one in result["finalists"] for value in one["returns"])
