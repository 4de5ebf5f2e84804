"""The minimal GRU: gate and candidate see the input alone, so only the mixing is left for the time loop.

Source: Feng et al. 2024, *Were RNNs all we needed?* (arXiv 2410.01201), section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rlstm.cells.base import CellStep, MemoryInit, RecurrentCell, check_memory_length, memory_bias
from rlstm.cells.population_linear import PopulationLinear
from rlstm.kernels.min_scan import Candidate, check_candidate, keep_and_candidate, min_scan
from rlstm.kernels.triton.support import TritonKernel

__all__ = ["MinGRUCell", "MinState"]


class MinState(NamedTuple):
    """What a minimal cell carries: its output."""

    h: Tensor  # (B, H)


class MinGRUCell(RecurrentCell):
    """Minimal GRU.

    With h̄ the state after any erase and [z, h̃] = W x + b, the gate z through the logistic function::

        h = (1 - z) h̄ + z g(h̃),    g(x) = x + ½ where x ≥ 0, else σ(x)

    W starts uniform (Xavier) for each part, the biases at 0. With h̄ = 0 and g the outputs are never negative.

    Args:
        input_size: Width I of the inputs.
        hidden_size: Width H of the memory.
        memory_length: Longest lag in steps to bridge: -b_z spreads time scales up to it (Tallec & Ollivier 2018; z
            multiplies the new part, hence the sign). ``None`` leaves it at 0.
        memory_init: How: see ``memory_bias``.
        candidate: ``positive`` for g above; ``identity`` for h̃ itself, of either sign.

    Raises:
        ValueError: If the memory length is out of range, ``memory_init`` is given without it, or the candidate is
            unknown.
    """

    source = "Feng et al. 2024"
    triton = TritonKernel("rlstm.kernels.triton.min", "minimal", options=("candidate",), recurrent=None)
    num_gates: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        *,
        candidate: Candidate = "positive",
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_memory_length(memory_length, memory_init)
        check_candidate(candidate)
        self.candidate: Candidate = candidate
        width = (self.num_gates + 1) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(width, input_size))
        self.bias_ih = nn.Parameter(torch.zeros(width))
        with torch.no_grad():
            for block in self.weight_ih.chunk(self.num_gates + 1):
                nn.init.xavier_uniform_(block)
            if memory_length is not None:
                self._spread(memory_bias(hidden_size, memory_length, memory_init))

    def _spread(self, biases: Tensor) -> None:
        """Set the gates' biases so that the memory keeps 1 / (1 + e^-b) of its state; ``biases`` are b, ``(H,)``."""
        self.bias_ih[: self.hidden_size] = -biases

    def init_state(self, batch_size: int) -> MinState:
        """Return zeros: h ``(batch_size, H)``."""
        return MinState(self.weight_ih.new_zeros(batch_size, self.hidden_size))

    def step(self, inputs: Tensor, state: MinState) -> tuple[Tensor, MinState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        return self._mix(nn.functional.linear(inputs, self.weight_ih, self.bias_ih), state)

    def sequence(self, inputs: Tensor, state: MinState, is_first: Tensor) -> tuple[Tensor, MinState]:
        """Run T steps with resets: all gates in one product; shapes as in the base class."""
        projections = nn.functional.linear(inputs, self.weight_ih, self.bias_ih)
        outputs = min_scan(projections, state.h, is_first, self.candidate)
        return outputs, MinState(outputs[-1])

    @torch.no_grad()
    def acting_snapshot(self) -> CellStep:
        """Return a step on weights that are already transposed."""
        weight, bias = self.weight_ih.t().contiguous(), self.bias_ih.clone()

        def step(inputs: Tensor, state: MinState) -> tuple[Tensor, MinState]:
            return self._mix(torch.addmm(bias, inputs, weight), state)

        return step

    @torch.no_grad()
    def population_snapshot(self, parameters: Mapping[str, Tensor]) -> CellStep:
        """Return ``acting_snapshot`` for P cells in one product; shapes as in the base class."""
        product = PopulationLinear(parameters["weight_ih"], parameters["bias_ih"])
        return lambda inputs, state: self._mix(product(inputs), state)

    def _mix(self, projections: Tensor, state: MinState) -> tuple[Tensor, MinState]:
        keep, fresh = keep_and_candidate(projections, self.hidden_size, self.candidate)
        h = torch.lerp(fresh, state.h, keep)
        return h, MinState(h)

    def sequence_path(self, device: torch.device) -> str:
        """Name the path: gates for all steps at once, one operation a step, backward written by hand."""
        return "gates at once, scan with hand-written backward"
