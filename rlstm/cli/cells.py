"""``rlstm cells``: the memory cells, their size, and how they run over a sequence.

What it says is read from ``cells.json``, which ``python -m scripts.list_cells`` writes from the cells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rlstm.cli.answers import Answer, UsageError
from rlstm.cli.parsing import JsonFlags, named, parse
from rlstm.cli.tables import table
from rlstm.core.number_text import number

_LIST = Path(__file__).with_name("cells.json")


@dataclass(frozen=True, kw_only=True)
class CellsFlags(JsonFlags):
    """List the memory cells for --cell, or draw one that is a file."""

    draw: Annotated[str | None, named("FILE.toml")] = None
    """Draw the cell that is described by this file, instead of listing cells; graph for the LSTM as one."""

    out: Annotated[str | None, named("FILE.svg")] = None
    """The picture. Default: beside the file, under its name."""


def run(words: list[str]) -> Answer:
    """Describe every cell at one size, or draw one.

    Raises:
        UsageError: If the file holds no cell, or there is nothing to write.
    """
    flags = parse(CellsFlags, words, "cells")
    if flags.draw is not None:
        return _draw(flags.draw, flags.out)
    if flags.out is not None:
        raise UsageError(f"--out is {flags.out}, but nothing is drawn: name a cell with --draw FILE.toml.")
    values: dict[str, Any] = json.loads(_LIST.read_text(encoding="utf-8"))
    rows = [
        (
            cell["name"],
            number(cell["parameters"]),
            number(cell["state_size"]),
            _paths(cell["sequence_path"]),
            ", ".join(cell["sequences"]),
            cell["source"],
        )
        for cell in values["cells"]
    ]
    header = ("cell", "parameters", "state", "sequence", "--sequence", "source")
    text = table(header, rows, wrapped=("sequence", "source"))
    inputs, hidden = values["input_size"], values["hidden_size"]
    foot = f"Parameters, and numbers of state in each env, with {inputs} inputs and --hidden-size {hidden}."
    return Answer(f"{text}\n\n{foot}", values)


def _draw(file: str, out: str | None) -> Answer:
    """Write the picture of a cell."""
    from rlstm.api.cell_pictures import write_picture
    from rlstm.core.cell_graph_files import read_graph
    from rlstm.core.cell_graphs import lstm_graph

    try:
        graph = lstm_graph() if file == "graph" else read_graph(file)
    except ValueError as error:
        raise UsageError(str(error)) from error
    path = Path(file).with_suffix(".svg") if out is None else Path(out)
    write_picture(graph, path, Path(file).stem)
    linear = len(list(graph.of_op("linear")))
    facts = {"cell": file, "nodes": len(graph.nodes), "linear": linear, "state": list(graph.state_names)}
    return Answer(f"{path}: {len(graph.nodes)} nodes, {linear} of them linear", {**facts, "out": str(path)})


def _paths(by_device: Mapping[str, str]) -> str:
    """Return the path of ``auto``, by device where they differ."""
    if len(set(by_device.values())) == 1:
        return next(iter(by_device.values()))
    return "; ".join(f"{device}: {path}" for device, path in by_device.items())
