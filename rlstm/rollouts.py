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
* ``valid[t]``: False only in the idle tails of batches of complete lives (``collect_lives``): no loss, no statistics.
  ``is_first`` holds where a tail begins, and nothing is carried out of it: the next batch begins every life anew.
* ``credit_cuts[t]``: returns are cut after step t. ``next_values[t]`` = V(observations[t+1] | state after any erase)
  where credit is not cut; where it is cut: 0 if ``terminated[t]``, else V(final observation | state **before** the
  erase). Then δ = r + γ·next_values - values and A_t = δ_t + γλ(1 - credit_cuts_t)·A_{t+1}, with no special case at the
  end of a rollout.
* Rollouts hold raw rewards and values in raw units. Normaliser statistics change once per update, after the last epoch;
  otherwise the first ratio is not 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlstm.cells import State
from rlstm.episodes import EpisodeStatistics
from rlstm.errors import EnvironmentFailure, NonFiniteError
from rlstm.memory import BoolArray, crosses
from rlstm.next_values import FinalRows
from rlstm.policies import PolicyInputs, RecurrentPolicy
from rlstm.policy_view import PolicyView
from rlstm.rollout_buffers import RolloutBuffers
from rlstm.trees import tree_leaves, tree_map
from rlstm.vector_envs import EnvStep, LaneEnvs

__all__ = ["Carry", "Rollout", "collect", "collect_lives", "refresh_carry", "start"]

_ROOM_FOR_LIVES = 64  # Steps that buffers have room for at first, if it isn't known how many there will be.
_LONGEST_LIFE = 100_000  # Steps.


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

    def begin(self, policy: RecurrentPolicy, step: EnvStep) -> None:
        """Begin every lane's life after a reset of all lanes."""
        self.view = PolicyView(policy, step)
        self.state = policy.init_state(len(step.rewards))
        self.statistics.begin()

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


class _Play:
    """Play, step after step, written down as it goes; the steps are taken inside ``torch.inference_mode``."""

    def __init__(self, policy: RecurrentPolicy, envs: LaneEnvs, carry: Carry, capacity: int) -> None:
        self.policy, self.envs, self.carry = policy, envs, carry
        self.stepper = policy.stepper()
        self.buffers = RolloutBuffers(policy, carry.view, capacity)
        self.final_rows = FinalRows()

    def step(self, playing: BoolArray | None = None) -> BoolArray:
        """Step every lane; returns ``(B,)`` where memory is erased next.

        Args:
            playing: ``(B,)`` lanes whose step counts; the others idle. None for all.
        """
        carry, view, memory = self.carry, self.carry.view, self.policy.memory
        inputs = view.inputs()
        step = self.stepper.step(inputs, carry.state, torch.as_tensor(view.is_first, device=self.policy.device))
        self.buffers.write(view.is_first, inputs, step)
        outcome = self.envs.step(self.policy.distribution.to_env(step.actions))
        episode_ends = outcome.terminated | outcome.truncated
        trial_ends = episode_ends & outcome.trial_starts
        lives_end = crosses(memory.lifetime, episode_ends, trial_ends)
        cuts = crosses(memory.credit_boundary, episode_ends, trial_ends)
        carry.state = step.state
        view.advance(outcome, step.actions, lives_end)
        if playing is not None and not playing.all():
            outcome, trial_ends, cuts = _only(playing, outcome), trial_ends & playing, cuts & playing
        carry.statistics.add(outcome.rewards, outcome.finished, outcome.successes, trial_ends)
        if len(outcome.finished):
            self.final_rows.add(self.buffers.num_steps, cuts, step, outcome, view)
        self.buffers.write_outcome(outcome, cuts, playing)
        return lives_end

    def rollout(self, initial_state: State) -> Rollout:
        """Return what was played, next values included, in ordinary tensors."""
        carry, fields = self.carry, self.buffers.fields()
        with torch.inference_mode():
            self.final_rows.write_next_values(fields, self.stepper, carry.view, carry.state)
        # Out of inference mode: usable wherever gradients flow.
        carry.state = tree_map(Tensor.clone, carry.state)
        carry.view.previous_actions = carry.view.previous_actions.clone()
        return Rollout(**fields, initial_state=initial_state)


def _only(playing: BoolArray, outcome: EnvStep) -> EnvStep:
    """Return the outcome with nothing of the lanes that don't play."""
    finished = playing[outcome.finished]
    return outcome._replace(
        rewards=np.where(playing, outcome.rewards, 0.0),
        terminated=outcome.terminated & playing,
        truncated=outcome.truncated & playing,
        finished=outcome.finished[finished],
        final_observations=tree_map(lambda leaf: leaf[finished], outcome.final_observations),
        successes=outcome.successes[finished],
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
    initial_state = tree_map(Tensor.clone, carry.state)
    play = _Play(policy, envs, carry, num_steps)
    with torch.inference_mode():
        for _ in range(num_steps):
            play.step()
    return play.rollout(initial_state)


def collect_lives(
    policy: RecurrentPolicy, envs: LaneEnvs, carry: Carry, num_lives: int, seeds: Sequence[int]
) -> Rollout:
    """Let the policy live exactly ``num_lives`` complete lives: episodes, or trials where ``memory.lifetime`` is one.

    Every lane is reset and begins with an empty memory. A lane whose life ends begins the next one until ``num_lives``
    have begun; from then on it idles, ``valid`` False. So which lives are in the batch doesn't depend on their length.

    Args:
        policy: Samples the actions; its weights don't change meanwhile.
        envs: The lanes.
        carry: Begins anew; the means over finished episodes stay.
        num_lives: N.
        seeds: One for the reset of each lane.

    Returns:
        The rollout, as long as the last life in it, in ordinary tensors.

    Raises:
        EnvironmentFailure: If a life does not end.
    """
    carry.begin(policy, envs.reset(seeds))
    initial_state = tree_map(Tensor.clone, carry.state)
    play = _Play(policy, envs, carry, _ROOM_FOR_LIVES)
    playing = np.arange(envs.num_envs) < num_lives
    to_begin = max(0, num_lives - envs.num_envs)
    ages = np.zeros(envs.num_envs, dtype=np.int64)
    with torch.inference_mode():
        while playing.any():
            lives_end = play.step(playing)
            ages = np.where(lives_end, 0, ages + 1)
            _refuse_endless_lives(ages[playing])
            ended = np.flatnonzero(lives_end & playing)
            playing[ended[to_begin:]] = False
            to_begin = max(0, to_begin - len(ended))
    return play.rollout(initial_state)


def _refuse_endless_lives(ages: npt.NDArray[np.int64]) -> None:
    if len(ages) and ages.max() >= _LONGEST_LIFE:
        raise EnvironmentFailure(
            f"A life has not ended after {_LONGEST_LIFE:,} steps, and only complete ones are learnt from here. Give "
            "the env a time limit (max_episode_steps when it is registered), or use ppo, which needs no ends."
        )


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
