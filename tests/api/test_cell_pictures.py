"""Claims about `rlstm.api.cell_pictures` and `rlstm cells --draw`: every node can be read, and none covers another."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from rlstm.api.cell_pictures import draw_cell
from rlstm.cli import main
from rlstm.core.cell_graph_files import graph_text
from rlstm.core.cell_graphs import CellGraph, lstm_graph
from rlstm.evolution.cell_graphs.mutations import mutate

SVG = "{http://www.w3.org/2000/svg}"


def mutant(changes: int) -> CellGraph:
    graph, rng = lstm_graph(), Random(changes)
    for _ in range(changes):
        graph, _ = mutate(graph, rng)
    return graph


def boxes(picture: ET.Element) -> list[tuple[float, float, float, float]]:
    rectangles = [one for one in picture.iter(f"{SVG}rect") if one.get("rx")]
    sides = [[float(one.get(name, "")) for name in ("x", "y", "width", "height")] for one in rectangles]
    return [(x, y, x + width, y + height) for x, y, width, height in sides]


@pytest.mark.parametrize("changes", [0, 1, 10, 30, 60])
def test_a_picture_shows_every_node_once_and_none_upon_another(changes):
    graph = mutant(changes)
    picture = ET.fromstring(draw_cell(graph))
    names = [text.text for text in picture.iter(f"{SVG}text") if text.get("font-weight")]
    memories = [node.name for node in graph.of_op("memory")]
    ends = ["h", "h"] if graph.reads_last_output else ["output"]
    assert sorted(map(str, names)) == sorted([*graph.by_name, *memories, "x", *ends])
    for (left, top, right, bottom), (other_left, other_top, other_right, other_bottom) in combinations(
        boxes(picture), 2
    ):
        assert right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
    width, height = (float(picture.get(side, "")) for side in ("width", "height"))
    assert all(
        left >= 0 and top >= 0 and right <= width and bottom <= height for left, top, right, bottom in boxes(picture)
    )
    lines = [path for path in picture.iter(f"{SVG}path") if path.get("stroke")]
    assert len(lines) == sum(len(node.reads) for node in graph.nodes) + 1
    assert all(path.get("marker-end") for path in lines)


def test_a_box_stands_below_all_that_it_reads():
    graph = lstm_graph()
    picture = ET.fromstring(draw_cell(graph))
    tops: dict[str, float] = {}
    for text in picture.iter(f"{SVG}text"):
        if text.get("font-weight"):
            tops.setdefault(str(text.text), float(text.get("y", "")))
    for node in graph.nodes:
        assert node.op == "memory" or all(tops[node.name] > tops[read] for read in node.reads)


def test_the_command_draws_a_file(tmp_path, capsys):
    (tmp_path / "found.toml").write_text(graph_text(mutant(3)), encoding="utf-8")
    assert main(["cells", "--draw", str(tmp_path / "found.toml"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["out"] == str(tmp_path / "found.svg")
    assert told["nodes"] == len(mutant(3).nodes)
    assert (tmp_path / "found.svg").read_text(encoding="utf-8") == draw_cell(mutant(3), "found")
    assert main(["cells", "--draw", "graph", "--out", str(tmp_path / "lstm.svg")]) == 0
    assert (tmp_path / "lstm.svg").read_text(encoding="utf-8") == draw_cell(lstm_graph(), "graph")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--draw", "gone.toml"], 2, "Can't read the cell file gone.toml: No such file"),
        (["--out", "a.svg"], 2, "nothing is drawn: name a cell with --draw"),
        (["--draw", "graph", "--out", "no/such/folder.svg"], 1, "The picture can't be written to no/such/folder.svg"),
    ],
)
def test_what_can_not_be_drawn_is_refused(words, code, told, capsys):
    assert main(["cells", *words]) == code
    assert told in capsys.readouterr().err


def test_the_picture_on_the_page_is_that_of_the_lstm():
    page = Path(__file__).parents[2] / "docs" / "images" / "lstm-graph.svg"
    assert page.read_text(encoding="utf-8") == draw_cell(lstm_graph(), "graph")
