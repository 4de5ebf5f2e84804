"""Asking for help, and for what there is, waits for no torch: read off ``sys.modules`` of a fresh process."""

import json
import subprocess
import sys

import pytest

from rlstm.agents import AGENTS
from rlstm.cli import VERBS

HELP = [
    "--version",
    "--help",
    *(f"{verb} --help" for verb in VERBS),
    *(f"train {agent} --help" for agent in AGENTS),
    "tune ppo --help",
    "tune evolino --show-space",
    "train ppo --preset tmaze --help",
    "train evolino --preset sines --help",
]
LISTS = [f"{verb}{flag}" for verb in ("presets", "cells", "envs") for flag in ("", " --json")]  # Envs need numpy.
PROGRAM = """
import contextlib, io, json, sys

from rlstm.cli import main

found, before = {}, set()
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(words.split())
    heavy = {"torch", "tensorboard", "rlstm.cells", "numpy", "gymnasium"} & set(sys.modules)
    found[words] = [code, len(out.getvalue()), sorted(heavy - before)]
    before |= heavy
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, list]:
    """For each command its exit code, the length of what it said, and what it was the first to import."""
    words = [sys.executable, "-c", PROGRAM, json.dumps([*HELP, *LISTS])]
    process = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    found: dict[str, list] = json.loads(process.stdout)
    return found


@pytest.mark.parametrize("words", [*HELP, *LISTS])
def test_no_torch_is_imported(imported: dict[str, list], words: str) -> None:
    code, length, heavy = imported[words]
    assert code == 0
    assert length > 0
    assert heavy == (["gymnasium", "numpy"] if words == "envs" else [])
