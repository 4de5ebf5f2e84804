"""Claims about envs that end the process or raise Ctrl-C, and about signals, from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("kind", "place"), [("sync", "make"), ("sync", "reset"), ("sync", "step"), ("async", "reset"), ("async", "step")]
)
@pytest.mark.usefixtures("my_env")
def test_an_env_that_exits_is_an_env_that_breaks(train, kind: str, place: str) -> None:
    result = train(f"--env my_env:My-v0 --vectorization {kind}", "--env-kwargs", f"fault=exit {place}")
    assert result.code == 1
    assert "SystemExit: no licence" in result.json["error"]
    assert "Traceback" not in result.err


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.usefixtures("my_env")
def test_ctrl_c_that_an_env_raises_stays_ctrl_c(train, kind: str) -> None:
    result = train(f"--env my_env:My-v0 --vectorization {kind}", "--env-kwargs", "fault=ctrl-c step")
    assert (result.code, result.json) == (130, {"error": "Interrupted."})


@pytest.mark.usefixtures("my_env")
def test_an_env_that_exits_in_an_evaluation_is_named(rlstm, train) -> None:
    assert train("--env my_env:My-v0 --run-dir run").code == 0
    result = rlstm("evaluate run --json --episodes 2", "--env-kwargs", "fault=exit step")
    assert result.code == 1
    assert result.json["error"] == "Env 0, its step 1: step raised: SystemExit: no licence"


def test_more_threads_than_cores_are_refused_before_there_is_a_run(train) -> None:
    result = train("--env rlstm/TMaze-v0 --run-dir run --num-threads 4096")
    assert result.code == 2
    assert result.json["error"].startswith("num_threads is 4096, but this process may use ")
    assert not Path("run").exists()


@pytest.fixture
def long_run(workplace: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a run that would take hours; returns when it has a checkpoint after the first. What is left is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*more: str) -> subprocess.Popen[str]:
        words = ["train", "ppo", "--env", "rlstm/TMaze-v0", "--run-dir", "run", *SMALL, "--json"]
        words += ["--total-steps", "100000000", "--eval-episodes", "0", "--checkpoint-every", "1", *more]
        process = subprocess.Popen(
            [sys.executable, "-m", "rlstm", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # Ignored where tests run under nohup.
        )
        started.append(process)
        while process.poll() is None and len(list(workplace.glob("run/checkpoints/step_*"))) < 2:
            time.sleep(0.02)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def test_hanging_up_a_whole_group_saves_and_ends_in_order(long_run: Callable[..., subprocess.Popen[str]]) -> None:
    """As a terminal does that is closed: its workers outlive the signal, for the main process to save."""
    process = long_run("--vectorization", "async")
    os.killpg(process.pid, signal.SIGHUP)
    os.killpg(process.pid, signal.SIGHUP)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    result = json.loads(out)
    assert result["interrupted"]
    latest = Path("run/checkpoints/latest").read_text(encoding="utf-8").strip()
    assert latest == f"step_{result['steps']}"
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_killed_worker_ends_the_run_by_name_after_it_was_saved(
    long_run: Callable[..., subprocess.Popen[str]],
) -> None:
    process = long_run("--vectorization", "async")
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) == 4
    os.kill(int(workers[2]), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    error = json.loads(out)["error"]
    assert error.startswith("The worker process of env 2 ended by signal 9 (SIGKILL")
    assert "is saved: rlstm resume run" in error
    assert "Traceback" not in err
