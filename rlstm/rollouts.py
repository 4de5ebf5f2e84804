r"""Time, once and for all; the rollout; and the collector.

Axes: ``T`` time, ``B`` environments, then features. Time-major everywhere, no layout options. ::

                step t
      state_t --[ is_first[t]? erase ]--> cell(observation[t], ...) --> action[t] --> env --> reward[t],
                                                           \--> value[t]              terminated[t], truncated[t]

* A state with index t is the state **before** ``observations[t]`` is consumed. ``initial_state`` is the one before
  t = 0, and it is carried from rollout to rollout, never zeroed because a rollout ends.
* ``is_first[t]``: memory begins anew at step t; the state is erased **before** the cell sees ``observations[t]``.
  ``episode_starts[t]``: an environment episode begins at step t. They are equal only when ``memory.lifetime`` is
  ``episode``.
* ``terminated[t]``, ``truncated[t]``: the outcome of step t, never merged in stored data.
* Vector envs run in ``AutoresetMode.SAME_STEP``, so every row is a real transition.
* ``valid[t]``: False only in the idle tails of batches of complete episodes: no loss, no statistics, state held.
* ``credit_cuts[t]``: returns are cut after step t. ``next_values[t]`` = V(observations[t+1] | state after any erase)
  where credit is not cut; where it is cut: 0 if ``terminated[t]``, else V(final observation | state **before** the
  erase). Then δ = r + γ·next_values - values and A_t = δ_t + γλ(1 - credit_cuts_t)·A_{t+1}, with no special case at the
  end of a rollout.
* Rollouts hold raw rewards and values in raw units. Normaliser statistics change once per update, after the last epoch;
  otherwise the first ratio is not 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstm.cells import State
from rlstm.episodes import EpisodeStatistics
from rlstm.errors import NonFiniteError
from rlstm.memory import BoolArray, crosses
from rlstm.policies import PolicyInputs, PolicyStep, PolicyStepper, RecurrentPolicy
from rlstm.policy_view import PolicyView
from rlstm.trees import Tree, tree_leaves, tree_map
from rlstm.vector_envs import EnvStep, LaneEnvs

__all__ = ["Carry", "Rollout", "collect", "refresh_carry", "start"]


@dataclass(frozen=True)
class Rollout:
    """T steps of B environments; see the top of the file for the meaning of every index.

    Raises:
        ValueError: If a shape or a type is wrong, naming the field.
        NonFiniteError: If rewards, log-probabilities or values are not all finite.
    """

    inputs: PolicyInputs  # (T, B, ...)
    actions: Tensor  # (T, B, ...) as stored: squashed actions before the squash
    log_probs: Tensor  # (T, B)
    values: Tensor  # (T, B) raw units
    rewards: Tensor  # (T, B) raw
    next_values: Tensor  # (T, B) raw units
    is_first: Tensor  # (T, B) bool
    terminated: Tensor  # (T, B) bool
    truncated: Tensor  # (T, B) bool
    credit_cuts: Tensor  # (T, B) bool
    valid: Tensor  # (T, B) bool
    initial_state: State  # leaves (B, ...)

    def __post_init__(self) -> None:
        """Check shapes, types and finiteness."""
        shape = self.rewards.shape
        if len(shape) != 2:
            raise ValueError(f"rewards has shape {tuple(shape)}; it must be (T, B).")
        for name in ("is_first", "terminated", "truncated", "credit_cuts", "valid"):
            mask = getattr(self, name)
            if mask.shape != shape or mask.dtype != torch.bool:
                raise ValueError(f"{name} is {tuple(mask.shape)} {mask.dtype}; it must be {tuple(shape)} torch.bool.")
        for name in ("log_probs", "values", "rewards", "next_values"):
            values = getattr(self, name)
            if values.shape != shape or not values.is_floating_point():
                raise ValueError(f"{name} is {tuple(values.shape)} {values.dtype}; it must be {tuple(shape)} floats.")
            if not bool(torch.isfinite(values).all()):
                raise NonFiniteError(f"The rollout's {name} are not all finite: the policy or the env has diverged.")
        for leaf in [self.actions, *tree_leaves(tuple(self.inputs))]:
            if leaf.shape[:2] != shape:
                raise ValueError(f"An input or action is {tuple(leaf.shape)}; it must begin with {tuple(shape)}.")
        for leaf in tree_leaves(self.initial_state):
            if leaf.shape[0] != shape[1]:
                raise ValueError(f"A state leaf has shape {tuple(leaf.shape)}; it must begin with ({shape[1]},).")

    @property
    def num_steps(self) -> int:
        """T."""
        return self.rewards.shape[0]

    @property
    def num_envs(self) -> int:
        """B."""
        return self.rewards.shape[1]

    @cached_property
    def all_valid(self) -> bool:
        """Whether no step is idle, so that nothing need be masked."""
        return bool(self.valid.all())

    def select(self, lanes: Tensor) -> Rollout:
        """Return the whole sequences of some lanes, ``lanes`` an index ``(N,)``, in that order."""
        rows = {
            field.name: tree_map(lambda leaf: leaf.index_select(1, lanes), getattr(self, field.name))
            for field in fields(self)
            if field.name != "initial_state"
        }
        selected: Rollout = object.__new__(Rollout)  # The whole was checked; checking every part again costs time.
        for name, value in rows.items():
            object.__setattr__(selected, name, value)
        state = tree_map(lambda leaf: leaf.index_select(0, lanes), self.initial_state)
        object.__setattr__(selected, "initial_state", state)
        selected.__dict__["all_valid"] = self.all_valid or bool(selected.valid.all())
        return selected

    def to(self, device: torch.device) -> Rollout:
        """Return the rollout on another device."""
        if self.rewards.device == device:
            return self
        return replace(
            self, **{f.name: tree_map(lambda leaf: leaf.to(device), getattr(self, f.name)) for f in fields(self)}
        )


@dataclass
class Carry:
    """What goes on from one rollout to the next: the place of every lane in its life."""

    view: PolicyView  # what is seen next
    state: State  # before that, not yet erased
    statistics: EpisodeStatistics

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain containers, arrays and tensors."""
        return {
            "view": self.view.state_dict(),
            "state": tree_leaves(self.state),
            "statistics": self.statistics.state_dict(),
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take everything back; the structure of the state is that of this carry."""
        leaves = iter(values["state"])
        self.state = tree_map(lambda leaf: next(leaves).to(leaf), self.state)
        self.view.load_state_dict(values["view"])
        self.statistics.load_state_dict(values["statistics"])


def start(policy: RecurrentPolicy, envs: LaneEnvs, seeds: list[int]) -> Carry:
    """Reset every lane with its seed and begin every life."""
    view = PolicyView(policy, envs.reset(seeds))
    return Carry(view, policy.init_state(envs.num_envs), EpisodeStatistics(envs.num_envs))


class _Buffers:
    """Ordinary tensors ``(T, B, ...)`` that a rollout is written into."""

    def __init__(self, policy: RecurrentPolicy, view: PolicyView, num_steps: int) -> None:
        self.device = policy.device
        self.inputs = tree_map(lambda leaf: self._like(leaf, num_steps), view.inputs())
        self.actions = self._like(view.previous_actions, num_steps)
        self.rewards, self.log_probs, self.values, self.next_values = (
            self._like(view.previous_rewards, num_steps) for _ in range(4)
        )
        names = ("is_first", "terminated", "truncated", "credit_cuts")
        # Flags are written on the host, where the env puts them, and moved once.
        self.flags = {name: np.zeros((num_steps, len(view.is_first)), dtype=bool) for name in names}

    @staticmethod
    def _like(leaf: Tensor, num_steps: int) -> Tensor:
        return torch.empty(num_steps, *leaf.shape, dtype=leaf.dtype, device=leaf.device)

    def write(self, t: int, is_first: BoolArray, inputs: PolicyInputs, step: PolicyStep) -> None:
        """Store what was seen before step t and what was chosen."""
        tree_map(lambda buffer, leaf: buffer[t].copy_(leaf), self.inputs, inputs)
        self.flags["is_first"][t] = is_first
        self.actions[t], self.log_probs[t], self.values[t] = step.actions, step.log_probs, step.values

    def write_outcome(self, t: int, outcome: EnvStep, rewards: Tensor, credit_cuts: BoolArray) -> None:
        """Store what came of step t."""
        self.rewards[t] = rewards
        self.flags["terminated"][t] = outcome.terminated
        self.flags["truncated"][t] = outcome.truncated
        self.flags["credit_cuts"][t] = credit_cuts

    def finish(self, initial_state: State) -> Rollout:
        """Return the rollout."""
        flags = {name: torch.from_numpy(mask).to(self.device) for name, mask in self.flags.items()}
        return Rollout(
            inputs=self.inputs,
            actions=self.actions,
            log_probs=self.log_probs,
            values=self.values,
            rewards=self.rewards,
            next_values=self.next_values,
            valid=torch.ones_like(flags["is_first"]),
            initial_state=initial_state,
            **flags,
        )


def collect(policy: RecurrentPolicy, envs: LaneEnvs, carry: Carry, num_steps: int) -> Rollout:
    """Let the policy act for ``num_steps`` steps in every lane.

    Args:
        policy: Samples the actions; its weights don't change meanwhile.
        envs: The lanes.
        carry: Where every lane stands; moved on to the end of the rollout.
        num_steps: T.

    Returns:
        The rollout, next values included, in ordinary tensors.
    """
    stepper, view, memory, device = policy.stepper(), carry.view, policy.memory, policy.device
    buffers = _Buffers(policy, view, num_steps)
    initial_state = tree_map(Tensor.clone, carry.state)
    pending: list[_Pending] = []
    with torch.inference_mode():
        for t in range(num_steps):
            inputs = view.inputs()
            step = stepper.step(inputs, carry.state, torch.as_tensor(view.is_first, device=device))
            buffers.write(t, view.is_first, inputs, step)
            outcome = envs.step(policy.distribution.to_env(step.actions))
            episode_ends = outcome.terminated | outcome.truncated
            trial_ends = episode_ends & outcome.trial_starts
            cuts = crosses(memory.credit_boundary, episode_ends, trial_ends)
            carry.state = step.state
            carry.statistics.add(outcome.rewards, outcome.finished, outcome.successes, trial_ends)
            view.advance(outcome, step.actions, crosses(memory.lifetime, episode_ends, trial_ends))
            buffers.write_outcome(t, outcome, view.previous_rewards, cuts)
            if len(outcome.finished):
                pending += _truncated_rows(t, cuts, step, outcome, view)
        _write_next_values(stepper, buffers, carry, pending)
    # Out of inference mode: usable wherever gradients flow.
    carry.state = tree_map(Tensor.clone, carry.state)
    view.previous_actions = view.previous_actions.clone()
    return buffers.finish(initial_state)


def refresh_carry(policy: RecurrentPolicy, rollout: Rollout, carry: Carry) -> dict[str, float]:
    """Replace the carried state by the one that the present weights give the same past.

    Returns:
        How large the state is and how far the old one was from it, by their tags; nothing where there is no memory.
    """
    refreshed = policy.replay_state(rollout)
    pairs = list(zip(tree_leaves(refreshed), tree_leaves(carry.state), strict=True))
    carry.state = refreshed
    if not pairs:
        return {}
    drift = sum(float((new - old).square().mean()) for new, old in pairs) / len(pairs)
    size = sum(float(new.square().mean()) for new, _ in pairs) / len(pairs)
    return {"recurrent/state_rms": math.sqrt(size), "recurrent/state_staleness_rms": math.sqrt(drift)}


@dataclass(frozen=True)
class _Pending:
    """Rows whose next value is that of a final observation, under the state before the erase."""

    t: int
    lanes: Tensor  # (N,)
    observations: Tree  # numpy (N, ...)
    state: State  # (N, ...)
    previous_actions: Tensor  # (N, ...)
    previous_rewards: Tensor  # (N,)


def _truncated_rows(t: int, cuts: BoolArray, step: PolicyStep, outcome: EnvStep, view: PolicyView) -> list[_Pending]:
    """Return the lanes where credit is cut by a truncation alone: one entry, or none."""
    rows = np.flatnonzero((cuts & outcome.truncated & ~outcome.terminated)[outcome.finished])
    if not len(rows):
        return []
    lanes = torch.as_tensor(outcome.finished[rows], device=step.values.device)

    def pick(leaf: Tensor) -> Tensor:
        return leaf.index_select(0, lanes)

    observations = tree_map(lambda leaf: leaf[rows], outcome.final_observations)
    state = tree_map(pick, step.state)
    return [_Pending(t, lanes, observations, state, pick(view.previous_actions), pick(view.previous_rewards))]


def _write_next_values(stepper: PolicyStepper, buffers: _Buffers, carry: Carry, pending: list[_Pending]) -> None:
    """Fill in the next values: one value call for the end of the rollout and one for all truncated rows."""
    view, device = carry.view, buffers.device
    buffers.next_values[:-1] = buffers.values[1:]
    buffers.next_values[-1] = stepper.values(view.inputs(), carry.state, torch.as_tensor(view.is_first, device=device))
    buffers.next_values[torch.from_numpy(buffers.flags["credit_cuts"]).to(device)] = 0.0
    if not pending:
        return
    observations = tree_map(lambda *leaves: np.concatenate(leaves), *(rows.observations for rows in pending))
    state = tree_map(lambda *leaves: torch.cat(leaves), *(rows.state for rows in pending))
    lanes = torch.cat([rows.lanes for rows in pending])
    times = torch.tensor([rows.t for rows in pending for _ in rows.lanes], device=device)
    inside = torch.zeros(len(lanes), dtype=torch.bool, device=device)
    inputs = view.inputs_at_end(
        observations,
        torch.cat([rows.previous_actions for rows in pending]),
        torch.cat([rows.previous_rewards for rows in pending]),
        inside,
    )
    buffers.next_values[times, lanes] = stepper.values(inputs, state, inside)
