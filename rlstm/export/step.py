"""One step of a policy as a function of tensors alone: what every format writes.

Inputs and outputs are dicts of tensors ``(B, ...)`` by name, see ``ExportedStep``. Normalisers, scales, bounds and the
reset of the memory are inside, so a program that runs the step gives it what the env returned and what the step before
put out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.core.arrays import ACTION_MASK_KEY
from rlstm.core.errors import ExportError
from rlstm.core.trees import Tree, tree_leaves, tree_map
from rlstm.policies.distributions import ActionDistribution, Bernoulli, Categorical, Gaussian, MultiCategorical
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.observations import observation_dtypes
from rlstm.policies.policy import RecurrentPolicy

Path = tuple[Any, ...]
"""Keys and indices from a whole observation to a part of it."""


class Leaf(NamedTuple):
    """An input or an output."""

    name: str
    shape: tuple[int, ...]  # Of one row.
    dtype: torch.dtype
    path: Path | None = None  # Of a part of the observation.
    space: spaces.Space[Any] | None = None  # Of that part.


class ExportedStep(nn.Module):
    """One step of a policy, with the weights and statistics that it has now.

    Inputs, in this order, each if there is such a thing:

    * ``observation``, or one for each part, ``observation.KEY.INDEX``: raw, in the env's type. Text and action masks
      are left out.
    * ``action_mask`` ``(B, M)`` bool: True where an action is allowed. Where actions can be masked.
    * ``previous_action``, ``previous_reward``, ``episode_start``: where the policy sees them. The first is what
      ``feedback`` says, the second raw; where ``reset`` holds, both count as 0.
    * ``reset`` ``(B,)`` bool: the memory begins anew before this step.
    * ``noise`` ``(B, P)``: 0 for the likeliest action; to sample, what ``noise_kind`` says.
    * ``state.actor.FIELD``, or ``state.actor.LAYER.FIELD``: the memory; ``state.critic...`` where the critic has one.

    Outputs: ``action`` as the env takes it; ``stored_action`` where that must be fed back instead; ``parameters``
    ``(B, P)`` of the distribution, before any mask; ``value`` ``(B,)`` in raw rewards; ``next_state...``.

    Args:
        policy: It is copied.

    Raises:
        ExportError: If it has no likeliest action, or two inputs would have one name.
    """

    return_scale: Tensor
    return_centre: Tensor
    reward_scale: Tensor

    def __init__(self, policy: RecurrentPolicy) -> None:
        super().__init__()
        if policy.distribution.is_random:
            raise ExportError("The agent acts at random whatever it sees: there is no policy to export.")
        policy = copy.deepcopy(policy).requires_grad_(False).eval()
        self._trunks = list(policy.trunks())
        self.trunks = nn.ModuleList(self._trunks)
        self.policy_head, self.value_head = policy.policy_head, policy.value_head
        self.distribution, self.env_actions = policy.distribution, _EnvActions(policy.distribution)
        for name in ("return_scale", "return_centre", "reward_scale"):
            self.register_buffer(name, getattr(policy, name).clone())
        self._features, self._sees, self.dtype = policy.input_features, policy.inputs, policy.dtype
        self._init_state = policy.init_state
        leaves = list(_observation_leaves(policy.observation_space, policy.dtype))
        self._observations: Tree = _observation_names(policy.observation_space)
        self._types: Tree = observation_dtypes(_without_mask(policy.observation_space), policy.dtype)
        self._states: Tree = _state_names(dict(zip(("actor", "critic"), policy.init_state(1), strict=False)), "state")
        self.inputs = [*leaves, *self._other_inputs()]
        names = [leaf.name for leaf in self.inputs]
        if len(set(names)) < len(names):
            raise ExportError(f"Two inputs would have one name: {', '.join(names)}. Name the observation's keys anew.")
        outputs = self.forward(self.example(2))
        self.outputs = [Leaf(name, tuple(leaf.shape[1:]), leaf.dtype) for name, leaf in outputs.items()]

    def _other_inputs(self) -> Iterator[Leaf]:
        """Yield all inputs but the observation."""
        actions, dtype = self.distribution, self.dtype
        if actions.mask_size is not None:
            yield Leaf("action_mask", (actions.mask_size,), torch.bool)
        if self._sees.previous_action:
            yield Leaf("previous_action", actions.action_shape, actions.action_dtype or dtype)
        if self._sees.previous_reward:
            yield Leaf("previous_reward", (), dtype)
        if self._sees.episode_start:
            yield Leaf("episode_start", (), torch.bool)
        yield Leaf("reset", (), torch.bool)
        yield Leaf("noise", (actions.num_parameters,), dtype)
        for name, leaf in self.initial_state(1).items():
            yield Leaf(name, tuple(leaf.shape[1:]), leaf.dtype)

    @property
    def feedback(self) -> dict[str, str]:
        """By input, the output of the step before that it is given."""
        fed = {name: f"next_{name}" for name in self.initial_state(1)}
        if self._sees.previous_action:
            fed["previous_action"] = "action" if self.env_actions.are_stored else "stored_action"
        return fed

    @property
    def noise_kind(self) -> str:
        """Distribution of the noise that samples actions: gumbel, logistic or normal, each in its standard form."""
        if isinstance(self.distribution, Bernoulli):
            return "logistic"
        return "normal" if isinstance(self.distribution, Gaussian) else "gumbel"

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        """Return the state of memories that have seen nothing, by name."""
        leaves = tree_leaves(self._init_state(batch_size))
        return dict(zip(tree_leaves(self._states), leaves, strict=True))

    def example(self, batch_size: int) -> dict[str, Tensor]:
        """Return inputs of the right shapes and types; symbols are the first ones, all actions are allowed."""
        zeros = {leaf.name: torch.zeros(batch_size, *leaf.shape, dtype=leaf.dtype) for leaf in self.inputs}
        for leaf in self.inputs:
            if isinstance(leaf.space, spaces.Discrete | spaces.MultiDiscrete):
                zeros[leaf.name] += torch.as_tensor(leaf.space.start)
        if "action_mask" in zeros:
            zeros["action_mask"][:] = True
        return zeros | self.initial_state(batch_size)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take one step; see the class."""
        reset, mask = inputs["reset"], inputs.get("action_mask")
        observations = tree_map(lambda name, dtype: inputs[name].to(dtype), self._observations, self._types)
        action, reward, start = map(inputs.get, ("previous_action", "previous_reward", "episode_start"))
        seen = PolicyInputs(observations, action, reward, start, mask)
        state = tree_map(lambda name: inputs[name], self._states)
        features, following = [], {}
        for trunk, (place, before) in zip(self._trunks, state.items(), strict=True):
            encoded = self._features(trunk.encoder, seen, reset, self.reward_scale, self.dtype)
            output, following[place] = trunk.cell.step(encoded, trunk.cell.reset(before, reset))
            features.append(output)
        parameters = self.policy_head(features[0])
        values = torch.addcmul(self.return_centre, self.value_head(features[-1]).squeeze(-1), self.return_scale)
        stored = self.distribution.sample(parameters, mask, inputs["noise"])
        outputs = {"action": self.env_actions(stored)}
        if "stored_action" in self.feedback.values():
            outputs["stored_action"] = stored
        outputs |= {"parameters": parameters, "value": values}
        names = tree_leaves(self._states)
        return outputs | {f"next_{name}": leaf for name, leaf in zip(names, tree_leaves(following), strict=True)}


class _EnvActions(nn.Module):
    """What ``ActionDistribution.to_env`` does, on tensors."""

    start: Tensor
    centre: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, distribution: ActionDistribution) -> None:
        super().__init__()
        if not isinstance(distribution, Categorical | MultiCategorical | Bernoulli | Gaussian):
            raise ExportError(f"Actions of a {type(distribution).__name__} can't be exported.")
        self.distribution = distribution
        numbers: dict[str, Any] = {}
        if isinstance(distribution, MultiCategorical):
            numbers = {"start": distribution.start}
        elif isinstance(distribution, Gaussian):
            low, high = distribution.env_low, distribution.env_high
            numbers = {"centre": distribution.centre, "scale": distribution.scale, "low": low, "high": high}
        for name, value in numbers.items():
            self.register_buffer(name, torch.from_numpy(np.array(value)))

    @property
    def are_stored(self) -> bool:
        """Whether they are the stored actions, which a policy sees as the previous ones."""
        one = self.distribution
        if isinstance(one, MultiCategorical):
            return len(one.env_shape) == 1 and not one.start.any()
        return isinstance(one, Categorical) and one.start == 0

    def forward(self, actions: Tensor) -> Tensor:
        """Return stored actions as the env takes them."""
        one = self.distribution
        if isinstance(one, Categorical):
            return actions + one.start
        if isinstance(one, MultiCategorical):
            return actions.reshape(-1, *one.env_shape) + self.start
        if isinstance(one, Bernoulli):
            return actions.reshape(-1, *one.env_shape).to(torch.int8)
        assert isinstance(one, Gaussian)
        values = self.centre + self.scale * (torch.tanh(actions) if one.squash else actions).double()
        return values.reshape(-1, *one.env_shape).to(self.low.dtype).clamp(self.low, self.high)


def _without_mask(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space of observations without the action mask in them."""
    if not isinstance(space, spaces.Dict):
        return space
    return spaces.Dict({key: part for key, part in space.spaces.items() if key != ACTION_MASK_KEY})


def _observation_names(space: spaces.Space[Any], place: str = "observation") -> Tree:
    """Return the names of an observation's parts, as a tree like it."""
    space = _without_mask(space) if place == "observation" else space
    if isinstance(space, spaces.Dict):
        return {key: _observation_names(part, f"{place}.{key}") for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_observation_names(part, f"{place}.{index}") for index, part in enumerate(space.spaces))
    return place


def _observation_leaves(space: spaces.Space[Any], dtype: torch.dtype, path: Path = ()) -> Iterator[Leaf]:
    """Yield the inputs of an observation in the env's types, in the order of ``_observation_names``."""
    space = space if path else _without_mask(space)
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in parts:
            yield from _observation_leaves(part, dtype, (*path, key))
        return
    raw = torch.from_numpy(np.zeros(0, space.dtype)).dtype
    yield Leaf(".".join(("observation", *map(str, path))), space.shape or (), raw, path, space)


def _state_names(state: Tree, place: str) -> Tree:
    """Return the names of a state's leaves, as a tree like it."""
    if isinstance(state, dict):
        return {key: _state_names(part, f"{place}.{key}") for key, part in state.items()}
    if isinstance(state, tuple):
        fields = getattr(state, "_fields", range(len(state)))
        parts = [_state_names(part, f"{place}.{field}") for field, part in zip(fields, state, strict=True)]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return place
