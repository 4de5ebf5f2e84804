"""Claims about `scripts/mutants`: its list can't go stale unnoticed, and the runner tells what is killed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.mutants.__main__ import run
from scripts.mutants.breakages import Breakage, fault, load_breakages

ROOT = Path(__file__).parents[2]


def test_every_breakage_applies_compiles_and_changes_code() -> None:
    breakages = load_breakages()
    assert len(breakages) >= 160
    assert {one.name: reason for one in breakages if (reason := fault(one, ROOT))} == {}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with one function and one test."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "doubling.py").write_text("def double(x):\n    return 2 * x  # twice\n\nUNUSED = 1\n")
    (root / "test_it.py").write_text("from doubling import double\ndef test_it():\n    assert double(3) == 6\n")
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


def breakage(before: str, after: str, test: str = "test_it.py") -> Breakage:
    return Breakage("area", f"{before} becomes {after}", "doubling.py", before, after, (test,))


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        (breakage("2 * x", "3 * x"), None),
        (breakage("3 * x", "2 * x"), "its 'before' stands 0 times in doubling.py"),
        (breakage("x", "y"), "its 'before' stands 2 times in doubling.py"),
        (breakage("2 * x", "2 *"), "its 'after' does not compile"),
        (breakage("  # twice", "  # doubled"), "it changes no code"),
        (breakage("2 * x", "3 * x", "test_that.py"), "there is no test_that.py"),
    ],
    ids=["sound", "gone", "twice", "broken", "comment", "no test"],
)
def test_a_fault_of_a_breakage_is_named(tree: Path, case: Breakage, complaint: str | None) -> None:
    found = fault(case, tree)
    assert found == complaint or (found is not None and complaint is not None and found.startswith(complaint))


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_runner_tells_killed_survived_stale_and_unfit_and_leaves_the_tree(tree: Path) -> None:
    before = (tree / "doubling.py").read_text()
    (tree / "test_bad.py").write_text("def test_it():\n    assert False\n")
    cases = [
        breakage("2 * x", "3 * x"),
        breakage("UNUSED = 1", "UNUSED = 2"),
        breakage("4 * x", "3 * x"),
        breakage("2 * x", "x + x", "test_bad.py"),
    ]
    outcomes = {one.breakage: one.result for one in run(tree, cases, jobs=1, preload=["pytest"])}
    assert [outcomes[one] for one in cases] == ["killed", "SURVIVED", "STALE", "UNFIT"]
    endless = breakage("return 2", "while True:\n        pass\n    return 2")
    (outcome,) = run(tree, [endless], jobs=1, limit=1.0, control=False, preload=["pytest"])
    assert (outcome.result, outcome.detail) == ("killed", "the time limit")
    assert (tree / "doubling.py").read_text() == before
