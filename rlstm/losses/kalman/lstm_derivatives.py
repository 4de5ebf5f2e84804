"""Derivatives of a small LSTM's outputs, written by hand: a few products for all weights at once.

With h̄, c̄ the state before the step, x ``(I,)`` what is read, ζ = [x | h̄ | 1] ``(Z,)``, Z = I + H + 1, units k, j = 0 ..
H - 1, the gates γ = i, f, g, o and θ one weight into unit j, all derivatives being with respect to θ:

    a_γk = Σ_l R_γkl h̄_l + ... + p_γk c̄_k            (the output gate's peephole sees c_k instead; g has none)
    a'_γk = [Σ_l R_γkl h̄'_l + p_γk c̄'_k] + direct_γk  (c'_k instead for o)
    c'_k = f_k c̄'_k + i_k (1 - i_k) g_k a'_ik + f_k (1 - f_k) c̄_k a'_fk + i_k (1 - g_k²) a'_gk
    h'_k = o_k (1 - o_k) tanh(c_k) a'_ok + o_k (1 - tanh²(c_k)) c'_k

The direct part is what the weight multiplies, where j = k: ζ for a row of W, R and b, and c̄_k or c_k for a peephole.
For z = V h + v it follows that z' = V h', and ∂z_p/∂V_pk = h_k, ∂z_p/∂v_p = 1.

*Full* is all of it: h' and c' are ``(H, H, F)``, F = 4 Z, or 4 Z + 3 with peepholes. *Truncated* leaves out the
bracket, so that errors go back in time through the memories c alone (Hochreiter & Schmidhuber 1997; Gers, Schraudolph &
Schmidhuber 2002): then unit k depends on its own weights only, and h', c' are ``(H, F)``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from rlstm.cells import RecurrentCell
from rlstm.cells.lstm import LSTMCell
from rlstm.cells.peephole_lstm import PeepholeLSTMCell
from rlstm.losses.kalman.covariance import Floats
from rlstm.losses.kalman.settings import Derivatives
from rlstm.losses.kalman.weights import TrainedWeights
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy

_GATES = 4  # i, f, g, o.
_SEEN_BY = (0, 1, 3)  # The gates of the three peepholes.


def is_lstm(policy: RecurrentPolicy) -> bool:
    """Whether there is an LSTM, with or without peepholes, between an encoder and a head without layers."""
    trained_by_encoder = any(True for _ in policy.actor.encoder.parameters())
    is_plain: bool = type(policy.actor.cell) in (LSTMCell, PeepholeLSTMCell)
    return is_plain and not trained_by_encoder and len(policy.policy_head) == 1


class LSTMDerivatives:
    """Those of ``LSTMCell`` and ``PeepholeLSTMCell`` in one layer, for a policy of which ``is_lstm`` holds."""

    def __init__(self, policy: RecurrentPolicy, weights: TrainedWeights, kind: Derivatives) -> None:
        cell = policy.actor.cell
        self._policy = policy
        self._is_full = kind == "full"
        self._hidden = hidden = cell.hidden_size
        self._width = width = cell.input_size + hidden + 1  # Z
        self._has_peepholes = isinstance(cell, PeepholeLSTMCell)
        self._of_units = _numbers_of_units(cell, weights)  # (H, F)
        self._of_head = np.concatenate(
            [weights.numbers("policy_head.0.weight"), weights.numbers("policy_head.0.bias")[:, None]], axis=1
        )  # (P, H + 1)
        self._count = weights.count
        units = (hidden,) if self._is_full else ()
        num_weights = self._of_units.shape[1]
        self._pre = np.zeros((_GATES, hidden, *units, num_weights))  # a', written anew at every step.
        self._scale = (hidden,) + (1,) * (len(units) + 1)
        direct = np.einsum("gkkn->gkn", self._pre) if self._is_full else self._pre
        self._direct = [direct[gate, :, gate * width : (gate + 1) * width] for gate in range(_GATES)]
        self._direct_peepholes = [
            direct[gate, :, _GATES * width + place] for place, gate in enumerate(_SEEN_BY) if self._has_peepholes
        ]
        rows = np.arange(len(self._of_head))
        self._head_rows = np.repeat(rows, hidden + 1), self._of_head.reshape(-1)

    def read(self, inputs: PolicyInputs, is_first: Tensor) -> None:
        """Encode the sequences, since no weight that is trained does."""
        policy = self._policy
        scale = policy.reward_scale
        with torch.no_grad():
            features = policy.input_features(policy.actor.encoder, inputs, is_first, scale, policy.dtype)
        self._features: Floats = features.numpy()
        self._is_first = is_first.numpy()
        second: nn.Parameter | None = getattr(policy.actor.cell, "bias_hh", None)  # Of an LSTM: not trained.
        biases = np.zeros(_GATES * self._hidden) if second is None else second.detach().numpy()
        self._second_bias: Floats = biases.reshape(_GATES, self._hidden)

    def begin(self, sequence: int) -> None:
        """Begin with states and sensitivities of 0."""
        self._sequence = sequence
        self._h, self._c = np.zeros(self._hidden), np.zeros(self._hidden)
        self._h_by, self._c_by = np.zeros_like(self._pre[0]), np.zeros_like(self._pre[0])

    def step(self, weights: Floats, t: int) -> tuple[Floats, Floats]:
        """Advance state and sensitivities."""
        if self._is_first[t, self._sequence]:
            self.begin(self._sequence)
        of_units = weights[self._of_units]
        self._advance(of_units, np.concatenate([self._features[t, self._sequence], self._h, [1.0]]))
        head = weights[self._of_head]
        h = np.append(self._h, 1.0)
        by_weights = np.zeros((len(head), self._count))
        if self._is_full:
            by_units = head[:, :-1] @ self._h_by.reshape(self._hidden, -1)
        else:
            by_units = (head[:, :-1, None] * self._h_by).reshape(len(head), -1)
        by_weights[:, self._of_units.reshape(-1)] = by_units
        by_weights[self._head_rows] = np.tile(h, len(head))
        return head @ h, by_weights

    def _advance(self, weights: Floats, read: Floats) -> None:
        """Advance h, c and their derivatives, for the weights of the units ``(H, F)`` and ζ ``(Z,)``."""
        hidden, width, scale, pre = self._hidden, self._width, self._scale, self._pre
        gates = weights[:, : _GATES * width].reshape(hidden, _GATES, width)
        peepholes = weights[:, _GATES * width :].T  # (3, H), or (0, H)
        see_i, see_f, see_o = peepholes if self._has_peepholes else np.zeros((3, hidden))
        a = (gates @ read).T + self._second_bias
        i, f, g = _logistic(a[0] + see_i * self._c), _logistic(a[1] + see_f * self._c), np.tanh(a[2])
        c = f * self._c + i * g
        o, tanh_c = _logistic(a[3] + see_o * c), np.tanh(c)
        if self._is_full:
            recurrent = gates[:, :, -1 - hidden : -1].transpose(1, 0, 2).reshape(_GATES * hidden, hidden)
            np.matmul(recurrent, self._h_by.reshape(hidden, -1), out=pre.reshape(_GATES * hidden, -1))
            if self._has_peepholes:
                pre[0] += see_i.reshape(scale) * self._c_by
                pre[1] += see_f.reshape(scale) * self._c_by
        else:
            pre.fill(0.0)
        for direct in self._direct:
            direct += read
        if self._has_peepholes:
            self._direct_peepholes[0] += self._c
            self._direct_peepholes[1] += self._c
        factors = np.stack([i * (1 - i) * g, f * (1 - f) * self._c, i * (1 - g * g)])
        c_by = f.reshape(scale) * self._c_by
        c_by += np.einsum("gk...,gk->k...", pre[:3], factors)
        if self._has_peepholes:
            if self._is_full:
                pre[3] += see_o.reshape(scale) * c_by
            self._direct_peepholes[2] += c
        self._h_by = (o * (1 - o) * tanh_c).reshape(scale) * pre[3] + (o * (1 - tanh_c**2)).reshape(scale) * c_by
        self._h, self._c, self._c_by = o * tanh_c, c, c_by


def _numbers_of_units(cell: RecurrentCell, weights: TrainedWeights) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the numbers of the weights into each unit ``(H, F)``: W, R and b of each gate in turn, then peepholes."""
    hidden = cell.hidden_size
    bias = "bias" if isinstance(cell, PeepholeLSTMCell) else "bias_ih"
    names = ("weight_ih", "weight_hh", bias)
    parts = [weights.numbers(f"actor.cell.{name}").reshape(_GATES, hidden, -1) for name in names]
    numbers = np.concatenate(parts, axis=2).transpose(1, 0, 2).reshape(hidden, -1)
    if not isinstance(cell, PeepholeLSTMCell):
        return numbers
    return np.concatenate([numbers, weights.numbers("actor.cell.peepholes").reshape(3, hidden).T], axis=1)


def _logistic(values: Floats) -> Floats:
    return 0.5 + 0.5 * np.tanh(0.5 * values)
