"""How seeds end: what is known of each while processes come and go, and what is said over all. Free of torch."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rlstm.core.statistics import interquartile_mean
from rlstm.training.seed_processes import Ended
from rlstm.training.seeds_folder import SeedsFolder

if TYPE_CHECKING:
    from rlstm.training.seeds_table import Row, SeedsDisplay

_COMPARED = ("mean_return", "success_rate", "eval_return", "best_return", "steps_per_second")
"""What is summarised over seeds."""


@dataclass(frozen=True)
class SeedResult:
    """How one seed ended; what is unknown is None."""

    seed: int
    state: str  # done, failed, stopped or waiting, if it never began.
    run_dir: str
    error: str | None = None  # Why it failed.
    steps: int = 0
    wall_seconds: float | None = None
    steps_per_second: float | None = None
    mean_return: float | None = None
    success_rate: float | None = None
    eval_return: float | None = None
    eval_actions: str | None = None
    best_return: float | None = None
    best_step: int | None = None


@dataclass(frozen=True)
class SeedsResult:
    """How many seeds ended."""

    run_dir: str  # The folder of all.
    seeds: tuple[SeedResult, ...]
    interrupted: bool = False
    import_words: str = ""  # What the command that goes on says of modules.

    def of_state(self, state: str) -> tuple[SeedResult, ...]:
        """Return the seeds that are done, failed, stopped or waiting."""
        return tuple(one for one in self.seeds if one.state == state)

    @property
    def complete(self) -> bool:
        """Whether all seeds are done."""
        return len(self.of_state("done")) == len(self.seeds)

    def over_seeds(self) -> dict[str, dict[str, float | None]]:
        """Return by name the mean and the interquartile mean over the seeds that are done, None where one lacks it."""
        found: dict[str, dict[str, float | None]] = {}
        for name in _COMPARED:
            values = [getattr(one, name) for one in self.of_state("done")]
            known = bool(values) and None not in values
            mean, iqm = (float(np.mean(values)), float(interquartile_mean(np.array(values)))) if known else (None, None)
            found[name] = {"mean": mean, "iqm": iqm}
        return found


class Watch:
    """What is known about every seed while processes come and go."""

    def __init__(self, folder: SeedsFolder, tasks: Mapping[int, dict[str, Any]], display: SeedsDisplay) -> None:
        from rlstm.training.seeds_table import ProgressTail, Row

        self._folder, self._display = folder, display
        self._tails = {seed: ProgressTail(folder.seed_path(seed) / "progress.csv") for seed in folder.seeds}
        self._answers: dict[int, dict[str, Any]] = {}
        self._rows: dict[int, Row] = {}
        for seed in folder.seeds:
            given = tasks[seed]["total_steps"] if seed in tasks else None
            row = Row(seed, "waiting" if seed in tasks else "done", total_steps=given or folder.total_steps(seed))
            self._tails[seed].update(row)
            self._rows[seed] = row
            if seed not in tasks:
                self._answers[seed] = folder.result(seed) or {}

    def look(self) -> None:
        """Read what is new and show it."""
        for seed, row in self._rows.items():
            if row.state == "training":
                self._tails[seed].update(row)
        self._display.show(list(self._rows.values()))

    def began(self, seed: int) -> None:
        """Note that a process was started."""
        self._rows[seed].state = "training"

    def asked(self, signals: int) -> None:
        """Say what a signal does."""
        ways = ("each seed finishes its update and saves; once more stops them at once", "at once, without saving")
        self._display.message(f"Stopping: {ways[min(signals, len(ways)) - 1]}.")

    def ended(self, end: Ended) -> None:
        """Note how a process ended."""
        row = self._rows[end.seed]
        self._tails[end.seed].update(row)
        row.error = end.error
        row.state = "failed" if end.error is not None else "stopped" if end.stopped else "done"
        if (
            end.stopped and (self._folder.step(end.seed) or 0) >= row.total_steps
        ):  # The signal came after the last step.
            row.state = "done"
        if not end.answer:
            return
        self._answers[end.seed] = end.answer
        with contextlib.suppress(OSError):  # The seed's own folder tells it too.
            self._folder.keep_result(end.seed, end.answer)
        for name in ("steps", "steps_per_second", "mean_return", "success_rate", "eval_return"):
            setattr(row, name, end.answer.get(name))

    def result(self, seed: int) -> SeedResult:
        """Return how a seed ended."""
        row, answer = self._rows[seed], self._answers.get(seed, {})
        names = [field.name for field in dataclasses.fields(SeedResult)][4:]
        known: dict[str, Any] = {name: getattr(row, name, None) for name in names}
        known |= {name: answer[name] for name in names if answer.get(name) is not None}
        path = str(self._folder.seed_path(seed))
        return SeedResult(seed, row.state, path, row.error, **known)
