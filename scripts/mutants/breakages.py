"""Small semantic breakages of the library, as data: a list of them says how much the tests notice.

A breakage replaces a snippet that stands exactly once in its file. Each area is a TOML file in this folder::

    tests = ["tests/losses/test_returns.py"]    # what runs for every breakage of the area
    select = "not slowly"                       # optional: pytest's -k for them

    [[breakage]]
    name = "gae_forgets_lambda"
    file = "rlstm/losses/returns.py"
    before = "gamma * gae_lambda"
    after = "gamma"
    tests = ["tests/agents/test_ppo.py"]        # optional: instead of the area's
    select = "advantage"                        # optional: pytest's -k
"""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["AREAS", "Breakage", "fault", "load_area", "load_breakages"]

AREAS = Path(__file__).parent / "areas"


@dataclass(frozen=True)
class Breakage:
    """A snippet of a file, what stands there instead, and the tests that must notice."""

    area: str
    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    select: str = ""

    def apply(self, source: str) -> str:
        """Return the broken source.

        Raises:
            ValueError: If the snippet does not stand exactly once in the source.
        """
        count = source.count(self.before)
        if count != 1:
            raise ValueError(f"its 'before' stands {count} times in {self.file}")
        return source.replace(self.before, self.after)


def load_area(path: Path) -> list[Breakage]:
    """Return the breakages of one file."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    tests, select = tuple(content.get("tests", ())), content.get("select", "")
    breakages = []
    for row in content["breakage"]:
        own = {"tests": tuple(row["tests"])} if "tests" in row else {"tests": tests, "select": select}
        breakages.append(Breakage(**{"area": path.stem, **own, **{k: v for k, v in row.items() if k != "tests"}}))
    return breakages


def load_breakages(folder: Path = AREAS) -> list[Breakage]:
    """Return the breakages of all areas in a folder.

    Raises:
        ValueError: If two have the same name.
    """
    breakages = [one for path in sorted(folder.glob("*.toml")) for one in load_area(path)]
    names = [one.name for one in breakages]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"Two breakages have the name {', '.join(sorted(twice))}.")
    return breakages


def fault(breakage: Breakage, root: Path) -> str | None:
    """Return what is wrong with a breakage in the tree at ``root``, or None: it applies, compiles and changes code."""
    path = root / breakage.file
    if not path.is_file():
        return f"there is no {breakage.file}"
    if missing := [one for one in breakage.tests if not (root / one.partition("::")[0]).exists()]:
        return f"there is no {missing[0]}"
    if not breakage.tests:
        return "it names no tests"
    source = path.read_text(encoding="utf-8")
    try:
        ast.parse(breakage.apply(source))
    except ValueError as error:
        return str(error)
    except SyntaxError as error:
        return f"its 'after' does not compile: {error}"
    return None if _code(breakage.before) != _code(breakage.after) else "it changes no code"


def _code(snippet: str) -> str:
    """Return a snippet without comments and spaces."""
    return re.sub(r"#[^\n]*|\s", "", snippet)
