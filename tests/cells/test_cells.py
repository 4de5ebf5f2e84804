"""Claims about `rlstm.cells`, held for every cell in the table, and about `rlstm.testing.cells.check_cell`."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlstm.cells import CELLS, RecurrentCell, State, make_cell
from rlstm.cells.base import memory_bias
from rlstm.cells.gru import GRUCell
from rlstm.cells.lstm import LSTMCell
from rlstm.cells.product_cell import LSTMState, OutputState
from rlstm.cells.residual import ResidualCell
from rlstm.cells.stacked import StackedCell
from rlstm.core.errors import UnknownNameError
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.testing import ContractError, check_cell, reset_patterns

WIDTH, HIDDEN = 4, 5
COUNTERPARTS: dict[str, tuple[type[nn.Module], type[nn.RNNBase]]] = {
    "lstm": (nn.LSTMCell, nn.LSTM),
    "gru": (nn.GRUCell, nn.GRU),
    "elman": (nn.RNNCell, nn.RNN),
}
MEMORIES = sorted(set(CELLS) - {"none"})
STABILISERS = {"slstm": 1, "mlstm": 1, "xlstm": 2}
"""Leaves of a cell's state that keep exponentials in range and carry no gradient, because nothing depends on them."""


def slow_unless(kept: Iterable[Any], cases: Iterable[Any]) -> list[Any]:
    """Return the cases, those that are not kept as slow ones."""
    kept = set(kept)
    return [case if case in kept else pytest.param(*case, marks=pytest.mark.slow) for case in cases]


def sampled(names: Iterable[str], *axes: Sequence[Any]) -> list[Any]:
    """Return the product of names and axes: each name once and each value of an axis by default, the rest slow."""
    kept = [(name, *(axis[index % len(axis)] for axis in axes)) for index, name in enumerate(names)]
    return slow_unless(kept, itertools.product(names, *axes))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def build(
    name: str, num_layers: int = 1, dtype: torch.dtype = torch.float64, sizes: tuple[int, int] = (WIDTH, HIDDEN)
) -> Any:
    """Return a cell whose parameters, biases included, are all away from their initial values."""
    cell = make_cell(name, *sizes, num_layers=num_layers).to(dtype)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3 / math.sqrt(parameter.shape[-1] / 4))
    return cell


@torch.no_grad()
def random_state(cell: RecurrentCell, num_rows: int) -> State:
    """Return a state that the cell itself has reached: not every number is a possible one."""
    state = cell.init_state(num_rows)
    for _ in range(3):
        _, state = cell.step(torch.randn(num_rows, cell.input_size).to(next(cell.parameters())), state)
    return state


def project(leaves: list[Tensor]) -> Tensor:
    """Return a scalar in which every number has its own fixed weight, the same for all types and devices."""
    weights = torch.Generator().manual_seed(1)
    return torch.stack([(leaf * torch.randn(leaf.shape, generator=weights).to(leaf)).sum() for leaf in leaves]).sum()


def run(
    sequence: Callable[..., Any], cell: RecurrentCell, inputs: Tensor, state: State, is_first: Tensor
) -> dict[str, Tensor]:
    """Return outputs, final state and the gradients of a fixed random projection of both, by name."""
    inputs = inputs.detach().clone().requires_grad_()
    state = tree_map(lambda leaf: leaf.detach().clone().requires_grad_(), state)
    outputs, final = sequence(inputs, state, is_first)
    loss = project([outputs, *tree_leaves(final)])
    sources = {"inputs": inputs, **{f"initial {i}": leaf for i, leaf in enumerate(tree_leaves(state))}}
    sources |= dict(cell.named_parameters())
    grads = torch.autograd.grad(loss, list(sources.values()), allow_unused=True, materialize_grads=True)
    values = {"outputs": outputs, **{f"final {i}": leaf for i, leaf in enumerate(tree_leaves(final))}}
    return {**values, **{f"d {name}": grad for name, grad in zip(sources, grads, strict=True)}}


# The contract


@pytest.mark.parametrize(
    ("name", "num_layers"),
    slow_unless(
        [*((name, 1) for name in CELLS), ("lstm", 2), ("time_aware_lstm", 3)], itertools.product(CELLS, [1, 2, 3])
    ),
)
def test_every_cell_keeps_its_contract(name: str, num_layers: int) -> None:
    check_cell(lambda inputs, hidden: make_cell(name, inputs, hidden, num_layers=num_layers))


@pytest.mark.parametrize(("name", "num_layers", "num_steps", "num_rows"), sampled(CELLS, [1, 2, 3], [2, 17, 1], [1, 3]))
def test_a_sequence_equals_the_loop_of_steps(name: str, num_layers: int, num_steps: int, num_rows: int) -> None:
    cell = build(name, num_layers)
    for pattern, is_first in reset_patterns(num_steps, num_rows):
        arguments = (cell, torch.randn(num_steps, num_rows, WIDTH).double(), random_state(cell, num_rows), is_first)
        expected = run(RecurrentCell.reference_sequence.__get__(cell), *arguments)
        for quantity, value in run(cell.sequence, *arguments).items():
            tolerance = 1e-9 * max(1.0, float(expected[quantity].detach().abs().max()))
            torch.testing.assert_close(
                value, expected[quantity], rtol=0, atol=tolerance, msg=lambda m, p=pattern, q=quantity: f"{p}, {q}: {m}"
            )


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_resets_equal_running_every_episode_alone_through_torch(name: str) -> None:
    torch_cell = build(name)
    counterpart = COUNTERPARTS[name][1](WIDTH, HIDDEN).double()
    counterpart.load_state_dict({f"{key}_l0": value for key, value in torch_cell.state_dict().items()})
    inputs = torch.randn(12, 2, WIDTH).double()
    starts = [[0, 3, 4, 11], [0, 6]]
    is_first = torch.zeros(12, 2, dtype=torch.bool)
    expected = torch.empty(12, 2, HIDDEN).double()
    for lane, times in enumerate(starts):
        is_first[times, lane] = True
        for begin, end in zip(times, [*times[1:], 12], strict=True):
            expected[begin:end, lane] = counterpart(inputs[begin:end, lane : lane + 1])[0][:, 0]
    outputs, _ = torch_cell.sequence(inputs, random_state(torch_cell, 2), is_first)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "num_layers"), sampled(MEMORIES, [1, 2]))
def test_a_memory_is_used_where_nothing_is_reset(name: str, num_layers: int) -> None:
    """Without this, a cell that forgets everything would pass every test of resets."""
    cell = build(name, num_layers)
    # What an mLSTM has read counts where its normaliser is large enough, so with large weights, and not in every lane.
    enough = Tensor.all
    if name in ("mlstm", "xlstm"):
        enough = Tensor.any
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter.mul_(3.0)
    inputs = torch.randn(6, 9, WIDTH).double().requires_grad_()
    state = tree_map(lambda leaf: leaf.requires_grad_(), random_state(cell, 9))
    outputs, _ = cell.sequence(inputs, state, torch.zeros(6, 9, dtype=torch.bool))
    grads = torch.autograd.grad(outputs[-1].sum(), [inputs, *tree_leaves(state)], allow_unused=True)
    assert sum(grad is None for grad in grads) == STABILISERS.get(name, 0) * num_layers
    assert all(enough(grad[..., 0].abs() > 1e-12) for grad in grads if grad is not None)


def test_the_control_has_no_memory() -> None:
    cell = build("none")
    inputs = torch.randn(6, 2, WIDTH).double()
    outputs, state = cell.sequence(inputs, cell.init_state(2), torch.zeros(6, 2, dtype=torch.bool))
    assert tree_leaves(state) == []
    shuffled = [3, 0, 5, 1, 4, 2]
    again, _ = cell.sequence(inputs[shuffled], cell.init_state(2), torch.zeros(6, 2, dtype=torch.bool))
    torch.testing.assert_close(again, outputs[shuffled], rtol=0, atol=0)
    assert cell.sequence_path(torch.device("cpu")) == "all steps at once"


@pytest.mark.slow
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_sequence_needs_no_gradient(name: str, num_layers: int, mode: Callable[[], Any]) -> None:
    cell = build(name, num_layers)
    for _, is_first in reset_patterns(9, 3):
        inputs, state = torch.randn(9, 3, WIDTH).double(), random_state(cell, 3)
        expected = cell.reference_sequence(inputs, state, is_first)
        with mode():
            got = cell.sequence(inputs, state, is_first)
        for a, b in zip(tree_leaves(got), tree_leaves(expected), strict=True):
            assert not a.requires_grad
            torch.testing.assert_close(a, b.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "num_layers"), sampled(MEMORIES, [2, 1]))
def test_gradients_reach_the_parameters_where_inputs_and_state_need_none(name: str, num_layers: int) -> None:
    cell = build(name, num_layers)
    inputs, state = torch.randn(7, 3, WIDTH).double(), random_state(cell, 3)
    for is_first in list(dict(reset_patterns(7, 3)).values())[-2:]:
        expected = run(cell.reference_sequence, cell, inputs, state, is_first)
        outputs, final = cell.sequence(inputs, state, is_first)
        loss = project([outputs, *tree_leaves(final)])
        cell.zero_grad()
        loss.backward()
        for key, parameter in cell.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[f"d {key}"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CELLS)
def test_inputs_may_lie_in_memory_as_they_like(name: str) -> None:
    cell = build(name)
    is_first = dict(reset_patterns(9, 3))["random"]
    batch_first, mask = torch.randn(3, 9, 2 * WIDTH).double(), is_first.t().contiguous().t()
    inputs = batch_first.transpose(0, 1)[..., ::2]
    state = tree_map(lambda leaf: leaf.movedim(0, -1).contiguous().movedim(-1, 0), random_state(cell, 3))
    assert not inputs.is_contiguous()
    expected = run(cell.sequence, cell, inputs.contiguous(), tree_map(Tensor.contiguous, state), is_first)
    outputs, final = cell.sequence(inputs, state, mask)
    for a, b in zip([outputs, *tree_leaves(final)], list(expected.values()), strict=False):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "num_layers"), sampled(CELLS, [1, 2]))
def test_cells_can_be_pickled_copied_and_moved_between_types(name: str, num_layers: int) -> None:
    cell = build(name, num_layers)
    inputs, is_first = torch.randn(5, 2, WIDTH).double(), torch.zeros(5, 2, dtype=torch.bool)
    is_first[2, 0] = True
    expected, _ = cell.sequence(inputs, cell.init_state(2), is_first)
    for other in (pickle.loads(pickle.dumps(cell)), copy.deepcopy(cell).float().double()):
        outputs, _ = other.sequence(inputs, other.init_state(2), is_first)
        torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
    single = copy.deepcopy(cell).float()
    assert all(leaf.dtype == torch.float32 for leaf in tree_leaves(single.init_state(2)))
    outputs, _ = single.sequence(inputs.float(), single.init_state(2), is_first)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "num_layers"), sampled(CELLS, [2, 1]))
def test_an_acting_snapshot_is_a_copy_and_carries_no_gradient_into_the_weights(name: str, num_layers: int) -> None:
    cell = build(name, num_layers)
    snapshot = cell.acting_snapshot()
    inputs, state = torch.randn(3, WIDTH).double(), random_state(cell, 3)
    with torch.no_grad():
        expected, _ = cell.step(inputs, state)
        torch.testing.assert_close(snapshot(inputs, state)[0], expected, rtol=0, atol=1e-12)
        for parameter in cell.parameters():
            parameter.mul_(2.0)
        fresh, _ = cell.acting_snapshot()(inputs, state)
        assert not torch.allclose(fresh, expected)
        torch.testing.assert_close(fresh, cell.step(inputs, state)[0], rtol=0, atol=1e-12)


# Equality with torch


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_a_step_equals_torchs_cell_with_the_same_weights(name: str) -> None:
    cell, counterpart = build(name), COUNTERPARTS[name][0](WIDTH, HIDDEN).double()
    counterpart.load_state_dict(cell.state_dict())
    inputs, state = torch.randn(3, WIDTH).double(), random_state(cell, 3)
    expected = counterpart(inputs, tuple(state) if len(state) > 1 else state[0])
    leaves = expected if isinstance(expected, tuple) else (expected,)
    outputs, after = cell.step(inputs, state)
    torch.testing.assert_close(outputs, leaves[0], rtol=0, atol=1e-14)
    for got, leaf in zip(after, leaves, strict=True):
        torch.testing.assert_close(got, leaf, rtol=0, atol=1e-14)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("name", COUNTERPARTS)
def test_a_sequence_without_resets_equals_torchs_network(name: str, num_layers: int) -> None:
    cell, counterpart = build(name, num_layers), COUNTERPARTS[name][1](WIDTH, HIDDEN, num_layers=num_layers).double()
    layers = cell.layers if num_layers > 1 else [cell]
    counterpart.load_state_dict(
        {f"{k}_l{i}": v for i, layer in enumerate(layers) for k, v in layer.state_dict().items()}
    )
    inputs, state = torch.randn(7, 3, WIDTH).double(), random_state(cell, 3)
    states = state if num_layers > 1 else (state,)
    start = tuple(torch.stack(leaves) for leaves in zip(*states, strict=True))
    expected, final = counterpart(inputs, start if len(start) > 1 else start[0])
    outputs, after = cell.sequence(inputs, state, torch.zeros(7, 3, dtype=torch.bool))
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-13)
    finals = final if isinstance(final, tuple) else (final,)
    for i, layer_state in enumerate(after if num_layers > 1 else (after,)):
        for got, leaf in zip(layer_state, finals, strict=True):
            torch.testing.assert_close(got, leaf[i], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_parameters_have_torchs_names_and_shapes(name: str) -> None:
    counterpart = COUNTERPARTS[name][0](WIDTH, HIDDEN)
    shapes = {key: value.shape for key, value in CELLS[name](WIDTH, HIDDEN).state_dict().items()}
    assert shapes == {key: value.shape for key, value in counterpart.state_dict().items()}


# Hand-computed values


def test_an_lstm_of_one_unit_computes_its_equations() -> None:
    cell = LSTMCell(1, 1).double()
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([[0.1], [0.2], [0.3], [0.4]]))
        cell.weight_hh.copy_(torch.tensor([[0.5], [0.6], [0.7], [0.8]]))
        cell.bias_ih.copy_(torch.tensor([0.01, 0.02, 0.03, 0.04]))
        cell.bias_hh.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    x, h, c = 2.0, -0.5, 0.25
    w = [tensor.double().flatten().tolist() for tensor in cell.parameters()]
    i, f, g, o = (w[0][k] * x + w[1][k] * h + w[2][k] + w[3][k] for k in range(4))
    logistic = [1 / (1 + math.exp(-a)) for a in (i, f, o)]
    expected_c = logistic[1] * c + logistic[0] * math.tanh(g)
    state = LSTMState(torch.tensor([[h]]).double(), torch.tensor([[c]]).double())
    output, after = cell.step(torch.tensor([[x]]).double(), state)
    assert after.c.item() == pytest.approx(expected_c, abs=1e-12)
    assert output.item() == after.h.item() == pytest.approx(logistic[2] * math.tanh(expected_c), abs=1e-12)


def test_a_gru_of_one_unit_applies_its_reset_gate_after_the_product() -> None:
    cell = GRUCell(1, 1).double()
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([[0.1], [0.2], [0.3]]))
        cell.weight_hh.copy_(torch.tensor([[0.5], [0.6], [0.7]]))
        cell.bias_ih.copy_(torch.tensor([0.01, 0.02, 0.03]))
        cell.bias_hh.copy_(torch.tensor([0.1, 0.2, 0.3]))
    x, h = 2.0, -0.5
    w = [tensor.double().flatten().tolist() for tensor in cell.parameters()]
    r, z = (1 / (1 + math.exp(-(w[0][k] * x + w[1][k] * h + w[2][k] + w[3][k]))) for k in range(2))
    n = math.tanh(w[0][2] * x + w[2][2] + r * (w[1][2] * h + w[3][2]))
    output, _ = cell.step(torch.tensor([[x]]).double(), OutputState(torch.tensor([[h]]).double()))
    assert output.item() == pytest.approx((1 - z) * n + z * h, abs=1e-12)


# Initialisation


@pytest.mark.parametrize(("name", "num_gates"), [("lstm", 4), ("gru", 3), ("elman", 1)])
def test_every_recurrent_block_starts_orthogonal_and_input_blocks_xavier(name: str, num_gates: int) -> None:
    cell: Any = CELLS[name](24, 16)
    blocks = cell.weight_hh.detach().chunk(num_gates)
    for block in blocks:
        torch.testing.assert_close(block @ block.t(), torch.eye(16), rtol=0, atol=1e-5)
    if num_gates > 1:
        assert not torch.equal(blocks[0], blocks[1])
    bound = math.sqrt(6 / (24 + 16))  # Of each gate alone, not of all of them as one wide layer.
    for block in cell.weight_ih.detach().chunk(num_gates):
        assert 0.95 * bound < block.abs().max() <= bound


def test_the_forget_bias_is_1_in_one_bias_only() -> None:
    cell = LSTMCell(3, 2)
    assert cell.bias_ih.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert cell.bias_hh.tolist() == [0] * 8


@pytest.mark.parametrize("name", ["gru", "elman"])
def test_other_biases_start_at_0(name: str) -> None:
    cell: Any = CELLS[name](3, 2)
    assert not cell.bias_ih.any()
    assert not cell.bias_hh.any()


def test_chrono_spreads_the_forget_bias_of_the_lstm_and_mirrors_the_input_bias() -> None:
    cell = LSTMCell(3, 500, memory_length=101)
    i, f, g, o = cell.bias_ih.detach().chunk(4)
    torch.testing.assert_close(i, -f, rtol=0, atol=0)
    assert not g.any()
    assert not o.any()
    assert not cell.bias_hh.any()
    spans = f.exp()  # U[1, 100]: mean 50.5, deviation 28.6, so the mean of 500 is within 5 deviations of 1.3.
    assert 1 <= spans.min() < 3
    assert 98 < spans.max() <= 100.001
    assert abs(spans.mean() - 50.5) < 6.4


def test_chrono_initialisation_of_the_gru_spreads_the_update_bias() -> None:
    cell = GRUCell(3, 500, memory_length=101)
    r, z, n = cell.bias_ih.detach().chunk(3)
    assert not r.any()
    assert not n.any()
    assert not cell.bias_hh.any()
    assert abs(z.exp().mean() - 50.5) < 6.4
    assert 1 <= z.exp().min() < 3


def test_a_chrono_lstm_remembers_longer_than_a_plain_one() -> None:
    def remembered(memory_length: int | None) -> float:
        torch.manual_seed(0)
        cell = LSTMCell(WIDTH, 64, memory_length=memory_length)
        state = LSTMState(torch.zeros(1, 64), torch.ones(1, 64, requires_grad=True))
        _, after = cell.sequence(torch.randn(50, 1, WIDTH), state, torch.zeros(50, 1, dtype=torch.bool))
        return float(torch.autograd.grad(after.c.sum(), state.c)[0].abs().mean())

    assert remembered(None) < 0.01
    assert remembered(100) > 0.1


def test_the_shortest_chrono_interval_is_one_step_long() -> None:
    assert (memory_bias(50, 3).exp() <= 2.0001).all()
    with pytest.raises(ValueError, match=r"memory_length is 2; .* at least 3"):
        memory_bias(50, 2)


def test_log_spaced_initialisation_gives_every_octave_of_time_scales_as_many_units() -> None:
    """τ = 2, 4, 8, 16, 32, so the bias is log 1, 3, 7, 15, 31 and the gate alone keeps 1 - 1/τ of the state."""
    spans = torch.tensor([2.0, 4.0, 8.0, 16.0, 32.0])
    lstm = LSTMCell(3, 5, memory_length=32, memory_init="log_spaced")
    i, f, g, o = lstm.bias_ih.detach().chunk(4)
    torch.testing.assert_close(f, (spans - 1).log(), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.sigmoid(f), 1 - 1 / spans, rtol=0, atol=1e-6)
    assert torch.equal(i, -f)
    gru = GRUCell(3, 5, memory_length=32, memory_init="log_spaced")
    r, z, n = gru.bias_ih.detach().chunk(3)
    assert torch.equal(z, f)
    assert not any(part.any() for part in (g, o, r, n, lstm.bias_hh, gru.bias_hh))


@pytest.mark.parametrize("memory_length", [3, 100, 1_000_000])
def test_log_spaced_biases_run_from_0_to_the_longest_of_chrono_and_none_is_drawn(memory_length: int) -> None:
    biases = memory_bias(64, memory_length, "log_spaced")
    assert torch.equal(biases, memory_bias(64, memory_length, "log_spaced"))
    assert float(biases[0]) == pytest.approx(0, abs=1e-12)
    assert float(biases[-1]) == pytest.approx(math.log(memory_length - 1), abs=1e-9)
    spans = biases.exp() + 1
    ratios = spans[1:] / spans[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand(63), rtol=1e-9, atol=0)


def test_a_single_unit_gets_the_longest_time_scale() -> None:
    assert memory_bias(1, 50, "log_spaced").tolist() == pytest.approx([math.log(49)])
    assert make_cell("gru", 3, 1, memory_length=50, memory_init="log_spaced").bias_ih[1] > 3.8


def test_time_scales_are_spread_by_chrono_unless_told_otherwise() -> None:
    def forget_biases(**options: Any) -> Tensor:
        torch.manual_seed(0)
        return make_cell("lstm", 3, 40, memory_length=99, **options).bias_ih.detach().chunk(4)[1]

    assert torch.equal(forget_biases(), forget_biases(memory_init="chrono"))
    assert (forget_biases().diff() < 0).any()  # Drawn, not in order.
    assert (forget_biases(memory_init="log_spaced").diff() > 0).all()


# Building


def test_a_stack_is_as_high_as_asked_and_reads_the_layer_below() -> None:
    cell = make_cell("gru", 7, 3, num_layers=3)
    assert isinstance(cell, StackedCell)
    assert [layer.input_size for layer in cell.layers] == [7, 3, 3]
    assert cell.output_size == 3
    assert [tuple(leaf.shape) for leaf in tree_leaves(cell.init_state(2))] == [(2, 3)] * 3


def test_layers_of_a_stack_differ_and_all_get_the_memory_length() -> None:
    layers = make_cell("lstm", 6, 6, num_layers=3, memory_length=50).layers
    for lower, upper in itertools.combinations(layers, 2):
        assert not torch.equal(lower.weight_hh, upper.weight_hh)
    for layer in layers:
        assert layer.bias_ih.chunk(4)[1].exp().max() > 5  # A plain forget bias of 1 gives e.


def test_all_layers_of_a_stack_get_the_same_log_spaced_time_scales() -> None:
    layers = make_cell("lstm", 6, 6, num_layers=3, memory_length=50, memory_init="log_spaced").layers
    for layer in layers:
        assert torch.equal(layer.bias_ih, layers[0].bias_ih)
        assert float(layer.bias_ih.detach().chunk(4)[1][-1]) == pytest.approx(math.log(49))


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_a_spread_without_a_memory_length_or_an_unknown_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="memory_init is 'log_spaced', but memory_length is not set"):
        make_cell(name, 3, 3, memory_init="log_spaced")
    wrong: Any = "linear"
    for memory_length in (None, 9):
        with pytest.raises(ValueError, match="memory_init is 'linear'; it must be one of chrono, log_spaced"):
            make_cell(name, 3, 3, memory_length=memory_length, memory_init=wrong)
    with pytest.raises(ValueError, match="memory_length is 2; it must be at least 3 steps"):
        make_cell(name, 3, 3, memory_length=2, memory_init="log_spaced")


def test_bad_arguments_are_refused_with_the_value() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown cell 'lstn'. Did you mean 'lstm'"):
        make_cell("lstn", 3, 3)
    with pytest.raises(ValueError, match="num_layers is 0"):
        make_cell("lstm", 3, 3, num_layers=0)
    with pytest.raises(ValueError, match="A stack needs at least one layer"):
        StackedCell([])
    with pytest.raises(ValueError, match="Layer 0 puts out 4 values, layer 1 takes 5"):
        StackedCell([LSTMCell(3, 4), LSTMCell(5, 4)])


@pytest.mark.parametrize("name", CELLS)
def test_sizes_below_1_are_refused_by_every_cell(name: str) -> None:
    with pytest.raises(ValueError, match="input_size is 0"):
        CELLS[name](0, 3)
    with pytest.raises(ValueError, match="hidden_size is -1"):
        CELLS[name](3, -1)


@pytest.mark.parametrize("name", ["elman", "none"])
def test_cells_without_gates_refuse_a_memory_length(name: str) -> None:
    with pytest.raises(ValueError, match=f"memory_length is 9, but cell '{name}'"):
        make_cell(name, 3, 3, memory_length=9)
    with pytest.raises(ValueError, match=f"memory_init is 'log_spaced', but cell '{name}'"):
        make_cell(name, 3, 3, memory_init="log_spaced")


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_names_its_source_and_its_path(name: str) -> None:
    for cell in (make_cell(name, 3, 3), make_cell(name, 3, 3, num_layers=2)):
        assert cell.source
        assert cell.sequence_path(torch.device("cpu"))


# check_cell finds what is broken


class _Late(LSTMCell):
    """Resets one step too late."""

    def sequence(self, inputs: Tensor, state: Any, is_first: Tensor) -> Any:
        return super().sequence(inputs, state, is_first.roll(1, 0))


class _MissesTheFirst(LSTMCell):
    """Takes the state that is passed in, reset or not."""

    def sequence(self, inputs: Tensor, state: Any, is_first: Tensor) -> Any:
        return super().sequence(inputs, state, torch.cat([torch.zeros_like(is_first[:1]), is_first[1:]]))


class _Multiplies(GRUCell):
    """Resets by multiplying with 0."""

    def reset(self, state: Any, is_first: Tensor) -> Any:
        return tree_map(lambda leaf: leaf * (~is_first).unsqueeze(1), state)


class _ErasesToOne(LSTMCell):
    """Resets to a state that is not the initial one."""

    def reset(self, state: Any, is_first: Tensor) -> Any:
        return tree_map(lambda leaf: leaf.masked_fill(is_first.unsqueeze(1), 1.0), state)


class _EraseAllRows(LSTMCell):
    """Resets the whole batch where one row begins anew."""

    def reset(self, state: Any, is_first: Tensor) -> Any:
        return super().reset(state, is_first.any().expand_as(is_first))


class _NaN(GRUCell):
    """Lets a NaN of the state that is passed in through."""

    def sequence(self, inputs: Tensor, state: Any, is_first: Tensor) -> Any:
        outputs, final = super().sequence(inputs, state, is_first)
        return outputs + 0 * state.h, final


class _WrongGateOrder(LSTMCell):
    """Its snapshot takes the gates in another order."""

    def acting_snapshot(self) -> Any:
        other = copy.deepcopy(self)
        with torch.no_grad():
            other.bias_ih.copy_(self.bias_ih.view(4, -1)[[0, 1, 3, 2]].flatten())
        return other.step


class _MixesRows(LSTMCell):
    """Normalises over the batch."""

    def step(self, inputs: Tensor, state: Any) -> Any:
        return super().step(inputs - inputs.mean(0, keepdim=True), state)

    def sequence(self, inputs: Tensor, state: Any, is_first: Tensor) -> Any:
        return self.reference_sequence(inputs, state, is_first)

    def acting_snapshot(self) -> Any:
        return self.step


class _Peeks(LSTMCell):
    """Carries no memory from one sequence to the next."""

    def sequence(self, inputs: Tensor, state: Any, is_first: Tensor) -> Any:
        outputs, final = super().sequence(inputs, state, is_first)
        return outputs, LSTMState(final.h, final.c * 0)


class _DetachesTheState(GRUCell):
    """Cuts the gradient into the state passed in."""

    def sequence(self, inputs: Tensor, state: Any, is_first: Tensor) -> Any:
        return super().sequence(inputs, OutputState(state.h.detach()), is_first)


class _TimeFirstState(LSTMCell):
    """Has torch's layers axis in front."""

    def init_state(self, batch_size: int) -> Any:
        return LSTMState(*(torch.zeros(1, batch_size, self.hidden_size).double() for _ in range(2)))


class _WritesItsState(GRUCell):
    """Steps in place."""

    def step(self, inputs: Tensor, state: Any) -> Any:
        output, after = super().step(inputs, state)
        if not torch.is_grad_enabled():
            state.h.copy_(output)
        return output, after


class _ForgetsABuffer(LSTMCell):
    """Has a weight that is not in its state_dict."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.register_buffer("shift", torch.randn(input_size), persistent=False)

    def step(self, inputs: Tensor, state: Any) -> Any:
        return super().step(inputs + self.shift, state)

    def sequence(self, inputs: Tensor, state: Any, is_first: Tensor) -> Any:
        return super().sequence(inputs + self.shift, state, is_first)

    def acting_snapshot(self) -> Any:
        return self.step


class _LeaksAGradient(GRUCell):
    """Right in every value, but a gradient crosses the resets, in the loop too."""

    def reset(self, state: Any, is_first: Tensor) -> Any:
        fresh_state = super().reset(state, is_first)
        return tree_map(lambda fresh, leaf: fresh + (leaf - leaf.detach()).nan_to_num(0.0), fresh_state, state)

    def sequence(self, inputs: Tensor, state: Any, is_first: Tensor) -> Any:
        return self.reference_sequence(inputs, state, is_first)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (_Late, r"sequence, T = 9, resets: t = 0: .* differs from the loop's"),
        (_MissesTheFirst, r"sequence, T = 9, resets: t = 0: .* differs from the loop's"),
        (_Multiplies, "reset: NaN is not replaced"),
        (_ErasesToOne, "reset: a state is not replaced"),
        (_EraseAllRows, "reset: a row changes that is not a first one"),
        (_NaN, "a NaN in the state passed in survives"),
        (_WrongGateOrder, "snapshot: output differs"),
        (_MixesRows, "rows of the batch mix"),
        (_Peeks, "final state leaf 1 differs"),
        (_DetachesTheState, "the gradient of initial state leaf 0 differs"),
        (_TimeFirstState, "batch axis"),
        (_WritesItsState, "writes to its inputs|snapshot|reset|differ"),
        (_ForgetsABuffer, "A copy made with state_dict"),
        (_LeaksAGradient, "a gradient crosses the reset"),
    ],
)
def test_check_cell_refuses_what_is_broken(broken: type[RecurrentCell], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_cell(broken)


def test_check_cell_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    check_cell(CELLS["gru"])
    assert torch.equal(torch.get_rng_state(), before)


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("name", CELLS)
def test_on_a_gpu_a_sequence_equals_the_loop_in_float64(name: str, num_layers: int) -> None:
    """In float32 without TensorFloat-32: 1e-5 for values, 1e-4 of the largest for gradients."""
    cell = build(name, num_layers, dtype=torch.float32, sizes=(16, 32))
    reference, there = copy.deepcopy(cell).double(), copy.deepcopy(cell).cuda()
    for pattern, is_first in reset_patterns(33, 6):
        inputs, state = torch.randn(33, 6, 16), random_state(cell, 6)
        exact = (reference, inputs.double(), tree_map(Tensor.double, state), is_first)
        moved = (there, inputs.cuda(), tree_map(Tensor.cuda, state), is_first.cuda())
        expected = run(reference.reference_sequence, *exact)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            got = run(there.sequence, *moved)
        for key, value in got.items():
            tolerance = 1e-5 if not key.startswith("d ") else 1e-4 * max(1.0, float(expected[key].abs().max()))
            error = float((value.cpu().double() - expected[key]).abs().max()) if value.numel() else 0.0
            assert error <= tolerance, f"{pattern}, {key}"


@pytest.mark.gpu
@pytest.mark.parametrize("name", CELLS)
def test_on_a_gpu_nothing_crosses_a_reset(name: str) -> None:
    cell = build(name, 1, dtype=torch.float32, sizes=(16, 32)).cuda()
    is_first = torch.zeros(20, 4, dtype=torch.bool, device="cuda")
    is_first[9] = True
    inputs = torch.randn(20, 4, 16, device="cuda", requires_grad=True)
    outputs, _ = cell.sequence(inputs, random_state(cell, 4), is_first)
    (grad,) = torch.autograd.grad(project([outputs[9:]]), inputs)
    assert not grad[:9].any()
    assert grad[9:].any()
    other = torch.cat([torch.randn(9, 4, 16, device="cuda"), inputs.detach()[9:]])
    again, _ = cell.sequence(other.requires_grad_(), random_state(cell, 4), is_first)
    assert torch.equal(again[9:], outputs[9:])


@pytest.mark.parametrize("options", [{"residual": True}, {"layer_norm": True}, {"residual": True, "layer_norm": True}])
def test_residual_and_normalised_stacks_keep_the_contract(options) -> None:
    check_cell(lambda inputs, hidden: make_cell("lstm", inputs, hidden, num_layers=3, **options))


def test_layers_above_the_first_add_to_what_they_read_and_read_it_normalised() -> None:
    stack = make_cell("elman", 4, 3, num_layers=2, residual=True, layer_norm=True).double()
    assert isinstance(stack, StackedCell)
    below, above = stack.layers
    inputs, state = torch.randn(5, 4, dtype=torch.float64), stack.init_state(5)
    hidden, _ = below.step(inputs, state[0])
    normalised = (hidden - hidden.mean(1, keepdim=True)) / (hidden.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = above.cell.step(normalised, state[1])[0] + hidden
    torch.testing.assert_close(stack.step(inputs, state)[0], expected)


def test_impossible_layers_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match="residual is of the layers above the first, but num_layers is 1"):
        make_cell("lstm", 3, 3, residual=True)
    with pytest.raises(ValueError, match="layer_norm is of the layers above the first"):
        make_cell("lstm", 3, 3, layer_norm=True)
    with pytest.raises(ValueError, match="reads 3 and puts out 4"):
        ResidualCell(LSTMCell(3, 4), residual=True, layer_norm=False)
    with pytest.raises(ValueError, match=r"The cell 'lstm' has no option 'heads'\. It has none\."):
        make_cell("lstm", 3, 3, options={"heads": 2})
    for value in ("two", 2.5, True):
        with pytest.raises(ValueError, match=f"num_heads is {value!r}; it must be a whole number"):
            make_cell("slstm", 3, 4, options={"num_heads": value})
    assert make_cell("slstm", 3, 4, options={"num_heads": None}).hidden_size == 4
