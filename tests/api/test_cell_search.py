"""Claims about `rlstm.api.cell_search` and `rlstm search-cell`: what a search finds, keeps, and goes on with."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlstm.api.cell_pictures import draw_cell
from rlstm.api.cell_search import search as module
from rlstm.api.cell_search.fitness import Fitness, fitness, hidden_size, num_parameters
from rlstm.api.cell_search.plan import TASKS, CellSearchConfig
from rlstm.api.cell_search.search import search_cell
from rlstm.cells import make_cell
from rlstm.cells.graph import GraphCell
from rlstm.cli import main
from rlstm.core.cell_graph_files import read_graph
from rlstm.core.cell_graphs import CellGraph, Node, lstm_graph
from rlstm.core.errors import RunDirectoryError, UnknownNameError
from rlstm.evolution.cell_graphs.search import StructureSearch
from rlstm.training.config import ConfigError

TINY: dict[str, Any] = {"steps": 300, "seeds_per_cell": 1, "final_seeds": 1, "finalists": 2, "children": 3, "units": 4}


def invented(graph: CellGraph, task: Any, seed: int, **settings: Any) -> Fitness:
    """Return a fitness that follows from the arguments, without training: small graphs are good, lucky seeds too."""
    luck = (seed * 7919) % 13 / 100
    value = len(graph.nodes) if task.name == "counting" else len(graph.state_names)
    return Fitness(loss=value + luck, right=1 / value, hidden_size=4, parameters=100)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[Any]]:
    """Replace training; the function given stops the search at some training, and returns what was trained."""

    def replace(stop_at: int | None = None) -> list[Any]:
        calls: list[Any] = []

        def counted(graph: CellGraph, task: Any, seed: int, **settings: Any) -> Fitness:
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            calls.append((graph, task.name, seed))
            return invented(graph, task, seed, **settings)

        monkeypatch.setattr(module, "fitness", counted)
        return calls

    return replace


def search(path: Path, **settings: Any) -> Any:
    return search_cell(ui="none", run_dir=str(path), **{**TINY, "budget": 8, **settings})


def files(path: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(path)): one.read_bytes()
        for one in path.rglob("*")
        if one.suffix in (".json", ".csv", ".toml")
    }


def test_a_search_trains_and_writes_a_cell_that_can_be_used(tmp_path):
    result = search(tmp_path / "found", budget=3)
    assert [one.candidate.number for one in result.searched] == [0, 1, 2]
    assert all(0 < loss < 5 for one in result.searched for loss in one.errors())
    assert {one.candidate.number for one in result.finals} >= {0}
    graph = read_graph(result.champion_file)
    assert graph == result.champion.candidate.graph
    assert make_cell(result.champion_file, 3, 4).graph == graph
    assert Path(result.picture).read_text(encoding="utf-8") == draw_cell(
        graph, f"cell {result.champion.candidate.number}"
    )


@pytest.mark.parametrize("stop_at", [1, 5, 9, 14, 17])
def test_a_search_that_was_stopped_ends_as_one_that_was_not(tmp_path, untrained, stop_at):
    untrained()
    search(tmp_path / "whole")
    untrained(stop_at)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "stopped")
    calls = untrained()
    search(tmp_path / "stopped")
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")
    assert len(calls) < 22 - stop_at + 2  # Of what was known, nothing but the structure at the stop is trained again.


def test_a_larger_budget_goes_on_as_if_it_had_been_there_from_the_start(tmp_path, untrained):
    untrained()
    search(tmp_path / "whole", budget=12)
    search(tmp_path / "grown", budget=6)  # In the middle of a generation.
    search(tmp_path / "grown", budget=12)
    cells = [name for name in files(tmp_path / "whole") if name.startswith("cells")]
    assert len(cells) == 24
    for name in (*cells, "archive.csv", "champion.toml"):
        assert files(tmp_path / "grown")[name] == files(tmp_path / "whole")[name]


def test_structures_learn_each_task_with_each_seed_and_the_final_round_has_others(tmp_path, untrained):
    calls = untrained()
    result = search(tmp_path / "found", seeds_per_cell=2, final_seeds=3, seed=1)
    of_search, of_final = calls[: 8 * 2 * 2], calls[8 * 2 * 2 :]
    assert [(task, seed) for _, task, seed in of_search[:4]] == [
        (task, seed) for task in ("counting", "recall") for seed in (10_000, 10_001)
    ]
    assert {seed for _, _, seed in of_final} == {15_000, 15_001, 15_002}
    assert len(of_final) == len(result.finals) * 2 * 3


def test_the_champion_is_the_best_of_the_final_round_and_the_lstm_takes_part(tmp_path, untrained):
    untrained()
    result = search(tmp_path / "found", budget=20)
    assert result.champion.candidate.number != 0
    ranks = [sum(one.errors()) for one in result.finals]
    assert ranks == sorted(ranks)
    assert result.finals[-1].candidate.number == 0
    with (tmp_path / "found" / "archive.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["round"] for row in rows] == ["final"] * 3 + ["search"] * 20
    assert rows[0]["cell"] == str(result.champion.candidate.number)
    searched = [float(row["mean_rank"]) for row in rows[3:]]
    assert searched == sorted(searched)


def test_of_equal_structures_the_lstm_is_the_champion(tmp_path, monkeypatch):
    def alike(graph: CellGraph, task: Any, seed: int, **settings: Any) -> Fitness:
        return Fitness(loss=abs(len(graph.nodes) - 14.0), right=0.5, hidden_size=4, parameters=100)

    monkeypatch.setattr(module, "fitness", alike)
    result = search(tmp_path / "found", budget=12, finalists=4)
    assert {len(one.candidate.graph.nodes) for one in result.finals[:2]} == {14}
    assert result.champion.candidate.number == 0


def test_a_folder_of_something_else_is_refused(tmp_path, untrained):
    untrained()
    search(tmp_path / "found", budget=4)
    with pytest.raises(RunDirectoryError, match="is the search of something else: steps is 300 there and 400 here"):
        search(tmp_path / "found", budget=4, steps=400)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunDirectoryError, match=r"is no search for cells: it has no search.json"):
        search(tmp_path / "other")
    record = tmp_path / "found" / "cells" / "0002.json"
    record.write_text(record.read_text(encoding="utf-8").replace('"product"', '"sum"', 1), encoding="utf-8")
    with pytest.raises(RunDirectoryError, match=r"0002.json is of another structure than this search would try"):
        search(tmp_path / "found", budget=4)
    record.write_text("{}", encoding="utf-8")
    with pytest.raises(RunDirectoryError, match=r"0002.json is not as rlstm writes it"):
        search(tmp_path / "found", budget=4)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"tasks": ("reall",)}, UnknownNameError, "Unknown task 'reall'. Did you mean 'recall'"),
        ({"tasks": ()}, ConfigError, "name at least one"),
        ({"tasks": ("recall", "recall")}, ConfigError, "each once"),
        ({"tasks": ("rlstm/TMaze-v0",)}, ConfigError, "No step of the env asks anything"),
        ({"budget": 1}, ConfigError, "budget is 1; it must be at least 2"),
        ({"jobs": 4096}, ConfigError, "jobs is 4096, but there are"),
    ],
)
def test_what_can_not_be_searched_is_refused_before_a_folder_is_made(tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        search(tmp_path / "found", **settings)
    assert not (tmp_path / "found").exists()


def test_the_same_arguments_give_the_same_fitness_and_another_seed_another():
    settings = {"steps": 300, "units": 4, "learning_rate": 0.02}
    one, again, other = (fitness(lstm_graph(), TASKS["recall"], seed, **settings) for seed in (3, 3, 4))
    assert one == again != other
    assert (one.hidden_size, one.right is not None) == (4, True)


def test_a_cell_whose_numbers_leave_the_finite_has_failed():
    explodes = CellGraph(
        (
            Node("seen", "linear", ("x", "h"), 100.0),
            Node("last", "memory", ("out",)),
            Node("late", "memory", ("last",)),
            Node("squared", "product", ("last", "late")),
            Node("out", "sum", ("squared", "seen")),
        ),
        "out",
    )
    found = fitness(explodes, TASKS["recall"], 0, steps=300, units=4, learning_rate=0.02)
    assert (found.loss, found.right) == (None, None)


def test_cells_are_as_large_as_the_lstm_as_nearly_as_can_be():
    search, reference = StructureSearch(0, children=40), num_parameters(lstm_graph(), 6, 16)
    search.tell(search.ask(), [(1.0,)])
    for one in search.ask():
        units = hidden_size(one.graph, 6, reference)
        counts = {
            size: sum(parameter.numel() for parameter in GraphCell(6, size, graph=one.graph).parameters())
            for size in range(max(1, units - 1), units + 2)
        }
        assert counts[units] == num_parameters(one.graph, 6, units)
        gaps = {size: abs(count - reference) for size, count in counts.items()}
        assert gaps[units] == min(gaps.values())
    assert hidden_size(lstm_graph(), 6, reference) == 16


def test_processes_of_their_own_find_the_same(tmp_path):
    settings = {"tasks": ("recall",), "budget": 2, "finalists": 1}
    alone, shared = (search(tmp_path / str(jobs), jobs=jobs, **settings) for jobs in (1, 2))
    assert [one.results for one in alone.searched] == [one.results for one in shared.searched]
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_the_command_tells_what_it_found_and_where(tmp_path, untrained, capsys):
    untrained()
    words = ["search-cell", "--budget", "12", "--run-dir", str(tmp_path / "found"), "--steps", "300", "--children", "3"]
    assert main([*words, "--json", "--ui", "none"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["evaluated"] == 12
    assert read_graph(told["champion_file"]).nodes
    assert told["champion"]["mean_rank"] <= min(one["mean_rank"] for one in told["finals"])
    assert set(told["lstm"]["losses"]) == {"counting", "recall"}
    assert main(words) == 0
    said = capsys.readouterr()
    assert "The 10 best of 12 structures" in said.out
    assert f"--cell {told['champion_file']}" in " ".join(said.out.split())
    assert "cell 11 of 12" in said.err
    assert main(["search-cell", "--budget", "1"]) == 2
    assert "budget is 1; it must be at least 2." in capsys.readouterr().err


def test_a_definition_is_all_that_decides_what_is_tried():
    assert CellSearchConfig(budget=9, jobs=2, run_dir="a", finalists=5, final_seeds=7).definition() == (
        CellSearchConfig().definition()
    )
    assert CellSearchConfig(learning_rate=0.1).definition() != CellSearchConfig().definition()
