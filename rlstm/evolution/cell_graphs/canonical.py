"""Graphs that compute the same by the same structure, whatever their nodes are called and in whatever order they stand.

Nodes are told apart by what they read and by what reads them, again and again until that tells nothing new (colour
refinement); among nodes that are still alike, each is tried as the first, and the least form is the canonical one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rlstm.core.cell_graphs import INPUT, LAST_OUTPUT, CellGraph, Node

_MOST_FORMS = 200  # That are tried; with more, equal graphs may be taken for different ones, never otherwise.

Colours = dict[str, int]


def structure(graph: CellGraph) -> str:
    """Return a short hash, the same for two graphs of one structure.

    Nodes that copy another one don't count, see ``without_copies``.
    """
    form = _least_form(without_copies(graph), None, [_MOST_FORMS])
    return hashlib.sha256(json.dumps(form).encode()).hexdigest()[:12]


def without_copies(graph: CellGraph) -> CellGraph:
    """Return the graph without nodes whose value others have too, as far as nodes can read those instead.

    An identity is what it reads, a memory of the output is "h", and nodes without weights that compute the same of the
    same are one.
    """
    for node, copied in _copies(graph):
        nodes = [_reading(one, node.name, copied) for one in graph.nodes if one is not node]
        output = copied if graph.output == node.name else graph.output
        try:
            return without_copies(CellGraph(tuple(nodes), output))
        except ValueError:  # A node that reads both the copy and what it copies needs the two.
            continue
    return graph


def _copies(graph: CellGraph) -> Iterator[tuple[Node, str]]:
    """Yield the nodes whose value something else has, and what."""
    same: dict[Any, str] = {}
    for node in graph.nodes:
        if node.op == "identity":
            yield node, node.reads[0]
        elif node.op == "memory" and node.reads == (graph.output,):
            yield node, LAST_OUTPUT
        elif node.op != "linear":
            kept = same.setdefault((node.op, frozenset(node.reads)), node.name)
            if kept != node.name:
                yield node, kept


def _reading(node: Node, old: str, new: str) -> Node:
    """Return the node, reading something else instead of ``old``."""
    return replace(node, reads=tuple(new if read == old else read for read in node.reads))


def _least_form(graph: CellGraph, colours: Colours | None, left: list[int]) -> list[Any]:
    """Return the least of the forms of a graph; ``left`` counts how many more may be tried."""
    colours = _refine(graph, colours)
    alike = _alike(graph, colours)
    if not alike:
        left[0] -= 1
        return _form(graph, colours)
    forms: list[list[Any]] = []
    for name in alike:
        if forms and left[0] <= 0:
            break
        first = {other: 2 * colour + (other != name) for other, colour in colours.items()}
        forms.append(_least_form(graph, first, left))
    return min(forms, key=json.dumps)


def _refine(graph: CellGraph, colours: Colours | None) -> Colours:
    """Return colours of the nodes that are equal only for nodes with the same surroundings, as far as those tell."""
    marks: dict[str, Any] = {
        node.name: (
            colours[node.name] if colours else 0,
            (node.op, node.bias, node.name == graph.output, INPUT in node.reads, LAST_OUTPUT in node.reads),
        )
        for node in graph.nodes
    }
    readers = {node.name: [one.name for one in graph.readers(node.name)] for node in graph.nodes}
    count = 0
    while True:
        ranks = {mark: rank for rank, mark in enumerate(sorted(set(marks.values())))}
        found = {name: ranks[mark] for name, mark in marks.items()}
        if len(ranks) == count:
            return found
        count = len(ranks)
        marks = {
            node.name: (
                found[node.name],
                tuple(sorted(found[read] for read in node.reads if read in found)),
                tuple(sorted(found[reader] for reader in readers[node.name])),
            )
            for node in graph.nodes
        }


def _alike(graph: CellGraph, colours: Colours) -> list[str]:
    """Return the nodes of the first colour that several have; of those that could change places one alone."""
    names = sorted(colours, key=lambda name: colours[name])
    for colour in sorted(set(colours.values())):
        same = [name for name in names if colours[name] == colour]
        if len(same) > 1:
            seen: dict[Any, str] = {}
            for name in same:
                readers = frozenset(reader.name for reader in graph.readers(name))
                seen.setdefault((frozenset(graph.by_name[name].reads), readers), name)
            return list(seen.values())
    return []


def _form(graph: CellGraph, colours: Colours) -> list[Any]:
    """Return the graph as plain values, every node by its colour."""
    nodes = sorted(graph.nodes, key=lambda node: colours[node.name])
    rows = [[node.op, node.bias, sorted(str(colours.get(read, read)) for read in node.reads)] for node in nodes]
    return [rows, colours[graph.output]]
