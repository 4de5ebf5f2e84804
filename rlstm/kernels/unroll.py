"""Backpropagation through time: how far back it goes, and whether the past is kept or computed again.

Truncation: the state is detached every ``horizon`` steps, counted from the start of the sequence.

Recomputation: a sequence of T steps is run in segments without a record; only the states between segments are kept.
The backward pass goes through the segments from the last to the first, runs each again with a record and differentiates
it. With segments of √T steps, what is kept for the gradient is that of √T steps and √T states instead of T steps, for
one more forward pass without a record. Inputs, outputs and their gradients still have T steps.

Sources: Chen et al. 2016 (arXiv 1604.06174), for segments of √T; Gruslys et al. 2016 (arXiv 1606.03401), for recurrent
networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlstm.core.trees import Tree, tree_leaves, tree_map

Run = Callable[[Tree, Tree, Tensor], tuple[Tensor, Tree]]


def unroll(
    run: Run,
    inputs: Tree,
    state: Tree,
    is_first: Tensor,
    *,
    horizon: int | None = None,
    recomputed: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tree]:
    """Run a sequence with the gradient cut every ``horizon`` steps, and the past kept or computed again.

    Args:
        run: Maps inputs ``(N, B, ...)``, a state and ``is_first`` ``(N, B)`` to outputs ``(N, B, H)`` and the next
            state, as the ``sequence`` of a cell does.
        inputs: A tree of ``(T, B, ...)``.
        state: The state before step 0, leaves ``(B, ...)``; detached where a horizon cuts the sequence.
        is_first: ``(T, B)`` bool.
        horizon: Steps after which the state is detached; ``None`` for never.
        recomputed: ``None`` to keep what the gradient needs. The parameters of ``run`` to compute it again, in segments
            of √T steps, or of a horizon where that is shorter; see ``recomputed_sequence``.

    Returns:
        Outputs ``(T, B, H)`` and the state after step T - 1.
    """
    num_steps = len(is_first)
    if recomputed is not None:
        length = math.isqrt(num_steps - 1) + 1  # √T, rounded up.
        run = partial(recomputed_sequence, run, parameters=recomputed, segment_length=length)
    if horizon is None or horizon >= num_steps:
        return run(inputs, state, is_first)
    pieces = []
    for begin in range(0, num_steps, horizon):
        steps = slice(begin, begin + horizon)
        seen = tree_map(lambda leaf, steps=steps: leaf[steps], inputs)
        outputs, state = run(seen, tree_map(Tensor.detach, state), is_first[steps])
        pieces.append(outputs)
    return torch.cat(pieces), state


def recomputed_sequence(
    run: Run, inputs: Tree, state: Tree, is_first: Tensor, *, parameters: Sequence[Tensor], segment_length: int
) -> tuple[Tensor, Tree]:
    """Run a sequence so that its backward pass computes every segment again.

    The gradient is exact. Values differ from those of one ``run`` over the whole by rounding at most, where its kernels
    round differently at another length or without a record; gradients of weights are sums over segments.

    Args:
        run: As for ``unroll``, like the next three; the next state has the structure of the state. It draws nothing at
            random and writes to none of its arguments.
        inputs: The same.
        state: The same.
        is_first: The same.
        parameters: All else that ``run`` depends on and that may get a gradient.
        segment_length: Steps of a segment.

    Returns:
        Outputs ``(T, B, H)`` and the state after step T - 1. Once differentiable. Where gradients are switched off,
        those of ``run`` itself.
    """
    if not torch.is_grad_enabled():
        return run(inputs, state, is_first)
    places = iter(range(len(tree_leaves((inputs, state)))))
    input_places, state_places = tree_map(lambda _: next(places), (inputs, state))
    segments = _Segments(run, is_first, segment_length, input_places, state_places)
    leaves = tree_leaves((inputs, state))
    outputs, *final = _Recomputed.apply(segments, *leaves, *parameters)  # type: ignore[no-untyped-call]
    ends = iter(final)
    return outputs, tree_map(lambda _: next(ends), state)


@dataclass(frozen=True)
class _Segments:
    """What to run; trees hold the places of their leaves in one flat list, so that tensors pass through autograd."""

    run: Run
    is_first: Tensor  # (T, B)
    length: int
    input_places: Tree
    state_places: Tree

    @property
    def num_inputs(self) -> int:
        return len(tree_leaves(self.input_places))

    @property
    def num_leaves(self) -> int:
        return self.num_inputs + len(tree_leaves(self.state_places))

    def spans(self) -> Iterator[slice]:
        """Yield the steps of every segment."""
        num_steps = len(self.is_first)
        for begin in range(0, num_steps, self.length):
            yield slice(begin, min(begin + self.length, num_steps))

    def __call__(self, span: slice, inputs: Sequence[Tensor], state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run a segment on the leaves of its inputs and of the state before it."""
        leaves = [*inputs, *state]
        seen, before = tree_map(lambda place: leaves[place], (self.input_places, self.state_places))
        outputs, after = self.run(seen, before, self.is_first[span])
        return outputs, tree_leaves(after)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, segments: _Segments, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs, state = tensors[: segments.num_inputs], list(tensors[segments.num_inputs : segments.num_leaves])
        pieces: list[Tensor] = []
        starts: list[Tensor] = []
        for span in segments.spans():
            starts += state
            piece, state = segments(span, [leaf[span] for leaf in inputs], state)
            state = [leaf.clone() for leaf in state]  # A view would keep the outputs of the whole segment.
            pieces.append(piece)
        ctx.segments = segments
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *tensors[segments.num_leaves :], *starts)
        return torch.cat(pieces), *state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor | None, *grad_state: Tensor | None) -> tuple[Tensor | None, ...]:
        segments, saved = ctx.segments, ctx.saved_tensors
        num_inputs, num_leaves, num_state = segments.num_inputs, segments.num_leaves, len(grad_state)
        needed = ctx.needs_input_grad[1:]  # Of inputs, state and parameters; the first argument is no tensor.
        inputs, num_parameters = saved[:num_inputs], len(needed) - num_leaves
        parameters, starts = saved[num_inputs:][:num_parameters], saved[num_inputs:][num_parameters:]
        grad_inputs = [torch.zeros_like(leaf) if need else None for leaf, need in zip(inputs, needed, strict=False)]
        grad_parameters: list[Tensor | None] = [None] * num_parameters
        for index, span in reversed(list(enumerate(segments.spans()))):
            start = [leaf.detach() for leaf in starts[index * num_state : (index + 1) * num_state]]
            pieces = [leaf[span].detach().requires_grad_(need) for leaf, need in zip(inputs, needed, strict=False)]
            grad_results = [None if grad_outputs is None else grad_outputs[span], *grad_state]
            found = _differentiate(segments, span, (pieces, start, parameters), grad_results)
            for whole, grad in zip(grad_inputs, found, strict=False):
                if whole is not None and grad is not None:
                    whole[span] = grad
            grad_state = tuple(found[num_inputs:num_leaves])
            grad_parameters = [_add(*pair) for pair in zip(grad_parameters, found[num_leaves:], strict=True)]
        return None, *grad_inputs, *grad_state, *grad_parameters


def _differentiate(
    segments: _Segments, span: slice, sources: tuple[Sequence[Tensor], ...], grad_results: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Run a segment again, with a record, and return the gradients of its inputs, state and parameters."""
    inputs, state, parameters = sources
    for leaf in state:
        leaf.requires_grad_(leaf.is_floating_point())
    with torch.enable_grad():
        outputs, after = segments(span, inputs, state)
    reached = [
        (result, grad)
        for result, grad in zip([outputs, *after], grad_results, strict=True)
        if grad is not None and result.requires_grad
    ]
    leaves = [*inputs, *state, *parameters]
    if not reached:
        return [None] * len(leaves)
    results, grads = zip(*reached, strict=True)
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    found = iter(torch.autograd.grad(results, wanted, grads, allow_unused=True))
    return [next(found) if leaf.requires_grad else None for leaf in leaves]


def _add(total: Tensor | None, grad: Tensor | None) -> Tensor | None:
    """Add a segment's gradient to the total, in a tensor of its own: kernels may give two biases one gradient."""
    if grad is None:
        return total
    return grad.clone() if total is None else total.add_(grad)
