"""The sLSTM: an LSTM with exponential gates, a normaliser and heads that mix their own units alone.

Source: Beck et al. 2024, *xLSTM: Extended Long Short-Term Memory* (arXiv 2405.04517), section 2.2 and appendix A.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rlstm.cells.base import memory_bias, xavier_blocks
from rlstm.cells.product_cell import ProductCell, Weights
from rlstm.core.cell_options import MemoryInit, check_choice, check_memory_length
from rlstm.kernels.bptt.slstm import across_heads, slstm_bptt_sequence
from rlstm.kernels.resets import NEVER
from rlstm.kernels.triton.support import TritonKernel

ForgetGate = Literal["sigmoid", "exponential"]


class SLSTMState(NamedTuple):
    """What an sLSTM carries: output, memory, normaliser and the logarithm by which both are scaled down."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)
    n: Tensor  # (B, H)
    m: Tensor  # (B, H)


class SLSTMCell(ProductCell):
    """sLSTM.

    With h̄, c̄, n̄, m̄ the state after any reset and [ĩ, f̃, z̃, õ] = W x + R h̄ + b, R without entries between heads,
    z = tanh(z̃), o = σ(õ) and log f = log σ(f̃), or f̃ itself where the forget gate is exponential::

        m = max(log f + m̄, ĩ),    i' = exp(ĩ - m),    f' = exp(log f + m̄ - m)
        c = f' c̄ + i' z,    n = f' n̄ + i',    h = o c / n

    A new memory has m = -1e30, so its first step yields n = 1, and n stays at 1 or above. m only keeps the exponentials
    in range: outputs don't depend on it and it carries no gradient.

    W starts uniform (Xavier) for each gate, R at 0, b_f at 5 - 12 (k / (D - 1))^0.3 for unit k of the D units of each
    head, the other biases at 0, as in the authors' package. With a memory length b_f spreads time scales up to it
    (Tallec & Ollivier 2018); b_i stays at 0, since h does not change when all ĩ are shifted.

    Args:
        num_heads: Number N of heads, a divisor of H; ``None`` for the largest of 4, 2, 1 that is one.
        forget_gate: ``sigmoid`` or ``exponential``; its biases start where both gates are the same.

    Raises:
        ValueError: If the heads don't divide H, or the forget gate is unknown.
    """

    source = "Beck et al. 2024"
    triton = TritonKernel("rlstm.kernels.triton.slstm", "slstm", options=("forget_gate",))
    state_type = SLSTMState
    path_name = "hand-written backpropagation through time"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        *,
        num_heads: int | None = None,
        forget_gate: ForgetGate = "sigmoid",
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_memory_length(memory_length, memory_init)
        self.num_heads = choose_heads(hidden_size, num_heads)
        check_choice("forget_gate", forget_gate, ForgetGate)
        self.forget_gate: ForgetGate = forget_gate
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.zeros(4 * hidden_size, hidden_size // self.num_heads))
        self.bias_ih = nn.Parameter(torch.zeros(4 * hidden_size))
        xavier_blocks(self.weight_ih, 4)
        with torch.no_grad():
            biases = forget_biases(hidden_size, self.num_heads, memory_length, memory_init)
            self.bias_ih.chunk(4)[1].copy_(biases if forget_gate == "sigmoid" else nn.functional.logsigmoid(biases))

    def init_state(self, batch_size: int) -> SLSTMState:
        """Return zeros, and -1e30 for m: ``(batch_size, H)`` each."""
        return initial_slstm(self.weight_ih, batch_size, self.hidden_size)

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return one product for all gates."""
        p = parameters
        return {"gates": ((p["weight_ih"], p["bias_ih"]), (across_heads(p["weight_hh"]), None))}

    def equations(self, by: Any, inputs: Tensor, state: SLSTMState) -> tuple[Tensor, SLSTMState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        return mix_slstm(by.gates(inputs, state.h), state, self.forget_gate)

    def gates(self, inputs: Tensor, state: SLSTMState) -> dict[str, Tensor]:
        """Return the shares of the old memory and of the new in c / n, and o."""
        return slstm_gates(self.products().gates(inputs, state.h), state, self.forget_gate)

    def sequence(self, inputs: Tensor, state: SLSTMState, is_first: Tensor) -> tuple[Tensor, SLSTMState]:
        """Run T steps with resets."""
        parameters = (self.weight_hh, self.weight_ih, self.bias_ih)
        exponential = self.forget_gate == "exponential"
        outputs, *memory = slstm_bptt_sequence(inputs, state, is_first, *parameters, exponential=exponential)
        return outputs, SLSTMState(outputs[-1], *memory)


def choose_heads(width: int, num_heads: int | None, *, narrowest: int = 1) -> int:
    """Return the number of heads; for ``None`` the largest of 4, 2, 1 that divides ``width`` and fits.

    Args:
        width: Width of all heads together.
        num_heads: Their number, or ``None``.
        narrowest: Smallest width of one.

    Raises:
        ValueError: If ``num_heads`` is below 1 or does not divide ``width``, or a head would be too narrow.
    """
    if num_heads is None:
        num_heads = next((number for number in (4, 2) if width % number == 0 and width >= number * narrowest), 1)
    if num_heads < 1:
        raise ValueError(f"num_heads is {num_heads}; it must be at least 1.")
    if width % num_heads:
        raise ValueError(f"num_heads is {num_heads}; it must divide the width of the memory, {width}.")
    if width < num_heads * narrowest:
        raise ValueError(
            f"{num_heads} heads share a width of {width}; each needs at least {narrowest}: take fewer heads or a "
            "larger hidden_size."
        )
    return num_heads


def forget_biases(
    width: int, num_heads: int, memory_length: int | None, memory_init: MemoryInit, *, depth: float = 0.0
) -> Tensor:
    """Return 5 - 12 (k / (D - 1))^(0.3 + 1.3 depth) for the D units of each head, ``(width,)``.

    Depth is where the block stands in a stack, from 0 at the bottom to 1 at the top. With a memory length the biases
    are those of ``memory_bias`` instead.
    """
    if memory_length is not None:
        return memory_bias(width, memory_length, memory_init)
    size = width // num_heads
    return (5 - 12 * torch.linspace(0, 1, size) ** (0.3 + 1.3 * depth)).repeat(num_heads)


def initial_slstm(like: Tensor, batch_size: int, width: int) -> SLSTMState:
    """Return the state of an sLSTM that has seen nothing, in the type and on the device of ``like``."""
    zeros = like.new_zeros(batch_size, width)
    return SLSTMState(zeros, zeros.clone(), zeros.clone(), torch.full_like(zeros, NEVER))


def slstm_gates(gates: Tensor, state: SLSTMState, forget_gate: ForgetGate) -> dict[str, Tensor]:
    """Return the shares of the old memory and of the new in c / n, and o, from all that enters the gates."""
    _, after = mix_slstm(gates, state, forget_gate)
    admit, _, _, opened = gates.chunk(4, dim=1)
    new = torch.exp(admit - after.m) / after.n
    return {"input": new, "forget": 1.0 - new, "output": torch.sigmoid(opened)}


def mix_slstm(gates: Tensor, state: SLSTMState, forget_gate: ForgetGate) -> tuple[Tensor, SLSTMState]:
    """Return the outputs from all that enters the gates i, f, z, o, ``(B, 4H)``; m is a constant for the gradient."""
    admit, forget, new, opened = gates.chunk(4, dim=1)
    kept = (forget if forget_gate == "exponential" else nn.functional.logsigmoid(forget)) + state.m.detach()
    m = torch.maximum(kept, admit).detach()
    admitted, forgotten = torch.exp(admit - m), torch.exp(kept - m)
    c = forgotten * state.c + admitted * torch.tanh(new)
    n = forgotten * state.n + admitted
    h = torch.sigmoid(opened) * c / n
    return h, SLSTMState(h, c, n, m)
