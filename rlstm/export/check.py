"""Whether a file does what the policy does: both play the same random steps, each with its own memory.

The policy acts through its acting snapshot, the path of training and evaluation. The file is fed by names, and what its
feedback says is what it put out itself. Memories begin anew at random steps. How far apart two right computations of a
policy may be is measured by a third player, the same policy in float64.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlstm.core.arrays import Array, BoolArray, FloatArray
from rlstm.core.errors import ExportError
from rlstm.core.trees import Tree, tree_leaves
from rlstm.export import Runner
from rlstm.export.random_inputs import RandomInputs
from rlstm.export.step import ExportedStep
from rlstm.policies.distributions import Bernoulli, Gaussian, MultiCategorical
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.observations import observation_dtypes
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.inputs import observation_tensors

NUM_STEPS = 60
BATCH_SIZES = (1, 7)
TOLERANCE = 1e-5
"""Largest error, relative to the largest number of the row (of an action, a state leaf, ...) or to 1."""

_ROUNDINGS = 10  # The error may also be as many times that of the policy against itself in float64,
_LARGEST_TOLERANCE = 1e-3  # up to this one.
_RESETS = 0.1  # Share of steps before which memory begins anew.


@torch.inference_mode()
def check(
    step: ExportedStep, policy: RecurrentPolicy, run: Runner, *, num_steps: int = NUM_STEPS, seed: int = 0
) -> float:
    """Return the largest relative error.

    Args:
        step: Has the names of inputs and outputs, and the initial state.
        policy: What it must equal.
        run: What was written.
        num_steps: Of each batch size.
        seed: Decides the steps.

    Raises:
        ExportError: If an error is too large, naming the step, the output and the error.
    """
    return max(_Comparison(step, policy, run, seed, size).play(num_steps) for size in BATCH_SIZES)


class _Seen(NamedTuple):
    """What an env shows at a step, ``(B, ...)``."""

    observations: Tree
    rewards: FloatArray
    starts: BoolArray
    masks: BoolArray | None
    resets: BoolArray


class _Player:
    """A policy that acts through its snapshot."""

    def __init__(self, policy: RecurrentPolicy, batch_size: int) -> None:
        self.policy, self.snapshot = policy, policy.acting_snapshot(torch.Generator())
        self.state = policy.init_state(batch_size)
        self._types = observation_dtypes(policy.observation_space, policy.dtype)

    def step(self, seen: _Seen, previous_actions: Tensor) -> Tensor:
        """Advance the state and return the outputs of the heads, ``(B, P + 1)``."""
        policy, sees = self.policy, self.policy.inputs
        actions = previous_actions.to(policy.distribution.action_dtype or policy.dtype)
        inputs = PolicyInputs(
            observation_tensors(seen.observations, self._types, policy.device),
            actions if sees.previous_action else None,
            torch.from_numpy(seen.rewards).to(policy.dtype) if sees.previous_reward else None,
            torch.from_numpy(seen.starts) if sees.episode_start else None,
            None if seen.masks is None else torch.from_numpy(seen.masks),
        )
        _, outputs, self.state = self.snapshot.sample(inputs, self.state, torch.from_numpy(seen.resets))
        return outputs

    def numbers(self, outputs: Tensor, step: ExportedStep) -> dict[str, Array]:
        """Return by the names of a file's outputs what its numbers should be."""
        names = [f"next_{name}" for name in step.initial_state(1)]
        _, values = self.snapshot.read(outputs, self.policy.distribution.mode(outputs[:, :-1], None), None)
        leaves = {name: leaf.numpy() for name, leaf in zip(names, tree_leaves(self.state), strict=True)}
        return {"parameters": outputs[:, :-1].numpy(), "value": values.numpy(), **leaves}


class _Comparison:
    """B rows of random steps."""

    def __init__(self, step: ExportedStep, policy: RecurrentPolicy, run: Runner, seed: int, batch_size: int) -> None:
        self._step, self._policy, self._run, self._size = step, policy, run, batch_size
        self._random = RandomInputs(policy, seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._player, self._exact = _Player(policy, batch_size), _Player(copy.deepcopy(policy).double(), batch_size)
        example = step.example(batch_size)
        self._fed = {name: example[name].numpy() for name in step.feedback}
        distribution = policy.distribution
        self._actions = torch.zeros(batch_size, *distribution.action_shape, dtype=distribution.action_dtype)
        self._allowed: dict[str, float] = {}
        self._largest, self._t = 0.0, 0

    def play(self, num_steps: int) -> float:
        for self._t in range(num_steps):
            seen, noise = self._draw(), self._draw_noise()
            outputs, exact = (player.step(seen, self._actions) for player in (self._player, self._exact))
            found = self._run({**self._named(seen), **self._fed, "noise": noise.numpy()})
            self._compare_numbers(found, outputs, exact)
            self._compare_actions(found, outputs[:, :-1], seen, noise)
        return self._largest

    def _draw(self) -> _Seen:
        size, random = self._size, self._random
        resets, starts = random.rng.random((2, size)) < _RESETS
        observations = random.observations(size)
        return _Seen(observations, random.rewards(size), starts | resets, random.masks(size), resets)

    def _named(self, seen: _Seen) -> dict[str, Array]:
        """Return what is seen by the names of the file's inputs, in their types."""
        named = {"previous_reward": seen.rewards, "episode_start": seen.starts, "reset": seen.resets}
        named |= {} if seen.masks is None else {"action_mask": seen.masks}
        found = {}
        for leaf in self._step.inputs:
            array = named.get(leaf.name) if leaf.path is None else _at(seen.observations, leaf.path)
            if array is not None:
                found[leaf.name] = np.asarray(array, torch.empty(0, dtype=leaf.dtype).numpy().dtype)
        return found

    def _draw_noise(self) -> Tensor:
        """Return noise ``(B, P)``, 0 in about half of the rows."""
        like = self._player.snapshot.return_scale
        drawn = self._policy.distribution.draw_noise((self._size,), self._generator, like)
        likeliest = torch.from_numpy(self._random.rng.random(self._size) < 0.5)
        return drawn.masked_fill(likeliest.unsqueeze(-1), 0)

    def _compare_numbers(self, found: dict[str, Any], outputs: Tensor, exact: Tensor) -> None:
        """Compare parameters, value and state."""
        expected = self._player.numbers(outputs, self._step)
        unit = {"value": self._player.snapshot.return_scale.item()}
        for name, other in self._exact.numbers(exact, self._step).items():
            rounding = _ROUNDINGS * _error(expected[name], other, unit.get(name, 1.0))
            allowed = max(self._allowed.get(name, TOLERANCE), min(rounding, _LARGEST_TOLERANCE))
            self._allowed[name] = allowed
            self._numbers(name, found, expected[name], allowed, unit.get(name, 1.0))

    def _compare_actions(self, found: dict[str, Any], parameters: Tensor, seen: _Seen, noise: Tensor) -> None:
        """Compare actions, and keep what is fed back."""
        distribution, mask = self._policy.distribution, None if seen.masks is None else torch.from_numpy(seen.masks)
        likeliest = (noise == 0).all(-1).reshape(-1, *(1,) * len(distribution.action_shape))
        sampled = distribution.sample(parameters, mask, noise)
        stored = torch.where(likeliest, distribution.mode(parameters, mask), sampled)
        tied = self._ties(parameters, mask, noise)
        self._act("action", found, distribution.to_env(stored), tied)
        if "stored_action" in self._step.feedback.values():
            self._act("stored_action", found, stored.numpy(), tied)
        self._fed = {name: found[output] for name, output in self._step.feedback.items()}
        self._actions = stored
        if "previous_action" in self._fed:
            undecided = tied.any(-1).reshape(likeliest.shape)
            self._fed["previous_action"] = np.where(undecided, stored.numpy(), self._fed["previous_action"])

    def _act(self, name: str, found: dict[str, Any], expected: Array, tied: BoolArray) -> None:
        if isinstance(self._policy.distribution, Gaussian):
            self._numbers(name, found, expected, self._allowed["parameters"])
            return
        self._shapes(name, found, expected)
        differs = (found[name] != expected).reshape(self._size, -1) & ~tied
        if differs.any():
            row = int(differs.any(-1).argmax())
            self._refuse(name, f"{found[name][row].tolist()} instead of {expected[row].tolist()}")

    def _ties(self, parameters: Tensor, mask: Tensor | None, noise: Tensor) -> BoolArray:
        """Return for each choice ``(B, K)`` whether rounding decides it."""
        distribution = self._policy.distribution
        if isinstance(distribution, Gaussian):
            return np.zeros((self._size, 1), dtype=bool)
        logits = parameters + noise
        scale = self._allowed["parameters"] * parameters.abs().amax(-1, keepdim=True).clamp(min=1.0)
        if isinstance(distribution, Bernoulli):
            return (logits.abs() < scale).numpy()
        logits = logits if mask is None else logits.masked_fill(~mask, -torch.inf)
        sizes = distribution.sizes if isinstance(distribution, MultiCategorical) else [logits.shape[-1]]
        return (torch.stack([_margin(one) for one in logits.split(sizes, -1)], -1) < scale).numpy()

    def _numbers(self, name: str, found: dict[str, Any], expected: Array, allowed: float, unit: float = 1.0) -> None:
        self._shapes(name, found, expected)
        error = _error(found[name], expected, unit)
        if not error <= allowed:  # NaN too.
            self._refuse(name, f"an error of {error:.1e}, and at most {allowed:.0e} is allowed")
        self._largest = max(self._largest, error)

    def _shapes(self, name: str, found: dict[str, Any], expected: Array) -> None:
        kinds = [f"{one.shape} {one.dtype}" for one in (found[name], expected)]
        if kinds[0] != kinds[1]:
            self._refuse(name, f"{kinds[0]} instead of {kinds[1]}")

    def _refuse(self, name: str, difference: str) -> None:
        raise ExportError(
            f"What was exported is not the policy, so nothing was written: at step {self._t} with {self._size} envs "
            f"the output '{name}' has {difference}."
        )


def _at(observations: Tree, path: tuple[Any, ...]) -> Array:
    for key in path:
        observations = observations[key]
    return np.asarray(observations)


def _error(found: Array, expected: Array, unit: float) -> float:
    """Return the largest error of ``(B, ...)``, relative to the largest number of its row, the unit, or 1."""
    one, other = (array.reshape(len(array), -1).astype(np.float64) for array in (found, expected))
    scale = np.abs(other).max(-1, initial=max(1.0, unit), keepdims=True)
    return float(np.max(np.abs(one - other) / scale, initial=0.0))


def _margin(logits: Tensor) -> Tensor:
    """Return by how much the best of ``(B, N)`` is better than the second, ``(B,)``; infinite if it stands alone."""
    if logits.shape[-1] == 1:
        return torch.full_like(logits[:, 0], torch.inf)
    best = logits.topk(2, -1).values
    return best[:, 0] - best[:, 1]
