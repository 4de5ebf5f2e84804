"""The mLSTM: heads with a matrix for a memory, written by keys and read by queries.

Source: Beck et al. 2024, *xLSTM: Extended Long Short-Term Memory* (arXiv 2405.04517), section 2.3 and appendix A.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlstm.cells.base import mlstm_biases, xavier_blocks
from rlstm.cells.product_cell import ProductCell, Weights
from rlstm.cells.slstm import choose_heads
from rlstm.core.cell_options import MemoryInit, check_memory_length
from rlstm.kernels.mlstm_chunks import mlstm_chunks
from rlstm.kernels.resets import NEVER


class MLSTMState(NamedTuple):
    """What an mLSTM carries: memory, normaliser and the logarithm by which both are scaled down."""

    c: Tensor  # (B, N, D, D), keys by values
    n: Tensor  # (B, N, D)
    m: Tensor  # (B, N)


class MLSTMCell(ProductCell):
    """mLSTM.

    For each of N heads of width D = H / N, with C̄, n̄, m̄ the state after any reset, [q, k, v, õ, ĩ, f̃] = W x + b, k
    divided by √D, and ĩ, f̃ one number a head::

        m = max(log σ(f̃) + m̄, ĩ),    i' = exp(ĩ - m),    f' = exp(log σ(f̃) + m̄ - m)
        C = f' C̄ + i' k vᵀ,    n = f' n̄ + i' k,    h̃ = Cᵀ q / max(|n · q|, e^-m)
        h = σ(õ) w norm(h̃)

    norm takes off mean and deviation over the units of each head (the group norm of the paper's block), w are its
    weights. m only keeps the exponentials in range: outputs don't depend on it and it carries no gradient.

    W starts uniform (Xavier) for each part but for ĩ and f̃, where it is 0; b_f goes from 3 to 6 over the heads, b_i is
    drawn from N(0, 0.1), the other biases are 0 and w is 1. With a memory length b_f spreads time scales up to it over
    the heads (Tallec & Ollivier 2018). The memory has H D numbers.

    Args:
        num_heads: Number N of heads, a divisor of H with D at least 2; ``None`` for the largest of 4, 2, 1 that is one.
        chunk_length: Steps that ``sequence`` computes at once.

    Raises:
        ValueError: If the heads don't divide H or are 1 wide, or the chunk length is below 1.
    """

    source = "Beck et al. 2024"
    state_type = MLSTMState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        *,
        num_heads: int | None = None,
        chunk_length: int = 64,
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_memory_length(memory_length, memory_init)
        self.num_heads = choose_heads(hidden_size, num_heads, narrowest=2)
        self.chunk_length = check_chunk_length(chunk_length)
        width = 4 * hidden_size + 2 * self.num_heads
        self.weight_ih = nn.Parameter(torch.zeros(width, input_size))
        self.bias_ih = nn.Parameter(torch.zeros(width))
        self.norm_weight = nn.Parameter(torch.ones(hidden_size))
        xavier_blocks(self.weight_ih[: 4 * hidden_size], 4)
        mlstm_biases(self.bias_ih[4 * hidden_size :], memory_length, memory_init)

    def units_of_rows(self, name: str) -> list[int]:
        """Return the head that each row enters: a head, whose memory is one matrix, is a unit."""
        heads = self.units_of_outputs()
        return heads if name == "norm_weight" else heads * 4 + [*range(self.num_heads)] * 2

    def units_of_outputs(self) -> list[int]:
        """Return the head of each output."""
        width = self.hidden_size // self.num_heads
        return [number // width for number in range(self.hidden_size)]

    def init_state(self, batch_size: int) -> MLSTMState:
        """Return zeros, and -1e30 for m: ``(batch_size, N, D, D)``, ``(batch_size, N, D)``, ``(batch_size, N)``."""
        return initial_mlstm(self.weight_ih, batch_size, self.num_heads, self.hidden_size // self.num_heads)

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return one product, of the inputs alone, and the weights of the norm."""
        p = parameters
        return {"projections": ((p["weight_ih"], p["bias_ih"]),), "norm_weight": p["norm_weight"]}

    def equations(self, by: Any, inputs: Tensor, state: MLSTMState) -> tuple[Tensor, MLSTMState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        vectors, opened, gates = self._split(by.projections(inputs))
        h, state = mix_mlstm(vectors, gates, state)
        return torch.sigmoid(opened) * normalise_heads(h, by.norm_weight), state

    def gates(self, inputs: Tensor, state: MLSTMState) -> dict[str, Tensor]:
        """Return σ(f̃) of the heads, ``(B, N)``, and o, ``(B, H)``; how much i' writes has no bound."""
        _, opened, (_, forget) = self._split(self.products().projections(inputs))
        return {"forget": torch.sigmoid(forget), "output": torch.sigmoid(opened)}

    def sequence(self, inputs: Tensor, state: MLSTMState, is_first: Tensor) -> tuple[Tensor, MLSTMState]:
        """Run T steps with resets, a chunk at once."""
        projections = nn.functional.linear(inputs, self.weight_ih, self.bias_ih)
        vectors, opened, gates = self._split(projections)
        h, memory = mlstm_chunks(vectors, gates, state, is_first, self.chunk_length)
        return torch.sigmoid(opened) * normalise_heads(h, self.norm_weight), MLSTMState(*memory)

    def _split(self, projections: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, tuple[Tensor, Tensor]]:
        """Split ``(..., 4H + 2N)`` into q, k, v ``(..., N, D)``, õ ``(..., H)`` and ĩ, f̃ ``(..., N)``."""
        sizes = [self.hidden_size] * 4 + [self.num_heads] * 2
        *vectors, opened, admit, forget = projections.split(sizes, dim=-1)
        query, key, value = (vector.unflatten(-1, (self.num_heads, -1)) for vector in vectors)
        return (query, key, value), opened, (admit, forget)

    def sequence_path(self, device: torch.device) -> str:
        """Name the path: chunks of steps at once."""
        return f"chunks of {self.chunk_length} steps at once"


def check_chunk_length(chunk_length: int) -> int:
    """Return the chunk length.

    Raises:
        ValueError: If it is below 1.
    """
    if chunk_length < 1:
        raise ValueError(f"chunk_length is {chunk_length}; it must be at least 1 step.")
    return chunk_length


def initial_mlstm(like: Tensor, batch_size: int, num_heads: int, width: int) -> MLSTMState:
    """Return the state of an mLSTM that has seen nothing, in the type and on the device of ``like``."""
    c = like.new_zeros(batch_size, num_heads, width, width)
    return MLSTMState(c, like.new_zeros(batch_size, num_heads, width), like.new_full((batch_size, num_heads), NEVER))


def mix_mlstm(
    vectors: tuple[Tensor, Tensor, Tensor], gates: tuple[Tensor, Tensor], state: MLSTMState
) -> tuple[Tensor, MLSTMState]:
    """Return h̃ ``(B, N, D)`` from q, k, v ``(B, N, D)`` and ĩ, f̃ ``(B, N)``; m is a constant for the gradient."""
    query, key, value = vectors
    admit, forget = gates
    kept = nn.functional.logsigmoid(forget) + state.m.detach()
    m = torch.maximum(kept, admit).detach()
    written = (torch.exp(admit - m) / math.sqrt(key.shape[-1])).unsqueeze(-1) * key
    forgotten = torch.exp(kept - m).unsqueeze(-1)
    c = forgotten.unsqueeze(-1) * state.c + written.unsqueeze(-1) * value.unsqueeze(-2)
    n = forgotten * state.n + written
    numerator = (query.unsqueeze(-2) @ c).squeeze(-2)
    denominator = torch.maximum((query * n).sum(-1).abs(), torch.exp(-m))
    return numerator / denominator.unsqueeze(-1), MLSTMState(c, n, m)


def normalise_heads(h: Tensor, weight: Tensor) -> Tensor:
    """Return h ``(..., N, D)`` with mean and deviation of each head taken off, as ``(..., N·D)`` times the weights."""
    return nn.functional.layer_norm(h, h.shape[-1:]).flatten(-2) * weight
