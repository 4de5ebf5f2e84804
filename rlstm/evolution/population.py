"""Many policies as one: P policies that act together in P times E envs.

Letters in shapes: P = policies, N = genes, E = envs of each policy; env p·E + e is the e-th of policy p.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from rlstm.cells import RecurrentCell, State
from rlstm.cells.base import reset_rows
from rlstm.cells.population_linear import PopulationLinear
from rlstm.core.arrays import BoolArray
from rlstm.core.trees import tree_map
from rlstm.evaluation.evaluate import EvaluationResult, Player
from rlstm.evolution.parameters import ParameterLayout
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.layers import highway
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.adapter import SteppedEnvs


class PopulationSnapshot:
    """P policies laid out for acting together, as ``ActingSnapshot`` lays out one.

    Its methods are for use inside ``torch.inference_mode``.

    Args:
        policy: Its spaces, inputs, normalisers and sizes are those of all.
        layout: Of the genomes; to act, they need the readout.
        genomes: ``(P, N)``.

    Raises:
        ValueError: If the genomes have another length.
    """

    def __init__(self, policy: RecurrentPolicy, layout: ParameterLayout, genomes: Tensor) -> None:
        self._policy = policy
        self._distribution = policy.distribution
        weights = layout.split(genomes.to(device=policy.device, dtype=policy.dtype))
        encoder = _under(weights, "actor.encoder.layers.")
        self._encode = policy.actor.encoder.acting_snapshot(policy.dtype, _layers(policy.actor.encoder.layers, encoder))
        self._step = policy.actor.cell.population_snapshot(_cell_weights(policy.actor.cell, weights))
        self._head = _layers(policy.policy_head, _under(weights, "policy_head.")) if layout.readout else None
        self._reward_scale = policy.reward_scale
        self._fresh: State = ()
        self._fresh_size = 0

    def act(
        self, inputs: PolicyInputs, state: State, is_first: Tensor, *, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        """Choose actions; leaves ``(P·E, ...)``. ``state`` holds the actor's alone: ``(cell state,)``.

        Raises:
            ValueError: If the genomes have no readout.
        """
        parameters, state = self.answer(inputs, state, is_first)
        if generator is None:
            return self._distribution.mode(parameters, inputs.action_masks), state
        noise = self._distribution.draw_noise((len(parameters),), generator, parameters)
        return self._distribution.sample(parameters, inputs.action_masks, noise), state

    def answer(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """Return what the policy heads put out, ``(P·E, Y)``, and the next state; otherwise as ``act``."""
        if self._head is None:
            raise ValueError("These genomes have no readout, and without one they can't act: take a layout with it.")
        features, state = self.remember(inputs, state, is_first)
        return self._head(features), state

    def remember(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> tuple[Tensor, State]:
        """Return what a readout reads, ``(P·E, H)``, and the next state; otherwise as ``act``."""
        (memory,) = state
        if len(is_first) != self._fresh_size:
            self._fresh, self._fresh_size = self._policy.actor.cell.init_state(len(is_first)), len(is_first)
        if bool(is_first.any()):
            memory = reset_rows(memory, self._fresh, is_first)
        features, memory = self._step(
            self._policy.input_features(self._encode, inputs, is_first, self._reward_scale, self._policy.dtype), memory
        )
        return features, (memory,)

    def init_state(self, num_envs: int) -> State:
        """Return the state of P·E memories that have seen nothing."""
        return (self._policy.actor.cell.init_state(num_envs),)


def play_population(
    policy: RecurrentPolicy,
    layout: ParameterLayout,
    genomes: Tensor,
    envs: SteppedEnvs,
    *,
    seeds: Sequence[int],
    episodes: int = 1,
    generator: torch.Generator | None = None,
) -> EvaluationResult:
    """Let P policies play complete episodes, each its likeliest actions or sampled ones.

    Every env plays the same number of episodes. Policies that are through are left out of the computation once half of
    those in it are; their envs idle on.

    Args:
        policy: As for ``PopulationSnapshot``.
        layout: Of the genomes.
        genomes: ``(P, N)``.
        envs: P·E of them, reset here.
        seeds: E, the same for every policy, so that none is lucky: common random numbers; or P·E, one for each env.
        episodes: Of an env; with trials a multiple of ``episodes_per_trial``.
        generator: Draws the actions; None takes the likeliest ones.

    Returns:
        The episodes, P·E·``episodes``, policy after policy.

    Raises:
        ValueError: If the envs are not P·E, or the episodes no whole number of trials.
    """
    population, num_envs = len(genomes), envs.num_envs // len(genomes)
    if envs.num_envs != population * num_envs or len(seeds) not in (num_envs, envs.num_envs):
        raise ValueError(
            f"{population} policies under {len(seeds)} seeds need {population * len(seeds)} envs, not {envs.num_envs}."
        )
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; it must be at least 1.")
    if episodes % (policy.memory.episodes_per_trial or 1):
        raise ValueError(f"episodes is {episodes}; it must be a multiple of {policy.memory.episodes_per_trial}.")
    player = Player(policy, envs, list(seeds) * (envs.num_envs // len(seeds)))
    active = _ActiveMembers(policy, layout, genomes, num_envs)
    act = partial(active.act, generator=generator)
    with torch.inference_mode():
        while (unfinished := player.played < episodes).any():
            active.keep(np.asarray(unfinished.reshape(population, num_envs).any(1)))
            player.step(act)
    return player.result(np.full(envs.num_envs, episodes))


class _ActiveMembers:
    """The policies that still play, and their memories."""

    def __init__(self, policy: RecurrentPolicy, layout: ParameterLayout, genomes: Tensor, num_envs: int) -> None:
        self._policy, self._layout, self._genomes, self._num_envs = policy, layout, genomes, num_envs
        self._members = torch.arange(len(genomes))
        self._rows = torch.arange(len(genomes) * num_envs)
        self._snapshot = PopulationSnapshot(policy, layout, genomes)
        self._state = self._snapshot.init_state(len(self._rows))

    def keep(self, playing: BoolArray) -> None:
        """Leave out the members that are through, ``playing`` ``(P,)``, once that halves the work."""
        if 2 * np.count_nonzero(playing) > len(self._members):
            return
        still = torch.from_numpy(playing)[self._members]
        rows = still.repeat_interleave(self._num_envs)
        self._members, self._rows = self._members[still], self._rows[rows]
        self._snapshot = PopulationSnapshot(self._policy, self._layout, self._genomes[self._members])
        self._state = tree_map(lambda leaf: leaf[rows.to(leaf.device)], self._state)

    def act(self, inputs: PolicyInputs, is_first: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Choose the actions of all envs; in those of members that are through, some that are allowed."""
        if len(self._rows) == len(is_first):
            actions, self._state = self._snapshot.act(inputs, self._state, is_first, generator=generator)
            return actions
        rows, distribution = self._rows.to(is_first.device), self._policy.distribution
        nothing = torch.zeros(len(is_first), distribution.num_parameters, device=self._policy.device)
        actions = distribution.mode(nothing.to(self._policy.dtype), inputs.action_masks)
        seen, first = tree_map(lambda leaf: leaf[rows], inputs), is_first[rows]
        actions[rows], self._state = self._snapshot.act(seen, self._state, first, generator=generator)
        return actions


def _under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _cell_weights(cell: RecurrentCell, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the cell's parameters ``(P, ...)``, zeros where they are redundant."""
    own = _under(weights, "actor.cell.")
    some = next(iter(weights.values()))
    zeros = {name: some.new_zeros(len(some), *cell.get_parameter(name).shape) for name in cell.redundant_parameters}
    return {**own, **zeros}


def _layers(layers: nn.Sequential, weights: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Return linear and tanh layers with P sets of weights, from ``(P·E, I)`` to ``(P·E, O)``."""
    steps = [_layer(layer, _under(weights, f"{index}.")) for index, layer in enumerate(layers)]

    def run(features: Tensor) -> Tensor:
        for step in steps:
            features = step(features)
        return features

    return run


def _layer(layer: nn.Module, weights: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    if isinstance(layer, nn.Tanh):
        return torch.tanh
    if isinstance(layer, nn.Linear):
        return PopulationLinear(weights["weight"], weights["bias"])
    both = PopulationLinear(weights["linear.weight"], weights["linear.bias"])  # Of a highway layer.
    return lambda features: highway(both(features), features)
