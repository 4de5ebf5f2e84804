"""A memory cell that is a graph: see ``rlstm.core.cell_graphs`` for what a graph is, and for its file.

Source: Bayer, Wierstra, Togelius & Schmidhuber 2009, *Evolving memory cell structures for sequence learning*.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rlstm.cells.base import State, orthogonal_blocks, reset_rows, xavier_blocks
from rlstm.cells.product_cell import ProductCell, Weights
from rlstm.core.cell_graph_files import graph_from_table
from rlstm.core.cell_graphs import INPUT, CellGraph, Node, lstm_graph
from rlstm.core.cell_options import MemoryInit, refuse_memory_length
from rlstm.kernels.resets import check_rows


class GraphCell(ProductCell):
    """A cell that computes what a graph says.

    With N linear nodes, of which some read x alone, some x and h̄, and some h̄ alone, in that order and else in that of
    the graph: ``weight_ih`` ``(N_x·H, I)``, ``weight_hh`` ``(N_h·H, H)`` if any reads h̄, ``bias`` ``(N·H,)``. W starts
    uniform (Xavier) for each node, R orthogonal, b as the graph says. A sequence takes one product with all its inputs
    and one with h̄ a step.

    Args:
        input_size: Width I of the inputs.
        hidden_size: Width H of every node.
        memory_length: Refused: a graph doesn't say which of its nodes keep the memory.
        memory_init: Refused likewise.
        graph: As ``CellGraph.table`` gives it; the LSTM by default.

    Raises:
        ValueError: If the graph makes no sense.
    """

    source = "Bayer, Wierstra, Togelius & Schmidhuber 2009"
    path_name = "loop of steps, inputs projected at once"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        memory_length: int | None = None,
        memory_init: MemoryInit = "chrono",
        graph: Mapping[str, Any] | CellGraph | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        reason = "a graph doesn't say which of its nodes keep the memory: give its linear nodes a bias"
        refuse_memory_length(memory_length, memory_init, reason)
        self.graph = (
            graph if isinstance(graph, CellGraph) else lstm_graph() if graph is None else graph_from_table(graph)
        )
        self._groups = _group(self.graph)
        of_input, of_both, of_state = map(len, self._groups.values())
        self.weight_ih = nn.Parameter(torch.empty((of_input + of_both) * hidden_size, input_size))
        xavier_blocks(self.weight_ih, of_input + of_both)
        if of_both + of_state:
            self.weight_hh = nn.Parameter(torch.empty((of_both + of_state) * hidden_size, hidden_size))
            orthogonal_blocks(self.weight_hh, of_both + of_state)
        biases = torch.tensor([node.bias for group in self._groups.values() for node in group])
        self.bias = nn.Parameter(biases.repeat_interleave(hidden_size))

    @property
    def state_type(self) -> Any:  # type: ignore[override]
        """A NamedTuple of ``h``, if it is read, and the memories, each ``(B, H)``."""
        return _state_type(self.graph.state_names)

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return one product for the nodes that read the same; each leaves out what it doesn't read."""
        of_input, of_both, of_state = (len(group) * self.hidden_size for group in self._groups.values())
        weight_ih, bias = parameters["weight_ih"], parameters["bias"]
        found: dict[str, Any] = {}
        if of_input:
            found["input"] = ((weight_ih[..., :of_input, :], bias[..., :of_input]),)
        if of_both:
            from_state = parameters["weight_hh"][..., :of_both, :]
            biases = bias[..., of_input : of_input + of_both]
            found["both"] = ((weight_ih[..., of_input:, :], biases), (from_state, None))
        if of_state:
            found["state"] = ((parameters["weight_hh"][..., of_both:, :], bias[..., of_input + of_both :]),)
        return found

    def equations(self, by: Any, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Advance one step: the products, then every other node behind those that it reads."""
        return self._finish(self._products(by, inputs, state), state)

    def gates(self, inputs: Tensor, state: State) -> dict[str, Tensor]:
        """Return the sigmoid nodes by their names."""
        values = self._compute(self._products(self.products(), inputs, state), state)
        return {node.name: values[node.name] for node in self.graph.of_op("sigmoid")}

    def sequence(self, inputs: Tensor, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """Run T steps with resets, with the products of all inputs at once."""
        check_rows(inputs, state[0], is_first)
        of_input, of_both, of_state = (len(group) * self.hidden_size for group in self._groups.values())
        projected = linear(inputs, self.weight_ih, self.bias[: of_input + of_both])  # (T, B, N_x·H)
        from_state = self.weight_hh.t() if of_both + of_state else None
        state_bias = self.bias[of_input + of_both :]
        initial, resets = self.init_state(inputs.shape[1]), is_first.any(1).tolist()
        outputs = []
        for projected_t, is_first_t, is_reset in zip(projected, is_first, resets, strict=True):
            state = reset_rows(state, initial, is_first_t) if is_reset else state
            if from_state is None:
                sums = projected_t
            elif not of_input + of_state:
                sums = torch.addmm(projected_t, state.h, from_state)
            else:
                both, alone = (state.h @ from_state).split([of_both, of_state], dim=1)
                seen, shared = projected_t.split([of_input, of_both], dim=1)
                sums = torch.cat([seen, shared + both, alone + state_bias], dim=1)
            output, state = self._finish(sums, state)
            outputs.append(output)
        return torch.stack(outputs), state

    def _products(self, by: Any, inputs: Tensor, state: Any) -> Tensor:
        """Return what all linear nodes put out, ``(B, N·H)``."""
        reads: dict[str, Any] = {
            "input": lambda: (inputs,),
            "both": lambda: (inputs, state.h),
            "state": lambda: (state.h,),
        }
        sums = [getattr(by, name)(*reads[name]()) for name, group in self._groups.items() if group]
        return sums[0] if len(sums) == 1 else torch.cat(sums, dim=1)

    def _compute(self, sums: Tensor, state: Any) -> dict[str, Tensor]:
        """Return the values of all nodes by name, and "h" as it was."""
        values: dict[str, Tensor] = dict(zip(self.graph.state_names, state, strict=True))
        nodes = [node for group in self._groups.values() for node in group]
        values.update(zip((node.name for node in nodes), sums.split(self.hidden_size, dim=1), strict=True))
        for node in self.graph.order:
            values[node.name] = _value(node, [values[read] for read in node.reads])
        return values

    def _finish(self, sums: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the output and the next state of a step, from what its linear nodes put out."""
        values = self._compute(sums, state)
        return values[self.graph.output], self.state_type(*(values[name] for name in self.graph.kept))


def _value(node: Node, read: list[Tensor]) -> Tensor:
    """Return what a node that is neither linear nor a memory computes."""
    if node.op == "sum":
        return functools.reduce(torch.add, read)
    if node.op == "product":
        return functools.reduce(torch.mul, read)
    if node.op == "tanh":
        return read[0].tanh()
    return read[0].sigmoid() if node.op == "sigmoid" else read[0]


def _group(graph: CellGraph) -> dict[str, list[Node]]:
    """Return the linear nodes that read x alone, x and h̄, h̄ alone."""
    groups: dict[str, list[Node]] = {"input": [], "both": [], "state": []}
    for node in graph.of_op("linear"):
        name = "both" if len(node.reads) == 2 else "input" if INPUT in node.reads else "state"
        groups[name].append(node)
    return groups


@functools.cache
def _state_type(names: tuple[str, ...]) -> Any:
    make: Any = namedtuple  # Which fields it has, the graph says.
    made = make("GraphState", names)
    made.__reduce__ = lambda self: (_remake_state, (names, tuple(self)))
    return made


def _remake_state(names: tuple[str, ...], leaves: tuple[Any, ...]) -> Any:
    """Return a state that was pickled or copied."""
    return _state_type(names)(*leaves)
