"""The study that processes share: trials in Optuna's journal, taken and given back under one lock.

A folder holds ``study.json`` (what is searched), ``journal.log`` (two studies of Optuna: the search and the final
round), ``alive/`` (claims of the trials that are played), and run directories in ``trials/`` and ``final/``. Trials are
taken, finished and found abandoned under ``turn.lock``, so every trial and every run of the final round is played by
one process, and the number of trials is exact.

A trial whose settings can't be trained with is told to Optuna as pruned without a value, which is the worst that its
sampler knows; one whose process died is told as failed, which its sampler ignores, and is queued again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rlstm.core.errors import missing_extra

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
    from optuna.trial import FrozenTrial, TrialState
except ImportError as error:
    raise missing_extra("A search for settings", "optuna", "tune") from error

from rlstm.api.tuning.claims import Claims
from rlstm.api.tuning.finals import planned_runs
from rlstm.api.tuning.plan import Plan
from rlstm.api.tuning.records import Outcome, Record
from rlstm.core.searched import Choices, Tried, word_of
from rlstm.core.seeding import integer_seeds

_BROKEN_AFTER = 30  # Seconds.
_MOST_DEATHS = 3  # Of processes over one trial.
_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "died",
}


@dataclass(frozen=True)
class Job:
    """A trial to play, claimed by this process."""

    record: Record
    is_final: bool
    run_dir: Path
    claim: str
    trial: optuna.Trial


class SharedStudy:
    """The study of a folder, joined by this process."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.plan, self.folder = plan, folder
        self.claims = Claims(folder / "alive")
        self._lock = _lock(folder / "turn")
        self._distributions = {name: _distribution(tried) for name, tried in plan.space.items()}
        with self._turn():
            journal = folder / "journal.log"
            storage = JournalStorage(JournalFileBackend(str(journal), _lock(journal)))
            options: dict[str, Any] = {"storage": storage, "direction": "maximize", "load_if_exists": True}
            self._search = optuna.create_study(study_name="search", pruner=_pruner(plan), **options)
            self._final = optuna.create_study(study_name="final", **options)
            for name, value in (("trials", plan.trials), ("budget_steps", plan.options.budget_steps)):
                if (value or 0) > (self._search.user_attrs.get(name) or 0):
                    self._search.set_user_attr(name, value)  # The most that any process has asked for.

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        self._lock.acquire()
        try:
            yield
        finally:
            with contextlib.suppress(RuntimeError):  # It was taken from a process that slept through its turn.
                self._lock.release()

    def next_job(self) -> Job | bool:
        """Take what is to be played next; True if all is done, False if that depends on what others play."""
        with self._turn():
            for study in (self._search, self._final):
                self._give_up_abandoned(study)
            trials = self.trials()
            if self._may_begin(trials):
                return self._take_trial(trials)
            if any(one.outcome == "running" for one in trials):
                return False
            if not any(one.outcome == "done" for one in trials):
                return True
            return self._take_final_run(trials)

    def _may_begin(self, trials: Sequence[Record]) -> bool:
        if any(one.outcome == "waiting" for one in trials):
            return True
        attrs = self._search.user_attrs
        most, budget = attrs.get("trials"), attrs.get("budget_steps")
        counted = [one for one in trials if one.outcome != "died"]
        return (most is None or len(counted) < most) and (budget is None or sum(one.steps for one in trials) < budget)

    def _take_trial(self, trials: Sequence[Record]) -> Job:
        if not trials and self.plan.tries_base:
            self._search.enqueue_trial(self._encoded(self.plan.values()), user_attrs={"start": True})
        # Every trial has a sampler of its own seed: what is drawn depends on the trials before it, not on who draws,
        # nor on how often a process was stopped.
        place = sum(one.outcome != "died" for one in trials)
        (seed,) = integer_seeds(self.plan.base.run.seed, "search", 1, place)
        self._search.sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
        trial = self._search.ask(self._distributions)
        if "place" not in trial.user_attrs:
            trial.set_user_attr("place", place)
        seed = self.plan.trial_seed(trial.user_attrs["place"])
        record = replace(self._record(_frozen(self._search, trial)), seed=seed)
        return self._claimed(trial, record, is_final=False)

    def _take_final_run(self, trials: Sequence[Record]) -> Job | bool:
        runs = self.final_runs()
        known = {(one.candidate, one.seed) for one in runs}
        for candidate, seed in planned_runs(self.plan, trials):
            if (candidate, seed) not in known:
                self._final.enqueue_trial({}, user_attrs={"candidate": candidate, "seed": seed})
        runs = self.final_runs()
        if not any(one.outcome == "waiting" for one in runs):
            return not any(one.outcome == "running" for one in runs)
        trial = self._final.ask()
        record = self._record(_frozen(self._final, trial))
        values = {one.number: one.values for one in trials}
        found = self.plan.values() if record.candidate is None else values[record.candidate]
        return self._claimed(trial, replace(record, values=found), is_final=True)

    def _claimed(self, trial: optuna.Trial, record: Record, *, is_final: bool) -> Job:
        name = _claim(trial.study, trial.number)
        self.claims.make(name)
        folder = self.folder / ("final" if is_final else "trials") / f"{trial.number:04d}"
        return Job(record, is_final, folder, name, trial)

    def report(self, job: Job, index: int, value: float) -> bool:
        """Tell the value of an evaluation; returns whether to end the trial."""
        try:
            job.trial.report(value, index)
            return job.trial.should_prune()
        except optuna.exceptions.UpdateFinishedTrialError:  # Others have taken it for abandoned.
            return True

    def finish(
        self, job: Job, value: float | None, steps: int, *, reason: str | None = None, seconds: float = 0.0
    ) -> bool:
        """Tell how a trial ended: with a value, pruned, or for what reason it failed.

        Returns:
            Whether it counts: it does not if others have taken it for abandoned.
        """
        with self._turn():
            try:
                attrs = {"steps": steps, "reason": reason, "seed": job.record.seed, "seconds": seconds}
                for name, attr in attrs.items():
                    job.trial.set_user_attr(name, attr)
                state = TrialState.PRUNED if value is None else TrialState.COMPLETE
                job.trial.study.tell(job.trial, value, state=state)
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                return False
        return True

    def give_back(self, job: Job) -> None:
        """Let another process, or a later one, play a trial again."""
        with self._turn():
            self._queue_again(job.trial.study, _frozen(job.trial.study, job.trial), deaths=0)

    def _give_up_abandoned(self, study: optuna.Study) -> None:
        for one in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            name = _claim(study, one.number)
            age = 0.0 if one.datetime_start is None else (datetime.now() - one.datetime_start).total_seconds()
            if self.claims.abandoned(name, age):
                self._queue_again(study, one, deaths=1)
                self.claims.drop(name)

    def _queue_again(self, study: optuna.Study, one: FrozenTrial, *, deaths: int) -> None:
        attempt = one.user_attrs.get("attempt", 1)
        with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):  # It has finished after all.
            if attempt + deaths > _MOST_DEATHS:
                storage = study._storage
                storage.set_trial_user_attr(one._trial_id, "reason", f"its process died {attempt} times")
                study.tell(one.number, state=TrialState.PRUNED)
                return
            study.tell(one.number, state=TrialState.FAIL)
            attrs = {**one.user_attrs, "attempt": attempt + deaths}
            study.enqueue_trial(dict(one.params), user_attrs=attrs)

    def trials(self) -> list[Record]:
        """Return the trials of the search."""
        return [self._record(one) for one in self._search.get_trials(deepcopy=False)]

    def final_runs(self) -> list[Record]:
        """Return the runs of the final round."""
        return [self._record(one) for one in self._final.get_trials(deepcopy=False)]

    def importances(self) -> dict[str, float]:
        """Return the share of each setting in what set the best trials apart, see ``importances_of``."""
        from rlstm.api.tuning.importances import importances_of

        return importances_of(self._search)

    def _record(self, one: FrozenTrial) -> Record:
        attrs, outcome = one.user_attrs, _OUTCOMES[one.state]
        if outcome == "pruned" and attrs.get("reason"):
            outcome = "failed"
        planned = self.plan.steps if outcome == "running" else 0
        return Record(
            number=one.number,
            outcome=outcome,
            value=one.value if outcome in ("done", "pruned") else None,
            values=self._decoded(one.params),
            seed=attrs.get("seed"),
            steps=attrs.get("steps", planned),
            seconds=attrs.get("seconds", 0.0),
            reason=attrs.get("reason"),
            is_start=attrs.get("start", False),
            attempt=attrs.get("attempt", 1),
            candidate=attrs.get("candidate"),
        )

    def _encoded(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return settings as Optuna keeps them: choices as words."""
        kinds = {name: isinstance(tried, Choices) for name, tried in self.plan.space.items()}
        return {name: word_of(value) if kinds[name] else value for name, value in values.items()}

    def _decoded(self, params: dict[str, Any]) -> dict[str, Any]:
        values = {}
        for name, param in params.items():
            tried = self.plan.space[name]
            words = {word_of(value): value for value in tried.values} if isinstance(tried, Choices) else {}
            values[name] = words.get(param, param)
        return values


def _lock(path: Path) -> JournalFileOpenLock:
    """Return a lock beside a file, which is broken if a process has held it for so long: it was killed.

    Optuna's default is a link to the file, whose age can't be told where the path is relative.
    """
    return JournalFileOpenLock(str(path), grace_period=_BROKEN_AFTER)


def _frozen(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[trial.number]


def _claim(study: optuna.Study, number: int) -> str:
    return f"{study.study_name}-{number:04d}"


def _distribution(tried: Tried) -> BaseDistribution:
    if isinstance(tried, Choices):
        return CategoricalDistribution([word_of(value) for value in tried.values])
    if isinstance(tried.low, int) and isinstance(tried.high, int):
        return IntDistribution(tried.low, tried.high, log=tried.log)
    return FloatDistribution(tried.low, tried.high, log=tried.log)


def _pruner(plan: Plan) -> optuna.pruners.BasePruner:
    if plan.options.pruner == "none":
        return optuna.pruners.NopPruner()
    if plan.options.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return optuna.pruners.MedianPruner(
        n_startup_trials=5, n_warmup_steps=2, n_min_trials=3
    )  # The first one tells little.
