"""One step down a gradient: nothing that is not finite reaches the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rlstm.core.errors import NonFiniteError


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
    if not math.isfinite(loss.item()):
        bad = [name for name, value in parts.items() if not math.isfinite(value.item())]
        raise NonFiniteError(f"Not finite in {place}: {', '.join(bad) or 'loss'}.")
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


def _first_bad(named_parameters: Iterable[tuple[str, nn.Parameter]]) -> str:
    for name, parameter in named_parameters:
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return name
    return "all parameters together"
