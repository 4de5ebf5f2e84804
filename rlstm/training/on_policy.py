"""Training: everything that a run consists of, its state for an exact resume, and the one loop.

``Training`` is the place where an experiment's parts meet. ``run`` is the loop: collect, update, evaluate when due,
log, save when due.
"""

from __future__ import annotations

import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from gymnasium.envs.registration import EnvSpec

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.interrupts import interruptible
from rlstm.core.seeding import generator, integer_seeds
from rlstm.core.threads import SpeedWatch, ThreadChoice, thread_limit
from rlstm.evaluation.evaluate import EvaluationResult
from rlstm.inspection.diagnostics import Sample, gradient_metrics, memory_metrics, sample_of
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.collect import CollectorState, start
from rlstm.rollouts.rollout import Rollout
from rlstm.rollouts.statistics import EpisodeStatistics
from rlstm.training.checkpoints import list_checkpoints
from rlstm.training.config import ConfigError, ExperimentConfig
from rlstm.training.curriculum import Curriculum
from rlstm.training.loggers import LoggerGroup, write_curves
from rlstm.training.progress import Progress
from rlstm.training.rehearsal import measured_choice
from rlstm.training.run import Agent, Run, TrainResult, make_policy
from rlstm.training.run_directory import RunDirectory
from rlstm.vector.adapter import VectorEnvs

_DIAGNOSED_EVERY = 32  # Updates from one look into the memory to the next: it takes a third of a small update.

_FAILURES = (EnvironmentFailure, ConfigError)  # Of an update: settings may not fit what the env does later.

_CLIPPED_UPDATES = 10  # In a row with most actions on a bound, before it is said.


class OnPolicyAgent(Agent, Protocol):
    """What the loop of updates needs of an agent: PPO, REINFORCE, and the random one.

    Args:
        policy: What is trained.
        config: The agent's own constants.
        num_envs: Envs B of every rollout.
        total_steps: Environment steps of the run, for schedules.
        generator: Draws what the agent draws, minibatches for instance.
    """

    policy: RecurrentPolicy
    config: Any
    begins_anew: bool  # Whether every rollout resets all envs, so that a checkpoint need not hold theirs.
    reads_onward: bool  # Whether it learns from what the steps of a rollout led to, beside their rewards.

    def __init__(
        self, policy: RecurrentPolicy, config: Any, *, num_envs: int, total_steps: int, generator: torch.Generator
    ) -> None: ...

    def collect(self, envs: VectorEnvs, collector_state: CollectorState) -> Rollout:
        """Play one rollout, from where the envs stand."""

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Train on one rollout; returns metrics by metric name."""

    def refresh(self, rollout: Rollout, collector_state: CollectorState) -> dict[str, float]:
        """Bring the carried state up to the present weights; returns metrics by metric name."""

    def begin(self) -> None:
        """Forget what is carried from rollout to rollout for each env: all are reset."""


class Training(Run):
    """A run of an on-policy agent: its envs, and where they stand.

    Raises:
        ValueError: If the configuration makes no sense for this env.
        EnvironmentFailure: If the env can't be made.
    """

    def __init__(self, config: ExperimentConfig[Any], agent_type: type[Any], spec: EnvSpec) -> None:
        super().__init__(config, agent_type, spec)
        seed, num_envs = config.run.seed, config.env.num_envs
        self._seeds = integer_seeds(seed, "envs", num_envs)
        self.curriculum = Curriculum(config, spec)
        self.curriculum_text = self.curriculum.text
        self.news += self.curriculum.warnings
        self.envs = self.curriculum.make_envs()
        if self.envs.state_fault is not None:
            self.news.append(f"{self.envs.state_fault}. A resumed run begins new episodes.")
        with ExitStack() as on_failure:
            on_failure.callback(self.envs.close)
            self.policy = make_policy(config, self.envs.observation_space, self.envs.action_space, self.device)
            self._sequence_path = self.policy.sequence_path  # Refused, where it can't run, before anything is written.
            self.agent: OnPolicyAgent = agent_type(
                self.policy,
                config.algorithm,
                num_envs=num_envs,
                total_steps=config.run.total_steps,
                generator=generator(seed, "minibatches"),
            )
            outcomes = self.curriculum.most_episodes
            statistics = EpisodeStatistics(num_envs, log_info=self.envs.log_info, num_outcomes=outcomes)
            self.collector_state = start(self.policy, self.envs, self._seeds, statistics)
            if config.run.eval_env == "same" and not self.agent.begins_anew and self.envs.get_state() is None:
                raise ConfigError(
                    "eval_env is 'same', but the envs can't be put back to where they were, since they lack get_state "
                    "and set_state: use own, or none."
                )
            on_failure.pop_all()
        self._speed = SpeedWatch()
        self._mostly_clipped = 0  # Updates in a row.
        self._sample: Sample | None = None  # Of the last rollout.
        self._infos_told = not config.env.log_info

    def close(self) -> None:
        """Close the envs."""
        self.envs.close()

    @property
    def _statistics(self) -> EpisodeStatistics:
        return self.collector_state.statistics

    @contextmanager
    def evaluation_envs(self, episodes: int) -> Iterator[VectorEnvs]:
        """Give the envs of an evaluation; those of the training are put back, with memories, to where they were."""
        if self.config.run.eval_env != "same":
            with super().evaluation_envs(episodes) as envs:
                yield envs
            return
        envs_then, carried = copy.deepcopy((self.envs.get_state(), self.collector_state.state_dict()))
        try:
            yield self.envs
        finally:
            if not self.agent.begins_anew:
                self.envs.set_state(envs_then, self._seeds)
                self.collector_state.load_state_dict(carried)

    def update(self) -> tuple[dict[str, float], dict[str, float]]:
        """Collect one rollout and learn from it; returns metrics by name and seconds by phase."""
        began = time.perf_counter()
        if passed := self.curriculum.pass_stage(self._statistics.outcomes, self.step):
            self.news.append(passed)
            self._begin_stage()
        rollout = self.agent.collect(self.envs, self.collector_state)
        num_steps = int(rollout.valid.sum())
        collected = time.perf_counter()
        metrics = self.agent.update(rollout)
        metrics |= self.agent.refresh(rollout, self.collector_state)
        updated = time.perf_counter()
        metrics |= self._statistics.metrics(trials=self.config.memory.episodes_per_trial is not None)
        metrics |= self.count(num_steps, updated - began) | self.curriculum.metrics()
        if complaint := self.curriculum.complaint(self._statistics.outcomes):
            self.news.append(complaint)
        self._tell_of_unknown_infos(metrics)
        self._sample = sample_of(rollout)
        if (self.num_updates - 1) % _DIAGNOSED_EVERY == 0:
            metrics |= memory_metrics(self.policy, self._sample)
        metrics["recurrent/resets_per_step"] = float(rollout.is_first[rollout.valid].float().mean())
        if self.policy.distribution.clips:
            share = float(self.policy.distribution.clipped_share(rollout.actions)[rollout.valid].mean())
            metrics["rollout/clipped_actions"] = share
            self._tell_of_clipped_actions(share)
        return metrics, {"collect": collected - began, "update": updated - collected}

    def _begin_stage(self) -> None:
        """Train in the envs of the present stage from here on: episodes, memories and what is seen begin anew."""
        self.envs.close()
        self.envs = self.curriculum.make_envs()
        seeds = integer_seeds(self.config.run.seed, "envs", self.envs.num_envs, self.curriculum.number)
        self._statistics.begin_stage()
        self.collector_state = start(self.policy, self.envs, seeds, self._statistics)
        self.agent.begin()
        self._speed = SpeedWatch()

    def _tell_of_unknown_infos(self, metrics: Mapping[str, float]) -> None:
        """Say once if no info has held a number that is to be logged, though episodes have ended."""
        if self._infos_told or "rollout/ep_rew_mean" not in metrics:
            return
        self._infos_told = True
        missing = [name for name in self.config.env.log_info if f"rollout/info/{name}" not in metrics]
        if missing:
            self.news.append(
                f"--log-info names {', '.join(missing)}, but no info has held such a number so far: is it spelt as in "
                "the env's infos?"
            )

    def diagnose(self) -> dict[str, float]:
        """Return what an evaluation tells of the memory: how far back gradients reach."""
        return {} if self._sample is None else gradient_metrics(self.policy, self._sample)

    def _tell_of_clipped_actions(self, share: float) -> None:
        """Say once if most actions have lain on a bound for some updates: what is drawn there makes no difference."""
        self._mostly_clipped = self._mostly_clipped + 1 if share > 0.5 else 0
        if self._mostly_clipped == _CLIPPED_UPDATES:
            self.news.append(
                f"Most actions lie on a bound: {share:.0%} of their numbers, in the last of {_CLIPPED_UPDATES} such "
                "updates. If that isn't meant, try --squash-actions, a smaller --initial-log-std or --scale-actions."
            )

    def measure_threads(self, limit: int) -> ThreadChoice:
        """Choose the number of threads with which updates are fastest, 1 if a GPU computes them."""
        if self.device.type != "cpu":
            return ThreadChoice(1, f"{self.device.type} computes")
        return measured_choice(self, limit)

    def reconsider_threads(self, rate: float, seconds: float) -> str | None:
        """Measure again if several threads were chosen by measuring and speed has fallen for seconds.

        Other programs may compute on the cores by now. From one thread on there is nothing to gain.
        """
        if self.config.run.num_threads or self.threads.count == 1 or not self._speed.has_fallen(rate, seconds):
            return None
        before, best = self.threads.count, self._speed.best
        self._speed = SpeedWatch()
        self._compute_with(self.measure_threads(thread_limit()[0]))
        return (
            f"Speed has fallen to less than half of {best:,.0f} steps/s. Threads were measured again: {before} before,"
            f" now {self.threads}."
        )

    def training_state(self, *, with_episodes: bool) -> dict[str, Any]:
        """Return the agent's state, the envs' and where they stand in their trajectories."""
        return {
            "agent": self.agent.state_dict(),
            "carry": self.collector_state.state_dict() if with_episodes else None,
            "envs": self.envs.get_state() if with_episodes else None,
            "stage": self.curriculum.number,
        }

    def load_training_state(self, values: dict[str, Any]) -> str | None:
        """Load it."""
        carry, envs, note = values["carry"], values["envs"], None
        if (stage := values.get("stage", 1)) != self.curriculum.number:  # New in this version.
            self.curriculum.number = stage
            self._begin_stage()
        self.agent.load_state_dict(values["agent"])
        if carry is not None and envs is not None:
            self.envs.set_state(envs, self._seeds)
            self.collector_state.load_state_dict(carry)
            return None
        if not self.agent.begins_anew:
            # Other seeds than at the start: the same episodes once more would count them twice.
            seeds = integer_seeds(self.config.run.seed + self.step, "envs", self.envs.num_envs)
            self.collector_state = start(self.policy, self.envs, seeds, self._statistics)
            self.agent.begin()
            note = "The env's state is not in the checkpoint: every env begins a new episode with an empty memory."
        if carry is not None:
            self._statistics.load_state_dict(carry["statistics"])
            self._statistics.begin()
        return note

    def recent_metrics(self) -> dict[str, float]:
        """Return the means over the last finished episodes."""
        return self._statistics.metrics(trials=False)

    @property
    def plays_own_env(self) -> bool:
        """Whether all stages of the curriculum are passed."""
        return self.curriculum.is_passed

    def closing_words(self) -> str | None:
        """Return in which stage of the curriculum the run has ended, or None."""
        return self.curriculum.closing_words(self._statistics.outcomes)

    @property
    def has_learnt(self) -> bool:
        """Whether the agent has taken a step that changed its weights: a first rollout may only fill normalisers."""
        return int(getattr(self.agent, "num_updates", self.num_updates)) > 0

    def facts(self) -> dict[str, str]:
        """Return how envs are stepped, sequences run, and where memory and credit end."""
        memory = self.config.memory
        return {
            "envs": self.envs.description,
            "sequence": self._sequence_path,
            "memory": f"lifetime {memory.lifetime}, credit {memory.credit_boundary}",
            **self.curriculum.facts(),
        }


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
            rest = "which is the last" if finished else f"go on with: rlstm resume {directory.path}"
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
        error.add_note(f"All that was learnt up to step {training.step:,} is saved: rlstm resume {directory.path}")
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
