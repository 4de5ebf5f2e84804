"""Claims about `RecurrentCell.gates`: the openings are those of the step, for every cell that has gates."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.functional import jacobian

from rlstm.cells import CELLS, make_cell
from tests import kit

ROWS, INPUT, HIDDEN = 3, 4, 6
WITHOUT = {"elman", "none"}
FORGETS_NOTHING = {"lstm_1997"}


def cell_and_state(name, **options):
    torch.manual_seed(0)
    extra = {"map_shape": (2, 3, 4)} if CELLS[name].reads_maps else {}
    width = 24 if extra else INPUT
    cell = make_cell(name, width, HIDDEN, options={**extra, **options.pop("options", {})}, **options).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        state = cell.init_state(ROWS)
        for _ in range(3):
            _, state = cell.step(torch.randn(ROWS, width).double(), state)
    return cell, torch.randn(ROWS, width).double(), state


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_gates_open_from_0_to_1_and_every_cell_with_gates_has_them(name, num_layers):
    cell, inputs, state = cell_and_state(name, num_layers=num_layers)
    gates = cell.gates(inputs, state)
    assert bool(gates) is (name not in WITHOUT)
    for gate in gates.values():
        assert gate.dim() == 2
        assert len(gate) == ROWS
        assert ((gate > 0) & (gate < 1)).all()
        assert gate.std() > 0
    if gates and name not in FORGETS_NOTHING:
        assert any(one.split(".")[-1] == "forget" for one in gates)
    if num_layers == 2 and gates and name != "xlstm":
        assert {one.split(".")[0] for one in gates} == {"layer0", "layer1"}


@pytest.mark.parametrize("name", ["lstm", "time_aware_lstm"])
def test_an_open_forget_gate_is_what_the_memory_is_multiplied_by(name):
    """The derivative of c by c̄ where the gates don't see it; with time 0 nothing has aged."""
    cell, inputs, state = cell_and_state(name)
    inputs[:, -1] = 0.0
    by_c = jacobian(lambda c: cell.step(inputs, state._replace(c=c))[1].c.sum(0), state.c)
    diagonal = torch.stack([by_c[unit, :, unit] for unit in range(HIDDEN)], 1)
    torch.testing.assert_close(cell.gates(inputs, state)["forget"], diagonal)


def enters_candidate(cell, values, side):
    """Return what enters the candidate of an ``ln_gru`` from the input, ``ih``, or from the state, ``hh``."""
    weight, gain, bias = (getattr(cell, f"{part}_{side}")[2 * HIDDEN :] for part in ("weight", "gain", "bias"))
    return torch.nn.functional.layer_norm(values @ weight.t(), (HIDDEN,), gain, bias)


def rebuilt(name, cell, gates, inputs, state, after):
    """Return pairs that must be equal: what the gates say of the step, and what the step did."""
    if name in ("lstm", "peephole_lstm", "peephole_lstm_c"):
        yield gates["output"] * torch.tanh(after.c), cell.step(inputs, state)[0]
        weight, bias = cell.weight_ih, getattr(cell, "bias_ih", getattr(cell, "bias", None))
        rows = slice(3 * HIDDEN, None) if name == "peephole_lstm_c" else slice(2 * HIDDEN, 3 * HIDDEN)
        entering = inputs @ weight[rows].t() + bias[rows]
        if name != "peephole_lstm_c":
            entering = entering + state.h @ cell.weight_hh[rows].t()
            entering = entering + (cell.bias_hh[rows] if name == "lstm" else 0)
        yield gates["forget"] * state.c + gates["input"] * torch.tanh(entering), after.c
    if name == "gru":
        parts = inputs @ cell.weight_ih.t() + cell.bias_ih, state.h @ cell.weight_hh.t() + cell.bias_hh
        new = torch.tanh(parts[0][:, 2 * HIDDEN :] + gates["reset"] * parts[1][:, 2 * HIDDEN :])
        yield gates["forget"] * state.h + (1 - gates["forget"]) * new, after.h
    if name == "ln_gru":
        new = torch.tanh(enters_candidate(cell, inputs, "ih") + gates["reset"] * enters_candidate(cell, state.h, "hh"))
        yield gates["forget"] * state.h + (1 - gates["forget"]) * new, after.h
    if name == "slstm":
        ratio = gates["forget"] * state.c / state.n
        new = (after.c / after.n - ratio) / gates["input"]
        yield new.abs().clamp(max=1.0), new.abs()  # It is a tanh.
        yield gates["output"] * after.c / after.n, after.h
    if name == "lstm_1997":
        half = (inputs @ cell.weight_ih.t() + state.h @ cell.weight_hh.t() + cell.bias)[:, 2 * cell.num_blocks :]
        new = (4 * torch.sigmoid(half) - 2).unflatten(1, (cell.num_blocks, -1)) * gates["input"].unsqueeze(2)
        yield state.c + new.flatten(1), after.c


@pytest.mark.parametrize("name", ["lstm", "peephole_lstm", "peephole_lstm_c", "gru", "ln_gru", "slstm", "lstm_1997"])
def test_the_step_can_be_rebuilt_from_its_gates(name):
    cell, inputs, state = cell_and_state(name)
    _, after = cell.step(inputs, state)
    pairs = list(rebuilt(name, cell, cell.gates(inputs, state), inputs, state, after))
    assert pairs
    for got, expected in pairs:
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", ["min_gru", "min_lstm"])
def test_a_minimal_cell_mixes_by_its_gate(name):
    cell, inputs, state = cell_and_state(name, options={"candidate": "identity"})
    new = (inputs @ cell.weight_ih.t() + cell.bias_ih)[:, -HIDDEN:]
    keep = cell.gates(inputs, state)["forget"]
    torch.testing.assert_close(keep * state.h + (1 - keep) * new, cell.step(inputs, state)[1].h)


@pytest.mark.parametrize("name", ["conv_lstm", "mlstm", "xlstm"])
def test_a_gate_held_open_keeps_everything(name):
    """Large forget biases open every forget gate, and nothing else does."""
    cell, inputs, state = cell_and_state(name)
    before = {key: gate for key, gate in cell.gates(inputs, state).items() if key.endswith("forget")}
    assert before
    assert all(gate.max() < 0.9999 for gate in before.values())
    with torch.no_grad():
        for part in cell.modules():
            kit.open_forget_gates(part)
    for key, gate in cell.gates(inputs, state).items():
        if key.endswith("forget"):
            assert gate.min() > 0.99, key


def test_residual_and_normalised_layers_show_the_gates_of_what_they_hold():
    cell, inputs, state = cell_and_state("gru", num_layers=2, layer_norm=True)
    below = cell.layers[0].step(inputs, state[0])[0]
    inner = cell.layers[1]
    expected = inner.cell.gates(inner.norm(below), state[1])
    gates = cell.gates(inputs, state)
    for name, gate in expected.items():
        assert torch.equal(gates[f"layer1.{name}"], gate)
