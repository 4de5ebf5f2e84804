"""Gradients of the cells of `rlstm.kernels.bptt.gated`, beyond the contract that `test_cells.py` holds all cells to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from rlstm.cells import CELLS, RecurrentCell
from rlstm.cells.product_cell import LSTMState
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.kernels.bptt import gated as gated_bptt
from rlstm.testing import check_cell, reset_patterns

WIDTH, HIDDEN, ROWS, STEPS = 3, 4, 2, 5
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "elman": ("elman", {}),
    "gru": ("gru", {}),
    "ln_gru": ("ln_gru", {}),
    "lstm_1997": ("lstm_1997", {}),
    "lstm_1997, blocks of 2": ("lstm_1997", {"cells_per_block": 2}),
    "lstm_1997, one block": ("lstm_1997", {"cells_per_block": 4}),
    "peephole_lstm": ("peephole_lstm", {}),
    "peephole_lstm_c": ("peephole_lstm_c", {}),
    "peephole_lstm_c, identity": ("peephole_lstm_c", {"output_activation": "identity"}),
    "time_aware_lstm": ("time_aware_lstm", {}),
}
TRUNCATED: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm_1997, truncated": ("lstm_1997", {"gradient": "truncated"}),
    "lstm_1997, truncated, blocks of 2": ("lstm_1997", {"gradient": "truncated", "cells_per_block": 2}),
}

OPTIONS = {name: variant for name, variant in (VARIANTS | TRUNCATED).items() if variant[1]}
"""Those of which `test_cells.py` knows nothing."""
PATTERNS = [name for name, _ in reset_patterns(STEPS, ROWS)]


def some_of(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Return the values, those that are not kept as slow ones."""
    return [value if value in kept else pytest.param(value, marks=pytest.mark.slow) for value in values]


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


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_gradient_of_a_step_is_that_of_finite_differences(variant: tuple[str, dict[str, Any]]) -> None:
    cell = build(variant[0], **variant[1])
    inputs, leaves = random_inputs(1)[0], tree_leaves(random_state(cell))
    names = [name for name, _ in cell.named_parameters()]

    def step(inputs: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        state = type(cell.init_state(1))(*rest[: len(leaves)])
        weights = dict(zip([f"cell.{name}" for name in names], rest[len(leaves) :], strict=True))
        output, after = torch.func.functional_call(_Call(cell, "step"), weights, (inputs, state))
        return output, *tree_leaves(after)

    sources = [one.detach().clone().requires_grad_() for one in (inputs, *leaves, *cell.parameters())]
    assert torch.autograd.gradcheck(step, sources)


@pytest.mark.parametrize("pattern", some_of(PATTERNS, "random"))
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_gradient_of_a_sequence_is_that_of_finite_differences(
    variant: tuple[str, dict[str, Any]], pattern: str
) -> None:
    """But for the truncated gradient, which is none of the outputs by design."""
    cell = build(variant[0], **variant[1])
    is_first = dict(reset_patterns(STEPS, ROWS))[pattern]
    inputs, leaves = random_inputs(STEPS), tree_leaves(random_state(cell))
    names = [name for name, _ in cell.named_parameters()]

    def run(inputs: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        state = type(cell.init_state(1))(*rest[: len(leaves)])
        weights = dict(zip([f"cell.{name}" for name in names], rest[len(leaves) :], strict=True))
        outputs, after = torch.func.functional_call(_Call(cell, "sequence"), weights, (inputs, state, is_first))
        return outputs, *tree_leaves(after)

    sources = [one.detach().clone().requires_grad_() for one in (inputs, *leaves, *cell.parameters())]
    assert torch.autograd.gradcheck(run, sources, fast_mode=True)


IN_PIECES: dict[str, tuple[str, dict[str, Any]]] = {
    **VARIANTS,
    **TRUNCATED,
    "slstm": ("slstm", {}),
    "slstm, one head": ("slstm", {"num_heads": 1}),
    "xlstm, whose sLSTM is given what enters its gates": ("xlstm", {"slstm_at": (0, 1)}),
}


@pytest.mark.parametrize("num_steps", some_of([1, 2, 3], 2))
@pytest.mark.parametrize("pattern", some_of(PATTERNS, "random"))
@pytest.mark.parametrize("variant", IN_PIECES.values(), ids=IN_PIECES.keys())
def test_a_gradient_does_not_depend_on_how_many_steps_are_prepared_at_once(
    variant: tuple[str, dict[str, Any]], pattern: str, num_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All five steps at once is what the tests of this file have elsewhere."""
    cell = build(variant[0], **variant[1])
    is_first = dict(reset_patterns(STEPS, ROWS))[pattern]
    inputs = random_inputs(STEPS).requires_grad_()
    state = tree_map(lambda leaf: leaf.abs().requires_grad_(), random_state(cell))
    sources = [inputs, *tree_leaves(state), *cell.parameters()]
    outputs, after = cell.sequence(inputs, state, is_first)
    loss = sum((leaf * torch.randn_like(leaf)).sum() for leaf in (outputs, *tree_leaves(after)))
    assert isinstance(loss, Tensor)
    expected = torch.autograd.grad(loss, sources, retain_graph=True, allow_unused=True)
    monkeypatch.setattr(gated_bptt, "_CACHED", num_steps * ROWS * HIDDEN)
    in_pieces = torch.autograd.grad(loss, sources, allow_unused=True)
    for found, wanted in zip(in_pieces, expected, strict=True):
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


class _Call(torch.nn.Module):
    """A cell one of whose methods is its ``forward``, which alone can be called with other weights."""

    def __init__(self, cell: RecurrentCell, method: str) -> None:
        super().__init__()
        self.cell = cell
        self.method = method

    def forward(self, *arguments: Any) -> Any:
        return getattr(self.cell, self.method)(*arguments)


@pytest.mark.parametrize("variant", OPTIONS.values(), ids=OPTIONS.keys())
def test_every_variant_keeps_the_contract(variant: tuple[str, dict[str, Any]]) -> None:
    """For the truncated gradient it is compared with autograd on the loop whose output is detached in ``step``."""
    name, options = variant
    blocks = options.get("cells_per_block")
    check_cell(lambda inputs, _: CELLS[name](inputs, 4 if blocks else 5, **options))


def test_the_truncated_gradient_is_autograds_with_the_output_detached() -> None:
    """The loop is written out here with the equations, apart from ``step``."""
    cell = build("lstm_1997", gradient="truncated")
    inputs, state, is_first = random_inputs(6), random_state(cell), torch.rand(6, ROWS) < 0.3
    h, c, outputs = state.h, state.c, []
    for x, first in zip(inputs, is_first, strict=True):
        h, c = (torch.where(first.unsqueeze(1), torch.zeros_like(leaf), leaf) for leaf in (h, c))
        i, o, g = (x @ cell.weight_ih.t() + h.detach() @ cell.weight_hh.t() + cell.bias).sigmoid().chunk(3, dim=1)
        c = c + i * (4 * g - 2)
        h = o * (2 * torch.sigmoid(c) - 1)
        outputs.append(h)
    weights = torch.randn(6, ROWS, HIDDEN).double()
    parameters = list(cell.parameters())
    expected = torch.autograd.grad((torch.stack(outputs) * weights).sum() + h.sum() + c.sum(), parameters)
    fast, final = cell.sequence(inputs, state, is_first)
    got = torch.autograd.grad((fast * weights).sum() + final.h.sum() + final.c.sum(), parameters)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_truncated_errors_travel_in_the_memory_alone() -> None:
    state = LSTMState(*(torch.randn(ROWS, HIDDEN).double().requires_grad_() for _ in range(2)))
    for gradient, flows in (("full", True), ("truncated", False)):
        outputs, _ = build("lstm_1997", gradient=gradient).sequence(random_inputs(3), state, no_resets(3))
        into_h, into_c = torch.autograd.grad(outputs[-1].sum(), state, allow_unused=True, materialize_grads=True)
        assert bool(into_h.any()) is flows
        assert into_c.all()


@pytest.mark.parametrize("variant", (VARIANTS | TRUNCATED).values(), ids=(VARIANTS | TRUNCATED).keys())
def test_a_backward_pass_may_run_twice_but_not_be_differentiated(variant: tuple[str, dict[str, Any]]) -> None:
    cell = build(variant[0], **variant[1])
    inputs = random_inputs(STEPS).requires_grad_()
    outputs, final = cell.sequence(inputs, cell.init_state(ROWS), dict(reset_patterns(STEPS, ROWS))["random"])
    loss = outputs.square().sum() + tree_leaves(final)[-1].sum()
    sources = [inputs, *cell.parameters()]
    first, second = (torch.autograd.grad(loss, sources, retain_graph=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    (grad,) = torch.autograd.grad(loss, inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("name", dict.fromkeys(name for name, _ in VARIANTS.values()))
def test_a_nan_that_the_sequence_itself_makes_does_not_survive_a_reset(name: str) -> None:
    cell = build(name)
    inputs = random_inputs(6)
    inputs[1, 0] = torch.nan
    is_first = no_resets(6)
    is_first[3, 0] = True
    outputs, final = cell.sequence(inputs, cell.init_state(ROWS), is_first)
    assert outputs[1:3, 0].isnan().all()
    assert all(bool(leaf.isfinite().all()) for leaf in (outputs[3:], outputs[:, 1], *tree_leaves(final)))
    seen = inputs.clone().requires_grad_()
    outputs, _ = cell.sequence(seen, cell.init_state(ROWS), is_first)
    (grad,) = torch.autograd.grad(outputs[3:].sum(), seen)
    assert grad[3:].isfinite().all()
