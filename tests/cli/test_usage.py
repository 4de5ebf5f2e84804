"""Wrong usage is told in one line with the nearest valid name and exit code 2; asking for help is light."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rlstm.cli import VERBS, main
from rlstm.cli.parsing import _called_here
from rlstm.training.setting_names import ELSEWHERE

ROOT = Path(__file__).parents[2]


def run_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_names_every_verb(rlstm) -> None:
    result = rlstm("--help")
    assert result.code == 0
    assert all(f"  {verb} " in result.out for verb in VERBS)


def test_no_verb_shows_the_help_and_is_wrong_usage(rlstm) -> None:
    result = rlstm("")
    assert (result.code, result.out) == (2, "")
    assert "usage: rlstm" in result.err


def test_the_version_is_that_of_the_package(rlstm) -> None:
    import rlstm as package

    assert rlstm("--version").out == f"rlstm {package.__version__}\n"


def test_the_entry_point_is_this_function() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"rlstm": f"{main.__module__}:{main.__name__}"}


def test_help_and_no_verb_import_neither_torch_nor_tyro() -> None:
    heavy = "{'torch', 'numpy', 'gymnasium', 'tyro', 'rich'}"
    calls = "; ".join(f"main({words})" for words in ([], ["--help"], ["--version"]))
    code = f"import sys; from rlstm.cli import main; {calls}; print(sorted({heavy} & set(sys.modules)))"
    assert run_python(code).splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(rlstm, verb: str) -> None:
    result = rlstm(f"{verb} --help")
    assert result.code == 0
    assert f"usage: rlstm {verb}" in result.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("trian", "Unknown verb 'trian'. Did you mean 'train'?"),
        ("--json envs", "The verb comes first"),
        ("train", "Name an agent first: rlstm train {ppo,"),
        ("train --env rlstm/TMaze-v0 ppo", "Name an agent first"),
        ("train pppo", "Unknown agent 'pppo'. Did you mean 'ppo'?"),
        ("train ppo", "No env was given: name one with --env"),
        ("train ppo --learnin-rate 3", "Unknown flag '--learnin-rate'. Did you mean '--learning-rate'?"),
        ("train reinforce --exploration rnd", "Unknown flag '--exploration'. It is a flag of ppo."),
        ("train ppo --lifetime trial", "Unknown flag '--lifetime'. Did you mean '--memory.lifetime'?"),
        ("train ppo --memory.gamma 1", "Unknown flag '--memory.gamma'. Did you mean '--gamma'?"),
        pytest.param(
            "train ppo --inputs.memory.lifetime trial", "Did you mean '--memory.lifetime'?", marks=pytest.mark.slow
        ),
        ("train ppo --num_env=3 --foo", "Unknown flag '--num-env'. Did you mean '--num-envs'?"),
        ("train evolino --lessons 3", "Unknown flag '--lessons'. Did you mean '--teacher-sequences'?"),
        ("train random --gamma 1", "Unknown flag '--gamma'."),
        ("train ppo --env rlstm/TMase-v0", "Unknown env 'rlstm/TMase-v0'. Did you mean 'rlstm/TMaze-v0'?"),
        ("train ppo --env rlstm/TMaze-v0 --cell lstn", "Unknown cell 'lstn'. Did you mean 'lstm'?"),
        ("train ppo --preset tmase", "Unknown preset 'tmase'. Did you mean 'tmaze'?"),
        ("train random --preset tmaze", "Preset 'tmaze' is for agent 'ppo', not 'random'."),
        ("train ppo --num-envs 1.5", "--num-envs: '1.5' is not a whole number."),
        ("train ppo --gamma x", "--gamma: 'x' is not a number."),
        ("train ppo --dtype float16", "'float32', 'float64'"),
        ("train ppo --memory.credit trail", "'trail' is none of episode, trial, lifelong, none."),
        ("train ppo --inputs.previous-action yes", "'yes' is none of true, false, none."),
        ("train ppo --env-kwargs corridor_length", "'corridor_length' is not of the form KEY=VALUE"),
        ("train ppo --num-steps", "Missing value for argument '--num-steps'"),
        ("train ppo --num-envs 0", "num_envs is 0; it must be at least 1."),
        pytest.param(
            "train ppo --env rlstm/TMaze-v0 --num-minibatches 3",
            "Use one of 1, 2, 4, 8, 16, or another num_envs.",
            marks=pytest.mark.slow,
        ),
        ("train ppo --env rlstm/TMaze-v0 --device tpu", "device is 'tpu'; it must be auto, cpu, cuda or cuda:N."),
        ("train ppo --config nowhere.toml", "Can't read the config file nowhere.toml"),
        ("evaluate", "RUN_DIR is missing."),
        ("evaluate run --episode 3", "Did you mean '--episodes'?"),
        ("evaluate run --episodes 0", "episodes is 0"),
        ("evaluate run --seed -1", "seed is -1"),
        ("evaluate run --checkpoint lattest", "--checkpoint takes latest, best, or the step of one"),
        ("evaluate run other", "'other' is one argument too many."),
        ("record run", "--episodes"),
        ("record run --episodes 0", "episodes is 0"),
        ("record run --episodes 2 --checkpoint lattest", "--checkpoint takes latest, best, or the step of one"),
        ("check-env rlstm/TMase-v0", "Did you mean 'rlstm/TMaze-v0'?"),
        ("cells --jsn", "Did you mean '--json'?"),
    ],
)
def test_wrong_usage_is_told_in_one_line(rlstm, words: str, told: str) -> None:
    result = rlstm(words)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    assert told in line


@pytest.mark.parametrize("words", ["trian --json", "train ppo --learnin-rate 1 --json", "evaluate nowhere --json"])
def test_a_failure_is_one_json_object_too(rlstm, words: str) -> None:
    result = rlstm(words)
    assert result.code != 0
    assert result.err == f"error: {result.json['error']}\n"


def test_an_unexpected_error_keeps_its_traceback(rlstm, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    def fail(config: object, **options: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("rlstm.api.experiments.train_config", fail)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        rlstm("train ppo --env rlstm/TMaze-v0 --json")
    assert capfd.readouterr().out == '{"error": "ZeroDivisionError: a defect"}\n'


def test_ctrl_c_before_there_is_a_run_is_told(rlstm, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(config: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlstm.api.experiments.train_config", stop)
    result = rlstm("train ppo --env rlstm/TMaze-v0 --json")
    assert (result.code, result.json) == (130, {"error": "Interrupted."})


@pytest.mark.parametrize("words", ["presets", "cells --help"])
def test_a_closed_pipe_is_no_error(words: str) -> None:
    command = f"{sys.executable} -m rlstm {words} | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "where", "code", "told"),
    [
        ("presets --json", "> /dev/full", 1, "No space left on device"),
        ("presets --json", ">&-", 1, "it is closed"),
        ("presets --json", "| true", 1, "Broken pipe"),
        ("presets", "> /dev/full", 1, "No space left on device"),
        ("presets", ">&-", 0, None),
        ("--help", "> /dev/full", 1, "No space left on device"),
    ],
)
def test_an_answer_that_can_not_be_written_is_told_in_one_line(words: str, where: str, code: int, told: str) -> None:
    command = f"{sys.executable} -m rlstm {words} {where}; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=environment)
    line = "" if told is None else f"error: the answer could not be written to stdout: {told}.\n"
    assert (done.returncode, done.stderr) == (code, line)


def test_errors_are_answered_though_stderr_is_full() -> None:
    command = f"{sys.executable} -m rlstm presets --jsonn 2>/dev/full"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(["bash", "-c", command], check=False, env=environment).returncode == 2


def test_a_module_that_exits_is_an_error(rlstm, workplace: Path) -> None:
    (workplace / "exits.py").write_text("raise SystemExit('no licence')\n", encoding="utf-8")
    answer = rlstm("train ppo --env rlstm/TMaze-v0 --env-import exits --json")
    assert answer.code == 1
    assert answer.json["error"].startswith("Could not import the env module 'exits': SystemExit: no licence.")


def test_code_that_exits_elsewhere_is_an_error_too(rlstm, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(config: object, **options: object) -> None:
        sys.exit(0)

    monkeypatch.setattr("rlstm.api.experiments.train_config", leave)
    answer = rlstm("train ppo --env rlstm/TMaze-v0 --json")
    assert (answer.code, answer.json) == (1, {"error": "The code of an env or of a module called sys.exit(0)."})


def test_a_full_disk_is_told_in_one_line(rlstm, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: object, **options: object) -> None:
        raise OSError(28, "No space left on device", "runs/evaluations.npz")

    monkeypatch.setattr("rlstm.api.experiments.train_config", fail)
    answer = rlstm("train ppo --env rlstm/TMaze-v0 --json")
    message = "runs/evaluations.npz can't be read or written: No space left on device."
    assert (answer.code, answer.json, answer.err) == (1, {"error": message}, f"error: {message}\n")


def test_one_run_too_many_is_named(rlstm) -> None:
    answer = rlstm("evaluate one two")
    assert (answer.code, answer.err) == (2, "error: 'two' is one argument too many. See 'rlstm evaluate --help'.\n")


@pytest.mark.parametrize("theirs", ELSEWHERE)
def test_names_of_other_libraries_are_answered_with_those_of_this_one(rlstm, theirs: str) -> None:
    theirs = "--" + theirs.replace("_", "-")
    ours = _called_here(theirs)
    assert ours is not None
    answer = rlstm(f"train ppo --env rlstm/TMaze-v0 {theirs} 1")
    assert answer.code == 2
    assert f"Unknown flag '{theirs}'. It is called '{ours}' here." in answer.err
    assert re.search(rf"{ours.split()[0]}[ ,]", rlstm("train ppo --help").out)
