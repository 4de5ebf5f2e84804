"""Many seeds from Python: what is refused, what a stopped folder goes on with, and what is said over seeds."""

import json
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

import rlstm
from rlstm.api import one_seed
from rlstm.api import seeds as api
from rlstm.api.configs import make_config
from rlstm.api.trust import UntrustedRunError
from rlstm.training.config import ConfigError
from rlstm.training.seeds_folder import SeedsFolder

# Does what the real one does, without torch: a seed fails, stops or ends as the file `fates` says.
WORKER = """
import json, pathlib, sys
from rlstm.training.seeds_folder import SeedsFolder
task = json.loads(sys.argv[1])
seed, folder = task["seed"], SeedsFolder.open(task["folder"])
with (folder.path / "tasks").open("a") as file:
    file.write(json.dumps(task) + "\\n")
fate = json.loads((pathlib.Path(__file__).parent / "fates").read_text()).get(str(seed), "done")
total = task["total_steps"] or folder.config["settings"]["total_steps"]
step = total if fate == "done" else total // 2
path = folder.seed_path(seed)
if fate != "early":
    (path / "checkpoints" / f"step_{step}").mkdir(parents=True, exist_ok=True)
    (path / "checkpoints" / "latest").write_text(f"step_{step}\\n")
    (path / "config.json").write_text(json.dumps({"settings": {"total_steps": total}}))
if fate in ("fail", "early"):
    print(json.dumps({"error": "the simulator has gone"}))
    sys.exit(1)
returned = None if fate == "unknown" else float(seed)
print(json.dumps({"steps": step, "mean_return": returned, "eval_return": 2.0 * seed, "complete": fate == "done"}))
sys.exit(0 if fate == "done" else 130)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with two cores, where a stand-in trains."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(api, "_MODULE", "stand_in")
    monkeypatch.setattr(api, "num_cores", lambda: 2)
    monkeypatch.setattr("rlstm.training.seed_processes._POLL_SECONDS", 0.02)
    (tmp_path / "stand_in.py").write_text(WORKER)
    (tmp_path / "fates").write_text("{}")
    return tmp_path


def train(*seeds: int, **given):
    options = {"env": "rlstm/TMaze-v0", "total_steps": 100, "run_dir": "all", "ui": "none", **given}
    return rlstm.train_seeds("random", seeds=seeds, **options)


def tasks() -> list[dict]:
    """Return what processes were given to do since this was asked last."""
    file = Path("all/tasks")
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return sorted(map(json.loads, lines), key=lambda task: task["seed"])


def test_every_seed_is_trained_and_summarised(place) -> None:
    result = train(1, 2, 3, 7)
    assert (result.run_dir, result.complete, result.interrupted) == ("all", True, False)
    assert [(one.seed, one.state, one.run_dir) for one in result.seeds][2] == (3, "done", "all/seed-3")
    assert [one.mean_return for one in result.seeds] == [1, 2, 3, 7]
    over = result.over_seeds()
    assert over["mean_return"] == {"mean": 3.25, "iqm": 2.5}
    assert over["eval_return"] == {"mean": 6.5, "iqm": 5.0}
    assert over["success_rate"] == {"mean": None, "iqm": None}
    assert [(task["seed"], task["resume"]) for task in tasks()] == [(1, False), (2, False), (3, False), (7, False)]


def test_a_seed_that_fails_is_named_and_counts_for_nothing(place) -> None:
    (place / "fates").write_text('{"2": "fail"}')
    result = train(1, 2, 3)
    assert [one.state for one in result.seeds] == ["done", "failed", "done"]
    assert result.seeds[1].error == "the simulator has gone"
    assert not result.complete
    assert result.over_seeds()["mean_return"] == {"mean": 2.0, "iqm": 2.0}


def test_what_is_wrong_for_all_before_they_begin_leaves_nothing_behind(place) -> None:
    (place / "stand_in.py").write_text(WORKER.replace("(folder.path / ", "(folder.path.parent / "))
    (place / "fates").write_text('{"1": "early", "2": "early"}')
    with pytest.raises(ConfigError, match=r"^the simulator has gone$"):
        train(1, 2)
    assert not Path("all").exists()
    Path("all").mkdir()
    (place / "fates").write_text('{"1": "early", "2": "fail"}')  # It has begun.
    assert [one.state for one in train(1, 2).seeds] == ["failed", "failed"]
    assert Path("all/seeds.json").exists()


def test_what_is_not_complete_goes_on_and_the_rest_is_left(place) -> None:
    (place / "fates").write_text('{"2": "stop", "3": "early"}')
    result = train(1, 2, 3)
    assert [(one.state, one.steps) for one in result.seeds] == [("done", 100), ("stopped", 50), ("failed", 0)]
    tasks()
    (place / "all/seed-3/checkpoints").mkdir(parents=True)  # Where it ended before its first checkpoint.
    (place / "fates").write_text("{}")
    result = rlstm.resume_seeds("all", ui="none")
    assert [(one.state, one.steps, one.mean_return) for one in result.seeds] == [
        ("done", 100, seed) for seed in (1, 2, 3)
    ]
    assert [(task["seed"], task["resume"]) for task in tasks()] == [(2, True), (3, False)]
    with pytest.raises(ConfigError, match=r"All 3 seeds of all are complete.*--total-steps"):
        rlstm.resume_seeds("all")
    assert rlstm.resume_seeds("all", total_steps=200, num_threads=2, ui="none").complete
    assert [(one["resume"], one["total_steps"], one["num_threads"]) for one in tasks()] == [(True, 200, 2)] * 3


def test_a_total_of_its_own_decides_whether_a_seed_is_complete(place) -> None:
    train(1, 2)
    Path("all/seed-2/config.json").write_text('{"settings": {"total_steps": 300}}')
    tasks()
    rlstm.resume_seeds("all", ui="none")
    assert [task["seed"] for task in tasks()] == [2]


def test_threads_are_one_and_files_have_full_paths(place) -> None:
    Path("easy.toml").write_text("")
    train(1, curriculum="easy.toml")
    settings = SeedsFolder.open("all").config["settings"]
    assert (settings["num_threads"], settings["curriculum"]) == (1, str(place / "easy.toml"))
    train(1, run_dir="other", num_threads=2, curriculum="tmaze-long")
    settings = SeedsFolder.open("other").config["settings"]
    assert (settings["num_threads"], settings["curriculum"]) == (2, "tmaze-long")


@pytest.mark.parametrize(
    ("seeds", "given", "told"),
    [
        ((), {}, "No seed is given"),
        ((1, 2, 1), {}, "The seeds name 1 more than once"),
        ((-1,), {}, "seed is -1"),
        ((1,), {"jobs": 0}, "jobs is 0; it must be at least 1"),
        ((1,), {"jobs": 3}, "jobs is 3, but there are 2 cores here"),
        ((1,), {"seed": 4}, "leave seed out"),
        ((1,), {"env": "rlstm/TMazze-v0"}, "Did you mean 'rlstm/TMaze-v0'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_there_is_a_folder(place, seeds, given, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        train(*seeds, **given)
    assert not Path("all").exists()


def test_an_env_of_this_process_alone_is_refused(place) -> None:
    gym.register("Here-v0", entry_point=lambda: gym.make("CartPole-v1"))
    try:
        with pytest.raises(ConfigError, match="a class or a function in this process"):
            train(1, env="Here-v0")
    finally:
        gym.registry.pop("Here-v0")


def test_a_module_that_the_folder_names_is_imported_if_the_user_says_so(place) -> None:
    Path("evil.py").write_text("import pathlib; pathlib.Path('executed').touch()")
    (place / "fates").write_text('{"1": "stop"}')
    train(1)
    content = json.loads(Path("all/seeds.json").read_text())
    content["settings"]["env_import"] = ["evil"]
    Path("all/seeds.json").write_text(json.dumps(content))
    tasks()
    with pytest.raises(UntrustedRunError, match="--env-import evil"):
        rlstm.resume_seeds("all", ui="none")
    assert (tasks(), Path("executed").exists()) == ([], False)
    rlstm.resume_seeds("all", ui="none", trust=True, env_import=["json"])
    assert [(task["trust"], task["env_import"]) for task in tasks()] == [(True, ["json", "evil"])]


@pytest.mark.parametrize(
    "changed", [{"env_import": ["evil"]}, {"env": "evil:A-v0"}, {"env_kwargs": {"task": "evil:A"}}, {"curriculum": "c"}]
)
def test_a_seed_that_never_began_executes_nothing_of_the_folder(place, changed: dict) -> None:
    """The check of its own process, where it starts."""
    Path("evil.py").write_text("import pathlib; pathlib.Path('executed').touch()")
    Path("c").write_text('[[stage]]\nenv = "evil:A-v0"\nsuccess = 1.0\n')
    config = make_config("random", **{"env": "rlstm/TMaze-v0", **changed})
    with pytest.raises(UntrustedRunError):
        one_seed._check(config, Path("all"))
    assert not Path("executed").exists()


def test_as_many_jobs_as_their_threads_have_cores(monkeypatch) -> None:
    monkeypatch.setattr(api, "num_cores", lambda: 8)
    assert [api._jobs(None, *pair) for pair in ((3, 1), (20, 1), (20, 4), (20, 16))] == [3, 8, 2, 1]


def test_train_says_where_seeds_are_trained() -> None:
    with pytest.raises(ConfigError, match=r"rlstm\.train_seeds"):
        rlstm.train("random", env="rlstm/TMaze-v0", seeds=[0, 1])


def test_waiting_needs_no_torch() -> None:
    program = "import sys, rlstm, rlstm.training.seeds_table; rlstm.train_seeds; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
