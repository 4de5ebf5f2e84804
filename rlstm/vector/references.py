"""The best returns with and without memory, as envs declare them."""

from __future__ import annotations

from typing import Any

from rlstm.core.number_text import Bound

REFERENCES = ("memoryless_return", "optimal_return")


def references(env: Any) -> dict[str, float | None]:
    """Return what an env, unwrapped, declares as the best returns with and without memory; None if it doesn't.

    They hold for episodes with a newly drawn task: with one that is kept, as in trials, more may be possible.
    """
    values: dict[str, float | None] = dict.fromkeys(REFERENCES)
    for name in REFERENCES:
        reference = getattr(env, name, None)
        value = getattr(reference, "value", reference)
        if isinstance(value, (int, float)):
            values[name] = Bound(value) if getattr(reference, "kind", "exact") == "bound" else float(value)
    return values
