"""Learning what a teacher answers by the decoupled extended Kalman filter.

A sequence is read step by step, t = 0 .. T - 1. At every step the network advances with the weights as they are, and
with it the derivatives of its outputs (``derivatives``). Where something is asked, what is measured of the outputs z is
compared with the target (``measurements``), which gives the innovation ξ = d - y and H' = S ∂z/∂w, and the filter takes
a step (``covariance``); the next input is read with the new weights, while state and sensitivities go on.

With ``weight_noise`` σ the weights w_n of encoder and memory are w_n + σ ε_n from the first to the last step of a
sequence, ε_n standard normal and drawn anew for each. Steps of the filter change w_n. What is learnt then has to hold
for all networks nearby, with gates that are open or shut and steps of a counter that are all alike, and so for longer
sequences than those seen.

Source of the noise: K.-C. Jim, C. L. Giles, B. G. Horne, *An analysis of noise in recurrent neural networks:
convergence and generalization*, IEEE Transactions on Neural Networks 7(6), 1996: additive, per sequence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstm.core.errors import NonFiniteError
from rlstm.core.trees import tree_leaves
from rlstm.losses.kalman.covariance import Floats, GroupCovariances, check_memory
from rlstm.losses.kalman.derivatives import AnyDerivatives, Derivatives
from rlstm.losses.kalman.lstm_derivatives import LSTMDerivatives, is_lstm
from rlstm.losses.kalman.measurements import Measurement
from rlstm.losses.kalman.settings import KalmanConfig
from rlstm.losses.kalman.weights import TrainedWeights
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy


class KalmanTeacher:
    """Owns the filter of a policy, whose weights it changes.

    Args:
        policy: In float64 on the CPU. Trained is what its policy head's outputs depend on, see ``TrainedWeights``.
        config: The settings.

    Raises:
        ValueError: If the policy is of another type or on another device, its actions can't be measured, the
            derivatives can't be truncated, or covariances or sensitivities would take more than 2 GiB.
    """

    def __init__(self, policy: RecurrentPolicy, config: KalmanConfig) -> None:
        if policy.dtype != torch.float64 or policy.device.type != "cpu":
            raise ValueError(
                f"The policy is {str(policy.dtype).removeprefix('torch.')} on {policy.device}, but the Kalman filter "
                "needs every digit and works step by step: use --dtype float64 --device cpu."
            )
        self.config = config
        self._weights = TrainedWeights(policy)
        groups = self._weights.groups(config.groups)
        num_states = sum(leaf.numel() for leaf in tree_leaves(policy.actor.cell.init_state(1)))
        check_memory([len(group) for group in groups], num_states)
        self._measurement = Measurement(policy.distribution, config.measured)
        self._derivatives: Derivatives = _derivatives(policy, self._weights, config)
        self._covariances = GroupCovariances(groups, config.first_variance)
        self._policy = policy
        self.updates = 0
        """Steps of the filter so far."""

    @property
    def facts(self) -> str:
        """What is trained, in words."""
        groups = self._weights.groups(self.config.groups)
        return f"{self._weights.count} weights in {len(groups)} groups of up to {max(map(len, groups))}"

    def learn(
        self,
        inputs: PolicyInputs,
        is_first: Tensor,
        targets: Tensor,
        weights: Tensor,
        *,
        progress: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> dict[str, float]:
        """Read sequences one after another and take a step wherever something is asked.

        Every sequence begins with a memory that has seen nothing.

        Args:
            inputs: What was seen, ``(T, S, ...)``.
            is_first: ``(T, S)`` bool.
            targets: What the policy head should have put out, ``(T, S, P)``; choices 1 against -1.
            weights: ``(T, S)``, 0 where nothing is asked; a step of weight ω is measured with noise R / ω.
            progress: Of the run, from 0 to 1: decides R and Q.
            generator: Draws the noise of the weights, if there is any; by default torch's own.

        Returns:
            The mean squared innovation of a measured number before its step, ``innovation``; the trace of all
            covariances, ``covariance_trace``; R and Q, ``measurement_noise`` and ``process_noise``; ``updates``.

        Raises:
            NonFiniteError: If weights or outputs are no longer finite; the policy is as before the call.
        """
        noises = self.config.noises(progress)
        vector = self._weights.read()
        wanted, asked = targets.double().numpy(), weights.double().numpy()
        self._derivatives.read(inputs, is_first)
        squares = 0.0
        for sequence in range(is_first.shape[1]):
            self._derivatives.begin(sequence)
            added = self._drawn_noise(generator)
            vector[self._weights.of_memory] += added
            squares += self._filter(vector, wanted[:, sequence], asked[:, sequence], noises)
            vector[self._weights.of_memory] -= added
        if not np.isfinite(vector).all() or not np.isfinite(squares):
            raise NonFiniteError(
                f"Not finite after {self.updates:,} steps of the Kalman filter: the weights. Use a larger measurement "
                "noise or a smaller first variance."
            )
        self._weights.write(vector)
        return {
            "innovation": squares / max(1, int((asked > 0).sum()) * self._measurement.count),
            "covariance_trace": self._covariances.trace,
            "measurement_noise": noises[0],
            "process_noise": noises[1],
            "updates": float(self.updates),
        }

    def _filter(self, vector: Floats, wanted: Floats, asked: Floats, noises: tuple[float, float]) -> float:
        """Read a sequence up to the last answer, changing the weights ``(N,)``; returns the sum of all ξ²."""
        squares = 0.0
        steps = np.flatnonzero(asked > 0)
        for t in range(int(steps[-1]) + 1 if len(steps) else 0):
            outputs, by_weights = self._derivatives.step(vector, t)
            if not asked[t] > 0:
                continue
            innovation, slopes = self._measurement(outputs, wanted[t])
            self._covariances.update(
                vector,
                slopes @ by_weights,
                innovation,
                measurement_noise=noises[0] / float(asked[t]),
                process_noise=noises[1],
            )
            squares += float(innovation @ innovation)
            self.updates += 1
        return squares

    def _drawn_noise(self, generator: torch.Generator | None) -> Floats | float:
        """Return what is added to the weights of encoder and memory while a sequence is read."""
        if self.config.weight_noise == 0:
            return 0.0
        size = self._weights.of_memory.stop
        drawn: Floats = torch.randn(size, generator=generator, dtype=torch.float64).numpy()
        return drawn * self.config.weight_noise

    def state_dict(self) -> dict[str, Any]:
        """Return all but the policy's weights."""
        return {**self._covariances.state_dict(), "updates": self.updates}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        self._covariances.load_state_dict(values)
        self.updates = values["updates"]


def _derivatives(policy: RecurrentPolicy, weights: TrainedWeights, config: KalmanConfig) -> Derivatives:
    """Return the fast derivatives where there are some, else those of any network."""
    if is_lstm(policy):
        return LSTMDerivatives(policy, weights, config.derivatives)
    if config.derivatives == "truncated":
        raise ValueError(
            "derivatives is 'truncated', which takes one layer of lstm or peephole_lstm between an encoder and a head "
            "without layers: leave it out, or use --cell peephole_lstm --encoder-sizes --head-sizes."
        )
    return AnyDerivatives(policy, weights)
