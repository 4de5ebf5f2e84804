"""Backpropagation through time written by hand: the loop that cells with gates share.

A sequence runs in five parts, of which only the second and the fourth are sequential::

    begin          one matrix product W x + b for all T steps; it becomes the store of the gates
    step           t = 0 .. T-1: erase where a memory begins anew, R h̄, the gates, the next state, in prepared buffers
    begin_back     every factor by which a gradient will be multiplied, for all T steps, in large operations
    step_back      t = T-1 .. 0: a few products with these factors and δ R; then erase as forwards
    finish_back    one matrix product for each weight, over all T steps

This file holds the loop with its resets; a ``BPTTKernel`` holds the arithmetic of one cell. Where the host knows that
no lane is reset at step t, nothing is masked there. What is erased is replaced, never multiplied by 0, so no NaN
survives.

Notation: h̄, c̄ are the state after any erase; dh, dc the gradient at step t from output and t + 1; δ_a the gradient of a
gate before its logistic function or tanh. Shapes: inputs ``(T, B, I)``, leaves of the state ``(B, H)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["BPTTKernel", "bptt_sequence", "doubled_block", "logistic_slope", "tanh_slope"]


class BPTTKernel(ABC):
    """One cell over one sequence: what it computes in a step, and in a step back.

    The forward pass makes one and calls ``begin`` and ``step``; the backward pass makes another, gives it what the
    first one saved, and calls ``begin_back``, ``step_back`` and ``finish_back``. It writes to nothing saved, so it may
    run twice.

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
    after: list[Tensor]  # For each leaf (T, B, H): its value after step t; set by begin, written by step.
    initial: list[Tensor]  # The state passed in, before any erase; backward pass only.
    is_first: Tensor  # (T, B); backward pass only.

    def __init__(self, parameters: Sequence[Tensor], option: Any = None) -> None:
        self.parameters = parameters
        self.option = option

    @abstractmethod
    def begin(self) -> None:
        """Project ``inputs`` and prepare the buffers."""

    @abstractmethod
    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Compute ``outputs[t]`` and the leaves after step t from those before it, erased already and only read."""

    @abstractmethod
    def begin_back(self, grad_outputs: Tensor) -> None:
        """Compute the factors of all steps; ``grad_outputs`` is ``(T, B, H)``, in any layout."""

    @abstractmethod
    def step_back(self, t: int, grads: list[Tensor | None]) -> list[Tensor | None]:
        """Turn gradients of the leaves after step t into those of the leaves before it; write to none that is given.

        ``grads`` come without the part through ``outputs[t]``. ``None`` stands for 0.
        """

    @abstractmethod
    def finish_back(self) -> list[Tensor]:
        """Return the gradients of the inputs and of every parameter."""

    def before(self, leaf: int) -> Tensor:
        """Return a leaf before every step, after any erase, ``(T, B, H)``: for the backward pass."""
        values = torch.cat([self.initial[leaf].unsqueeze(0), self.after[leaf][:-1]])
        return values.masked_fill_(self.is_first.unsqueeze(-1), self.fills[leaf])


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
        option: What the kernel expects.

    Returns:
        Outputs ``(T, B, H)`` and the leaves after step T - 1. Once differentiable.
    """
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
        resets, masks = is_first.any(1).tolist(), is_first.unsqueeze(-1).unbind()
        state = list(initial)
        for t, reset in enumerate(resets):
            if reset:
                state = [leaf.masked_fill(masks[t], fill) for leaf, fill in zip(state, cell.fills, strict=True)]
            state = cell.step(t, state)
        ctx.kernel, ctx.option, ctx.resets, ctx.num_leaves = kernel, option, resets, num_leaves
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
        masks = cell.is_first.unsqueeze(-1).unbind()
        for t in range(len(masks) - 1, -1, -1):
            grads = cell.step_back(t, grads)
            if ctx.resets[t]:
                grads = [grad if grad is None else grad.masked_fill(masks[t], 0.0) for grad in grads]
        grad_inputs, *grad_parameters = cell.finish_back()
        return None, None, None, None, grad_inputs, *grads, *grad_parameters


def _restore(ctx: Any) -> BPTTKernel:
    """Return the kernel of the backward pass with all that the forward pass saved."""
    kernel: type[BPTTKernel] = ctx.kernel
    is_first, inputs, *tensors = ctx.saved_tensors
    initial, after_and_rest = tensors[: ctx.num_leaves], tensors[ctx.num_leaves :]
    num_parameters = len(after_and_rest) - ctx.num_leaves - len(kernel.saved)
    cell = kernel(after_and_rest[:num_parameters], ctx.option)
    cell.is_first, cell.inputs, cell.initial = is_first, inputs, initial
    cell.after = after_and_rest[num_parameters : num_parameters + ctx.num_leaves]
    for name, value in zip(kernel.saved, after_and_rest[num_parameters + ctx.num_leaves :], strict=True):
        setattr(cell, name, value)
    return cell


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
