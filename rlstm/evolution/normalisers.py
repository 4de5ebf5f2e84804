"""Normalisers that are filled once, before the first generation: evolution has no update that could move them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlstm.evaluation.evaluate import Player
from rlstm.policies.acting import SnapshotActor
from rlstm.policies.inputs import PolicyInputs
from rlstm.policies.policy import RecurrentPolicy
from rlstm.vector.adapter import SteppedEnvs


def fill_normalisers(policy: RecurrentPolicy, envs: SteppedEnvs, seeds: Sequence[int]) -> int:
    """Take what the policy, sampling, sees in one episode of every env into its normalisers; returns the steps.

    The policy acts as it is now; every env is reset here with a seed of its own.
    """
    player = Player(policy, envs, seeds)
    actor = SnapshotActor(policy.acting_snapshot(), policy.init_state(envs.num_envs), deterministic=False)
    encoder = policy.actor.encoder
    seen: list[Tensor] = []
    rewards: list[Tensor] = []

    def act(inputs: PolicyInputs, is_first: Tensor) -> Tensor:
        if encoder.moments is not None:
            seen.append(encoder.vectors(inputs.observations, policy.dtype).clone())
        rewards.append(player.tracker.previous_rewards.clone())
        return actor(inputs, is_first)

    with torch.inference_mode():
        while (player.played < 1).any():
            player.step(act)
    if encoder.moments is not None:
        encoder.moments.update(torch.cat(seen))
    for moments in (policy.return_moments, policy.reward_moments):
        if moments is not None:
            moments.update(torch.cat(rewards[1:] or rewards).unsqueeze(-1))
    return len(rewards) * envs.num_envs
