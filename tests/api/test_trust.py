"""A run's folder may be a stranger's: nothing that its files name is executed unless the user says so."""

import json
import shutil
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec, WrapperSpec

import rlstm
from rlstm.api import trust
from rlstm.api.cards import write_card
from rlstm.api.exports import export
from rlstm.api.finished_runs import evaluate_run, open_run, record
from rlstm.api.inspecting import inspect_run
from rlstm.api.references import run_references
from rlstm.api.trust import UntrustedRunError
from rlstm.api.watching import screenings, write
from rlstm.core.files import sealed
from rlstm.training.manifest import write_manifest
from rlstm.vector.config import EnvConfig

# Leaves a mark where it is imported. Its env is a T-maze.
EVIL = """
import gymnasium as gym, pathlib
import rlstm.envs
pathlib.Path("executed").touch()
def Env(**arguments):
    return gym.make("rlstm/TMaze-v0", **{name: value for name, value in arguments.items() if name != "task"})
Task = Env
gym.register("evil/TMaze-v0", entry_point="evil:Env")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has stages; copy it to change it."""
    path = tmp_path_factory.mktemp("runs")
    (path / "stages.toml").write_text("[[stage]]\nenv_kwargs = { corridor_length = 2 }\nsuccess = 0.9\n")
    rlstm.train(
        "ppo",
        env="rlstm/TMaze-v0",
        env_kwargs={"corridor_length": 3},
        env_wrappers=("flicker=0.1",),
        curriculum=str(path / "stages.toml"),
        run_dir=str(path / "run"),
        total_steps=64,
        num_envs=4,
        num_steps=16,
        hidden_size=4,
        num_threads=1,
        eval_episodes=0,
        ui="none",
    )
    return path / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run in an empty folder, beside a module that nobody has asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("evil.py").write_text(EVIL)
    yield Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    sys.modules.pop("evil", None)
    gym.registry.pop("evil/TMaze-v0", None)


def change(path: Path, **changed: object) -> None:
    content = json.loads(path.read_text())
    content.get("settings", content).update(changed)
    path.write_text(json.dumps(content))
    write_manifest(path.parent)  # A stranger can do so too: hashes tell of accidents.


def change_meta(run: Path, **changed: object) -> None:
    for path in run.glob("checkpoints/step_*/meta.json"):
        content = json.loads(path.read_text())
        content["meta"].update(changed)
        del content["seal"]
        path.write_text(json.dumps(sealed(content)))


FLICKER = {"name": "flicker", "entry_point": "evil:Env", "kwargs": {}}
OURS = "rlstm.envs.wrappers.adapters:TransformedEnv"
CHANGES = {
    "a module": ("config.json", {"env_import": ["evil"]}),
    "a module in the id": ("config.json", {"env": "evil:rlstm/TMaze-v0"}),
    "an entry point": ("env_spec.json", {"entry_point": "evil:Env"}),
    "a function": ("env_spec.json", {"entry_point": "os:system"}),
    "another wrapper": ("env_spec.json", {"additional_wrappers": [{**FLICKER, "name": "more"}]}),
    "a wrapper by its name": ("env_spec.json", {"additional_wrappers": [FLICKER]}),
    "a transform": (
        "env_spec.json",
        {"additional_wrappers": [{"name": "x", "entry_point": OURS, "kwargs": {"transform": "evil:Task"}}]},
    ),
    "a task": ("config.json", {"env_kwargs": {"task": "evil:Task"}}),
    "a task in a list": ("config.json", {"env_kwargs": {"corridor_length": [{"a": "evil:Task"}]}}),
}


def tamper(run: Path, name: str) -> None:
    """Make the run a stranger's, with the checks that stand before this one passed."""
    file, changed = CHANGES[name]
    change(run / file, **changed)
    if changed.get("env"):
        change_meta(run, env=changed["env"])


@pytest.mark.parametrize("name", [*CHANGES])
def test_what_a_run_names_is_not_executed(run: Path, name: str) -> None:
    tamper(run, name)
    loaded = open_run(run)
    with pytest.raises(UntrustedRunError, match="--trust"):
        _ = loaded.spec
    with pytest.raises(UntrustedRunError, match="--trust"):
        rlstm.resume(run, total_steps=128, ui="none")
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", [*CHANGES])
def test_loading_executes_nothing_and_needs_no_trust(run: Path, name: str) -> None:
    tamper(run, name)
    assert rlstm.load(run).act([0.0, 1.0, 1.0]) in range(4)
    assert not Path("executed").exists()


def test_exporting_executes_nothing(run: Path) -> None:
    for name in ("a module", "an entry point"):
        tamper(run, name)
    assert "policy.c" in export(run, format="c", out="out").files
    assert not Path("executed").exists()


VERBS = {
    "evaluate": lambda run: evaluate_run(run, episodes=1),
    "record": lambda run: record(run, episodes=1),
    "resume": lambda run: rlstm.resume(run, total_steps=128, ui="none"),
    "watch": lambda run: write(screenings(run), "film.gif", episodes=1),
    "watch beside": lambda run: write(screenings(run, beside=str(run)), "film.gif", episodes=1),
    "inspect": lambda run: inspect_run(run, episodes=1, probe_episodes=0, window_episodes=0),
    "card": lambda run: write_card(run, episodes=1),
}


@pytest.mark.parametrize("verb", [*VERBS])
def test_every_verb_that_plays_refuses(run: Path, verb: str) -> None:
    tamper(run, "a module")
    with pytest.raises(UntrustedRunError, match=r"names the module evil, .* add --env-import evil .* or --trust"):
        VERBS[verb](run)
    assert not Path("executed").exists()


def test_references_are_not_asked_of_a_strangers_env(run: Path) -> None:
    change(run / "config.json", env_wrappers=[], env_import=["evil"])
    change(run / "env_spec.json", additional_wrappers=[])
    with pytest.raises(UntrustedRunError):
        run_references(run)
    assert run_references(run, trust=True)["optimal_return"] == 4.0


def test_a_run_that_is_trusted_is_as_it_says(run: Path) -> None:
    change(run / "config.json", env_import=["evil"])
    assert evaluate_run(run, episodes=2, trust=True).lengths.shape == (2,)
    assert Path("executed").exists()
    change(run / "env_spec.json", entry_point="evil:Env", vector_entry_point=None)
    assert open_run(run, trust=True).spec.entry_point == "evil:Env"


def test_the_batched_form_is_the_registered_one(run: Path) -> None:
    change(run / "env_spec.json", vector_entry_point="evil:Env")
    assert open_run(run).spec.vector_entry_point == gym.spec("rlstm/TMaze-v0").vector_entry_point  # Of our own envs.
    for place in ("entry_point", "vector_entry_point"):
        stored = EnvSpec("CartPole-v1", **{"entry_point": gym.spec("CartPole-v1").entry_point, place: "evil:Env"})
        with pytest.raises(UntrustedRunError, match=f"'evil:Env' as the {place} of 'CartPole-v1'"):
            trust.check_spec(stored, gym.spec("CartPole-v1"), run)


def test_a_module_that_was_imported_before_is_no_question(run: Path) -> None:
    import evil  # noqa: F401 - as --env-import does.

    change(run / "config.json", env_import=["evil"])
    assert evaluate_run(run, episodes=2).lengths.shape == (2,)


@pytest.mark.parametrize("stage", ['env = "evil:rlstm/TMaze-v0"', 'env_kwargs = { task = "evil:Task" }'])
def test_stages_name_no_other_code(run: Path, stage: str) -> None:
    (run / "curriculum.toml").write_text(f"[[stage]]\n{stage}\nsuccess = 0.9\n")
    write_manifest(run)
    with pytest.raises(UntrustedRunError, match=r"curriculum\.toml"):
        rlstm.resume(run, total_steps=128, ui="none")
    assert evaluate_run(run, episodes=1).lengths.shape == (1,)  # It plays no stage.
    assert not Path("executed").exists()


def test_a_cell_of_a_strangers_module_is_not_imported(run: Path) -> None:
    change(run / "config.json", cell="evil_cell", env_import=["evil"])
    change_meta(run, cell="evil_cell")
    with pytest.raises(UntrustedRunError, match="import evil before"):
        rlstm.load(run)
    assert not Path("executed").exists()


def test_what_is_registered_may_stand_in_a_spec() -> None:
    wrapper = WrapperSpec("flicker", "my:Flicker", {"often": 3})
    registered = EnvSpec("A-v0", entry_point="my:Env", kwargs={"task": "my:Task"}, additional_wrappers=(wrapper,))
    stored = EnvSpec("A-v0", entry_point="my:Env", kwargs={"task": "my:Task", "n": 3}, additional_wrappers=(wrapper,))
    trust.check_spec(stored, registered, Path("run"))
    for text in ("my:Other", "my.deep:Other", "my:id/Env-v0"):
        with pytest.raises(UntrustedRunError, match=text):
            trust.check_arguments({"deep": [{text}]}, registered, Path("run"))
    trust.check_arguments(
        {"address": "localhost:8080", "url": "http://a", "text": "a b: c", "n": 3}, registered, Path("run")
    )


def test_modules_are_those_to_import_and_that_in_the_id() -> None:
    assert EnvConfig(env="one:my/Env-v0", env_import=("two", "one")).modules == ("two", "one")
    assert EnvConfig(env="my/Env-v0").modules == ()
