"""Claims about `rlstm.cells.graph`: a graph computes what it says, and the LSTM as one is the LSTM."""

from __future__ import annotations

import pickle

import pytest
import torch

from rlstm.cells import make_cell
from rlstm.cells.graph import GraphCell
from rlstm.cells.lstm import LSTMCell
from rlstm.core.cell_graph_files import graph_text
from rlstm.core.cell_graphs import CellGraph, Node, lstm_graph
from rlstm.core.trees import tree_leaves
from rlstm.testing import check_cell, reset_patterns

BOTH = ("x", "h")
GRAPHS = {
    "elman": CellGraph((Node("sums", "linear", BOTH), Node("out", "tanh", ("sums",))), "out"),
    "only a memory": CellGraph(
        (
            Node("seen", "linear", ("x",)),
            Node("gate_sum", "linear", ("x",)),
            Node("gate", "sigmoid", ("gate_sum",)),
            Node("last", "memory", ("out",)),
            Node("kept", "product", ("gate", "last")),
            Node("out", "sum", ("kept", "seen")),
        ),
        "out",
    ),
    "every kind of linear node": CellGraph(
        (
            Node("from_state", "linear", ("h",), 0.5),
            Node("from_both", "linear", BOTH),
            Node("from_input", "linear", ("x",), -0.5),
            Node("mixed", "product", ("from_state", "from_both", "from_input")),
            Node("plain", "identity", ("mixed",)),
            Node("earlier", "memory", ("plain",)),
            Node("earliest", "memory", ("earlier",)),
            Node("held", "tanh", ("sums",)),
            Node("sums", "sum", ("earliest", "from_both", "h")),
        ),
        "held",
    ),
    "two steps late": CellGraph(
        (Node("sums", "linear", BOTH), Node("late", "memory", ("sums",)), Node("out", "memory", ("late",))), "out"
    ),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_keeps_the_contract_of_cells(name):
    check_cell(lambda inputs, hidden: GraphCell(inputs, hidden, graph=GRAPHS[name]))


def copied_lstm() -> tuple[GraphCell, LSTMCell]:
    graph, lstm = GraphCell(4, 5).double(), LSTMCell(4, 5).double()
    with torch.no_grad():
        lstm.bias_ih.add_(torch.randn_like(lstm.bias_ih))
        graph.weight_ih.copy_(lstm.weight_ih)
        graph.weight_hh.copy_(lstm.weight_hh)
        graph.bias.copy_(lstm.bias_ih + lstm.bias_hh)
    return graph, lstm


@pytest.mark.parametrize(("pattern", "is_first"), list(reset_patterns(7, 3)))
def test_the_lstm_as_a_graph_is_the_lstm(pattern, is_first):
    graph, lstm = copied_lstm()
    inputs, weights = torch.randn(7, 3, 4).double(), torch.randn(7, 3, 5).double()
    leaves, found = [torch.randn(3, 5).double() for _ in "hc"], {}
    for name, cell in (("graph", graph), ("lstm", lstm)):
        read = inputs.clone().requires_grad_()
        state = type(cell.init_state(3))(*(leaf.clone().requires_grad_() for leaf in leaves))
        outputs, after = cell.sequence(read, state, is_first)
        sources = [read, *state, cell.weight_ih, cell.weight_hh, cell.bias if name == "graph" else cell.bias_ih]
        loss = (outputs * weights).sum() + sum((leaf * weights[0]).sum() for leaf in after)
        grads = torch.autograd.grad(loss, sources, allow_unused=True, materialize_grads=True)
        found[name] = [outputs, *after, *grads]
    for got, expected in zip(found["graph"], found["lstm"], strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_the_lstm_as_a_graph_begins_like_the_lstm():
    torch.manual_seed(3)
    graph = GraphCell(4, 5)
    torch.manual_seed(3)
    lstm = LSTMCell(4, 5)
    for got, expected in (
        (graph.weight_ih, lstm.weight_ih),
        (graph.weight_hh, lstm.weight_hh),
        (graph.bias, lstm.bias_ih),
    ):
        assert torch.equal(got, expected)


def test_gates_are_the_sigmoid_nodes():
    graph, lstm = copied_lstm()
    inputs, leaves = torch.randn(3, 4).double(), torch.randn(2, 3, 5).double()
    gates = graph.gates(inputs, graph.state_type(*leaves))
    expected = lstm.gates(inputs, lstm.state_type(*leaves))
    assert set(gates) == {"input", "forget", "output"}
    for name, gate in gates.items():
        torch.testing.assert_close(gate, expected[name], rtol=0, atol=1e-12)


def test_a_memory_is_the_value_of_the_step_before_and_0_at_first():
    cell = GraphCell(2, 3, graph=GRAPHS["two steps late"])
    inputs, is_first = torch.randn(5, 1, 2), torch.zeros(5, 1, dtype=torch.bool)
    outputs, _ = cell.sequence(inputs, cell.init_state(1), is_first)
    assert torch.equal(outputs[:2], torch.zeros(2, 1, 3))
    for t in range(2, 5):
        expected = inputs[t - 2] @ cell.weight_ih.t() + outputs[max(t - 3, 0)] @ cell.weight_hh.t() + cell.bias
        torch.testing.assert_close(outputs[t], expected)


def test_parameters_are_of_what_linear_nodes_read_alone():
    cell = GraphCell(2, 3, graph=GRAPHS["every kind of linear node"])
    shapes = {name: tuple(value.shape) for name, value in cell.named_parameters()}
    assert shapes == {"weight_ih": (6, 2), "weight_hh": (6, 3), "bias": (9,)}
    assert cell.bias.tolist() == [-0.5] * 3 + [0.0] * 3 + [0.5] * 3  # Those of x, of both, of h.
    assert set(dict(GraphCell(2, 3, graph=GRAPHS["only a memory"]).named_parameters())) == {"weight_ih", "bias"}


def test_a_state_can_be_pickled_with_its_names():
    cell = GraphCell(2, 3, graph=GRAPHS["every kind of linear node"])
    state = cell.init_state(2)
    again = pickle.loads(pickle.dumps(state))
    assert again._fields == ("h", "earlier", "earliest") == state._fields
    assert all(map(torch.equal, tree_leaves(again), tree_leaves(state)))
    assert pickle.loads(pickle.dumps(cell)).graph == cell.graph


def test_a_memory_length_is_refused():
    with pytest.raises(ValueError, match="memory_length is 10, but a graph doesn't say which of its nodes keep"):
        GraphCell(2, 3, memory_length=10)


def test_make_cell_takes_a_file(tmp_path):
    path = tmp_path / "found.toml"
    path.write_text(graph_text(GRAPHS["only a memory"]), encoding="utf-8")
    cell = make_cell(path, 2, 3, num_layers=2)
    assert [layer.graph for layer in cell.layers] == [GRAPHS["only a memory"]] * 2
    assert make_cell("graph", 2, 3).graph == lstm_graph()
    with pytest.raises(ValueError, match=r"Can't read the cell file .*: No such file"):
        make_cell(str(tmp_path / "other.toml"), 2, 3)
