r"""Time, once and for all, and the rollout.

Axes: ``T`` time, ``B`` environments, then features. Time-major everywhere, no layout options. ::

                step t
      state_t --[ is_first[t]? reset ]--> cell(observation[t], ...) --> action[t] --> env --> reward[t],
                                                           \--> value[t]              terminated[t], truncated[t]

* A state with index t is the state **before** ``observations[t]`` is consumed. ``initial_state`` is the one before
  t = 0, and it is carried from rollout to rollout, never zeroed because a rollout ends.
* ``is_first[t]``: memory begins anew at step t; the state is reset **before** the cell sees ``observations[t]``.
  ``episode_starts[t]``: an environment episode begins at step t. They are equal only when ``memory.lifetime`` is
  ``episode``.
* ``terminated[t]``, ``truncated[t]``: the outcome of step t, never merged in stored data.
* Vector envs run in ``AutoresetMode.SAME_STEP``, so every row is a real transition.
* ``valid[t]``: False only in the idle tails of batches of complete trajectories (``collect_trajectories``): no loss, no
  statistics. ``is_first`` holds where a tail begins, and nothing is carried out of it: the next batch begins anew.
* ``credit_cuts[t]``: returns are cut after step t. ``next_values[t]`` = V(observations[t+1] | state after any reset)
  where credit is not cut; where it is cut: 0 if ``terminated[t]``, else V(final observation | state **before** the
  reset). Then δ = r + γ·next_values - values and A_t = δ_t + γλ(1 - credit_cuts_t)·A_{t+1}, with no special case at the
  end of a rollout.
* Rollouts hold raw rewards and values in raw units. Normaliser statistics change once per update, after the last epoch;
  otherwise the first ratio is not 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlstm.cells import State
from rlstm.core.errors import NonFiniteError
from rlstm.core.ranks import Ranks
from rlstm.core.trees import Tree, tree_leaves, tree_map
from rlstm.policies.inputs import PolicyEvaluation, PolicyInputs
from rlstm.policies.policy import RecurrentPolicy

_MASKS = ("is_first", "terminated", "truncated", "credit_cuts", "valid")
_NUMBERS = ("log_probs", "values", "rewards", "next_values")


class Onward(NamedTuple):
    """What the steps of a rollout led to, for agents that learn from it."""

    next_observations: Tree  # (T, B, ...) after each step; at the end of an episode its last one
    inputs: PolicyInputs  # (B, ...) of the step after the last: of a new episode where one ended
    is_first: Tensor  # (B,) bool, of that step


class StepsOfAll(NamedTuple):
    """What the steps of all ranks' envs gave, ``(T, B)``: what returns and statistics are computed from."""

    rewards: Tensor
    values: Tensor
    next_values: Tensor
    terminated: Tensor
    credit_cuts: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Rollout:
    """T steps of B envs; see the top of the file for the meaning of every index.

    Raises:
        ValueError: If a shape or a type is wrong, naming the field.
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
    onward: Onward | None = None  # if the collector was asked for it
    replay_error: float | None = None  # largest |ρ - 1| of a replay by the weights that acted, if others learn from it

    def __post_init__(self) -> None:
        """Check shapes and types."""
        shape = self.rewards.shape
        if len(shape) != 2:
            raise ValueError(f"rewards has shape {tuple(shape)}; it must be (T, B).")
        for name in _MASKS:
            mask: Tensor = getattr(self, name)
            if mask.shape != shape or mask.dtype != torch.bool:
                raise ValueError(f"{name} is {tuple(mask.shape)} {mask.dtype}; it must be {tuple(shape)} torch.bool.")
        for name in _NUMBERS:
            values: Tensor = getattr(self, name)
            if values.shape != shape or not values.is_floating_point():
                raise ValueError(f"{name} is {tuple(values.shape)} {values.dtype}; it must be {tuple(shape)} floats.")
        for leaf in [self.actions, *tree_leaves(self.inputs)]:
            if leaf.shape[:2] != shape:
                raise ValueError(f"An input or action is {tuple(leaf.shape)}; it must begin with {tuple(shape)}.")
        for leaf in tree_leaves(self.initial_state):
            if leaf.shape[0] != shape[1]:
                raise ValueError(f"A state leaf has shape {tuple(leaf.shape)}; it must begin with ({shape[1]},).")

    def check_finite(self) -> None:
        """Refuse numbers that are not finite; the collector checks every rollout once.

        Raises:
            NonFiniteError: If rewards, log-probabilities or values are not all finite.
        """
        for name in _NUMBERS:
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise NonFiniteError(f"The rollout's {name} are not all finite: the policy or the env has diverged.")

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

    def select(self, envs: Tensor) -> Rollout:
        """Return the whole sequences of some envs, ``envs`` an index ``(N,)``, in that order."""
        return self._map(lambda leaf: leaf.index_select(1, envs), lambda state_leaf: state_leaf.index_select(0, envs))

    def of_all(self, ranks: Ranks) -> StepsOfAll:
        """Return the steps of this rollout beside those of the other ranks."""
        return StepsOfAll(*ranks.columns(*(getattr(self, name) for name in StepsOfAll._fields)))

    def replay(self, policy: RecurrentPolicy) -> PolicyEvaluation:
        """Return what a policy's present weights make of the rollout, with gradient."""
        return policy.evaluate(self.inputs, self.actions, self.is_first, self.initial_state)

    @torch.no_grad()
    def seen_by(self, policy: RecurrentPolicy) -> Rollout:
        """Return the rollout with the log-probabilities and values that a policy's present weights give it.

        So are next values, but for those where credit is cut and after the last step: what was seen there is not in the
        rollout, and they stay those of the weights that acted.
        """
        replayed = self.replay(policy)
        next_values = self.next_values.clone()
        next_values[:-1] = torch.where(self.credit_cuts[:-1], next_values[:-1], replayed.values[1:])
        return replace(self, log_probs=replayed.log_probs, values=replayed.values, next_values=next_values)

    def to(self, device: torch.device) -> Rollout:
        """Return the rollout on another device."""
        if self.rewards.device == device:
            return self
        return self._map(lambda leaf: leaf.to(device), lambda state_leaf: state_leaf.to(device))

    def _map(self, of_steps: Callable[[Tensor], Tensor], of_state: Callable[[Tensor], Tensor]) -> Rollout:
        """Return the rollout with one function applied to every leaf ``(T, B, ...)``, one to those of the state."""
        steps: dict[str, Any] = {name: of_steps(getattr(self, name)) for name in ("actions", *_NUMBERS, *_MASKS)}
        inputs, state = tree_map(of_steps, self.inputs), tree_map(of_state, self.initial_state)
        onward = self.onward
        if onward is not None:
            onward = Onward(tree_map(of_steps, onward.next_observations), *tree_map(of_state, tuple(onward[1:])))
        return replace(self, inputs=inputs, **steps, initial_state=state, onward=onward)
