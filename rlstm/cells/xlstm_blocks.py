"""The two blocks of the xLSTM: an sLSTM or an mLSTM with its convolution, norms, projections and residual.

Source: Beck et al. 2024, *xLSTM: Extended Long Short-Term Memory* (arXiv 2405.04517), appendix A.4, figures 10 and 11.
Where the paper's maps are block-diagonal, these have one block a head.

Letters in shapes: W = width of the residual stream, N = heads, D = width of a head, K = 4 taps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rlstm.cells.base import RecurrentCell, mlstm_biases
from rlstm.cells.mlstm import MLSTMState, check_chunk_length, initial_mlstm, mix_mlstm, normalise_heads
from rlstm.cells.slstm import SLSTMState, choose_heads, forget_biases, initial_slstm, mix_slstm, slstm_gates
from rlstm.core.cell_options import MemoryInit
from rlstm.kernels.bptt.slstm import across_heads, slstm_bptt_sequence
from rlstm.kernels.causal_conv import causal_conv, causal_conv_step
from rlstm.kernels.mlstm_chunks import mlstm_chunks

_TAPS = 4
_EXPANSION = 2  # Of the mLSTM block.
_FEED_FORWARD = 4 / 3


class SLSTMBlockState(NamedTuple):
    """What an sLSTM block carries."""

    window: Tensor  # (B, K - 1, W)
    cell: SLSTMState  # of width W


class MLSTMBlockState(NamedTuple):
    """What an mLSTM block carries."""

    window: Tensor  # (B, K - 1, 2W)
    cell: MLSTMState  # of width 2W


class SLSTMBlock(RecurrentCell):
    """sLSTM, then a gated feed-forward layer, each with its norm before and its residual.

    With s = norm(x) and a = SiLU(conv(s)), the sLSTM of ``rlstm.cells.slstm`` has ĩ, f̃ from a and z̃, õ from s::

        y = x + w groupnorm(sLSTM(W_i a, W_f a, W_z s, W_o s)),    [u, v] = V norm(y),    x' = y + V' (GELU(u) v)

    Args:
        width: W, of inputs and outputs.
        place: Index of the block in its stack and the number of blocks.
        num_heads: As for ``SLSTMCell``, each at least 2 wide.
    """

    source = "Beck et al. 2024"

    def __init__(
        self,
        width: int,
        place: tuple[int, int] = (0, 1),
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        *,
        num_heads: int | None = None,
    ) -> None:
        super().__init__(width, width)
        self.num_heads = choose_heads(width, num_heads, narrowest=2)
        size = width // self.num_heads
        self.norm = nn.LayerNorm(width, bias=False)
        self.conv_weight, self.conv_bias = _convolution(width)
        self.weight_ih = _small((4, self.num_heads, size, size), width)
        self.weight_hh = nn.Parameter(torch.zeros(4 * width, size))
        self.bias_ih = nn.Parameter(torch.zeros(4 * width))
        self.group_weight = nn.Parameter(torch.ones(width))
        self.second_norm = nn.LayerNorm(width, bias=False)
        inner = math.ceil(_FEED_FORWARD * width / 8) * 8
        self.weight_up = _small((2 * inner, width), width)
        self.weight_down = _closing((width, inner), place[1])
        with torch.no_grad():
            depth = place[0] / max(place[1] - 1, 1)
            self.bias_ih.chunk(4)[1].copy_(
                forget_biases(width, self.num_heads, memory_length, memory_init, depth=depth)
            )

    def init_state(self, batch_size: int) -> SLSTMBlockState:
        """Return an empty window and the initial state of the sLSTM."""
        window = self.conv_weight.new_zeros(batch_size, _TAPS - 1, self.hidden_size)
        return SLSTMBlockState(window, initial_slstm(self.conv_weight, batch_size, self.hidden_size))

    def step(self, inputs: Tensor, state: SLSTMBlockState) -> tuple[Tensor, SLSTMBlockState]:
        """Advance one step, ``(B, W)`` to ``(B, W)``."""
        return self._run(inputs, state, None)

    def sequence(self, inputs: Tensor, state: SLSTMBlockState, is_first: Tensor) -> tuple[Tensor, SLSTMBlockState]:
        """Run T steps with resets."""
        return self._run(inputs, state, is_first)

    def gates(self, inputs: Tensor, state: SLSTMBlockState) -> dict[str, Tensor]:
        """Return those of the sLSTM."""
        gates, _ = self._entering(self.norm(inputs), state.window, None)
        gates = gates + nn.functional.linear(state.cell.h, across_heads(self.weight_hh))
        return slstm_gates(gates, state.cell, "sigmoid")

    def _entering(self, seen: Tensor, window: Tensor, is_first: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what enters the gates from the inputs, and the next window."""
        mixed, window = _convolve(self, seen, window, is_first)
        pairs = zip((mixed, mixed, seen, seen), self.weight_ih, strict=True)
        return torch.cat([_by_heads(part, weight).flatten(-2) for part, weight in pairs], dim=-1) + self.bias_ih, window

    def _remember(self, gates: Tensor, state: SLSTMState, is_first: Tensor | None) -> tuple[Tensor, SLSTMState]:
        if is_first is None:
            gates = gates + nn.functional.linear(state.h, across_heads(self.weight_hh))
            return mix_slstm(gates, state, "sigmoid")
        h, *memory = slstm_bptt_sequence(gates, state, is_first, self.weight_hh, exponential=False)
        return h, SLSTMState(h[-1], *memory)

    def _run(self, inputs: Tensor, state: SLSTMBlockState, is_first: Tensor | None) -> tuple[Tensor, SLSTMBlockState]:
        """Run a step, or T of them where ``is_first`` is given."""
        gates, window = self._entering(self.norm(inputs), state.window, is_first)
        h, cell = self._remember(gates, state.cell, is_first)
        outputs = inputs + normalise_heads(h.unflatten(-1, (self.num_heads, -1)), self.group_weight)
        opened, new = nn.functional.linear(self.second_norm(outputs), self.weight_up).chunk(2, dim=-1)
        outputs = outputs + nn.functional.linear(nn.functional.gelu(opened) * new, self.weight_down)
        return outputs, SLSTMBlockState(window, cell)


class MLSTMBlock(RecurrentCell):
    """mLSTM between a projection to twice the width and one back, with norm before and residual.

    With [s, g] = U norm(x) and a = SiLU(conv(s)), the heads' q and k are maps of a, v one of s, and ĩ, f̃ of [q, k, v]::

        x' = x + U' ((w groupnorm(mLSTM(q, k, v, ĩ, f̃)) + w' a) SiLU(g))

    Args:
        width: W, of inputs and outputs.
        place: Index of the block in its stack and the number of blocks.
        num_heads: As for ``MLSTMCell``, over a width of 2W.
        chunk_length: As for ``MLSTMCell``.
    """

    source = "Beck et al. 2024"

    def __init__(
        self,
        width: int,
        place: tuple[int, int] = (0, 1),
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        *,
        num_heads: int | None = None,
        chunk_length: int = 64,
    ) -> None:
        super().__init__(width, width)
        inner = _EXPANSION * width
        self.num_heads = choose_heads(inner, num_heads, narrowest=2)
        self.chunk_length = check_chunk_length(chunk_length)
        size = inner // self.num_heads
        self.norm = nn.LayerNorm(width, bias=False)
        self.weight_up = _small((2 * inner, width), width)
        self.conv_weight, self.conv_bias = _convolution(inner)
        self.weight_qkv = _small((3, self.num_heads, size, size), inner)
        self.weight_gates = nn.Parameter(torch.zeros(2 * self.num_heads, 3 * inner))
        self.bias_gates = nn.Parameter(torch.zeros(2 * self.num_heads))
        self.group_weight = nn.Parameter(torch.ones(inner))
        self.skip_weight = nn.Parameter(torch.ones(inner))
        self.weight_down = _closing((width, inner), place[1])
        mlstm_biases(self.bias_gates, memory_length, memory_init)

    def init_state(self, batch_size: int) -> MLSTMBlockState:
        """Return an empty window and the initial state of the mLSTM."""
        inner = _EXPANSION * self.hidden_size
        window = self.conv_weight.new_zeros(batch_size, _TAPS - 1, inner)
        cell = initial_mlstm(self.conv_weight, batch_size, self.num_heads, inner // self.num_heads)
        return MLSTMBlockState(window, cell)

    def step(self, inputs: Tensor, state: MLSTMBlockState) -> tuple[Tensor, MLSTMBlockState]:
        """Advance one step, ``(B, W)`` to ``(B, W)``."""
        return self._run(inputs, state, None)

    def sequence(self, inputs: Tensor, state: MLSTMBlockState, is_first: Tensor) -> tuple[Tensor, MLSTMBlockState]:
        """Run T steps with resets."""
        return self._run(inputs, state, is_first)

    def gates(self, inputs: Tensor, state: MLSTMBlockState) -> dict[str, Tensor]:
        """Return σ(f̃) of the heads, ``(B, N)``."""
        seen, _ = nn.functional.linear(self.norm(inputs), self.weight_up).chunk(2, dim=-1)
        _, (_, forget), _, _ = self._entering(seen, state.window, None)
        return {"forget": torch.sigmoid(forget)}

    def _entering(
        self, seen: Tensor, window: Tensor, is_first: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor], Tensor, Tensor]:
        """Return q, k, v, then ĩ and f̃, then a, and the next window."""
        mixed, window = _convolve(self, seen, window, is_first)
        pairs = zip((mixed, mixed, seen), self.weight_qkv, strict=True)
        query, key, value = (_by_heads(part, weight) for part, weight in pairs)
        together = torch.cat([query, key, value], dim=-2).flatten(-2)  # (..., 6W)
        admit, forget = nn.functional.linear(together, self.weight_gates, self.bias_gates).chunk(2, dim=-1)
        return (query, key, value), (admit, forget), mixed, window

    def _run(self, inputs: Tensor, state: MLSTMBlockState, is_first: Tensor | None) -> tuple[Tensor, MLSTMBlockState]:
        """Run a step, or T of them where ``is_first`` is given."""
        seen, opened = nn.functional.linear(self.norm(inputs), self.weight_up).chunk(2, dim=-1)
        vectors, gates, mixed, window = self._entering(seen, state.window, is_first)
        if is_first is None:
            h, cell = mix_mlstm(vectors, gates, state.cell)
        else:
            h, memory = mlstm_chunks(vectors, gates, state.cell, is_first, self.chunk_length)
            cell = MLSTMState(*memory)
        h = (normalise_heads(h, self.group_weight) + self.skip_weight * mixed) * nn.functional.silu(opened)
        return inputs + nn.functional.linear(h, self.weight_down), MLSTMBlockState(window, cell)


def _convolve(
    block: SLSTMBlock | MLSTMBlock, seen: Tensor, window: Tensor, is_first: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return SiLU(conv(s)) and the next window, of a step, or of T of them where ``is_first`` is given."""
    weights = (block.conv_weight, block.conv_bias)
    if is_first is None:
        mixed, window = causal_conv_step(seen, window, *weights)
    else:
        mixed, window = causal_conv(seen, window, is_first, *weights)
    return nn.functional.silu(mixed), window


def _by_heads(inputs: Tensor, weight: Tensor) -> Tensor:
    """Map each head by its own matrix: ``(..., N·D)`` and ``(N, D, D)`` to ``(..., N, D)``."""
    return torch.einsum("...ni,noi->...no", inputs.unflatten(-1, (len(weight), -1)), weight)


def _small(shape: tuple[int, ...], width: int) -> nn.Parameter:
    """Return weights from N(0, 2 / (5 width)), as in the authors' package."""
    return nn.Parameter(torch.randn(shape) * math.sqrt(2 / (5 * width)))


def _closing(shape: tuple[int, int], num_blocks: int) -> nn.Parameter:
    """Return weights that close a residual branch, of deviation 2 / (num_blocks √width)."""
    return nn.Parameter(torch.randn(shape) * (2 / (num_blocks * math.sqrt(shape[0]))))


def _convolution(width: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weights ``(width, K)`` and biases, uniform as those of ``torch.nn.Conv1d``."""
    bound = 1 / math.sqrt(_TAPS)
    weight, bias = torch.empty(width, _TAPS), torch.empty(width)
    return nn.Parameter(weight.uniform_(-bound, bound)), nn.Parameter(bias.uniform_(-bound, bound))
