"""The recurrent policy: encoder, memory cell and heads, for acting step by step and for learning over sequences.

State is always an argument and a result, never an attribute. A state with index t is the one before the observation of
step t is consumed; ``is_first[t]`` resets it before the cell sees that observation. Values are in raw reward units.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlstm.cells import State
from rlstm.cells.sequence_paths import name_sequence_path
from rlstm.core.memory_boundaries import InputsConfig, MemoryConfig
from rlstm.core.ranks import ALONE, Ranks
from rlstm.core.trees import Tree
from rlstm.kernels.unroll import unroll
from rlstm.policies.acting import ActingSnapshot, join_heads
from rlstm.policies.config import PolicyConfig
from rlstm.policies.distributions import ActionDistribution, make_distribution
from rlstm.policies.features import InputFeatures
from rlstm.policies.inputs import PolicyEvaluation, PolicyInputs, PolicyStep
from rlstm.policies.networks import Trunk, make_head, make_trunk
from rlstm.policies.normalisers import RunningMoments


class RecurrentPolicy(nn.Module):
    """Actor and critic over a memory.

    Args:
        observation_space: The env's single observation space.
        action_space: The env's single action space.
        config: The network.
        memory: Where memory and gradient end; decides the default inputs too.
        inputs: What is seen beside the observation.
        generator: Source of the sampled actions, on the policy's device.

    Raises:
        UnsupportedSpaceError: If a space can't be read or written.
        ValueError: If the configuration makes no sense.
    """

    _unit: Tensor
    _zero: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        config: PolicyConfig,
        memory: MemoryConfig,
        inputs: InputsConfig,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.observation_space, self.action_space = observation_space, action_space
        self.config = config
        self.memory = memory
        self.inputs = inputs.resolve(memory.lifetime)
        self.generator = generator if generator is not None else torch.Generator()
        self.distribution: ActionDistribution = make_distribution(
            action_space,
            squash=config.squash_actions,
            scale=config.scale_actions,
            initial_log_std=config.initial_log_std,
        )
        network = observation_space, config, self.inputs, self.distribution.num_features
        self.actor = make_trunk(*network)
        self.critic = make_trunk(*network) if config.critic_memory == "separate" else None
        self.policy_head = make_head(self.actor.cell.output_size, config, self.distribution.num_parameters, gain=0.01)
        self.value_head = make_head(self.actor.cell.output_size, config, 1, gain=1.0)
        self.return_moments = RunningMoments(1) if config.scale_rewards and not config.popart else None
        self.value_moments = RunningMoments(1) if config.popart else None
        sees_rewards = bool(self.inputs.previous_reward) and config.normalize_observations
        self.reward_moments = RunningMoments(1) if sees_rewards else None
        self.input_features = InputFeatures(
            self.distribution,
            clips_rewards=sees_rewards,
            reads_elapsed_time=self.actor.cell.reads_elapsed_time,
            elapsed_time=config.elapsed_time,
        )
        self.register_buffer("_unit", torch.ones(()), persistent=False)  # Knows the type and the device of the weights.
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the weights."""
        return self._unit.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._unit.device

    @property
    def return_scale(self) -> Tensor:
        """What a value in the critic's units is worth in raw reward units, a scalar."""
        return self._deviation(self.return_moments if self.value_moments is None else self.value_moments)

    @property
    def return_centre(self) -> Tensor:
        """The raw value where the critic puts out 0, a scalar."""
        if self.value_moments is None:
            return self._zero
        return self.value_moments.mean[0].to(self.dtype, copy=True)  # The statistics change in place.

    @property
    def reward_scale(self) -> Tensor:
        """By what previous rewards are divided where they are seen, a scalar."""
        return self._deviation(self.reward_moments)

    def _deviation(self, moments: RunningMoments | None) -> Tensor:
        if moments is None:
            return self._unit
        variance = moments.variance[0]  # 0 as long as nothing varies: there is no scale to be seen yet.
        return torch.where(variance > 0, (variance + 1e-8).sqrt(), 1.0).to(self.dtype)

    @property
    def sequence_path(self) -> str:
        """How the memory runs over sequences here; ValueError where it can't as the config says."""
        return name_sequence_path(self.actor.cell, self.config.sequence, self.device, self.dtype)

    def trunks(self) -> Iterator[Trunk]:
        """Yield the actor's encoder and memory, and the critic's where it has its own."""
        yield self.actor
        if self.critic is not None:
            yield self.critic

    @property
    def lacks_statistics(self) -> bool:
        """Whether a normaliser has seen nothing yet."""
        moments = [
            *(trunk.encoder.moments for trunk in self.trunks()),
            self.return_moments,
            self.value_moments,
            self.reward_moments,
        ]
        return any(float(one.count) == 0 for one in moments if one is not None)

    def init_state(self, batch_size: int) -> State:
        """Return the state of ``batch_size`` memories that have seen nothing: one state a trunk."""
        return tuple(trunk.cell.init_state(batch_size) for trunk in self.trunks())

    def acting_snapshot(
        self, generator: torch.Generator | None = None, *, block: int = 1, ranks: Ranks = ALONE
    ) -> ActingSnapshot:
        """Return a snapshot of the weights for acting, in the fastest layout; valid until they change.

        The generator, the policy's own by default, draws the actions on the policy's device, those of ``block`` steps
        at once: what is drawn for steps that are not taken is lost. Ranks draw for the envs of all.
        """
        return ActingSnapshot(
            [(trunk.encoder.acting_snapshot(self.dtype), trunk.cell.acting_snapshot()) for trunk in self.trunks()],
            join_heads(self.policy_head, self.value_head, separate=self.critic is not None),
            self.input_features,
            self.distribution,
            init_state=self.init_state,
            return_scale=self.return_scale,
            return_centre=self.return_centre,
            reward_scale=self.reward_scale,
            generator=self.generator if generator is None else generator,
            block=block,
            ranks=ranks,
        )

    @torch.inference_mode()
    def step(self, inputs: PolicyInputs, state: State, is_first: Tensor) -> PolicyStep:
        """Sample one step; leaves ``(B, ...)``. For many steps with the same weights make one ``acting_snapshot``."""
        return self.acting_snapshot().step(inputs, state, is_first)

    @torch.inference_mode()
    def act(self, inputs: PolicyInputs, state: State, is_first: Tensor, *, deterministic: bool) -> tuple[Tensor, State]:
        """Choose actions ``(B, *action_shape)`` and return them with the next state."""
        return self.acting_snapshot().act(inputs, state, is_first, deterministic=deterministic)

    def evaluate(
        self, inputs: PolicyInputs, actions: Tensor, is_first: Tensor, initial_state: State
    ) -> PolicyEvaluation:
        """Run the weights over whole sequences from their initial state, with gradient.

        Args:
            inputs: What was seen, ``(T, B, ...)``.
            actions: As stored, ``(T, B, *action_shape)``.
            is_first: ``(T, B)``.
            initial_state: The state before step 0, leaves ``(B, ...)``.

        Returns:
            Log-probabilities of the actions, entropies and values, ``(T, B)``, and the state after step T - 1.
        """
        features, state = self._run(inputs, is_first, initial_state)
        parameters = self.policy_head(features[0])
        log_probs, entropies = self.distribution.log_prob_and_entropy(parameters, actions, inputs.action_masks)
        of_critic = self._for_critic(features[-1])
        return PolicyEvaluation(log_probs, entropies, self._raw_values(of_critic), state, of_critic)

    def outputs(self, inputs: PolicyInputs, is_first: Tensor, initial_state: State) -> Tensor:
        """Run the actor alone over whole sequences, with gradient: what the policy head puts out, ``(T, B, P)``.

        Arguments as ``evaluate``.
        """
        outputs: Tensor = self.policy_head(self._sequence(self.actor, inputs, is_first, initial_state[0])[0])
        return outputs

    def values(self, inputs: PolicyInputs, is_first: Tensor, initial_state: State) -> Tensor:
        """Run the critic alone over whole sequences, with gradient: values ``(T, B)``. Arguments as ``evaluate``."""
        return self._raw_values(self.critic_features(inputs, is_first, initial_state[-1])[0])

    def critic_features(self, inputs: PolicyInputs, is_first: Tensor, state: State) -> tuple[Tensor, State]:
        """Return what the critic reads over whole sequences, ``(T, B, H)``, and the state of its memory after them.

        ``state`` is that of the critic's memory before step 0, the last of the states; else as ``evaluate``.
        """
        *_, trunk = self.trunks()
        features, state = self._sequence(trunk, inputs, is_first, state)
        return self._for_critic(features), state

    def _for_critic(self, features: Tensor) -> Tensor:
        """Return the features as the critic reads them: it may read a memory without training it."""
        return features.detach() if self.config.critic_memory == "detached" else features

    def _raw_values(self, features: Tensor) -> Tensor:
        """Return the values ``(T, B)`` in raw units of what the critic reads, ``(T, B, H)``."""
        values: Tensor = self.value_head(features).squeeze(-1)
        return torch.addcmul(self.return_centre, values, self.return_scale)

    @torch.no_grad()
    def renormalise_values(self, targets: Tensor) -> None:
        """Take value targets ``(N,)`` into the statistics of PopArt; the values of all observations stay the same."""
        moments = self.value_moments
        if moments is None:
            return
        before = self.return_scale.double(), self.return_centre.double()
        moments.update(targets.unsqueeze(-1))
        scale, centre = self.return_scale.double(), self.return_centre.double()
        last = cast(nn.Linear, self.value_head[-1])
        last.weight.mul_(before[0] / scale)
        last.bias.copy_((before[0] * last.bias.double() + before[1] - centre) / scale)

    @property
    def values_have_moved(self) -> bool:
        """Whether the critic's bias is no longer the 0 that it is made with."""
        return bool(cast(nn.Linear, self.value_head[-1]).bias.any())

    @torch.no_grad()
    def begin_values_at(self, value: float) -> None:
        """Move the critic's bias so that its output 0 becomes the raw ``value``."""
        last = cast(nn.Linear, self.value_head[-1])
        last.bias.copy_((value - self.return_centre.double()) / self.return_scale.double())

    @torch.no_grad()
    def replay_state(self, inputs: PolicyInputs, is_first: Tensor, initial_state: State) -> State:
        """Return the state after the last step, as the present weights would have it. Arguments as ``evaluate``."""
        return self._run(inputs, is_first, initial_state)[1]

    def _run(self, inputs: PolicyInputs, is_first: Tensor, initial_state: State) -> tuple[list[Tensor], State]:
        """Run every trunk over the sequences: features ``(T, B, H)`` a trunk, and the final state."""
        all_features, states = [], []
        for trunk, state in zip(self.trunks(), initial_state, strict=True):
            features, state = self._sequence(trunk, inputs, is_first, state)
            all_features.append(features)
            states.append(state)
        return all_features, tuple(states)

    def _sequence(self, trunk: Trunk, inputs: PolicyInputs, is_first: Tensor, state: State) -> tuple[Tensor, State]:
        """Run encoder and memory over the sequences, as far back and with as much kept as the config says."""
        scale, horizon, dtype = self.reward_scale, self.memory.bptt_horizon, self.dtype
        sequence = trunk.cell.sequence_by(self.config.sequence)

        def run(inputs: PolicyInputs, state: State, is_first: Tensor) -> tuple[Tensor, State]:
            return sequence(self.input_features(trunk.encoder, inputs, is_first, scale, dtype), state, is_first)

        if self.memory.recompute and torch.is_grad_enabled():  # The encoder too: that of images keeps more than a cell.
            parameters = tuple(trunk.parameters())
            return unroll(run, inputs, state, is_first, horizon=horizon, recomputed=parameters)
        encoded = self.input_features(trunk.encoder, inputs, is_first, scale, dtype)
        return unroll(sequence, encoded, state, is_first, horizon=horizon)

    def update_normalisers(
        self, observations: Tree, rewards: Tensor, valid: Tensor, discounted_returns: Tensor, ranks: Ranks = ALONE
    ) -> None:
        """Take a rollout into the running statistics: once per update, after the last epoch.

        Args:
            observations: ``(T, B/N, ...)`` of this rank's envs.
            rewards: ``(T, B)`` raw, of the envs of all ranks, as the others.
            valid: ``(T, B)`` bool: which steps count.
            discounted_returns: ``(T, B)`` backward-looking discounted sums of raw rewards.
            ranks: Those that share the envs.
        """
        own_valid = valid[:, ranks.own(valid.shape[1])]
        for trunk in self.trunks():
            if trunk.encoder.moments is not None:
                trunk.encoder.moments.update(trunk.encoder.vectors(observations, self.dtype)[own_valid], ranks)
        if self.return_moments is not None:
            self.return_moments.update(discounted_returns[valid].unsqueeze(-1))
        if self.reward_moments is not None:
            self.reward_moments.update(rewards[valid].unsqueeze(-1))
