"""The gated recurrent unit, in the form whose reset gate acts after the matrix product.

Source: Cho et al. 2014 (arXiv 1406.1078). Parameters have the names, the shapes and the gate order (reset, update, new)
of ``torch.nn.GRUCell``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlstm.cells.base import memory_bias
from rlstm.cells.product_cell import OutputState, ProductCell, Weights
from rlstm.core.cell_options import MemoryInit, check_memory_length
from rlstm.kernels.bptt.gated import BPTTKernel, by_step, doubled_block, logistic_slope, tanh_slope
from rlstm.kernels.reset_steps import gru_sequence
from rlstm.kernels.triton.support import TritonKernel


class GRUKernel(BPTTKernel):
    """The arithmetic of a GRU.

    With q = R_n h̄ + b'_n and dh the gradient of h_t from output and t + 1::

        δn = dh [(1 - z)(1 - n²)]     δz = dh [(h̄ - n) z (1 - z)]     δr = dh [(1 - z)(1 - n²) q r (1 - r)]
        dh̄ = dh z + [δr, δz, δn r] R,    on the input's side [δr, δz, δn]

    Parameters as in PyTorch; gates r, z, n; the leaf h.
    """

    fills = (0.0,)
    saved = ("gates", "from_state")

    gates: Tensor  # (T, B, 3H): r, z, n.
    from_state: Tensor  # (T, B, 3H): R h̄ + b', of which 2 q is left.

    def begin(self) -> None:
        """Project the inputs; what enters n is doubled: a logistic function is faster than tanh."""
        weight_ih, weight_hh, bias_ih, bias_hh = (doubled_block(one, 2, 3) for one in self.parameters)
        hidden = weight_hh.shape[1]
        self.recurrent, self.bias = weight_hh.t(), bias_hh
        self.gates = self.project(weight_ih, bias_ih)
        self.from_state, (self.outputs,) = torch.empty_like(self.gates), self.buffers(1, hidden)
        self.after = [self.outputs]
        parts = [self.from_state, self.outputs]
        for buffer in (self.gates, self.from_state):
            parts += buffer.split([2 * hidden, hidden], dim=-1)
        parts += self.gates[..., : 2 * hidden].chunk(2, dim=-1)
        self.views = by_step(parts)

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Open r and z, then mix n and h̄."""
        (h,) = before
        from_state, output, opened, new, state_opens, twice_q, r, z = self.views[t]
        torch.addmm(self.bias, h, self.recurrent, out=from_state)
        opened.add_(state_opens).sigmoid_()
        new.addcmul_(r, twice_q).sigmoid_().mul_(2.0).sub_(1.0)
        return [torch.lerp(new, h, z, out=output)]

    def begin_back(self, grad_outputs: Tensor) -> None:
        """Begin the sums; inside, the order on the state's side is n, r, z."""
        weight_ih, weight_hh, _, _ = self.parameters
        hidden = weight_hh.shape[1]
        self.grad_outputs, self.grad_inputs = grad_outputs, self.inputs.new_empty(self.inputs.shape)
        self.grad_weight_ih, self.grad_weight_hh = torch.zeros_like(weight_ih), torch.zeros_like(weight_hh)
        self.grad_biases = weight_hh.new_zeros(4 * hidden)
        self.back_to_state = weight_hh.roll(hidden, 0)

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Compute the factors in brackets above."""
        hidden = self.parameters[1].shape[1]
        r, z, n = self.gates[steps].split(hidden, dim=-1)
        self.h_before = self.before(0, steps)
        twice_q = self.from_state[steps, :, 2 * hidden :]
        into = n.new_empty(*n.shape[:2], 4, hidden)
        into_n = tanh_slope(1.0 - z, n, out=into[:, :, 3])
        torch.mul(into_n, r, out=into[:, :, 0])
        logistic_slope((into_n * twice_q).mul_(0.5), r, out=into[:, :, 1])
        logistic_slope(self.h_before - n, z, out=into[:, :, 2])
        self.deltas = torch.empty_like(into)  # Of n on the state's side, r, z, and n on the input's side.
        return self.grad_outputs[steps], into, z, self.deltas, self.deltas[:, :, :3].flatten(2)

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Multiply by the factors."""
        grad, into, z, deltas, state_side = factors
        (dh,) = grads
        dh = grad if dh is None else dh + grad
        torch.mul(into, dh.unsqueeze(1), out=deltas)
        return [torch.addmm(dh * z, state_side, self.back_to_state)]

    def gather(self, steps: slice) -> None:
        """Add to the sums."""
        weight_ih, hidden = self.parameters[0], self.h_before.shape[-1]
        flat = self.deltas.flatten(2).flatten(0, 1)
        state_side, input_side = flat[:, : 3 * hidden], flat[:, hidden:]
        torch.mm(input_side, weight_ih, out=self.grad_inputs[steps].flatten(0, 1))
        self.grad_weight_ih.addmm_(input_side.t(), self.inputs[steps].flatten(0, 1))
        self.grad_weight_hh.addmm_(state_side.t(), self.h_before.flatten(0, 1))
        self.grad_biases.add_(flat.sum(0))

    def finish_back(self) -> list[Tensor]:
        """Return the sums, rows in the order r, z, n."""
        hidden = self.parameters[1].shape[1]
        grad_bias_hh = self.grad_biases[: 3 * hidden].roll(-hidden, 0)
        grads = [self.grad_weight_ih, self.grad_weight_hh.roll(-hidden, 0), self.grad_biases[hidden:], grad_bias_hh]
        return [self.grad_inputs, *grads]


class GRUCell(ProductCell):
    """Gated recurrent unit.

    With h̄ the state after any reset::

        r, z = σ(W x + b + R h̄ + b'),    n = tanh(W_n x + b_n + r (R_n h̄ + b'_n)),    h = (1 - z) n + z h̄

    R starts orthogonal for each gate, W uniform (Xavier), the biases at 0; with a memory length b_z spreads time scales
    up to it (Tallec & Ollivier 2018).
    """

    source = "Cho et al. 2014"
    triton = TritonKernel("rlstm.kernels.triton.gru", "gru")
    state_type = OutputState
    kernel = GRUKernel

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        check_memory_length(memory_length, memory_init)
        self.make_gates(3, input_size, "bias_ih", "bias_hh")
        if memory_length is not None:
            self.bias_ih.detach().chunk(3)[1].copy_(memory_bias(hidden_size, memory_length, memory_init))

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return two products: they can't be one on [x | h], for the reset gate multiplies the recurrent part alone."""
        p = parameters
        return {"from_input": ((p["weight_ih"], p["bias_ih"]),), "from_state": ((p["weight_hh"], p["bias_hh"]),)}

    def equations(self, by: Any, inputs: Tensor, state: OutputState) -> tuple[Tensor, OutputState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        from_input, from_state, hidden = by.from_input(inputs), by.from_state(state.h), self.hidden_size
        gates = torch.sigmoid(from_input[:, : 2 * hidden] + from_state[:, : 2 * hidden])
        new = torch.tanh(torch.addcmul(from_input[:, 2 * hidden :], gates[:, :hidden], from_state[:, 2 * hidden :]))
        h = torch.lerp(new, state.h, gates[:, hidden:])  # (1 - z) n + z h̄
        return h, OutputState(h)

    def gates(self, inputs: Tensor, state: OutputState) -> dict[str, Tensor]:
        """Return r, and z as the share that is kept."""
        by, width = self.products(), 2 * self.hidden_size
        r, z = torch.sigmoid(by.from_input(inputs)[:, :width] + by.from_state(state.h)[:, :width]).chunk(2, dim=1)
        return {"reset": r, "forget": z}

    def sequence(self, inputs: Tensor, state: OutputState, is_first: Tensor) -> tuple[Tensor, OutputState]:
        """Run T steps with resets, by cuDNN where there is CUDA; CPUs have no dense kernel for the GRU."""
        if inputs.device.type != "cuda":
            return super().sequence(inputs, state, is_first)
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        outputs, h = gru_sequence(inputs, state.h, is_first, *weights)
        return outputs, OutputState(h)

    def sequence_path(self, device: torch.device) -> str:
        """Name the path: reset steps into cuDNN, or that of the kernel."""
        return "reset steps into cuDNN" if device.type == "cuda" else super().sequence_path(device)
