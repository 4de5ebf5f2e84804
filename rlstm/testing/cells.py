"""The contract of a memory cell, as a check."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from rlstm.cells.base import RecurrentCell, State
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.testing.contracts import require, require_close

MakeCell = Callable[[int, int], RecurrentCell]
_INPUT, _HIDDEN, _STEPS, _ROWS = 4, 5, 9, 3


def check_cell(make_cell: MakeCell, *, tolerance: float = 1e-9) -> None:
    """Hold a memory cell to its contract, in float64 on the CPU.

    Checked are: leaves batch-first; ``reset`` restores the initial state, also from NaN; ``sequence`` equals the loop
    over ``step`` in outputs, final state and every gradient, whatever the resets; nothing crosses a reset, bit for bit,
    and no gradient either; ``acting_snapshot`` equals ``step``; rows don't mix; a sequence carries on from where
    another ended; arguments are not written to; copies act alike.

    Args:
        make_cell: The class, or a function from input and hidden width to a cell.
        tolerance: Largest difference, relative to the largest value where that is above 1.

    Raises:
        ContractError: At the first broken part.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cell = make_cell(_INPUT, _HIDDEN).double()
        with torch.no_grad():
            for parameter in cell.parameters():  # Away from zeros and symmetries of the initialisation.
                parameter.add_(0.3 * torch.randn_like(parameter))
        _check_state(cell)
        _check_reset(cell)
        _check_acting_snapshot(cell, tolerance)
        for num_steps in (_STEPS, 1):
            for name, is_first in reset_patterns(num_steps, _ROWS):
                _check_sequence(cell, is_first, f"T = {num_steps}, resets: {name}", tolerance)
        _check_reset_stops_everything(cell)
        _check_nan_is_reset(cell)
        _check_rows(cell)
        _check_carry(cell, tolerance)
        _check_arguments_are_left_alone(cell)
        _check_copies(cell, make_cell)


def reset_patterns(num_steps: int, num_rows: int) -> Iterator[tuple[str, Tensor]]:
    """Yield names and masks ``(T, B)`` of the reset patterns that implementations get wrong.

    None, at the first step, at the last step, at every step, two in a row, and at random (a third of the steps, so that
    rows have different numbers of them).
    """

    def at(*steps: int) -> Tensor:
        mask = torch.zeros(num_steps, num_rows, dtype=torch.bool)
        mask[[t for t in steps if t < num_steps]] = True
        return mask

    middle = num_steps // 2
    one_row = at(middle, middle + 1) & (torch.arange(num_rows) == 0)
    yield "none", at()
    yield "t = 0", at(0)
    yield "t = T - 1", at(num_steps - 1)
    yield "all", at(*range(num_steps))
    yield "two in a row", at(middle, middle + 1)
    yield "two in a row in one row of the batch", one_row
    yield "random", torch.rand(num_steps, num_rows, generator=torch.Generator().manual_seed(num_steps)) < 1 / 3


def _identical(got: State, expected: State) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tree_leaves(got), tree_leaves(expected), strict=True))


def _inputs(num_steps: int) -> Tensor:
    return torch.randn(num_steps, _ROWS, _INPUT, dtype=torch.float64)


@torch.no_grad()
def _reached_state(cell: RecurrentCell, num_steps: int = 3) -> State:
    """Return a state that the cell itself has reached, so that it is a possible one."""
    state = cell.init_state(_ROWS)
    for inputs in _inputs(num_steps):
        _, state = cell.step(inputs, state)
    return state


def _check_state(cell: RecurrentCell) -> None:
    for leaf in tree_leaves(cell.init_state(_ROWS)):
        batch_first = isinstance(leaf, Tensor) and leaf.dim() > 0 and leaf.shape[0] == _ROWS
        require(batch_first, f"init_state({_ROWS}): every leaf must be a tensor that begins with the batch axis.")
    require(_identical(cell.init_state(1), cell.init_state(1)), "init_state: two calls differ.")
    output, state = cell.step(_inputs(1)[0], cell.init_state(_ROWS))
    require(output.shape == (_ROWS, cell.output_size), f"step: output {tuple(output.shape)}, not (B, output_size).")
    shapes = [[leaf.shape for leaf in tree_leaves(one)] for one in (state, cell.init_state(_ROWS))]
    require(shapes[0] == shapes[1], "step: the next state has other leaves or shapes than init_state.")


def _check_reset(cell: RecurrentCell) -> None:
    is_first = torch.tensor([True, False, True])
    initial, state = cell.init_state(_ROWS), _reached_state(cell)
    for name, before in (("a state", state), ("NaN", tree_map(lambda leaf: torch.full_like(leaf, torch.nan), state))):
        after = cell.reset(before, is_first)
        begun, kept = (tree_map(lambda leaf, m=mask: leaf[m], after) for mask in (is_first, ~is_first))
        fresh = tree_map(lambda leaf: leaf[is_first], initial)
        require(_identical(begun, fresh), f"reset: {name} is not replaced by the initial state.")
        if name != "NaN":
            same = _identical(kept, tree_map(lambda leaf: leaf[~is_first], before))
            require(same, "reset: a row changes that is not a first one.")


def _check_acting_snapshot(cell: RecurrentCell, tolerance: float) -> None:
    snapshot, state = cell.acting_snapshot(), _reached_state(cell)
    for inputs in _inputs(3):
        with torch.inference_mode():
            output, next_state = snapshot(inputs, state)
        with torch.no_grad():
            expected, expected_state = cell.step(inputs, state)
        require_close(output, expected, tolerance, "snapshot: output differs from step's")
        for got, leaf in zip(tree_leaves(next_state), tree_leaves(expected_state), strict=True):
            require_close(got, leaf, tolerance, "snapshot: next state differs from step's")
        state = expected_state


def _check_sequence(cell: RecurrentCell, is_first: Tensor, where: str, tolerance: float) -> None:
    inputs, state = _inputs(len(is_first)), _reached_state(cell)
    outputs, _ = cell.reference_sequence(inputs, state, is_first)
    weights = [torch.randn_like(leaf) for leaf in [outputs, *tree_leaves(state)]]
    expected = _run_with_gradients(cell, cell.reference_sequence, inputs, state, is_first, weights)
    got = _run_with_gradients(cell, cell.sequence, inputs, state, is_first, weights)
    for name, value in expected.items():
        require_close(got[name], value, tolerance, f"sequence, {where}: {name} differs from the loop's")
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            plain, _ = cell.sequence(inputs, state, is_first)
        what = f"sequence under {mode.__name__}, {where}: outputs differ from the loop's"
        require_close(plain, outputs, tolerance, what)


def _run_with_gradients(
    cell: RecurrentCell, run: Callable[..., Any], inputs: Tensor, state: State, is_first: Tensor, weights: list[Tensor]
) -> dict[str, Tensor]:
    """Run and differentiate a weighted sum of outputs and final state: values and gradients by name."""
    inputs = inputs.clone().requires_grad_()
    state = tree_map(lambda leaf: leaf.clone().requires_grad_(leaf.is_floating_point()), state)
    outputs, final = run(inputs, state, is_first)
    leaves, finals = tree_leaves(state), tree_leaves(final)
    loss = torch.stack([(v * w).sum() for v, w in zip([outputs, *finals], weights, strict=True)]).sum()
    sources = {"inputs": inputs, **{f"initial state leaf {i}": leaf for i, leaf in enumerate(leaves)}}
    sources |= {name: parameter for name, parameter in cell.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad(loss, list(sources.values()), allow_unused=True, materialize_grads=True)
    values = {"outputs": outputs, **{f"final state leaf {i}": leaf for i, leaf in enumerate(finals)}}
    return values | {f"the gradient of {name}": g for name, g in zip(sources, gradients, strict=True)}


def _check_reset_stops_everything(cell: RecurrentCell) -> None:
    for reset in (1, _STEPS // 2, _STEPS - 1):
        rows = torch.tensor([0, 2])  # Row 1 goes on.
        is_first = torch.zeros(_STEPS, _ROWS, dtype=torch.bool)
        is_first[reset, rows] = True
        inputs = _inputs(_STEPS).requires_grad_()
        state = tree_map(lambda leaf: leaf.requires_grad_(leaf.is_floating_point()), _reached_state(cell))
        outputs, final = cell.sequence(inputs, state, is_first)
        later = [outputs[reset:, rows], *(leaf[rows] for leaf in tree_leaves(final))]
        loss = torch.stack([(leaf * torch.randn_like(leaf)).sum() for leaf in later]).sum()
        sources = [inputs, *tree_leaves(state)]
        gradients = torch.autograd.grad(loss, sources, allow_unused=True, materialize_grads=True)
        crossing = [gradients[0][:reset], *gradients[1:]]
        leaks = any(bool((gradient != 0).any()) for gradient in crossing)
        require(not leaks, f"sequence: a gradient crosses the reset at t = {reset}.")
        other = inputs.detach().clone()
        other[:reset] = torch.randn_like(other[:reset])
        with torch.no_grad():
            outputs, final = cell.sequence(other, _reached_state(cell, 5), is_first)
        after = [outputs[reset:, rows], *(leaf[rows] for leaf in tree_leaves(final))]
        same = all(torch.equal(a, b) for a, b in zip(later, after, strict=True))
        require(same, f"sequence: what came before the reset at t = {reset} changes what comes after it.")


def _check_nan_is_reset(cell: RecurrentCell) -> None:
    state = tree_map(lambda leaf: leaf.clone(), _reached_state(cell))
    for leaf in tree_leaves(state):
        leaf[1] = torch.nan
    is_first = torch.zeros(_STEPS, _ROWS, dtype=torch.bool)
    is_first[0, 1] = True
    inputs = _inputs(_STEPS).requires_grad_()
    outputs, final = cell.sequence(inputs, state, is_first)
    gradients = torch.autograd.grad(outputs.sum(), [inputs, *cell.parameters()], allow_unused=True)
    finite = all(bool(torch.isfinite(leaf).all()) for leaf in tree_leaves((outputs, final, gradients)))
    require(finite, "sequence: a NaN in the state passed in survives a reset at t = 0.")


@torch.no_grad()
def _check_rows(cell: RecurrentCell) -> None:
    is_first = dict(reset_patterns(_STEPS, _ROWS))["random"]
    inputs, state = _inputs(_STEPS), _reached_state(cell)
    other = inputs.clone()
    other[:, 1] += 1.0
    for name, run in (("sequence", cell.sequence), ("step, in a loop,", cell.reference_sequence)):
        outputs, changed = (run(one, state, is_first)[0] for one in (inputs, other))
        require(torch.equal(outputs[:, [0, 2]], changed[:, [0, 2]]), f"{name}: rows of the batch mix.")


@torch.no_grad()
def _check_carry(cell: RecurrentCell, tolerance: float) -> None:
    is_first = dict(reset_patterns(2 * _STEPS, _ROWS))["random"]
    inputs, state = _inputs(2 * _STEPS), _reached_state(cell)
    expected, expected_state = cell.sequence(inputs, state, is_first)
    halves, pieces = expected.split(_STEPS), []
    for piece, resets in zip(inputs.split(_STEPS), is_first.split(_STEPS), strict=True):
        outputs, state = cell.sequence(piece, state, resets)
        pieces.append(outputs)
    what = "sequence: two of T steps, the state carried on, differ from one of 2T"
    for got, leaf in zip(tree_leaves((pieces, state)), tree_leaves((halves, expected_state)), strict=True):
        require_close(got, leaf, tolerance, what)


@torch.no_grad()
def _check_arguments_are_left_alone(cell: RecurrentCell) -> None:
    is_first = dict(reset_patterns(_STEPS, _ROWS))["random"]
    inputs, state = _inputs(_STEPS), _reached_state(cell)
    before = copy.deepcopy((inputs, state, is_first))
    cell.sequence(inputs, state, is_first)
    cell.step(inputs[0], state)
    cell.acting_snapshot()(inputs[0], state)
    cell.reset(state, is_first[0])
    require(_identical((inputs, state, is_first), before), "The cell writes to its inputs, its state or is_first.")


@torch.no_grad()
def _check_copies(cell: RecurrentCell, make_cell: MakeCell) -> None:
    is_first = dict(reset_patterns(_STEPS, _ROWS))["random"]
    inputs, state = _inputs(_STEPS), _reached_state(cell)
    loaded = make_cell(_INPUT, _HIDDEN).double()
    loaded.load_state_dict(cell.state_dict())
    expected = cell.sequence(inputs, state, is_first)
    for name, other in (("copy.deepcopy", copy.deepcopy(cell)), ("state_dict", loaded)):
        same = _identical(other.sequence(inputs, state, is_first), expected)
        require(same, f"A copy made with {name} puts out something else.")
