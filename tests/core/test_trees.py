"""Claims about `rlstm.core.trees`: maps and leaves keep the structure, the types and the order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from rlstm.core.trees import tree_leaves, tree_map


class Pair(NamedTuple):
    left: Any
    right: Any


class Nothing(NamedTuple):
    pass


TREE = {"b": [1, (2, None)], "a": Pair(3, {"z": 4, "y": []}), "n": Nothing()}


def test_a_map_keeps_structure_types_and_empty_places() -> None:
    mapped = tree_map(lambda leaf: leaf * 10, TREE)
    assert mapped == {"b": [10, (20, None)], "a": Pair(30, {"z": 40, "y": []}), "n": Nothing()}
    assert isinstance(mapped["a"], Pair)
    assert isinstance(mapped["n"], Nothing)
    assert isinstance(mapped["b"], list)
    assert isinstance(mapped["b"][1], tuple)
    assert list(mapped) == ["b", "a", "n"]
    assert TREE["b"] == [1, (2, None)]


def test_several_trees_are_mapped_leaf_by_leaf_at_the_same_places() -> None:
    other = {"a": Pair(30, {"y": [], "z": 40}), "n": Nothing(), "b": [10, (20, None)]}  # Keys in another order.
    assert tree_map(lambda *leaves: leaves, TREE, other, TREE) == {
        "b": [(1, 10, 1), ((2, 20, 2), None)],
        "a": Pair((3, 30, 3), {"z": (4, 40, 4), "y": []}),
        "n": Nothing(),
    }


def test_leaves_come_from_left_to_right_without_empty_places() -> None:
    assert tree_leaves(TREE) == [1, 2, 3, 4]
    assert tree_leaves(None) == []
    assert tree_leaves(()) == []
    assert tree_leaves(5) == [5]


def test_leaves_are_in_the_order_in_which_a_map_visits_them() -> None:
    visited: list[int] = []
    tree_map(visited.append, TREE)
    assert visited == tree_leaves(TREE)


@pytest.mark.parametrize("leaf", [np.zeros((2, 3)), torch.zeros(2, 3), np.float32(1), 1.5, "text"], ids=type)
def test_arrays_tensors_and_numbers_are_leaves(leaf: Any) -> None:
    assert tree_leaves((leaf,))[0] is leaf
    assert tree_map(lambda value: value, {"a": leaf})["a"] is leaf


def test_a_place_that_one_tree_lacks_is_an_error() -> None:
    with pytest.raises(KeyError):
        tree_map(lambda a, b: a, {"a": 1}, {"b": 1})
    with pytest.raises(IndexError):
        tree_map(lambda a, b: a, [1, 2], [1])
