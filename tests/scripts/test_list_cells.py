"""rlstm/cli/cells.json is what scripts/list_cells.py writes, and that says what the cells say."""

import json
from pathlib import Path

import pytest

from rlstm.cells import CELLS
from scripts import list_cells


@pytest.fixture(scope="module")
def written() -> str:
    return list_cells.write_list()


def test_the_list_in_the_repository_is_up_to_date(written: str) -> None:
    assert list_cells.FILE.read_text(encoding="utf-8") == written, "run python -m scripts.list_cells"


def test_every_cell_is_counted_and_named_for_every_device(written: str) -> None:
    values = json.loads(written)
    cells = {one["name"]: one for one in values["cells"]}
    assert list(cells) == list(CELLS)
    inputs, hidden = values["input_size"], values["hidden_size"]
    assert cells["lstm"]["parameters"] == 4 * hidden * (inputs + hidden + 2)
    assert (cells["lstm"]["state_size"], cells["none"]["state_size"]) == (2 * hidden, 0)
    assert cells["gru"]["sequence_path"]["cpu"] != cells["gru"]["sequence_path"]["cuda"]
    assert {name for name, one in cells.items() if "triton" in one["sequences"]} == {
        name for name, one in CELLS.items() if one.triton is not None
    }


def test_a_stale_list_is_found_and_rewritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cells.json"
    assert list_cells.main(["--check"], path) == 1
    assert "is stale: run python -m scripts.list_cells." in capsys.readouterr().out
    assert (list_cells.main([], path), list_cells.main(["--check"], path)) == (0, 0)
    path.write_text(path.read_text(encoding="utf-8").replace("Elman 1990", "Elman 1991"), encoding="utf-8")
    assert list_cells.main(["--check"], path) == 1
