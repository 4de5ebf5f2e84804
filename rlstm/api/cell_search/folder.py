"""The folder of a search for cells: what is searched, a file for every structure that was tried, and what came of it.

``search.json`` tells what is searched; ``cells/N.json`` and ``final/N.json`` hold how well structure N learnt, in the
search and once more in the final round, and ``cells/N.toml`` the structure; ``archive.csv`` is the table of both
rounds, ``champion.toml`` and ``champion.svg`` are the best cell and its picture.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlstm.api.cell_pictures import draw_cell
from rlstm.api.cell_search.fitness import Fitness
from rlstm.api.cell_search.plan import CellSearchConfig
from rlstm.core.cell_graph_files import graph_from_table, graph_text
from rlstm.core.cell_graphs import CellGraph
from rlstm.core.files import read_json, write_atomically, write_json
from rlstm.core.version import __version__
from rlstm.evolution.cell_graphs.canonical import structure
from rlstm.evolution.cell_graphs.search import Candidate, mean_ranks, ranking
from rlstm.training.new_folder import default_run_directory
from rlstm.training.run_directory import RunDirectoryError, disk_errors

Round = Literal["cells", "final"]
_FILE = "search.json"


@dataclass(frozen=True)
class Record:
    """A structure that was tried, and how well it learnt each task with each seed."""

    candidate: Candidate
    results: Mapping[str, Sequence[Fitness]]

    def errors(self) -> list[float]:
        """Return the mean loss on each task; infinite if a training failed."""
        return [_mean([one.loss for one in results], math.inf) for results in self.results.values()]

    def right(self) -> list[float | None]:
        """Return the mean share of right answers on each task; None where answers are numbers, or a training failed."""
        shares = [_mean([one.right for one in results], math.nan) for results in self.results.values()]
        return [None if math.isnan(share) else share for share in shares]


def ranked(records: Sequence[Record]) -> list[tuple[Record, float]]:
    """Return records from the best to the worst, each with its mean rank."""
    errors = [record.errors() for record in records]
    ranks = mean_ranks(errors)
    return [(records[i], ranks[i]) for i in ranking(errors, [len(one.candidate.graph.nodes) for one in records])]


class CellSearchFolder:
    """The files of a search."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, config: CellSearchConfig) -> CellSearchFolder:
        """Make the folder of a search, or go on with the one that it holds.

        Raises:
            RunDirectoryError: If it holds something else, another search, or can't be written.
        """
        if config.run_dir is None:
            path = default_run_directory("runs", "search-cell", "-".join(config.tasks), config.seed)
        else:
            path = Path(config.run_dir)
        with disk_errors(path):
            if path.is_dir() and not (path / _FILE).is_file() and any(path.iterdir()):
                raise RunDirectoryError(f"{path} is no search for cells: it has no {_FILE}. Name a new folder.")
            for name in ("cells", "final"):
                (path / name).mkdir(parents=True, exist_ok=True)
            if not (path / _FILE).exists():
                write_json(path / _FILE, {"definition": config.definition(), "version": __version__})
        _check_same(path, config)
        return cls(path)

    def read(self, which: Round, candidate: Candidate) -> Record | None:
        """Return what is known of a structure in a round, None if it is still to be tried.

        Raises:
            RunDirectoryError: If the file is damaged, or of another structure.
        """
        path = self.path / which / f"{candidate.number:04}.json"
        if not path.exists():
            return None
        values = read_json(path)
        try:
            graph = graph_from_table(values["graph"])
            results = {task: [Fitness(**one) for one in found] for task, found in values["results"].items()}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise RunDirectoryError(
                f"{path} is not as rlstm writes it: {error!r}. Without it, its cell is tried anew."
            ) from error
        if graph != candidate.graph:
            raise RunDirectoryError(
                f"{path} is of another structure than this search would try: it was written by another version or "
                "edited. Begin a new search in another folder."
            )
        return Record(candidate, results)

    def write(self, which: Round, record: Record) -> None:
        """Write how well a structure learnt, whole or not at all."""
        one, path = record.candidate, self.path / which / f"{record.candidate.number:04}.json"
        values = {
            "number": one.number,
            "structure": structure(one.graph),
            "parent": one.parent,
            "changes": one.changes,
            "graph": one.graph.table(),
            "results": record.results,
        }
        with disk_errors(self.path):
            if which == "cells":
                write_atomically(path.with_suffix(".toml"), graph_text(one.graph, [_origin(one)]).encode())
            write_json(path, values)

    def write_table(self, searched: Sequence[Record], finals: Sequence[Record] = ()) -> None:
        """Write the table of all records, the best first; those of the final round before those of the search."""
        rows = [*_rows("final", finals), *_rows("search", searched)]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with disk_errors(self.path):
            write_atomically(self.path / "archive.csv", text.getvalue().encode())

    def write_champion(self, record: Record, tasks: Sequence[str]) -> tuple[Path, Path]:
        """Write the best cell and its picture; returns where."""
        losses = ", ".join(f"{task} {loss:.4g}" for task, loss in zip(tasks, record.errors(), strict=True))
        remarks = [
            f"Found by rlstm search-cell (rlstm {__version__}).",
            _origin(record.candidate),
            f"Mean loss in the final round: {losses}.",
            "Use: rlstm train AGENT --env ID --cell THIS_FILE",
        ]
        graph = record.candidate.graph
        file, picture = self.path / "champion.toml", self.path / "champion.svg"
        with disk_errors(self.path):
            write_atomically(file, graph_text(graph, remarks).encode())
            write_atomically(picture, draw_cell(graph, f"cell {record.candidate.number}").encode())
        return file, picture


def _check_same(path: Path, config: CellSearchConfig) -> None:
    """Refuse a folder of another search."""
    theirs, ours = read_json(path / _FILE).get("definition", {}), config.definition()
    told = [
        f"{name} is {theirs.get(name)} there and {ours[name]} here" for name in ours if theirs.get(name) != ours[name]
    ]
    if told:
        raise RunDirectoryError(f"{path} is the search of something else: {'; '.join(told)}. Name another folder.")


def _rows(which: str, records: Sequence[Record]) -> list[dict[str, Any]]:
    rows = []
    for place, (record, rank) in enumerate(ranked(records), 1):
        one = record.candidate
        row: dict[str, Any] = {"round": which, "place": place, "cell": one.number, "mean_rank": f"{rank:.6g}"}
        row |= {"nodes": len(one.graph.nodes), "linear": len(list(one.graph.of_op("linear")))}
        for task, loss, right in zip(record.results, record.errors(), record.right(), strict=True):
            row |= {f"{task} loss": repr(loss), f"{task} right": "" if right is None else repr(right)}
            row |= {f"{task} units": record.results[task][0].hidden_size}
        row |= {"parent": "" if one.parent is None else one.parent, "changes": ", ".join(one.changes)}
        rows.append({**row, "structure": structure(one.graph)})
    return rows


def _origin(one: Candidate) -> str:
    if one.parent is None:
        return f"Cell {one.number}: the LSTM."
    return f"Cell {one.number}: cell {one.parent} with {', '.join(one.changes)}."


def _mean(values: Sequence[float | None], default: float) -> float:
    """Return the mean, or the default if there is no value or one is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else default


def cell_facts(graph: CellGraph) -> str:
    """Return the size of a cell in words."""
    linear = len(list(graph.of_op("linear")))
    return f"{len(graph.nodes)} nodes, {linear} of them linear; state {', '.join(graph.state_names)}"
