"""Claims about the site: every page has a place, the reference has all that there is, and the code of pages runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlstm.agents import AGENTS
from rlstm.cells import CELLS
from rlstm.cli import VERBS
from rlstm.envs import ENVS
from rlstm.envs.base.registration import SECTIONS
from rlstm.training.presets import PRESETS
from scripts.list_envs import base_and_level
from scripts.site import generate
from scripts.site.help_pages import help_of
from scripts.site.pages import DOCS, ROOT, lead_links, site_pages

TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = ("README.md", "docs/adding-a-cell.md", "docs/command-line.md", "docs/demonstrations.md", "docs/your-own-env.md")


def entries(page: Path) -> list[str]:
    """Return the pages that the toctrees of a page name."""
    lines = [line for tree in TOCTREE.findall(page.read_text(encoding="utf-8")) for line in tree.splitlines()]
    return [re.sub(r".*<(.*)>", r"\1", line) for line in lines if line and not line.startswith(":")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Sphinx reads."""
    out = tmp_path_factory.mktemp("site") / "source"
    generate.main(out)
    return out


def test_every_page_is_in_the_sidebar(source: Path) -> None:
    named = entries(DOCS / "index.md")
    assert set(named) >= {place.removesuffix(".md") for place in site_pages().values()} - {
        "index",
        "reference/env-list",  # Below reference/envs.
    }
    assert [name for name in named if not (source / f"{name}.md").is_file()] == []


def test_every_generated_page_is_in_a_toctree(source: Path) -> None:
    named = {name for page in (source / "reference").glob("*.md") for name in entries(page)}
    named |= {Path(name).name for name in entries(source / "index.md")}
    assert {page.stem for page in (source / "reference").glob("*.md")} - named == set()


PAGES = [[verb] for verb in VERBS] + [[verb, agent] for verb in ("train", "tune") for agent in AGENTS]


@pytest.mark.parametrize("words", PAGES, ids="-".join)
def test_every_flag_of_every_verb_is_explained(source: Path, words: list[str]) -> None:
    page = (source / "reference" / f"verb-{'-'.join(words)}.md").read_text(encoding="utf-8")
    flags = re.findall(r"^│ (-[^ ]+)", help_of(words), re.MULTILINE)
    assert flags or words in (["train"], ["tune"])
    explained = re.findall(r"^`(-[^ `]+).*`\n: \S", page, re.MULTILINE)
    assert [flag for flag in flags if flag not in explained] == []


def test_every_cell_and_every_preset_has_a_section(source: Path) -> None:
    for name, table in (("cells", CELLS), ("presets", PRESETS)):
        page = (source / "reference" / f"{name}.md").read_text(encoding="utf-8")
        assert re.findall(r"^## (.*)$", page, re.MULTILINE) == list(table)


def test_every_env_has_a_picture_and_rules(source: Path) -> None:
    folder = source / "reference"
    pages = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("envs-*.md"))]
    assert sorted(page.splitlines()[0].removeprefix("# ") for page in pages) == sorted(SECTIONS)
    for env_id in ENVS:
        base, level = base_and_level(env_id)
        first = env_id.replace(level, "Easy") if level else env_id
        assert any(f"rlstm/{base}" in page and f"pictures/{first.partition('/')[2]}.png" in page for page in pages)
    for picture in set(re.findall(r"\((pictures/.*?)\)", "".join(pages))):
        assert (folder / picture).stat().st_size > 0


def test_links_out_of_the_docs_lead_to_pages_or_become_text() -> None:
    places, page = site_pages(), DOCS / "cells.md"
    text = "[all](../README.md#try-it) [`cells.py`](../rlstm/testing/cells.py) [said](../rlstm/cells/gru.py) [x](y.md)"
    text += "\n```text\n[all](../README.md)\n```\n"
    places |= {DOCS / "y.md": "y.md"}
    assert lead_links(text, page, places) == (
        "[all](start.md#try-it) `cells.py` said (`rlstm/cells/gru.py`) [x](y.md)\n```text\n[all](../README.md)\n```\n"
    )
    assert lead_links("[d](../docs/defaults.md)", ROOT / "envs" / "README.md", places) == "[d](../defaults.md)"


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_needs_no_network(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("furo")
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", DOCS, source, tmp_path]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = re.compile(r"<(?:script|link|img)\b[^>]*(?:src|href)=\"(?:https?:)?//[^>]*>")
    for page in tmp_path.rglob("*.html"):
        assert loaded.findall(page.read_text(encoding="utf-8")) == [], page.name


def run_blocks(blocks: list[str], folder: Path) -> None:
    """Run blocks of a page one after the other in a process of their own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", "\n".join(blocks)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_code_of_a_page_runs(name: str, tmp_path: Path) -> None:
    run_blocks(PYTHON.findall((ROOT / name).read_text(encoding="utf-8")), tmp_path)


@pytest.mark.slow
def test_the_way_from_sensor_to_file_runs(tmp_path: Path) -> None:
    """With a run of few steps in place of the page's own."""
    env, *others = PYTHON.findall((DOCS / "sensor-to-file.md").read_text(encoding="utf-8"))
    (tmp_path / "rail.py").write_text(env, encoding="utf-8")
    settings = 'env="my/Rail-v0", env_import=("rail",), total_steps=4096, run_dir="runs/rail/lstm-0", ui="none"'
    run_blocks([f'import rlstm\nrlstm.train("ppo", {settings})', *others], tmp_path)
