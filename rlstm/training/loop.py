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
from rlstm.training.hints import run_words
from rlstm.training.loggers import LoggerGroup, write_curves
from rlstm.training.progress import Progress
from rlstm.training.run import Run, TrainResult
from rlstm.training.run_directory import RunDirectory

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

    Raises:
        EnvironmentFailure: If an env breaks; the weights of the last update are saved first.
        NonFiniteError: If something is not finite; the last checkpoint stays.
    """
    config = training.config.run
    evaluate_every, save_every = config.interval(config.eval_every), config.interval(config.checkpoint_every)
    phases: dict[str, float] = defaultdict(float)
    with interruptible() as interrupt:
        _tell_news(training, progress)
        if training.step == 0:
            training.save(directory)
        ended, finished, before = False, False, training.step
        evaluations = training.step // evaluate_every if evaluate_every else 0  # Before, if the run goes on.
        while training.step < config.total_steps and not interrupt.requested() and not ended:
            before, iteration_began = training.step, time.perf_counter()
            with _saving_weights_on_failure(training, directory, with_episodes=False, of=_FAILURES):
                metrics, seconds = training.update()
            finished = training.step >= config.total_steps
            values: dict[str, float | None] = dict(metrics)
            best = False
            if interrupt.requested():
                training.save(directory)  # At once: nothing is lost if the user won't wait for the evaluation.
            if config.evaluates and (finished or _due(evaluate_every, before, training.step)):
                began, signals = time.perf_counter(), interrupt.count

                def is_asked_to_stop(signals: int = signals) -> bool:
                    return interrupt.count > signals  # One before is for the run: what is due is played.

                with _saving_weights_on_failure(training, directory, with_episodes=True):
                    best = _evaluate(training, directory, values, is_asked_to_stop)
                evaluations += 1
                if training.films(evaluations, finished) and not is_asked_to_stop():
                    training.film(logger.log_film)
                phases["evaluate"] += time.perf_counter() - began
            logger.log(values, training.step)
            training.seconds += time.perf_counter() - iteration_began
            if best or finished or interrupt.requested() or _due(save_every, before, training.step):
                logger.flush()
                training.save(directory, best=best)
            if on_evaluation is not None and "eval/mean_reward" in values:
                with _saving_weights_on_failure(training, directory, with_episodes=True, of=Exception):
                    ended = on_evaluation(training.step, dict(values)) is False
                if ended and not finished:
                    training.save(directory, best=best)
                    progress.message(f"Ended by on_evaluation at step {training.step}.")
            for phase, duration in seconds.items():
                phases[phase] += duration
            progress.update(training.step, values, phases)
            if news := training.reconsider_threads(metrics["time/fps"], sum(seconds.values())):
                training.news.append(news)
            _tell_news(training, progress)
        if not interrupt.requested() and (told := training.closing_words()):
            progress.message(told)
        if training.step > 1.1 * config.total_steps:
            progress.message(
                f"The run took {training.step:,} steps instead of {config.total_steps:,}: it ends with the update that "
                f"reaches them, and the last one took {training.step - before:,}."
            )
        if interrupt.requested():
            words = run_words(directory, training.config.env)
            rest = "which is the last" if finished else f"go on with: rlstm resume {words}"
            progress.message(f"Stopped at step {training.step}; {rest}")
    return training.result(interrupted=interrupt.requested())


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
    """Save the weights of the last update on an error: if an env breaks, by default."""
    try:
        yield
    except of as error:
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
    result = training.evaluate(should_stop)
    if result is None:
        return False
    directory.append_evaluation(training.step, result.returns.tolist(), result.lengths.tolist())
    if curves := result.trial_curves():
        write_curves(directory.trial_curve_path(training.step), curves)
    metrics |= {**result.metrics(), **training.diagnose()}
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
