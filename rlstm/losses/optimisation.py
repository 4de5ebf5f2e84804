"""One step down a gradient: nothing that is not finite reaches the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlstm.core.errors import NonFiniteError
from rlstm.core.ranks import ALONE, Ranks

_ALIGNED = 16  # Numbers to a cache line, at which every parameter begins: products read them faster.


class Term(NamedTuple):
    """A part of what is descended: a weight times a loss of some outputs."""

    outputs: Tensor  # Of the network, with their record for autograd.
    loss: Tensor  # A scalar, without one.
    gradient: Tensor  # Of the loss, with respect to the outputs.
    weight: float = 1.0


def annealed(start: float, end: float | None, progress: float) -> float:
    """Return what goes linearly from ``start`` to ``end`` while ``progress`` goes from 0 to 1; None stays at start."""
    return start if end is None else start + (end - start) * progress


class Descent:
    """Adam over all parameters of a module, with gradients clipped by their global norm (Kingma & Ba 2015).

    With ``weight_decay`` λ it is AdamW: θ is multiplied by 1 - αλ before a step of size α (Loshchilov & Hutter 2019).

    The parameters become parts of one vector, and their gradients parts of another, so that zeroing, norm, clipping and
    Adam are one operation each, however many parameters there are. The module keeps its parameters and their values.
    ``state_dict`` has for every parameter what that of ``torch.optim.Adam`` has, which is not used for a single vector:
    around the same kernel it takes several times as long as the kernel, and a second to be imported.

    Args:
        named_parameters: All that are trained, of one type on one device.
        max_grad_norm: Largest global norm of the gradient.
        apart: Beginnings of the names of parameters that take steps apart from the others: their own gradient, norm and
            averages.
        weight_decay: λ.
        epsilon: ε, what is added to the root of the mean square of a gradient.
        ranks: Those that descend together: each adds its share of the gradient, in one message a step.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        max_grad_norm: float,
        apart: tuple[str, ...] = (),
        weight_decay: float = 0.0,
        epsilon: float = 1e-5,
        ranks: Ranks = ALONE,
    ) -> None:
        self.learning_rate = 0.0
        self._ranks = ranks
        self._max_grad_norm, self._weight_decay, self._epsilon = max_grad_norm, weight_decay, epsilon
        self._named = list(named_parameters)
        groups: tuple[list[int], list[int]] = ([], [])
        for index, (name, _) in enumerate(self._named):
            groups[name.startswith(apart)].append(index)
        self._groups = groups
        self._vectors = [_Vector([self._named[index] for index in group]) if group else None for group in groups]

    def schedule(self, config: Any, progress: float) -> tuple[float, float]:
        """Set the learning rate at a ``progress`` from 0 on, at most 1; returns it and the entropy's weight.

        An agent's config has ``learning_rate`` and ``anneal_lr``, ``ent_coef`` and ``final_ent_coef``.
        """
        progress = min(1.0, progress)
        self.learning_rate = annealed(config.learning_rate, 0.0 if config.anneal_lr else None, progress)
        return self.learning_rate, annealed(config.ent_coef, config.final_ent_coef, progress)

    def step(
        self,
        terms: Mapping[str, Term],
        place: str,
        *,
        apart: bool = False,
        told: Mapping[str, Tensor] | None = None,
        share: float = 1.0,
    ) -> dict[str, Tensor]:
        """Take one step down the weighted sum of some losses.

        Args:
            terms: What is summed, by name.
            place: Where in the run this is, for errors: "update 7".
            apart: Whether the parameters that are ``apart`` take the step, or the others.
            told: More scalars, means over the same steps as the losses.
            share: The part of all ranks' steps over which this rank's losses are means.

        Returns:
            Scalars, over the steps of all ranks: the losses and what is told by name, their weighted sum ``loss``, and
            ``grad_norm``, the global norm of its gradient before clipping.

        Raises:
            NonFiniteError: If the loss or a gradient is not finite, naming it; the weights are then untouched.
        """
        vector = self._vectors[apart]
        assert vector is not None
        for one in self._vectors:
            if one is not None:
                one.begin()
        _backpropagate(terms, share)
        scalars = {name: term.loss for name, term in terms.items()} | dict(told or {})
        if not self._ranks.is_alone:
            summed = vector.sum_over(self._ranks, share * torch.stack(list(scalars.values())))
            scalars = dict(zip(scalars, summed, strict=True))
        loss = _sum({name: (term.weight, scalars[name]) for name, term in terms.items()}, place)
        norm: Tensor = torch.linalg.vector_norm(vector.gradient)
        size = norm.item()
        if not math.isfinite(size):  # Before clipping, which spreads a NaN to all gradients.
            raise NonFiniteError(f"Not finite in {place}: the gradient of {_first_bad(self._named)}.")
        if size > self._max_grad_norm:
            vector.gradient.mul_(self._max_grad_norm / (size + 1e-6))
        vector.step(self.learning_rate, self._weight_decay, self._epsilon)
        return {**scalars, "loss": loss, "grad_norm": norm}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every parameter that has taken a step, by its place among them."""
        state: dict[int, Any] = {}
        for group, vector in zip(self._groups, self._vectors, strict=True):
            if vector is not None:
                state.update(zip(group, vector.states(), strict=False))
        return {"state": dict(sorted(state.items()))}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned, or an Adam's over the same parameters."""
        for group, vector in zip(self._groups, self._vectors, strict=True):
            if vector is not None:
                vector.load([values["state"].get(index) for index in group])


class _Vector:
    """Parameters that take their steps together, as one vector."""

    def __init__(self, named_parameters: list[tuple[str, nn.Parameter]]) -> None:
        self._parameters = [parameter for _, parameter in named_parameters]
        self._places, size = [], 0
        for parameter in self._parameters:
            self._places.append(slice(size, size + parameter.numel()))
            size += -(-parameter.numel() // _ALIGNED) * _ALIGNED
        like = self._parameters[0].detach()
        self._values, self.gradient, self._means, self._squares = like.new_zeros(4, size).unbind()
        self._num_steps = like.new_zeros((), dtype=torch.float32)
        self._join()

    def begin(self) -> None:
        """Set the gradient to zero."""
        if not self._is_joined():
            self._join()
        self.gradient.zero_()

    def sum_over(self, ranks: Ranks, scalars: Tensor) -> Tensor:
        """Replace the gradient by the sum of those of all ranks; returns the sums of the scalars ``(K,)`` too."""
        message = torch.cat([self.gradient, scalars])
        ranks.sum_(message)
        self.gradient.copy_(message[: len(self.gradient)])
        return message[len(self.gradient) :]

    @torch.no_grad()
    def step(self, learning_rate: float, weight_decay: float, epsilon: float) -> None:
        """Take Adam's step, after the decay."""
        if weight_decay:
            self._values.mul_(1 - learning_rate * weight_decay)
        self._num_steps += 1
        torch._fused_adam_(  # What torch.optim.Adam(fused=True) calls.
            [self._values],
            [self.gradient],
            [self._means],
            [self._squares],
            [],
            [self._num_steps],
            lr=learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=epsilon,
            amsgrad=False,
            maximize=False,
        )

    def states(self) -> list[dict[str, Tensor]]:
        """Return a copy of the state of each parameter, none before the first step."""
        if not self._num_steps:
            return []
        parts = zip(self._parameters, self._places, strict=True)
        return [
            {
                "step": self._num_steps.clone(),
                "exp_avg": self._means[place].view_as(parameter).clone(),
                "exp_avg_sq": self._squares[place].view_as(parameter).clone(),
            }
            for parameter, place in parts
        ]

    def load(self, states: Sequence[Mapping[str, Tensor] | None]) -> None:
        """Load the states of the parameters: None for one that has taken no step."""
        for vector in (self._num_steps, self._means, self._squares):
            vector.zero_()
        for place, state in zip(self._places, states, strict=True):
            if state is not None:
                self._num_steps.copy_(state["step"])
                self._means[place] = state["exp_avg"].flatten().to(self._means)
                self._squares[place] = state["exp_avg_sq"].flatten().to(self._squares)

    @torch.no_grad()
    def _join(self) -> None:
        """Make the parameters parts of the vector, with the values that they have."""
        for parameter, place in zip(self._parameters, self._places, strict=True):
            part = self._values[place].view_as(parameter)
            part.copy_(parameter)
            parameter.data, parameter.grad = part, self.gradient[place].view_as(parameter)

    def _is_joined(self) -> bool:
        """Whether the parameters are parts of the vector: those of a copy of the module are not yet."""
        ends = (self._parameters[0], self._places[0]), (self._parameters[-1], self._places[-1])
        return all(
            part.grad is not None
            and part.data_ptr() == self._values[place].data_ptr()
            and part.grad.data_ptr() == self.gradient[place].data_ptr()
            for part, place in ends
        )


def _sum(terms: Mapping[str, tuple[float, Tensor]], place: str) -> Tensor:
    """Return the weighted sum of the losses, given with their weights, if it is finite."""
    (weight, first), *others = terms.values()
    loss = weight * first
    for weight, other in others:
        loss = torch.add(loss, other, alpha=weight)
    if not math.isfinite(loss.item()):
        bad = [name for name, (_, term) in terms.items() if not math.isfinite(term.item())]
        raise NonFiniteError(f"Not finite in {place}: {', '.join(bad) or 'loss'}.")
    return loss


def _backpropagate(terms: Mapping[str, Term], share: float) -> None:
    """Add a share of the gradient of the weighted sum to the parameters'.

    It is that of Σ weight · outputs · gradient. Gradients handed to ``torch.autograd.backward`` would say the same,
    but with the first of them PyTorch imports all of its symbolic shapes, for more than a second.
    """
    total: Tensor | None = None
    for term in terms.values():
        weight = share * term.weight
        if weight:
            gradient = term.gradient if weight == 1 else weight * term.gradient
            part = torch.dot(term.outputs.reshape(-1), gradient.reshape(-1))
            total = part if total is None else total + part
    if total is not None:
        total.backward()


def _first_bad(named_parameters: Iterable[tuple[str, nn.Parameter]]) -> str:
    for name, parameter in named_parameters:
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return name
    return "all parameters together"
