"""Claims about the cell `xlstm`, its blocks and their convolution, beside those held for every cell."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlstm.cells.slstm import mix_slstm
from rlstm.cells.xlstm import XLSTMCell
from rlstm.cells.xlstm_blocks import MLSTMBlock, SLSTMBlock
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.kernels.causal_conv import causal_conv, causal_conv_step
from rlstm.testing import check_cell, reset_patterns

BLOCKS: list[Any] = [SLSTMBlock, MLSTMBlock]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def away_from_initial_values(cell: Any) -> Any:
    """Return the cell in float64 with every parameter moved, those that start at 0 too."""
    cell = cell.double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return cell


def same_every_time(make: Callable[[int, int], Any]) -> Callable[[int, int], Any]:
    """Return a function that makes the same cell whenever it is called, for ``check_cell`` with other weights."""

    def build(width: int, hidden: int) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return away_from_initial_values(make(width, hidden))

    return build


@pytest.mark.parametrize("slstm_at", [(0,), *(pytest.param(at, marks=pytest.mark.slow) for at in ((), (1,), (0, 1)))])
def test_a_cell_keeps_its_contract_whatever_its_blocks(slstm_at: Any) -> None:
    options: dict[str, Any] = {"slstm_at": slstm_at, "num_heads": 3, "chunk_length": 2}
    check_cell(same_every_time(lambda width, _: XLSTMCell(width, 6, **options)))


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_alone_is_a_cell_too(block: Any) -> None:
    check_cell(same_every_time(lambda width, _: block(width, num_heads=2)))


@pytest.mark.parametrize(
    "pattern",
    ["random", *(pytest.param(name, marks=pytest.mark.slow) for name in ("none", "t = 0", "t = T - 1", "all"))],
)
@pytest.mark.parametrize("block", BLOCKS)
def test_the_gradient_of_a_block_is_that_of_finite_differences(block: Any, pattern: str) -> None:
    """Of the outputs, by inputs, window and weights."""
    cell = away_from_initial_values(block(2, num_heads=1))
    is_first = dict(reset_patterns(5, 2))[pattern]
    _, state = cell.sequence(torch.randn(3, 2, 2).double(), cell.init_state(2), torch.zeros(3, 2, dtype=torch.bool))
    state = tree_map(Tensor.detach, state)
    names, weights = zip(*cell.named_parameters(), strict=True)

    def run(inputs: Tensor, window: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        with nn.utils.stateless._reparametrize_module(cell, given):  # type: ignore[attr-defined]
            outputs: Tensor = cell.sequence(inputs, state._replace(window=window), is_first)[0]
        return outputs

    sources = (torch.randn(5, 2, 2).double(), state.window, *weights)
    leaves = tuple(leaf.detach().clone().requires_grad_() for leaf in sources)
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


def test_two_gates_of_an_slstm_block_read_through_the_convolution() -> None:
    block = away_from_initial_values(SLSTMBlock(4, num_heads=1))
    inputs = torch.randn(3, 4).double()
    _, state = block.step(torch.randn(3, 4).double(), block.init_state(3))
    state = state._replace(cell=state.cell._replace(h=torch.zeros_like(state.cell.h)))  # So R takes no part.
    seen = block.norm(inputs)
    mixed, _ = causal_conv_step(seen, state.window, block.conv_weight, block.conv_bias)
    mixed = nn.functional.silu(mixed)
    parts = [part @ weight[0].t() for part, weight in zip((mixed, mixed, seen, seen), block.weight_ih, strict=True)]
    _, expected = mix_slstm(torch.cat(parts, dim=1) + block.bias_ih, state.cell, "sigmoid")
    torch.testing.assert_close(block.step(inputs, state)[1].cell, expected)


# The convolution


def episodes_alone(inputs: Tensor, is_first: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return torch's padded convolution over each episode alone."""
    outputs = torch.empty_like(inputs)
    for row in range(inputs.shape[1]):
        starts = sorted({0, *is_first[:, row].nonzero().flatten().tolist()})
        for begin, end in zip(starts, [*starts[1:], len(inputs)], strict=True):
            piece = nn.functional.pad(inputs[begin:end, row].t(), (weight.shape[1] - 1, 0))
            outputs[begin:end, row] = nn.functional.conv1d(piece, weight.unsqueeze(1), bias, groups=len(weight)).t()
    return outputs


@pytest.mark.parametrize("num_steps", [1, 2, 3, 11])
def test_the_convolution_equals_torchs_over_each_episode_alone(num_steps: int) -> None:
    inputs, weight, bias = torch.randn(num_steps, 3, 2).double(), torch.randn(2, 4).double(), torch.randn(2).double()
    for _, is_first in reset_patterns(num_steps, 3):
        outputs, _ = causal_conv(inputs, inputs.new_zeros(3, 3, 2), is_first, weight, bias)
        torch.testing.assert_close(outputs, episodes_alone(inputs, is_first, weight, bias), rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 11])
def test_the_convolution_equals_its_steps_and_leaves_their_window(num_steps: int) -> None:
    inputs, weight, bias = torch.randn(num_steps, 3, 2).double(), torch.randn(2, 4).double(), torch.randn(2).double()
    for _, is_first in reset_patterns(num_steps, 3):
        start = window = torch.randn(3, 3, 2).double()
        expected = []
        for inputs_t, first in zip(inputs, is_first, strict=True):
            output, window = causal_conv_step(inputs_t, window.masked_fill(first.view(-1, 1, 1), 0.0), weight, bias)
            expected.append(output)
        outputs, end = causal_conv(inputs, start, is_first, weight, bias)
        torch.testing.assert_close(outputs, torch.stack(expected), rtol=0, atol=1e-12)
        assert torch.equal(end, window)


def test_a_tap_beyond_a_reset_reads_0_and_not_0_times_what_stood_there() -> None:
    inputs, is_first = torch.ones(6, 1, 1), torch.zeros(6, 1, dtype=torch.bool)
    is_first[3] = True
    inputs[:3] = torch.nan
    weight, window = torch.tensor([[1.0, 10.0, 100.0, 1000.0]]), torch.full((1, 3, 1), torch.nan)
    outputs, end = causal_conv(inputs, window, is_first, weight, torch.zeros(1))
    assert outputs[3:].flatten().tolist() == [1000, 1100, 1110]
    assert end.flatten().tolist() == [1, 1, 1]
    _, end = causal_conv(inputs[:5], window, is_first[:5], weight, torch.zeros(1))
    assert end.flatten().tolist() == [0, 1, 1]


# The whole


@pytest.mark.parametrize("reset", [0, 3])
def test_what_has_diverged_ends_at_a_reset(reset: int) -> None:
    cell, is_first = XLSTMCell(3, 8), torch.zeros(6, 2, dtype=torch.bool)
    is_first[reset, 0] = True
    state = tree_map(lambda leaf: torch.full_like(leaf, torch.nan), cell.init_state(2))
    outputs, final = cell.sequence(torch.randn(6, 2, 3), state, is_first)
    assert all(torch.isfinite(leaf).all() for leaf in (outputs[reset:, 0], *(leaf[0] for leaf in tree_leaves(final))))
    assert outputs[:, 1].isnan().all()


def test_blocks_stand_where_they_are_asked_for() -> None:
    def kinds(**options: Any) -> str:
        return "".join("s" if isinstance(block, SLSTMBlock) else "m" for block in XLSTMCell(3, 8, **options).blocks)

    assert [kinds(num_blocks=number) for number in (1, 2, 5)] == ["m", "ms", "msmsm"]
    assert kinds(num_blocks=3, slstm_at=[0, 2]) == "sms"
    assert kinds(slstm_at=()) == "mm"
    cell = XLSTMCell(3, 8, num_blocks=3)
    assert [len(tree_leaves(state)) for state in cell.init_state(2)] == [4, 5, 4]
    assert cell.output_size == 8


def test_input_and_forget_gate_read_what_is_convolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell input and output gate read what is seen, so a convolution of zeros leaves these two alone."""
    block, seen = SLSTMBlock(8), []
    remember = block._remember
    monkeypatch.setattr(block, "_remember", lambda gates, *rest: seen.append(gates) or remember(gates, *rest))
    with torch.no_grad():
        block.conv_weight.zero_()
        block.conv_bias.zero_()
        block.step(torch.randn(3, 8), block.init_state(3))
    parts = (seen[0] - block.bias_ih).detach().chunk(4, dim=-1)
    assert [bool(part.any()) for part in parts] == [False, False, True, True]


def test_initial_values_are_those_of_the_authors_package() -> None:
    torch.manual_seed(0)
    slstm, mlstm = SLSTMBlock(64, (2, 3)), MLSTMBlock(64, (0, 3))
    expected = torch.tensor([5 - 12 * (k / 15) ** 1.6 for k in range(16)]).repeat(4)
    torch.testing.assert_close(slstm.bias_ih.detach().chunk(4)[1], expected, rtol=0, atol=1e-5)
    assert not slstm.weight_hh.any()
    assert mlstm.bias_gates[4:].tolist() == [3, 4, 5, 6]
    assert not mlstm.weight_gates.any()
    for weight, deviation in (
        (slstm.weight_ih, math.sqrt(2 / (5 * 64))),
        (mlstm.weight_qkv, math.sqrt(2 / (5 * 128))),
        (mlstm.weight_up, math.sqrt(2 / (5 * 64))),
        (mlstm.weight_down, 2 / (3 * 8)),
        (slstm.weight_down, 2 / (3 * 8)),
    ):
        assert float(weight.detach().std()) == pytest.approx(deviation, rel=0.05)
    for block in (slstm, mlstm):
        assert 0.45 < float(block.conv_weight.detach().abs().max()) <= 0.5


def test_a_memory_length_reaches_every_block() -> None:
    cell = XLSTMCell(3, 16, memory_length=32, memory_init="log_spaced", num_heads=2)
    mlstm, slstm = cell.blocks
    assert mlstm.bias_gates[2:].tolist() == pytest.approx([0, math.log(31)], abs=1e-6)
    assert slstm.bias_ih.detach().chunk(4)[1][[0, -1]].tolist() == pytest.approx([0, math.log(31)], abs=1e-6)


def test_bad_options_are_refused_with_the_value() -> None:
    with pytest.raises(ValueError, match="num_blocks is 0; it must be at least 1"):
        XLSTMCell(3, 8, num_blocks=0)
    for wrong in ([2], [-1], [0, 0]):
        with pytest.raises(ValueError, match=r"slstm_at is \[.*\]; it must hold different indices of the 2 blocks"):
            XLSTMCell(3, 8, slstm_at=wrong)
    with pytest.raises(ValueError, match=r"num_heads is 0; it must be at least 1\."):
        XLSTMCell(3, 8, num_heads=0)
    with pytest.raises(ValueError, match="num_heads is 3; it must divide the width of the memory, 16"):
        XLSTMCell(3, 8, num_heads=3)
    with pytest.raises(ValueError, match="8 heads share a width of 8; each needs at least 2"):
        XLSTMCell(3, 8, num_heads=8)
    with pytest.raises(ValueError, match="chunk_length is 0"):
        XLSTMCell(3, 8, chunk_length=0)
    with pytest.raises(ValueError, match="memory_length is 2"):
        XLSTMCell(3, 8, memory_length=2)


def test_blocks_equal_those_of_the_authors_package_with_the_same_weights() -> None:
    """Without resets; its mLSTM adds 1e-6 to what it divides by."""
    pytest.importorskip("xlstm")
    from xlstm.blocks.mlstm.block import mLSTMBlock, mLSTMBlockConfig
    from xlstm.blocks.mlstm.layer import mLSTMLayerConfig
    from xlstm.blocks.slstm.block import sLSTMBlock, sLSTMBlockConfig
    from xlstm.blocks.slstm.layer import sLSTMLayerConfig
    from xlstm.components.feedforward import FeedForwardConfig

    width, heads = 96, 2  # Their widths are multiples of 64.
    ours: list[Any] = [away_from_initial_values(block(width, num_heads=heads)).float() for block in BLOCKS]
    slstm, mlstm = ours
    sizes: dict[str, Any] = {"embedding_dim": width, "num_heads": heads}
    places: dict[str, Any] = {"_num_blocks": 1, "_block_idx": 0}
    plain = sLSTMLayerConfig(**sizes, backend="vanilla", dtype="float32")
    plain.enable_automatic_mixed_precision = False
    their_slstm = sLSTMBlock(sLSTMBlockConfig(slstm=plain, feedforward=FeedForwardConfig(proj_factor=4 / 3), **places))
    layer = mLSTMLayerConfig(**sizes, context_length=12, proj_factor=2.0, qkv_proj_blocksize=2 * width // heads)
    their_mlstm = mLSTMBlock(mLSTMBlockConfig(mlstm=layer, **places))
    s, m, feed = their_slstm.xlstm, their_mlstm.xlstm, their_slstm.ffn
    recurrent = slstm.weight_hh.view(4, heads, width // heads, width // heads).permute(1, 3, 0, 2)
    bias = slstm.bias_ih.view(4, heads, -1).transpose(0, 1)
    pairs = [
        (their_slstm.xlstm_norm.weight, slstm.norm.weight - 1),
        (their_slstm.ffn_norm.weight, slstm.second_norm.weight - 1),
        (s.group_norm.weight, slstm.group_weight - 1),
        (s.conv1d.conv.weight, slstm.conv_weight.unsqueeze(1)),
        (s.conv1d.conv.bias, slstm.conv_bias),
        # Their layer calls the first two maps by each other's names.
        *zip((s.fgate.weight, s.igate.weight, s.zgate.weight, s.ogate.weight), slstm.weight_ih, strict=True),
        (s.slstm_cell._recurrent_kernel_, s.slstm_cell._recurrent_kernel_ext2int(recurrent)),
        (s.slstm_cell._bias_, s.slstm_cell._bias_ext2int(bias)),
        (feed.proj_up.weight, slstm.weight_up),
        (feed.proj_down.weight, slstm.weight_down),
        (their_mlstm.xlstm_norm.weight, mlstm.norm.weight - 1),
        (m.proj_up.weight, mlstm.weight_up),
        (m.conv1d.conv.weight, mlstm.conv_weight.unsqueeze(1)),
        (m.conv1d.conv.bias, mlstm.conv_bias),
        *zip((m.q_proj.weight, m.k_proj.weight, m.v_proj.weight), mlstm.weight_qkv, strict=True),
        *zip((m.mlstm_cell.igate.weight, m.mlstm_cell.fgate.weight), mlstm.weight_gates.chunk(2), strict=True),
        *zip((m.mlstm_cell.igate.bias, m.mlstm_cell.fgate.bias), mlstm.bias_gates.chunk(2), strict=True),
        (m.mlstm_cell.outnorm.weight, mlstm.group_weight - 1),
        (m.learnable_skip, mlstm.skip_weight),
        (m.proj_down.weight, mlstm.weight_down),
    ]
    assert len({id(theirs) for theirs, _ in pairs}) == sum(
        len(list(b.parameters())) for b in (their_slstm, their_mlstm)
    )
    inputs = torch.randn(12, 2, width)
    with torch.no_grad():
        for theirs, value in pairs:
            theirs.copy_(value)
        for block, their_block in zip(ours, (their_slstm, their_mlstm), strict=True):
            expected = their_block(inputs.transpose(0, 1)).transpose(0, 1)
            outputs, _ = block.sequence(inputs, block.init_state(2), torch.zeros(12, 2, dtype=torch.bool))
            torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-4)
