"""Pages of the command line, from the help that its own parser prints."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from rlstm.agents import AGENTS
from rlstm.cli import VERBS, main

_WIDTH = 100
_BOX = re.compile(r"^╭─ (.*?) ─*╮\n(.*?)^╰─*╯$", re.MULTILINE | re.DOTALL)
_RULE = "─" * 10


def help_of(words: list[str]) -> str:
    """Return what ``rlstm WORDS --help`` prints."""
    buffer = io.BytesIO()
    text = io.TextIOWrapper(buffer, encoding="utf-8", write_through=True)  # Boxes are drawn in Unicode alone.
    with contextlib.redirect_stdout(text), patch.dict(os.environ, COLUMNS=str(_WIDTH)):
        main([*words, "--help"])
    return buffer.getvalue().decode()


def options(box: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a box of the help, as they are written, and what they do."""
    rows = [line.removeprefix("│ ").removesuffix("│").rstrip() for line in box.splitlines()]
    rules = [index for index, row in enumerate(rows) if row.startswith(_RULE)]
    flag, words = "", list[str]()
    for row in rows[rules[0] + 1 :] if rules else rows:
        if row and not row.startswith(" "):
            if flag:
                yield flag, " ".join(words)
            flag, _, first = row.partition("  ")
            words = [first.strip()] if first else []
        else:
            words.append(row.strip())
    if flag:
        yield flag, " ".join(words)


def help_page(words: list[str]) -> str:
    """Return the page of a verb, or of an agent's training."""
    text = help_of(words)
    lines = [f"# rlstm {' '.join(words)}", ""]
    first = _BOX.search(text)
    head = text[: first.start()] if first else text
    lines += ["```text", head.strip(), "```", ""]
    for title, box in _BOX.findall(text):
        lines += [f"## {title[:1].upper()}{title[1:]}", ""]
        for flag, does in options(box):
            lines += [f"`{flag}`", f": {_escaped(does)}", ""]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_<>\[\]`|])", r"\\\1", text)


def write_help(folder: Path) -> None:
    """Write a page for every verb, one for the training and tuning of every agent, and their list."""
    pages = {verb: [verb] for verb in VERBS} | {
        f"{verb}-{agent}": [verb, agent] for verb in ("train", "tune") for agent in AGENTS
    }
    for name, words in pages.items():
        text = help_page(words)
        if name in ("train", "tune"):
            text += "\n" + _toctree([f"verb-{name}-{agent}" for agent in AGENTS])
        (folder / f"verb-{name}.md").write_text(text, encoding="utf-8")
    rows = [f"| [rlstm {verb}](verb-{verb}.md) | {does} |" for verb, (_, does) in VERBS.items()]
    head = [
        "# All verbs and flags",
        "",
        "`rlstm VERB --help` prints the same.",
        "",
        "| verb | what it does |",
        "|---|---|",
    ]
    text = "\n".join([*head, *rows, "", _toctree([f"verb-{verb}" for verb in VERBS])])
    (folder / "verbs.md").write_text(text, encoding="utf-8")


def _toctree(names: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", "", *names, "```", ""])
