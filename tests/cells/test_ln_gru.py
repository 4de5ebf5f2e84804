"""Claims about the cell `ln_gru`, beside those held for every cell."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from rlstm.cells import make_cell
from rlstm.cells.ln_gru import LNGRUCell
from rlstm.cells.product_cell import OutputState
from rlstm.testing import reset_patterns

WIDTH, HIDDEN, ROWS, STEPS = 3, 5, 4, 7


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def build(width: int = WIDTH, hidden: int = HIDDEN) -> LNGRUCell:
    """Return a cell in float64 whose parameters are all away from their initial values."""
    cell = LNGRUCell(width, hidden).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return cell


def normalised(values: Sequence[float], gains: Sequence[float], biases: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    factor = 1 / math.sqrt(variance + 1e-5)
    return [gain * (value - mean) * factor + bias for value, gain, bias in zip(values, gains, biases, strict=True)]


def test_two_units_are_those_of_the_equations_by_hand() -> None:
    """r and z are normalised together, n apart, and input and state apart; the reset gate acts after it."""
    cell = build(1, 2)
    x, h = 1.5, [0.4, -0.7]
    p = {name: value.tolist() for name, value in cell.named_parameters()}
    a = [row[0] * x for row in p["weight_ih"]]
    s = [row[0] * h[0] + row[1] * h[1] for row in p["weight_hh"]]
    a_rz, a_n = (normalised(a[one], p["gain_ih"][one], p["bias_ih"][one]) for one in (slice(4), slice(4, 6)))
    s_rz, s_n = (normalised(s[one], p["gain_hh"][one], p["bias_hh"][one]) for one in (slice(4), slice(4, 6)))
    gates = [1 / (1 + math.exp(-(one + other))) for one, other in zip(a_rz, s_rz, strict=True)]
    r, z = gates[:2], gates[2:]
    n = [math.tanh(a_n[k] + r[k] * s_n[k]) for k in range(2)]
    expected = [(1 - z[k]) * n[k] + z[k] * h[k] for k in range(2)]
    state = OutputState(torch.tensor([h], dtype=torch.float64))
    output, after = cell.step(torch.tensor([[x]]).double(), state)
    assert output[0].tolist() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(output, after.h)
    outputs, _ = cell.sequence(torch.tensor([[[x]]]).double(), state, torch.zeros(1, 1, dtype=torch.bool))
    assert outputs[0, 0].tolist() == pytest.approx(expected, abs=1e-12)


def composed(cell: LNGRUCell, inputs: Tensor, h: Tensor, is_first: Tensor) -> Tensor:
    """Return the outputs ``(T, B, H)`` of the published equations, whose update gate is 1 - z, by autograd alone."""
    two = 2 * cell.hidden_size
    outputs = []
    for x, first in zip(inputs, is_first, strict=True):
        h = torch.where(first.unsqueeze(1), torch.zeros_like(h), h)
        wx, uh = x @ cell.weight_ih.t(), h @ cell.weight_hh.t()
        gates = layer_norm(wx[:, :two], (two,), cell.gain_ih[:two], cell.bias_ih[:two])
        gates = gates + layer_norm(uh[:, :two], (two,), cell.gain_hh[:two], cell.bias_hh[:two])
        r, keep = gates.sigmoid().chunk(2, dim=1)
        candidate = layer_norm(uh[:, two:], (cell.hidden_size,), cell.gain_hh[two:], cell.bias_hh[two:]) * r
        candidate = candidate + layer_norm(wx[:, two:], (cell.hidden_size,), cell.gain_ih[two:], cell.bias_ih[two:])
        update = 1 - keep
        h = (1 - update) * h + update * candidate.tanh()
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize("pattern", [name for name, _ in reset_patterns(STEPS, ROWS)])
def test_values_and_gradients_are_those_of_a_plain_composition(pattern: str) -> None:
    cell, is_first = build(), dict(reset_patterns(STEPS, ROWS))[pattern]
    inputs = torch.randn(STEPS, ROWS, WIDTH).double().requires_grad_()
    h = torch.randn(ROWS, HIDDEN).double().requires_grad_()
    expected, (got, final) = composed(cell, inputs, h, is_first), cell.sequence(inputs, OutputState(h), is_first)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(final.h, expected[-1], rtol=0, atol=1e-12)
    weights, sources = torch.randn_like(got), [inputs, h, *cell.parameters()]
    slow, fast = (torch.autograd.grad((outputs * weights).sum(), sources) for outputs in (expected, got))
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_the_size_of_weights_and_inputs_does_not_matter() -> None:
    cell, inputs, state = build(), torch.randn(STEPS, ROWS, WIDTH).double() + 5, torch.randn(ROWS, HIDDEN).double()
    is_first = torch.zeros(STEPS, ROWS, dtype=torch.bool)
    outputs = []
    for scale in (1e3, 1e6):
        larger = build()
        larger.load_state_dict(cell.state_dict())
        larger.weight_hh.data.mul_(scale)
        outputs.append(larger.sequence(inputs * scale, OutputState(state), is_first)[0])
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-5)


def test_gains_start_at_1_and_biases_at_0_but_for_a_memory_length() -> None:
    cell = LNGRUCell(3, 5)
    assert all(torch.equal(gain, torch.ones(15)) for gain in (cell.gain_ih, cell.gain_hh))
    assert not any(bias.any() for bias in (cell.bias_ih, cell.bias_hh))
    cell = LNGRUCell(3, 5, memory_length=32, memory_init="log_spaced")
    r, z, n = cell.bias_ih.detach().chunk(3)
    torch.testing.assert_close(z, torch.tensor([1.0, 3.0, 7.0, 15.0, 31.0]).log(), rtol=0, atol=1e-6)
    assert not any(part.any() for part in (r, n, cell.bias_hh))
    for block in cell.weight_hh.detach().chunk(3):
        torch.testing.assert_close(block @ block.t(), torch.eye(5), rtol=0, atol=1e-5)


def test_a_single_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden_size is 1; cell 'ln_gru' needs at least 2"):
        make_cell("ln_gru", 3, 1)
