"""What the cells of `rlstm.kernels.bptt.gated` compute: equal cells, values by hand, time, initialisation, options."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from rlstm.cells import CELLS, RecurrentCell
from rlstm.cells.lstm import LSTMCell
from rlstm.cells.lstm_1997 import LSTM1997Cell
from rlstm.cells.peephole_lstm import PeepholeLSTMCell
from rlstm.cells.peephole_lstm_c import PeepholeLSTMCCell, PeepholeLSTMCState
from rlstm.cells.product_cell import LSTMState
from rlstm.cells.time_aware_lstm import TimeAwareLSTMCell
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.testing import reset_patterns

WIDTH, HIDDEN, ROWS, STEPS = 3, 4, 2, 5
FORGETTING = ["peephole_lstm", "peephole_lstm_c", "time_aware_lstm"]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def build(name: str, **options: Any) -> Any:
    """Return a cell in float64 whose parameters are all away from their initial values."""
    cell = CELLS[name](WIDTH, HIDDEN, **options).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return cell


def random_inputs(num_steps: int) -> Tensor:
    """Return ``(T, B, I)``; the last column is a time, well away from 0, where the derivative by it has a step."""
    inputs = torch.randn(num_steps, ROWS, WIDTH).double()
    inputs[..., -1] = inputs[..., -1].abs() * 5 + 0.1
    return inputs


def random_state(cell: RecurrentCell) -> Any:
    return tree_map(torch.randn_like, cell.init_state(ROWS))


def no_resets(num_steps: int) -> Tensor:
    return torch.zeros(num_steps, ROWS, dtype=torch.bool)


# Equal cells


@pytest.mark.parametrize("name", ["peephole_lstm", "time_aware_lstm"])
@pytest.mark.parametrize("pattern", [name for name, _ in reset_patterns(STEPS, ROWS)])
def test_without_peepholes_and_without_time_the_cell_is_the_lstm(name: str, pattern: str) -> None:
    cell = build(name)
    timed = name == "time_aware_lstm"
    counterpart = LSTMCell(WIDTH - timed, HIDDEN).double()
    with torch.no_grad():
        counterpart.weight_ih.copy_(cell.weight_ih)
        counterpart.weight_hh.copy_(cell.weight_hh)
        counterpart.bias_ih.copy_(cell.bias)
        if not timed:
            cell.peepholes.zero_()
    inputs = random_inputs(STEPS)
    if timed:
        inputs[..., -1] = 0.0
    state = random_state(cell)
    is_first = dict(reset_patterns(STEPS, ROWS))[pattern]
    got = cell.sequence(inputs, state, is_first)
    expected = counterpart.sequence(inputs[..., : counterpart.input_size], LSTMState(*state), is_first)
    for one, other in zip(tree_leaves(got), tree_leaves(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)
    output, _ = cell.step(inputs[0], state)
    expected_output, _ = counterpart.step(inputs[0, :, : counterpart.input_size], LSTMState(*state))
    torch.testing.assert_close(output, expected_output, rtol=0, atol=1e-14)


def test_peepholes_and_time_matter() -> None:
    for name, change in (("peephole_lstm", "peepholes"), ("time_aware_lstm", "time")):
        cell, inputs = build(name), random_inputs(4)
        state = random_state(cell)
        before, _ = cell.sequence(inputs, state, no_resets(4))
        if change == "time":
            inputs[..., -1] += 1.0
        else:
            cell.peepholes.data[2 * HIDDEN :] += 1.0
        after, _ = cell.sequence(inputs, state, no_resets(4))
        assert ((after - before).abs() > 1e-9).all()


def test_cells_of_a_block_that_are_alike_stay_alike_and_blocks_are_runs_of_units() -> None:
    """A block of two cells with equal weights is one unit twice, read with half the weight each."""
    small = build("lstm_1997")  # Four blocks of one cell.
    large = LSTM1997Cell(WIDTH, 2 * HIDDEN, cells_per_block=2).double()

    def twice(units: Tensor) -> Tensor:
        return units.repeat_interleave(2, dim=0)

    with torch.no_grad():
        for name, spread in (("weight_ih", 1), ("weight_hh", 2), ("bias", 1)):
            gates, cell_input = getattr(small, name).split([2 * HIDDEN, HIDDEN])
            weight = torch.cat([gates, twice(cell_input)])
            getattr(large, name).copy_(weight.repeat_interleave(2, dim=1) / 2 if spread == 2 else weight)
    inputs, is_first = random_inputs(9), torch.rand(9, ROWS) < 0.2
    state = random_state(small)
    doubled = LSTMState(*(leaf.repeat_interleave(2, dim=1) for leaf in state))
    expected, _ = small.sequence(inputs, state, is_first)
    for run in (large.sequence, large.reference_sequence):
        outputs, _ = run(inputs, doubled, is_first)
        torch.testing.assert_close(outputs, expected.repeat_interleave(2, dim=2), rtol=0, atol=1e-12)


# Hand-computed values


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def one_unit(cell: Any, state: Any, inputs: tuple[float, ...]) -> tuple[list[list[float]], float, Any]:
    """Fill a cell of one unit with 0.1, 0.2, ...; return these numbers by parameter, and what a step gives."""
    numbers = iter(range(1, 100))
    with torch.no_grad():
        for parameter in cell.double().parameters():
            values = [next(numbers) / 10 for _ in range(parameter.numel())]
            parameter.copy_(torch.tensor(values, dtype=torch.float64).view_as(parameter))
    state = tree_map(lambda value: torch.tensor([[value]], dtype=torch.float64), state)
    output, after = cell.step(torch.tensor([inputs]).double(), state)
    return [parameter.flatten().tolist() for parameter in cell.parameters()], output.item(), after


def test_an_lstm_1997_of_one_unit_computes_its_equations() -> None:
    x, h, c = 2.0, -0.5, 0.25
    (w, r, b), output, after = one_unit(LSTM1997Cell(1, 1), LSTMState(h, c), (x,))  # type: ignore[arg-type]
    i, o, g = (logistic(w[k] * x + r[k] * h + b[k]) for k in range(3))
    expected_c = c + i * (4 * g - 2)
    assert after.c.item() == pytest.approx(expected_c, abs=1e-12)
    assert output == after.h.item() == pytest.approx(o * (2 * logistic(expected_c) - 1), abs=1e-12)


def test_a_peephole_lstm_of_one_unit_computes_its_equations() -> None:
    """The output gate sees the new memory, the others the old one."""
    x, h, c = 2.0, -0.5, 0.25
    (w, r, b, p), output, after = one_unit(PeepholeLSTMCell(1, 1), LSTMState(h, c), (x,))  # type: ignore[arg-type]
    i, f, g, o = (w[k] * x + r[k] * h + b[k] for k in range(4))
    expected_c = logistic(f + p[1] * c) * c + logistic(i + p[0] * c) * math.tanh(g)
    assert after.c.item() == pytest.approx(expected_c, abs=1e-12)
    expected = logistic(o + p[2] * expected_c) * math.tanh(expected_c)
    assert output == after.h.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_a_peephole_lstm_c_of_one_unit_computes_its_equations(activation: Any) -> None:
    """Every gate sees the old memory, the cell's input sees none."""
    x, c = 2.0, 0.25
    cell = PeepholeLSTMCCell(1, 1, output_activation=activation)
    (w, u, b), output, after = one_unit(cell, PeepholeLSTMCState(c), (x,))  # type: ignore[arg-type]
    i, f, o = (logistic(w[k] * x + u[k] * c + b[k]) for k in range(3))
    expected_c = f * c + i * math.tanh(w[3] * x + b[3])
    assert after.c.item() == pytest.approx(expected_c, abs=1e-12)
    expected = o * (math.tanh(expected_c) if activation == "tanh" else expected_c)
    assert output == pytest.approx(expected, abs=1e-12)


def test_a_time_aware_lstm_of_one_unit_computes_its_equations() -> None:
    x, elapsed, h, c = 2.0, 3.0, -0.5, 0.25
    cell = TimeAwareLSTMCell(2, 1)
    (w, r, b, wd, bd), output, after = one_unit(cell, LSTMState(h, c), (x, elapsed))  # type: ignore[arg-type]
    i, f, g, o = (w[k] * x + r[k] * h + b[k] for k in range(4))
    short_term = math.tanh(wd[0] * c + bd[0])
    aged = c - short_term + short_term / math.log(math.e + elapsed)
    expected_c = logistic(f) * aged + logistic(i) * math.tanh(g)
    assert after.c.item() == pytest.approx(expected_c, abs=1e-12)
    assert output == after.h.item() == pytest.approx(logistic(o) * math.tanh(expected_c), abs=1e-12)


# Time


def first_steps(cell: Any, is_first: Tensor, elapsed: float) -> Iterator[Tensor]:
    """Yield the outputs of every path, with this time at every step where a memory begins."""
    inputs = random_inputs(len(is_first))
    inputs[..., -1] = torch.where(is_first, elapsed, inputs[..., -1])
    state = random_state(cell)
    yield cell.sequence(inputs, state, is_first)[0]
    yield cell.reference_sequence(inputs, state, is_first)[0]
    with torch.inference_mode():
        yield cell.acting_snapshot()(inputs[0], cell.reset(state, is_first[0]))[0][is_first[0]]


def test_the_time_at_a_first_step_changes_nothing_bit_for_bit() -> None:
    cell, is_first = build("time_aware_lstm"), torch.zeros(7, ROWS, dtype=torch.bool)
    is_first[[0, 4, 5], [0, 1, 1]] = True
    assert cell.bias_decay.all()  # Else the short-term part of a blank memory is 0 anyway.
    found = []
    for elapsed in (0.0, 100.0, torch.inf):
        torch.manual_seed(1)
        found.append(list(first_steps(cell, is_first, elapsed)))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.equal(one, two)
    inputs = random_inputs(7).requires_grad_()
    outputs, _ = cell.sequence(inputs, random_state(cell), is_first)
    (grad,) = torch.autograd.grad(outputs.sum(), inputs)
    assert not grad[is_first][:, -1].any()
    assert grad[~is_first][:, -1].all()


def test_a_memory_that_is_blank_without_a_reset_has_no_past_to_age_but_a_gradient() -> None:
    """The first input of 0 leaves zeros behind where biases are 0: the paths agree, and credit still flows."""
    cell = TimeAwareLSTMCell(WIDTH, HIDDEN).double()
    with torch.no_grad():
        cell.bias_decay.fill_(0.7)
    inputs = random_inputs(4)
    inputs[0] = 0.0
    inputs[1, :, -1] = 50.0
    grads = []
    for run in (cell.sequence, cell.reference_sequence):
        seen = inputs.clone().requires_grad_()
        outputs, _ = run(seen, cell.init_state(ROWS), no_resets(4))
        assert not outputs[0].any()
        grads.append(torch.autograd.grad(outputs[1:].sum(), seen)[0])
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-14)
    assert grads[0][0, :, :-1].all()


def test_a_memory_whose_units_add_up_to_nothing_is_aged_all_the_same() -> None:
    cell, inputs = build("time_aware_lstm"), random_inputs(1)
    signs = torch.tensor([1.0, -1.0]).double().repeat(HIDDEN // 2)
    state = LSTMState(torch.zeros(ROWS, HIDDEN).double(), signs.expand(ROWS, HIDDEN))
    outputs, _ = cell.sequence(inputs, state, torch.zeros(1, ROWS, dtype=torch.bool))
    torch.testing.assert_close(outputs[0], cell.step(inputs[0], state)[0], rtol=0, atol=1e-12)


def test_a_negative_time_counts_as_none() -> None:
    cell, inputs = build("time_aware_lstm"), random_inputs(4)
    state = random_state(cell)
    found = []
    for elapsed in (0.0, -0.5, -100.0):
        inputs[..., -1] = elapsed
        found.append(cell.sequence(inputs, state, no_resets(4))[0])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


# Initialisation and options


@pytest.mark.parametrize("name", FORGETTING)
def test_cells_with_a_forget_gate_start_remembering_and_take_a_memory_length(name: str) -> None:
    plain: Any = CELLS[name](6, 5)
    i, f, *rest = plain.bias.detach().chunk(4)
    assert f.tolist() == [1.0] * 5
    assert not any(part.any() for part in (i, *rest))
    spans = torch.tensor([2.0, 4.0, 8.0, 16.0, 32.0])
    spread: Any = CELLS[name](6, 5, memory_length=32, memory_init="log_spaced")
    i, f, *rest = spread.bias.detach().chunk(4)
    torch.testing.assert_close(f, (spans - 1).log(), rtol=0, atol=1e-6)
    assert torch.equal(i, -f)
    assert not any(part.any() for part in rest)
    with pytest.raises(ValueError, match="memory_length is 2; it must be at least 3 steps"):
        CELLS[name](6, 5, memory_length=2)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("peephole_lstm", {"weight_hh": 4}),
        ("peephole_lstm_c", {"weight_ch": 3}),
        ("time_aware_lstm", {"weight_hh": 4, "weight_decay": 1}),
        ("lstm_1997", {"weight_hh": 3}),
    ],
)
def test_blocks_on_the_state_start_orthogonal_and_on_the_input_xavier(name: str, weights: dict[str, int]) -> None:
    cell: Any = CELLS[name](25, 16)
    for weight, num_blocks in weights.items():
        for block in getattr(cell, weight).detach().chunk(num_blocks):
            torch.testing.assert_close(block @ block.t(), torch.eye(16), rtol=0, atol=1e-5)
    blocks = cell.weight_ih.detach().chunk(3 if name == "lstm_1997" else 4)
    bound = math.sqrt(6 / (cell.weight_ih.shape[1] + 16))
    assert all(0.95 * bound < block.abs().max() <= bound for block in blocks)


def test_peepholes_start_closed_and_gates_of_1997_too() -> None:
    assert not PeepholeLSTMCell(3, 2).peepholes.any()
    bias = LSTM1997Cell(3, 8, cells_per_block=2).bias.tolist()
    assert bias == pytest.approx([-1.0] * 4 + [-1.0, -2.0, -3.0, -4.0] + [0.0] * 8)


def test_nothing_is_forgotten_in_1997() -> None:
    cell = LSTM1997Cell(WIDTH, HIDDEN)
    state = LSTMState(torch.zeros(1, HIDDEN), torch.full((1, HIDDEN), 3.0, requires_grad=True))
    with torch.no_grad():
        cell.weight_hh[2 * HIDDEN :] = 0.0  # Without feedback into it the cell's input is 0.
    _, after = cell.sequence(torch.zeros(500, 1, WIDTH), state, torch.zeros(500, 1, dtype=torch.bool))
    assert after.c.tolist() == [[3.0] * HIDDEN]
    assert torch.autograd.grad(after.c.sum(), state.c)[0].tolist() == [[1.0] * HIDDEN]


def test_bad_options_are_refused_with_the_value_and_what_would_be_right() -> None:
    wrong: Any = "linear"
    with pytest.raises(ValueError, match="output_activation is 'linear'; it must be one of tanh, identity"):
        PeepholeLSTMCCell(3, 4, output_activation=wrong)
    with pytest.raises(ValueError, match="gradient is 'linear'; it must be one of full, truncated"):
        LSTM1997Cell(3, 4, gradient=wrong)
    for size in (3, 0, 8):
        with pytest.raises(ValueError, match=f"cells_per_block is {size}; it must be at least 1 and divide .*, 4"):
            LSTM1997Cell(3, 4, cells_per_block=size)
    with pytest.raises(ValueError, match="memory_length is 9, but cell 'lstm_1997' has no forget gate"):
        LSTM1997Cell(3, 4, memory_length=9)
    with pytest.raises(ValueError, match="memory_init is 'log_spaced', but cell 'lstm_1997'"):
        LSTM1997Cell(3, 4, memory_init="log_spaced")
    with pytest.raises(ValueError, match="input_size is 1; cell 'time_aware_lstm' needs at least 2"):
        TimeAwareLSTMCell(1, 4)


def test_the_truncated_gradient_says_so_in_its_path() -> None:
    cpu = torch.device("cpu")
    assert LSTM1997Cell(3, 4).sequence_path(cpu) == "hand-written backpropagation through time"
    assert LSTM1997Cell(3, 4, gradient="truncated").sequence_path(cpu).endswith(", truncated")
