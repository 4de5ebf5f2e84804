"""One step down a gradient: nothing that is not finite reaches the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rlstm.core.errors import NonFiniteError

_ALIGNED = 16  # Numbers to a cache line, at which every parameter begins: products read them faster.


def annealed(start: float, end: float | None, progress: float) -> float:
    """Return what goes linearly from ``start`` to ``end`` while ``progress`` goes from 0 to 1; None stays at start."""
    return start if end is None else start + (end - start) * progress


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def schedule(optimizer: torch.optim.Optimizer, config: Any, progress: float) -> tuple[float, float]:
    """Set an agent's learning rate at a ``progress`` from 0 on, at most 1; returns it and the entropy's weight.

    Its config has ``learning_rate`` and ``anneal_lr``, ``ent_coef`` and ``final_ent_coef``.
    """
    progress = min(1.0, progress)
    learning_rate = annealed(config.learning_rate, 0.0 if config.anneal_lr else None, progress)
    set_learning_rate(optimizer, learning_rate)
    return learning_rate, annealed(config.ent_coef, config.final_ent_coef, progress)


class Descent:
    """Adam over all parameters of a module, with gradients clipped by their global norm.

    The parameters become parts of one vector, and their gradients parts of another, so that zeroing, norm, clipping and
    Adam are one operation each, however many parameters there are. The module keeps its parameters and their values.
    Its ``state_dict`` is that of an Adam over the single parameters.

    Args:
        named_parameters: All that are trained, of one type on one device.
        learning_rate: Adam's step size.
        max_grad_norm: Largest global norm of the gradient.
    """

    def __init__(
        self, named_parameters: Iterable[tuple[str, nn.Parameter]], *, learning_rate: float, max_grad_norm: float
    ) -> None:
        self._named = list(named_parameters)
        self._max_grad_norm = max_grad_norm
        self._places, size = [], 0
        for _, parameter in self._named:
            self._places.append(slice(size, size + parameter.numel()))
            size += -(-parameter.numel() // _ALIGNED) * _ALIGNED
        like = self._named[0][1].detach()
        self._vector = nn.Parameter(like.new_zeros(size))
        self._gradient = like.new_zeros(size)
        self.optimizer = torch.optim.Adam([self._vector], lr=learning_rate, eps=1e-5, fused=True)
        self._join()

    def _join(self) -> None:
        """Make the parameters parts of the vector, with the values that they have."""
        self._vector.grad = self._gradient
        with torch.no_grad():
            for (_, parameter), place in zip(self._named, self._places, strict=True):
                part = self._vector.detach()[place].view_as(parameter)
                part.copy_(parameter.detach())
                parameter.data, parameter.grad = part, self._gradient[place].view_as(parameter)

    def _is_joined(self) -> bool:
        """Whether the parameters are parts of the vector: those of a copy of the module are not yet."""
        ends = (self._named[0][1], self._places[0]), (self._named[-1][1], self._places[-1])
        return all(
            part.grad is not None
            and part.data_ptr() == self._vector[place].data_ptr()
            and part.grad.data_ptr() == self._gradient[place].data_ptr()
            for part, place in ends
        )

    def step(self, loss: Tensor, parts: Mapping[str, Tensor], place: str) -> Tensor:
        """Take one step down ``loss``.

        Args:
            loss: Scalar.
            parts: The losses that ``loss`` is made of, to name the one that is not finite.
            place: Where in the run this is, for errors: "update 7".

        Returns:
            The global norm of the gradient before clipping, a scalar.

        Raises:
            NonFiniteError: If the loss or a gradient is not finite, naming it; the weights are then untouched.
        """
        _check_loss(loss, parts, place)
        if not self._is_joined():
            self._join()
        self._gradient.zero_()
        loss.backward()
        norm: Tensor = torch.linalg.vector_norm(self._gradient)
        size = norm.item()
        if not math.isfinite(size):  # Before clipping, which spreads a NaN to all gradients.
            raise NonFiniteError(f"Not finite in {place}: the gradient of {_first_bad(self._named)}.")
        if size > self._max_grad_norm:
            self._gradient.mul_(self._max_grad_norm / (size + 1e-6))
        self.optimizer.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's state, parameter by parameter."""
        whole = self.optimizer.state_dict()
        group = {**whole["param_groups"][0], "params": list(range(len(self._named)))}
        states = {
            index: {name: self._part(value, index) for name, value in whole["state"][0].items()}
            for index in (range(len(self._named)) if whole["state"] else ())
        }
        return {"state": states, "param_groups": [group]}

    def _part(self, value: Tensor, index: int) -> Tensor:
        """Return a parameter's part of a vector of the state, a copy, or the number that all have in common."""
        return value[self._places[index]].view_as(self._named[index][1]).clone() if value.dim() else value.clone()

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned."""
        state = {}
        if values["state"]:
            state[0] = {name: self._whole(name, values["state"]) for name in values["state"][0]}
        self.optimizer.load_state_dict({"state": state, "param_groups": [{**values["param_groups"][0], "params": [0]}]})

    def _whole(self, name: str, states: Mapping[int, Mapping[str, Tensor]]) -> Tensor:
        if not states[0][name].dim():
            return states[0][name].clone()  # Adam counts in place.
        whole = torch.zeros_like(self._vector.detach())
        for index, place in enumerate(self._places):
            whole[place] = states[index][name].flatten().to(whole)
        return whole


def descend(
    optimizer: torch.optim.Optimizer,
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    loss: Tensor,
    parts: Mapping[str, Tensor],
    *,
    max_grad_norm: float,
    place: str,
) -> Tensor:
    """Take one optimiser step on ``loss`` with the gradient clipped by its global norm.

    Args:
        optimizer: Owns the parameters.
        named_parameters: The same parameters with their names.
        loss: Scalar.
        parts: The losses that ``loss`` is made of, to name the one that is not finite.
        max_grad_norm: Largest global norm of the gradient.
        place: Where in the run this is, for errors: "update 7".

    Returns:
        The global norm of the gradient before clipping, a scalar.

    Raises:
        NonFiniteError: If the loss or a gradient is not finite, naming it; the weights are then untouched.
    """
    _check_loss(loss, parts, place)
    named = list(named_parameters)
    for _, parameter in named:
        parameter.grad = None
    loss.backward()
    gradients = [parameter.grad for _, parameter in named if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
    size = norm.item()
    if not math.isfinite(size):  # Before clipping, which spreads a NaN to all gradients.
        raise NonFiniteError(f"Not finite in {place}: the gradient of {_first_bad(named)}.")
    if size > max_grad_norm:
        for gradient in gradients:
            gradient.mul_(max_grad_norm / (size + 1e-6))
    optimizer.step()
    return norm


def _check_loss(loss: Tensor, parts: Mapping[str, Tensor], place: str) -> None:
    if not math.isfinite(loss.item()):
        bad = [name for name, value in parts.items() if not math.isfinite(value.item())]
        raise NonFiniteError(f"Not finite in {place}: {', '.join(bad) or 'loss'}.")


def _first_bad(named_parameters: Iterable[tuple[str, nn.Parameter]]) -> str:
    for name, parameter in named_parameters:
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return name
    return "all parameters together"
