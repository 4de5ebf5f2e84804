"""Claims about the cell `slstm`, beside those held for every cell."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlstm.cells.slstm import SLSTMCell, SLSTMState, forget_biases
from rlstm.kernels.bptt.slstm import across_heads, slstm_bptt_sequence
from rlstm.kernels.resets import NEVER
from rlstm.testing import check_cell, reset_patterns

GATES: Any = ("sigmoid", "exponential")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def build(width: int = 3, hidden: int = 6, **options: Any) -> Any:
    """Return a cell with every parameter away from its initial value, R from 0 too."""
    cell = SLSTMCell(width, hidden, **{"num_heads": 2, **options}).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return cell


def lived(cell: Any, num_rows: int) -> SLSTMState:
    with torch.no_grad():
        state = cell.init_state(num_rows)
        for _ in range(3):
            _, state = cell.step(torch.randn(num_rows, cell.input_size).double(), state)
    return state


@pytest.mark.parametrize(
    ("num_heads", "forget_gate"),
    [(2, "exponential"), (3, "sigmoid")]
    + [pytest.param(number, gate, marks=pytest.mark.slow) for number in (1, 2, 3, 6) for gate in GATES],
)
def test_a_cell_keeps_its_contract_whatever_its_heads_and_its_forget_gate(num_heads: int, forget_gate: Any) -> None:
    def make(width: int, _: int) -> Any:
        return build(width, 6, num_heads=num_heads, forget_gate=forget_gate)

    torch.manual_seed(3)
    state = build(4, 6, num_heads=num_heads, forget_gate=forget_gate).state_dict()

    def same(width: int, hidden: int) -> Any:
        cell = make(width, hidden)
        cell.load_state_dict(state)
        return cell

    check_cell(same)


@pytest.mark.parametrize("forget_gate", GATES)
def test_one_unit_computes_the_equations_unstabilised(forget_gate: Any) -> None:
    cell = SLSTMCell(1, 1, forget_gate=forget_gate).double()
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([[0.1], [0.2], [0.3], [0.4]]))
        cell.weight_hh.copy_(torch.tensor([[0.5], [0.6], [0.7], [0.8]]))
        cell.bias_ih.copy_(torch.tensor([0.01, 0.02, 0.03, 0.04]))
    w, r, b = (tensor.double().flatten().tolist() for tensor in cell.parameters())
    h = c = n = 0.0
    state = cell.init_state(1)
    for x in (2.0, -1.0, 0.5):
        i, f, z, o = (w[k] * x + r[k] * h + b[k] for k in range(4))
        keep = math.exp(f) if forget_gate == "exponential" else 1 / (1 + math.exp(-f))
        c, n = keep * c + math.exp(i) * math.tanh(z), keep * n + math.exp(i)
        h = c / n / (1 + math.exp(-o))
        output, state = cell.step(torch.tensor([[x]]).double(), state)
        assert output.item() == state.h.item() == pytest.approx(h, abs=1e-12)
        assert state.c.item() * math.exp(state.m.item()) == pytest.approx(c, abs=1e-12)


@pytest.mark.parametrize(
    "pattern",
    ["random", *(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "t = 0", "t = T - 1", "all"))],
)
@pytest.mark.parametrize("exponential", [False, True])
def test_the_hand_written_gradient_is_that_of_finite_differences(pattern: str, exponential: bool) -> None:
    """Of what the stabiliser cancels in: outputs, and the final c and n times exp(m). m̄ is not varied."""
    is_first = dict(reset_patterns(4, 2))[pattern]
    cell = build(hidden=4)
    h, c, n, m = lived(cell, 2)
    tensors = [torch.randn(4, 2, 16).double(), h, c, n, cell.weight_hh.detach()]
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]

    def run(projections: Tensor, h: Tensor, c: Tensor, n: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        state = (h, c, n, m)
        outputs, c, n, scale = slstm_bptt_sequence(projections, state, is_first, weight, exponential=exponential)
        return outputs, c * scale.exp(), n * scale.exp()

    assert torch.autograd.gradcheck(run, tensors)


@pytest.mark.parametrize("forget_gate", GATES)
def test_the_gradient_of_a_step_is_that_of_finite_differences(forget_gate: Any) -> None:
    cell = build(forget_gate=forget_gate)
    h, c, n, m = lived(cell, 2)
    sources = [t.clone().requires_grad_() for t in (torch.randn(2, 3).double(), h, c, n)]
    assert torch.autograd.gradcheck(lambda x, h, c, n: cell.step(x, SLSTMState(h, c, n, m))[0], sources)


def test_outputs_do_not_depend_on_the_stabiliser() -> None:
    """c e^-s, n e^-s and m + s are the same memory."""
    cell, inputs, is_first = build(), torch.randn(5, 2, 3).double(), torch.zeros(5, 2, dtype=torch.bool)
    h, c, n, m = lived(cell, 2)
    expected, _ = cell.sequence(inputs, SLSTMState(h, c, n, m), is_first)
    for shift in (-20.0, 1.0, 30.0):
        scale = math.exp(-shift)
        outputs, _ = cell.sequence(inputs, SLSTMState(h, c * scale, n * scale, m + shift), is_first)
        torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)


def test_the_stabiliser_takes_no_part_in_the_gradient() -> None:
    cell, inputs, is_first = build(), torch.randn(5, 2, 3).double(), torch.zeros(5, 2, dtype=torch.bool)
    _, after = cell.sequence(inputs, cell.init_state(2), is_first)
    _, stepped = cell.step(inputs[0], cell.init_state(2))
    assert [leaf.requires_grad for leaf in after] == [leaf.requires_grad for leaf in stepped] == [True] * 3 + [False]


def test_a_new_memory_forgets_nothing_and_divides_by_1() -> None:
    cell = build()
    state = cell.init_state(2)
    assert (state.m == NEVER).all()
    _, after = cell.step(torch.randn(2, 3).double() * 50, state)
    assert torch.equal(after.n, torch.ones_like(after.n))
    lived_on, _ = cell.sequence(torch.randn(50, 2, 3).double() * 20, after, torch.zeros(50, 2, dtype=torch.bool))
    assert (lived_on.abs() <= 1).all()


@pytest.mark.parametrize("forget_gate", GATES)
def test_exponentials_stay_in_range_in_single_precision(forget_gate: Any) -> None:
    cell = build(forget_gate=forget_gate).float()
    inputs = (torch.randn(60, 2, 3) * 300).requires_grad_()
    outputs, final = cell.sequence(inputs, cell.init_state(2), torch.rand(60, 2) < 0.05)
    (grad,) = torch.autograd.grad(outputs.sum(), inputs)
    assert all(torch.isfinite(leaf).all() for leaf in (outputs, grad, *final))


@pytest.mark.parametrize("reset", [0, 3])
def test_what_has_diverged_ends_at_a_reset(reset: int) -> None:
    cell, is_first = build(), torch.zeros(6, 2, dtype=torch.bool)
    is_first[reset, 0] = True
    state = SLSTMState(*(torch.full((2, 6), torch.nan).double() for _ in range(4)))
    outputs, final = cell.sequence(torch.randn(6, 2, 3).double(), state, is_first)
    assert all(torch.isfinite(leaf).all() for leaf in (outputs[reset:, 0], *(leaf[0] for leaf in final)))
    assert outputs[:, 1].isnan().all()


def test_heads_see_their_own_units_alone() -> None:
    weight = torch.arange(1.0, 25.0).view(12, 2).repeat(2, 1)  # 4 gates of 6 units, 3 heads of 2.
    full = across_heads(weight)
    assert full.shape == (24, 6)
    assert full[0].tolist() == [1, 2, 0, 0, 0, 0]  # Gate 0, unit 0: head 0.
    assert full[3].tolist() == [0, 0, 7, 8, 0, 0]  # Gate 0, unit 3: head 1.
    assert full[11].tolist() == [0, 0, 0, 0, 23, 24]  # Gate 1, unit 5: head 2.
    assert torch.equal(across_heads(weight.expand(5, 24, 2))[3], full)
    cell = build(hidden=6, num_heads=3)
    h = torch.randn(1, 6).double().requires_grad_()
    state = lived(cell, 1)._replace(h=h)
    output, _ = cell.step(torch.randn(1, 3).double(), state)
    (grad,) = torch.autograd.grad(output[0, 2:4].sum(), h)
    assert grad[0, 2:4].all()
    assert not grad[0, [0, 1, 4, 5]].any()


def test_the_initial_values_are_those_of_the_authors_package() -> None:
    cell = SLSTMCell(24, 16)
    assert cell.num_heads == 4
    i, f, z, o = cell.bias_ih.detach().chunk(4)
    assert not any(part.any() for part in (i, z, o, cell.weight_hh))
    expected = torch.tensor([5 - 12 * (k / 3) ** 0.3 for k in range(4)]).repeat(4)
    torch.testing.assert_close(f, expected, rtol=0, atol=1e-6)
    assert forget_biases(4, 2, None, "chrono", depth=1.0).tolist() == [5, -7, 5, -7]
    assert forget_biases(3, 3, None, "chrono").tolist() == [5, 5, 5]
    bound = math.sqrt(6 / (24 + 16))
    for block in cell.weight_ih.detach().chunk(4):
        assert 0.95 * bound < block.abs().max() <= bound


@pytest.mark.parametrize("forget_gate", GATES)
def test_a_memory_length_is_how_long_the_biases_alone_keep(forget_gate: Any) -> None:
    cell = SLSTMCell(3, 5, memory_length=32, memory_init="log_spaced", forget_gate=forget_gate)
    f = cell.bias_ih.detach().chunk(4)[1]
    keep = f.exp() if forget_gate == "exponential" else torch.sigmoid(f)
    torch.testing.assert_close(keep, 1 - 1 / torch.tensor([2.0, 4.0, 8.0, 16.0, 32.0]), rtol=0, atol=1e-6)


def test_bad_options_are_refused_with_the_value() -> None:
    for heads, wanted in (
        (0, "at least 1"),
        (-1, "at least 1"),
        (4, "divide"),
        (7, "divide the width of the memory, 6"),
    ):
        with pytest.raises(ValueError, match=f"num_heads is {heads}; it must .*{wanted}"):
            SLSTMCell(3, 6, num_heads=heads)
    wrong: Any = "tanh"
    with pytest.raises(ValueError, match="forget_gate is 'tanh'; it must be one of sigmoid, exponential"):
        SLSTMCell(3, 6, forget_gate=wrong)
    with pytest.raises(ValueError, match="memory_length is 2"):
        SLSTMCell(3, 6, memory_length=2)


def test_it_equals_the_authors_package_with_the_same_weights() -> None:
    """Its plain PyTorch backend, without resets; it starts from m = 0 and n = 0 and treats that as never."""
    pytest.importorskip("xlstm")
    from xlstm.blocks.slstm.cell import sLSTMCell, sLSTMCellConfig

    width, hidden, heads = 3, 8, 2
    config = sLSTMCellConfig(hidden_size=hidden, num_heads=heads, backend="vanilla", dtype="float32")
    config.enable_automatic_mixed_precision = False
    theirs, ours = sLSTMCell(config), build(width, hidden, num_heads=heads).float()
    inputs = torch.randn(2, 9, width)
    with torch.no_grad():
        projections = nn.functional.linear(inputs, ours.weight_ih, ours.bias_ih)  # i, f, z, o as theirs
        recurrent = ours.weight_hh.view(4, heads, hidden // heads, hidden // heads)
        theirs._recurrent_kernel_.copy_(theirs._recurrent_kernel_ext2int(recurrent.permute(1, 3, 0, 2)))
        theirs._bias_.zero_()
        expected, _ = theirs(projections)  # (B, N, T, D)
        expected = expected.permute(2, 0, 1, 3).flatten(2)
        outputs, _ = ours.sequence(inputs.transpose(0, 1), ours.init_state(2), torch.zeros(9, 2, dtype=torch.bool))
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-5)
