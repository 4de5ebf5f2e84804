"""Nested containers of arrays: observations of Dict and Tuple spaces, and the states of stacked cells.

A *tree* is a leaf, or a dict, tuple, list or NamedTuple of trees. ``None`` is an empty place and stays ``None``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Tree = Any  # A leaf (tensor or array) or a nested dict, tuple, list or NamedTuple of leaves.


def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply ``function`` to every leaf of ``tree`` and the leaves at the same places of ``others``.

    All trees have the same structure, and so has the result.
    """
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: tree_map(function, branch, *(other[key] for other in others)) for key, branch in tree.items()}
    if isinstance(tree, (tuple, list)):
        branches = [
            tree_map(function, branch, *(other[index] for other in others)) for index, branch in enumerate(tree)
        ]
        if hasattr(tree, "_fields"):  # A NamedTuple takes its fields one by one.
            return type(tree)(*branches)
        return type(tree)(branches)
    return function(tree, *others)


def tree_leaves(tree: Tree) -> list[Any]:
    """Return the leaves of ``tree`` from left to right, without the empty places."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in tree_leaves(branch)]
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in tree_leaves(branch)]
    return [tree]
