"""Claims about `rlstm.kernels.triton_*`: persistent kernels equal the plain loop, resets included, or say why not here.

Without a CUDA device the kernels run in Triton's interpreter, which executes the same code on the CPU: it shows that
they compute the right numbers, not that they are fast. Where Triton is not installed, what they refuse is tested alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlstm.cells import CELLS, RecurrentCell, State, make_cell
from rlstm.cells.sequence_paths import check_sequence_path, name_sequence_path, sequence_paths_of
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.kernels.triton.support import TritonKernel, run_triton, why_not_here
from rlstm.kernels.unroll import unroll
from rlstm.policies.inputs import PolicyInputs
from rlstm.testing import check_cell, reset_patterns

WIDTH = 4
TOLERANCE = 5e-6
"""Relative to the largest entry where that is above 1; five times what is measured."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("lstm", {}),
    "gru": ("gru", {}),
    "peephole_lstm": ("peephole_lstm", {}),
    "min_gru": ("min_gru", {}),
    "min_gru identity": ("min_gru", {"candidate": "identity"}),
    "min_lstm": ("min_lstm", {}),
    "min_lstm identity": ("min_lstm", {"candidate": "identity"}),
    "slstm": ("slstm", {"num_heads": 1}),
    "slstm of 2 heads": ("slstm", {"num_heads": 2}),
    "slstm exponential": ("slstm", {"num_heads": 1, "forget_gate": "exponential"}),
}
SIZES = [(7, 3, 5), (1, 1, 16), (1, 17, 5), (7, 17, 24), (7, 1, 16)]  # T, B, H
MIXING = [name for name in VARIANTS if not name.startswith("min_")]
HEADS = {name: options.get("num_heads", 1) for name, (_, options) in VARIANTS.items()}
CASES = [(name, 5) for name in VARIANTS] + [(name, 20 * HEADS[name]) for name in MIXING]
"""With ``small_parts``, held at once and in two parts of which the second is not full."""

by_the_interpreter = pytest.mark.skipif(
    torch.cuda.is_available(),
    reason="needs Triton's interpreter, which runs without a CUDA device: hide yours by CUDA_VISIBLE_DEVICES=''",
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def device() -> Iterator[torch.device]:
    """A CUDA device, or the CPU with Triton interpreted; the test is skipped where there is no Triton."""
    with pytest.MonkeyPatch.context() as patch:
        if not torch.cuda.is_available():
            patch.setenv("TRITON_INTERPRET", "1")  # Read when a kernel's module is first imported.
        pytest.importorskip("triton", reason="Triton is not installed: pip install triton")
        yield torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def small_parts(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program holds 16 units at once and parts of 16: more of them is what 128 and 64 are elsewhere, but quicker."""
    recurrence = importlib.import_module("rlstm.kernels.triton.recurrence")
    monkeypatch.setattr(recurrence, "_WIDEST_WHOLE", 16)
    monkeypatch.setattr(recurrence, "_PART", 16)


def rounded(hidden: int, options: dict[str, Any]) -> int:
    """Return the next multiple of the number of heads."""
    heads = options.get("num_heads", 1)
    return -(-hidden // heads) * heads


def build(variant: str, hidden: int, device: torch.device, num_layers: int = 1) -> RecurrentCell:
    """Return a cell whose parameters are all away from their initial values."""
    name, options = VARIANTS[variant]
    cell = make_cell(name, WIDTH, rounded(hidden, options), num_layers=num_layers, options=options)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return cell.to(device)


def lived_state(cell: RecurrentCell, num_rows: int) -> State:
    """Return a state that the cell itself has reached."""
    inputs = torch.randn(3, num_rows, WIDTH).to(next(cell.parameters()))
    with torch.no_grad():
        first = torch.zeros(3, num_rows, dtype=torch.bool, device=inputs.device)
        return cell.reference_sequence(inputs, cell.init_state(num_rows), first)[1]


def differentiate(
    cell: RecurrentCell, run: Callable[..., Any], inputs: Tensor, state: State, is_first: Tensor
) -> dict[str, Tensor]:
    """Return outputs, final state and the gradients of a fixed random projection of both, by name."""
    inputs = inputs.detach().clone().requires_grad_()
    state = tree_map(lambda leaf: leaf.detach().clone().requires_grad_(), state)
    outputs, final = run(inputs, state, is_first)
    results = [outputs, *tree_leaves(final)]
    draws = torch.Generator().manual_seed(1)
    loss = torch.stack([(one * torch.randn(one.shape, generator=draws).to(one)).sum() for one in results]).sum()
    sources = {"inputs": inputs, **{f"initial {i}": leaf for i, leaf in enumerate(tree_leaves(state))}}
    sources |= dict(cell.named_parameters())
    grads = torch.autograd.grad(loss, list(sources.values()), allow_unused=True, materialize_grads=True)
    values = {"outputs": outputs, **{f"final {i}": leaf for i, leaf in enumerate(tree_leaves(final))}}
    values |= {f"d {name}": grad for name, grad in zip(sources, grads, strict=True)}
    return {name: value.detach() for name, value in values.items()}


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor], where: str, tolerance: float = TOLERANCE) -> None:
    for name, value in expected.items():
        assert got[name].shape == value.shape
        assert got[name].dtype == value.dtype
        scale = max(1.0, float(value.abs().max()))
        assert float((got[name] - value).abs().max()) <= tolerance * scale, f"{where}: {name}"


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_kernel_equals_the_loop_whatever_the_resets(
    variant: str, sizes: tuple[int, int, int], device: torch.device
) -> None:
    num_steps, num_rows, hidden = sizes
    cell = build(variant, hidden, device)
    for pattern, mask in reset_patterns(num_steps, num_rows):
        is_first = mask.to(device)
        arguments = (torch.randn(num_steps, num_rows, WIDTH).to(device), lived_state(cell, num_rows), is_first)
        got = differentiate(cell, cell.sequence_by("triton"), *arguments)
        assert_close(got, differentiate(cell, cell.reference_sequence, *arguments), pattern)


@pytest.mark.parametrize("variant", MIXING)
def test_a_kernel_in_parts_equals_the_loop_whatever_the_resets(
    variant: str, device: torch.device, small_parts: None
) -> None:
    cell = build(variant, 20 * HEADS[variant], device)
    for pattern, mask in reset_patterns(3, 2):
        arguments = (torch.randn(3, 2, WIDTH).to(device), lived_state(cell, 2), mask.to(device))
        got = differentiate(cell, cell.sequence_by("triton"), *arguments)
        assert_close(got, differentiate(cell, cell.reference_sequence, *arguments), pattern)


@pytest.mark.parametrize("variant", MIXING)
def test_nothing_crosses_a_reset_from_part_to_part(variant: str, device: torch.device, small_parts: None) -> None:
    cell = build(variant, 20 * HEADS[variant], device)
    inputs, state = torch.randn(4, 2, WIDTH).to(device), lived_state(cell, 2)
    is_first = torch.zeros(4, 2, dtype=torch.bool, device=device)
    is_first[2] = True
    runs = []
    for scale in (1.0, -2.0):
        seen = (inputs * torch.tensor([scale, scale, 1.0, 1.0], device=device).view(4, 1, 1)).requires_grad_()
        before = tree_map(lambda leaf, scale=scale: (leaf * scale).abs().requires_grad_(), state)
        outputs, final = cell.sequence_by("triton")(seen, before, is_first)
        grads = torch.autograd.grad(outputs[2:].sum() + final[0].sum(), (seen, *before), retain_graph=True)
        assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in (grads[0][:2], *grads[1:]))
        runs.append((outputs[2:], *final, grads[0]))
        unknown = torch.ones_like(outputs).index_fill(0, torch.tensor([2, 3], device=device), torch.nan)
        grads = torch.autograd.grad(outputs, (seen, *before), unknown)
        assert all(grad.isfinite().all() for grad in (grads[0][:2], *grads[1:]))
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


@by_the_interpreter
@pytest.mark.parametrize("variant", ["lstm", "gru", "peephole_lstm", "slstm"])
def test_threads_wait_before_they_read_what_others_may_have_stored(
    variant: str, device: torch.device, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter has one thread, which never waits: addresses stored since the last barrier are not loaded."""
    builder = importlib.import_module("triton.runtime.interpreter").InterpreterBuilder
    load, store = builder.create_masked_load, builder.create_masked_store
    stored: set[int] = set()
    seen = {"barriers": 0, "unsafe": 0}

    def watched_load(self: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
        seen["unsafe"] += not stored.isdisjoint(pointers.data[mask.data.astype(bool)].tolist())
        return load(self, pointers, mask, *rest)

    def watched_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        stored.update(pointers.data[mask.data.astype(bool)].tolist())
        return store(self, pointers, value, mask, *rest)

    def wait(self: Any) -> None:
        stored.clear()
        seen["barriers"] += 1

    monkeypatch.setattr(builder, "create_masked_load", watched_load)
    monkeypatch.setattr(builder, "create_masked_store", watched_store)
    monkeypatch.setattr(builder, "create_barrier", wait)
    cell = build(variant, 20, device)
    arguments = (torch.randn(3, 2, WIDTH), lived_state(cell, 2), torch.rand(3, 2) < 0.3)
    differentiate(cell, cell.sequence_by("triton"), *arguments)
    assert seen == {"barriers": (1 + 3) + (1 + 2 * 3), "unsafe": 0}


@pytest.mark.parametrize(
    ("variant", "width"),
    [(name, width) for name in MIXING for width in (130, 192, 256) if width == 130 or " " not in name],
)
def test_a_memory_of_more_than_128_units_equals_the_loop(variant: str, width: int, device: torch.device) -> None:
    cell = build(variant, width * HEADS[variant], device)
    with torch.no_grad():
        cell.weight_hh.mul_(0.2)  # So many units would saturate.
    is_first = torch.tensor([[False, True], [False, False], [True, False]], device=device)
    arguments = (torch.randn(3, 2, WIDTH).to(device), lived_state(cell, 2), is_first)
    got = differentiate(cell, cell.sequence_by("triton"), *arguments)
    assert_close(got, differentiate(cell, cell.reference_sequence, *arguments), "wide")


@by_the_interpreter
@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("variant", MIXING)
def test_one_part_is_the_whole_bit_for_bit(
    variant: str, storage: torch.dtype, device: torch.device, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is carried through buffers instead of registers is rounded nowhere else.

    A compiler may contract the sums of one form only; the interpreter doesn't.
    """
    multiply_bfloat16_rightly(monkeypatch)
    cell = build(variant, 10, device)
    run = importlib.import_module(cell.triton.module).__dict__[cell.triton.function]
    options = {name: getattr(cell, name) for name in cell.triton.options}

    def stored(*arguments: Any) -> Any:
        return run(*arguments, **dict(cell.named_parameters()), **options, storage=storage)

    state = lived_state(cell, 3)
    state[0].copy_(state[0].bfloat16())  # Torch and the interpreter don't round alike.
    arguments = (torch.randn(5, 3, WIDTH), state, torch.rand(5, 3) < 0.3)
    whole = differentiate(cell, stored, *arguments)
    monkeypatch.setattr(importlib.import_module("rlstm.kernels.triton.recurrence"), "_WIDEST_WHOLE", 0)
    part = differentiate(cell, stored, *arguments)
    assert [name for name, value in whole.items() if not torch.equal(value, part[name])] == []


@by_the_interpreter
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cell_whose_sequence_is_the_kernel_keeps_the_contract(variant: str, device: torch.device) -> None:
    """In float64 outside, float32 inside: nothing crosses a reset, bit for bit, nor does NaN, and rows don't mix."""
    name, options = VARIANTS[variant]

    class Kernel(CELLS[name]):  # type: ignore[misc]
        def sequence(self, inputs: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
            kernel = self.triton
            run = getattr(importlib.import_module(kernel.module), kernel.function)
            narrow = {key: value.float() for key, value in self.named_parameters()}
            chosen = {key: getattr(self, key) for key in kernel.options}
            leaves = tuple(leaf.float() for leaf in state)
            outputs, final = run(inputs.float(), leaves, is_first, **narrow, **chosen)
            return outputs.double(), type(state)(*(leaf.double() for leaf in final))

    check_cell(lambda inputs, hidden: Kernel(inputs, rounded(hidden, options), **options), tolerance=2e-5)


@pytest.mark.parametrize(("variant", "hidden"), CASES)
def test_nan_in_an_erased_state_leaves_no_trace(
    variant: str, hidden: int, device: torch.device, small_parts: None
) -> None:
    cell = build(variant, hidden, device)
    state = tree_map(torch.clone, lived_state(cell, 3))
    for leaf in tree_leaves(state):
        leaf[1] = torch.nan
    inputs = torch.randn(5, 3, WIDTH).to(device)
    inputs[2, 2] = torch.nan
    is_first = torch.zeros(5, 3, dtype=torch.bool, device=device)
    is_first[0, 1] = is_first[3, 2] = True
    outputs, final = cell.sequence_by("triton")(inputs, state, is_first)
    assert outputs[:, :2].isfinite().all()
    assert outputs[3:, 2].isfinite().all()
    assert all(leaf.isfinite().all() for leaf in tree_leaves(final))


def test_resets_of_other_steps_or_lanes_are_refused(device: torch.device) -> None:
    """A kernel would read beyond them."""
    cell = build("lstm", 5, device)
    with pytest.raises(ValueError, match=r"is_first is \(3, 4\), but the inputs have 4 steps of 3 rows"):
        cell.sequence_by("triton")(
            torch.randn(4, 3, WIDTH).to(device), cell.init_state(3), torch.zeros(3, 4, dtype=torch.bool, device=device)
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_once_differentiable_and_may_be_differentiated_in_parts(variant: str, device: torch.device) -> None:
    cell = build(variant, 5, device)
    inputs, state = torch.randn(4, 2, WIDTH).to(device).requires_grad_(), lived_state(cell, 2)
    is_first = torch.zeros(4, 2, dtype=torch.bool, device=device)
    outputs, final = cell.sequence_by("triton")(inputs, state, is_first)
    (both,) = torch.autograd.grad(outputs.sum() + final[0].sum(), inputs, retain_graph=True)
    (one,) = torch.autograd.grad(outputs.sum(), inputs, retain_graph=True)
    (other,) = torch.autograd.grad(final[0].sum(), inputs, retain_graph=True)
    torch.testing.assert_close(one + other, both, rtol=0, atol=1e-6)
    (again,) = torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        again.sum().backward()


@pytest.mark.parametrize(("variant", "hidden"), CASES)
def test_two_sequences_equal_one(variant: str, hidden: int, device: torch.device, small_parts: None) -> None:
    cell = build(variant, hidden, device)
    inputs, state, is_first = torch.randn(6, 3, WIDTH).to(device), lived_state(cell, 3), torch.rand(6, 3) < 0.3
    is_first = is_first.to(device)
    run = cell.sequence_by("triton")
    with torch.no_grad():
        expected, end = run(inputs, state, is_first)
        first, middle = run(inputs[:3], state, is_first[:3])
        second, last = run(inputs[3:], middle, is_first[3:])  # Without gradients nothing is kept on the way.
    reference, final = cell.reference_sequence(inputs, state, is_first)
    both = (torch.cat([first, second]), *last)
    for got in ((expected, *end), both):  # Not bit for bit: torch may cut W x + b in other ways for half the steps.
        for one, other in zip(got, (reference, *final), strict=True):
            torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_horizons_and_recomputation_may_cut_it(variant: str, device: torch.device) -> None:
    cell = build(variant, 5, device)
    inputs, state, is_first = torch.randn(6, 3, WIDTH).to(device), lived_state(cell, 3), torch.rand(6, 3) < 0.3
    is_first = is_first.to(device)
    run = cell.sequence_by("triton")
    kept = differentiate(cell, run, inputs, state, is_first)
    parameters = tuple(cell.parameters())

    def cut(run: Any, **how: Any) -> dict[str, Tensor]:
        return differentiate(cell, lambda *arguments: unroll(run, *arguments, **how), inputs, state, is_first)

    assert_close(cut(run, recomputed=parameters), kept, "recomputed")
    assert_close(cut(run, horizon=2), cut(cell.reference_sequence, horizon=2), "horizon")


@pytest.mark.parametrize("variant", ["lstm", "gru"])
def test_arguments_in_any_layout_are_read_and_left_alone(variant: str, device: torch.device) -> None:
    cell = build(variant, 5, device)
    inputs = torch.randn(3, 4, WIDTH).to(device).transpose(0, 1)
    state = tree_map(lambda leaf: torch.randn_like(leaf).repeat(1, 2)[:, ::2], cell.init_state(3))
    is_first = (torch.rand(3, 4) < 0.3).to(device).t()
    before = [leaf.clone() for leaf in (inputs, *state, is_first, *cell.parameters())]
    got = differentiate(cell, cell.sequence_by("triton"), inputs, state, is_first)
    assert_close(got, differentiate(cell, cell.reference_sequence, inputs, state, is_first), "strided")
    assert all(torch.equal(*pair) for pair in zip(before, (inputs, *state, is_first, *cell.parameters()), strict=True))


def multiply_bfloat16_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make products of bfloat16 right in the interpreter, which multiplies the bits as whole numbers (Triton 3.7.1)."""
    interpreter = importlib.import_module("triton.runtime.interpreter")
    language = importlib.import_module("triton.language")
    multiply = interpreter.InterpreterBuilder.create_dot

    def widened(handle: Any) -> Any:
        if handle.dtype.scalar != language.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), language.float32)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return multiply(self, widened(a), widened(b), *rest)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)


@pytest.mark.parametrize(("variant", "hidden"), CASES)
def test_in_bfloat16_storage_it_is_near(
    variant: str, hidden: int, device: torch.device, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gates, outputs and δ rounded to 8 bits; sums and leaves of the state in float32."""
    if device.type == "cpu":
        multiply_bfloat16_rightly(monkeypatch)
    cell = build(variant, hidden, device)
    run = importlib.import_module(cell.triton.module).__dict__[cell.triton.function]
    parameters = dict(cell.named_parameters())
    options = {name: getattr(cell, name) for name in cell.triton.options}

    def stored(inputs: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        return run(inputs, state, is_first, **parameters, **options, storage=torch.bfloat16)

    arguments = (torch.randn(7, 17, WIDTH).to(device), lived_state(cell, 17), (torch.rand(7, 17) < 0.2).to(device))
    got, expected = differentiate(cell, stored, *arguments), differentiate(cell, cell.reference_sequence, *arguments)
    assert_close(got, expected, "bfloat16", 0.05)
    assert any(float((got[name] - value).abs().max()) > 1e-4 for name, value in expected.items())


@pytest.mark.parametrize("num_layers", [2, 3])
def test_a_stack_runs_layer_by_layer_through_the_kernel(num_layers: int, device: torch.device) -> None:
    for options in ({}, {"residual": True, "layer_norm": True}):
        cell = make_cell("lstm", WIDTH, 5, num_layers=num_layers, **options).to(device)
        arguments = (torch.randn(4, 2, WIDTH).to(device), cell.init_state(2), (torch.rand(4, 2) < 0.3).to(device))
        expected = differentiate(cell, cell.reference_sequence, *arguments)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CELLS["lstm"], "sequence", None)
            patch.setattr(CELLS["lstm"], "step", None)
            assert_close(differentiate(cell, cell.sequence_by("triton"), *arguments), expected, "stack")


def test_weights_that_do_not_stay_on_chip_give_the_same(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    recurrence = importlib.import_module("rlstm.kernels.triton.recurrence")
    monkeypatch.setattr(recurrence, "_BESIDE_WEIGHTS", 1 << 40)
    for variant in VARIANTS:
        cell = build(variant, 5, device)
        arguments = (torch.randn(3, 2, WIDTH).to(device), lived_state(cell, 2), (torch.rand(3, 2) < 0.3).to(device))
        got = differentiate(cell, cell.sequence_by("triton"), *arguments)
        assert_close(got, differentiate(cell, cell.reference_sequence, *arguments), variant)


def test_a_program_holds_what_there_is_room_for(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    recurrence = importlib.import_module("rlstm.kernels.triton.recurrence")
    monkeypatch.setattr(recurrence, "_tf32_is_allowed", lambda: False)

    def constants(blocks: int, hidden: int, width: int, dtype: torch.dtype, rows: int = 8, **how: Any) -> tuple:
        weight = torch.empty(blocks * hidden, width, dtype=dtype)
        warps, found = recurrence._mixing(weight, hidden, rows, how.get("precision"))
        return *(found.get(name) for name in ("BLOCK_ROWS", "BLOCK_UNITS", "RESIDENT", "PRECISION")), warps

    assert constants(4, 5, 5, torch.float32) == (16, 16, True, "ieee", 8)
    assert constants(4, 64, 64, torch.float32, precision="tf32") == (16, 64, True, "tf32", 4)
    assert constants(4, 65, 65, torch.float32) == (16, 128, False, "tf32x3", 8)
    assert constants(4, 128, 128, torch.float32, precision="tf32") == (16, 128, False, "tf32", 8)
    assert constants(3, 128, 128, torch.float32, precision="tf32") == (16, 128, True, "tf32", 8)
    assert constants(4, 128, 128, torch.bfloat16, rows=4096) == (32, 128, True, "ieee", 8)
    assert constants(3, 128, 128, torch.float32, rows=4096)[0] == 16  # Twice the rows would not fit.
    assert constants(4, 256, 64, torch.float32) == (16, 64, True, "ieee", 8)
    for width, parts in ((129, 3), (192, 3), (193, 4), (256, 4)):
        _, found = recurrence._mixing(torch.empty(4 * width, width), width, 8, None)
        assert found["PARTS"] == parts
        assert "RESIDENT" not in found
    assert constants(4, 256, 256, torch.float32) == (16, 64, None, "tf32x3", 8)
    assert constants(4, 256, 256, torch.float32, rows=4096)[0] == 16
    assert constants(4, 256, 256, torch.float32, rows=4096, precision="tf32") == (32, 64, None, "tf32", 8)
    assert constants(3, 512, 256, torch.bfloat16, rows=4096) == (32, 64, None, "ieee", 8)


def test_tensorfloat_is_taken_only_where_torch_may_take_it(device: torch.device) -> None:
    allowed = importlib.import_module("rlstm.kernels.triton.recurrence")._tf32_is_allowed
    before = torch.get_float32_matmul_precision()
    try:
        for precision, expected in (("highest", False), ("high", True), ("highest", False)):
            torch.set_float32_matmul_precision(precision)
            assert allowed() is expected
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("critic_memory", ["shared", "separate"])
def test_a_policy_evaluates_by_the_kernel_what_the_loop_would_give(
    critic_memory: str, device: torch.device, kit: Any
) -> None:
    config = {"dtype": torch.float32, "critic_memory": critic_memory, "cell": "gru"}
    policy, loop = (kit.make_policy(sequence=path, **config).to(device) for path in ("triton", "loop"))
    seen = PolicyInputs(torch.randn(6, 3, *kit.OBSERVATION_SPACE.shape, device=device))
    is_first = (torch.rand(6, 3) < 0.3).to(device)
    rollout: Any = SimpleNamespace(inputs=seen, is_first=is_first, initial_state=policy.init_state(3))
    expected = loop.values(rollout.inputs, rollout.is_first, rollout.initial_state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CELLS["gru"], "sequence", None)
        patch.setattr(CELLS["gru"], "step", None)
        torch.testing.assert_close(
            policy.values(rollout.inputs, rollout.is_first, rollout.initial_state), expected, rtol=0, atol=TOLERANCE
        )
    assert policy.sequence_path.startswith("persistent Triton kernel")


@pytest.mark.slow
def test_every_launch_compiles_for_a_large_gpu_and_fits_its_shared_memory(device: torch.device) -> None:
    """Needs no GPU: Triton brings the assembler. Minutes where nothing is cached."""
    script = Path(__file__).parents[2] / "scripts" / "benchmarks" / "compile_triton_kernels.py"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(script.parents[2])
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split(",")[0] for line in done.stdout.splitlines()[1:]} == {"lstm", "gru", "slstm", "min"}


# What needs no Triton


def test_a_policy_refuses_at_once_what_it_can_run_nowhere(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for config in ({"cell": "elman"}, {"hidden_size": 257}):
        with pytest.raises(ValueError, match=r"sequence is 'triton', but .*With 'auto'"):
            kit.make_policy(sequence="triton", **config)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    policy = kit.make_policy(sequence="triton", dtype=torch.float32)  # It may still act here.
    with pytest.raises(ValueError, match=r"sequence is 'triton', but .*would be: reset steps into the dense kernel"):
        _ = policy.sequence_path


def test_cells_say_which_paths_they_have() -> None:
    assert sequence_paths_of(make_cell("lstm", 3, 5)) == ["auto", "loop", "triton"]
    assert sequence_paths_of(make_cell("lstm", 3, 256, num_layers=2)) == ["auto", "loop", "triton"]
    assert sequence_paths_of(make_cell("lstm", 3, 257)) == ["auto", "loop"]
    assert sequence_paths_of(make_cell("elman", 3, 5, num_layers=2)) == ["auto", "loop"]
    assert sequence_paths_of(make_cell("min_gru", 3, 1000)) == ["auto", "loop", "triton"]  # No unit sees another.
    assert sequence_paths_of(make_cell("slstm", 3, 1024)) == ["auto", "loop", "triton"]  # Four heads of 256.
    assert sequence_paths_of(make_cell("slstm", 3, 1028)) == ["auto", "loop"]
    assert {cell for cell, _ in VARIANTS.values()} == {name for name, cell in CELLS.items() if cell.triton is not None}
    for name, cell in CELLS.items():
        if cell.triton is not None:
            assert isinstance(cell.triton, TritonKernel)
            assert importlib.util.find_spec(cell.triton.module), name


def test_a_cell_without_a_kernel_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(ValueError, match=r"the cell 'elman' has no Triton kernel\. Those that have one: lstm, gru"):
        check_sequence_path(make_cell("elman", 3, 5), "triton", "elman")
    check_sequence_path(make_cell("elman", 3, 5), "loop", "elman")
    with pytest.raises(ValueError, match="no Triton kernel"):
        run_triton(make_cell("elman", 3, 5), torch.zeros(1, 1, 3), None, torch.zeros(1, 1, dtype=torch.bool))


def test_a_class_that_steps_in_its_own_way_does_not_inherit_the_kernel() -> None:
    class Other(CELLS["lstm"]):  # type: ignore[misc]
        def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
            return super().step(inputs + 1.0, state)

    with pytest.raises(ValueError, match="Other has a step of its own, and its Triton kernel is that of another class"):
        check_sequence_path(Other(3, 5), "triton", "other")


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_memory_too_wide_is_refused_with_the_widest(num_layers: int) -> None:
    cell = make_cell("gru", 3, 257, num_layers=num_layers)
    with pytest.raises(ValueError, match=r"at most 256 units that see each other, and these are 257\. With 'auto'"):
        check_sequence_path(cell, "triton", "gru")
    check_sequence_path(make_cell("gru", 3, 256, num_layers=num_layers), "triton", "gru")


def test_what_is_missing_here_is_named_with_what_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, cpu, cuda = make_cell("lstm", 3, 5), torch.device("cpu"), torch.device("cuda")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "triton")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"triton is not installed.*With 'auto' it would be: reset steps into cuDNN\."):
        name_sequence_path(cell, "triton", cuda, torch.float32)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert name_sequence_path(cell, "triton", cuda, torch.float32) == "persistent Triton kernel"
    with pytest.raises(ValueError, match="in float32, and this is float64"):
        name_sequence_path(cell, "triton", cuda, torch.float64)
    with pytest.raises(ValueError, match=r"run on CUDA devices, and this is cpu.*it would be: reset steps into the"):
        name_sequence_path(cell, "triton", cpu, torch.float32)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert name_sequence_path(cell, "triton", cpu, torch.float32) == "persistent Triton kernel, interpreted"
    assert why_not_here(cpu, torch.float32) is None
    assert name_sequence_path(cell, "auto", cpu, torch.float64) == "reset steps into the dense kernel"
    assert name_sequence_path(cell, "loop", cpu, torch.float64) == "loop of steps"


def test_a_sequence_that_cannot_run_here_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    cell = make_cell("lstm", 3, 5)
    arguments = (torch.zeros(2, 1, 3), cell.init_state(1), torch.zeros(2, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"sequence is 'triton', but .*\. Use 'auto'\."):
        cell.sequence_by("triton")(*arguments)


@pytest.mark.gpu
@pytest.mark.parametrize("hidden", [64, 128, 256])
@pytest.mark.parametrize("variant", VARIANTS)
def test_on_a_gpu_a_large_sequence_equals_the_loop(variant: str, hidden: int, device: torch.device) -> None:
    cell = build(variant, hidden, device)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(0.5)
    num_rows = 100
    arguments = (torch.randn(64, num_rows, WIDTH).to(device), lived_state(cell, num_rows))
    is_first = (torch.rand(64, num_rows) < 0.05).to(device)
    got = differentiate(cell, cell.sequence_by("triton"), *arguments, is_first)
    assert_close(got, differentiate(cell, cell.reference_sequence, *arguments, is_first), "large", 1e-4)
