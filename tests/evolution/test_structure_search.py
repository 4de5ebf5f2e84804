"""Claims about `rlstm.evolution.cell_graphs.search`: who is asked for, who is best, and that nothing else decides."""

from __future__ import annotations

import math

import pytest

from rlstm.core.cell_graphs import lstm_graph
from rlstm.evolution.cell_graphs.canonical import structure
from rlstm.evolution.cell_graphs.search import Candidate, StructureSearch, mean_ranks, ranking


def errors_of(candidates: list[Candidate]) -> list[tuple[float, float]]:
    """Return errors that prefer small graphs on one task, and few memories on the other."""
    return [(float(len(one.graph.nodes)), float(len(one.graph.state_names))) for one in candidates]


def told(generations: int, seed: int = 0) -> StructureSearch:
    search = StructureSearch(seed, parents=2, children=6)
    for _ in range(generations):
        asked = search.ask()
        search.tell(asked, errors_of(asked))
    return search


def test_the_first_structure_is_the_lstm_and_generations_are_of_children():
    search = StructureSearch(0, children=6)
    (first,) = search.ask()
    assert (first.number, first.graph, first.parent) == (0, lstm_graph(), None)
    search.tell([first], [(1.0,)])
    assert [one.number for one in search.ask()] == list(range(1, 7))


def test_no_structure_is_asked_for_twice():
    structures = [structure(one.graph) for one in told(11).archive]
    assert len(structures) == 61 == len(set(structures))


def test_children_are_changes_of_the_best_parents_alone():
    search = told(4)
    best = ranking(search.errors, [len(one.graph.nodes) for one in search.archive])[:2]
    children = search.ask()
    assert {one.parent for one in children} <= set(best)
    assert all(one.changes for one in children)


def test_a_search_that_is_told_again_what_it_was_told_goes_on_as_it_did():
    search = told(5)
    again = StructureSearch(0, parents=2, children=6)
    for _ in range(3):
        asked = again.ask()
        again.tell(asked, errors_of(asked))
    for _ in range(2):
        asked = again.ask()
        assert asked == again.ask() == search.archive[len(again.archive) : len(again.archive) + len(asked)]
        again.tell(asked, errors_of(asked))
    assert told(3, seed=1).archive != told(3).archive


def test_a_search_gets_nearer_to_what_it_is_told_to_prefer():
    search = told(11)
    sizes = [len(one.graph.nodes) for one in search.archive]
    assert min(sizes) < 8 < sizes[0]


def test_a_rank_is_the_place_on_each_task_and_its_unit_does_not_matter():
    errors = [(1.0, 30.0), (2.0, 20.0), (3.0, 10.0), (2.0, 40.0)]
    assert mean_ranks(errors) == [2.0, 2.25, 2.5, 3.25]  # Of 1 and 3; of 2.5 and 2; of 4 and 1; of 2.5 and 4.
    assert mean_ranks([(one, math.log(other)) for one, other in errors]) == mean_ranks(errors)


def test_a_failed_training_is_last_and_of_equals_the_smaller_is_first():
    assert ranking([(math.inf, 1.0), (5.0, 2.0), (9.0, 3.0)], [1, 9, 9])[0] == 1
    assert mean_ranks([(math.inf,), (1.0,), (math.inf,)]) == [2.5, 1.0, 2.5]
    assert ranking([(1.0,), (1.0,), (1.0,)], [12, 10, 10]) == [1, 2, 0]


def test_errors_that_are_no_numbers_or_not_those_of_all_are_refused():
    search = StructureSearch(0)
    with pytest.raises(ValueError, match="none with NaN"):
        search.tell(search.ask(), [(math.nan,)])
    with pytest.raises(ValueError, match="2 rows of errors for 1 cells"):
        search.tell(search.ask(), [(1.0,), (2.0,)])
