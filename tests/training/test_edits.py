"""No file that decides what a run does, or tells what it has done, changes unnoticed; deliberate edits are accepted."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import rlstm
from rlstm.core.files import read_json, sealed
from rlstm.training.checkpoints import load_checkpoint
from rlstm.training.manifest import edited_files
from rlstm.training.run_directory import RunDirectory, RunDirectoryError
from tests.kit import covering
from tests.training.test_resume import UPDATE, assert_same_run, everything, train

STATIC = ["config.json", "env_spec.json", "spaces.json"]
TOTAL = 4 * UPDATE


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    train(path, anneal_lr=False, total_steps=2 * UPDATE)
    return path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def faster(run: Path) -> None:
    replace(run / "config.json", '"learning_rate": 0.01', '"learning_rate": 0.02')


def resume(run: Path, **options: object) -> None:
    rlstm.resume(run, total_steps=TOTAL, ui="none", **options)  # type: ignore[arg-type]


USES: dict[str, Callable[[Path], object]] = {
    "resume": resume,
    "evaluate": lambda run: rlstm.evaluate(run, episodes=1),
    "load": rlstm.load,
    "init_from": lambda run: train(run.parent / "next", init_from=str(run)),
}


@pytest.mark.parametrize("use", USES)
def test_a_changed_digit_of_the_learning_rate_is_refused_with_the_remedy(run: Path, use: str) -> None:
    faster(run)
    with pytest.raises(RunDirectoryError, match=r"config\.json is not as rlstm wrote it.*resume .*run --accept-edits"):
        USES[use](run)


@pytest.mark.parametrize("name", STATIC)
@pytest.mark.parametrize("damage", ["missing", "longer"])
def test_every_settled_file_is_checked(run: Path, name: str, damage: str) -> None:
    path = run / name
    path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RunDirectoryError, match=name.replace(".", r"\.")):
        rlstm.load(run)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"files": {}}',
        '{"files": {}, "seal": "0"}',
        '{"files": []}',
        '{"files": {"config.json": 3}, "seal": "0"}',
    ],
)
def test_a_damaged_manifest_is_told(run: Path, text: str) -> None:
    (run / "manifest.json").write_text(text)
    with pytest.raises(RunDirectoryError, match=r"manifest\.json is not as rlstm wrote it"):
        rlstm.load(run)
    resume(run, accept_edits=True)
    rlstm.load(run)


def test_an_edit_is_accepted_named_and_known_from_then_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faster(run)
    with pytest.raises(ValueError, match=r"Edited, and taken as they are now: config\.json\. The run is at step 64"):
        rlstm.resume(run, accept_edits=True, ui="none")
    assert not edited_files(run)
    replace(run / "env_spec.json", "{", "{ ")
    rlstm.resume(run, total_steps=TOTAL, accept_edits=True, ui="plain")
    assert "Edited, and taken as they are now: env_spec.json." in capsys.readouterr().err
    rlstm.load(run)
    assert RunDirectory.open(run).read_config()["settings"]["learning_rate"] == 0.02
    rlstm.resume(run, total_steps=TOTAL + UPDATE, accept_edits=True, ui="plain")
    assert "Edited" not in capsys.readouterr().err


def test_a_run_that_was_resumed_is_not_taken_for_edited(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if the process dies after any write of its config, whose total has changed, and of the manifest."""
    from rlstm.training import manifest, run_directory

    class Killed(BaseException):
        pass

    for number in range(9):
        writes = iter(range(9))

        def write(path: Path, value: object, number: int = number, writes: object = writes, write=None) -> None:
            if next(writes) == number:  # type: ignore[call-overload]
                raise Killed
            write(path, value)

        with monkeypatch.context() as patch:
            for module, name in ((manifest, "write_json"), (run_directory, "write_atomically")):
                function = getattr(module, name)
                patch.setattr(module, name, lambda p, v, function=function, write=write: write(p, v, write=function))
            try:
                RunDirectory.open(run).write_config({"total": number})
            except Killed:
                assert not edited_files(run)
                continue
        break
    assert number == 3
    assert RunDirectory.open(run).read_config() == {"total": 3}


LOGS = {
    "a cell of the log": lambda run: replace(run / "progress.csv", f"\n{UPDATE},0", f"\n{UPDATE},1"),
    "a row of the log": lambda run: (run / "progress.csv").write_text(
        "".join((run / "progress.csv").read_text().splitlines(keepends=True)[:-1])
    ),
    "the name of a column": lambda run: replace(run / "progress.csv", "rollout/", "collect/"),
    "no log": lambda run: (run / "progress.csv").unlink(),
    "no csv": lambda run: (run / "progress.csv").write_bytes(b"step\n\xff\xfe"),
    "another csv": lambda run: (run / "progress.csv").write_text("date,price\n1,2\n"),
    "an evaluation": lambda run: alter_evaluations(run, lambda values: values + 1),
    "one evaluation less": lambda run: alter_evaluations(run, lambda values: values[:-1]),
    "no evaluations": lambda run: (run / "evaluations.npz").unlink(),
    "no archive": lambda run: (run / "evaluations.npz").write_bytes(b"PK"),
    "arrays of other shapes": lambda run: alter_evaluations(run, lambda values: values.reshape(-1, 1, 1)),
}


def alter_evaluations(run: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    arrays = dict(np.load(run / "evaluations.npz"))
    np.savez(run / "evaluations.npz", **{name: change(values) for name, values in arrays.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize("edit", LOGS)
def test_a_changed_log_is_refused_with_the_remedy(run: Path, capsys: pytest.CaptureFixture[str], edit: str) -> None:
    assert (run / "progress.csv").read_text().count(f"\n{UPDATE},") == 1
    LOGS[edit](run)
    name = r"progress\.csv" if "log" in edit or "csv" in edit or "column" in edit else r"evaluations\.npz"
    with pytest.raises(RunDirectoryError, match=name):
        resume(run)
    with pytest.raises(RunDirectoryError, match=name):  # Nothing has changed by the attempt.
        resume(run)
    if edit not in ("no csv", "another csv", "no archive", "arrays of other shapes"):
        with pytest.raises(RunDirectoryError, match="--accept-edits"):
            resume(run)
        rlstm.resume(run, total_steps=TOTAL, accept_edits=True, ui="plain")
        assert re.search(f"taken as they are now: {name}", capsys.readouterr().err)


def test_what_was_logged_later_than_the_checkpoint_goes_and_nothing_else(run: Path, whole: Path) -> None:
    """The log has become wider and longer since, and an evaluation was added."""
    path = run / "progress.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text(
        "".join([f"{header},late\n", *(f"{row},\n" for row in rows), "96" + "," * header.count(",") + ",1\n9"])
    )
    RunDirectory.open(run).append_evaluation(96, [1.0] * 3, [1] * 3)
    shutil.copytree(whole, run.parent / "undisturbed")
    for name in ("run", "undisturbed"):
        resume(run.parent / name)
    assert_same_run(run, everything(run.parent / "undisturbed"))
    assert "late" not in path.read_text()


def test_a_run_of_an_earlier_version_knows_no_hashes(run: Path, whole: Path) -> None:
    shutil.copytree(whole, run.parent / "new")
    (run / "manifest.json").unlink()
    for meta in run.glob("checkpoints/*/meta.json"):
        head = json.loads(meta.read_text())
        meta.write_text(
            json.dumps({key: head[key] for key in ("format_version", "rlstm_version", "step", "files", "meta")})
        )
    with (run / "progress.csv").open("a") as file:
        file.write("96,5\n")
    for name in ("run", "new"):
        resume(run.parent / name)
    assert_same_run(run, everything(run.parent / "new"))
    faster(run)
    with pytest.raises(RunDirectoryError, match=r"config\.json"):  # From now on it does.
        rlstm.load(run)


NESTED = "[" * 100_000 + "]" * 100_000
ODD = {
    "nested": NESTED,
    "nested, but not too deep for json": '{"id": ' + "[" * 500 + "]" * 500 + "}",
    "a number of 5,000 digits": '{"id": ' + "9" * 5000 + "}",
    "a number beyond floats": '{"agent": "ppo", "settings": {"learning_rate": ' + "9" * 400 + "}}",
    "a list": '{"agent": ["ppo"], "settings": []}',
    "tags": '{"agent": "ppo", "settings": {"env_kwargs": {"__rlstm__": "array", "values": 1, "dtype": "x"}}}',
    "a set of lists": '{"agent": "ppo", "settings": {"env_kwargs": {"__rlstm__": "set", "items": [[]]}}}',
    "not a number": '{"agent": NaN}',
    "no settings": "{}",
    "text": '"id"',
    "not UTF-8": b"\xff\xfe",
}


@pytest.mark.parametrize(("odd", "name"), covering(ODD, STATIC))
def test_odd_contents_in_a_run_without_a_manifest_are_told_by_our_own_error(run: Path, odd: str, name: str) -> None:
    content = ODD[odd]
    (run / "manifest.json").unlink()
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    use = USES["load"] if name == "spaces.json" else USES["evaluate"]
    with pytest.raises(RunDirectoryError, match=name.replace(".", r"\.")):
        use(run)


def test_json_that_functions_could_not_walk_through_is_damage(tmp_path: Path) -> None:
    for levels, refused in ((99, False), (101, True)):
        (tmp_path / "a.json").write_text('{"a": ' + "[" * levels + "]" * levels + "}")
        with pytest.raises(RunDirectoryError, match="nested deeper than 100") if refused else nullcontext():
            read_json(tmp_path / "a.json")


SPECS = [
    {"id": 3},
    {"id": "rlstm/TMaze-v0", "entry_point": 3},
    {"id": "rlstm/TMaze-v0", "kwargs": 3},
    {"id": "rlstm/TMaze-v0", "kwargs": {"__rlstm__": "array", "values": 1}},
    {"id": "rlstm/TMaze-v0", "additional_wrappers": [3]},
    {"id": "rlstm/TMaze-v0", "colour": "red"},
]


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_a_spec_that_is_none_is_told(run: Path, spec: dict[str, object]) -> None:
    (run / "manifest.json").unlink()
    (run / "env_spec.json").write_text(json.dumps(spec))
    with pytest.raises(RunDirectoryError, match=r"env_spec\.json"):
        rlstm.evaluate(run, episodes=1)


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_odd_contents_of_meta_are_told(run: Path, content: str | bytes) -> None:
    last = load_checkpoint(run, "latest").path
    (last / "meta.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(rlstm.core.errors.CheckpointError, match=r"meta\.json"):
        resume(run)


def test_a_step_of_thousands_of_digits_is_damage(run: Path) -> None:
    meta = load_checkpoint(run, "latest").path / "meta.json"
    head = json.loads(meta.read_text())
    del head["seal"]
    meta.write_text(json.dumps(sealed({**head, "step": 10**4000})))
    with pytest.raises(rlstm.core.errors.CheckpointError, match=r"meta\.json is damaged: it is of step 1000"):
        resume(run)
