"""A small evolution of cell structures: (μ + λ) with an archive of all that was tried, by the mean rank over tasks.

After Bayer, Wierstra, Togelius & Schmidhuber 2009, who rank by several objectives at once. Here a structure's rank on a
task is its place among all structures of the archive, those that are equal sharing the mean of theirs, and what counts
is the mean over tasks: no task's unit matters, and a structure that fails at one task can't make up for it by much on
another. Among equal ones the smaller graph is better, then the earlier one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from rlstm.core.cell_graphs import CellGraph, lstm_graph
from rlstm.evolution.cell_graphs.canonical import structure
from rlstm.evolution.cell_graphs.mutations import MOST_NODES, mutate

_SECOND_CHANGE = 0.3  # Probability of one more change, and of one more after it.
_TRIES = 200


@dataclass(frozen=True)
class Candidate:
    """A structure to try."""

    number: int
    graph: CellGraph
    parent: int | None
    """Number of the one that it is a change of; None for the LSTM, which is the first."""

    changes: tuple[str, ...]
    """Names of the changes."""


class StructureSearch:
    """Asks for structures to be tried, and is told how large their errors are.

    The first generation is the LSTM alone. Every further one is ``children`` structures that nobody has tried, each
    changed once or a few times from one of the ``parents`` best. What is drawn depends on the seed and on what was told
    alone, so a search that is told again what it was told goes on as it did.

    Args:
        seed: Of all that is drawn.
        parents: μ.
        children: λ.
        most_nodes: Nodes that a graph may have.
    """

    def __init__(self, seed: int, *, parents: int = 4, children: int = 8, most_nodes: int = MOST_NODES) -> None:
        self.seed, self.parents, self.children, self.most_nodes = seed, parents, children, most_nodes
        self.archive: list[Candidate] = []
        self.errors: list[tuple[float, ...]] = []

    def ask(self) -> list[Candidate]:
        """Return the structures of the next generation."""
        if not self.archive:
            return [Candidate(0, lstm_graph(), None, ())]
        best = [self.archive[index] for index in ranking(self.errors, self._sizes())[: self.parents]]
        known = {structure(one.graph) for one in self.archive}
        asked: list[Candidate] = []
        for number in range(len(self.archive), len(self.archive) + self.children):
            candidate = self._draw(number, best, known)
            known.add(structure(candidate.graph))
            asked.append(candidate)
        return asked

    def tell(self, candidates: Sequence[Candidate], errors: Sequence[Sequence[float]]) -> None:
        """Take the errors of a generation, one a task for each candidate; infinite ones are the worst.

        Raises:
            ValueError: If they are not those of as many candidates, or one is NaN.
        """
        if len(candidates) != len(errors) or any(math.isnan(error) for row in errors for error in row):
            raise ValueError(f"{len(errors)} rows of errors for {len(candidates)} cells: one row each, none with NaN.")
        self.archive += candidates
        self.errors += [tuple(row) for row in errors]

    def _draw(self, number: int, best: Sequence[Candidate], known: set[str]) -> Candidate:
        """Draw a structure that nobody knows, with a generator of its own."""
        rng = Random(f"{self.seed} {number}")
        for _ in range(_TRIES):
            parent = rng.choice(best)
            graph, change = mutate(parent.graph, rng, most_nodes=self.most_nodes)
            changes = [change]
            while rng.random() < _SECOND_CHANGE:
                graph, change = mutate(graph, rng, most_nodes=self.most_nodes)
                changes.append(change)
            if structure(graph) not in known:
                return Candidate(number, graph, parent.number, tuple(changes))
        raise ValueError(f"No structure of {self.most_nodes} nodes at most is new: allow more of them.")

    def _sizes(self) -> list[int]:
        return [len(one.graph.nodes) for one in self.archive]


def mean_ranks(errors: Sequence[Sequence[float]]) -> list[float]:
    """Return for each of N rows of errors its rank in the mean over the columns; 1 is the best, ties share theirs."""
    ranks = [0.0] * len(errors)
    for column in zip(*errors, strict=True):
        for index, error in enumerate(column):
            below, same = sum(other < error for other in column), sum(other == error for other in column)
            ranks[index] += (below + (same + 1) / 2) / len(errors[0])
    return ranks


def ranking(errors: Sequence[Sequence[float]], sizes: Sequence[int]) -> list[int]:
    """Return the rows from the best to the worst: by their mean rank, then by size, then by their place."""
    ranks = mean_ranks(errors)
    return sorted(range(len(errors)), key=lambda index: (ranks[index], sizes[index], index))
