"""Cells as graphs as plain tables and as TOML files. Free of torch.

A file names the output and holds one line a node, in any order::

    output = "out"

    [nodes]
    sums = { op = "linear", reads = ["x", "h"] }
    out = { op = "tanh", reads = ["sums"] }
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlstm.core.cell_graphs import OPS, CellGraph, Node

SUFFIX = ".toml"
"""How the name of a cell ends that is a file."""


def graph_from_table(table: Any) -> CellGraph:
    """Return the graph that ``CellGraph.table`` gave, or that a file holds.

    Raises:
        ValueError: If it holds something else; and as ``CellGraph``.
    """
    if not isinstance(table, Mapping) or not isinstance(table.get("nodes"), Mapping):
        raise ValueError("A cell as a graph is a table with 'output', the name of a node, and a table 'nodes'.")
    if unknown := sorted(set(table) - {"output", "nodes"}):
        raise ValueError(f"A cell as a graph has 'output' and 'nodes', but not '{unknown[0]}': leave it out.")
    nodes = tuple(_read_node(str(name), value) for name, value in table["nodes"].items())
    if not isinstance(table.get("output"), str):
        raise ValueError("'output' is missing or no text: name the node that the cell puts out.")
    return CellGraph(nodes, table["output"])


def _read_node(name: str, value: Any) -> Node:
    """Return a node from a table of it."""
    if not isinstance(value, Mapping):
        raise ValueError(f'Node \'{name}\' is {value!r}; it must be a table like {{ op = "tanh", reads = ["c"] }}.')
    if unknown := sorted(set(value) - {"op", "reads", "bias"}):
        raise ValueError(f"Node '{name}' has '{unknown[0]}'; a node has 'op', 'reads' and, if it is linear, 'bias'.")
    op, reads, bias = value.get("op"), value.get("reads"), value.get("bias", 0.0)
    if not isinstance(op, str):
        raise ValueError(f"Node '{name}' has no op: give one of {', '.join(OPS)}.")
    if not isinstance(reads, (list, tuple)) or not all(isinstance(read, str) for read in reads):
        raise ValueError(f"Node '{name}' reads {reads!r}; it must be a list of names.")
    if isinstance(bias, bool) or not isinstance(bias, (int, float)):
        raise ValueError(f"Node '{name}' has bias {bias!r}; it must be a number.")
    return Node(name, op, tuple(reads), float(bias))


def read_graph(path: str | os.PathLike[str]) -> CellGraph:
    """Read a graph from a TOML file.

    Raises:
        ValueError: If there is no such file, or it holds no graph; the message names the file.
    """
    try:
        return graph_from_table(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"Can't read the cell file {os.fspath(path)}: {error.strerror or error}.") from error
    except ValueError as error:  # Of TOML and of the encoding too.
        raise ValueError(f"The cell file {os.fspath(path)}: {error}") from error


def cell_of_file(name: str | os.PathLike[str], options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a cell's name and its options: where the name is that of a file, "graph" with what the file holds.

    Raises:
        ValueError: As ``read_graph``.
    """
    name = os.fspath(name)
    if not name.endswith(SUFFIX):
        return name, dict(options)
    return "graph", {**options, "graph": read_graph(name).table()}


def graph_text(graph: CellGraph, remarks: Sequence[str] = ()) -> str:
    """Return a graph as the text of a TOML file, with remarks at its head; ``read_graph`` reads it."""
    lines = [*(f"# {remark}" for remark in remarks), f'output = "{graph.output}"', "", "[nodes]"]
    for node in graph.nodes:
        reads = ", ".join(f'"{read}"' for read in node.reads)
        bias = f", bias = {node.bias!r}" if node.bias else ""
        lines.append(f'{node.name} = {{ op = "{node.op}", reads = [{reads}]{bias} }}')
    return "\n".join(lines) + "\n"
