"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    run_dir: str
    steps: int
    wall_seconds: float
    steps_per_second: float | None
    mean_return: float | None
    success_rate: float | None
    eval_return: float | None = None  # Of the last evaluation.
    eval_actions: str = "likeliest"  # How it chose its actions, or sampled.
    best_return: float | None = None  # Of the best one.
    best_step: int | None = None
    interrupted: bool = False
    complete: bool = True  # Whether all steps were taken, and what was due after the last.
