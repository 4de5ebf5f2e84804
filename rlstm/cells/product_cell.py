"""Cells whose step is matrix products and equations between numbers: written once, for every way to run them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rlstm.cells.base import CellStep, RecurrentCell, State, orthogonal_blocks, xavier_blocks
from rlstm.cells.population_linear import PopulationLinear
from rlstm.kernels.bptt.gated import BPTTKernel, bptt_sequence

Terms = Sequence[tuple[Tensor, Tensor | None]]
"""Weights ``(G, N)`` and a bias ``(G,)``, or ``None``, for each of the vectors that a product reads."""

Weights = Mapping[str, Terms | Tensor]
"""The products of a step by name, and the vectors ``(N,)`` that its equations multiply by."""


class OutputState(NamedTuple):
    """What a cell carries whose output is all its memory."""

    h: Tensor  # (B, H)


class LSTMState(NamedTuple):
    """What an LSTM carries: its output and its memory."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)


class ProductCell(RecurrentCell):
    """A cell that declares its products and writes its equations once.

    ``weights`` says which parameters form which product, and ``equations`` are the step, with ``by.NAME(x, h)`` for the
    product called NAME, W x + b + R h + b' for two terms. From these come

    * ``step``: one product a term, with a gradient;
    * ``acting_snapshot``: one product for all terms, on [x | h], with weights that are already transposed;
    * ``population_snapshot``: the same for P cells at once.

    ``equations`` may write to what a product returns. With a ``kernel``, backpropagation through time written by hand,
    ``sequence`` is fast too. The state is a NamedTuple ``state_type`` of leaves ``(B, H)``, zeros at first.
    """

    state_type: ClassVar[Callable[..., Any]]
    """The NamedTuple of the state."""

    kernel: ClassVar[type[BPTTKernel] | None] = None
    """The arithmetic of ``sequence``; its parameters are those of the cell, in their order."""

    kernel_option: Any = None
    """What the kernel is told beside them."""

    weight_ih: nn.Parameter  # Like those below, made by ``make_gates``, if it has it.
    weight_hh: nn.Parameter
    bias: nn.Parameter
    bias_ih: nn.Parameter
    bias_hh: nn.Parameter

    def make_gates(self, num_gates: int, width: int, *biases: str) -> None:
        """Make W ``weight_ih`` ``(G·H, width)``, R ``weight_hh`` ``(G·H, H)`` and biases of 0 ``(G·H,)`` by name.

        For each of the G gates W is drawn uniform (Xavier), then R orthogonal.
        """
        rows = num_gates * self.hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, width))
        self.weight_hh = nn.Parameter(torch.empty(rows, self.hidden_size))
        for name in biases:
            self.register_parameter(name, nn.Parameter(torch.zeros(rows)))
        xavier_blocks(self.weight_ih, num_gates)
        orthogonal_blocks(self.weight_hh, num_gates)

    @abstractmethod
    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return the products and vectors of a step.

        Args:
            parameters: The parameters by name, of this cell, or of P cells with an axis P in front.
        """

    @abstractmethod
    def equations(self, by: Any, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Advance one step, ``(B, I)`` to ``(B, H)``.

        Args:
            by: The products, functions of as many tensors ``(B, N)`` as they have terms, and the vectors, each an
                attribute; ``by.is_population`` holds in the step of P cells.
            inputs: ``(B, I)``.
            state: The state before the step.
        """

    def init_state(self, batch_size: int) -> Any:
        """Return zeros, ``(batch_size, H)`` for each leaf."""
        like: Any = next(iter(self._parameters.values()))
        fields = self.state_type._fields  # type: ignore[attr-defined]
        return self.state_type(*(like.new_zeros(batch_size, self.hidden_size) for _ in fields))

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        return self.equations(self.products(), inputs, state)

    def products(self) -> Any:
        """Return what ``equations`` calls ``by``, one product a term, with a gradient."""
        own: Any = self._parameters  # Those of ``torch.func.functional_call``, where it replaces them.
        return _bind(self.weights(own), _sum_of_products)

    def sequence(self, inputs: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """Run T steps with resets, by the kernel if there is one."""
        if self.kernel is None:
            return self.reference_sequence(inputs, state, is_first)
        parameters = list(self.parameters())
        outputs, leaves = bptt_sequence(self.kernel, inputs, state, is_first, parameters, self.kernel_option)
        return outputs, self.state_type(*leaves)

    def sequence_path(self, device: torch.device) -> str:
        """Name the path, the same on every device."""
        return self.path_name if self.kernel is None else "hand-written backpropagation through time"

    @torch.no_grad()
    def acting_snapshot(self) -> CellStep:
        """Return a step with one matrix product for all terms of a product, on a transposed copy of the weights."""
        weights = self.weights(dict(self.named_parameters()))
        by = _bind(
            {name: one.clone() if isinstance(one, Tensor) else one for name, one in weights.items()}, _one_product
        )
        return partial(self.equations, by)

    @torch.no_grad()
    def population_snapshot(self, parameters: Mapping[str, Tensor]) -> CellStep:
        """Return ``acting_snapshot`` for P cells."""
        declared = self.weights(parameters)
        vectors = {name: one for name, one in declared.items() if isinstance(one, Tensor)}
        by = _bind(declared, _population_product, is_population=True)
        population, num_rows = len(next(iter(parameters.values()))), -1
        if not vectors:
            return partial(self.equations, by)

        def step(inputs: Tensor, state: State) -> tuple[Tensor, State]:
            nonlocal num_rows
            if len(inputs) != num_rows:  # Each row gets the vectors of its cell.
                num_rows = len(inputs)
                rows = num_rows // population
                vars(by).update({name: one.detach().repeat_interleave(rows, 0) for name, one in vectors.items()})
            return self.equations(by, inputs, state)

        return step


def _bind(weights: Weights, make: Callable[[Terms], Callable[..., Tensor]], *, is_population: bool = False) -> Any:
    """Return what ``equations`` reads: each product as a function, each vector as it is."""
    bound = {name: one if isinstance(one, Tensor) else make(one) for name, one in weights.items()}
    return SimpleNamespace(is_population=is_population, **bound)


def _sum_of_products(terms: Terms) -> Callable[..., Tensor]:
    """Return one product a term, in the order of the terms."""
    (weight, bias), *others = terms

    def product(inputs: Tensor, *more: Tensor) -> Tensor:
        total = linear(inputs, weight, bias)
        for (other, other_bias), read in zip(others, more, strict=True):
            total = total + linear(read, other, other_bias)
        return total

    return product


def _one_product(terms: Terms) -> Callable[..., Tensor]:
    """Return one product for all terms, on a copy of the weights."""
    weight = torch.cat([weight for weight, _ in terms], dim=-1).t().contiguous()  # (N + N', G)
    bias = _sum_of_biases(terms).clone()
    if len(terms) == 1:
        return lambda inputs: torch.addmm(bias, inputs, weight)
    return lambda *inputs: torch.addmm(bias, torch.cat(inputs, dim=1), weight)


def _population_product(terms: Terms) -> Callable[..., Tensor]:
    """Return one product for all terms of P cells."""
    if len(terms) == 1:
        return PopulationLinear(terms[0][0], _sum_of_biases(terms))
    product = PopulationLinear(torch.cat([weight for weight, _ in terms], dim=-1), _sum_of_biases(terms))
    return lambda *inputs: product(torch.cat(inputs, dim=1))


def _sum_of_biases(terms: Terms) -> Tensor:
    bias, *others = (bias for _, bias in terms if bias is not None)
    return sum(others, bias)
