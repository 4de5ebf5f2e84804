"""The LSTM that knows how much time has passed between its inputs.

Source: Baytas et al. 2017, *Patient subtyping via time-aware LSTM networks*. Weights have the shapes and the gate order
(input, forget, cell, output) of ``torch.nn.LSTMCell``; there is one bias.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rlstm.cells.base import RecurrentCell, lstm_biases, orthogonal_blocks
from rlstm.cells.product_cell import LSTMState, ProductCell, Weights
from rlstm.core.cell_options import MemoryInit
from rlstm.kernels.bptt.gated import BPTTKernel, ProductSums, by_step, doubled_block, logistic_slope, tanh_slope


class TimeAwareKernel(BPTTKernel):
    """The arithmetic of a time-aware LSTM.

    With the aged memory c* = c̄ + (γ - 1) C and its short-term part C = tanh(W_d c̄ + b_d)::

        δo = dh [tanh(c) o (1 - o)]          dc += dh [o (1 - tanh²(c))]
        δi = dc [g i (1 - i)]                δf = dc [c* f (1 - f)]              δg = dc [i (1 - g²)]
        dc* = dc [f]                         δ_d = dc [f (γ - 1) (1 - C²)]
        dc̄ = dc* + δ_d W_d                   dh̄ = δ R

    and after it dγ = Σ dc* C over the units. Leaves h, c; gates i, f, g, o; the last column of the inputs is the time.

    Parameters: W ``(4H, I - 1)``, R ``(4H, H)``, b ``(4H,)``, W_d ``(H, H)``, b_d ``(H,)``.
    """

    fills = (0.0, 0.0)
    saved = ("gates", "tanh_c", "half_short", "aged", "discount", "has_past")

    gates: Tensor  # (T, B, 4H): i, f, g / 2, o.
    tanh_c: Tensor  # (T, B, H)
    half_short: Tensor  # (T, B, H): C / 2.
    aged: Tensor  # (T, B, H): c*.
    discount: Tensor  # (T, B, 1): γ - 1, before it is known where c̄ is blank.
    has_past: Tensor  # (T, B, 1) bool: c̄ is not blank.

    def begin(self) -> None:
        """Project the inputs; the cell's input and the short-term part are doubled: logistic functions do for all."""
        weight_ih, weight_hh, bias, weight_d, bias_d = self.parameters
        hidden = weight_hh.shape[1]
        self.recurrent = doubled_block(weight_hh, 2, 4).t()
        self.short, self.short_bias = weight_d.t() * 2.0, bias_d * 2.0
        self.gates = self.project(doubled_block(weight_ih, 2, 4), doubled_block(bias, 2, 4))
        self.outputs, c, *rest = self.buffers(5, hidden)
        self.tanh_c, self.half_short, self.aged = rest
        self.after = [self.outputs, c]
        self.discount = (self.inputs[..., -1:].clamp(min=0.0) + math.e).log_().reciprocal_().sub_(1.0)
        self.has_past = torch.empty_like(self.discount, dtype=torch.bool)
        self.ones, self.no_discount = c.new_ones(hidden, 1), c.new_zeros(())
        parts = (self.gates, self.outputs, c, *rest, self.discount, self.has_past, *self.gates.split(hidden, dim=-1))
        self.views = by_step(parts)

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Age the memory, then step as the LSTM does."""
        h, c = before
        gates, h_after, c_after, tanh_c, half_short, aged, discount, has_past, i, f, half_g, o = self.views[t]
        torch.ne(c.abs() @ self.ones, self.no_discount, out=has_past)
        torch.addmm(self.short_bias, c, self.short, out=half_short).sigmoid_().sub_(0.5)
        torch.addcmul(c, half_short, torch.where(has_past, discount, self.no_discount), value=2.0, out=aged)
        gates.addmm_(h, self.recurrent).sigmoid_()
        torch.mul(f, aged, out=c_after).addcmul_(i, half_g.sub_(0.5), value=2.0)
        torch.mul(o, torch.tanh(c_after, out=tanh_c), out=h_after)
        return [h_after, c_after]

    def begin_back(self, grad_outputs: Tensor) -> None:
        """Begin the sums."""
        weight_ih, weight_hh, _, weight_d, bias_d = self.parameters
        self.grad_outputs, self.grad_inputs = grad_outputs, self.inputs.new_empty(self.inputs.shape)
        out = self.grad_inputs[..., :-1]
        self.sums = ProductSums(self.inputs[..., :-1], weight_ih, weight_hh.shape[1], out)
        self.grad_weight_d, self.grad_bias_d = torch.zeros_like(weight_d), torch.zeros_like(bias_d)

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Compute the factors in brackets above."""
        tanh_c, short_term = self.tanh_c[steps], self.half_short[steps] * 2.0
        deltas = self.deltas = torch.empty_like(self.gates[steps])
        self.deltas_d, self.grads_aged = torch.empty_like(tanh_c), torch.empty_like(tanh_c)
        hidden = tanh_c.shape[-1]
        i, f, half_g, o = self.gates[steps].split(hidden, dim=-1)
        g = half_g * 2.0
        factors = g.new_empty(*g.shape[:2], 3, hidden)
        logistic_slope(g, i, out=factors[:, :, 0])
        logistic_slope(self.aged[steps], f, out=factors[:, :, 1])
        tanh_slope(i, g, out=factors[:, :, 2])
        into_d = tanh_slope(f, short_term).mul_(torch.where(self.has_past[steps], self.discount[steps], 0.0))
        first_three = deltas[..., : 3 * hidden].unflatten(-1, (3, hidden))
        places = (deltas, first_three, deltas[..., 3 * hidden :], self.deltas_d, self.grads_aged)
        into_o, into_c = logistic_slope(tanh_c, o), tanh_slope(o, tanh_c)
        return self.grad_outputs[steps], into_o, into_c, factors, into_d, f, *places

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Multiply by the factors."""
        dh, dc = grads
        grad, into_o, into_c, into_gates, into_d, f, delta, first_three, delta_o, delta_d, grad_aged = factors
        _, weight_hh, _, weight_d, _ = self.parameters
        dh = grad if dh is None else dh.add(grad)
        torch.mul(dh, into_o, out=delta_o)
        dc = dh * into_c if dc is None else torch.addcmul(dc, dh, into_c)
        torch.mul(into_gates, dc.unsqueeze(1), out=first_three)
        torch.mul(dc, into_d, out=delta_d)
        return [delta @ weight_hh, torch.addmm(torch.mul(dc, f, out=grad_aged), delta_d, weight_d)]

    def gather(self, steps: slice) -> None:
        """Add to the sums."""
        super().gather(steps)
        flat = self.deltas_d.flatten(0, 1)
        self.grad_weight_d.addmm_(flat.t(), self.before(1, steps).flatten(0, 1))
        self.grad_bias_d.add_(flat.sum(0))
        self.grad_inputs[steps][..., -1:] = self._grad_elapsed(steps)

    def _grad_elapsed(self, steps: slice) -> Tensor:
        """Return dΔt ``(steps, B, 1)``: γ = 1 / log(e + Δt), so dγ/dΔt = -γ² / (e + Δt), and 0 where none counts."""
        elapsed = self.inputs[steps][..., -1:]
        grad_gamma = (self.grads_aged * self.half_short[steps]).sum(-1, keepdim=True).mul_(2.0)
        slope = -((self.discount[steps] + 1.0) ** 2) / (elapsed + math.e)
        return torch.where(self.has_past[steps] & (elapsed >= 0.0), grad_gamma * slope, 0.0)

    def finish_back(self) -> list[Tensor]:
        """Return the sums."""
        _, *grads = self.sums.gradients()
        return [self.grad_inputs, *grads, self.grad_weight_d, self.grad_bias_d]


class TimeAwareLSTMCell(ProductCell):
    """LSTM whose memory ages with the time Δt since the last input, which is the last column of the inputs.

    With h̄, c̄ the state after any reset and x the other columns, the short-term part C of the memory is discounted::

        C = tanh(W_d c̄ + b_d),    γ = 1 / log(e + Δt),    c* = c̄ - C + γ C
        [i, f, g, o] = W x + R h̄ + b,    c = f c* + i g,    h = o tanh(c)

    the gates i, f, o through the logistic function and g through tanh. No time (Δt = 0, γ = 1) makes it the LSTM. The
    time is taken as 0 where it is negative, and where the memory of a row is blank, all zeros: what has just begun has
    no past that could age, and C is not 0 there. So c* = 0 after a reset, whatever Δt says at that step.

    In a stack every layer reads the same time. R and W_d start orthogonal for each block, W uniform (Xavier), the
    biases as those of ``LSTMCell``. The width I of the inputs, Δt included, is at least 2.
    """

    source = "Baytas et al. 2017"
    reads_elapsed_time: ClassVar[bool] = True
    state_type = LSTMState
    kernel = TimeAwareKernel

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        if input_size < 2:
            raise ValueError(
                f"input_size is {input_size}; cell 'time_aware_lstm' needs at least 2: the last column is the time."
            )
        self.make_gates(4, input_size - 1, "bias")
        self.weight_decay = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias_decay = nn.Parameter(torch.zeros(hidden_size))
        orthogonal_blocks(self.weight_decay, 1)
        lstm_biases(self.bias, memory_length, memory_init)

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return one product for all gates, and that of the short-term part."""
        p = parameters
        return {
            "gates": ((p["weight_ih"], p["bias"]), (p["weight_hh"], None)),
            "short_term": ((p["weight_decay"], p["bias_decay"]),),
        }

    def equations(self, by: Any, inputs: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        gates = by.gates(inputs[:, :-1], state.h)
        aged = _aged(state.c, by.short_term(state.c).tanh_(), inputs[:, -1:])
        input_gate, forget_gate, cell_input, output_gate = gates.chunk(4, dim=1)
        c = torch.sigmoid(forget_gate) * aged + torch.sigmoid(input_gate) * torch.tanh(cell_input)
        h = torch.sigmoid(output_gate) * torch.tanh(c)
        return h, LSTMState(h, c)

    def gates(self, inputs: Tensor, state: LSTMState) -> dict[str, Tensor]:
        """Return i, f and o; f keeps what is left of the memory after the elapsed time."""
        i, f, _, o = self.products().gates(inputs[:, :-1], state.h).sigmoid().chunk(4, dim=1)
        return {"input": i, "forget": f, "output": o}

    population_snapshot = RecurrentCell.population_snapshot  # In ``torch.func.vmap``, whose rounding runs so far have.


def _aged(c: Tensor, short_term: Tensor, elapsed: Tensor) -> Tensor:
    """Return the memory ``(B, H)`` after its short-term part was discounted for the elapsed time ``(B, 1)``."""
    has_past = c.any(dim=1, keepdim=True)
    discount = 1.0 / torch.log(elapsed.clamp(min=0.0) + math.e) - 1.0
    return c + torch.where(has_past, discount, 0.0) * short_term
