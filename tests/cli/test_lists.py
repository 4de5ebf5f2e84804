"""What there is: envs, cells, presets, as tables that fit a terminal and as JSON."""

import json
from pathlib import Path

import pytest

from rlstm.cells import CELLS
from rlstm.cli.tables import WIDTH, table
from rlstm.envs import ENVS
from rlstm.training.presets import PRESETS

ROOT = Path(__file__).parents[2]
SHOWN_ENVS = {env_id: row for env_id, row in ENVS.items() if row.level in ("", "Easy")}


@pytest.mark.parametrize(("verb", "names"), [("envs", SHOWN_ENVS), ("cells", CELLS), ("presets", PRESETS)])
def test_the_table_has_every_name_and_fits_the_width(rlstm, verb: str, names: dict) -> None:
    result = rlstm(verb)
    assert result.code == 0
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in names)


def test_a_level_that_is_not_shown_has_an_easy_one_that_is() -> None:
    assert all(env_id.replace(row.level, "Easy") in SHOWN_ENVS for env_id, row in ENVS.items() if row.level)
    assert {row.level for row in ENVS.values()} == {"", "Easy", "Medium", "Hard"}


def test_bounds_are_marked(rlstm) -> None:
    lines = rlstm("envs").out.splitlines()
    (line,) = [line for line in lines if line.startswith("rlstm/MultiarmedBanditEasy-v0 ")]
    assert "≤ 0.8182" in line


def test_envs_are_described_by_their_references(rlstm) -> None:
    described = {one["id"]: one for one in rlstm("envs --json").json["envs"]}
    assert described.keys() == ENVS.keys()
    maze = described["rlstm/TMaze-v0"]
    assert (maze["memoryless_return"]["value"], maze["optimal_return"]["value"]) == (1.95, 4.0)
    assert described["rlstm/CartPoleNoVel-v0"]["memoryless_return"]["value"] is None


def test_cells_come_as_they_were_counted(rlstm) -> None:
    found = rlstm("cells --json").json
    assert found == json.loads((ROOT / "rlstm" / "cli" / "cells.json").read_text(encoding="utf-8"))


def test_paths_that_differ_by_device_are_told_apart(rlstm) -> None:
    (gru,) = [line for line in rlstm("cells").out.splitlines() if line.startswith("gru ")]
    assert "cpu: " in gru
    (elman,) = [line for line in rlstm("cells").out.splitlines() if line.startswith("elman ")]
    assert "cpu: " not in elman


def test_presets_come_with_their_settings(rlstm) -> None:
    presets = rlstm("presets --json").json["presets"]
    assert presets.keys() == PRESETS.keys()
    assert presets["tmaze"]["settings"]["env"] == "rlstm/TMaze-v0"


def test_wrapped_columns_share_what_the_others_leave() -> None:
    text = table(("id", "text", "more"), [("a", "word " * 30, "word " * 9)], wrapped=("text", "more"))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.count("word") == 39
