"""Teacher sequences: whole sequences with what should have been answered, which readouts and gradients fit.

They come from an environment whose steps carry ``info["target"]``, or from recorded demonstrations. Where the
environment can force the teacher's answers on what is seen (``metadata["supports_teacher_forcing"]``) it is asked to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlstm.core.arrays import BoolArray
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.trees import tree_map
from rlstm.evaluation.demonstrations import Demonstrations
from rlstm.evaluation.evaluate import MAX_LENGTH
from rlstm.policies.acting import SnapshotActor
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.observations import observation_dtypes
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.inputs import PolicyInputsTracker, observation_tensors
from rlstm.rollouts.play import play_step
from rlstm.vector.adapter import EnvStep, VectorEnvs


class TeacherSequences(NamedTuple):
    """S sequences of at most T steps."""

    inputs: PolicyInputs  # (T, S, ...)
    is_first: Tensor  # (T, S) bool
    targets: Tensor  # (T, S, Y) float64, what the policy head should have put out
    weights: Tensor  # (T, S) float64, 0 where nothing is asked
    valid: Tensor  # (T, S) bool, True from the first to the last step of a sequence
    labels: Tensor | None = None  # (L, S) strings of labels, filled up with -1; None where whole sequences have none

    @property
    def is_empty(self) -> bool:
        """Whether no step has a target."""
        return not bool((self.weights > 0).any())

    @property
    def num_steps(self) -> int:
        """Steps of all sequences, idle ones included."""
        return self.is_first.numel()

    def split(self, count: int) -> tuple[TeacherSequences, TeacherSequences]:
        """Return the first ``count`` sequences, and the others."""
        first, others = tree_map(lambda leaf: leaf[:, :count], self), tree_map(lambda leaf: leaf[:, count:], self)
        return first, others

    def cut(self, length: int) -> TeacherSequences:
        """Return the first ``length`` steps."""
        cut: TeacherSequences = tree_map(lambda leaf: leaf[:length], self)
        return cut

    @property
    def parted(self) -> Tensor:
        """Where sequences and their idle tails begin, ``(T, S)`` bool: what reads back begins before the tails."""
        ended = torch.zeros_like(self.is_first)
        ended[1:] = (self.valid[:-1] & ~self.valid[1:]).to(ended.device)
        return self.is_first | ended

    def select(self, places: Tensor) -> TeacherSequences:
        """Return some of the sequences, ``places`` ``(M,)``, no longer in time than the longest of them."""
        length = int(self.valid.index_select(1, places).any(1).sum())
        chosen: TeacherSequences = tree_map(lambda leaf: leaf[:length].index_select(1, places.to(leaf.device)), self)
        return chosen


def forces_answers(envs: VectorEnvs) -> bool:
    """Whether the env can force the teacher's answers on what is seen."""
    return bool(envs.envs.metadata.get("supports_teacher_forcing", False))


@torch.no_grad()  # No inference mode: gradients may be computed from what was seen.
def play_teacher_sequences(
    policy: RecurrentPolicy, envs: VectorEnvs, seeds: Sequence[int], *, washout: int | None
) -> TeacherSequences:
    """Play one episode, or trial, in every env and keep what was seen and what should have been answered.

    The policy answers as it is now, which matters only where observations depend on actions. Previous actions are the
    teacher's where there is one: teacher forcing.

    Args:
        policy: Decides what is seen.
        envs: S of them, reset here.
        seeds: S.
        washout: Steps at the beginning of every sequence that ask nothing. None for none, or, where the env forces the
            teacher's answers, for a quarter of the longest sequence.

    Raises:
        EnvironmentFailure: If a sequence doesn't end.
    """
    forces = forces_answers(envs)
    options = {"teacher_forcing": True} if forces else None
    tracker = PolicyInputsTracker(policy, envs.reset(seeds, options))
    state = policy.init_state(envs.num_envs)
    actor = SnapshotActor(policy.acting_snapshot(), state, deterministic=True)
    running = np.ones(envs.num_envs, dtype=bool)
    valid: list[Tensor] = []
    inputs: list[PolicyInputs] = []
    first: list[Tensor] = []
    targets: list[Tensor] = []
    weights: list[Tensor] = []

    def answer(seen: PolicyInputs, is_first: Tensor) -> Tensor:
        inputs.append(seen)
        first.append(is_first)
        return actor(seen, is_first)

    def teach(actions: Tensor, outcome: EnvStep) -> Tensor:
        """Keep the targets of a step; returns the teacher's answers if there are any, else the policy's."""
        given, target = _targets(policy, outcome)
        targets.append(target)
        weights.append(torch.as_tensor(given & running).double())
        if not given.any():
            return actions
        forced = actions.clone()
        rows = torch.as_tensor(np.flatnonzero(given), device=policy.device)
        forced[rows] = policy.distribution.mode(target[given].to(policy.device, policy.dtype), None)
        return forced

    while running.any():
        if len(inputs) >= MAX_LENGTH:
            raise EnvironmentFailure(
                f"A teacher sequence has not ended after {MAX_LENGTH:,} steps. Give the env a time limit, or use "
                "--memory.lifetime episode."
            )
        valid.append(torch.as_tensor(running.copy()))
        outcome = play_step(policy, envs, tracker, answer, corrected=teach)
        running &= ~(outcome.trial_ends if policy.memory.lifetime == "trial" else outcome.episode_ends)
    _wash_out(weights, washout, forces=forces)
    stacked = tree_map(lambda *leaves: torch.stack(leaves), inputs[0], *inputs[1:])
    return TeacherSequences(stacked, *map(torch.stack, (first, targets, weights, valid)))


def drawn_teacher_sequences(
    policy: RecurrentPolicy, envs: VectorEnvs, seeds: Sequence[int], *, washout: int | None
) -> TeacherSequences | None:
    """Return what ``play_teacher_sequences`` does, without playing, or None where that can't be.

    It can where the env draws whole sequences and the policy sees nothing but its observations. Arguments as those of
    ``play_teacher_sequences``.
    """
    if any(vars(policy.inputs).values()) or policy.memory.lifetime != "episode":
        return None
    labelled = envs.draw_labelled(seeds)
    drawn = envs.draw_sequences(seeds) if labelled is None else labelled
    if drawn is None:
        return None
    valid = torch.as_tensor(drawn.valid)
    steps, count = valid.shape
    given = drawn.valid & _is_asked(drawn.targets)
    targets = torch.zeros(steps, count, policy.distribution.num_parameters, dtype=torch.float64)
    targets[torch.as_tensor(given)] = policy.distribution.targets(drawn.targets[given])
    weights = torch.as_tensor(given).double()
    _wash_out(weights, washout, forces=forces_answers(envs))
    is_first = torch.zeros(steps, count, dtype=torch.bool, device=policy.device)
    is_first[0] = True
    types = observation_dtypes(policy.observation_space, policy.dtype)
    inputs = PolicyInputs(observation_tensors(drawn.inputs, types, policy.device), None, None, None)
    labels = None if labelled is None else torch.as_tensor(labelled.labels.T.copy())
    return TeacherSequences(inputs, is_first, targets, weights, valid, labels)


def _is_asked(targets: npt.NDArray[Any]) -> BoolArray:
    """Return where targets ``(T, S, ...)`` ask something, ``(T, S)``: not where they are NaN or a class below 0."""
    flat = targets.reshape(*targets.shape[:2], -1)
    return np.asarray(~np.isnan(flat).any(axis=2) if flat.dtype.kind == "f" else (flat >= 0).all(axis=2))


def _wash_out(weights: Sequence[Tensor] | Tensor, washout: int | None, *, forces: bool) -> None:
    """Ask nothing in the first ``washout`` of the steps, each ``(S,)``; None for none, or a quarter of forced ones."""
    if washout is None:
        washout = len(weights) // 4 if forces else 0
    for asked in weights[:washout]:
        asked.zero_()


def _targets(policy: RecurrentPolicy, outcome: EnvStep) -> tuple[BoolArray, Tensor]:
    """Return which envs gave a target ``(S,)``, and what the policy head should have put out, ``(S, Y)``."""
    target = torch.zeros(len(outcome.rewards), policy.distribution.num_parameters, dtype=torch.float64)
    if outcome.targets is None or outcome.has_target is None:
        return np.zeros(len(outcome.rewards), dtype=bool), target
    given = outcome.has_target
    said = outcome.targets[given]
    if said.dtype.kind == "f" and np.isinf(said).any():
        raise EnvironmentFailure(f"info['target'] is {said.tolist()}; it must be finite.")
    target[torch.as_tensor(given)] = policy.distribution.targets(said)
    return given, target


def teacher_sequences_from_demonstrations(
    policy: RecurrentPolicy, demonstrations: Demonstrations, *, washout: int
) -> TeacherSequences:
    """Return demonstrations as teacher sequences: at every observation the demonstrated action should be answered.

    The first ``washout`` steps of every memory ask nothing.

    Raises:
        DemonstrationsError: If they are of other spaces than the policy's.
    """
    demonstrations.check_spaces(policy.observation_space, policy.action_space)
    steps, count = demonstrations.valid.shape
    flat = demonstrations.actions.reshape(steps * count, *demonstrations.actions.shape[2:])
    targets = policy.distribution.targets(flat)
    stored = policy.distribution.mode(targets.to(policy.device, policy.dtype), None)
    stored = stored.view(steps, count, *policy.distribution.action_shape)
    rewards = torch.as_tensor(demonstrations.rewards).to(policy.device, policy.dtype)
    starts = torch.as_tensor(demonstrations.episode_starts, device=policy.device)
    seen, types = policy.inputs, observation_dtypes(policy.observation_space, policy.dtype)
    # Trials may be recorded; a memory of one episode is reset within them.
    is_first = starts.clone() if policy.memory.lifetime == "episode" else torch.zeros_like(starts)
    is_first[0] = True
    inputs = PolicyInputs(
        observation_tensors(demonstrations.observations, types, policy.device),
        _before(stored) if seen.previous_action else None,
        _before(rewards) if seen.previous_reward else None,
        starts if seen.episode_start else None,
    )
    weights = torch.as_tensor(demonstrations.valid).double()
    for late in range(min(washout, steps)):  # After every reset.
        weights[late:][is_first[: steps - late].cpu()] = 0.0
    valid = torch.as_tensor(demonstrations.valid)
    return TeacherSequences(inputs, is_first, targets.view(steps, count, -1), weights, valid)


def _before(values: Tensor) -> Tensor:
    """Return the values ``(T, S, ...)`` of the step before, zeros at the first."""
    return torch.cat([torch.zeros_like(values[:1]), values[:-1]])
