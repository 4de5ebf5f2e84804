"""A start that failed at any point leaves a folder that either `train` or `resume` takes, and says so."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import rlstm.api.experiments as api
from rlstm.core.errors import CheckpointError
from rlstm.training.checkpoints import list_checkpoints, load_checkpoint
from rlstm.training.run_directory import RunDirectory, RunDirectoryError
from tests.training.test_resume import ALGORITHMS, TINY, UPDATE, assert_same_run, everything, train

BEFORE_CONFIG = ["checkpoints", "env_spec.json", "spaces.json", "versions.json", "command.txt", "manifest.json"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    train(path, total_steps=2 * UPDATE)
    return path


def started(whole: Path, path: Path, names: list[str]) -> Path:
    """A folder in which a start has made these files, of those a run has, and an empty folder of checkpoints."""
    path.mkdir()
    (path / "checkpoints").mkdir()
    for name in names[1:]:
        shutil.copy(whole / name, path / name)
    return path


@pytest.mark.parametrize("number", range(1, 7))
def test_what_a_start_left_before_the_config_makes_room_for_the_next(whole: Path, tmp_path: Path, number: int) -> None:
    path = started(whole, tmp_path / "run", BEFORE_CONFIG[:number])
    (path / ".env_spec.json.123.tmp").write_text('{"id"')
    (path / "run.lock").write_text("123\n")
    with pytest.raises(RunDirectoryError, match=r"has no config\.json"):
        api.resume(path, ui="none")
    RunDirectory.create(path, config={}, env_spec={"id": "new"})
    assert RunDirectory.open(path).read_env_spec() == {"id": "new"}
    assert not list(path.glob(".*"))


@pytest.mark.parametrize("name", ["thesis.tex", ".env", ".thesis.tex.1.tmp", "checkpoints/step_0", "checkpoints/mine"])
def test_a_folder_with_anything_else_is_left_alone(whole: Path, tmp_path: Path, name: str) -> None:
    path = started(whole, tmp_path / "run", BEFORE_CONFIG)
    (path / name).write_text("precious")
    with pytest.raises(RunDirectoryError, match="is not empty"):
        train(path, total_steps=2 * UPDATE)
    assert (path / name).read_text() == "precious"
    assert (path / "env_spec.json").exists()


def test_a_curriculum_of_the_user_is_no_leftover(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "curriculum.toml").write_text("[[stage]]")
    with pytest.raises(RunDirectoryError, match=r"is not empty: it holds checkpoints, curriculum\.toml"):
        train(tmp_path, total_steps=UPDATE)


@pytest.mark.parametrize("left", ["nothing", "no pointer", "unfinished", "no folder", "empty log"])
def test_a_run_without_a_checkpoint_begins_when_it_is_resumed(whole: Path, tmp_path: Path, left: str) -> None:
    path = started(whole, tmp_path / "run", [*BEFORE_CONFIG, "config.json"])
    if left == "no pointer":
        shutil.copytree(whole / "checkpoints" / "step_0", path / "checkpoints" / "step_0")
    elif left == "unfinished":
        shutil.copytree(whole / "checkpoints" / "step_0", path / "checkpoints" / ".new_step_0")
        (path / ".config.json.77.tmp").write_text("{")
    elif left == "no folder":
        (path / "checkpoints").rmdir()
    elif left == "empty log":
        (path / "progress.csv").write_text("step\n")
    with pytest.raises(RunDirectoryError, match=r"already holds a run with .*rlstm resume"):
        train(path, total_steps=2 * UPDATE)
    assert api.resume(path, ui="none").steps == 2 * UPDATE
    assert_same_run(path, everything(whole))
    assert not [file for file in path.rglob(".*") if file.name.startswith(".")]


def test_a_run_that_began_with_other_weights_begins_with_them_when_it_is_resumed(whole: Path, tmp_path: Path) -> None:
    train(tmp_path / "whole", init_from=str(whole), total_steps=2 * UPDATE)
    path = started(tmp_path / "whole", tmp_path / "run", [*BEFORE_CONFIG, "config.json"])
    api.resume(path, ui="none")
    assert_same_run(path, everything(tmp_path / "whole"))


KILLED_SOON = """
    import json, os, random, signal, sys, threading
    from rlstm.api import experiments as api
    path, settings, number = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    draw, run = random.Random(number), api.run
    kind, seconds = draw.choice([signal.SIGKILL, signal.SIGTERM]), draw.uniform(0, 0.4)
    def killed_soon(*arguments):
        threading.Timer(seconds, os.kill, (os.getpid(), kind)).start()
        return run(*arguments)
    api.run = killed_soon
    if os.path.exists(f"{path}/config.json"):
        api.resume(path, ui="none")
    else:
        api.train("ppo", ui="none", run_dir=path, **settings)
    os._exit(3)
"""


@pytest.mark.slow  # Processes that are killed or asked to stop, again and again.
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not(tmp_path: Path) -> None:
    settings = {
        **TINY,
        **ALGORITHMS["ppo"],
        "total_steps": 24 * UPDATE,
        "eval_every": 3 * UPDATE,
        "keep_checkpoints": 2,
    }
    result = api.train("ppo", ui="none", run_dir=str(tmp_path / "whole"), **settings)
    assert result.complete
    path, kills = tmp_path / "run", 0
    words = [sys.executable, "-c", textwrap.dedent(KILLED_SOON), str(path), json.dumps(settings)]
    for number in range(100):
        done = list_checkpoints(path)[-1:] == [24 * UPDATE] if path.exists() else False
        if done and load_checkpoint(path, "latest").trainer["open_update"] is None:
            break
        process = subprocess.run([*words, str(number)], capture_output=True, text=True, check=False)
        assert process.returncode in (3, -signal.SIGKILL, -signal.SIGTERM), process.stderr
        kills += process.returncode != 3
    assert kills > 2
    assert_same_run(path, everything(tmp_path / "whole"))


def test_a_run_whose_checkpoints_were_removed_keeps_its_logs(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(CheckpointError, match=r"holds no checkpoint, but progress\.csv says"):
        api.resume(path, ui="none")
    assert (path / "progress.csv").read_bytes() == (whole / "progress.csv").read_bytes()


def test_resume_brings_the_pointers_up_to_date(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    (path / "checkpoints" / "best").unlink()
    (path / "checkpoints" / "latest").write_text(f"step_{UPDATE}\n")  # As a crash before the pointers leaves it.
    assert load_checkpoint(path, "latest").step == 2 * UPDATE
    api.resume(path, total_steps=3 * UPDATE, ui="none")
    best = load_checkpoint(path, "latest").trainer["best_step"]
    assert (path / "checkpoints" / "best").read_text() == f"step_{best}\n"
