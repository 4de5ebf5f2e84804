"""Which readout: by its name, or by whether there is a teacher."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from rlstm.evolution.readouts import Readout, least_squares, ridge, svm

__all__ = ["Solver", "choose_readout", "solver"]

Solver = Callable[[Tensor, Tensor, Tensor], Readout]
"""From features (P, R, H), targets (R, Y) and weights (R,) to readouts."""


def solver(name: str, ridge_strength: float) -> Solver:
    """Return the rule by which readouts called ``name`` are solved: lstsq, ridge, svm or rwr."""
    solvers: dict[str, Solver] = {
        "lstsq": least_squares,
        "ridge": partial(ridge, strength=ridge_strength),
        "rwr": partial(ridge, strength=ridge_strength),
        "svm": svm,
    }
    return solvers[name]


def choose_readout(name: str, *, has_teacher: bool, teacher_forces: bool) -> str:
    """Return how readouts come about.

    Args:
        name: What is asked for.
        has_teacher: Whether there are targets.
        teacher_forces: Whether the env can force the teacher's answers on what is seen.

    Raises:
        ValueError: If what is asked for needs a teacher that isn't there, or none.
    """
    if name in ("lstsq", "ridge", "svm") and not has_teacher:
        raise ValueError(
            f"readout is '{name}', which needs a teacher, but no step of the env asks anything by info['target'] (NaN, "
            "classes below 0 and what is no number ask nothing), and no demonstrations are given. Use --readout joint, "
            "or --demonstrations FILE (rlstm record)."
        )
    automatic = ("lstsq" if teacher_forces else "ridge") if has_teacher else "joint"
    if name == "rwr" and has_teacher:
        raise ValueError(
            "readout is 'rwr', which learns from its own best episodes, but the env has a teacher: info['target']. "
            f"Leave readout out, and '{automatic}' is used."
        )
    return automatic if name == "auto" else name
