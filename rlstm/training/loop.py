"""The one loop of training: update, evaluate when due, log, save when due; for every agent, whatever an update is."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.interrupts import interruptible
from rlstm.evaluation.evaluate import EvaluationResult
from rlstm.training.checkpoints import list_checkpoints
from rlstm.training.config import ConfigError
from rlstm.training.generators import global_generators, set_global_generators
from rlstm.training.hints import run_words
from rlstm.training.loggers import LoggerGroup, write_curves
from rlstm.training.progress import Progress
from rlstm.training.result import TrainResult
from rlstm.training.run import OpenUpdate, Run
from rlstm.training.run_directory import RunDirectory, disk_errors

_FAILURES = (EnvironmentFailure, ConfigError)  # Of an update: settings may not fit what the env does later.

OnEvaluation = Callable[[int, Mapping[str, float | None]], Any]
"""Is called with the step and all metrics by name after an evaluation; returns False to end the run."""


def run(
    training: Run,
    directory: RunDirectory,
    logger: LoggerGroup,
    progress: Progress,
    on_evaluation: OnEvaluation | None = None,
) -> TrainResult:
    """Train until the total of steps is reached, Ctrl-C asks to stop, or ``on_evaluation`` returns False.

    Ranks go through it together: each updates, rank 0 alone evaluates, logs and writes, and what it decides the others
    are told. An update that was not finished when the run was stopped is finished first: its evaluation played, its row
    logged.

    Raises:
        EnvironmentFailure: If an env breaks; the weights of the last update are saved first.
        NonFiniteError: If something is not finite; the last checkpoint stays.
        CheckpointError, RunDirectoryError: If something can't be written; the last checkpoint stays.
    """
    config, ranks = training.config.run, training.ranks
    evaluate_every, save_every = config.interval(config.eval_every), config.interval(config.checkpoint_every)
    phases: dict[str, float] = defaultdict(float)
    with interruptible() as interrupt:

        def is_asked() -> bool:
            return ranks.any(interrupt.requested())

        _tell_news(training, progress)
        if training.step == 0:
            training.save(directory)
        ended, finished, before = False, False, training.step
        evaluations = len(directory.read_evaluations()["timesteps"]) if ranks.leads else 0  # Before, if it goes on.
        while not _is_done(training) and not is_asked() and not ended:
            before, iteration_began = training.step, time.perf_counter()
            seconds: dict[str, float] = {}
            goes_on = training.open_update is not None
            if training.open_update is None:
                with _saving_weights_on_failure(training, directory, with_episodes=False, of=_FAILURES):
                    metrics, seconds = training.update()
                is_due = training.step >= config.total_steps or _due(evaluate_every, before, training.step)
                is_due = is_due and config.evaluates
                # What is measured now needs the rollout, which no checkpoint keeps.
                training.open_update = OpenUpdate(metrics | (training.diagnose() if is_due else {}), is_due)
                if is_asked():
                    training.save(directory)  # At once: nothing is lost if the user won't wait for the evaluation.
            finished = training.step >= config.total_steps
            values: dict[str, float | None] = dict(training.open_update.metrics)
            best = False
            if training.open_update.evaluation_is_due:
                began, signals = time.perf_counter(), interrupt.count

                def is_asked_to_stop(signals: int = signals) -> bool:
                    return interrupt.count > signals  # One before is for the run: what is due is played.

                if ranks.leads:
                    with _saving_weights_on_failure(training, directory, with_episodes=True):
                        best = _evaluate(training, directory, values, is_asked_to_stop)
                    evaluations += 1
                    if training.films(evaluations, finished) and not is_asked_to_stop():
                        training.film(logger.log_film)
                best = ranks.share(best)
                if ranks.share(is_asked_to_stop() and "eval/mean_reward" not in values):
                    training.save(directory)  # A resumed run begins with this evaluation.
                    break
                phases["evaluate"] += time.perf_counter() - began
            with disk_errors(directory.path):
                logger.log(values, training.step)
            training.open_update = None
            training.seconds += time.perf_counter() - iteration_began
            if best or finished or goes_on or is_asked() or _due(save_every, before, training.step):
                with disk_errors(directory.path):
                    logger.flush()
                training.save(directory)
            if on_evaluation is not None:
                if "eval/mean_reward" in values:
                    with _saving_weights_on_failure(training, directory, with_episodes=True, of=Exception):
                        ended = on_evaluation(training.step, dict(values)) is False
                ended = ranks.share(ended)
                if ended and not finished:
                    training.save(directory)
                    progress.message(f"Ended by on_evaluation at step {training.step}.")
            for phase, duration in seconds.items():
                phases[phase] += duration
            progress.update(training.step, values, phases)
            if seconds and (news := training.reconsider_threads(metrics["time/fps"], sum(seconds.values()))):
                training.news.append(news)
            _tell_news(training, progress)
        stopped = is_asked()
        _tell_end(training, directory, progress, before, stopped=stopped)
    return training.result(interrupted=stopped)


def _is_done(training: Run) -> bool:
    return training.step >= training.config.run.total_steps and training.open_update is None


def _tell_end(training: Run, directory: RunDirectory, progress: Progress, before: int, *, stopped: bool) -> None:
    """Say how the run ended, and by how much it took more steps than it should."""
    total = training.config.run.total_steps
    if not stopped and (told := training.closing_words()):
        progress.message(told)
    if training.step > 1.1 * total:
        progress.message(
            f"The run took {training.step:,} steps instead of {total:,}: it ends with the update that reaches them, "
            f"and the last one took {training.step - before:,}."
        )
    if stopped:
        words = run_words(directory, training.config.env)
        rest = "which is the last" if _is_done(training) else f"go on with: rlstm resume {words}"
        progress.message(f"Stopped at step {training.step}; {rest}")


def _tell_news(training: Run, progress: Progress) -> None:
    while training.news:
        progress.message(training.news.pop(0))


@contextmanager
def _saving_weights_on_failure(
    training: Run,
    directory: RunDirectory,
    *,
    with_episodes: bool,
    of: type[Exception] | tuple[type[Exception], ...] = EnvironmentFailure,
) -> Iterator[None]:
    """Save the weights of the last update on an error: if an env breaks, by default.

    A rank that fails can't save what the others hold: the last checkpoint stays.
    """
    try:
        yield
    except of as error:
        if not training.ranks.is_alone:
            error.add_note(f"It was rank {training.ranks.rank} of {training.ranks.count}; the last checkpoint stays.")
            raise
        if training.step not in list_checkpoints(directory):
            training.save(directory, with_episodes=with_episodes)
        words = run_words(directory, training.config.env)
        error.add_note(f"All that was learnt up to step {training.step:,} is saved: rlstm resume {words}")
        raise


def _due(every: int, before: int, now: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, now]."""
    return every > 0 and now // every > before // every


def _gap(training: Run, result: EvaluationResult) -> str | None:
    """Return that the likeliest actions are much worse than those sampled in training, or None."""
    config, sampled = training.config, training.recent_metrics().get("rollout/ep_rew_mean")
    if (
        sampled is None
        or not training.plays_own_env
        or config.algorithm.acts_by != "sampled"
        or training.eval_actions != "likeliest"
    ):
        return None
    error = float(result.returns.std()) / math.sqrt(len(result.returns))
    if sampled - result.mean_return <= max(3 * error, 0.1 * abs(sampled)):
        return None
    return (
        f"The likeliest actions reach {result.mean_return:.4g} in evaluation, those sampled in training "
        f"{sampled:.4g}: a policy that is unsure may wait for ever where it takes the likeliest. Compare with "
        "'rlstm evaluate --actions sampled'; --eval-actions sampled evaluates checkpoints so."
    )


def _evaluate(training: Run, directory: RunDirectory, metrics: dict[str, Any], should_stop: Callable[[], bool]) -> bool:
    """Evaluate, record, and return whether it was the best so far; if it shall stop, do neither."""
    generators, result = global_generators(), None
    try:
        result = training.evaluate(should_stop)
    finally:
        if result is None:
            set_global_generators(generators)  # It may be played again, from here.
    if result is None:
        return False
    with disk_errors(directory.path):
        directory.append_evaluation(training.step, result.returns.tolist(), result.lengths.tolist())
        if curves := result.trial_curves():
            write_curves(directory.trial_curve_path(training.step), curves)
    metrics |= result.metrics()
    if result.cut.any():
        training.news.append(
            f"{result.cut.sum()} of {len(result.cut)} episodes of the evaluation had not ended after "
            f"{result.lengths[result.cut].max():,} steps and count as they stand (--eval-max-steps)."
        )
    training.eval_return = result.mean_return
    if training.step >= training.config.run.total_steps and (told := _gap(training, result)):
        training.news.append(told)
    if not training.has_learnt or result.mean_return < training.best_return:
        return False
    training.best_return, training.best_step = result.mean_return, training.step  # Of equals the latest.
    return True


def summary(training: Run, directory: RunDirectory) -> Mapping[str, str]:
    """Return what a display shows of a run before it begins."""
    config, policy = training.config, training.config.policy
    height = f" x {policy.num_layers}" if policy.num_layers > 1 else ""
    facts = training.facts()
    return {
        "agent": config.agent,
        "env": "+".join((config.env.env, *config.env.env_wrappers)),
        "envs": facts.pop("envs"),
        **({"images": "; ".join(images)} if (images := training.policy.actor.encoder.images) else {}),
        "cell": f"{policy.cell} {policy.hidden_size}{height}",
        **facts,
        "device": training.device_reason,
        "threads": str(training.threads),
        "run": str(directory.path),
    }
