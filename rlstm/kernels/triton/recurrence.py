"""What all Triton sequences share: buffers, launches, and the products before and after the time loop.

A sequence runs in three parts each way, and only the middle one is sequential::

    forwards     gates = W x + b for all steps, one product      one launch of the forward kernel
    backwards    one launch of the backward kernel: all δ        one product each for dW, dx and dR

A cell's module here has the kernels and describes them by a ``Recurrence``. A program of the grid holds ``BLOCK_ROWS``
rows of the batch and one group of units that don't mix with others, and runs through all T steps alone, so programs
never wait for each other. A group of more than 128 units is gone through in parts, by kernels of their own: see
``rlstm.kernels.triton.wide``. Offsets are int64. What ``is_first`` resets is replaced, never multiplied by 0.

Buffers, time-major and contiguous; N steps are t = 0 .. T, slot t holding what was there before step t::

    gates (T, B, G, H)      W x + b; the kernel may write over it what the backward pass needs
    hidden (T + 1, B, H)    h, the outputs from slot 1 on          memory (M, T + 1, B, H)    what else is kept, float32
    begin, end (L, B, H)    leaves of the state, float32           deltas (T, B, D, H)        δ of every step

``deltas`` ends with the G blocks of the input's side and begins with the blocks of the state's side, in the order of R;
where both are the same, they are one. ``gates``, ``hidden``, ``deltas`` and R are of the storage type, float32 or
bfloat16; sums, products with gates and leaves of the state are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Storage = torch.dtype
_SHARED_MEMORY = 227 * 1024  # Bytes of an H100, where there is no CUDA device to ask.
_BESIDE_WEIGHTS = 32 * 1024  # Bytes that a program needs beside R: 32 KiB at most when compiled for an H100.
NUM_STAGES = 1
"""Steps whose loads the compiler overlaps. More of them double what a program needs of shared memory, or worse."""

_WIDEST_WHOLE = 128  # Units that a program holds at once; with more of them it goes through parts.
_PART = 64  # Units in a part; with 128, the kernels of 32 rows would not find registers for all they hold.
_FEW_ROWS, _MANY_ROWS = 16, 32  # A product of tensor cores has 16 rows at least.
_MANY = 2048  # Rows of a batch from which programs of 16 rows outnumber the multiprocessors of a large GPU.


@dataclass(frozen=True)
class Kept:
    """What the backward pass finds, for the gradient of ``extra``."""

    deltas: Tensor  # (T, B, D, H)
    memory: Tensor  # (M, T + 1, B, H)
    is_first: Tensor  # (T, B)


@dataclass(frozen=True)
class Kernels:
    """The kernels of a cell."""

    forward: Any
    """gates, is_first, R, extra, begin, hidden, memory, end, num_steps, num_rows, then constants."""

    backward: Any
    """gates, is_first, R, extra, hidden, memory, grad_outputs, grad_end, deltas, grad_begin, then the same."""

    wide_forward: Any = None
    """The first for groups of more than 128 units; ``None`` where no unit sees another."""

    wide_backward: Any = None
    """The second."""


@dataclass(frozen=True)
class Recurrence:
    """The kernels of a cell and the shapes of their buffers."""

    kernels: Kernels

    num_gates: int
    """G, blocks of H in W x + b."""

    num_memories: int = 0
    """M, what is kept of every step beside h and the gates; the first ones are the leaves of the state after h."""

    num_deltas: int | None = None
    """D; ``None`` for G."""

    extra_gradient: Callable[[Kept], Tensor] | None = None
    """The gradient of the parameter ``extra``, if there is one."""

    constants: Mapping[str, Any] = field(default_factory=dict)
    """More constants of both kernels."""


def run_recurrence(
    recurrence: Recurrence,
    inputs: Tensor,
    state: Sequence[Tensor],
    is_first: Tensor,
    weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    *,
    storage: Storage = torch.float32,
    precision: str | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run a cell over a sequence with resets.

    Args:
        recurrence: The cell.
        inputs: ``(T, B, I)`` float32.
        state: The leaves before step 0, ``(B, H)`` each, h first.
        is_first: ``(T, B)`` bool.
        weights: W ``(G·H, I)``; b ``(G·H,)``; R ``(blocks·H, H / N)`` for N groups of units; what else kernels read.
        storage: Type of gates, outputs and δ in memory, and of what enters a matrix product.
        precision: How float32 is multiplied by R: ``ieee``, ``tf32``, or ``tf32x3``, three products that are about as
            precise as float32. Default: ``tf32`` where torch's own products may use it; else ``ieee`` up to 64 units
            and ``tf32x3`` above, where the compiler finds no registers for ``ieee``.

    Returns:
        Outputs ``(T, B, H)`` and the leaves after step T - 1. Once differentiable.
    """
    weight_ih, bias, weight_hh, extra = weights
    keep = torch.is_grad_enabled()
    results = _Sequence.apply(  # type: ignore[no-untyped-call]
        recurrence, storage, precision, keep, is_first, inputs, weight_ih, bias, weight_hh, extra, *state
    )
    return results[0], list(results[1:])


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        recurrence: Recurrence,
        storage: Storage,
        precision: str | None,
        keep: bool,
        is_first: Tensor,
        inputs: Tensor,
        weight_ih: Tensor,
        bias: Tensor,
        weight_hh: Tensor | None,
        extra: Tensor | None,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        num_steps, num_rows, width = inputs.shape
        size = state[0].shape[1]
        flat = inputs.reshape(-1, width).to(storage)
        gates = torch.addmm(bias.to(storage), flat, weight_ih.to(storage).t())
        begin = torch.stack(state)
        end = torch.empty_like(begin)
        hidden = gates.new_empty(num_steps + 1, num_rows, size)
        hidden[0] = state[0]
        memory = begin.new_empty(recurrence.num_memories if keep else 0, num_steps + 1, num_rows, size)
        for kept, leaf in zip(memory, state[1:], strict=False):
            kept[0] = leaf
        resets = is_first.contiguous().view(torch.uint8)
        weight = begin if weight_hh is None else weight_hh.to(storage).contiguous()
        parameter = begin if extra is None else extra.contiguous()
        launch = _Launch(recurrence, inputs, begin, None if weight_hh is None else weight, precision)
        launch(launch.forward, (gates, resets, weight, parameter, begin, hidden, memory, end), {"KEEP": keep})
        ctx.recurrence, ctx.storage, ctx.launch = recurrence, storage, launch
        ctx.has_weight, ctx.has_extra = weight_hh is not None, extra is not None
        if keep:
            ctx.save_for_backward(is_first, resets, inputs, weight_ih, weight, parameter, gates, hidden, memory)
        return hidden[1:].to(inputs.dtype), *end.unbind()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, *grad_state: Tensor) -> tuple[Tensor | None, ...]:
        is_first, resets, inputs, weight_ih, weight, parameter, gates, hidden, memory = ctx.saved_tensors
        recurrence, launch = ctx.recurrence, ctx.launch
        num_blocks = recurrence.num_deltas or recurrence.num_gates
        deltas = hidden.new_empty(launch.num_steps, launch.num_rows, num_blocks, launch.size)
        grad_end = torch.stack(grad_state)
        grad_begin = torch.empty_like(grad_end)
        pointers = (gates, resets, weight, parameter, hidden, memory, grad_outputs.contiguous(), grad_end)
        launch(launch.backward, (*pointers, deltas, grad_begin))
        flat = deltas.view(launch.num_steps * launch.num_rows, -1)
        width = inputs.shape[-1]
        input_side = flat[:, -recurrence.num_gates * launch.size :]
        grad_inputs = (input_side @ weight_ih.to(ctx.storage)).view_as(inputs)
        grad_weight_ih = input_side.t() @ inputs.reshape(-1, width).to(ctx.storage)
        grad_weight_hh = _recurrent_gradient(flat, hidden, is_first, weight) if ctx.has_weight else None
        grad_extra = recurrence.extra_gradient(Kept(deltas, memory, is_first)) if ctx.has_extra else None
        products = (grad_inputs, grad_weight_ih, input_side.float().sum(0), grad_weight_hh, grad_extra)
        grads = [None if grad is None else grad.to(inputs.dtype) for grad in products]
        return None, None, None, None, None, *grads, *grad_begin.unbind()


def _recurrent_gradient(flat: Tensor, hidden: Tensor, is_first: Tensor, weight: Tensor) -> Tensor:
    """Return dR = Σ δᵀ h̄, ``(blocks·H, H / N)``, as one product a group of units."""
    num_outputs, width = weight.shape
    size: int = hidden.shape[-1]
    before = hidden[:-1].masked_fill(is_first.unsqueeze(-1), 0.0).view(-1, size // width, width)
    state_side = flat[:, :num_outputs].unflatten(1, (num_outputs // size, size // width, width))
    by_group = state_side.permute(2, 1, 3, 0).reshape(size // width, -1, len(flat))
    gradient: Tensor = by_group @ before.transpose(0, 1)  # (N, blocks·width, width)
    return gradient.view(size // width, -1, width, width).transpose(0, 1).reshape(num_outputs, width)


class _Launch:
    """How a recurrence is cut into programs."""

    def __init__(
        self, recurrence: Recurrence, inputs: Tensor, state: Tensor, weight: Tensor | None, precision: str | None
    ) -> None:
        self.num_steps, self.num_rows, _ = inputs.shape
        self.size = state.shape[-1]
        self.num_warps, constants = _LONE if weight is None else _mixing(weight, self.size, self.num_rows, precision)
        self.constants: dict[str, Any] = {"HIDDEN": self.size, **constants, **recurrence.constants}
        kernels = recurrence.kernels
        wide = "PARTS" in constants
        self.forward = kernels.wide_forward if wide else kernels.forward
        self.backward = kernels.wide_backward if wide else kernels.backward
        self.grid = (-(-self.num_rows // self.constants["BLOCK_ROWS"]), -(-self.size // self.constants["WIDTH"]))

    def __call__(self, kernel: Any, pointers: tuple[Tensor, ...], more: Mapping[str, Any] | None = None) -> None:
        if not self.num_rows:
            return
        with torch.cuda.device_of(pointers[0]):
            kernel[self.grid](
                *pointers,
                self.num_steps,
                self.num_rows,
                **self.constants,
                **(more or {}),
                num_warps=self.num_warps,
                num_stages=NUM_STAGES,
            )


_LONE: tuple[int, dict[str, Any]] = 4, {"BLOCK_ROWS": 4, "BLOCK_UNITS": 64, "WIDTH": 64}


def _mixing(weight: Tensor, size: int, num_rows: int, precision: str | None) -> tuple[int, dict[str, Any]]:
    """Return warps and constants for R ``(blocks·H, WIDTH)``: how it is multiplied, and what of it stays on chip."""
    num_outputs, width = weight.shape
    units = max(16, 1 << (width - 1).bit_length())  # A power of 2; tensor cores multiply 16 at least.
    if weight.dtype != torch.float32:
        precision = "bf16"
    elif precision is None:
        precision = "tf32" if _tf32_is_allowed() else "ieee" if units <= 64 else "tf32x3"
    constants = {"WIDTH": width, "PRECISION": "ieee" if precision == "bf16" else precision}  # Not read for bfloat16.
    if units > _WIDEST_WHOLE:
        units = _PART
        constants["PARTS"] = -(-width // units)
        num_warps = 8
    else:
        copies = 2 if precision == "tf32x3" else 1
        needed = copies * num_outputs // size * units**2 * weight.element_size() + _BESIDE_WEIGHTS
        constants["RESIDENT"] = needed <= _shared_memory(weight)
        num_warps = 4 if units <= 64 and precision != "ieee" else 8
    many = num_rows > _MANY and units * weight.element_size() <= 256 and precision != "tf32x3"
    constants |= {"BLOCK_ROWS": _MANY_ROWS if many else _FEW_ROWS, "BLOCK_UNITS": units}
    return num_warps, constants


def _shared_memory(weight: Tensor) -> int:
    """Return how many bytes of shared memory a program may have."""
    if not weight.is_cuda:
        return _SHARED_MEMORY
    properties: Any = torch.cuda.get_device_properties(weight.device)
    return int(properties.shared_memory_per_block_optin)


def _tf32_is_allowed() -> bool:
    """Return whether torch's own matrix products on CUDA may round float32 to TensorFloat-32."""
    backends: Any = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):  # Before torch 2.9.
        return bool(backends.cuda.matmul.allow_tf32)
    precision = backends.cuda.matmul.fp32_precision
    return bool((backends.fp32_precision if precision == "none" else precision) == "tf32")
