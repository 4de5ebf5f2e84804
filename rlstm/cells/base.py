"""The protocol of every memory cell.

Axes are time-major: inputs ``(T, B, I)``, outputs ``(T, B, H)``, ``is_first`` ``(T, B)``; the leaves of a state are
batch-first, ``(B, ...)``. ``is_first[t, b]`` means that the state of row b is replaced by the initial state **before**
step t, so ``is_first[0]`` overrides the state that is passed in.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rlstm.core.cell_options import MemoryInit, SequencePath, check_memory_length
from rlstm.core.trees import tree_map
from rlstm.kernels.triton.support import TritonKernel, run_triton

State = Any  # A NamedTuple of leaves (B, ...), or a tuple of such states for stacked cells.
CellStep = Callable[[Tensor, State], tuple[Tensor, State]]
SequenceRun = Callable[[Tensor, State, Tensor], tuple[Tensor, State]]


class RecurrentCell(nn.Module, ABC):
    """A memory cell: an initial state, one step, one sequence.

    A subclass writes ``init_state`` and ``step``; all else follows from them and may be overridden by something faster,
    which ``rlstm.testing.check_cell`` compares with it. ``ProductCell`` gives the fast forms of most cells.

    Every cell of ``CELLS`` also takes ``memory_length``, the longest lag in steps that its first biases should bridge
    (``None`` for the plain ones), and ``memory_init``, how: see ``memory_bias``. What is out of range is refused, as is
    ``memory_init`` without a length: see ``check_memory_length``. Docstrings of cells tell what they do with them,
    and what their other arguments are.

    Args:
        input_size: Width I of the inputs.
        hidden_size: Width H of the memory.

    Raises:
        ValueError: If a size is smaller than 1.
    """

    source: ClassVar[str]
    """Where the cell was published, for the table of cells."""

    reads_elapsed_time: ClassVar[bool] = False
    """Whether the last number that the cell reads at a step is the time since the step before."""

    reads_maps: ClassVar[bool] = False
    """Whether the cell reads the maps of an image, laid flat; it then has an option ``map_shape``."""

    triton: ClassVar[TritonKernel | None] = None
    """Its sequence as a Triton kernel, if it has one; used where it is asked for."""

    redundant_parameters: ClassVar[Mapping[str, str]] = {}
    """Parameters that are only ever added to another one, a second bias for instance; evolution leaves them out."""

    path_name: ClassVar[str] = "loop of steps"
    """What ``sequence`` does, for ``sequence_path``."""

    output_maps: tuple[int, ...] | None = None
    """Shape of the maps that the outputs are, laid flat, for the cell above; ``None`` for a plain vector."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size < 1:
                raise ValueError(f"{name} is {size}; a cell needs at least 1.")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.output_size = hidden_size

    def units_of_rows(self, name: str) -> list[int]:
        """Return for each row of a parameter the unit that it enters, for strategies that evolve units apart.

        Here rows of a gate are those of the units, in their order. A cell whose rows are others says so.

        Raises:
            ValueError: If the rows can't be those of units.
        """
        rows = len(self.get_parameter(name))
        if rows % self.hidden_size:
            raise ValueError(f"'{name}' has {rows} rows, which {self.hidden_size} units can't share evenly.")
        return [row % self.hidden_size for row in range(rows)]

    def units_of_outputs(self) -> list[int]:
        """Return for each output the unit that puts it out."""
        return list(range(self.output_size))

    @abstractmethod
    def init_state(self, batch_size: int) -> State:
        """Return the state of a memory that has seen nothing, leaves ``(batch_size, ...)``."""

    @abstractmethod
    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance one step: inputs ``(B, I)`` and a state to outputs ``(B, H)`` and the next state."""

    def gates(self, inputs: Tensor, state: State) -> dict[str, Tensor]:
        """Return how far each gate opens at a step, by name: ``(B, N)`` from 0 to 1; none where there are no gates.

        ``forget`` is the share of the memory that is kept, however the source calls that gate. Arguments as ``step``.
        """
        return {}

    def sequence(self, inputs: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """Run T steps, resetting the state before every step that is a first one.

        Args:
            inputs: ``(T, B, I)``.
            state: The state before step 0.
            is_first: ``(T, B)`` bool.

        Returns:
            Outputs ``(T, B, H)`` and the state after step T - 1.
        """
        return self.reference_sequence(inputs, state, is_first)

    def reference_sequence(self, inputs: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """Run T steps as a plain loop over ``step``, with which every faster path is compared."""
        outputs = []
        for inputs_t, is_first_t in zip(inputs, is_first, strict=True):
            output, state = self.step(inputs_t, self.reset(state, is_first_t))
            outputs.append(output)
        return torch.stack(outputs), state

    def sequence_by(self, path: SequencePath) -> SequenceRun:
        """Return ``sequence`` for ``auto``, or the path called by name; all take and return the same.

        Whether the path can be taken is seen when it runs; ``rlstm.cells.sequence_paths`` tells before.
        """
        if path == "triton":
            return partial(run_triton, self)
        return self.sequence if path == "auto" else self.reference_sequence

    def sequence_path(self, device: torch.device) -> str:
        """Name the implementation that ``sequence`` uses on ``device``."""
        return self.path_name

    def reset(self, state: State, is_first: Tensor) -> State:
        """Return ``state`` with the rows where ``is_first`` ``(B,)`` holds replaced by the initial state.

        They are replaced, not multiplied by 0, so a row that has become NaN does not survive.
        """
        return reset_rows(state, self.init_state(is_first.shape[0]), is_first)

    def acting_snapshot(self) -> CellStep:
        """Return a function equal to ``step`` that may hold a copy of the weights in a faster layout.

        It is valid until the weights change, and meant for acting: it carries no gradient.
        """
        return self.step

    def population_snapshot(self, parameters: Mapping[str, Tensor]) -> CellStep:
        """Return a step of P cells of this kind, each with weights of its own.

        This one is right for every cell; an override is faster.

        Args:
            parameters: The weights by name, each with an axis P in front.

        Returns:
            A step from inputs ``(P·E, I)`` and state leaves ``(P·E, ...)``, E rows for each cell, one cell after the
            other.
        """
        population = len(next(iter(parameters.values())))
        one = _Step(self)
        weights = {f"cell.{name}": value for name, value in parameters.items()}

        def call(weights: dict[str, Tensor], inputs: Tensor, state: State) -> tuple[Tensor, State]:
            outcome: tuple[Tensor, State] = torch.func.functional_call(one, weights, (inputs, state))
            return outcome

        def step(inputs: Tensor, state: State) -> tuple[Tensor, State]:
            inputs, state = tree_map(lambda leaf: leaf.unflatten(0, (population, -1)), (inputs, state))
            outcome = torch.func.vmap(call)(weights, inputs, state)
            flat: tuple[Tensor, State] = tree_map(lambda leaf: leaf.flatten(0, 1), outcome)
            return flat

        return step


class _Step(nn.Module):
    """A cell whose ``step`` is its ``forward``, which alone can be called with other weights."""

    def __init__(self, cell: RecurrentCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return self.cell.step(inputs, state)


def reset_rows(state: State, initial: State, is_first: Tensor) -> State:
    """Return ``state`` with the rows where ``is_first`` ``(B,)`` holds replaced by those of ``initial``."""
    column = is_first.unsqueeze(1)

    def select(leaf: Tensor, fresh: Tensor) -> Tensor:
        return torch.where(column if leaf.dim() == 2 else is_first.view(-1, *(1,) * (leaf.dim() - 1)), fresh, leaf)

    return tree_map(select, state, initial)


def xavier_blocks(weight: Tensor, num_blocks: int) -> None:
    """Initialise each of the ``num_blocks`` blocks of rows in ``weight`` uniformly, by Xavier's bounds for it alone."""
    for block in weight.detach().chunk(num_blocks):
        nn.init.xavier_uniform_(block)


def orthogonal_blocks(weight: Tensor, num_blocks: int) -> None:
    """Initialise each of the ``num_blocks`` square blocks stacked in ``weight`` ``(num_blocks·H, H)`` orthogonally."""
    for block in weight.detach().chunk(num_blocks):
        nn.init.orthogonal_(block)


def lstm_biases(bias: Tensor, memory_length: int | None, memory_init: MemoryInit) -> None:
    """Set the biases of an LSTM, ``(4H,)``, whose first two gates are i and f; the others stay as they are.

    b_f is 1 (Jozefowicz et al. 2015); with a memory length it spreads time scales up to it and b_i = -b_f (Tallec &
    Ollivier 2018).

    Raises:
        ValueError: As ``check_memory_length``.
    """
    check_memory_length(memory_length, memory_init)
    input_bias, forget_bias, _, _ = bias.detach().chunk(4)
    if memory_length is None:
        forget_bias.fill_(1.0)
    else:
        forget_bias.copy_(memory_bias(len(forget_bias), memory_length, memory_init))
        input_bias.copy_(-forget_bias)


def mlstm_biases(bias: Tensor, memory_length: int | None, memory_init: MemoryInit) -> None:
    """Set the biases of an mLSTM's ĩ and f̃, ``(2N,)``: b_i from N(0, 0.1), b_f 3 to 6, or by a memory length."""
    admit, forget = bias.detach().chunk(2)
    admit.normal_(std=0.1)
    if memory_length is None:
        forget.copy_(torch.linspace(3.0, 6.0, len(forget)))
    else:
        forget.copy_(memory_bias(len(forget), memory_length, memory_init))


def memory_bias(size: int, memory_length: int, memory_init: MemoryInit = "chrono") -> Tensor:
    """Return gate biases that spread the memory's time scales up to ``memory_length`` steps.

    A gate with bias b alone keeps the old state for about τ = 1 + e^b steps.

    * ``chrono``: b ~ log(U[1, memory_length - 1]), drawn at random; most τ are long (Tallec & Ollivier 2018, arXiv
      1804.11188, equation 16).
    * ``log_spaced``: b_k = log(τ_k - 1) with τ_k = 2 (memory_length / 2)^(k / (size - 1)), k = 0 .. size - 1; every
      octave of τ has as many units. The shortest τ is 2 because its bias is 0, that of a plain gate. A single unit gets
      the longest τ.

    Args:
        size: Number of biases.
        memory_length: Longest lag in steps that the memory should bridge.
        memory_init: How the time scales are spread.

    Returns:
        ``(size,)`` biases of the gate that keeps the old state, at most log(memory_length - 1).

    Raises:
        ValueError: If ``memory_length`` is smaller than 3, or ``memory_init`` is unknown.
    """
    check_memory_length(memory_length, memory_init)
    if memory_init == "chrono":
        return torch.empty(size).uniform_(1.0, float(memory_length - 1)).log()
    longest = math.log(memory_length)
    shortest = math.log(2.0) if size > 1 else longest
    # In float64, where exp and log undo each other to the last digit of float32.
    return torch.linspace(shortest, longest, size, dtype=torch.float64).exp().sub(1.0).log()
