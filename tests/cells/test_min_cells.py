"""Claims about the cells `min_gru` and `min_lstm`, beside those held for every cell."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rlstm.cells import make_cell
from rlstm.cells.min_gru import MinGRUCell
from rlstm.cells.min_lstm import MinLSTMCell
from rlstm.cells.product_cell import OutputState
from rlstm.kernels.min_scan import min_scan
from rlstm.testing import check_cell, reset_patterns

CELLS: dict[str, Any] = {"min_gru": MinGRUCell, "min_lstm": MinLSTMCell}
CANDIDATES: Any = ("positive", "identity")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_with_signed_candidates_keeps_its_contract(name: str) -> None:
    check_cell(lambda inputs, hidden: CELLS[name](inputs, hidden, candidate="identity"))


@pytest.mark.parametrize("before", [-1.5, 0.7])
@pytest.mark.parametrize("candidate", CANDIDATES)
def test_one_unit_computes_the_equations(candidate: str, before: float) -> None:
    expected_candidate = before if candidate == "identity" else before + 0.5 if before >= 0 else logistic(before)
    x, h = torch.ones(1, 1).double(), OutputState(torch.full((1, 1), 0.4).double())
    gru, lstm = (CELLS[name](1, 1, candidate=candidate).double() for name in CELLS)
    with torch.no_grad():
        gru.weight_ih.copy_(torch.tensor([[0.3], [before]]))
        lstm.weight_ih.copy_(torch.tensor([[0.3], [-0.8], [before]]))
    z = logistic(0.3)
    assert gru.step(x, h)[0].item() == pytest.approx((1 - z) * 0.4 + z * expected_candidate, abs=1e-7)
    keep = logistic(0.3) / (logistic(0.3) + logistic(-0.8))
    assert lstm.step(x, h)[0].item() == pytest.approx(keep * 0.4 + (1 - keep) * expected_candidate, abs=1e-7)


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("parts", [2, 3])
def test_the_hand_written_gradient_is_that_of_finite_differences(parts: int, candidate: Any) -> None:
    for _, is_first in reset_patterns(4, 2):
        tensors = [torch.randn(4, 2, parts * 3).double(), torch.randn(2, 3).double()]
        tensors = [tensor.requires_grad_() for tensor in tensors]
        assert torch.autograd.gradcheck(lambda p, h, m=is_first: min_scan(p, h, m, candidate), tensors)


@pytest.mark.parametrize("name", CELLS)
def test_the_gradient_of_a_step_is_that_of_finite_differences(name: str) -> None:
    cell = CELLS[name](3, 4).double()
    x, h = torch.randn(2, 3).double().requires_grad_(), torch.randn(2, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, h: cell.step(x, OutputState(h))[0], (x, h))


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("reset", [0, 3])
def test_what_has_diverged_ends_at_a_reset(name: str, reset: int) -> None:
    cell, is_first = CELLS[name](3, 4), torch.zeros(6, 2, dtype=torch.bool)
    is_first[reset, 0] = True
    state = OutputState(torch.full((2, 4), torch.nan))
    outputs, _ = cell.sequence(torch.randn(6, 2, 3), state, is_first)
    assert torch.isfinite(outputs[reset:, 0]).all()
    assert outputs[:, 1].isnan().all()


@pytest.mark.parametrize("name", CELLS)
def test_gates_far_out_neither_overflow_nor_lose_their_gradient(name: str) -> None:
    cell = CELLS[name](1, 4)
    inputs = torch.tensor([-1e4, 1e4, -80.0, 80.0]).view(4, 1, 1).requires_grad_()
    outputs, _ = cell.sequence(inputs, cell.init_state(1), torch.zeros(4, 1, dtype=torch.bool))
    (grad,) = torch.autograd.grad(outputs.sum(), inputs)
    assert torch.isfinite(outputs).all()
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("name", CELLS)
def test_a_memory_length_is_how_long_the_biases_alone_keep(name: str) -> None:
    """τ = 2, 4, 8, 16, 32: the factor of the old state is 1 - 1/τ."""
    cell = make_cell(name, 3, 5, memory_length=32, memory_init="log_spaced")
    _, after = cell.sequence(torch.zeros(1, 1, 3), OutputState(torch.ones(1, 5)), torch.zeros(1, 1, dtype=torch.bool))
    spans = torch.tensor([2.0, 4.0, 8.0, 16.0, 32.0])
    keep = 1 - 1 / spans
    torch.testing.assert_close(after.h[0].detach(), keep + (1 - keep) * 0.5, rtol=0, atol=1e-6)


def test_biases_start_at_0_and_weights_xavier_for_each_part() -> None:
    for cell, parts in ((MinGRUCell(24, 16), 2), (MinLSTMCell(24, 16), 3)):
        assert not cell.bias_ih.any()
        bound = math.sqrt(6 / (24 + 16))
        for block in cell.weight_ih.detach().chunk(parts):
            assert 0.95 * bound < block.abs().max() <= bound


def test_chrono_biases_have_the_sign_of_what_they_multiply() -> None:
    gru, lstm = (CELLS[name](3, 500, memory_length=101) for name in CELLS)
    z, fresh = gru.bias_ih.detach().chunk(2)
    f, i, new = lstm.bias_ih.detach().chunk(3)
    assert (z <= 0).all()
    assert torch.equal(i, -f)
    assert not fresh.any()
    assert not new.any()
    for spans in ((-z).exp(), f.exp()):  # U[1, 100]: mean 50.5; the mean of 500 is within 5 deviations of 1.3.
        assert abs(spans.mean() - 50.5) < 6.4


def test_outputs_are_positive_unless_told_otherwise() -> None:
    def outputs(**options: Any) -> Tensor:
        cell = MinGRUCell(3, 20, **options)
        return cell.sequence(torch.randn(9, 2, 3), cell.init_state(2), torch.zeros(9, 2, dtype=torch.bool))[0]

    assert (outputs() > 0).all()
    assert (outputs(candidate="identity") < 0).any()


@pytest.mark.parametrize("name", CELLS)
def test_bad_options_are_refused_with_the_value(name: str) -> None:
    with pytest.raises(ValueError, match="candidate is 'tanh'; it must be one of positive, identity"):
        CELLS[name](3, 4, candidate="tanh")
    with pytest.raises(ValueError, match="memory_length is 2; it must be at least 3"):
        CELLS[name](3, 4, memory_length=2)
