"""The LSTM of 1997, without a forget gate, in memory blocks.

Source: Hochreiter & Schmidhuber 1997, *Long short-term memory*, Neural Computation 9(8): memory blocks whose cells
share an input and an output gate, the squashing functions g in [-2, 2] and h in [-1, 1], the truncated gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rlstm.cells.base import RecurrentCell, orthogonal_blocks, xavier_blocks
from rlstm.cells.product_cell import LSTMState, ProductCell, Weights
from rlstm.core.cell_options import MemoryInit, check_choice, refuse_memory_length
from rlstm.kernels.bptt.gated import BPTTKernel, by_step, logistic_slope, tanh_slope

Gradient = Literal["full", "truncated"]


class LSTM1997Kernel(BPTTKernel):
    """The arithmetic of an LSTM of 1997.

    With q = 2 σ(c) - 1 = tanh(c / 2) and Σ the sum over a block::

        δo = Σ dh [q o (1 - o)]          dc += dh [o (1 - q²) / 2]
        δi = Σ dc [g i (1 - i)]          δg = dc [i (1 - (g / 2)²)]
        dc̄ = dc                          dh̄ = δ R, or 0 where the gradient is truncated

    Truncated, dh is the output's own gradient, and no step back has a matrix product.

    Parameters: W ``(2N + H, I)``, R ``(2N + H, H)``, b ``(2N + H,)``; gates i, o of N blocks, g; leaves h, c.
    The option is the gradient, ``full`` or ``truncated``. Inside, units are ``(N, S)``: blocks and cells.
    """

    fills = (0.0, 0.0)
    saved = ("gates", "squashed")

    gates: Tensor  # (T, B, 2N + H): i, o, g / 4.
    squashed: Tensor  # (T, B, H): q.

    def begin(self) -> None:
        """Project the inputs."""
        weight_ih, weight_hh, bias = self.parameters
        self.recurrent = weight_hh.t()
        self.gates = self.project(weight_ih, bias)
        self.outputs, c, self.squashed = self.buffers(3, weight_hh.shape[1])
        self.after = [self.outputs, c]
        blocks = [self._blocks(one) for one in (self.outputs, c, self.squashed)]
        parts = (self.gates, self.outputs, c, *blocks, *self._split(self.gates))
        self.views = by_step(parts)

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Take one logistic function over everything, as g = 4 σ - 2."""
        h, c = before
        gates, h_after, c_after, h_blocks, c_blocks, squashed, i, o, quarter_g = self.views[t]
        gates.addmm_(h, self.recurrent).sigmoid_()
        torch.addcmul(self._blocks(c), i, quarter_g.sub_(0.5), value=4.0, out=c_blocks)
        torch.mul(o, torch.mul(c_blocks, 0.5, out=squashed).tanh_(), out=h_blocks)
        return [h_after, c_after]

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Compute the factors in brackets above."""
        i, o, quarter_g = self._split(self.gates[steps])
        squashed, self.deltas = self._blocks(self.squashed[steps]), torch.empty_like(self.gates[steps])
        i, o = i.expand_as(squashed), o.expand_as(squashed)
        into_i, into_o = logistic_slope(quarter_g * 4.0, i), logistic_slope(squashed, o)
        into_c, into_g = tanh_slope(o * 0.5, squashed), tanh_slope(i, quarter_g * 2.0)
        places = (self.deltas, *self._split(self.deltas))
        return self._blocks(self.grad_outputs[steps]), into_c, into_i, into_o, into_g, *places

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Multiply by the factors, and sum over the cells of a block what enters its gates."""
        grad, into_c, into_i, into_o, into_g, delta, delta_i, delta_o, delta_g = factors
        dh, dc = (one if one is None else self._blocks(one) for one in grads)
        dh = grad if dh is None else dh + grad
        dc = dh * into_c if dc is None else torch.addcmul(dc, dh, into_c)
        _sum_of_block(dc, into_i, out=delta_i)
        _sum_of_block(dh, into_o, out=delta_o)
        torch.mul(dc, into_g, out=delta_g)
        return [None if self.option == "truncated" else delta @ self.parameters[1], dc.flatten(1)]

    def _num_blocks(self) -> int:
        rows, hidden = self.parameters[1].shape
        return (rows - hidden) // 2

    def _blocks(self, units: Tensor) -> Tensor:
        """Return ``(..., H)`` as ``(..., N, S)``."""
        blocks: Tensor = units.unflatten(-1, (self._num_blocks(), -1))
        return blocks

    def _split(self, gates: Tensor) -> list[Tensor]:
        """Return the parts of ``(..., 2N + H)``: i and o ``(..., N, 1)``, g ``(..., N, S)``."""
        num_blocks = self._num_blocks()
        i, o, g = gates.split([num_blocks, num_blocks, gates.shape[-1] - 2 * num_blocks], dim=-1)
        return [i.unsqueeze(-1), o.unsqueeze(-1), self._blocks(g)]


def _sum_of_block(grad: Tensor, factor: Tensor, *, out: Tensor) -> None:
    """Write the sums of grad · factor over the cells of each block, ``(B, N, 1)``."""
    if grad.shape[-1] == 1:
        torch.mul(grad, factor, out=out)
    else:
        torch.sum(grad * factor, dim=-1, keepdim=True, out=out)


class LSTM1997Cell(ProductCell):
    """LSTM without forget gate, its memory in blocks of S cells that share an input and an output gate.

    With h̄, c̄ the state after any reset and [a_i, a_o, a_g] = W x + b + R h̄, N = H / S values for each gate::

        i = σ(a_i),    o = σ(a_o),    g = 4 σ(a_g) - 2,    c = c̄ + i g,    h = o (2 σ(c) - 1)

    Units k S .. k S + S - 1 are block k. What enters a memory stays there until it is reset, so c has no bound, and
    resets matter. Gates start nearly closed, against abuse and drift, as in the paper: the input biases at -1, the
    output biases from -1 at the first block to -4 at the last, evenly. R starts orthogonal for g, and with orthogonal
    rows for each gate; W uniform (Xavier). A memory length, and a ``memory_init``, are refused: without a forget gate
    nothing is forgotten, so there is no time scale to set.

    Args:
        cells_per_block: S, a divisor of H.
        gradient: ``full``, or ``truncated`` as in the paper: what reaches the gates and the cell's input goes into the
            weights and the inputs, but not back through R, so errors travel through time in the memories alone. Then
            ``step``, and all that is compared with it, has this gradient too.

    Raises:
        ValueError: If a memory length is given, S does not divide H, or the gradient is unknown.
    """

    source = "Hochreiter & Schmidhuber 1997"
    state_type = LSTMState
    kernel = LSTM1997Kernel

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        *,
        cells_per_block: int = 1,
        gradient: Gradient = "full",
    ) -> None:
        super().__init__(input_size, hidden_size)
        refuse_memory_length(memory_length, memory_init, "cell 'lstm_1997' has no forget gate: it never forgets")
        if cells_per_block < 1 or hidden_size % cells_per_block:
            raise ValueError(
                f"cells_per_block is {cells_per_block}; it must be at least 1 and divide hidden_size, {hidden_size}."
            )
        check_choice("gradient", gradient, Gradient)
        self.gradient = self.kernel_option = gradient
        self.cells_per_block = cells_per_block
        self.num_blocks = hidden_size // cells_per_block
        rows = 2 * self.num_blocks + hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias = nn.Parameter(torch.zeros(rows))
        parts = [self.num_blocks, self.num_blocks, hidden_size]
        for block in self.weight_ih.split(parts):
            xavier_blocks(block, 1)
        for block in self.weight_hh.split(parts):
            orthogonal_blocks(block, 1)
        input_bias, output_bias, _ = self.bias.detach().split(parts)
        input_bias.fill_(-1.0)
        output_bias.copy_(torch.linspace(-1.0, -4.0, self.num_blocks))

    def units_of_rows(self, name: str) -> list[int]:
        """Return the block that each row enters: a block is a unit."""
        return [*range(self.num_blocks), *range(self.num_blocks), *self.units_of_outputs()]

    def units_of_outputs(self) -> list[int]:
        """Return the block of each cell."""
        return [cell // self.cells_per_block for cell in range(self.hidden_size)]

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return one product for all gates."""
        p = parameters
        return {"gates": ((p["weight_ih"], p["bias"]), (p["weight_hh"], None))}

    def equations(self, by: Any, inputs: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        h = state.h.detach() if self.gradient == "truncated" else state.h
        gates = by.gates(inputs, h).sigmoid_()
        input_gate, output_gate, half = gates.split([self.num_blocks, self.num_blocks, self.hidden_size], dim=1)
        cell_input = (4.0 * half - 2.0).unflatten(1, (self.num_blocks, self.cells_per_block))
        c = state.c + (input_gate.unsqueeze(2) * cell_input).flatten(1)
        squashed = torch.tanh(0.5 * c).unflatten(1, (self.num_blocks, self.cells_per_block))  # 2 σ(c) - 1
        h = (output_gate.unsqueeze(2) * squashed).flatten(1)
        return h, LSTMState(h, c)

    def gates(self, inputs: Tensor, state: LSTMState) -> dict[str, Tensor]:
        """Return the gates of the blocks, ``(B, num_blocks)``; nothing forgets."""
        entering = self.products().gates(inputs, state.h)
        i, o, _ = entering.sigmoid().split([self.num_blocks, self.num_blocks, self.hidden_size], dim=1)
        return {"input": i, "output": o}

    population_snapshot = RecurrentCell.population_snapshot  # In ``torch.func.vmap``, whose rounding runs so far have.

    def sequence_path(self, device: torch.device) -> str:
        """Name the path, the same on every device."""
        return super().sequence_path(device) + (", truncated" if self.gradient == "truncated" else "")
