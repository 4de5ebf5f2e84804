"""Claims about the cell `mlstm`, beside those held for every cell."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlstm.cells.mlstm import MLSTMCell, MLSTMState, mix_mlstm
from rlstm.core.trees import tree_leaves
from rlstm.kernels.mlstm_chunks import mlstm_chunks
from rlstm.kernels.resets import NEVER


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def build(width: int = 3, hidden: int = 6, **options: Any) -> Any:
    """Return a cell with every parameter away from its initial value."""
    cell = MLSTMCell(width, hidden, **{"num_heads": 2, **options}).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return cell


def problem(num_steps: int, num_rows: int = 2, heads: int = 2, width: int = 3) -> Any:
    """Return q, k, v, the gates, and a memory that has been lived in; f̃ lies around 0 so that all is forgotten soon."""
    vectors = tuple(torch.randn(num_steps, num_rows, heads, width).double() for _ in range(3))
    gates = tuple(torch.randn(num_steps, num_rows, heads).double() for _ in range(2))
    cell = build(hidden=heads * width, num_heads=heads)
    state = cell.init_state(num_rows)
    with torch.no_grad():
        for _ in range(3):
            _, state = cell.step(torch.randn(num_rows, 3).double(), state)
    return vectors, gates, state


def loop(vectors: Any, gates: Any, state: MLSTMState, is_first: Tensor) -> tuple[Tensor, MLSTMState]:
    """Run the equations without a stabiliser, step by step: m = 0 for ever, state in true units."""
    c, n = (leaf * state.m.exp().view(*state.m.shape, *(1,) * (leaf.dim() - 2)) for leaf in state[:2])
    outputs = []
    for t, first in enumerate(is_first):
        q, k, v = (vector[t] for vector in vectors)
        admit, forget = gates[0][t].exp().unsqueeze(2), torch.sigmoid(gates[1][t]).unsqueeze(2)
        c, n = c.masked_fill(first.view(-1, 1, 1, 1), 0.0), n.masked_fill(first.view(-1, 1, 1), 0.0)
        k = k / math.sqrt(k.shape[-1])
        c = forget.unsqueeze(3) * c + admit.unsqueeze(3) * torch.einsum("bni,bnj->bnij", k, v)
        n = forget * n + admit * k
        scale = torch.einsum("bni,bni->bn", n, q).abs().clamp(min=1.0).unsqueeze(2)
        outputs.append(torch.einsum("bnij,bni->bnj", c, q) / scale)
    return torch.stack(outputs), MLSTMState(c, n, torch.zeros_like(state.m))


def truly(outputs: Tensor, state: MLSTMState) -> list[Tensor]:
    """Return outputs, C and n in true units: what the stabiliser cancels in."""
    scale = state.m.exp()
    return [outputs, state.c * scale[..., None, None], state.n * scale[..., None]]


def with_gradients(run: Any, vectors: Any, gates: Any, state: MLSTMState, is_first: Tensor) -> list[Tensor]:
    sources = [leaf.clone().requires_grad_() for leaf in (*vectors, *gates, state.c, state.n)]
    results = truly(*run(tuple(sources[:3]), tuple(sources[3:5]), MLSTMState(*sources[5:], state.m), is_first))
    draws = torch.Generator().manual_seed(1)
    loss = torch.stack([(r * torch.randn(r.shape, generator=draws).to(r)).sum() for r in results]).sum()
    return [*results, *torch.autograd.grad(loss, sources)]


def in_chunks(length: int) -> Any:
    def run(vectors: Any, gates: Any, state: MLSTMState, is_first: Tensor) -> tuple[Tensor, MLSTMState]:
        outputs, memory = mlstm_chunks(vectors, gates, state, is_first, length)
        return outputs, MLSTMState(*memory)

    return run


def masks(num_steps: int, num_rows: int) -> list[Tensor]:
    """Return resets nowhere, everywhere, at each single step of row 0, two in a row, and at random."""
    nowhere = torch.zeros(num_steps, num_rows, dtype=torch.bool)
    single = [nowhere.clone() for _ in range(num_steps)]
    for t, mask in enumerate(single):
        mask[t, 0] = True
    double = nowhere.clone()
    double[3:5, 0] = True
    return [nowhere, ~nowhere, *single, double, *(torch.rand(num_steps, num_rows) < rate for rate in (0.1, 0.4))]


@pytest.mark.parametrize("length", [2, 64, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 3, 5, 9))])
def test_chunks_of_any_length_equal_the_plain_equations(length: int) -> None:
    """Values and gradients; resets at the first, a middle and the last step of a chunk."""
    vectors, gates, state = problem(9)
    for is_first in masks(9, 2):
        expected = with_gradients(loop, vectors, gates, state, is_first)
        for got, other in zip(
            with_gradients(in_chunks(length), vectors, gates, state, is_first), expected, strict=True
        ):
            torch.testing.assert_close(got, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("num_heads", "length"),
    [(1, 1), (2, 3), (3, 9)]
    + [pytest.param(number, length, marks=pytest.mark.slow) for number in (1, 2, 3) for length in (1, 2, 3, 5, 9, 64)],
)
def test_a_sequence_equals_the_loop_of_steps_whatever_the_chunks(num_heads: int, length: int) -> None:
    cell = build(num_heads=num_heads, chunk_length=length)
    inputs = torch.randn(9, 2, 3).double()
    state = cell.sequence(inputs, cell.init_state(2), torch.zeros(9, 2, dtype=torch.bool))[1]
    for is_first in masks(9, 2):
        expected = cell.reference_sequence(inputs, state, is_first)
        for got, other in zip(tree_leaves(cell.sequence(inputs, state, is_first)), tree_leaves(expected), strict=True):
            torch.testing.assert_close(got, other, rtol=0, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("length", [2, 4])
@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_the_gradient_is_that_of_finite_differences(which: int, length: int) -> None:
    vectors, gates, state = problem(4, heads=1, width=2)
    is_first = masks(4, 2)[2 + which]

    def run(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, c: Tensor, n: Tensor) -> tuple[Tensor, ...]:
        return tuple(truly(*in_chunks(length)((q, k, v), (i, f), MLSTMState(c, n, state.m), is_first)))

    sources = [leaf.clone().requires_grad_() for leaf in (*vectors, *gates, state.c, state.n)]
    assert torch.autograd.gradcheck(run, sources)


def test_the_gradient_of_a_step_is_that_of_finite_differences() -> None:
    cell = build(hidden=4)
    _, state = cell.step(torch.randn(2, 3).double(), cell.init_state(2))
    sources = [t.detach().clone().requires_grad_() for t in (torch.randn(2, 3).double(), state.c, state.n)]
    assert torch.autograd.gradcheck(lambda x, c, n: cell.step(x, MLSTMState(c, n, state.m))[0], sources)


def test_outputs_do_not_depend_on_the_stabiliser() -> None:
    """C e^-s, n e^-s and m + s are the same memory."""
    vectors, gates, state = problem(5)
    is_first = torch.zeros(5, 2, dtype=torch.bool)
    expected, _ = mlstm_chunks(vectors, gates, state, is_first, 2)
    for shift in (-20.0, 1.0, 30.0):
        scale = math.exp(-shift)
        moved = (state.c * scale, state.n * scale, state.m + shift)
        torch.testing.assert_close(mlstm_chunks(vectors, gates, moved, is_first, 2)[0], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("length", [2, 64])
def test_what_came_before_a_reset_does_not_even_change_rounding(length: int) -> None:
    cell = build(hidden=8, chunk_length=length).float()
    is_first = torch.zeros(40, 2, dtype=torch.bool)
    is_first[21] = True
    inputs = torch.randn(40, 2, 3)
    other = torch.cat([torch.randn(21, 2, 3) * 5, inputs[21:]])
    (one, end), (two, other_end) = (cell.sequence(x, cell.init_state(2), is_first) for x in (inputs, other))
    assert torch.equal(one[21:], two[21:])
    assert all(torch.equal(a, b) for a, b in zip(end, other_end, strict=True))


@pytest.mark.parametrize("length", [2, 3, 64])
@pytest.mark.parametrize("reset", [0, 3])
def test_what_has_diverged_ends_at_a_reset(reset: int, length: int) -> None:
    cell, is_first = build(chunk_length=length), torch.zeros(6, 2, dtype=torch.bool)
    is_first[reset, 0] = True
    state = MLSTMState(*(torch.full_like(leaf, torch.nan) for leaf in cell.init_state(2)))
    inputs = torch.randn(6, 2, 3).double().requires_grad_()
    outputs, final = cell.sequence(inputs, state, is_first)
    assert all(torch.isfinite(leaf).all() for leaf in (outputs[reset:, 0], *(leaf[0] for leaf in final)))
    assert outputs[:, 1].isnan().all()
    (gradient,) = torch.autograd.grad(outputs[reset:, 0].sum(), inputs)
    assert torch.isfinite(gradient[reset:, 0]).all()


@pytest.mark.parametrize("length", [1, 3, 64])
def test_inputs_that_have_diverged_end_at_a_reset(length: int) -> None:
    cell, is_first = build(chunk_length=length), torch.zeros(9, 2, dtype=torch.bool)
    is_first[4, 0] = True
    inputs = torch.randn(9, 2, 3).double()
    inputs[1] = torch.nan
    outputs, final = cell.sequence(inputs, cell.init_state(2), is_first)
    assert all(torch.isfinite(leaf).all() for leaf in (outputs[4:, 0], *(leaf[0] for leaf in final)))
    assert outputs[1:, 1].isnan().all()


def test_exponentials_stay_in_range_in_single_precision() -> None:
    cell = build(hidden=8).float()
    inputs = (torch.randn(60, 2, 3) * 100).requires_grad_()
    outputs, final = cell.sequence(inputs, cell.init_state(2), torch.rand(60, 2) < 0.05)
    (grad,) = torch.autograd.grad(outputs.sum(), inputs)
    assert all(torch.isfinite(leaf).all() for leaf in (outputs, grad, *final))


def test_the_output_is_normalised_for_each_head_and_gated() -> None:
    cell = build(hidden=6, num_heads=2)
    with torch.no_grad():
        cell.norm_weight.fill_(1.0)
        cell.weight_ih[18:24], cell.bias_ih[18:24] = 0.0, 0.0  # Gates of ½.
    outputs, _ = cell.step(torch.randn(4, 3).double() * 3, cell.init_state(4))
    heads = outputs.view(4, 2, 3) * 2
    torch.testing.assert_close(heads.mean(2), torch.zeros(4, 2).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(heads.var(2, correction=0), torch.ones(4, 2).double(), rtol=0, atol=1e-2)


def test_a_new_memory_and_the_initial_values() -> None:
    cell = MLSTMCell(24, 16)
    assert cell.num_heads == 4
    state = cell.init_state(3)
    assert [tuple(leaf.shape) for leaf in state] == [(3, 4, 4, 4), (3, 4, 4), (3, 4)]
    assert (state.m == NEVER).all()
    assert not state.c.any()
    assert not cell.weight_ih[64:].any()
    assert cell.bias_ih[68:].tolist() == [3, 4, 5, 6]
    assert 0 < cell.bias_ih[64:68].abs().max() < 0.6
    assert not cell.bias_ih[:64].any()
    spread = MLSTMCell(3, 10, memory_length=32, memory_init="log_spaced", num_heads=5).bias_ih.detach()[-5:]
    torch.testing.assert_close(spread.exp() + 1, torch.tensor([2.0, 4.0, 8.0, 16.0, 32.0]), rtol=1e-5, atol=0)
    assert [MLSTMCell(3, hidden).num_heads for hidden in (2, 3, 4, 6, 8)] == [1, 1, 2, 2, 4]


def test_bad_options_are_refused_with_the_value() -> None:
    with pytest.raises(ValueError, match="num_heads is 4; it must divide the width of the memory, 6"):
        MLSTMCell(3, 6, num_heads=4)
    with pytest.raises(ValueError, match="6 heads share a width of 6; each needs at least 2"):
        MLSTMCell(3, 6, num_heads=6)
    with pytest.raises(ValueError, match="chunk_length is 0; it must be at least 1"):
        MLSTMCell(3, 6, chunk_length=0)
    with pytest.raises(ValueError, match="memory_length is 2"):
        MLSTMCell(3, 6, memory_length=2)


def test_it_equals_the_authors_package_with_the_same_weights() -> None:
    """Its parallel form, its step and its cell with norm; without resets."""
    pytest.importorskip("xlstm")
    from xlstm.blocks.mlstm.backends import parallel_stabilized_simple, recurrent_step_stabilized_simple
    from xlstm.blocks.mlstm.cell import mLSTMCell, mLSTMCellConfig

    vectors, gates, state = problem(9)
    nowhere = torch.zeros(9, 2, dtype=torch.bool)
    theirs = [vector.permute(1, 2, 0, 3) for vector in vectors] + [gate.permute(1, 2, 0)[..., None] for gate in gates]
    expected = parallel_stabilized_simple(*theirs, eps=0.0).permute(2, 0, 1, 3)
    fresh = build().init_state(2)
    torch.testing.assert_close(mlstm_chunks(vectors, gates, fresh, nowhere, 4)[0], expected, rtol=0, atol=1e-10)

    moved = (state.c, state.n[..., None], state.m[..., None, None])
    step = [part[:, :, :1].clone() for part in theirs]
    expected, (c, n, m) = recurrent_step_stabilized_simple(*moved, *step, eps=0.0)
    got, after = mix_mlstm(tuple(v[0] for v in vectors), tuple(g[0] for g in gates), state)  # type: ignore[arg-type]
    for one, other in zip((got, *after), (expected[:, :, 0], c, n[..., 0], m[..., 0, 0]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)

    hidden, heads = 6, 2
    cell = mLSTMCell(mLSTMCellConfig(context_length=9, embedding_dim=hidden, num_heads=heads)).double()
    ours = build(4, hidden, num_heads=heads)
    for parameter in (cell.igate.weight, cell.fgate.weight):
        nn.init.normal_(parameter)
    inputs = torch.randn(9, 2, 4).double()
    with torch.no_grad():
        q, k, v, o, _ = nn.functional.linear(inputs, ours.weight_ih, ours.bias_ih).split([6, 6, 6, 6, 4], dim=-1)
        cell.outnorm.weight.copy_(ours.norm_weight - 1)
        expected = torch.sigmoid(o) * cell(*(part.transpose(0, 1) for part in (q, k, v))).transpose(0, 1)
        # Their gates read q, k, v, which are linear in the inputs.
        lines = torch.cat([ours.weight_ih[:18], ours.bias_ih[:18, None]], dim=1)
        for rows, gate in ((slice(24, 26), cell.igate), (slice(26, 28), cell.fgate)):
            line = gate.weight @ lines
            ours.weight_ih[rows], ours.bias_ih[rows] = line[:, :-1], line[:, -1] + gate.bias
        outputs, _ = ours.sequence(inputs, ours.init_state(2), nowhere)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-4)  # It adds 1e-6 to what it divides by.
