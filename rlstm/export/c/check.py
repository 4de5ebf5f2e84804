"""Whether the C of a policy does what the policy does: both play the same steps."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlstm.core.arrays import Array
from rlstm.core.trees import Tree, tree_leaves, tree_map
from rlstm.export.c.build import build_program
from rlstm.export.c.compiled import CExportError, CompiledPolicy, find_compiler
from rlstm.export.c.files import header_text
from rlstm.export.c.inputs import Part, observation_parts
from rlstm.export.c.samples import SampledStep, StepSampler
from rlstm.policies.distributions import ActionDistribution, Bernoulli, Gaussian, MultiCategorical
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.observations import observation_dtypes
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.inputs import observation_tensors

_TOLERANCE = 1e-5  # Relative to the number, or to 1 where it is smaller.
_FORBIDDEN = -1e9


class _Expected(NamedTuple):
    """What the policy does at a step."""

    numbers: dict[str, Array]  # By the names of members in C.
    action: Array  # As the env takes it, flat.
    is_close_call: bool  # Whether rounding may decide the action.


class _Player:
    """The policy, driven as ``rlstm.load`` drives it."""

    def __init__(self, policy: RecurrentPolicy, memory: list[str]) -> None:
        self._policy, self._memory = policy, memory
        self._types = observation_dtypes(policy.observation_space, policy.dtype)
        self._snapshot = policy.acting_snapshot(torch.Generator(policy.device))
        self._state, self._actions = policy.init_state(1), self._no_actions()

    def _no_actions(self) -> Tensor:
        distribution, policy = self._policy.distribution, self._policy
        dtype = distribution.action_dtype or policy.dtype
        return torch.zeros(1, *distribution.action_shape, dtype=dtype, device=policy.device)

    @torch.inference_mode()
    def step(self, step: SampledStep) -> _Expected:
        policy, distribution, device = self._policy, self._policy.distribution, self._policy.device
        if step.is_first:
            self._state, self._actions = policy.init_state(1), self._no_actions()
        seen = policy.inputs
        mask = None if step.mask is None else torch.as_tensor(step.mask, device=device).unsqueeze(0)
        batched: Tree = tree_map(lambda leaf: leaf[None], step.observation)
        inputs = PolicyInputs(
            observation_tensors(batched, self._types, device),
            self._actions if seen.previous_action else None,
            torch.tensor([step.reward], device=device, dtype=policy.dtype) if seen.previous_reward else None,
            torch.tensor([step.is_first or step.episode_start], device=device) if seen.episode_start else None,
            mask,
        )
        is_first = torch.tensor([step.is_first], device=device)
        sampled = self._snapshot.sample(inputs, self._state, is_first)
        parameters, self._state = sampled.outputs[:, :-1], sampled.state
        noise = None if step.noise is None else _noise(distribution, step.noise).to(parameters)
        if noise is None:
            self._actions = distribution.mode(parameters, mask)
        else:
            self._actions = distribution.sample(parameters, mask, noise)
        _, value = self._snapshot.read(sampled.outputs, self._actions, mask)
        leaves = dict(zip(self._memory, tree_leaves(self._state), strict=True))
        numbers = {"parameters": parameters, "value": value, **leaves}
        return _Expected(
            {name: one.cpu().double().numpy().reshape(-1) for name, one in numbers.items()},
            np.asarray(distribution.to_env(self._actions)).reshape(-1),
            _is_close_call(distribution, parameters, mask, noise),
        )


def check_c(policy: RecurrentPolicy, folder: Path, name: str = "policy", *, num_steps: int = 100) -> float | None:
    """Compile the files of a policy and compare them with it over steps drawn at random.

    Compared are the distribution's parameters, the value and the memory after every step, with resets, masks, previous
    actions and rewards, the likeliest actions and those that noise decides. Actions must be the same unless rounding
    decides between them; both then begin anew. Every step begins with the policy's memory, since rounding adds up in
    what is remembered for long, in Python too.

    Args:
        policy: What was written.
        folder: Where ``write_c`` wrote it.
        name: As it was given to ``write_c``.
        num_steps: How many steps both play.

    Returns:
        The largest difference, relative to the number, or to 1 where it is smaller; values are measured in deviations
        of the returns. None where there is no C compiler (``$CC``, cc, gcc, clang).

    Raises:
        CExportError: If they don't compile, or differ by more than 1e-5, naming step and output, or the header is of
            another policy.
    """
    compiler = find_compiler()
    if compiler is None:
        return None
    program, parts = build_program(policy, name), observation_parts(policy.actor.encoder)
    _check_header(folder / f"{name}.h", header_text(program, policy))
    memory = [one.name for one in program.state if one.name not in ("previous_action", "is_first")]
    player, sampler, worst, begins = _Player(policy, memory), StepSampler(policy, seed=0), 0.0, True
    with tempfile.TemporaryDirectory() as temporary:
        compiled = CompiledPolicy(program, folder / f"{name}.c", Path(temporary), compiler)
        for index in range(num_steps):
            step = sampler.draw(is_first=begins)
            if step.is_first:
                compiled.reset()
            expected, found = player.step(step), compiled.step(_members(step, parts))
            worst = max(worst, _largest_difference(policy, expected, found, index))
            compiled.remember({key: expected.numbers[key] for key in memory})
            begins = _actions_differ(policy, expected, found["action"], index)
    return worst


def _check_header(path: Path, text: str) -> None:
    """Refuse a header that ``write_c`` would not write now: its structures would be others."""
    if path.read_text(encoding="utf-8") != text:
        raise CExportError(f"{path} is of another policy, or has been changed: write it again.")


def _members(step: SampledStep, parts: list[Part]) -> dict[str, object]:
    """Return a step by the names of the input's members."""
    values: dict[str, object] = {
        "reward": step.reward,
        "episode_start": step.episode_start,
        "action_mask": step.mask,
        "noise": step.noise,
    }
    for part in parts:
        leaf = step.observation
        for key in part.path:
            leaf = leaf[key]
        values[part.member.name] = leaf.item() if part.member.size is None else leaf
    return values


def _largest_difference(policy: RecurrentPolicy, expected: _Expected, found: Mapping[str, Array], index: int) -> float:
    """Return the largest relative difference of any output; refuse more than the tolerance."""
    units = {"value": float(policy.return_scale)}  # A value is this many times as large as the network's output.
    worst = 0.0
    for key, right in expected.numbers.items():
        apart = np.abs(found[key] - right) / np.maximum(np.abs(right), max(1.0, units.get(key, 1.0)))
        difference = float(apart.max())
        if not difference <= _TOLERANCE:  # Nor if it is not a number.
            raise CExportError(
                f"The C is not this policy: at step {index} '{key}' differs by {difference:.3g} of its size, and "
                f"{_TOLERANCE:g} is allowed. In C it is {found[key]}, in Python {right}."
            )
        worst = max(worst, difference)
    return worst


def _actions_differ(policy: RecurrentPolicy, expected: _Expected, found: Array, index: int) -> bool:
    """Return whether the actions differ because rounding decides; refuse other differences."""
    distribution = policy.distribution
    if isinstance(distribution, Gaussian):
        precision = max(_TOLERANCE, float(np.finfo(expected.action.dtype).eps))
        unit = np.maximum(1.0, distribution.scale.astype(np.float64))
        apart = np.abs(found - expected.action) / np.maximum(np.abs(expected.action), unit)
        if (apart <= precision).all():
            return False
    elif (found == expected.action).all():
        return False
    elif expected.is_close_call:
        return True
    raise CExportError(f"At step {index} the action is {found} in C, but {expected.action} in Python.")


def _noise(distribution: ActionDistribution, drawn: Array) -> Tensor:
    """Return noise as ``sample`` takes it."""
    numbers = torch.from_numpy(drawn.astype(np.float64))
    return numbers if isinstance(distribution, Gaussian) else distribution.noise(numbers)


def _is_close_call(
    distribution: ActionDistribution, parameters: Tensor, mask: Tensor | None, noise: Tensor | None
) -> bool:
    """Return whether two choices, or the values of a bit, are too near for rounding not to matter."""
    if isinstance(distribution, Gaussian):
        return False
    scores = parameters if mask is None else parameters.masked_fill(~mask, _FORBIDDEN)
    scores = (scores if noise is None else scores + noise)[0]
    margin = _TOLERANCE * max(1.0, float(parameters.abs().max()))
    if isinstance(distribution, Bernoulli):
        return bool((scores.abs() < margin).any())
    sizes = distribution.sizes if isinstance(distribution, MultiCategorical) else [len(scores)]
    best = [choice.topk(2).values for choice in scores.split(sizes) if len(choice) > 1]
    return any(bool(first - second < margin) for first, second in best)
