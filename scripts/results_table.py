"""What scripts that write results share: rows in a CSV, the checkout's commit, and tables between marks."""

from __future__ import annotations

import csv
import io
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlstm.core.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "RESULTS.md"
CODE = ("rlstm", "agents", "envs", "scripts/**/*.py")


def commit() -> str:
    """Return the checkout's commit, marked where code that results depend on was changed since or is not in it.

    It is empty outside a checkout, as in an unpacked archive.
    """
    answers = []
    for words in (("rev-parse", "--short=10", "HEAD"), ("status", "--porcelain", "--", *CODE)):
        try:
            answer = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        answers.append(answer.stdout.strip())
    return answers[0] + ("-changed" if answers[1] else "")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows there are."""
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


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file by these rows."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, buffer.getvalue().encode())


def write_between(path: Path, begin: str, end: str, text: str) -> bool:
    """Replace what stands between two marks; returns whether the file has them.

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
