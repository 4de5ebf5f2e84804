"""The folder of several seeds: what its file says, and what each seed's folder has reached."""

import json

import pytest

from rlstm.training.run_directory import RunDirectoryError
from rlstm.training.seeds_folder import SeedsFolder, is_seeds_folder

CONFIG = {"agent": "ppo", "settings": {"env": "rlstm/TMaze-v0", "total_steps": 100}}


def make(path, **given):
    options = {
        "config": CONFIG,
        "seeds": [3, 5],
        "command": ["rlstm", "train"],
        "seed_command": ["rlstm", "train", "ppo"],
    }
    return SeedsFolder.create(path, **{**options, **given})


def reach(folder, seed, step, total=None):
    """Write what a seed's folder holds at its checkpoint of a step."""
    path = folder.seed_path(seed)
    (path / "checkpoints" / f"step_{step}").mkdir(parents=True)
    (path / "checkpoints" / "latest").write_text(f"step_{step}\n")
    if total is not None:
        (path / "config.json").write_text(json.dumps({"agent": "ppo", "settings": {"total_steps": total}}))


def test_it_is_read_as_it_was_written(tmp_path) -> None:
    made = make(tmp_path / "a" / "b")
    found = SeedsFolder.open(made.path)
    assert is_seeds_folder(made.path)
    assert (found.seeds, found.config) == ((3, 5), CONFIG)
    assert found.seed_path(5) == made.path / "seed-5"
    assert found.command_of(5) == ["rlstm", "train", "ppo", "--seed", "5", "--run-dir", str(made.path / "seed-5")]
    assert make(tmp_path / "c", seed_command=None).command_of(5) == ["rlstm", "train"]


def test_a_folder_that_is_taken_is_refused(tmp_path) -> None:
    make(tmp_path / "a")
    with pytest.raises(RunDirectoryError, match=r"already holds runs of several seeds.*rlstm resume"):
        make(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("")
    with pytest.raises(RunDirectoryError, match=r"not empty: it holds notes\.txt"):
        make(tmp_path / "b")


def test_a_new_folder_is_named_for_env_and_agent(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {str(make(None).path) for _ in range(2)}
    assert len(paths) == 2
    assert all(path.startswith("runs/rlstm-TMaze-v0/ppo-") and "-seeds" in path for path in paths)


@pytest.mark.parametrize("content", ["[]", "{", '{"seeds": [1]}', '{"seeds": ["../x"], "agent": "ppo"}'])
def test_another_file_of_that_name_is_refused(tmp_path, content: str) -> None:
    (tmp_path / "seeds.json").write_text(content)
    with pytest.raises(RunDirectoryError, match=r"seeds\.json"):
        SeedsFolder.open(tmp_path)


def test_what_a_seed_has_reached_is_read_from_its_folder(tmp_path) -> None:
    folder = make(tmp_path)
    reach(folder, 3, 40, total=200)
    assert (folder.step(3), folder.step(5)) == (40, None)
    assert (folder.total_steps(3), folder.total_steps(5)) == (200, 100)
    (folder.seed_path(3) / "config.json").write_text("{")
    assert folder.total_steps(3) == 100


def test_only_a_folder_without_a_checkpoint_is_cleared(tmp_path) -> None:
    folder = make(tmp_path)
    reach(folder, 3, 0)
    (folder.seed_path(5) / "checkpoints").mkdir(parents=True)
    folder.clear(3)
    folder.clear(5)
    assert folder.step(3) == 0
    assert not folder.seed_path(5).exists()


def test_a_result_holds_until_the_run_goes_on(tmp_path) -> None:
    folder = make(tmp_path)
    reach(folder, 3, 40)
    folder.keep_result(3, {"steps": 40, "mean_return": 1.5})
    assert SeedsFolder.open(tmp_path).result(3) == {"steps": 40, "mean_return": 1.5}
    assert folder.result(5) is None
    reach(folder, 3, 80)
    assert SeedsFolder.open(tmp_path).result(3) is None
