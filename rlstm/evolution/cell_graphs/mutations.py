"""Small changes of a memory cell that is a graph, each of which gives a graph that can be run.

After Bayer, Wierstra, Togelius & Schmidhuber 2009: nodes and edges are added, removed and replaced, nothing is crossed.
A change that makes no sense, or that lets a memory multiply itself, is dropped and another one is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from rlstm.core.cell_graphs import INPUT, LAST_OUTPUT, MANY_READS, CellGraph, Node, reached
from rlstm.evolution.cell_graphs.canonical import structure, without_copies

MOST_NODES = 24
"""Nodes that a graph may grow to."""

_TRIES = 1000
_INSERTED = ("tanh", "sigmoid", "memory")
_EXCHANGED = (("tanh", "sigmoid", "memory"), MANY_READS)
_OUTPUT = ""  # Stands for what reads the output node: the cell's surroundings.


class _NoSuchChangeError(Exception):
    """The graph has no place for the change that was drawn."""


class _Draft:
    """A graph that is being changed."""

    def __init__(self, graph: CellGraph) -> None:
        self.nodes = dict(graph.by_name)
        self.output = graph.output

    def add(self, op: str, *reads: str) -> str:
        """Add a node and return its name."""
        number = next(number for number in range(1, len(self.nodes) + 2) if f"{op}{number}" not in self.nodes)
        name = f"{op}{number}"
        self.nodes[name] = Node(name, op, reads)
        return name

    def edges(self) -> list[tuple[str, str]]:
        """Return who reads what, but for linear nodes, which read x and h alone."""
        edges = [(node.name, read) for node in self.nodes.values() if node.op != "linear" for read in node.reads]
        return [*edges, (_OUTPUT, self.output)]

    def redirect(self, edge: tuple[str, str], new: str) -> None:
        """Let an edge come from somewhere else."""
        reader, old = edge
        if reader == _OUTPUT:
            self.output = new
        else:
            node = self.nodes[reader]
            self.nodes[reader] = replace(node, reads=tuple(new if read == old else read for read in node.reads))

    def sources(self) -> list[str]:
        """Return what a node that is not linear can read."""
        return [*self.nodes, LAST_OUTPUT]

    def finish(self) -> CellGraph:
        """Return the graph of the nodes that the output depends on, none twice; ValueError if it is none."""
        for node in list(self.nodes.values()):
            if node.op in MANY_READS and len(node.reads) == 1:
                self.nodes[node.name] = replace(node, op="identity")
        links = {node.name: node.reads for node in self.nodes.values()} | {LAST_OUTPUT: (self.output,)}
        used = reached([self.output], links)
        return without_copies(CellGraph(tuple(node for node in self.nodes.values() if node.name in used), self.output))


def _insert(draft: _Draft, rng: Random) -> None:
    """Put a node of one read on an edge."""
    edge = rng.choice(draft.edges())
    draft.redirect(edge, draft.add(rng.choice(_INSERTED), edge[1]))


def _combine(draft: _Draft, rng: Random) -> None:
    """Put a sum or a product on an edge, with another node."""
    edge = rng.choice(draft.edges())
    draft.redirect(edge, draft.add(rng.choice(MANY_READS), edge[1], rng.choice(draft.sources())))


def _add_gate(draft: _Draft, rng: Random) -> None:
    """Multiply what runs along an edge by a new gate of x and h."""
    edge = rng.choice(draft.edges())
    gate = draft.add("sigmoid", draft.add("linear", INPUT, LAST_OUTPUT))
    draft.redirect(edge, draft.add("product", edge[1], gate))


def _add_linear(draft: _Draft, rng: Random) -> None:
    """Add a new linear node to what runs along an edge."""
    edge = rng.choice(draft.edges())
    draft.redirect(edge, draft.add("sum", edge[1], draft.add("linear", INPUT, LAST_OUTPUT)))


def _add_memory(draft: _Draft, rng: Random) -> None:
    """Join what runs along an edge with a new memory, perhaps of the sum or product itself."""
    edge = rng.choice(draft.edges())
    memory = draft.add("memory", LAST_OUTPUT)
    joint = draft.add(rng.choice(MANY_READS), edge[1], memory)
    draft.redirect((memory, LAST_OUTPUT), rng.choice([joint, *draft.nodes]))
    draft.redirect(edge, joint)


def _change_op(draft: _Draft, rng: Random) -> None:
    """Let a node compute something else of what it reads."""
    node = _choose(draft, rng, lambda node: node.op != "linear")
    ops = next((ops for ops in _EXCHANGED if node.op in ops), _EXCHANGED[0])
    changed = draft.add(rng.choice([op for op in ops if op != node.op]), *node.reads)
    for edge in draft.edges():
        if edge[1] == node.name:
            draft.redirect(edge, changed)


def _rewire(draft: _Draft, rng: Random) -> None:
    """Let an edge come from another node."""
    draft.redirect(rng.choice(draft.edges()), rng.choice(draft.sources()))


def _add_edge(draft: _Draft, rng: Random) -> None:
    """Let a sum or product read one more, or a linear node both x and h."""
    node = _choose(draft, rng, lambda node: node.op in MANY_READS or (node.op == "linear" and len(node.reads) == 1))
    if node.op == "linear":
        reads: tuple[str, ...] = (INPUT, LAST_OUTPUT)
    else:
        reads = (*node.reads, rng.choice(draft.sources()))
    draft.nodes[node.name] = replace(node, reads=reads)


def _remove_edge(draft: _Draft, rng: Random) -> None:
    """Let a node that reads several things read one less."""
    node = _choose(draft, rng, lambda node: len(node.reads) > 1)
    left = list(node.reads)
    left.remove(rng.choice(left))
    draft.nodes[node.name] = replace(node, reads=tuple(left))


def _delete(draft: _Draft, rng: Random) -> None:
    """Take a node away: those that read it read one of what it read, or one less if it was linear."""
    node = _choose(draft, rng, lambda node: True)
    del draft.nodes[node.name]
    for edge in draft.edges():
        if edge[1] != node.name:
            continue
        if node.op != "linear":
            draft.redirect(edge, rng.choice(node.reads))
        elif edge[0] != _OUTPUT:
            reader = draft.nodes[edge[0]]
            draft.nodes[reader.name] = replace(reader, reads=tuple(read for read in reader.reads if read != node.name))


MUTATIONS: dict[str, Callable[[_Draft, Random], None]] = {
    "insert": _insert,
    "combine": _combine,
    "add gate": _add_gate,
    "add linear": _add_linear,
    "add memory": _add_memory,
    "change op": _change_op,
    "rewire": _rewire,
    "add edge": _add_edge,
    "remove edge": _remove_edge,
    "delete": _delete,
}


def mutate(graph: CellGraph, rng: Random, *, most_nodes: int = MOST_NODES) -> tuple[CellGraph, str]:
    """Return a graph of another structure that is one change away, and the name of the change.

    Args:
        graph: It isn't changed.
        rng: Draws the change; in the same state it draws the same one.
        most_nodes: Nodes that it may have; larger graphs can shrink.

    Raises:
        ValueError: If no change is found.
    """
    before = structure(graph)
    for _ in range(_TRIES):
        name = rng.choice(list(MUTATIONS))
        draft = _Draft(graph)
        try:
            MUTATIONS[name](draft, rng)
            changed = draft.finish()
        except (_NoSuchChangeError, ValueError):
            continue
        fits = len(changed.nodes) <= max(most_nodes, len(graph.nodes) - 1)
        if fits and not multiplies_itself(changed) and structure(changed) != before:
            return changed, name
    raise ValueError(f"No change of the cell was found in {_TRIES} draws; let it have more than {most_nodes} nodes.")


def multiplies_itself(graph: CellGraph) -> bool:
    """Return whether a product multiplies its own earlier value by itself, with no tanh or sigmoid between.

    Its numbers could be squared at every step, which soon leaves those that a computer has.
    """
    links = {node.name: node.reads for node in graph.nodes if node.op not in ("tanh", "sigmoid")}
    links[LAST_OUTPUT] = (graph.output,)
    return any(sum(node.name in reached([read], links) for read in node.reads) > 1 for node in graph.of_op("product"))


def _choose(draft: _Draft, rng: Random, fits: Callable[[Node], bool]) -> Node:
    """Draw one of the nodes that fit."""
    nodes = [node for node in draft.nodes.values() if fits(node)]
    if not nodes:
        raise _NoSuchChangeError
    return rng.choice(nodes)
