"""Claims about `rlstm.evolution.cell_graphs`: changes give cells that run, and equal structures are known as such."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import torch

from rlstm.cells.graph import GraphCell
from rlstm.core.cell_graph_files import graph_from_table
from rlstm.core.cell_graphs import CellGraph, Node, lstm_graph
from rlstm.evolution.cell_graphs.canonical import structure, without_copies
from rlstm.evolution.cell_graphs.mutations import MUTATIONS, multiplies_itself, mutate
from rlstm.testing import check_cell

BOTH = ("x", "h")


def walk(number: int, seed: int, length: int = 25) -> list[tuple[CellGraph, str]]:
    """Return graphs that are one change apart, beginning anew at the LSTM after some."""
    rng, graph, found = Random(seed), lstm_graph(), []
    for index in range(number):
        graph, change = mutate(lstm_graph() if index % length == 0 else graph, rng)
        found.append((graph, change))
    return found


@pytest.fixture(scope="module")
def mutants() -> list[tuple[CellGraph, str]]:
    return walk(500, seed=0)


def test_500_changes_give_valid_graphs_that_run_finite(mutants):
    torch.manual_seed(0)
    inputs, is_first = torch.randn(8, 2, 3).double(), torch.rand(8, 2) < 0.2
    for graph, _ in mutants:
        assert graph_from_table(graph.table()) == graph
        assert len(graph.nodes) <= 24
        cell = GraphCell(3, 4, graph=graph).double()
        outputs, state = cell.sequence(inputs, cell.init_state(2), is_first)
        assert all(torch.isfinite(leaf).all() for leaf in (outputs, *state)), graph


def test_every_change_is_drawn_and_changes_the_structure(mutants):
    assert {change for _, change in mutants} == set(MUTATIONS)
    previous = lstm_graph()
    for index, (graph, change) in enumerate(mutants):
        assert structure(graph) != structure(lstm_graph() if index % 25 == 0 else previous), change
        previous = graph


def test_changes_are_decided_by_the_generator():
    assert walk(30, seed=3) == walk(30, seed=3) != walk(30, seed=4)


@pytest.mark.parametrize("index", range(5, 500, 100))
def test_mutants_keep_the_contract_of_cells(mutants, index):
    check_cell(lambda inputs, hidden: GraphCell(inputs, hidden, graph=mutants[index][0]))


def test_a_graph_does_not_grow_beyond_its_limit():
    rng, graph = Random(0), lstm_graph()
    for _ in range(100):
        graph, _ = mutate(graph, rng, most_nodes=15)
        assert len(graph.nodes) <= 15


def renamed(graph: CellGraph, rng: Random) -> CellGraph:
    """Return the graph with other names, and nodes and reads in another order."""
    names = dict(zip(graph.by_name, rng.sample([f"n{number}" for number in range(99)], len(graph.nodes)), strict=True))
    nodes = [
        replace(
            node,
            name=names[node.name],
            reads=tuple(rng.sample([names.get(one, one) for one in node.reads], len(node.reads))),
        )
        for node in graph.nodes
    ]
    return CellGraph(tuple(rng.sample(nodes, len(nodes))), names[graph.output])


def test_a_structure_has_no_names_and_no_order(mutants):
    rng = Random(1)
    for graph, _ in mutants[::5]:
        assert structure(renamed(graph, rng)) == structure(graph)
    assert len({structure(graph) for graph, _ in mutants}) > 400


def crossed(*pairs: tuple[str, str]) -> CellGraph:
    """Return two linear nodes, a and b, each through a tanh and a sigmoid, and products of pairs of these."""
    nodes = [Node(name, "linear", BOTH) for name in "ab"]
    nodes += [Node(f"{op}_{name}", op, (name,)) for op in ("tanh", "sigmoid") for name in "ab"]
    nodes += [Node(f"pair{index}", "product", pair) for index, pair in enumerate(pairs)]
    return CellGraph((*nodes, Node("out", "sum", ("pair0", "pair1"))), "out")


def test_structures_differ_by_who_shares_what():
    own = crossed(("tanh_a", "sigmoid_a"), ("tanh_b", "sigmoid_b"))
    other = crossed(("tanh_a", "sigmoid_b"), ("tanh_b", "sigmoid_a"))
    assert structure(own) != structure(other)
    assert structure(other) == structure(crossed(("sigmoid_a", "tanh_b"), ("tanh_a", "sigmoid_b")))


def test_structures_differ_by_op_bias_output_and_what_is_read():
    graph = lstm_graph()
    others = [
        replace(graph, nodes=(replace(graph.nodes[0], bias=1.0), *graph.nodes[1:])),
        replace(graph, nodes=(replace(graph.nodes[0], reads=("x",)), *graph.nodes[1:])),
        replace(graph, nodes=(*graph.nodes[:-1], Node("out", "sum", ("output", "squashed")))),
        CellGraph((*graph.nodes, Node("late", "memory", ("out",)), Node("more", "sum", ("out", "late"))), "more"),
    ]
    assert len({structure(one) for one in [graph, *others]}) == 5


def test_copies_do_not_count():
    graph = lstm_graph()
    nodes = {node.name: node for node in graph.nodes}
    nodes["kept"] = replace(nodes["kept"], reads=("copy", "before"))
    nodes["copy"] = Node("copy", "identity", ("forget",))
    nodes["again"] = Node("again", "tanh", ("c",))
    nodes["out"] = replace(nodes["out"], reads=("output", "squashed", "again"))
    nodes["last"] = Node("last", "memory", ("out",))
    nodes["c"] = replace(nodes["c"], reads=("kept", "added", "last"))
    copied = without_copies(CellGraph(tuple(nodes.values()), "out"))
    assert set(copied.by_name) == {*graph.by_name, "again"}  # out reads both, and could not read one twice.
    assert copied.by_name["kept"].reads == ("forget", "before")
    assert copied.by_name["c"].reads == ("kept", "added", "h")


def test_a_memory_that_squares_itself_is_no_change_but_one_that_is_gated_is():
    seen = Node("seen", "linear", BOTH)
    last = Node("last", "memory", ("out",))
    late = Node("late", "memory", ("last",))
    squares = CellGraph(
        (seen, last, late, Node("out", "sum", ("two", "seen")), Node("two", "product", ("last", "late"))), "out"
    )
    assert multiplies_itself(squares)
    gated = CellGraph(
        (
            seen,
            last,
            Node("gate", "sigmoid", ("seen",)),
            Node("two", "product", ("last", "gate")),
            Node("out", "sum", ("two", "seen")),
        ),
        "out",
    )
    assert not multiplies_itself(gated)
    assert not multiplies_itself(lstm_graph())
