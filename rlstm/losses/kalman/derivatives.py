"""Derivatives of a policy's outputs with respect to its weights, carried forward in time.

With s_t ``(D,)`` the state after step t, w the weights ``(N,)``, and one step of the network

    (z_t, s_t) = F(w, s_{t-1}, x_t),    t = 0 .. T - 1

the sensitivities ∂s_t/∂w ``(D, N)`` and the derivatives of the outputs z_t ``(P,)`` are

    ∂s_t/∂w = (∂F_s/∂s) ∂s_{t-1}/∂w + ∂F_s/∂w,    ∂z_t/∂w = (∂F_z/∂s) ∂s_{t-1}/∂w + ∂F_z/∂w

from ∂s_{-1}/∂w = 0. Where memory is reset both s and ∂s/∂w begin at 0 anew. If the weights stay the same these are the
gradients of backpropagation through the unrolled sequence, without truncation. If they change after every step, each
product is taken at the weights of its own step, which is right up to the size of the changes.

This is real-time recurrent learning.

Source: R. J. Williams, D. Zipser, *A learning algorithm for continually running fully recurrent neural networks*,
Neural Computation 1(2), 1989.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rlstm.core.trees import tree_leaves, tree_map
from rlstm.losses.kalman.covariance import Floats
from rlstm.losses.kalman.weights import TrainedWeights
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy


class Derivatives(Protocol):
    """Runs the network step by step over one sequence of several, with the derivatives of its outputs."""

    def read(self, inputs: PolicyInputs, is_first: Tensor) -> None:
        """Take the sequences to be run, ``(T, S, ...)`` and ``(T, S)``."""

    def begin(self, sequence: int) -> None:
        """Begin with a memory that has seen nothing."""

    def step(self, weights: Floats, t: int) -> tuple[Floats, Floats]:
        """Read step t, at the weights ``(N,)``; returns the outputs z ``(P,)`` and ∂z/∂w ``(P, N)``."""


class AnyDerivatives:
    """Those of any encoder and memory, by automatic differentiation of the step: D + P passes through it for each."""

    def __init__(self, policy: RecurrentPolicy, weights: TrainedWeights) -> None:
        self._policy, self._weights = policy, weights
        self._step = _Step(policy)
        leaves = tree_leaves(policy.actor.cell.init_state(1))
        self._num_states = sum(leaf.numel() for leaf in leaves)
        self._jacobian = torch.func.jacrev(self._flat_step, argnums=(0, 1), has_aux=True)

    def read(self, inputs: PolicyInputs, is_first: Tensor) -> None:
        """Keep the sequences."""
        self._inputs, self._is_first = inputs, is_first

    def begin(self, sequence: int) -> None:
        """Begin with the initial state and sensitivities of 0."""
        self._sequence = sequence
        self._state = _flat(self._policy.actor.cell.init_state(1))
        self._sensitivities = self._state.new_zeros(self._num_states, self._weights.count)

    def step(self, weights: Floats, t: int) -> tuple[Floats, Floats]:
        """Advance state and sensitivities."""
        here = slice(self._sequence, self._sequence + 1)
        inputs = tree_map(lambda leaf: leaf[t, here], self._inputs)
        is_first = self._is_first[t, here]
        if is_first.item():  # Replaced, not multiplied by 0: what is not finite doesn't survive.
            self.begin(self._sequence)
        (by_weights, by_state), after = self._jacobian(torch.as_tensor(weights), self._state, inputs, is_first)
        whole = by_weights.detach()
        if self._num_states:
            whole = torch.addmm(whole, by_state.detach(), self._sensitivities)
        self._state, self._sensitivities = after[: self._num_states], whole[: self._num_states]
        return after[self._num_states :].numpy(), whole[self._num_states :].numpy()

    def _flat_step(
        self, weights: Tensor, state: Tensor, inputs: PolicyInputs, is_first: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the next state and the outputs as one vector ``(D + P,)``, twice: to be differentiated, and as is."""
        initial = self._policy.actor.cell.init_state(1)
        parts = iter(state.split([leaf.numel() for leaf in tree_leaves(initial)]))
        before = tree_map(lambda leaf: next(parts).view_as(leaf), initial)
        named = {f"policy.{name}": part for name, part in self._weights.split(weights).items()}
        outputs, after = torch.func.functional_call(self._step, named, (inputs, before, is_first))
        flat = torch.cat([_flat(after), outputs[0]])
        return flat, flat.detach()


class _Step(nn.Module):
    """One step of encoder, memory and policy head, callable with other weights."""

    def __init__(self, policy: RecurrentPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, inputs: PolicyInputs, state: Any, is_first: Tensor) -> tuple[Tensor, Any]:
        """Return the outputs ``(1, P)`` and the next state."""
        policy = self.policy
        cell = policy.actor.cell
        features = policy.input_features(policy.actor.encoder, inputs, is_first, policy.reward_scale, policy.dtype)
        features, state = cell.step(features, state)
        outputs: Tensor = policy.policy_head(features)
        return outputs, state


def _flat(state: Any) -> Tensor:
    """Return the leaves of a state ``(1, ...)`` as one vector ``(D,)``."""
    leaves = [leaf.reshape(-1) for leaf in tree_leaves(state)]
    return torch.cat(leaves) if leaves else torch.zeros(0, dtype=torch.float64)
