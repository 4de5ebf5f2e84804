"""Memory cells as graphs: a description that is checked. Free of torch.

After Bayer, Wierstra, Togelius & Schmidhuber 2009, *Evolving memory cell structures for sequence learning*. A cell of H
units is a graph of nodes, each a vector ``(H,)``, and all nodes but the linear ones act unit by unit::

    linear      W x + R h̄ + b, or one of the two products alone; x and h̄ are read by linear nodes as "x" and "h"
    sum, product        of two or more nodes
    tanh, sigmoid, identity        of one
    memory      of one: its value at the step before, 0 after a reset

h̄ is the value of the output node at the step before, 0 after a reset; every node may read it, x the linear ones alone.
"""

from __future__ import annotations

import graphlib
import hashlib
import json
import keyword
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlstm.core.errors import unknown_name

INPUT, LAST_OUTPUT = "x", "h"
"""What nodes read that is no node: the inputs of the step, and the output of the step before."""

ONE_READ = ("tanh", "sigmoid", "identity", "memory")
MANY_READS = ("sum", "product")
OPS = ("linear", *MANY_READS, *ONE_READ)


@dataclass(frozen=True)
class Node:
    """One node of a cell."""

    name: str
    """A lower-case word, for the file, the picture and the parts of the state."""

    op: str
    """What it computes, one of ``OPS``."""

    reads: tuple[str, ...]
    """What it computes that of: nodes, "h" and, for a linear one, "x"."""

    bias: float = 0.0
    """What the bias of a linear node begins with; 1 keeps a forget gate open."""


@dataclass(frozen=True)
class CellGraph:
    """A memory cell as a graph; one that makes no sense can't be made.

    Raises:
        ValueError: If there is no such op, node or output; nodes read each other in a circle without a memory in it;
            the output depends on no input or keeps nothing; or a node does nothing.
    """

    nodes: tuple[Node, ...]
    output: str

    def __post_init__(self) -> None:
        """Check it."""
        for node in self.nodes:
            _check_node(node)
        _check_names(self)
        _check_circles(self)
        _check_use(self)

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The nodes by their names."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def order(self) -> tuple[Node, ...]:
        """The nodes that a step computes after its products, each behind those that it reads."""
        sorter = graphlib.TopologicalSorter(_present_reads(self))
        known = {node.name for node in self.of_op("linear", "memory")}
        # Sorted by themselves among equals, so that it is the same order in every process.
        ready: list[str] = []
        sorter.prepare()
        while sorter.is_active():
            layer = sorted(sorter.get_ready())
            ready += layer
            sorter.done(*layer)
        return tuple(self.by_name[name] for name in ready if name not in known)

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """What is carried to the next step: the output if it is read as "h", and what the memories read."""
        return (*([self.output] if self.reads_last_output else []), *(node.reads[0] for node in self.of_op("memory")))

    @property
    def reads_last_output(self) -> bool:
        """Whether a node reads "h"."""
        return any(LAST_OUTPUT in node.reads for node in self.nodes)

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """What is carried from step to step: "h" if it is read, and the memories."""
        return (*([LAST_OUTPUT] if self.reads_last_output else []), *(node.name for node in self.of_op("memory")))

    def of_op(self, *ops: str) -> Iterator[Node]:
        """Yield the nodes of some ops."""
        return (node for node in self.nodes if node.op in ops)

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that read a node, "x" or "h"."""
        return [node for node in self.nodes if name in node.reads]

    def table(self) -> dict[str, Any]:
        """Return it as plain values, for ``rlstm.core.cell_graph_files.graph_from_table``."""
        nodes: dict[str, dict[str, Any]] = {}
        for node in self.nodes:
            nodes[node.name] = {"op": node.op, "reads": list(node.reads)} | ({"bias": node.bias} if node.bias else {})
        return {"output": self.output, "nodes": nodes}

    @property
    def digest(self) -> str:
        """A hash of all of it, names too."""
        return hashlib.sha256(json.dumps(self.table()).encode()).hexdigest()[:12]


def _check_node(node: Node) -> None:
    """Refuse a node that could stand in no graph."""
    if not re.fullmatch("[a-z][a-z0-9_]*", node.name) or keyword.iskeyword(node.name):
        raise ValueError(f"'{node.name}' can't name a node: use a word of small letters, digits and underscores.")
    if node.name in (INPUT, LAST_OUTPUT):
        raise ValueError(
            f"A node can't be called '{node.name}': that is what the inputs or the last output are called."
        )
    if node.op not in OPS:
        raise ValueError(f"Node '{node.name}': {unknown_name('op', node.op, OPS)}")
    least = 2 if node.op in MANY_READS else 1
    if len(node.reads) < least or (node.op in ONE_READ and len(node.reads) > 1):
        wanted = "one" if node.op in ONE_READ else f"at least {least}"
        raise ValueError(f"Node '{node.name}' is a {node.op} and reads {len(node.reads)}; it must read {wanted}.")
    if len(set(node.reads)) < len(node.reads):
        raise ValueError(f"Node '{node.name}' reads one of {', '.join(node.reads)} twice; name each once.")
    if node.op == "linear" and not {INPUT, LAST_OUTPUT}.issuperset(node.reads):
        raise ValueError(f"Node '{node.name}' is linear and reads {', '.join(node.reads)}; it may read 'x' and 'h'.")
    if node.op != "linear" and INPUT in node.reads:
        raise ValueError(
            f"Node '{node.name}' is a {node.op} and reads 'x', which linear nodes alone can: put one between."
        )
    if not math.isfinite(node.bias) or (node.bias and node.op != "linear"):
        raise ValueError(f"Node '{node.name}' has bias {node.bias}; linear nodes alone have one, a finite number.")


def _check_names(graph: CellGraph) -> None:
    """Refuse names that occur twice, and those of no node."""
    names = [node.name for node in graph.nodes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two nodes are called '{name}'; names must differ.")
    if graph.output not in names:
        raise ValueError(f"The output is '{graph.output}': {unknown_name('node', graph.output, names)}")
    for node in graph.nodes:
        for read in node.reads:
            if read not in (*names, INPUT, LAST_OUTPUT):
                raise ValueError(f"Node '{node.name}' reads '{read}': {unknown_name('node', read, names)}")


def _present_reads(graph: CellGraph) -> dict[str, list[str]]:
    """Return for each node the nodes that it reads at the same step."""
    nodes = {node.name for node in graph.nodes}
    return {
        node.name: [] if node.op == "memory" else [read for read in node.reads if read in nodes] for node in graph.nodes
    }


def _check_circles(graph: CellGraph) -> None:
    """Refuse nodes that need each other's value at the same step."""
    try:
        graphlib.TopologicalSorter(_present_reads(graph)).prepare()
    except graphlib.CycleError as error:
        circle = " -> ".join(error.args[1])
        raise ValueError(
            f"The nodes {circle} read each other in a circle at one step: put a memory between two of them."
        ) from None


def _check_use(graph: CellGraph) -> None:
    """Refuse a graph that reads or keeps nothing, and nodes that change nothing."""
    reads = {node.name: node.reads for node in graph.nodes} | {LAST_OUTPUT: (graph.output,), INPUT: ()}
    if INPUT not in reached([graph.output], reads):
        raise ValueError(f"No path leads from x to the output '{graph.output}': a linear node must read 'x'.")
    idle = sorted(set(graph.by_name) - reached([graph.output], reads))
    if idle:
        raise ValueError(
            f"The output '{graph.output}' does not depend on {', '.join(idle)}: leave out what is not read."
        )
    for name in graph.by_name:
        if INPUT not in reached([name], reads):
            raise ValueError(f"No path leads from x to '{name}', so it is always the same: leave it out.")
    if not graph.state_names:
        raise ValueError("Nothing is remembered: let a node read 'h' or a memory; 'none' is the cell without a memory.")


def reached(start: Iterable[str], links: Mapping[str, Sequence[str]]) -> set[str]:
    """Return what can be reached from some names along the links, themselves included."""
    found: set[str] = set()
    ahead = list(start)
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += links.get(name, ())
    return found


def lstm_graph() -> CellGraph:
    """Return the LSTM with forget gate; its linear nodes have the order of ``torch.nn.LSTMCell``."""
    both = (INPUT, LAST_OUTPUT)
    linear = [Node(name, "linear", both, bias) for name, bias in (("to_input", 0.0), ("to_forget", 1.0))]
    linear += [Node(name, "linear", both) for name in ("to_candidate", "to_output")]
    return CellGraph(
        (
            *linear,
            *(Node(name, "sigmoid", (f"to_{name}",)) for name in ("input", "forget", "output")),
            Node("candidate", "tanh", ("to_candidate",)),
            Node("before", "memory", ("c",)),
            Node("kept", "product", ("forget", "before")),
            Node("added", "product", ("input", "candidate")),
            Node("c", "sum", ("kept", "added")),
            Node("squashed", "tanh", ("c",)),
            Node("out", "product", ("output", "squashed")),
        ),
        "out",
    )
