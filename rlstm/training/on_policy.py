"""Training: everything that a run consists of, its state for an exact resume, and the one loop.

``Training`` is the place where an experiment's parts meet. ``run`` is the loop: collect, update, evaluate when due,
log, save when due.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from gymnasium.envs.registration import EnvSpec

from rlstm.core.errors import EnvironmentFailure
from rlstm.core.interrupts import interruptible
from rlstm.core.seeding import generator, integer_seeds
from rlstm.core.threads import SpeedWatch, ThreadChoice, thread_limit
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.collect import CollectorState, start
from rlstm.rollouts.rollout import Rollout
from rlstm.training.checkpoints import list_checkpoints
from rlstm.training.config import ExperimentConfig
from rlstm.training.loggers import LoggerGroup, write_curves
from rlstm.training.progress import Progress
from rlstm.training.rehearsal import measured_choice
from rlstm.training.run import Agent, Run, TrainResult, make_policy
from rlstm.training.run_directory import RunDirectory
from rlstm.vector.adapter import VectorEnvs
from rlstm.vector.make import make


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

    def __init__(
        self, policy: RecurrentPolicy, config: Any, *, num_envs: int, total_steps: int, generator: torch.Generator
    ) -> None: ...

    def collect(self, envs: VectorEnvs, collector_state: CollectorState) -> Rollout:
        """Play one rollout, from where the envs stand."""

    def update(self, rollout: Rollout) -> dict[str, float]:
        """Train on one rollout; returns metrics by metric name."""

    def refresh(self, rollout: Rollout, collector_state: CollectorState) -> dict[str, float]:
        """Bring the carried state up to the present weights; returns metrics by metric name."""


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
        self.envs = make(spec, config.env, config.memory)
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
            self.collector_state = start(self.policy, self.envs, self._seeds)
            on_failure.pop_all()
        self._speed = SpeedWatch()

    def close(self) -> None:
        """Close the envs."""
        self.envs.close()

    def update(self) -> tuple[dict[str, float], dict[str, float]]:
        """Collect one rollout and learn from it; returns metrics by name and seconds by phase."""
        began = time.perf_counter()
        rollout = self.agent.collect(self.envs, self.collector_state)
        num_steps = int(rollout.valid.sum())
        collected = time.perf_counter()
        metrics = self.agent.update(rollout)
        metrics |= self.agent.refresh(rollout, self.collector_state)
        updated = time.perf_counter()
        metrics |= self.collector_state.statistics.metrics(trials=self.config.memory.episodes_per_trial is not None)
        metrics |= self.count(num_steps, updated - began)
        metrics["recurrent/resets_per_step"] = float(rollout.is_first[rollout.valid].float().mean())
        return metrics, {"collect": collected - began, "update": updated - collected}

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
        }

    def load_training_state(self, values: dict[str, Any]) -> str | None:
        """Load it."""
        self.agent.load_state_dict(values["agent"])
        carry, envs, note = values["carry"], values["envs"], None
        if carry is not None and envs is not None:
            self.envs.set_state(envs, self._seeds)
            self.collector_state.load_state_dict(carry)
            return None
        if not self.agent.begins_anew:
            # Other seeds than at the start: the same episodes once more would count them twice.
            seeds = integer_seeds(self.config.run.seed + self.step, "envs", self.envs.num_envs)
            self.collector_state = start(self.policy, self.envs, seeds)
            note = "The env's state is not in the checkpoint: every env begins a new episode with an empty memory."
        if carry is not None:
            self.collector_state.statistics.load_state_dict(carry["statistics"])
            self.collector_state.statistics.begin()
        return note

    def recent_metrics(self) -> dict[str, float]:
        """Return the means over the last finished episodes."""
        return self.collector_state.statistics.metrics(trials=False)

    def facts(self) -> dict[str, str]:
        """Return how envs are stepped, sequences run, and where memory and credit end."""
        memory = self.config.memory
        return {
            "envs": self.envs.description,
            "sequence": self._sequence_path,
            "memory": f"lifetime {memory.lifetime}, credit {memory.credit_boundary}",
        }


def run(training: Run, directory: RunDirectory, logger: LoggerGroup, progress: Progress) -> TrainResult:
    """Train until the total of steps is reached or Ctrl-C asks to stop.

    Raises:
        EnvironmentFailure: If an env breaks; the weights of the last update are saved first.
        NonFiniteError: If something is not finite; the last checkpoint stays.
    """
    config = training.config.run
    evaluate_every, save_every = config.interval(config.eval_every), config.interval(config.checkpoint_every)
    phases: dict[str, float] = defaultdict(float)
    with interruptible() as interrupt:
        if training.step == 0:
            training.save(directory)
        while training.step < config.total_steps and not interrupt.requested():
            before, iteration_began = training.step, time.perf_counter()
            with _saving_weights_on_failure(training, directory, with_episodes=False):
                metrics, seconds = training.update()
            finished = training.step >= config.total_steps
            values: dict[str, float | None] = dict(metrics)
            best = False
            if interrupt.requested():
                training.save(directory)  # At once: nothing is lost if the user won't wait for the evaluation.
            if finished or _due(evaluate_every, before, training.step):
                began = time.perf_counter()
                with _saving_weights_on_failure(training, directory, with_episodes=True):
                    best = _evaluate(training, directory, values)
                phases["evaluate"] += time.perf_counter() - began
            logger.log(values, training.step)
            training.seconds += time.perf_counter() - iteration_began
            if best or finished or interrupt.requested() or _due(save_every, before, training.step):
                logger.flush()
                training.save(directory, best=best)
            for phase, duration in seconds.items():
                phases[phase] += duration
            progress.update(training.step, values, phases)
            if news := training.reconsider_threads(metrics["time/fps"], sum(seconds.values())):
                progress.message(news)
        if interrupt.requested():
            progress.message(f"Stopped at step {training.step}; go on with: rlstm resume {directory.path}")
    return training.result(interrupted=interrupt.requested())


@contextmanager
def _saving_weights_on_failure(training: Run, directory: RunDirectory, *, with_episodes: bool) -> Iterator[None]:
    """Save the weights of the last update if an env breaks."""
    try:
        yield
    except EnvironmentFailure:
        if training.step not in list_checkpoints(directory):
            training.save(directory, with_episodes=with_episodes)
        raise


def _due(every: int, before: int, now: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, now]."""
    return every > 0 and now // every > before // every


def _evaluate(training: Run, directory: RunDirectory, metrics: dict[str, Any]) -> bool:
    """Evaluate, record, and return whether it was the best so far."""
    result = training.evaluate()
    directory.append_evaluation(training.step, result.returns.tolist(), result.lengths.tolist())
    if curves := result.trial_curves():
        write_curves(directory.trial_curve_path(training.step), curves)
    metrics |= result.metrics()
    best = result.mean_return >= training.best_return  # Of equals the latest: it has learnt longer.
    training.best_return = max(result.mean_return, training.best_return)
    return best


def summary(training: Run, directory: RunDirectory) -> Mapping[str, str]:
    """Return what a display shows of a run before it begins."""
    config, policy = training.config, training.config.policy
    height = f" x {policy.num_layers}" if policy.num_layers > 1 else ""
    facts = training.facts()
    return {
        "agent": config.agent,
        "env": "+".join((config.env.env, *config.env.env_wrappers)),
        "envs": facts.pop("envs"),
        "cell": f"{policy.cell} {policy.hidden_size}{height}",
        **facts,
        "device": training.device_reason,
        "threads": str(training.threads),
        "run": str(directory.path),
    }
