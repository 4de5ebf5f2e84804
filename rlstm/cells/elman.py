"""The simple recurrent network of Elman 1990, *Finding structure in time*, with tanh in place of the logistic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlstm.cells.product_cell import OutputState, ProductCell, Weights
from rlstm.core.cell_options import MemoryInit, refuse_memory_length
from rlstm.kernels.bptt.gated import BPTTKernel, tanh_slope


class ElmanKernel(BPTTKernel):
    """The arithmetic of an Elman network.

    With dh the gradient of h_t from output and t + 1: δ = dh [1 - h²] and dh̄ = δ R.

    Parameters: W ``(H, I)``, R ``(H, H)``, b and b' ``(H,)``; the leaf h.
    """

    fills = (0.0,)
    saved = ()

    def begin(self) -> None:
        """Project the inputs; the outputs take the place of the projections."""
        weight_ih, weight_hh, bias_ih, bias_hh = self.parameters
        self.recurrent = weight_hh.t()
        self.outputs = self.project(weight_ih, bias_ih + bias_hh)
        self.after = [self.outputs]
        self.views = self.outputs.unbind()

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Add R h̄."""
        (h,) = before
        return [self.views[t].addmm_(h, self.recurrent).tanh_()]

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Prepare nothing but places."""
        outputs = self.after[0][steps]
        self.deltas = torch.empty_like(outputs)
        return self.grad_outputs[steps], outputs, self.deltas

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Multiply by the slope of tanh."""
        grad, output, delta = factors
        (dh,) = grads
        tanh_slope(grad if dh is None else dh + grad, output, out=delta)
        return [delta @ self.parameters[1]]

    def finish_back(self) -> list[Tensor]:
        """Return the sums; both biases have one gradient."""
        *grads, grad_bias = self.sums.gradients()
        return [*grads, grad_bias, grad_bias.clone()]


class ElmanCell(ProductCell):
    """Elman network: h = tanh(W x + b + R h̄ + b'), h̄ the state after any reset.

    R starts orthogonal, W uniform (Xavier), the biases at 0. Parameters are named as in ``torch.nn.RNNCell``. A memory
    length, and a ``memory_init``, are refused: the cell has no gate whose bias could hold a time scale.
    """

    source = "Elman 1990"
    redundant_parameters: ClassVar[Mapping[str, str]] = {"bias_hh": "bias_ih"}
    state_type = OutputState
    kernel = ElmanKernel

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        refuse_memory_length(memory_length, memory_init, "cell 'elman' has no gates")
        self.make_gates(1, input_size, "bias_ih", "bias_hh")

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return one product."""
        p = parameters
        return {"product": ((p["weight_ih"], p["bias_ih"]), (p["weight_hh"], p["bias_hh"]))}

    def equations(self, by: Any, inputs: Tensor, state: OutputState) -> tuple[Tensor, OutputState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        h = by.product(inputs, state.h).tanh_()
        return h, OutputState(h)
