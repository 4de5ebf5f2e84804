"""What one process does for a study: it plays trials, then runs of the final round, until none is left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rlstm.api.experiments import train_config
from rlstm.api.tuning.plan import Plan
from rlstm.api.tuning.study import Job, SharedStudy
from rlstm.core.number_text import number
from rlstm.training.result import TrainResult

Tell = Callable[[str], None]

_PAUSE = 0.5  # Seconds between two looks at what others play.


def work(plan: Plan, folder: Path, tell: Tell) -> SharedStudy:
    """Play what there is to play, until the study is finished.

    Args:
        plan: The plan.
        folder: The folder of the study.
        tell: Is called with a line for every trial.

    Raises:
        KeyboardInterrupt: If Ctrl-C was pressed; the trial is given back first.
    """
    study = SharedStudy(folder, plan)
    waiting = False
    while True:
        job = study.next_job()
        if job is True:
            return study
        if isinstance(job, Job):
            waiting = False
            with study.claims.kept(job.claim):
                _play(study, job, tell)
            continue
        if not waiting:
            tell("waiting for what other processes play ...")
        waiting = True
        time.sleep(_PAUSE)


def _play(study: SharedStudy, job: Job, tell: Tell) -> None:
    """Play a trial, and tell the study and the user how it went."""
    began, judged = time.perf_counter(), _Judge(study, job)
    try:
        record = job.record
        config = study.plan.experiment(record.values, record.seed or 0, job.run_dir, final=job.is_final)
        result = train_config(config, ui="none", on_evaluation=judged)
        if result.interrupted and not result.complete:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        study.give_back(job)
        raise
    except Exception as error:  # Whatever settings or an env do to one trial, the others go on.
        reason = f"{type(error).__name__}: {error}"
        counts = study.finish(job, None, judged.step, reason=reason)
        told = f"failed: {reason}"
    else:
        counts, told = _finish(study, job, judged, result)
    if not counts:
        told = "doesn't count: another process took it for abandoned"
    tell(f"{_name(job)}: {told}; {number(time.perf_counter() - began)} s")


def _finish(study: SharedStudy, job: Job, judged: _Judge, result: TrainResult) -> tuple[bool, str]:
    """Return whether the trial counts, and what to say of it."""
    value, steps, seconds = result.eval_return, result.steps, result.wall_seconds
    if judged.is_pruned:
        return study.finish(job, None, steps, seconds=seconds), f"pruned at step {number(steps)} with {number(value)}"
    if value is None or not math.isfinite(value):
        reason = "nothing was evaluated" if value is None else f"the evaluation's mean return is {value}"
        return study.finish(job, None, steps, reason=reason, seconds=seconds), f"failed: {reason}"
    counts = study.finish(job, value, steps, seconds=seconds)
    return counts, f"{number(value)} after {number(steps)} steps"


def _name(job: Job) -> str:
    if not job.is_final:
        again = "" if job.record.attempt == 1 else f", attempt {job.record.attempt}"
        return f"trial {job.record.number}{again}{' (start)' if job.record.is_start else ''}"
    whose = "start" if job.record.candidate is None else f"trial {job.record.candidate}"
    return f"final round, {whose}, seed {job.record.seed}"


class _Judge:
    """Tells the study of every evaluation, and ends a trial that is to be pruned."""

    def __init__(self, study: SharedStudy, job: Job) -> None:
        self._study, self._job = study, job
        self.is_pruned = False
        self.step = 0

    def __call__(self, step: int, metrics: Mapping[str, float | None]) -> bool:
        self.step = step
        value, plan = metrics["eval/mean_reward"], self._study.plan
        if self._job.is_final or step >= plan.steps or value is None or not math.isfinite(value):
            return True
        # Trials are compared at the same share of their steps, wherever their rollouts end.
        index = step * plan.options.evaluations // plan.steps
        self.is_pruned = self._study.report(self._job, index, value)
        return not self.is_pruned
