"""The convolutional LSTM with peepholes, for images: gates are maps.

Source: Shi et al. 2015 (arXiv 1506.04214), equation 3.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rlstm.cells.base import RecurrentCell, lstm_biases
from rlstm.core.cell_options import MemoryInit


class ConvLSTMState(NamedTuple):
    """What a convolutional LSTM carries, as maps."""

    h: Tensor  # (B, H, Y, X)
    c: Tensor  # (B, H, Y, X)


class ConvLSTMCell(RecurrentCell):
    """Peephole convolutional LSTM.

    With H̄, C̄ the state after any reset, ∗ a convolution that keeps the size of maps, ⊙ a product at every place::

        i = σ(W_i ∗ X + R_i ∗ H̄ + V_i ⊙ C̄ + b_i),    f = σ(W_f ∗ X + R_f ∗ H̄ + V_f ⊙ C̄ + b_f)
        C = f ⊙ C̄ + i ⊙ tanh(W_c ∗ X + R_c ∗ H̄ + b_c)
        o = σ(W_o ∗ X + R_o ∗ H̄ + V_o ⊙ C + b_o),    H = o ⊙ tanh(C)

    Inputs and outputs are maps laid flat, ``C·Y·X`` and ``H·Y·X`` numbers; what else is read stands behind them, and
    every place sees it. On a map of one place this is the peephole LSTM. W is uniform (Xavier), R orthogonal over the
    places that it reads, V 0, the biases of channels as those of ``LSTMCell``.

    Args:
        input_size: Width of the inputs, C·Y·X and what stands behind.
        hidden_size: Channels H of the memory.
        map_shape: C, Y and X of the inputs. ``None`` for maps of one place.
        kernel_size: Side of the convolutions in places, odd.

    Raises:
        ValueError: If the inputs are smaller than the maps, or the kernel has no middle.
    """

    source = "Shi et al. 2015"
    path_name = "one convolution of all inputs, then a loop of steps"
    reads_maps: ClassVar[bool] = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        map_shape: tuple[int, int, int] | None = None,
        kernel_size: int = 3,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.map_shape = (input_size, 1, 1) if map_shape is None else (map_shape[0], map_shape[1], map_shape[2])
        self.map_size = math.prod(self.map_shape)
        if input_size < self.map_size:
            raise ValueError(
                f"input_size is {input_size}, but maps of the shape {self.map_shape} are {self.map_size} numbers."
            )
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}; it must be odd, so that a place is in the middle.")
        channels, places = self.map_shape[0] + input_size - self.map_size, self.map_shape[1:]
        self.output_maps = (hidden_size, *places)
        self.output_size = math.prod(self.output_maps)
        self.padding = kernel_size // 2
        kernel = (kernel_size, kernel_size)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, channels, *kernel))  # i, f, c, o
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size, *kernel))
        self.weight_ch = nn.Parameter(torch.zeros(3, hidden_size, *places))  # V: i, f, o
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        weights = self.weight_ih.detach().chunk(4), self.weight_hh.detach().chunk(4)
        for weight, state_weight in zip(*weights, strict=True):
            nn.init.xavier_uniform_(weight)
            nn.init.orthogonal_(state_weight)
        lstm_biases(self.bias, memory_length, memory_init)

    def units_of_rows(self, name: str) -> list[int]:
        """Refuse: it has maps, whose places share their weights."""
        raise ValueError(
            "The cell 'conv_lstm' has maps with shared weights, so no strategy can evolve it unit by unit."
        )

    def init_state(self, batch_size: int) -> ConvLSTMState:
        """Return zeros: h and c ``(batch_size, H, Y, X)``."""
        zeros = self.weight_ch.new_zeros(batch_size, *self.weight_ch.shape[1:])
        return ConvLSTMState(zeros, zeros.clone())

    def step(self, inputs: Tensor, state: ConvLSTMState) -> tuple[Tensor, ConvLSTMState]:
        """Advance one step, ``(B, C·Y·X + ...)`` to ``(B, H·Y·X)``."""
        return self._advance(self._project(inputs), state)

    def sequence(self, inputs: Tensor, state: ConvLSTMState, is_first: Tensor) -> tuple[Tensor, ConvLSTMState]:
        """Run T steps; what enters from the inputs is one convolution over all of them."""
        entering = self._project(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        outputs = []
        for entering_t, is_first_t in zip(entering, is_first, strict=True):
            output, state = self._advance(entering_t, self.reset(state, is_first_t))
            outputs.append(output)
        return torch.stack(outputs), state

    def _project(self, inputs: Tensor) -> Tensor:
        """Return W ∗ X + b, ``(N, 4H, Y, X)``, for inputs ``(N, I)``."""
        maps = inputs[:, : self.map_size].unflatten(1, self.map_shape)
        if self.map_size < self.input_size:
            seen_everywhere = inputs[:, self.map_size :, None, None].expand(-1, -1, *self.map_shape[1:])
            maps = torch.cat([maps, seen_everywhere], 1)
        return nn.functional.conv2d(maps, self.weight_ih, self.bias, padding=self.padding)

    def _advance(self, entering: Tensor, state: ConvLSTMState) -> tuple[Tensor, ConvLSTMState]:
        _, _, output_gate, c = self._opened(entering, state)
        h = output_gate * torch.tanh(c)
        return h.flatten(1), ConvLSTMState(h, c)

    def gates(self, inputs: Tensor, state: ConvLSTMState) -> dict[str, Tensor]:
        """Return i, f and o, their maps laid flat."""
        i, f, o, _ = self._opened(self._project(inputs), state)
        return {"input": i.flatten(1), "forget": f.flatten(1), "output": o.flatten(1)}

    def _opened(self, entering: Tensor, state: ConvLSTMState) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return i, f, o and c."""
        gates = entering + nn.functional.conv2d(state.h, self.weight_hh, padding=self.padding)
        input_gate, forget_gate, cell_input, output_gate = gates.chunk(4, dim=1)
        input_peephole, forget_peephole, output_peephole = self.weight_ch
        input_gate = torch.sigmoid(input_gate + input_peephole * state.c)
        forget_gate = torch.sigmoid(forget_gate + forget_peephole * state.c)
        c = forget_gate * state.c + input_gate * torch.tanh(cell_input)
        return input_gate, forget_gate, torch.sigmoid(output_gate + output_peephole * c), c
