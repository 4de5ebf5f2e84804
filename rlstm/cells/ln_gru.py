"""The gated recurrent unit with layer normalisation.

Source: Ba, Kiros & Hinton 2016, *Layer normalization* (arXiv 1607.06450), supplementary material, the GRU. Weights and
biases have the names, the shapes and the gate order (reset, update, new) of ``torch.nn.GRUCell``; the biases are added
after the normalisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from rlstm.cells.base import memory_bias
from rlstm.cells.product_cell import OutputState, ProductCell, Weights
from rlstm.core.cell_options import MemoryInit, check_memory_length
from rlstm.kernels.bptt.gated import BPTTKernel, by_step, doubled_block, logistic_slope, tanh_slope

EPSILON = 1e-5


class LNGRUKernel(BPTTKernel):
    """The arithmetic of a layer-normalised GRU.

    With u = R h̄, û = ρ (u - mean(u)) and ρ = (variance(u) + ε)^-½ over each of the groups [r, z] and n, q = γ û_n + β
    the recurrent part of n, dh the gradient of h_t from output and t + 1, and δ_r, δ_z, δ_n = dh [d_r, d_z, d_n]::

        d_n = (1 - z)(1 - n²)        d_z = (h̄ - n) z (1 - z)        d_r = d_n q r (1 - r)
        w = [γ_r d_r, γ_z d_z, γ_n d_n r]        δu = dh [ρ w] - mean(dh [w û]) [ρ û]
        dh̄ = dh z + δu C R,    with C that takes off the mean of each group: C u = u - mean(u)

    A normalisation's gradient is ρ (v - mean(v) - û mean(v û)), here for v = dh w; C R, made once, takes off mean(v).
    The input's side is normalised for all steps at once.

    Parameters: W ``(3H, I)``, R ``(3H, H)``, then γ, β of the input's side and γ, β of the state's side ``(3H,)``;
    gates r, z, n; the leaf h.
    """

    fills = (0.0,)
    saved = ("gates", "new", "from_input", "new_from_input", "moments", "from_state", "new_from_state")

    gates: Tensor  # (T, B, 2H): r, z.
    new: Tensor  # (T, B, H): n.
    from_input: Tensor  # (T, B, 2H): W x of r and z, and beside it (T, B, H) of n.
    new_from_input: Tensor
    moments: Tensor  # (4, T, B, 1): mean and ρ of the first, mean and ρ of the second.
    from_state: Tensor  # (T, B, 2H): R h̄ of r and z, and beside it (T, B, H) of n.
    new_from_state: Tensor

    def begin(self) -> None:
        """Project the inputs and normalise; what enters n is doubled: a logistic function is faster than tanh."""
        weight_ih, weight_hh, *vectors = self.parameters
        gains, biases, *self.of_state = (_groups(doubled_block(one, 2, 3)) for one in vectors)
        self.recurrent = [weight.t() for weight in _groups(weight_hh)]
        flat = self.inputs.reshape(-1, self.inputs.shape[-1])
        shape = self.inputs.shape[:2]
        self.from_input, self.new_from_input = ((flat @ one.t()).view(*shape, -1) for one in _groups(weight_ih))
        self.gates, *moments = _normalise(self.from_input, gains[0], biases[0])
        self.new, *more = _normalise(self.new_from_input, gains[1], biases[1])
        self.moments = torch.stack([*moments, *more])
        self.from_state, self.new_from_state = torch.empty_like(self.gates), torch.empty_like(self.new)
        (self.outputs,) = self.buffers(1, weight_hh.shape[1])
        self.after = [self.outputs]
        parts = (self.from_state, self.new_from_state, self.outputs, self.gates, self.new)
        self.views = by_step((*parts, *self.gates.chunk(2, dim=-1)))

    def step(self, t: int, before: list[Tensor]) -> list[Tensor]:
        """Normalise R h̄, open r and z, then mix n and h̄."""
        (h,) = before
        from_state, new_from_state, output, opened, new, r, z = self.views[t]
        (gain, new_gain), (bias, new_bias) = self.of_state
        state_opens, *_ = _normalise(torch.mm(h, self.recurrent[0], out=from_state), gain, bias)
        twice_q, *_ = _normalise(torch.mm(h, self.recurrent[1], out=new_from_state), new_gain, new_bias)
        opened.add_(state_opens).sigmoid_()
        new.addcmul_(r, twice_q).sigmoid_().mul_(2.0).sub_(1.0)
        return [torch.lerp(new, h, z, out=output)]

    def begin_back(self, grad_outputs: Tensor) -> None:
        """Begin the sums."""
        weight_ih, weight_hh, *vectors = self.parameters
        self.grad_outputs, self.grad_inputs = grad_outputs, self.inputs.new_empty(self.inputs.shape)
        self.grad_weight_ih, self.grad_weight_hh = torch.zeros_like(weight_ih), torch.zeros_like(weight_hh)
        self.grad_vectors = [torch.zeros_like(one) for one in vectors]
        self.back_to_state = torch.cat([rows - rows.mean(0) for rows in _groups(weight_hh)])  # C R

    def factors(self, steps: slice) -> Iterable[Tensor]:
        """Compute the factors in brackets above."""
        _, _, _, _, gain, bias = self.parameters
        n, hidden = self.new[steps], self.new.shape[-1]
        self.r, z = self.gates[steps].chunk(2, dim=-1)
        self.h_before = self.before(0, steps)
        normed, *self.state_moments = _normalise(self.from_state[steps])
        new_normed, *self.new_state_moments = _normalise(self.new_from_state[steps])
        q = torch.addcmul(bias[2 * hidden :], new_normed, gain[2 * hidden :])
        self.into_new, self.into_gates = tanh_slope(1.0 - z, n), n.new_empty(*n.shape[:2], 2, hidden)
        logistic_slope(q.mul_(self.into_new), self.r, out=self.into_gates[:, :, 0])
        logistic_slope(self.h_before - n, z, out=self.into_gates[:, :, 1])
        normed = torch.cat([normed, new_normed], dim=-1).unflatten(-1, (3, hidden))
        scaled = n.new_empty(normed.shape)
        torch.mul(self.into_gates, gain[: 2 * hidden].view(2, hidden), out=scaled[:, :, :2])
        torch.mul(self.into_new, self.r, out=scaled[:, :, 2]).mul_(gain[2 * hidden :])
        means = scaled * normed  # Of the group, given to each of its gates.
        means[:, :, :2] = means[:, :, :2].sum(2, keepdim=True).mul_(0.5)
        means.div_(hidden)
        for one in (scaled, normed):
            one[:, :, :2].mul_(self.state_moments[1].unsqueeze(-1))
            one[:, :, 2].mul_(self.new_state_moments[1])
        self.grads, self.deltas = torch.empty_like(n), torch.empty_like(scaled)
        return self.grad_outputs[steps], z, scaled, means, normed, self.grads, self.deltas, self.deltas.flatten(2)

    def step_back(self, factors: Sequence[Tensor], grads: list[Tensor | None]) -> list[Tensor | None]:
        """Multiply by the factors."""
        grad, z, scaled, means, normed, place, delta, flat_delta = factors
        (dh,) = grads
        dh = place.copy_(grad) if dh is None else torch.add(grad, dh, out=place)
        torch.mul(scaled, dh.unsqueeze(1), out=delta)
        delta.addcmul_(normed, torch.bmm(means, dh.unsqueeze(2)), value=-1.0)
        return [torch.addmm(dh * z, flat_delta, self.back_to_state)]

    def gather(self, steps: slice) -> None:
        """Add to the sums, on both sides through the normalisation."""
        gate_side, new_side = (self.into_gates * self.grads.unsqueeze(2)).flatten(2), self.into_new * self.grads
        moments = self.moments[:, steps]
        delta = self._denormalise(
            2,
            (gate_side, self.from_input[steps], moments[0], moments[1]),
            (new_side, self.new_from_input[steps], moments[2], moments[3]),
        )
        torch.mm(delta, self.parameters[0], out=self.grad_inputs[steps].flatten(0, 1))
        self.grad_weight_ih.addmm_(delta.t(), self.inputs[steps].flatten(0, 1))
        delta = self._denormalise(
            4,
            (gate_side, self.from_state[steps], *self.state_moments),
            (new_side * self.r, self.new_from_state[steps], *self.new_state_moments),
        )
        self.grad_weight_hh.addmm_(delta.t(), self.h_before.flatten(0, 1))

    def _denormalise(self, gain: int, *sides: tuple[Tensor, ...]) -> Tensor:
        """Return gradients of what is normalised, ``(steps·B, 3H)``, and add those of γ and β.

        Args:
            gain: The place of γ among the parameters; β is the next.
            sides: Of r and z, and of n: the gradient of what is normalised and its values, mean and ρ.
        """
        grads = [
            torch.ops.aten.native_layer_norm_backward(
                grad, values, values.shape[-1:], mean, scale, *vectors, (True, True, True)
            )
            for (grad, values, mean, scale), *vectors in zip(
                sides, *(_groups(one) for one in self.parameters[gain : gain + 2]), strict=True
            )
        ]
        deltas, *vectors = (torch.cat(parts, dim=-1) for parts in zip(*grads, strict=True))
        for total, one in zip(self.grad_vectors[gain - 2 : gain], vectors, strict=True):
            total.add_(one)
        return deltas.flatten(0, 1)

    def finish_back(self) -> list[Tensor]:
        """Return the sums."""
        return [self.grad_inputs, self.grad_weight_ih, self.grad_weight_hh, *self.grad_vectors]


def _groups(parameter: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of r and z, which are normalised together, and those of n."""
    both, new = parameter.tensor_split([len(parameter) // 3 * 2])
    return both, new


def _normalise(values: Tensor, gain: Tensor | None = None, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return values ``(..., G)`` normalised, their mean and ρ ``(..., 1)``."""
    return torch.native_layer_norm(values, values.shape[-1:], gain, bias, EPSILON)


def _normalise_all(values: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Return LN of values ``(B, G)``, γ and β ``(G,)``."""
    return layer_norm(values, values.shape[-1:], gain, bias, EPSILON)


def _normalise_rows(values: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Return LN of values ``(B, G)``, where each row has γ and β of its own, ``(B, G)``."""
    return torch.addcmul(bias, layer_norm(values, values.shape[-1:], eps=EPSILON), gain)


class LNGRUCell(ProductCell):
    """Gated recurrent unit with layer normalisation.

    With h̄ the state after any reset and LN(v; γ, β) = γ (v - mean(v)) / √(variance(v) + ε) + β, ε = 1e-5, the mean and
    the variance of the numbers of v, those of r and z together::

        a_rz = LN(W_rz x; γ_rz, β_rz),    s_rz = LN(R_rz h̄; γ'_rz, β'_rz),    r, z = σ(a_rz + s_rz)
        a_n = LN(W_n x; γ_n, β_n),        s_n = LN(R_n h̄; γ'_n, β'_n),        n = tanh(a_n + r s_n)
        h = (1 - z) n + z h̄

    The paper calls 1 - z what is z here and in ``GRUCell``. How large the input and the state are does not matter, but
    for a state of nearly 0, whose LN is 0: the first step of a trajectory.

    The gains γ (``gain_ih``), γ' (``gain_hh``) start at 1 and the biases β (``bias_ih``), β' (``bias_hh``) at 0; with a
    memory length β_z spreads time scales up to it. W and R start as those of ``GRUCell``.

    Raises:
        ValueError: If ``hidden_size`` is 1: one number is its own mean.
    """

    source = "Ba, Kiros & Hinton 2016"
    state_type = OutputState
    kernel = LNGRUKernel

    def __init__(
        self, input_size: int, hidden_size: int, memory_length: int | None = None, memory_init: MemoryInit = "chrono"
    ) -> None:
        super().__init__(input_size, hidden_size)
        if hidden_size == 1:
            raise ValueError("hidden_size is 1; cell 'ln_gru' needs at least 2, for one number normalised is always 0.")
        check_memory_length(memory_length, memory_init)
        self.make_gates(3, input_size)
        for name, value in (("gain_ih", 1.0), ("bias_ih", 0.0), ("gain_hh", 1.0), ("bias_hh", 0.0)):
            self.register_parameter(name, nn.Parameter(torch.full((3 * hidden_size,), value)))
        if memory_length is not None:
            self.bias_ih.detach().chunk(3)[1].copy_(memory_bias(hidden_size, memory_length, memory_init))

    def weights(self, parameters: Mapping[str, Tensor]) -> Weights:
        """Return a product of the inputs and one of the state, without a bias, and what follows the normalisation."""
        p, none = parameters, torch.zeros_like(parameters["bias_ih"])
        vectors = {name: p[name] for name in ("gain_ih", "bias_ih", "gain_hh", "bias_hh")}
        return {"from_input": ((p["weight_ih"], none),), "from_state": ((p["weight_hh"], none),), **vectors}

    def equations(self, by: Any, inputs: Tensor, state: OutputState) -> tuple[Tensor, OutputState]:
        """Advance one step, ``(B, I)`` to ``(B, H)``."""
        opened, from_input, from_state = self._opened(by, inputs, state)
        r, z = opened.chunk(2, dim=1)
        h = torch.lerp(torch.tanh(torch.addcmul(from_input, r, from_state)), state.h, z)  # (1 - z) n + z h̄
        return h, OutputState(h)

    def gates(self, inputs: Tensor, state: OutputState) -> dict[str, Tensor]:
        """Return r, and z as the share that is kept."""
        opened, _, _ = self._opened(self.products(), inputs, state)
        r, z = opened.chunk(2, dim=1)
        return {"reset": r, "forget": z}

    def _opened(self, by: Any, inputs: Tensor, state: OutputState) -> tuple[Tensor, Tensor, Tensor]:
        """Return r and z ``(B, 2H)``, and a_n and s_n ``(B, H)``."""
        sizes = [2 * self.hidden_size, self.hidden_size]
        input_side = (by.from_input(inputs), by.gain_ih, by.bias_ih)
        state_side = (by.from_state(state.h), by.gain_hh, by.bias_hh)
        norm = _normalise_rows if by.is_population else _normalise_all
        (a, a_n), (s, s_n) = (
            [norm(*group) for group in zip(*(one.split(sizes, dim=-1) for one in side), strict=True)]
            for side in (input_side, state_side)
        )
        return torch.sigmoid(a + s), a_n, s_n
