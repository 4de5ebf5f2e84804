"""The LSTM whose gates read the whole memory in place of the output.

Source: the peephole LSTM as encyclopedias state it, after Gers & Schmidhuber 2000: there c takes the place of h,
through full matrices. The peepholes of the paper itself are those of ``rlstm.cells.peephole_lstm``, another cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rlstm.cells.base import RecurrentCell, lstm_biases, orthogonal_blocks, xavier_blocks
from rlstm.cells.product_cell import ProductCell, Weights
from rlstm.core.cell_options import MemoryInit, check_choice
from rlstm.kernels.bptt.gated import BPTTKernel, by_step, logistic_slope, tanh_slope

OutputActivation = Literal["tanh", "identity"]


class PeepholeLSTMCState(NamedTuple):
    """What the cell carries: its memory alone."""

    c: Tensor  # (B, H)


class PeepholeCKernel(BPTTKernel):
    """The arithmetic of an LSTM whose gates read c.

    Its output feeds nothing back, so dh is the output's own gradient, and all but the carry of dc is computed for
    several steps at once. With φ the output's activation::

        δo = dh φ(c) o (1 - o)              e = dh o φ'(c)               p = δo U_o           for several steps, before
        dc = e + carry                      δi = dc [g i (1 - i)]        δf = dc [c̄ f (1 - f)]
        carry = dc f + p + [δi, δf] U_if                                                      in the loop
        δg = dc i (1 - g²)                                                                    for several steps, after

    Parameters: W ``(4H, I)``, U ``(3H, H)``, b ``(4H,)``; gates i, f, o, g; leaf c.
    The option is the output's activation, ``tanh`` or ``identity``.
    """

    fills = (0.0,)
    saved = ("gates", "cell_input", "activated")

    gates: Tensor  # (T, B, 3H): i, f, o.
    cell_input: Tensor  # (T, B, H): g.
    activated: Tensor  # (T, B, H): φ(c).

    def begin(self) -> None:
        """Project the inputs; the cell's input is ready for all steps."""
        weight_ih, weight_ch, bias = self.parameters
        hidden = weight_ch.shape[1]
        opening = 3 * hidden
        self.recurrent = weight_ch.t()
        self.gates = self.project(weight_ih[:opening], bias[:opening])
        self.cell_input = self.project(weight_ih[opening:], bias[opening:]).tanh_()
        self.outputs, c = torch.empty_like(self.cell_input), torch.empty_like(self.cell_input)
        self.activated = torch.empty_like(c) if self.option == "tanh" else c
        self.after = [c]
        parts = (self.gates, *self.gates.split(hidden, dim=-1), self.cell_input, c, self.activated, self.outputs)
        self.views = by_step(parts)

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Open the gates by c̄; the memory, and the output from it."""
        (c,) = before
        gates, i, f, o, g, c_after, activated, output = self.views[t]
        gates.addmm_(c, self.recurrent).sigmoid_()
        torch.mul(f, c, out=c_after).addcmul_(i, g)
        if self.option == "tanh":
            torch.tanh(c_after, out=activated)
        torch.mul(o, activated, out=output)
        return [c_after]

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Compute all that no later step changes."""
        grad_outputs, activated, weight_ch = self.grad_outputs[steps], self.activated[steps], self.parameters[1]
        hidden = weight_ch.shape[1]
        i, f, o = self.gates[steps].split(hidden, dim=-1)
        self.c_before = self.before(0, steps)
        deltas = self.deltas = i.new_empty(*i.shape[:2], 4 * hidden)
        delta_o = deltas[..., 2 * hidden : 3 * hidden]
        torch.mul(logistic_slope(activated, o), grad_outputs, out=delta_o)
        self.grads_c = (tanh_slope(o, activated) if self.option == "tanh" else o) * grad_outputs
        from_output = (delta_o.reshape(-1, hidden) @ weight_ch[2 * hidden :]).view_as(f)
        factors = f.new_empty(*f.shape[:2], 2, hidden)
        logistic_slope(self.cell_input[steps], i, out=factors[:, :, 0])
        logistic_slope(self.c_before, f, out=factors[:, :, 1])
        first_two = deltas[..., : 2 * hidden]
        return self.grads_c, factors, f, from_output, first_two, first_two.unflatten(-1, (2, hidden))

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Add the carry, and pass it on."""
        (carry,) = grads
        dc, into_gates, f, from_output, delta, delta_parts = factors
        if carry is not None:
            dc.add_(carry)
        torch.mul(into_gates, dc.unsqueeze(1), out=delta_parts)
        return [torch.addcmul(from_output, dc, f).addmm_(delta, self.parameters[1][: delta.shape[1]])]

    def gather(self, steps: slice) -> None:
        """Compute δ of the cell's input, which nothing waited for; add to the sums."""
        hidden = self.grads_c.shape[-1]
        into_g = tanh_slope(self.gates[steps][..., :hidden], self.cell_input[steps])
        torch.mul(self.grads_c, into_g, out=self.deltas[..., 3 * hidden :])
        self.sums.add(steps, self.deltas, self.c_before)

    def finish_back(self) -> list[Tensor]:
        """Return the sums; the cell's input has no weights on the memory."""
        grad_inputs, grad_weight_ih, grad_weight_ch, grad_bias = super().finish_back()
        return [grad_inputs, grad_weight_ih, grad_weight_ch[: len(self.parameters[1])], grad_bias]


class PeepholeLSTMCCell(ProductCell):
    """LSTM with forget gate whose gates see the old memory through full matrices, and whose output feeds nothing back.

    With c̄ the state after any reset and φ the output's activation::

        [i, f, o] = σ(W x + b + U c̄),    g = tanh(W_g x + b_g),    c = f c̄ + i g,    h = o φ(c)

    All three gates see the old memory, and the cell's input sees none. U starts orthogonal for each gate, W uniform
    (Xavier), the biases as those of ``LSTMCell``. Rows of W and b are in the order i, f, o, g, those of U i, f, o. The
    option ``output_activation`` is φ, ``tanh`` or ``identity``; with the latter the output grows with the memory.
    """

    source = "Gers & Schmidhuber 2000, in the form of encyclopedias: gates read c"
    state_type = PeepholeLSTMCState
    kernel = PeepholeCKernel

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        *,
        output_activation: OutputActivation = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_choice("output_activation", output_activation, OutputActivation)
        self.output_activation = self.kernel_option = output_activation
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_ch = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        xavier_blocks(self.weight_ih, 4)
        orthogonal_blocks(self.weight_ch, 3)
        lstm_biases(self.bias, memory_length, memory_init)

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return one product for all parts, in which c adds 0 to the cell's input."""
        weight_ch = nn.functional.pad(parameters["weight_ch"], (0, 0, 0, self.hidden_size))  # (4H, H)
        return {"gates": ((parameters["weight_ih"], parameters["bias"]), (weight_ch, None))}

    def equations(self, by: Any, inputs: Tensor, state: PeepholeLSTMCState) -> tuple[Tensor, PeepholeLSTMCState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        gates, cell_input = by.gates(inputs, state.c).split([3 * self.hidden_size, self.hidden_size], dim=1)
        return self._mix(gates.sigmoid_(), cell_input.tanh_(), state.c)

    def step(self, inputs: Tensor, state: PeepholeLSTMCState) -> tuple[Tensor, PeepholeLSTMCState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``, without the part of the product that adds 0."""
        entering = nn.functional.linear(inputs, self.weight_ih, self.bias)
        gates, cell_input = entering.split([3 * self.hidden_size, self.hidden_size], dim=1)
        gates = gates + nn.functional.linear(state.c, self.weight_ch)
        return self._mix(torch.sigmoid(gates), torch.tanh(cell_input), state.c)

    def gates(self, inputs: Tensor, state: PeepholeLSTMCState) -> dict[str, Tensor]:
        """Return i, f and o."""
        i, f, o, _ = self.products().gates(inputs, state.c).sigmoid().chunk(4, dim=1)
        return {"input": i, "forget": f, "output": o}

    def _mix(self, gates: Tensor, cell_input: Tensor, c: Tensor) -> tuple[Tensor, PeepholeLSTMCState]:
        """Return the outputs from the gates i, f, o ``(B, 3H)`` and g ``(B, H)``."""
        input_gate, forget_gate, output_gate = gates.chunk(3, dim=1)
        c = forget_gate * c + input_gate * cell_input
        h = output_gate * (torch.tanh(c) if self.output_activation == "tanh" else c)
        return h, PeepholeLSTMCState(c)

    population_snapshot = RecurrentCell.population_snapshot  # In ``torch.func.vmap``, whose rounding runs so far have.
