"""The minimal GRU: gate and candidate see the input alone, so only the mixing is left for the time loop.

Source: Feng et al. 2024, *Were RNNs all we needed?* (arXiv 2410.01201), section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rlstm.cells.base import memory_bias, xavier_blocks
from rlstm.cells.product_cell import OutputState, ProductCell, Weights
from rlstm.core.cell_options import MemoryInit, check_choice, check_memory_length
from rlstm.kernels.min_scan import Candidate, keep_and_candidate, min_scan
from rlstm.kernels.triton.support import TritonKernel


class MinGRUCell(ProductCell):
    """Minimal GRU.

    With h̄ the state after any reset and [z, h̃] = W x + b, the gate z through the logistic function::

        h = (1 - z) h̄ + z g(h̃),    g(x) = x + ½ where x ≥ 0, else σ(x)

    W starts uniform (Xavier) for each part, the biases at 0; with a memory length -b_z spreads time scales up to it
    (Tallec & Ollivier 2018; z multiplies the new part, hence the sign). With h̄ = 0 and g the outputs are never
    negative. The option ``candidate`` is ``positive`` for g, or ``identity`` for h̃ itself, of either sign.
    """

    source = "Feng et al. 2024"
    triton = TritonKernel("rlstm.kernels.triton.min", "minimal", options=("candidate",), recurrent=None)
    state_type = OutputState
    num_gates: ClassVar[int] = 1
    path_name = "gates at once, scan with hand-written backward"

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
        check_choice("candidate", candidate, Candidate)
        self.candidate: Candidate = candidate
        width = (self.num_gates + 1) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(width, input_size))
        self.bias_ih = nn.Parameter(torch.zeros(width))
        xavier_blocks(self.weight_ih, self.num_gates + 1)
        if memory_length is not None:
            self._spread(self.bias_ih.detach(), memory_bias(hidden_size, memory_length, memory_init))

    def _spread(self, bias: Tensor, keeping: Tensor) -> None:
        """Set the gates' biases so that the memory keeps 1 / (1 + e^-b) of its state; ``keeping`` is b, ``(H,)``."""
        bias[: self.hidden_size] = -keeping

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return one product, of the inputs alone."""
        return {"projections": ((parameters["weight_ih"], parameters["bias_ih"]),)}

    def equations(self, by: Any, inputs: Tensor, state: OutputState) -> tuple[Tensor, OutputState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        keep, fresh = keep_and_candidate(by.projections(inputs), self.hidden_size, self.candidate)
        h = torch.lerp(fresh, state.h, keep)
        return h, OutputState(h)

    def gates(self, inputs: Tensor, state: OutputState) -> dict[str, Tensor]:
        """Return the share that is kept: 1 - z, or f / (f + i)."""
        return {"forget": keep_and_candidate(self.products().projections(inputs), self.hidden_size, self.candidate)[0]}

    def sequence(self, inputs: Tensor, state: OutputState, is_first: Tensor) -> tuple[Tensor, OutputState]:
        """Run T steps with resets: all gates in one product."""
        projections = nn.functional.linear(inputs, self.weight_ih, self.bias_ih)
        outputs = min_scan(projections, state.h, is_first, self.candidate)
        return outputs, OutputState(outputs[-1])
