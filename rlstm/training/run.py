"""What every kind of training has in common: an experiment, where it stands, and its checkpoints."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rlstm.core.errors import CheckpointError, EnvironmentFailure
from rlstm.core.process import choose_device
from rlstm.core.ranks import ALONE, Ranks
from rlstm.core.seeding import generator, seed_everything
from rlstm.core.threads import ThreadChoice, check_num_threads, known_choice, thread_limit
from rlstm.evaluation.evaluate import EvaluationResult, evaluate, evaluation_envs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.training.checkpoints import TRAINER_FILE, Checkpoint, save_checkpoint
from rlstm.training.config import Actions, ConfigError, ExperimentConfig
from rlstm.training.films import film_is_due, film_shape, make_film
from rlstm.training.generators import global_generators, set_global_generators
from rlstm.training.histories import settle_histories
from rlstm.training.result import TrainResult
from rlstm.training.run_directory import RunDirectory, disk_errors
from rlstm.training.weights import check_same_weights, load_weights
from rlstm.vector.adapter import VectorEnvs


@dataclass
class OpenUpdate:
    """An update that is not yet logged, and the evaluation that is due after it."""

    metrics: dict[str, float]
    evaluation_is_due: bool


def make_policy(
    config: ExperimentConfig[Any],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    device: torch.device,
) -> RecurrentPolicy:
    """Build the policy of an experiment; weights are drawn on the CPU, so a seed gives the same ones everywhere."""
    seed_everything(config.run.seed)
    actions = generator(config.run.seed, "actions", device)
    network = config.policy
    if network.critic_memory is None:
        network = dataclasses.replace(network, critic_memory=config.algorithm.critic_memory)
    if network.bidirectional and config.agent != "teacher":
        raise ConfigError(
            f"bidirectional is set, but an agent of {config.agent} acts, and what reads the future can't: leave it "
            "out, or train with a teacher where whole sequences are labelled (rlstm train teacher)."
        )
    policy = RecurrentPolicy(observation_space, action_space, network, config.memory, config.inputs, generator=actions)
    if config.agent == "random":
        policy.distribution = policy.distribution.at_random()
    return policy.to(device=device, dtype=getattr(torch, config.run.dtype))


class Agent(Protocol):
    """What a run needs of every agent."""

    run_type: ClassVar[type[Run]]
    """The kind of run that trains it; its module declares what else it needs."""

    def state_dict(self) -> dict[str, Any]:
        """Return all but the policy's weights."""

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned; the policy's weights are loaded already."""


class _Stopped(Exception):
    """An evaluation that shall not be played to its end."""


class Run(ABC):
    """A run: its policy, and where it stands."""

    policy: RecurrentPolicy  # As it would be evaluated now.
    curriculum_text: str | None = None  # Of the file of its stages, which the run's folder keeps.
    best_step: int | None  # Of the best evaluation; None before the first one after learning began.

    def __init__(
        self, config: ExperimentConfig[Any], agent_type: type[Any], spec: EnvSpec, ranks: Ranks = ALONE
    ) -> None:
        self.config, self.spec, self.ranks = config, spec, ranks
        self._no_film_told = False
        check_num_threads(config.run.num_threads)
        self.device, self.device_reason = choose_device(config.run.device)
        self.step = 0
        self.num_updates = 0
        self.best_return, self.best_step = -math.inf, None
        self.eval_return: float | None = None
        self.open_update: OpenUpdate | None = None  # What is still to be done before the next one.
        self.news: list[str] = []  # What a user should know, until a display has shown it.
        self.seconds = 0.0  # Wall time of all that was done up to here, evaluations too.
        self.threads = ThreadChoice(1, "not chosen yet")
        self._kept_threads: int | None = None  # Those of the checkpoint from which it goes on.

    @abstractmethod
    def close(self) -> None:
        """Close the envs."""

    @abstractmethod
    def update(self) -> tuple[dict[str, float], dict[str, float]]:
        """Play and learn once; returns metrics by name and seconds by phase."""

    @abstractmethod
    def training_state(self) -> dict[str, Any]:
        """Return all that goes on beside the policy's weights and is the same in all ranks."""

    def own_state(self, *, with_episodes: bool) -> dict[str, Any]:
        """Return what goes on in this rank alone.

        Args:
            with_episodes: Whether the envs' running episodes are kept; without them a resume begins new ones.
        """
        return global_generators()

    @abstractmethod
    def load_training_state(self, values: dict[str, Any]) -> str | None:
        """Take it back; returns what could not be restored exactly, in a sentence, or None."""

    @abstractmethod
    def recent_metrics(self) -> dict[str, float]:
        """Return the means of the last episodes by metric name."""

    @abstractmethod
    def facts(self) -> dict[str, str]:
        """Return what a display shows of it before it begins, beside what is common to all runs."""

    @property
    def plays_own_env(self) -> bool:
        """Whether the last episodes of training were in the env in which evaluations play."""
        return True

    def closing_words(self) -> str | None:
        """Return what is to be said at the end of the run, in a sentence, or None."""
        return None

    def count(self, num_steps: int, seconds: float) -> dict[str, float]:
        """Count an update of so many steps and seconds; returns the metrics of time."""
        self.step += num_steps
        self.num_updates += 1
        return {
            "time/fps": num_steps / seconds,
            "time/iterations": float(self.num_updates),
            "time/time_elapsed": self.seconds + seconds,
            "time/total_timesteps": float(self.step),
        }

    def choose_threads(self, *, anew: bool = False) -> str | None:
        """Choose the number of threads, and compute with so many from here on.

        What ``num_threads`` says comes first, then what the run had up to here, then what is measured.

        Args:
            anew: Measure though the run had a number up to here.

        Returns:
            What it means for a resumed run, in a sentence, or None.
        """
        kept = self._kept_threads
        choice = known_choice(self.config.run.num_threads, None if anew else kept)
        self._compute_with(self.measure_threads(thread_limit()[0]) if choice is None else choice)
        if kept in (None, self.threads.count):
            return None
        return (
            f"The run had {kept} threads up to here and goes on with {self.threads}: its last bits may differ from "
            "those of a run without this change."
        )

    def _compute_with(self, choice: ThreadChoice) -> None:
        self.threads = choice
        torch.set_num_threads(choice.count)

    def measure_threads(self, limit: int) -> ThreadChoice:
        """Choose a number of threads, ``limit`` at most, without touching the run."""
        return ThreadChoice(1, "nothing is measured")

    def reconsider_threads(self, rate: float, seconds: float) -> str | None:
        """Take the steps per second of an update that took so long; returns what changed, in a sentence, or None."""
        return None

    @property
    def has_learnt(self) -> bool:
        """Whether there has been an update that may have changed weights."""
        return self.num_updates > 0

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Begin with the weights of another run."""
        load_weights(self.policy, checkpoint)

    def evaluate(self, should_stop: Callable[[], bool]) -> EvaluationResult | None:
        """Play complete episodes on seeds that are never trained on; None if it shall stop before they are played.

        They are not those of later evaluations either: the best checkpoint is chosen by these.
        """
        config, episodes, limit = self.config, self.config.run.eval_episodes, self.config.run.eval_max_steps

        def check() -> None:
            if should_stop():
                raise _Stopped

        with ExitStack() as stack:
            try:
                envs = stack.enter_context(self.evaluation_envs(episodes))
            except EnvironmentFailure as error:
                self.news.append(
                    f"No evaluation, since its envs could not be made: {error} If only one may live, try --eval-env "
                    "same or none."
                )
                return None
            try:
                return evaluate(
                    self.policy,
                    envs,
                    episodes,
                    seed=config.run.seed,
                    deterministic=self.eval_actions == "likeliest",
                    stream="training_evaluation",
                    max_steps=limit,
                    on_step=check,
                )
            except _Stopped:
                return None

    @contextmanager
    def evaluation_envs(self, episodes: int) -> Iterator[VectorEnvs]:
        """Give the envs of an evaluation."""
        with closing(evaluation_envs(self.spec, self.config.env, self.config.memory, episodes)) as envs:
            yield envs

    def films(self, evaluations: int, finished: bool) -> bool:
        """Return whether to film after so many evaluations: every ``record_every``, or at the end of a longer run."""
        return film_is_due(self.config.run, evaluations, finished)

    def film(self, log: Callable[[str, bytes, tuple[int, int], int], None]) -> None:
        """Log a film of an episode; if the env can't be drawn, say so where a film was asked for."""
        deterministic = self.eval_actions == "likeliest"
        gif, reason = make_film(self.policy, self.spec, self.config, self.step, deterministic=deterministic)
        if gif is not None:
            log("eval/film", gif, film_shape(gif), self.step)
        elif self.config.run.record_every is not None and not self._no_film_told:
            self._no_film_told = True
            self.news.append(f"The env can't be filmed: {reason}.")

    @property
    def eval_actions(self) -> Actions:
        """How evaluations choose actions."""
        return self.config.eval_actions(numbers=isinstance(self.policy.action_space, spaces.Box))

    def diagnose(self) -> dict[str, float]:
        """Return metrics of the memory that are measured at evaluations."""
        return {}

    def save(self, directory: RunDirectory, *, with_episodes: bool = True) -> None:
        """Write a checkpoint, rank 0 for all; for ``with_episodes`` see ``own_state``.

        Raises:
            RankFailure: If the weights of ranks differ.
        """
        own, *others = self.ranks.gather(self.own_state(with_episodes=with_episodes))
        check_same_weights(self.policy, self.ranks, self.step)
        if not self.ranks.leads:
            return
        trainer = {
            **self.training_state(),
            **own,
            **({"other_ranks": others} if others else {}),
            "num_updates": self.num_updates,
            "best_return": self.best_return,
            "best_step": self.best_step,
            "eval_return": self.eval_return,
            "seconds": self.seconds,
            "num_threads": self.threads.count,
            "open_update": None if self.open_update is None else dict(vars(self.open_update)),
        }
        meta, keep = self.config.identity(), self.config.run.keep_checkpoints
        model, best = self.policy.state_dict(), self.best_step
        with disk_errors(directory.path):
            histories = settle_histories(directory)
        save_checkpoint(directory, self.step, model, trainer, meta, keep=keep, best_step=best, histories=histories)

    def load(self, checkpoint: Checkpoint) -> str | None:
        """Go on from a checkpoint; returns what could not be restored exactly, in a sentence, or None.

        Raises:
            ConfigError: If it is of another network.
            CheckpointError: If it lacks something, or holds what no run can go on with.
        """
        load_weights(self.policy, checkpoint)
        try:
            return self._load_trainer(checkpoint)
        except (ConfigError, EnvironmentFailure):
            raise
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{checkpoint.path / TRAINER_FILE} doesn't hold what this run needs to go on "
                f"({type(error).__name__}: {error}). Was it written by another agent or version?"
            ) from error

    def _load_trainer(self, checkpoint: Checkpoint) -> str | None:
        trainer = checkpoint.trainer
        others = trainer.get("other_ranks", [])
        if len(others) + 1 != self.ranks.count:  # Nobody's episodes are this rank's.
            trainer = {**trainer, "envs": None, "num_ranks": len(others) + 1}
        elif not self.ranks.leads:
            trainer = {**trainer, **others[self.ranks.rank - 1]}
        self.step, self.num_updates = checkpoint.step, trainer["num_updates"]
        self.best_return, self.seconds = trainer["best_return"], trainer["seconds"]
        # Earlier versions did not write these down.
        self.best_step, self.eval_return = trainer.get("best_step"), trainer.get("eval_return")
        self._kept_threads = trainer.get("num_threads")
        open_update = trainer.get("open_update")
        self.open_update = None if open_update is None else OpenUpdate(**open_update)
        note = self.load_training_state(trainer)
        # Last of all, since the resets of a user's envs may draw from the global generators.
        set_global_generators(trainer)
        return note

    def result(self, *, interrupted: bool) -> TrainResult:
        """Return how the run stands."""
        metrics = self.recent_metrics()
        return TrainResult(
            run_dir="",
            steps=self.step,
            wall_seconds=self.seconds,
            steps_per_second=self.step / self.seconds if self.seconds else None,
            mean_return=metrics.get("rollout/ep_rew_mean"),
            success_rate=metrics.get("rollout/success_rate"),
            eval_return=self.eval_return,
            eval_actions=self.eval_actions,
            best_return=None if self.best_step is None else self.best_return,
            best_step=self.best_step,
            interrupted=interrupted,
            complete=self.step >= self.config.run.total_steps and self.open_update is None,
        )
