"""Claims about the pages: links lead somewhere, commands name flags that exist, README stays short."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlstm.cli import VERBS, main
from rlstm.cli.train import experiment
from rlstm.cli.tune import read_plan
from rlstm.core.cell_graph_files import graph_text
from rlstm.core.cell_graphs import lstm_graph

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "RESULTS")),
    ROOT / "envs" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SCRIPT = re.compile(r"python -m (scripts(?:\.\w+)+)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(page: Path) -> Iterator[list[str]]:
    """The words after ``rlstm`` of every command that a page shows."""
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["rlstm"]:
                yield words[1:]


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {anchor(line.lstrip("# ")) for line in page.read_text(encoding="utf-8").splitlines() if line[:1] == "#"}


def test_readme_is_read_in_three_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, place = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not place or place in anchors(target), link


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    missing = {page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index}
    assert missing == {"README.md", "index.md"}  # Itself, and the sidebar of the site.


@each_page
def test_scripts_that_are_named_exist(page: Path) -> None:
    for module in SCRIPT.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists(), module


@each_page
def test_commands_can_be_read(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that train and tune by the parsers of these; of the other verbs the flags stand in the help."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text("".join(blocks(page, "toml")), encoding="utf-8")
    for verb, *words in commands(page):
        assert verb in VERBS
        for path in (Path(word) for word in words if word.endswith("/best.toml")):  # What a search has written.
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for path in (Path(word) for word in words if word.endswith("/champion.toml")):  # Likewise, a cell.
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(graph_text(lstm_graph()), encoding="utf-8")
        if verb == "train":
            experiment(words[0], words[1:])
        if verb == "tune":
            read_plan(words[0], words[1:])


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"train", "tune"}))
def test_flags_of_other_verbs_exist(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    shown = [words for page in PAGES for words in commands(page) if words[0] == verb]
    assert {word for words in shown for word in words if word.startswith("--")} <= known


def test_python_blocks_compile_and_import_what_exists() -> None:
    for page in PAGES:
        for number, block in enumerate(blocks(page, "python")):
            tree = ast.parse(block, f"{page.name}, block {number}")
            tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
            exec(compile(tree, f"{page.name}, block {number}", "exec"), {})
