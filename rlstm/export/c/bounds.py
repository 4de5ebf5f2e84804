"""What numbers may be, in words, for the comments of a header."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlstm.core.arrays import Array

_MOST_LISTED = 16  # Pairs of bounds that a comment lists.


def of_numbers(low: Array, high: Array) -> str:
    """Return the bounds of numbers, each one's own where they differ and are few."""
    pairs = list(zip(low.reshape(-1).tolist(), high.reshape(-1).tolist(), strict=True))
    if len(set(pairs)) <= 1:
        return _range(*pairs[0]) if pairs else "None"
    if len(pairs) <= _MOST_LISTED:
        return "; ".join(f"[{index}] {_range(*pair)}" for index, pair in enumerate(pairs))
    return f"Bounds differ; the widest: {_range(min(a for a, _ in pairs), max(b for _, b in pairs))}"


def _range(low: Any, high: Any) -> str:
    least, most = (str(one) if isinstance(one, int) else f"{one:.6g}" for one in (low, high))
    if np.isinf(low) and np.isinf(high):
        return "any number"
    if np.isinf(high):
        return f"at least {least}"
    return f"at most {most}" if np.isinf(low) else f"{least} to {most}"
