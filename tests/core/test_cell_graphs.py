"""Claims about `rlstm.core.cell_graphs` and its files: what is a graph, what is refused and why."""

from __future__ import annotations

import pytest

from rlstm.core.cell_graph_files import graph_from_table, graph_text, read_graph
from rlstm.core.cell_graphs import CellGraph, Node, lstm_graph

SEEN = Node("seen", "linear", ("x", "h"))


def minimal(*more: Node, output: str = "out", seen: Node = SEEN) -> CellGraph:
    return CellGraph((seen, Node("out", "tanh", ("seen",)), *more), output)


def test_a_file_holds_all_of_a_graph(tmp_path):
    graph = lstm_graph()
    (tmp_path / "lstm.toml").write_text(graph_text(graph, ["The LSTM."]), encoding="utf-8")
    assert read_graph(tmp_path / "lstm.toml") == graph == graph_from_table(graph.table())
    assert read_graph(tmp_path / "lstm.toml").by_name["to_forget"].bias == 1.0


def test_the_digest_is_of_what_is_computed_and_of_names():
    other = CellGraph((*lstm_graph().nodes[:-1], Node("out", "sum", ("output", "squashed"))), "out")
    assert lstm_graph().digest == lstm_graph().digest != other.digest


def test_a_node_comes_behind_those_that_it_reads():
    names = [node.name for node in lstm_graph().order]
    for node in lstm_graph().order:
        assert all(names.index(read) < names.index(node.name) for read in node.reads if read in names)
    assert "before" not in names
    assert "to_input" not in names


def test_the_state_is_the_memories_and_h_where_it_is_read():
    assert lstm_graph().state_names == ("h", "before")
    alone = CellGraph(
        (
            Node("seen", "linear", ("x",)),
            Node("last", "memory", ("out",)),
            Node("out", "sum", ("seen", "last")),
        ),
        "out",
    )
    assert alone.state_names == ("last",)
    assert alone.kept == ("out",)


CIRCLE = (Node("a", "tanh", ("b",)), Node("b", "sum", ("a", "out")))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((Node("more", "tnah", ("seen",)),), "Node 'more': Unknown op 'tnah'. Did you mean 'tanh'"),
        ((Node("more", "tanh", ("seem",)),), "Node 'more' reads 'seem': Unknown node 'seem'. Did you mean 'seen'"),
        ((Node("more", "tanh", ("seen", "out")),), "'more' is a tanh and reads 2; it must read one"),
        ((Node("more", "sum", ("seen",)),), "'more' is a sum and reads 1; it must read at least 2"),
        ((Node("more", "sum", ("seen", "seen")),), "'more' reads one of seen, seen twice"),
        ((Node("more", "linear", ("seen",)),), "'more' is linear and reads seen; it may read 'x' and 'h'"),
        ((Node("more", "tanh", ("x",)),), "reads 'x', which linear nodes alone can"),
        ((Node("more", "tanh", ("seen",), 1.0),), "'more' has bias 1.0; linear nodes alone have one"),
        ((Node("More", "tanh", ("seen",)),), "'More' can't name a node"),
        ((Node("h", "tanh", ("seen",)),), "can't be called 'h'"),
        ((Node("out", "tanh", ("seen",)),), "Two nodes are called 'out'"),
        ((Node("more", "tanh", ("seen",)),), "does not depend on more: leave out what is not read"),
        (CIRCLE, r"The nodes (a -> b -> a|b -> a -> b) read each other in a circle at one step"),
    ],
)
def test_a_node_that_makes_no_sense_is_refused_by_name(nodes, message):
    with pytest.raises(ValueError, match=message):
        minimal(*nodes)


def test_a_circle_through_a_memory_is_none():
    nodes = (SEEN, Node("a", "sum", ("seen", "last")), Node("last", "memory", ("a",)))
    assert CellGraph(nodes, "a").state_names == ("h", "last")


def test_the_output_must_be_a_node_depend_on_x_and_remember():
    with pytest.raises(ValueError, match=r"The output is 'oct': Unknown node 'oct'. Did you mean 'out'"):
        minimal(output="oct")
    with pytest.raises(ValueError, match="No path leads from x to the output 'out'"):
        minimal(seen=Node("seen", "linear", ("h",)))
    with pytest.raises(ValueError, match="Nothing is remembered"):
        minimal(seen=Node("seen", "linear", ("x",)))
    with pytest.raises(ValueError, match="No path leads from x to 'fixed', so it is always the same"):
        CellGraph((SEEN, Node("fixed", "memory", ("fixed",)), Node("out", "sum", ("seen", "fixed"))), "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('output = "out"', "a table with 'output', the name of a node, and a table 'nodes'"),
        ("output = 'out'\nwidth = 3\n[nodes]", "but not 'width'"),
        ("[nodes]", "'output' is missing"),
        ("output = 'out'\n[nodes]\nout = 'tanh'", "Node 'out' is 'tanh'; it must be a table"),
        ("output = 'out'\n[nodes]\nout = { op = 'tanh', read = ['x'] }", "Node 'out' has 'read'"),
        ("output = 'out'\n[nodes]\nout = { reads = ['x'] }", "Node 'out' has no op"),
        ("output = 'out'\n[nodes]\nout = { op = 'tanh', reads = 'x' }", "Node 'out' reads 'x'; it must be a list"),
        ("output = 'out'\n[nodes]\nout = { op = 'linear', reads = ['x'], bias = 'high' }", "bias 'high'"),
        ("output = ", "Invalid value"),
    ],
)
def test_a_file_that_holds_no_graph_is_refused_by_its_name(tmp_path, text, message):
    path = tmp_path / "found.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as refusal:
        read_graph(path)
    assert str(refusal.value).startswith(f"The cell file {path}: ")


def test_a_missing_file_is_refused_by_its_name(tmp_path):
    with pytest.raises(ValueError, match=r"Can't read the cell file .*gone.toml: No such file"):
        read_graph(tmp_path / "gone.toml")
