"""Training with a teacher: a recurrent policy learns whole sequences by backpropagation through time, or by a filter.

Sources: Hochreiter & Schmidhuber, *Long short-term memory*, Neural Computation 9(8), 1997 (the tasks); Gers,
Schmidhuber, Cummins, *Learning to forget*, Neural Computation 12(10), 2000; full gradients through the memory as in
Graves & Schmidhuber, Neural Networks 18:602, 2005; Adam, Kingma & Ba 2015; behaviour cloning, Pomerleau 1989.

Implementation details, each with its reason:

1.  A batch is ``batch_size`` whole sequences, and the gradient flows through all of each (``memory.bptt_horizon``
    shortens it). Memory begins empty in every sequence.
2.  With an env that has a teacher (``info["target"]``) the sequences of every update are new: the episodes that begin
    with seeds of their own, which are never those of evaluations. Envs whose observations don't depend on actions draw
    them whole (``TeacherTask.draw_sequences``); others are played, previous answers forced to the teacher's.
3.  With demonstrations (``rlstm record``) the sequences are those recorded: all of them once in a random order, then
    anew. At every observation what was done should be answered: behaviour cloning.
4.  The loss is a mean over the steps that ask something, of all sequences together: of squared errors where answers are
    numbers, else of cross-entropies; where a set of symbols is asked, the sum over its bits. A batch in which no step
    asks anything changes nothing, and has no loss.
5.  Evaluation is that of any policy: it plays episodes in the env, alone, without the teacher.
6.  Where the env gives strings of labels for whole sequences (``info["labels"]``), the loss is CTC's (Graves,
    Fernández, Gomez, Schmidhuber, ICML 2006): the last answer is the blank. Errors in training are those of the
    likeliest path.
7.  A bidirectional memory (Schuster & Paliwal 1997; Graves & Schmidhuber 2005) reads whole sequences. It is taught and
    evaluated where observations don't depend on actions: an episode is read first, then played with the answers.
8.  Gradients are clipped by their global norm; Adam with ε = ``adam_epsilon``, or AdamW.
9.  Observation normalisers, if wanted, are filled by the first episodes of an untrained policy and then stay.
10. The critic's head is there and stays untrained. PPO can go on from these weights (``--init-from``), or these from
    PPO's; values then begin anew.
11. With ``optimizer`` dekf a decoupled extended Kalman filter takes a step after every answer, on-line, with
    derivatives that are carried forward in time (``rlstm.losses.kalman``): Puskorius & Feldkamp 1994; Pérez-Ortiz,
    Gers, Eck, Schmidhuber, Neural Networks 16(2), 2003. The sequences of a batch are read one after another; loss and
    right answers are those of the weights before the batch, as with Adam.
"""

from __future__ import annotations

import copy
import time
import warnings
from dataclasses import fields
from typing import Any

from torch import Tensor

from rlstm.agents.configs.teacher import TeacherConfig
from rlstm.core.ranks import ALONE, Ranks
from rlstm.core.seeding import generator, integer_seeds
from rlstm.evaluation.teacher_sequences import TeacherSequences
from rlstm.evaluation.teacher_source import TeacherSource
from rlstm.evolution.normalisers import fill_normalisers
from rlstm.losses.ctc import LabelLoss
from rlstm.losses.kalman import KalmanConfig, KalmanTeacher
from rlstm.losses.optimisation import Descent, Term, annealed
from rlstm.losses.teacher_losses import TaughtLoss
from rlstm.losses.teacher_objective import TeacherObjective
from rlstm.policies.policy import RecurrentPolicy
from rlstm.training.teaching import Teaching
from rlstm.vector.env_pool import EnvPool

_READ_BY_ADAM = ("learning_rate", "anneal_lr", "adam_epsilon", "weight_decay", "max_grad_norm")


class Teacher:
    """Owns a policy and an optimiser.

    Args:
        policy: What learns.
        config: The algorithm's constants.
        envs: Gives envs by their number.
        num_envs: Not read: sequences come ``batch_size`` at once, and evaluations have envs of their own.
        total_steps: Steps of the run, for the schedule of the learning rate.
        seed: Of everything random.
        ranks: This process alone.

    Raises:
        ValueError: If there is no teacher, or the loss doesn't fit its answers.
    """

    run_type = Teaching

    def __init__(
        self,
        policy: RecurrentPolicy,
        config: TeacherConfig,
        *,
        envs: EnvPool,
        num_envs: int,
        total_steps: int,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.policy, self.config, self.envs, self.seed = policy, config, envs, seed
        self._total_steps = total_steps
        self.source = TeacherSource(
            policy,
            envs,
            batch_size=config.batch_size,
            washout=config.washout,
            demonstrations=config.demonstrations,
            seed=seed,
        )
        first = self.source.sequences(0)
        self.objective = self._objective_of(first)
        if self.objective.name == "ctc":
            self.objective.checked_strings(first.labels, first.valid)
            if config.optimizer == "dekf":
                raise ValueError(
                    "loss is 'ctc', but optimizer is 'dekf', which filters the answers of single steps: leave one of "
                    "the two out."
                )
        self._warn_of_settings()
        self._optimizer = self._make_optimizer(policy)
        self.num_sequences = 0

    def update(self, index: int, step: int) -> tuple[dict[str, float], int, dict[str, float]]:
        """Learn one batch of sequences.

        Args:
            index: Number of the update, from 0 on; decides its sequences.
            step: Steps read before it.

        Returns:
            Metrics by their names, steps read, and seconds by phase.

        Raises:
            NonFiniteError: If the loss or gradient is not finite; the weights are then those before the bad step.
        """
        began, num_steps = time.perf_counter(), 0
        if index == 0 and self.policy.lacks_statistics:
            seeds = integer_seeds(self.seed, "envs", self.config.batch_size)
            num_steps += fill_normalisers(self.policy, self.envs(len(seeds)), seeds)

        # Draw sequences (T, S).
        sequences = self.source.sequences(index)
        drawn = time.perf_counter()

        # Read them, and go down the gradient of the loss; or filter what their answers tell of the weights.
        learnt = self._learn(sequences, index, min(1.0, step / self._total_steps))

        num_steps += int(sequences.valid.sum())
        self.num_sequences += sequences.valid.shape[1]
        counts = {"train/n_updates": float(index + 1), "teacher/sequences": float(self.num_sequences)}
        return counts | learnt, num_steps, {"draw": drawn - began, "learn": time.perf_counter() - drawn}

    def _learn(self, sequences: TeacherSequences, index: int, progress: float) -> dict[str, float]:
        """Learn from a batch; returns metrics, none of one that asks nothing, which changes no weight."""
        if sequences.is_empty and self.objective.name != "ctc":
            return {}
        outputs = self._outputs(self.policy, sequences)
        loss = self._loss(outputs, sequences)
        if isinstance(self._optimizer, Descent):
            learnt = self._descend(self._optimizer, outputs, loss, index, progress)
        else:
            learnt = {"train/loss": float(loss.value), **self._filtered(self._optimizer, sequences, index, progress)}
        accuracy = self.objective.accuracy(loss, sequences.weights)
        return learnt | {f"teacher/{name}": value for name, value in accuracy.items()}

    @staticmethod
    def _outputs(policy: RecurrentPolicy, sequences: TeacherSequences) -> Tensor:
        """Return what the policy head puts out, ``(T, S, P)``, with gradient."""
        state = policy.init_state(sequences.is_first.shape[1])
        is_first = sequences.parted if policy.config.bidirectional else sequences.is_first
        return policy.outputs(sequences.inputs, is_first, state)

    def _loss(self, outputs: Tensor, sequences: TeacherSequences) -> TaughtLoss | LabelLoss:
        return self.objective(outputs, sequences.targets, sequences.weights, sequences.labels, sequences.valid)

    def _make_optimizer(self, policy: RecurrentPolicy) -> Descent | KalmanTeacher:
        config = self.config
        if config.optimizer == "adam":
            return Descent(
                policy.named_parameters(),
                max_grad_norm=config.max_grad_norm,
                weight_decay=config.weight_decay,
                epsilon=config.adam_epsilon,
            )
        return KalmanTeacher(policy, self._kalman_config())

    def _kalman_config(self) -> KalmanConfig:
        settings = {field.name: getattr(self.config, f"dekf_{field.name}") for field in fields(KalmanConfig)}
        return KalmanConfig(**settings)

    def _descend(
        self, descent: Descent, outputs: Tensor, loss: TaughtLoss | LabelLoss, index: int, progress: float
    ) -> dict[str, float]:
        """Take one step of Adam."""
        config = self.config
        descent.learning_rate = annealed(config.learning_rate, 0.0 if config.anneal_lr else None, progress)
        learnt = descent.step({"loss": Term(outputs, loss.value, loss.gradient)}, f"update {index}")
        told = {f"train/{name}": float(learnt[name]) for name in ("loss", "grad_norm")}
        return {**told, "train/learning_rate": descent.learning_rate}

    def rehearse(self, num_steps: int) -> float:
        """Return the seconds that the gradient of a batch's first steps takes, on a copy of the policy."""
        policy = copy.deepcopy(self.policy, {id(self.policy.generator): self.policy.generator})
        sequences = self.source.sequences(0).cut(num_steps)
        began = time.perf_counter()
        if self.config.optimizer == "dekf":
            self._filtered(KalmanTeacher(policy, self._kalman_config()), sequences, 0, 0.0)
            return time.perf_counter() - began
        outputs = self._outputs(policy, sequences)
        outputs.square().mean().backward()
        return time.perf_counter() - began

    def check_source(self) -> None:
        """Refuse with ValueError an env that asks nothing, or has another loss than that with which the run begins."""
        first = self.source.check()
        objective = self._objective_of(first)
        if objective.name != self.objective.name:
            raise ValueError(
                f"its loss is {objective.name}, that of the first stage {self.objective.name}: give a --loss that "
                "suits all of them."
            )
        if objective.name == "ctc":
            objective.checked_strings(first.labels, first.valid)

    def _objective_of(self, sequences: TeacherSequences) -> TeacherObjective:
        has_strings = sequences.labels is not None and self.config.optimizer == "adam"
        return TeacherObjective(self.policy, self.config.loss, has_strings=has_strings)

    def _filtered(
        self, kalman: KalmanTeacher, sequences: TeacherSequences, index: int, progress: float
    ) -> dict[str, float]:
        """Take a step of the Kalman filter for every answer."""
        read = (sequences.inputs, sequences.is_first, sequences.targets, sequences.weights)
        noise = generator(self.seed, "weight_noise", index=index)
        metrics = kalman.learn(*read, progress=progress, generator=noise)
        return {f"dekf/{name}": value for name, value in metrics.items()}

    def _warn_of_settings(self) -> None:
        """Warn of settings that nothing reads with this optimiser or loss."""
        config, horizon = self.config, self.policy.memory.bptt_horizon
        if config.washout and self.objective.name == "ctc":
            warnings.warn(
                f"washout is {config.washout}, which has no effect: the loss is ctc, whose strings are those of whole "
                "sequences.",
                stacklevel=3,
            )
        is_filter = config.optimizer == "dekf"
        unread = [
            (field.name, getattr(config, field.name))
            for field in fields(config)
            if (field.name in _READ_BY_ADAM if is_filter else field.name.startswith("dekf_"))
            and getattr(config, field.name) != field.default
        ]
        if is_filter and horizon is not None:
            unread.append(("memory.bptt_horizon", horizon))
        for name, value in unread:
            warnings.warn(
                f"{name} is {value}, which has no effect: optimizer is '{config.optimizer}', and it is read with "
                f"{'adam' if is_filter else 'dekf'} alone.",
                stacklevel=3,
            )

    def recent_metrics(self) -> dict[str, float]:
        """Return nothing: episodes are played in evaluations alone."""
        return {}

    def facts(self) -> dict[str, str]:
        """Return what a display shows before the run begins."""
        told = {"teacher": f"{self.source.description}, loss {self.objective.name}"}
        return told | ({"filter": self._optimizer.facts} if isinstance(self._optimizer, KalmanTeacher) else {})

    def close(self) -> None:
        """Stop nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return all but the policy's weights."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "action_generator": self.policy.generator.get_state(),
            "num_sequences": self.num_sequences,
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self._optimizer.load_state_dict(values["optimizer"])
        self.policy.generator.set_state(values["action_generator"])
        self.num_sequences = values["num_sequences"]
