"""The contract of an encoder, as a check."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlstm.core.trees import Tree, tree_leaves, tree_map
from rlstm.policies.encoders import Encoder
from rlstm.policies.observations import observation_dtypes
from rlstm.testing.contracts import require, require_close

MakeEncoder = Callable[[spaces.Space[Any]], Encoder]
_STEPS, _ROWS = 5, 3


def check_encoder(make_encoder: MakeEncoder, space: spaces.Space[Any], *, tolerance: float = 1e-9) -> None:
    """Hold an encoder to its contract, on the CPU.

    Checked are: the features of a step are the same whatever the leading axes, they depend on the observation of that
    step alone, and repeat themselves; they are ``output_size`` finite numbers of the type asked for, at the bounds of
    the space too; every weight takes part; observations are not written to; copies read alike.

    Args:
        make_encoder: The class, or a function from the space of an observation to an encoder.
        space: Of an observation that it reads.
        tolerance: Largest difference in float64, relative to the largest value where that is above 1.

    Raises:
        ContractError: At the first broken part.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = make_encoder(space).double()
        require(type(encoder).reads(space), f"reads: False for {space}.")
        observations = _sampled(space, torch.float64)
        before = copy.deepcopy(observations)
        features = encoder(observations, torch.float64)
        pairs = zip(tree_leaves(observations), tree_leaves(before), strict=True)
        require(all(torch.equal(*pair) for pair in pairs), "The encoder writes to its observations.")
        shape = (_STEPS, _ROWS, encoder.output_size)
        require(features.shape == shape, f"features are {tuple(features.shape)}, not (T, B, output_size) {shape}.")
        _check_type(encoder, space)
        _check_axes(encoder, observations, tolerance)
        require(
            torch.equal(encoder(observations, torch.float64), features),
            "The same observations give other features: a random layer, or one that remembers, can't be replayed.",
        )
        _check_gradients(encoder, observations)
        _check_copies(encoder, make_encoder, space, observations)


def _sampled(space: spaces.Space[Any], dtype: torch.dtype) -> Tree:
    """Return observations ``(T, B, ...)`` in the types in which rollouts keep them, T steps of B rows."""
    space = copy.deepcopy(space)
    space.seed(0)
    samples = [space.sample() for _ in range(_STEPS * _ROWS)]

    def stack(kind: torch.dtype, *leaves: Any) -> torch.Tensor:
        stacked = torch.as_tensor(np.stack([np.asarray(leaf) for leaf in leaves]))
        kept: torch.Tensor = stacked.to(kind).unflatten(0, (_STEPS, _ROWS))
        return kept

    observations: Tree = tree_map(stack, observation_dtypes(space, dtype), *samples)
    return observations


@torch.no_grad()
def _check_axes(encoder: Encoder, observations: Tree, tolerance: float) -> None:
    features = encoder(observations, torch.float64)
    for step in range(_STEPS):
        rows = encoder(tree_map(lambda leaf, t=step: leaf[t], observations), torch.float64)
        require_close(rows, features[step], tolerance, "features of (B, ...) differ from those of (T, B, ...)")
        for row in range(_ROWS):
            one = encoder(tree_map(lambda leaf, t=step, b=row: leaf[t, b : b + 1], observations), torch.float64)
            what = "features of an observation alone differ from those among others: rows of the batch mix"
            require_close(one[0], features[step, row], tolerance, what)


@torch.no_grad()
def _check_type(encoder: Encoder, space: spaces.Space[Any]) -> None:
    for dtype in (torch.float64, torch.float32):
        one = copy.deepcopy(encoder).to(dtype)
        for observations in (_sampled(space, dtype), *_extremes(space, dtype)):
            features = one(observations, dtype)
            require(features.dtype == dtype, f"features are {features.dtype} where {dtype} is asked for.")
            require(bool(torch.isfinite(features).all()), "features are not finite.")


def _extremes(space: spaces.Space[Any], dtype: torch.dtype) -> list[Tree]:
    """Return observations with all finite bounds of a Box attained, the lower ones and the upper ones."""

    def bound(part: spaces.Space[Any], sampled: Tree, upper: bool) -> Tree:
        if isinstance(part, spaces.Dict):
            return {key: bound(one, sampled[key], upper) for key, one in part.spaces.items()}
        if isinstance(part, spaces.Tuple):
            return tuple(bound(one, sampled[index], upper) for index, one in enumerate(part.spaces))
        if not isinstance(part, spaces.Box):
            return sampled
        limit = part.high if upper else part.low
        finite = np.where(np.abs(limit.astype(np.float64)) < 1e30, limit, 0)
        return torch.as_tensor(finite).to(sampled.dtype).expand_as(sampled).contiguous()

    return [bound(space, _sampled(space, dtype), upper) for upper in (False, True)]


def _check_gradients(encoder: Encoder, observations: Tree) -> None:
    parameters = {name: one for name, one in encoder.named_parameters() if one.requires_grad}
    if not parameters:
        return
    features = encoder(observations, torch.float64)
    require(features.requires_grad, "features carry no gradient, though the encoder has weights.")
    loss = (features * torch.randn_like(features)).sum()
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    for name, gradient in zip(parameters, gradients, strict=True):
        require(gradient is not None, f"The weights '{name}' have no part in the features.")


@torch.no_grad()
def _check_copies(encoder: Encoder, make_encoder: MakeEncoder, space: spaces.Space[Any], observations: Tree) -> None:
    expected = encoder(observations, torch.float64)
    torch.manual_seed(1)
    loaded = make_encoder(space).double()
    loaded.load_state_dict(encoder.state_dict())
    for name, other in (("copy.deepcopy", copy.deepcopy(encoder)), ("state_dict", loaded)):
        same = torch.equal(other(observations, torch.float64), expected)
        require(same, f"A copy made with {name} has other features: something is not in state_dict.")
