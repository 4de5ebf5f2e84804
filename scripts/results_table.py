"""Write results: rows in a CSV, the checkout's commit, Markdown tables, and pages that hold them between marks."""

from __future__ import annotations

import csv
import io
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlstm.cli.tables import markdown
from rlstm.core.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "RESULTS.md"
CODE = ("rlstm", "agents", "envs", "scripts/**/*.py")

REWRITTEN = frozenset(
    (
        *("5b2c41148e", "0c14554f79", "6dd5fc349c", "cde7605c9c", "678db047f5"),
        *("bdc29760e2", "9a56ab8484", "9a5092e68b", "85378c2a12"),
    )
)
"""Commits that rows name and the history does not have: their branches were rewritten when they were joined."""

MARK = "†"
FOOTNOTE = (
    f"{MARK} The commit that rows of this line name was rewritten when branches were joined, and is not in the history."
)
LEAST_SEEDS = 3
"""Intervals over seeds are printed from so many on."""


def commit(root: Path = ROOT) -> str:
    """Return the commit of a checkout, marked if code that results depend on was changed since or is not in it.

    It is empty outside a checkout, as in an unpacked archive.
    """
    answers = []
    for words in (("rev-parse", "--short=10", "HEAD"), ("status", "--porcelain", "--", *CODE)):
        try:
            answer = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        answers.append(answer.stdout.strip())
    return answers[0] + ("-changed" if answers[1] else "")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file, none if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_row(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Add a row to the file."""
    path.parent.mkdir(exist_ok=True)
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def put_row(path: Path, columns: Sequence[str], row: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Add a row to the file, in place of those that agree with it in ``keys``."""

    def key(one: Mapping[str, Any]) -> list[str]:
        return [str(one[name]) for name in keys]

    rows: list[Mapping[str, Any]] = list(read_rows(path))
    places = [place for place, one in enumerate(rows) if key(one) == key(row)]
    if not places:  # Other programs may add rows at the same time, so nothing is rewritten without need.
        append_row(path, columns, row)
        return
    rows[places[0]] = {name: row[name] for name in columns}
    write_rows(path, columns, [one for place, one in enumerate(rows) if place not in places[1:]])


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file by these rows."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, buffer.getvalue().encode())


def marked(title: str, rows: Iterable[Mapping[str, str]]) -> str:
    """Return a line's title, with a mark if rows that it sums up name a commit which was rewritten."""
    return f"{title} {MARK}" if any(row.get("commit") in REWRITTEN for row in rows) else title


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, with the footnote if a cell has the mark; nothing if there are no lines."""
    rows = list(lines)
    if not rows:
        return ""
    foot = f"\n\n{FOOTNOTE}" if any(MARK in cell for row in rows for cell in row) else ""
    return markdown(head, rows) + foot


def write_between(path: Path, begin: str, end: str, text: str) -> bool:
    """Replace what stands between two marks, and return whether the file has them.

    Raises:
        ValueError: If one mark is there without the other, or they stand the wrong way round.
    """
    content = path.read_text(encoding="utf-8")
    if begin not in content and end not in content:
        return False
    first, last = content.find(begin), content.find(end)
    if not 0 <= first < last:
        raise ValueError(f"{path} must have '{begin}' once and '{end}' after it; put both there, or neither.")
    path.write_text(f"{content[: first + len(begin)]}\n{text.strip()}\n{content[last:]}", encoding="utf-8")
    return True
