"""Claims about `rlstm.kernels`: whole sequences with resets anywhere equal the plain loop, in either precision."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlstm.cells import CELLS, RecurrentCell, make_cell
from rlstm.cells.gru import GRUCell, GRUKernel
from rlstm.cells.lstm import LSTMCell
from rlstm.cells.product_cell import LSTMState, OutputState
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.kernels.bptt.gated import bptt_sequence
from rlstm.kernels.reset_steps import gru_sequence, lstm_sequence, plan_reset_steps
from rlstm.kernels.unroll import recomputed_sequence, unroll
from rlstm.testing import reset_patterns

Kernel = Callable[..., tuple[Tensor, ...]]


def some_of(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Return the values, those that are not kept as slow ones."""
    return [value if value in kept else pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def weights_of(num_gates: int, width: int, hidden: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = [(num_gates * hidden, width), (num_gates * hidden, hidden), (num_gates * hidden,), (num_gates * hidden,)]
    return [torch.randn(shape).to(dtype) / hidden**0.5 for shape in shapes]


def loop(
    kind: str, inputs: Tensor, states: list[Tensor], is_first: Tensor, weights: list[Tensor]
) -> tuple[Tensor, ...]:
    """Run torch's own cell over the steps, each state replaced by zeros where ``is_first``."""
    cell = torch.lstm_cell if kind == "lstm" else torch.gru_cell
    outputs = []
    for inputs_t, first in zip(inputs, is_first, strict=True):
        states = [torch.where(first.unsqueeze(1), torch.zeros_like(leaf), leaf) for leaf in states]
        after = cell(inputs_t, states if kind == "lstm" else states[0], *weights)
        states = list(after) if kind == "lstm" else [after]
        outputs.append(states[0])
    return torch.stack(outputs), *states


def differentiate(run: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> list[Tensor]:
    """Return the results of ``run`` and the gradients of a fixed projection of them by every tensor."""
    sources = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    results = run(*sources)
    draws = torch.Generator().manual_seed(1)
    loss = torch.stack([(r * torch.randn(r.shape, generator=draws).to(r)).sum() for r in results]).sum()
    return [*results, *torch.autograd.grad(loss, sources)]


def gru_bptt_sequence(inputs: Tensor, h: Tensor, is_first: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    outputs, (h,) = bptt_sequence(GRUKernel, inputs, (h,), is_first, weights)
    return outputs, h


KERNELS: list[Any] = [
    pytest.param("lstm", lstm_sequence, id="lstm_sequence"),
    pytest.param("gru", gru_sequence, id="gru_sequence"),
    pytest.param("gru", gru_bptt_sequence, id="gru_bptt_sequence"),
]


def compare(kind: str, kernel: Kernel, sizes: tuple[int, int, int, int], is_first: Tensor, tolerance: float) -> None:
    """Compare a float64 kernel with torch's cell in a loop: results, and gradients of every argument."""
    num_steps, num_rows, width, hidden = sizes
    num_states, num_gates = (2, 4) if kind == "lstm" else (1, 3)
    inputs = torch.randn(num_steps, num_rows, width).double()
    states = [torch.randn(num_rows, hidden).double() for _ in range(num_states)]
    weights = weights_of(num_gates, width, hidden)

    def fast(inputs: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return kernel(inputs, *rest[:num_states], is_first, *rest[num_states:])

    def slow(inputs: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        return loop(kind, inputs, list(rest[:num_states]), is_first, list(rest[num_states:]))

    got, expected = (differentiate(run, inputs, *states, *weights) for run in (fast, slow))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("num_rows", some_of([1, 3], 3))
@pytest.mark.parametrize("num_steps", some_of([1, 2, 17], 1, 17))
@pytest.mark.parametrize(("kind", "kernel"), KERNELS)
def test_a_kernel_equals_torchs_cell_in_a_loop(kind: str, kernel: Kernel, num_steps: int, num_rows: int) -> None:
    for _, is_first in reset_patterns(num_steps, num_rows):
        compare(kind, kernel, (num_steps, num_rows, 4, 5), is_first, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("num_steps", [7, 8, 9, 31, 64])
@pytest.mark.parametrize(("kind", "kernel"), KERNELS)
def test_a_kernel_equals_the_loop_at_every_padded_length(
    kind: str, kernel: Kernel, num_steps: int, rate: float
) -> None:
    for num_rows, width, hidden in [(1, 1, 1), (2, 3, 1), (5, 1, 8), (8, 16, 33)]:
        for _ in range(5):
            is_first = torch.rand(num_steps, num_rows) < rate
            compare(kind, kernel, (num_steps, num_rows, width, hidden), is_first, 1e-9)


@pytest.mark.parametrize(("kind", "kernel"), KERNELS)
def test_final_states_are_right_where_lanes_have_different_numbers_of_resets(kind: str, kernel: Kernel) -> None:
    is_first = torch.zeros(6, 4, dtype=torch.bool)
    is_first[1:, 0] = True  # Five inserted steps, no padding.
    is_first[3, 1] = True
    is_first[5, 2] = True  # The last step; lane 3 has none and is padded most.
    for _ in range(3):
        compare(kind, kernel, (6, 4, 4, 5), is_first, 1e-12)


@pytest.mark.parametrize("pattern", ["none", "t = 0", "t = T - 1", "all", "random"])
def test_the_hand_written_gradient_of_the_gru_is_that_of_finite_differences(pattern: str) -> None:
    is_first = dict(reset_patterns(4, 2))[pattern]
    tensors = [torch.randn(4, 2, 3), torch.randn(2, 3), *weights_of(3, 3, 3)]
    tensors = [tensor.double().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda x, h, *w: gru_bptt_sequence(x, h, is_first, *w), tensors)


@pytest.mark.parametrize("pattern", ["none", "t = T - 1", "random"])
def test_the_gradient_through_reset_steps_is_that_of_finite_differences(pattern: str) -> None:
    is_first = dict(reset_patterns(4, 2))[pattern]
    tensors = [torch.randn(4, 2, 3), torch.randn(2, 3), torch.randn(2, 3), *weights_of(4, 3, 3)]
    tensors = [tensor.double().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(lambda x, h, c, *w: lstm_sequence(x, h, c, is_first, *w), tensors)


def test_a_part_of_the_gru_may_need_no_gradient() -> None:
    is_first = dict(reset_patterns(5, 2))["random"]
    inputs, h, weights = torch.randn(5, 2, 3).double(), torch.randn(2, 4).double(), weights_of(3, 3, 4)
    for index in range(4):
        weight = weights[index].clone().requires_grad_()
        chosen = [weight if k == index else other for k, other in enumerate(weights)]
        grads = [
            torch.autograd.grad(run(chosen)[0].square().sum(), weight)[0]
            for run in (
                lambda chosen: gru_bptt_sequence(inputs, h, is_first, *chosen),
                lambda chosen: loop("gru", inputs, [h], is_first, chosen),
            )
        ]
        torch.testing.assert_close(*grads, rtol=0, atol=1e-12)


def test_the_gru_uses_a_gradient_that_reaches_only_its_final_state() -> None:
    is_first = torch.tensor([[True], [False], [True], [False]])
    tensors = [torch.randn(4, 1, 2).double(), torch.randn(1, 3).double(), *weights_of(3, 2, 3)]
    x, y = (tensors[0].clone().requires_grad_() for _ in range(2))
    _, final = gru_bptt_sequence(x, tensors[1], is_first, *tensors[2:])
    _, expected_final = loop("gru", y, [tensors[1]], is_first, tensors[2:])
    (got,), (expected,) = torch.autograd.grad(final.sum(), x), torch.autograd.grad(expected_final.sum(), y)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    assert not got[:2].any()
    assert got[2:].any()


def test_the_hand_written_gradient_refuses_to_be_differentiated_again() -> None:
    inputs = torch.randn(3, 1, 2, requires_grad=True)
    outputs, _ = gru_bptt_sequence(
        inputs, torch.zeros(1, 3), torch.zeros(3, 1, dtype=torch.bool), *weights_of(3, 2, 3, torch.float32)
    )
    (grad,) = torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_the_plan_of_reset_steps_is_the_one_drawn_by_hand() -> None:
    """Lane 0 is reset before step 2, lane 1 before every step; a reset before step 0 is not counted."""
    is_first = torch.tensor([[False, True], [False, True], [True, True], [False, True]])
    plan = plan_reset_steps(is_first)
    assert plan is not None
    assert plan.length == 8
    assert plan.rows.view(4, 2).tolist() == [[0, 1], [2, 5], [6, 9], [8, 13]]
    # Real step 0, real 1, reset, real 2, real 3, then hold; real and reset in turn, then hold.
    for lane, steps in enumerate(["..R..HHH", ".R.R.R.H"]):
        assert plan.kinds[:, lane, 0].tolist() == [step == "R" for step in steps]
        assert plan.kinds[:, lane, 1].tolist() == [step == "H" for step in steps]


@pytest.mark.parametrize("pattern", ["none", "t = 0"])
def test_nothing_is_inserted_where_no_reset_lies_after_the_first_step(pattern: str) -> None:
    assert plan_reset_steps(dict(reset_patterns(5, 3))[pattern]) is None


def test_padded_lengths_are_multiples_of_8_and_no_longer_than_needed() -> None:
    for num_resets, length in [(1, 16), (4, 16), (5, 24), (11, 24)]:
        is_first = torch.zeros(12, 3, dtype=torch.bool)
        is_first[1 : 1 + num_resets, 1] = True
        plan = plan_reset_steps(is_first)
        assert plan is not None
        assert plan.length == length
        assert len(plan.rows.unique()) == 36


@pytest.mark.parametrize("kernel", [lstm_sequence, gru_sequence, gru_bptt_sequence])
def test_a_kernel_leaves_the_mask_and_its_inputs_as_they_were(kernel: Kernel) -> None:
    num_states, num_gates = (2, 4) if kernel is lstm_sequence else (1, 3)
    is_first = dict(reset_patterns(9, 3))["random"]
    is_first[0, 0] = True
    arguments = [
        torch.randn(9, 3, 4).double(),
        *(torch.randn(3, 5).double() for _ in range(num_states)),
        is_first,
        *weights_of(num_gates, 4, 5),
    ]
    before = [argument.clone() for argument in arguments]
    kernel(*arguments)
    assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))


def test_the_reset_step_holds_against_large_weights_and_states() -> None:
    """The flag's weight of 1e4 has to win against whatever stands in the gates."""
    is_first = torch.zeros(6, 3, dtype=torch.bool)
    is_first[2, 0] = is_first[4, 1] = True
    inputs, weights = torch.randn(6, 3, 4) * 10, [w * 10 for w in weights_of(4, 4, 5, torch.float32)]
    states = [torch.rand(3, 5) * 2 - 1, torch.randn(3, 5) * 1e3]
    got = lstm_sequence(inputs, *states, is_first, *weights)
    expected = loop("lstm", inputs, states, is_first, weights)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


# Single precision takes other code in torch: dense CPU kernels for training and for inference.

FLOAT32_VALUE_TOLERANCE = 5e-6
"""Absolute; outputs lie in [-1, 1]. Ten times what is measured."""

FLOAT32_GRADIENT_TOLERANCE = 2e-5
"""Relative to the largest entry of each gradient."""


def float32_cell(kind: str) -> tuple[Any, Any]:
    cell: Any = LSTMCell(64, 128) if kind == "lstm" else GRUCell(64, 128)
    with torch.no_grad():
        for bias in (cell.bias_ih, cell.bias_hh):
            bias.add_(torch.randn_like(bias) * 0.1)
    exact: Any = type(cell)(64, 128).double()
    exact.load_state_dict(cell.state_dict())
    return cell, exact


def float32_problem(kind: str, rate: float) -> tuple[Tensor, Any, Tensor]:
    state_type: Any = LSTMState if kind == "lstm" else OutputState
    state = state_type(*(torch.rand(16, 128) * 2 - 1 for _ in state_type._fields))
    return torch.randn(128, 16, 64), state, torch.rand(128, 16) < rate


def value_and_gradients(cell: RecurrentCell, run: Any, inputs: Tensor, state: Any, is_first: Tensor) -> list[Tensor]:
    def forward(inputs: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
        outputs, final = run(inputs, type(state)(*leaves), is_first)
        return outputs, *final

    sources = [tensor.clone().requires_grad_() for tensor in (inputs, *state)]
    results = forward(*sources)
    draws = torch.Generator().manual_seed(1)
    loss = torch.stack([(r * torch.randn(r.shape, generator=draws).to(r)).sum() for r in results]).sum()
    grads = torch.autograd.grad(loss, [*sources, *cell.parameters()])
    return [tensor.detach() for tensor in (*results, *grads)]


@pytest.mark.parametrize("rate", some_of([0.0, 0.01, 0.05, 0.5, 1.0], 0.0, 0.05))
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_in_single_precision_a_sequence_equals_the_exact_loop(kind: str, rate: float) -> None:
    cell, exact = float32_cell(kind)
    inputs, state, is_first = float32_problem(kind, rate)
    got = value_and_gradients(cell, cell.sequence, inputs, state, is_first)
    wide = tree_map(Tensor.double, state)
    expected = value_and_gradients(exact, exact.reference_sequence, inputs.double(), wide, is_first)
    num_values = 1 + len(state)
    for index, (one, other) in enumerate(zip(got, expected, strict=True)):
        scale = 1.0 if index < num_values else max(1.0, float(other.abs().max()))
        tolerance = FLOAT32_VALUE_TOLERANCE if index < num_values else FLOAT32_GRADIENT_TOLERANCE
        assert float((one.double() - other).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("rate", some_of([0.0, 0.05, 1.0], 0.05))
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_in_single_precision_inference_equals_the_exact_loop(kind: str, rate: float, mode: Callable[[], Any]) -> None:
    cell, exact = float32_cell(kind)
    inputs, state, is_first = float32_problem(kind, rate)
    with mode():
        outputs, final = cell.sequence(inputs, state, is_first)
        wide = tree_map(Tensor.double, state)
        expected, expected_final = exact.reference_sequence(inputs.double(), wide, is_first)
    for one, other in zip([outputs, *final], [expected, *expected_final], strict=True):
        assert float((one.double() - other).abs().max()) <= FLOAT32_VALUE_TOLERANCE


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_in_single_precision_nothing_crosses_a_reset(kind: str) -> None:
    cell, _ = float32_cell(kind)
    inputs, state, is_first = float32_problem(kind, 0.05)
    is_first[50] = True
    inputs.requires_grad_()
    outputs, _ = cell.sequence(inputs, state, is_first)
    (grad,) = torch.autograd.grad(outputs[50:].square().sum(), inputs)
    assert not grad[:50].any()
    assert grad[50:].any()
    other = torch.cat([torch.randn(50, 16, 64), inputs.detach()[50:]]).requires_grad_()
    again, _ = cell.sequence(other, cell.init_state(16), is_first)
    assert torch.equal(again[50:], outputs[50:])


def test_a_hold_step_keeps_c_exactly_in_single_precision() -> None:
    """The lane without resets is padded by 64 steps: c must come through them bit for bit."""
    cell, _ = float32_cell("lstm")
    inputs, state, is_first = float32_problem("lstm", 0.0)
    is_first[1::2, 0] = True
    with torch.no_grad():
        _, padded = cell.sequence(inputs, state, is_first)
        _, plain = cell.sequence(inputs, state, torch.zeros_like(is_first))
    torch.testing.assert_close(padded.c[1:], plain.c[1:], rtol=0, atol=1e-6)
    torch.testing.assert_close(padded.h[1:], plain.h[1:], rtol=0, atol=1e-6)


# The past computed again instead of kept


def unrolled(cell: RecurrentCell, num_steps: int, is_first: Tensor, run: Callable[..., Any]) -> dict[str, Tensor]:
    """Return outputs, final state and the gradients of a fixed projection of them, by name, in the cell's precision."""
    draws = torch.Generator().manual_seed(2)
    num_rows, like = is_first.shape[1], next(cell.parameters())
    inputs = torch.randn(num_steps, num_rows, 4, generator=draws).to(like).requires_grad_()
    state = cell.init_state(num_rows)
    with torch.no_grad():  # A state that the cell itself has reached: not every number is a possible one.
        for seen in torch.randn(3, num_rows, 4, generator=draws).to(like):
            _, state = cell.step(seen, state)
    state = tree_map(Tensor.requires_grad_, state)
    outputs, final = run(inputs, state, is_first)
    results = [outputs, *tree_leaves(final)]
    loss = torch.stack([(r * torch.randn(r.shape, generator=draws).to(r)).sum() for r in results]).sum()
    sources = {"inputs": inputs, **{f"state {k}": leaf for k, leaf in enumerate(tree_leaves(state))}}
    sources |= dict(cell.named_parameters())
    grads = torch.autograd.grad(loss, list(sources.values()), allow_unused=True, materialize_grads=True)
    values = {f"result {k}": result.detach() for k, result in enumerate(results)}
    return values | {f"d {name}": grad for name, grad in zip(sources, grads, strict=True)}


def recomputing(cell: RecurrentCell, segment_length: int) -> Callable[..., Any]:
    def run(inputs: Tensor, state: Any, is_first: Tensor) -> Any:
        parameters = tuple(cell.parameters())
        return recomputed_sequence(
            cell.sequence, inputs, state, is_first, parameters=parameters, segment_length=segment_length
        )

    return run


THOROUGH = ([1, 2, 10], [name for name, _ in reset_patterns(10, 3)], [1, 3, 5, 99])
QUICK = ([10], ["t = 0", "random"], [3])
"""Lengths of the sequence, patterns of resets, and lengths of segments."""


@pytest.mark.parametrize(
    ("name", "num_layers", "problems"),
    [(name, 1, QUICK) for name in CELLS]
    + [("gru", 1, THOROUGH), ("lstm", 2, QUICK)]
    + [pytest.param(name, number, THOROUGH, marks=pytest.mark.slow) for name in CELLS for number in (1, 2)],
)
def test_the_past_computed_again_gives_the_gradient_of_the_past_kept(name: str, num_layers: int, problems: Any) -> None:
    """Segments that divide the sequence or not, of one step, and longer than it; resets at and between their ends."""
    cell = make_cell(name, 4, 5, num_layers=num_layers).double()
    every_length, patterns, segment_lengths = problems
    for num_steps in every_length:
        for pattern in patterns:
            is_first = dict(reset_patterns(num_steps, 3))[pattern]
            expected = unrolled(cell, num_steps, is_first, cell.sequence)
            for segment_length in segment_lengths:
                got = unrolled(cell, num_steps, is_first, recomputing(cell, segment_length))
                for key, value in got.items():
                    where = f"{pattern}, T = {num_steps}, segments of {segment_length}, {key}"
                    tolerance = 1e-12 * max(1.0, float(expected[key].abs().max()))
                    torch.testing.assert_close(
                        value, expected[key], rtol=0, atol=tolerance, msg=lambda m, w=where: f"{w}: {m}"
                    )


@pytest.mark.parametrize("name", some_of(CELLS, "lstm", "gru"))
def test_in_single_precision_recomputing_gives_the_gradient_of_keeping(name: str) -> None:
    """The dense kernel of training gives both biases one tensor as their gradient, and inference has its own."""
    cell, is_first = make_cell(name, 4, 5), dict(reset_patterns(30, 3))["random"]
    tolerance = 1e-4 if name in ("mlstm", "xlstm") else 1e-5  # These divide by what may be small.
    for mask in (is_first, torch.zeros_like(is_first)):
        expected = unrolled(cell, 30, mask, cell.sequence)
        for key, value in unrolled(cell, 30, mask, recomputing(cell, 6)).items():
            torch.testing.assert_close(value, expected[key], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", some_of(sorted(set(CELLS) - {"none"}), "lstm", "slstm"))
@pytest.mark.parametrize("part", ["outputs", "final state", "first output"])
def test_a_loss_may_reach_a_part_of_what_is_recomputed(name: str, part: str) -> None:
    cell = make_cell(name, 4, 5).double()
    inputs, is_first = torch.randn(7, 2, 4).double(), torch.zeros(7, 2, dtype=torch.bool)
    grads = []
    for run in (cell.sequence, recomputing(cell, 3)):
        seen = inputs.clone().requires_grad_()
        outputs, final = run(seen, cell.init_state(2), is_first)
        state = torch.cat([leaf.flatten() for leaf in tree_leaves(final)])
        losses = {"outputs": outputs, "final state": state, "first output": outputs[0]}
        cell.zero_grad()
        losses[part].square().sum().backward()
        grads.append([seen.grad, *(parameter.grad for parameter in cell.parameters())])
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_what_needs_no_gradient_gets_none_when_the_past_is_recomputed() -> None:
    cell = make_cell("lstm", 4, 5).double()
    cell.weight_ih.requires_grad_(False)  # type: ignore[union-attr, operator]
    unused = torch.ones(2, requires_grad=True)
    inputs, is_first = torch.randn(7, 2, 4).double(), torch.zeros(7, 2, dtype=torch.bool)
    parameters = (*cell.parameters(), unused)
    outputs, _ = recomputed_sequence(
        cell.sequence, inputs, cell.init_state(2), is_first, parameters=parameters, segment_length=3
    )
    outputs.sum().backward()
    reached = {name: parameter.grad is not None for name, parameter in cell.named_parameters()}
    assert reached == {"weight_ih": False, "weight_hh": True, "bias_ih": True, "bias_hh": True}
    assert unused.grad is None
    assert inputs.grad is None


class _Counted(NamedTuple):
    total: Tensor  # (B,)
    steps: Tensor  # (B,) int64


def test_inputs_may_be_trees_and_states_may_hold_whole_numbers() -> None:
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def run(inputs: dict[str, Any], state: _Counted, is_first: Tensor) -> tuple[Tensor, _Counted]:
        outputs = []
        for a, b in zip(inputs["a"], inputs["b"][0], strict=True):
            state = _Counted((state.total + a * b * scale).sin(), state.steps + b)
            outputs.append(state.total * state.steps)
        return torch.stack(outputs), state

    a = torch.randn(7, 2).double().requires_grad_()
    inputs = {"a": a, "b": (torch.arange(14).view(7, 2), None)}
    start = _Counted(torch.zeros(2).double(), torch.ones(2, dtype=torch.int64))
    is_first = torch.zeros(7, 2, dtype=torch.bool)
    found = []
    for recomputed in (None, (scale,)):
        outputs, final = unroll(run, inputs, start, is_first, recomputed=recomputed)
        assert isinstance(final, _Counted)
        assert final.steps.tolist() == [43, 50]
        found.append(torch.autograd.grad(outputs.sum() + final.total.sum(), [a, scale]))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_parameters_that_share_a_gradient_tensor_get_a_sum_each_when_recomputing() -> None:
    """The gradient of a sum is one tensor for all its terms; added up in place it would be counted for each of them."""
    p, q = (torch.randn(2).double().requires_grad_() for _ in range(2))

    def run(inputs: Tensor, state: Tensor, is_first: Tensor) -> tuple[Tensor, Tensor]:
        outputs = []
        for inputs_t in inputs:
            state = state + p + q
            outputs.append(state * inputs_t)
        return torch.stack(outputs), state

    inputs, is_first = torch.randn(5, 2).double(), torch.zeros(5, 2, dtype=torch.bool)
    outputs, _ = recomputed_sequence(
        run, inputs, torch.zeros(2).double(), is_first, parameters=(p, q), segment_length=1
    )
    expected = (inputs * torch.arange(1, 6).unsqueeze(1)).sum(0)  # The state of step t holds t + 1 times p and q.
    for grad in torch.autograd.grad(outputs.sum(), [p, q]):
        torch.testing.assert_close(grad, expected, rtol=0, atol=1e-12)


def test_the_recomputed_past_refuses_to_be_differentiated_twice() -> None:
    cell = make_cell("elman", 4, 5)
    inputs = torch.randn(7, 2, 4, requires_grad=True)
    outputs, _ = recomputing(cell, 3)(inputs, cell.init_state(2), torch.zeros(7, 2, dtype=torch.bool))
    (grad,) = torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("num_steps", "horizon", "lengths"), [(10, None, [4, 4, 2]), (10, 6, [4, 2, 4]), (9, 2, [2, 2, 2, 2, 1])]
)
def test_segments_have_the_root_of_the_steps_and_every_one_runs_twice(
    num_steps: int, horizon: int | None, lengths: list[int]
) -> None:
    cell, ran = make_cell("gru", 4, 5), []

    def run(inputs: Tensor, state: Any, is_first: Tensor) -> Any:
        ran.append((len(inputs), torch.is_grad_enabled()))
        return cell.sequence(inputs, state, is_first)

    inputs, is_first = torch.randn(num_steps, 2, 4), torch.zeros(num_steps, 2, dtype=torch.bool)
    recomputed = tuple(cell.parameters())
    outputs, _ = unroll(run, inputs, cell.init_state(2), is_first, horizon=horizon, recomputed=recomputed)
    assert ran == [(length, False) for length in lengths]
    outputs.sum().backward()
    assert ran[len(lengths) :] == [(length, True) for length in reversed(lengths)]


def test_a_horizon_cuts_the_gradient_and_no_value() -> None:
    cell, is_first = make_cell("gru", 4, 5), torch.zeros(7, 2, dtype=torch.bool)
    inputs = torch.randn(7, 2, 4, requires_grad=True)
    outputs, _ = unroll(cell.sequence, inputs, cell.init_state(2), is_first, horizon=3)
    torch.testing.assert_close(outputs, cell.sequence(inputs, cell.init_state(2), is_first)[0])
    (grad,) = torch.autograd.grad(outputs[5].sum(), inputs)
    assert grad.any(2).any(1).tolist() == [False, False, False, True, True, True, False]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_a_gradient_nothing_is_cut_into_segments(mode: Callable[[], Any]) -> None:
    cell, ran = make_cell("gru", 4, 5), []

    def run(inputs: Tensor, state: Any, is_first: Tensor) -> Any:
        ran.append(len(inputs))
        return cell.sequence(inputs, state, is_first)

    with mode():
        is_first = torch.zeros(10, 2, dtype=torch.bool)
        unroll(run, torch.randn(10, 2, 4), cell.init_state(2), is_first, recomputed=tuple(cell.parameters()))
    assert ran == [10]


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that were made inside and still live, whoever holds them."""

    def __init__(self, *ignored: Tensor) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in ignored}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def memory_used(name: str, num_steps: int, recompute: bool) -> tuple[float, float]:
    """Return what is kept beside the outputs after the forward pass, and the peak of both passes.

    In units of the outputs of one step.
    """
    cell = make_cell(name, 3, 32).double()
    inputs, is_first = torch.randn(num_steps, 4, 3).double(), torch.zeros(num_steps, 4, dtype=torch.bool)
    is_first[::10, :2] = True
    parameters = tuple(cell.parameters())
    with LiveBytes(inputs, is_first, *parameters) as memory:
        state = cell.init_state(4)
        outputs, final = unroll(cell.sequence, inputs, state, is_first, recomputed=parameters if recompute else None)
        kept = memory.live - outputs.nbytes
        (outputs.sum() + tree_leaves(final)[0].sum()).backward()
    unit = 4 * 32 * 8
    return kept / unit, memory.peak / unit


@pytest.mark.parametrize("name", some_of(sorted(set(CELLS) - {"none"}), "elman", "peephole_lstm_c"))
def test_what_is_kept_for_the_gradient_grows_with_the_root_of_the_steps(name: str) -> None:
    """Four times the steps, twice as much; a cell that keeps its past keeps four times as much, many times over."""
    kept, peak = zip(*(memory_used(name, num_steps, recompute=True) for num_steps in (100, 400)), strict=True)
    assert kept[1] < 2.6 * kept[0]
    units = sum(leaf.numel() for leaf in tree_leaves(make_cell(name, 3, 32).init_state(1))) / 32
    assert kept[1] < 0.1 * 400 * max(2, units)  # 20 states and a segment; the outputs, 400, come on top.
    if name == "elman":
        return  # Nothing but its outputs is kept in either case.
    plainly_kept, plain_peak = memory_used(name, 400, recompute=False)
    assert plainly_kept > 1.5 * 400
    assert peak[1] < plain_peak - 0.5 * (plainly_kept - kept[1])


@pytest.mark.gpu
@pytest.mark.parametrize("rate", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_on_a_gpu_a_large_sequence_equals_the_exact_loop(kind: str, rate: float) -> None:
    """Values to 2e-5, gradients to 1e-4 of their largest entry, TensorFloat-32 off."""
    cell, exact = float32_cell(kind)
    inputs, state, is_first = float32_problem(kind, rate)
    moved = (inputs.cuda(), tree_map(Tensor.cuda, state), is_first.cuda())
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        got = value_and_gradients(cell.cuda(), cell.sequence, *moved)
    wide = tree_map(Tensor.double, state)
    expected = value_and_gradients(exact, exact.reference_sequence, inputs.double(), wide, is_first)
    for index, (one, other) in enumerate(zip(got, expected, strict=True)):
        values = index < 1 + len(state)
        tolerance = 2e-5 if values else 1e-4 * max(1.0, float(other.abs().max()))
        assert float((one.cpu().double() - other).abs().max()) <= tolerance


@pytest.mark.gpu
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("name", CELLS)
def test_on_a_gpu_the_past_computed_again_gives_the_gradient_of_the_past_kept(name: str, num_layers: int) -> None:
    cell = make_cell(name, 4, 32, num_layers=num_layers).cuda()
    is_first = torch.rand(60, 3) < 0.1
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for mask in (is_first.cuda(), torch.zeros_like(is_first).cuda()):
            expected = unrolled(cell, 60, mask, cell.sequence)
            for key, value in unrolled(cell, 60, mask, recomputing(cell, 8)).items():
                torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-4)


# What is refused

CHECKED = sorted(set(CELLS) - {"none", "conv_lstm", "xlstm"})


@pytest.mark.parametrize("shape", [(4, 6), (5, 4), (6, 5), (7, 4)])
@pytest.mark.parametrize("name", CHECKED)
def test_resets_of_other_steps_or_lanes_are_refused(name: str, shape: tuple[int, int]) -> None:
    cell, is_first = make_cell(name, 3, 8), torch.zeros(shape, dtype=torch.bool)
    is_first[2, 1] = True
    with pytest.raises(ValueError, match=rf"is_first is \({shape[0]}, {shape[1]}\), .* 6 steps of 4 rows"):
        cell.sequence(torch.randn(6, 4, 3), cell.init_state(4), is_first)


@pytest.mark.parametrize("name", CHECKED)
def test_a_state_of_other_lanes_is_refused(name: str) -> None:
    cell = make_cell(name, 3, 8)
    with pytest.raises(ValueError, match="the state is of 1 rows, but the inputs are of 4"):
        cell.sequence(torch.randn(6, 4, 3), cell.init_state(1), torch.zeros(6, 4, dtype=torch.bool))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_lstms_input_that_is_not_finite_ends_at_the_reset_of_its_lane(value: float) -> None:
    """The dense kernel closes gates by 0, and 0 times NaN is NaN: the loop takes over."""
    cell, inputs, is_first = make_cell("lstm", 3, 8), torch.randn(9, 4, 3), torch.zeros(9, 4, dtype=torch.bool)
    inputs[3, 1], is_first[5, 1] = value, True
    outputs, final = cell.sequence(inputs, cell.init_state(4), is_first)
    assert outputs[5:].isfinite().all()
    assert all(leaf.isfinite().all() for leaf in final)
    expected, _ = cell.reference_sequence(inputs, cell.init_state(4), is_first)
    torch.testing.assert_close(outputs, expected, equal_nan=True)


@pytest.mark.parametrize("name", ["lstm", "gru", "elman", "lstm_1997", "slstm", "min_gru"])
def test_no_lanes_are_a_sequence_of_nothing(name: str) -> None:
    cell = make_cell(name, 3, 8)
    outputs, _ = cell.sequence(torch.randn(6, 0, 3), cell.init_state(0), torch.zeros(6, 0, dtype=torch.bool))
    assert outputs.shape == (6, 0, 8)
