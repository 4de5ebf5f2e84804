"""A linear layer of P networks at once, each with weights of its own.

Letters in shapes: P = networks, E = rows for each, I = inputs, O = outputs; row p·E + e is the e-th of network p.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_FEW_ROWS = 4
_HAS_KERNEL = "fbgemm" in torch.backends.quantized.supported_engines  # In torch for x86.


class PopulationLinear:
    """Bias + inputs weight for P networks; a snapshot that carries no gradient.

    With few rows for each network a batched matrix product is one call of a general kernel for each, and the calls cost
    more than the arithmetic. So in float32 on the CPU, up to 4 rows, the weights are a table of P·I rows and an output
    is a bag: the sum of I rows of the table, each times an input. That is one vectorised pass over the weights in the
    order of memory. On one core at P = 1000 with 1 row it takes .6 of the time at I = 24, O = 64 and .45 at I = 72,
    O = 256, and with 4 rows .75; from 8 rows on, and in float64, it wins nothing.

    Args:
        weight: ``(P, O, I)``, as ``torch.nn.Linear`` keeps it.
        bias: ``(P, O)``.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight = weight.detach().transpose(1, 2).contiguous()  # (P, I, O)
        self._bias = bias.detach()
        self._num_rows = -1
        self._product: Callable[[Tensor], Tensor]

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the outputs ``(P·E, O)`` for inputs ``(P·E, I)``."""
        if len(inputs) != self._num_rows:
            self._num_rows = len(inputs)
            rows = self._num_rows // len(self._weight)
            make = _by_bags if self._has_bags(rows) else _by_batches
            self._product = make(self._weight, self._bias, rows)
        return self._product(inputs)

    def _has_bags(self, rows: int) -> bool:
        fits = self._weight.device.type == "cpu" and self._weight.dtype == torch.float32
        return _HAS_KERNEL and fits and rows <= _FEW_ROWS and self._weight.shape[2] > 1


def _by_batches(weight: Tensor, bias: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Return a batched matrix product, ``(P·E, I)`` to ``(P·E, O)``."""
    population, width, _ = weight.shape
    bias = bias.unsqueeze(1)
    return lambda inputs: torch.baddbmm(bias, inputs.view(population, rows, width), weight).flatten(0, 1)


def _by_bags(weight: Tensor, bias: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Return a sum of rows for each output, ``(P·E, I)`` to ``(P·E, O)``."""
    population, width, _ = weight.shape
    table = weight.flatten(0, 1)
    members = torch.arange(len(table), dtype=torch.int32).view(population, 1, width)
    members = members.expand(-1, rows, -1).reshape(-1)
    ends = torch.arange(0, len(members) + 1, width, dtype=torch.int32)
    bias = bias.repeat_interleave(rows, 0)
    bags = torch.embedding_bag  # Between ends and inputs: no scaling by frequency, sums, no sparse gradient.
    return lambda inputs: bags(table, members, ends, False, 0, False, inputs.reshape(-1), True)[0].add_(bias)
