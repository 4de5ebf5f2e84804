"""envs/README.md is what scripts/list_envs.py writes, and that says what the registry says."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlstm.envs import ENVS
from rlstm.envs.base.batched import ReturnReference

ROOT = Path(__file__).parents[2]
EXACT, BOUND = ReturnReference(4.0, "exact", "attained"), ReturnReference(0.123456, "bound", "not exceeded")
UNKNOWN = ReturnReference(None, "unknown", "it was never computed")


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("list_envs", ROOT / "scripts" / "list_envs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> Any:
    return load_script()


@pytest.fixture(scope="module")
def written(script: Any) -> str:
    return script.write_readme()


def description(**values: Any) -> Any:
    return replace(ENVS["rlstm/TMaze-v0"].describe(), **values)


def test_the_readme_in_the_repository_is_up_to_date(written: str) -> None:
    assert (ROOT / "envs" / "README.md").read_text(encoding="utf-8") == written, "run python scripts/list_envs.py"


def test_every_environment_stands_in_exactly_one_row(script: Any, written: str) -> None:
    rows = [line.split(" | ")[0].removeprefix("| ").strip("`") for line in written.splitlines() if line[:3] == "| `"]
    found = []
    for name in rows:
        head, brace, rest = name.partition("{")
        levels, _, tail = rest.partition("}")
        found += [f"{head}{level}{tail}" for level in levels.split(",")] if brace else [name]
    assert sorted(found) == sorted(ENVS)


def test_sections_are_those_of_the_registration(script: Any, written: str) -> None:
    headings = [line.removeprefix("## ") for line in written.splitlines() if line.startswith("## ")]
    assert headings == list(script.SECTIONS)
    for env_id, title in (
        ("rlstm/TMaze-v0", "Corridors and mazes"),
        ("rlstm/RepeatPrevious-v0", "POPGym's tasks"),
        ("rlstm/CartPoleNoVel-v0", "Control without velocities"),
        ("rlstm/AnBnCn-v0", "Sequences with a teacher"),
    ):
        section = written.partition(f"## {title}\n")[2].partition("\n## ")[0]
        assert f"| `{env_id}` |" in section


def test_values_show_whether_they_are_exact_bounds_or_unknown(script: Any) -> None:
    assert script.value_of(EXACT) == "4"
    assert script.value_of(BOUND) == "≤ 0.1235"
    assert script.value_of(UNKNOWN) == "–"
    assert script.value_of(ReturnReference(-100_000.0, "exact", "")) == "-100,000"


def test_a_row_has_all_columns_and_the_reason_of_what_is_unknown_stands_below(script: Any) -> None:
    one = description(optimal_return=BOUND, memoryless_return=UNKNOWN, memory_length=None)
    lines = script.write_section("Title", [one]).splitlines()
    assert lines == [
        "## Title",
        "",
        "| environment | what must be remembered | for steps | optimal return | memoryless return | source |",
        "|---|---|---|---|---|---|",
        f"| `rlstm/TMaze-v0` | {one.memory} | varies | ≤ 0.1235 | – | {one.source} |",
        "",
        "Not known:",
        "",
        "- memoryless return of `rlstm/TMaze-v0`: it was never computed.",
    ]


def test_a_reason_that_holds_for_several_tasks_is_said_once(script: Any) -> None:
    other = ReturnReference(None, "unknown", "too many worlds")
    group = [
        description(id="rlstm/One-v0", memoryless_return=UNKNOWN),
        description(id="rlstm/TwoEasy-v0", memoryless_return=UNKNOWN, optimal_return=other),
        description(id="rlstm/TwoHard-v0", memoryless_return=UNKNOWN),
    ]
    lines = script.write_section("Title", group).splitlines()
    assert lines[lines.index("Not known:") + 2 :] == [
        "- memoryless return of `rlstm/One-v0`, `rlstm/Two{Easy,Hard}-v0`: it was never computed.",
        "- optimal return of `rlstm/Two{Easy,Hard}-v0`: too many worlds.",
    ]


def test_levels_share_a_row_and_equal_values_are_said_once(script: Any) -> None:
    group = [
        description(id=f"rlstm/Cards{level}-v0", memory_length=length, optimal_return=EXACT, memoryless_return=value)
        for level, length, value in (("Easy", 3, BOUND), ("Medium", 30, EXACT), ("Hard", 60, UNKNOWN))
    ]
    single = description(id="rlstm/Cards-v0", memory="a | b")
    rows = [line for line in script.write_section("Title", [single, *group]).splitlines() if line.startswith("| `")]
    assert rows[0].startswith("| `rlstm/Cards-v0` | a \\| b | 20 | 4 | 1.95 |")
    assert rows[1].startswith("| `rlstm/Cards{Easy,Medium,Hard}-v0` | on which side the sign at the start was |")
    assert "| 3 / 30 / 60 | 4 | ≤ 0.1235 / 4 / – |" in rows[1]
    assert len(rows) == 2


def test_check_says_whether_the_file_is_stale_and_writes_nothing(script: Any, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "README.md"
    assert script.main(["--check"], path) == 1
    assert not path.exists()
    assert "stale" in capsys.readouterr().out
    assert script.main([], path) == 0
    assert script.main(["--check"], path) == 0
    assert capsys.readouterr().out == ""
    path.write_text(path.read_text(encoding="utf-8") + "more", encoding="utf-8")
    assert script.main(["--check"], path) == 1
    assert "stale: run python -m scripts.list_envs" in capsys.readouterr().out
    assert path.read_text(encoding="utf-8").endswith("more")
