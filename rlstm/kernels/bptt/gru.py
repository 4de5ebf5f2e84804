"""The GRU over a sequence with resets, backpropagation through time written by hand.

CPUs have no dense kernel for the GRU: the stock one and autograd's loop spend their time in small operations. With
q = R_n h̄ + b'_n, dh the gradient of h_t from output and t + 1, and every factor in brackets computed for several steps
at once::

    δn = dh [(1 - z)(1 - n²)]     δz = dh [(h̄ - n) z (1 - z)]     δr = dh [(1 - z)(1 - n²) q r (1 - r)]
    dh̄ = dh z + [δr, δz, δn r] R,    on the input's side [δr, δz, δn]

Source: the equations of ``rlstm.cells.gru``, differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from rlstm.kernels.bptt.gated import BPTTKernel, bptt_sequence, doubled_block, logistic_slope, tanh_slope

__all__ = ["gru_bptt_sequence"]


def gru_bptt_sequence(
    inputs: Tensor,
    h: Tensor,
    is_first: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
) -> tuple[Tensor, Tensor]:
    """Run a GRU over ``(T, B, I)`` with resets, weights in PyTorch's layout.

    Args:
        inputs: ``(T, B, I)``.
        h: State before step 0, ``(B, H)``.
        is_first: ``(T, B)`` bool.
        weight_ih: ``(3H, I)``, gates r, z, n.
        weight_hh: ``(3H, H)``.
        bias_ih: ``(3H,)``.
        bias_hh: ``(3H,)``.

    Returns:
        Outputs ``(T, B, H)`` and h after step T - 1, ``(B, H)``. Once differentiable.
    """
    parameters = (weight_ih, weight_hh, bias_ih, bias_hh)
    outputs, (h,) = bptt_sequence(GRUKernel, inputs, (h,), is_first, parameters)
    return outputs, h


class GRUKernel(BPTTKernel):
    """Parameters as in PyTorch; gates r, z, n; the leaf h."""

    fills = (0.0,)
    saved = ("gates", "from_state")

    gates: Tensor  # (T, B, 3H): r, z, n.
    from_state: Tensor  # (T, B, 3H): R h̄ + b', of which 2 q is left.

    def begin(self) -> None:
        """Project the inputs; what enters n is doubled: a logistic function is faster than tanh."""
        num_steps, num_rows, width = self.inputs.shape
        weight_ih, weight_hh, bias_ih, bias_hh = (doubled_block(one, 2, 3) for one in self.parameters)
        hidden = weight_hh.shape[1]
        self.recurrent, self.bias = weight_hh.t(), bias_hh
        flat = torch.addmm(bias_ih, self.inputs.reshape(-1, width), weight_ih.t())
        self.gates = flat.view(num_steps, num_rows, 3 * hidden)
        self.from_state, self.outputs = torch.empty_like(self.gates), flat.new_empty(num_steps, num_rows, hidden)
        self.after = [self.outputs]
        parts = [self.from_state, self.outputs]
        for buffer in (self.gates, self.from_state):
            parts += buffer.split([2 * hidden, hidden], dim=-1)
        parts += self.gates[..., : 2 * hidden].chunk(2, dim=-1)
        self.views = list(zip(*(one.unbind() for one in parts), strict=True))

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
