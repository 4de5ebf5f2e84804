"""Rows of results name commits that exist, or are marked in the tables."""

import csv
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)


def named_commits() -> set[str]:
    found = set()
    for path in (ROOT / "scripts" / "results").glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            found |= {row["commit"].removesuffix("-changed") for row in csv.DictReader(file) if "commit" in row}
    return found


with_whole_history = pytest.mark.skipif(
    git("rev-parse", "--is-shallow-repository").stdout.strip() != "false",
    reason="needs the commits that rows name, which a shallow clone lacks: git fetch --unshallow",
)


@with_whole_history
def test_commits_of_rows_are_in_the_history_or_known_as_rewritten(scripts) -> None:
    missing = {one for one in named_commits() if git("merge-base", "--is-ancestor", one, "HEAD").returncode}
    assert missing == scripts.results_table.REWRITTEN


def test_a_line_over_rows_of_a_rewritten_commit_is_marked_and_explained(scripts) -> None:
    table = scripts.results_table
    rewritten = {"commit": min(table.REWRITTEN)}
    assert table.marked("SNES", [{"commit": "0123456789"}]) == "SNES"
    assert table.marked("SNES", [{"commit": "0123456789"}, rewritten]) == "SNES †"
    assert table.markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
    assert table.markdown_table(["a"], [["1 †"]]).splitlines()[-1] == table.FOOTNOTE
    assert table.markdown_table(["a"], []) == ""
