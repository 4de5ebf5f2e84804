"""Claims about `rlstm.training.run_directory`: a run never overwrites another, and what can't be read says why."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rlstm.core.files import write_atomically, write_json
from rlstm.training import run_directory
from rlstm.training.run_directory import RunDirectory, RunDirectoryError, default_run_directory

SPEC = gymnasium.spec("CartPole-v1").to_json()


@dataclasses.dataclass(frozen=True)
class Memory:
    lifetime: str = "trial"
    horizon: int | None = None


@dataclasses.dataclass(frozen=True)
class Config:
    gamma: float = 0.1 + 0.2
    clip: float = float("nan")
    sizes: tuple[int, ...] = (64, 64)
    memory: Memory = Memory()
    seed: int = np.int64(3)  # type: ignore[assignment]


def names(path: str | os.PathLike[str]) -> list[str]:
    return sorted(entry.name for entry in Path(path).iterdir())


def create(path: Path) -> RunDirectory:
    return RunDirectory.create(path, config=Config(), env_spec=SPEC, command=["rlstm", "train", "--env", "a b"])


def test_a_new_run_holds_config_env_command_and_versions(tmp_path: Path) -> None:
    run = create(tmp_path / "deep" / "run")
    assert names(run) == [
        *("checkpoints", "command.txt", "config.json", "env_spec.json", "manifest.json", "versions.json")
    ]
    assert RunDirectory.open(run).read_config() == {
        "gamma": 0.1 + 0.2, "clip": None, "sizes": [64, 64], "seed": 3,
        "memory": {"lifetime": "trial", "horizon": None},
    }  # fmt: skip
    assert shlex.split(run.command_path.read_text()) == ["rlstm", "train", "--env", "a b"]
    versions = json.loads(run.versions_path.read_text())
    assert set(versions) == {"python", "rlstm", "torch", "numpy", "gymnasium", "platform", "device", "git_commit"}
    assert versions["numpy"] == np.__version__
    assert versions["device"] == "cpu"
    assert run.progress_path == run.path / "progress.csv"


def test_the_env_spec_of_gymnasium_comes_back(tmp_path: Path) -> None:
    spec = create(tmp_path).read_env_spec()
    assert gymnasium.envs.registration.EnvSpec.from_json(json.dumps(spec)) == gymnasium.spec("CartPole-v1")


def test_json_on_disk_has_null_and_never_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"nan": float("nan"), "inf": [float("inf")], "array": np.array([np.nan, 1])})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"nan": None, "inf": [None], "array": [None, 1]}


def test_what_json_cannot_hold_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"JSON can't hold .*object"):
        RunDirectory.create(tmp_path / "run", config={"a": object()}, env_spec=SPEC)
    with pytest.raises(RunDirectoryError, match="env_spec is damaged"):
        RunDirectory.create(tmp_path / "run", config={}, env_spec="{'id'")
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    create(tmp_path)
    (tmp_path / "checkpoints" / "step_10").mkdir()
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(RunDirectoryError, match=r"already holds a run with 1 checkpoint\. .*rlstm resume .*--run-dir"):
        create(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_folder_with_other_files_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunDirectoryError, match=r"is not empty: it holds thesis\.tex.*--run-dir"):
        create(tmp_path)
    for path in (tmp_path / "thesis.tex", tmp_path / "thesis.tex" / "run"):
        with pytest.raises(RunDirectoryError, match=r"can't write the run directory .*--run-dir"):
            create(path)
    assert names(tmp_path) == ["thesis.tex"]


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(run_directory, "write_atomically", denied)
    with pytest.raises(RunDirectoryError, match=r"can't write the run directory .*: Permission denied.*--run-dir"):
        create(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "env_spec.json"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b'{"a": 1', "is damaged.*line 1"),
        (b"\xff", "can't be read"),
        (b"[]", "list where a JSON object"),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    create(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunDirectoryError, match=f"{name} .*{reason}|{name} {reason}"):
        RunDirectory.open(tmp_path)


def test_what_is_no_run_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="nowhere does not exist"):
        RunDirectory.open(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="is a file, not a folder"):
        RunDirectory.open(tmp_path / "file")
    with pytest.raises(RunDirectoryError, match=r"not a run directory: it has no config\.json"):
        RunDirectory.open(tmp_path)
    create(tmp_path / "ppo-s1")
    with pytest.raises(RunDirectoryError, match="It holds the runs ppo-s1: name one"):
        RunDirectory.open(tmp_path)
    (tmp_path / "ppo-s1" / "env_spec.json").unlink()
    with pytest.raises(RunDirectoryError, match=r"env_spec\.json can't be read: it does not exist"):
        RunDirectory.open(tmp_path / "ppo-s1")


def test_later_commands_are_added(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.append_command(["rlstm", "resume", "x"])
    assert run.command_path.read_text() == "rlstm train --env 'a b'\nrlstm resume x\n"


def test_evaluations_have_the_keys_of_stable_baselines_and_no_objects(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert {key: len(values) for key, values in run.read_evaluations().items()} == dict.fromkeys(
        ("timesteps", "results", "ep_lengths"), 0
    )
    run.append_evaluation(100, [1.0, 2.5], [10, 20])
    run.append_evaluation(200, [3.0, 4.0], [30, 40])
    with np.load(run.evaluations_path, allow_pickle=False) as archive:
        arrays = dict(archive)
    assert {key: (values.dtype.name, values.shape) for key, values in arrays.items()} == {
        "timesteps": ("int64", (2,)), "results": ("float64", (2, 2)), "ep_lengths": ("int64", (2, 2)),
    }  # fmt: skip
    assert arrays["timesteps"].tolist() == [100, 200]
    assert arrays["results"].tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert arrays["ep_lengths"].tolist() == [[10, 20], [30, 40]]


def test_evaluations_later_than_the_step_are_cut_and_the_one_at_the_step_stays(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.cut_evaluations(5)
    for step in (100, 200, 300):
        run.append_evaluation(step, [float(step)], [1])
    run.cut_evaluations(200)
    assert run.read_evaluations()["results"].tolist() == [[100.0], [200.0]]
    run.append_evaluation(200, [7.0], [1])
    assert run.read_evaluations()["results"].tolist() == [[100.0], [7.0]]
    run.cut_evaluations(0)
    run.append_evaluation(50, [1.0, 2.0], [1, 1])
    assert run.read_evaluations()["results"].tolist() == [[1.0, 2.0]]


def test_trial_curves_later_than_the_step_are_cut_and_nothing_else(tmp_path: Path) -> None:
    run = create(tmp_path)
    for step in (90, 100, 1_000, 2_000_000_000):
        run.trial_curve_path(step).mkdir(parents=True)
        (run.trial_curve_path(step) / "events").write_text("points")
    (run.trial_curves_path / "step_mine").mkdir()
    (run.trial_curves_path / "notes.txt").write_text("of the user")
    run.cut_evaluations(100)
    left = sorted(path.name for path in run.trial_curves_path.iterdir())
    assert left == ["notes.txt", "step_000000090", "step_000000100", "step_mine"]


def test_evaluations_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.append_evaluation(100, [1.0, 2.0], [1, 1])
    with pytest.raises(RunDirectoryError, match="evaluations of 2 episodes, the new one has 1"):
        run.append_evaluation(200, [1.0], [1])
    with pytest.raises(RunDirectoryError, match="already reaches step 100, the new evaluation is of step 50"):
        run.append_evaluation(50, [1.0, 2.0], [1, 1])
    for returns, lengths in (([], []), ([1.0], [1, 2])):
        with pytest.raises(RunDirectoryError, match="one return and one length an episode"):
            run.append_evaluation(200, returns, lengths)


def test_evaluations_with_pickled_objects_are_refused(tmp_path: Path) -> None:
    run = create(tmp_path)
    objects = np.array([{}], dtype=object)
    np.savez(run.evaluations_path, timesteps=objects, results=objects, ep_lengths=objects)
    with pytest.raises(RunDirectoryError, match=r"evaluations\.npz can't be read as numeric arrays"):
        run.read_evaluations()


def test_default_names_are_readable_unique_and_taken_by_the_first(tmp_path: Path) -> None:
    paths = [default_run_directory(tmp_path, "ppo", "package:ALE/Pong-v5", 3) for _ in range(3)]
    assert len(set(paths)) == 3
    for path in paths:
        assert path.parent == tmp_path / "package-ALE-Pong-v5"
        assert path.name.startswith("ppo-")
        assert "-s3" in path.name
        create(path)
    assert default_run_directory(tmp_path, "ppo", "../..", 3).is_relative_to(tmp_path / "env")


def test_a_root_that_cannot_hold_runs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match=r"can't make .*file/Recall-v0/.*--run-dir"):
        default_run_directory(tmp_path / "file", "ppo", "Recall-v0", 1)


def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    path.write_text("old")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["config.json"]


def test_a_crash_before_the_rename_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    (tmp_path / "latest").write_text("old")
    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "latest", b"new")
    assert (tmp_path / "latest").read_text() == "old"


def test_without_git_the_commit_is_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_git(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    assert json.loads(create(tmp_path).versions_path.read_text())["git_commit"] is None
