"""What is known of a trial, whatever keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["waiting", "running", "done", "pruned", "failed", "died"]


@dataclass(frozen=True)
class Record:
    """A trial of the search, or a run of the final round."""

    number: int
    outcome: Outcome
    """Failed: its settings can't be trained with. Died: its process did, so it is run again."""

    value: float | None = None
    """Mean return of its last evaluation."""

    values: dict[str, Any] = field(default_factory=dict)
    """The searched settings."""

    seed: int | None = None
    steps: int = 0
    """Environment steps taken; of one that is running, those planned."""

    seconds: float = 0.0
    """Wall time of play and learning."""

    reason: str | None = None
    """Why it failed."""

    is_start: bool = False
    """Whether its settings are those that the search begins with."""

    attempt: int = 1
    """How often it was begun, with this one."""

    candidate: int | None = None
    """Of a run of the final round: the trial whose settings it has, or None for those the search begins with."""
