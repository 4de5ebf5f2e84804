"""Backpropagation through time written by hand: the loop that cells with gates share.

A sequence runs in parts, of which only those of single steps are sequential::

    begin          one matrix product W x + b for all T steps; it becomes the store of the gates
    step           t = 0 .. T-1: reset where a memory begins anew, R h̄, the gates, the next state, in prepared buffers
    begin_back     gradients of inputs and parameters, still 0
    factors        for some steps at a time: all by which their gradients will be multiplied
    step_back      t = T-1 .. 0: a few products with these factors and δ R; then reset as forwards
    gather         for the same steps: one matrix product of all their δ for each weight
    finish_back    the gradients in the order of the parameters

Factors and δ are those of as many steps as a processor's cache holds: step by step, operations cost more than their
arithmetic; over all steps, the way to memory and back does.

This file holds the loop with its resets; a ``BPTTKernel`` holds the arithmetic of one cell and stands in that cell's
file (that of the sLSTM, which two cells share, beside this one). The host knows which rows are reset at step t, and
only those are written to. What is reset is replaced, never multiplied by 0, so no NaN survives.

Notation: h̄, c̄ are the state after any reset; dh, dc the gradient at step t from output and t + 1; δ_a the gradient of a
gate before its logistic function or tanh; what stands in brackets is computed for several steps at once. Shapes: inputs
``(T, B, I)``, leaves of the state ``(B, H)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlstm.kernels.resets import check_rows, rows_of_resets

_CACHED = 2**16  # Numbers of one factor computed at a time: torch shares them between threads from 2**15 on.


class BPTTKernel(ABC):
    """One cell over one sequence: what it computes in a step, and in a step back.

    The forward pass makes one and calls ``begin`` and ``step``; the backward pass makes another, gives it what the
    first one saved, and calls ``begin_back``, ``factors``, ``step_back``, ``gather`` and ``finish_back``. It writes
    to nothing saved, so it may run twice.

    Args:
        parameters: The parameters of the cell, in the order in which ``finish_back`` returns their gradients.
        option: The cell's own option, if it has one.
    """

    fills: ClassVar[tuple[float, ...]]
    """What each leaf of the state begins with; as many as there are leaves."""

    saved: ClassVar[tuple[str, ...]]
    """Attributes, tensors set by ``begin``, that the backward pass needs; ``after`` and ``inputs`` always are."""

    inputs: Tensor  # (T, B, I)
    outputs: Tensor  # (T, B, H), set by begin, written by step.
    after: list[Tensor]  # Of the leaves, or the first of them, (T, B, H): values after step t; set by begin.
    initial: list[Tensor]  # The state passed in, before any reset; backward pass only.
    is_first: Tensor  # (T, B); backward pass only.
    grad_outputs: Tensor  # (T, B, H); backward pass only, as are the two below.
    sums: ProductSums
    deltas: Tensor

    def __init__(self, parameters: Sequence[Tensor], option: Any = None) -> None:
        self.parameters = parameters
        self.option = option

    @abstractmethod
    def begin(self) -> None:
        """Project ``inputs`` and prepare the buffers."""

    @abstractmethod
    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Compute ``outputs[t]`` and the leaves after step t from those before it, reset already and only read."""

    def begin_back(self, grad_outputs: Tensor) -> None:
        """Prepare the gradients; ``grad_outputs`` is ``(T, B, H)``, in any layout.

        This one is for W ``(G, I)``, R ``(G, H)`` and b ``(G,)`` as the first parameters, as are the two below.
        """
        weight_ih, weight_hh, *_ = self.parameters
        self.grad_outputs, self.sums = grad_outputs, ProductSums(self.inputs, weight_ih, weight_hh.shape[1])

    @abstractmethod
    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Return what ``step_back`` needs of these steps: tensors with the steps first."""

    @abstractmethod
    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Turn gradients of the leaves after a step into those of the leaves before it; write to none that is given.

        ``factors`` are those of this step. ``grads`` come without the part through its output. ``None`` stands for 0.
        """

    def gather(self, steps: slice) -> None:
        """Add what these steps, those of the last ``factors``, contribute to the gradients.

        This one reads their ``deltas``, δ of all gates, ``(steps, B, G)``, and takes h for the first leaf.
        """
        self.sums.add(steps, self.deltas, self.before(0, steps))

    def finish_back(self) -> list[Tensor]:
        """Return the gradients of the inputs and of every parameter."""
        return list(self.sums.gradients())

    def project(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Return W x + b for all steps, ``(T, B, G)``; x are the first inputs, as many as W ``(G, I)`` reads."""
        num_steps, num_rows, width = self.inputs.shape
        flat = torch.addmm(bias, self.inputs.reshape(-1, width)[:, : weight.shape[1]], weight.t())
        return flat.view(num_steps, num_rows, len(weight))

    def buffers(self, number: int, hidden: int) -> Iterator[Tensor]:
        """Yield that many empty tensors ``(T, B, H)``, of the parameters' type."""
        return (self.parameters[0].new_empty(*self.inputs.shape[:2], hidden) for _ in range(number))

    def before(self, leaf: int, steps: slice) -> Tensor:
        """Return a leaf before each of these steps, after any reset, ``(steps, B, H)``: for the backward pass."""
        after, is_first = self.after[leaf], self.is_first[steps]
        if steps.start:
            values = after[steps.start - 1 : steps.stop - 1].clone()
        else:
            values = torch.cat([self.initial[leaf].unsqueeze(0), after[: steps.stop - 1]])
        values.flatten(0, 1).index_fill_(0, is_first.flatten().nonzero()[:, 0], self.fills[leaf])
        return values


def bptt_sequence(
    kernel: type[BPTTKernel],
    inputs: Tensor,
    state: Sequence[Tensor],
    is_first: Tensor,
    parameters: Sequence[Tensor],
    option: Any = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run a cell over a sequence with resets.

    Args:
        kernel: The cell's arithmetic.
        inputs: ``(T, B, I)``.
        state: The leaves before step 0, ``(B, H)`` each.
        is_first: ``(T, B)`` bool.
        parameters: What the kernel expects.
        option: The same.

    Returns:
        Outputs ``(T, B, H)`` and the leaves after step T - 1. Once differentiable.
    """
    check_rows(inputs, state[0], is_first)
    results = _Sequence.apply(kernel, option, len(state), is_first, inputs, *state, *parameters)  # type: ignore[no-untyped-call]
    return results[0], list(results[1:])


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernel: type[BPTTKernel],
        option: Any,
        num_leaves: int,
        is_first: Tensor,
        inputs: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        initial, parameters = tensors[:num_leaves], tensors[num_leaves:]
        cell = kernel(parameters, option)
        cell.inputs = inputs
        cell.begin()
        rows = rows_of_resets(is_first)
        state = list(initial)
        for t, resets in enumerate(rows):
            if resets is not None:
                state = [leaf.index_fill(0, resets, fill) for leaf, fill in zip(state, cell.fills, strict=True)]
            state = cell.step(t, state)
        ctx.kernel, ctx.option, ctx.rows, ctx.num_leaves = kernel, option, rows, num_leaves
        ctx.num_after = len(cell.after)
        saved = [getattr(cell, name) for name in cell.saved]
        ctx.save_for_backward(is_first, inputs, *tensors, *cell.after, *saved)
        ctx.set_materialize_grads(False)
        return cell.outputs, *(leaf.clone() for leaf in state)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor | None, *grad_state: Tensor | None) -> tuple[Tensor | None, ...]:
        cell = _restore(ctx)
        if grad_outputs is None:
            grad_outputs = cell.after[0].new_zeros(()).expand_as(cell.after[0])
        cell.begin_back(grad_outputs)
        grads = list(grad_state)
        length = max(1, _CACHED // max(1, grad_outputs[0].numel()))
        for stop in range(len(ctx.rows), 0, -length):
            start = max(0, stop - length)
            steps = slice(start, stop)
            factors = by_step(cell.factors(steps))
            for t in range(stop - 1, start - 1, -1):
                grads = cell.step_back(factors[t - start], grads)
                if (resets := ctx.rows[t]) is not None:
                    grads = [grad if grad is None else grad.index_fill(0, resets, 0.0) for grad in grads]
            cell.gather(steps)
        grad_inputs, *grad_parameters = cell.finish_back()
        return None, None, None, None, grad_inputs, *grads, *grad_parameters


def _restore(ctx: Any) -> BPTTKernel:
    """Return the kernel of the backward pass with all that the forward pass saved."""
    kernel: type[BPTTKernel] = ctx.kernel
    is_first, inputs, *tensors = ctx.saved_tensors
    initial, after_and_rest = tensors[: ctx.num_leaves], tensors[ctx.num_leaves :]
    num_parameters = len(after_and_rest) - ctx.num_after - len(kernel.saved)
    cell = kernel(after_and_rest[:num_parameters], ctx.option)
    cell.is_first, cell.inputs, cell.initial = is_first, inputs, initial
    cell.after = after_and_rest[num_parameters : num_parameters + ctx.num_after]
    for name, value in zip(kernel.saved, after_and_rest[num_parameters + ctx.num_after :], strict=True):
        setattr(cell, name, value)
    return cell


class ProductSums:
    """Gradients of what enters gates, W x + R h̄ + b: dx = δ W, dW = Σ δᵀ x, dR = Σ δᵀ h̄ and db = Σ δ.

    Args:
        inputs: x ``(T, B, I)``.
        weight_ih: W ``(G, I)``.
        hidden: H.
        out: Where dx is written, ``(T, B, I)``; ``None`` for a new tensor.
    """

    def __init__(self, inputs: Tensor, weight_ih: Tensor, hidden: int, out: Tensor | None = None) -> None:
        self.inputs, self.weight_ih = inputs, weight_ih
        self.grad_inputs = inputs.new_empty(inputs.shape) if out is None else out
        self.products = weight_ih.new_zeros(inputs.shape[-1] + hidden, len(weight_ih))
        self.grad_bias = weight_ih.new_zeros(len(weight_ih))

    def add(self, steps: slice, deltas: Tensor, before: Tensor) -> None:
        """Add these steps, δ ``(steps, B, G)`` and h̄ ``(steps, B, H)``; one product for both weights."""
        flat = deltas.flatten(0, 1)
        torch.mm(flat, self.weight_ih, out=self.grad_inputs[steps].flatten(0, 1))
        self.products.addmm_(torch.cat([self.inputs[steps], before], dim=-1).flatten(0, 1).t(), flat)
        self.grad_bias.add_(flat.sum(0))

    def gradients(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return dx ``(T, B, I)``, dW ``(G, I)``, dR ``(G, H)`` and db ``(G,)``."""
        width = self.inputs.shape[-1]
        return self.grad_inputs, self.products[:width].t(), self.products[width:].t(), self.grad_bias


def by_step(parts: Iterable[Tensor]) -> list[tuple[Tensor, ...]]:
    """Return for each step its views of these tensors ``(T, ...)``."""
    return list(zip(*(one.unbind() for one in parts), strict=True))


def logistic_slope(factor: Tensor, gate: Tensor, out: Tensor | None = None) -> Tensor:
    """Return factor · s (1 - s) for a gate s = σ(a), in one pass over memory."""
    if out is None:
        out = torch.empty_like(factor)
    torch.ops.aten.sigmoid_backward.grad_input(factor, gate, grad_input=out)
    return out


def tanh_slope(factor: Tensor, value: Tensor, out: Tensor | None = None) -> Tensor:
    """Return factor · (1 - y²) for y = tanh(a), in one pass over memory."""
    if out is None:
        out = torch.empty_like(factor)
    torch.ops.aten.tanh_backward.grad_input(factor, value, grad_input=out)
    return out


def doubled_block(parameter: Tensor, block: int, num_blocks: int) -> Tensor:
    """Return a copy of ``(num_blocks·H, ...)`` with one block twice as large.

    For tanh(a) = 2 σ(2a) - 1: one logistic function over all gates is faster than a tanh on a strided part of them.
    """
    doubled = parameter.detach().clone()
    doubled.chunk(num_blocks)[block].mul_(2.0)
    return doubled
