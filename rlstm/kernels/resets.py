"""Where rows of the batch are reset: what every kernel asks of ``is_first`` before it runs."""

from __future__ import annotations

from torch import Tensor

NEVER = -1e30
"""m of a memory that has seen nothing: the logarithm of 0, but finite."""


def check_rows(inputs: Tensor, leaf: Tensor, is_first: Tensor) -> None:
    """Refuse ``is_first`` ``(T, B)`` or a leaf of the state ``(B, ...)`` unless they fit the inputs ``(T, B, ...)``.

    Raises:
        ValueError: With the shapes.
    """
    if is_first.shape != inputs.shape[:2]:
        raise ValueError(
            f"is_first is {tuple(is_first.shape)}, but the inputs have {inputs.shape[0]} steps of {inputs.shape[1]} "
            "rows; it must be (steps, rows)."
        )
    if len(leaf) != inputs.shape[1]:
        raise ValueError(
            f"the state is of {len(leaf)} rows, but the inputs are of {inputs.shape[1]}: use init_state of as many."
        )


def rows_of_resets(is_first: Tensor) -> list[Tensor | None]:
    """Return for each step the indices of the rows that are reset there, ``None`` for none."""
    counts = is_first.sum(1).tolist()
    rows = is_first.nonzero()[:, 1].split(counts)
    return [some if count else None for some, count in zip(rows, counts, strict=True)]
