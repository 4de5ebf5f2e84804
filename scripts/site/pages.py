"""The pages of the repository as pages of the site: copied, and every link led to where its target is there."""

import os
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

ELSEWHERE = {
    "README.md": "start.md",
    "RESULTS.md": "results.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "envs/README.md": "reference/env-list.md",
    "docs/README.md": "index.md",  # The list of pages on a code host; here it is the sidebar.
}
"""Files that have another name in the site."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def site_pages() -> dict[Path, str]:
    """Return the place in the site of every page of the repository that is one there."""
    pages = {path: path.name for path in sorted(DOCS.glob("*.md"))}
    return pages | {ROOT / name: place for name, place in ELSEWHERE.items()}


def copy_pages(out: Path) -> None:
    """Copy all pages and pictures into the folder that Sphinx reads."""
    places = site_pages()
    shutil.copytree(DOCS / "images", out / "images", dirs_exist_ok=True)
    for page, place in places.items():
        if page != DOCS / "README.md":
            target = out / place
            target.parent.mkdir(parents=True, exist_ok=True)
            text = lead_links(page.read_text(encoding="utf-8"), page, places)
            if place == "start.md":
                text = text.replace("# rlstm\n", "# Start here\n", 1)
            target.write_text(text, encoding="utf-8")


def lead_links(text: str, page: Path, places: dict[Path, str]) -> str:
    """Return a page whose links to pages and pictures lead into the site, and others are text."""
    here = Path(places[page]).parent

    def lead(match: re.Match[str]) -> str:
        mark, words, link = match.groups()
        path, hash_sign, anchor = link.partition("#")
        if "://" in link or not path:
            return match[0]
        target = (page.parent / path).resolve()
        place = places.get(target)
        if place is None and target.is_relative_to(DOCS / "images"):
            place = target.relative_to(DOCS).as_posix()
        if place is not None:
            return f"{mark}[{words}]({os.path.relpath(place, here)}{hash_sign}{anchor})"
        name = target.relative_to(ROOT).as_posix()
        return words if target.name in words else f"{words} (`{name}`)"

    parts = _FENCE.split(text)  # Code stands in every second part.
    return "".join(part if index % 2 else _LINK.sub(lead, part) for index, part in enumerate(parts))
