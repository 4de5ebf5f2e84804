"""Collecting: a policy plays in many envs, and what happens becomes a rollout; see ``rlstm.rollouts.rollout``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlstm.cells import State
from rlstm.core.arrays import BoolArray
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.memory_boundaries import crosses
from rlstm.core.trees import tree_leaves, tree_map
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.bootstrap import FinalRows
from rlstm.rollouts.buffers import RolloutBuffers
from rlstm.rollouts.inputs import PolicyInputsTracker
from rlstm.rollouts.rollout import Rollout
from rlstm.rollouts.statistics import EpisodeStatistics
from rlstm.vector.adapter import EnvStep, VectorEnvs

__all__ = ["CollectorState", "Rollout", "collect", "collect_trajectories", "refresh_state", "start"]

_ROOM_FOR_LIVES = 64  # Steps that buffers have room for at first, if it isn't known how many there will be.
_LONGEST_LIFE = 100_000  # Steps.


@dataclass
class CollectorState:
    """What goes on from one rollout to the next: the place of every lane in its life."""

    view: PolicyInputsTracker  # what is seen next
    state: State  # before that, not yet erased
    statistics: EpisodeStatistics

    def begin(self, policy: RecurrentPolicy, step: EnvStep) -> None:
        """Begin every lane's life after a reset of all lanes."""
        self.view = PolicyInputsTracker(policy, step)
        self.state = policy.init_state(len(step.rewards))
        self.statistics.begin()

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain containers, arrays and tensors."""
        return {
            "view": self.view.state_dict(),
            "state": tree_leaves(self.state),
            "statistics": self.statistics.state_dict(),
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take everything back; the structure of the state is that of this carry."""
        leaves = iter(values["state"])
        self.state = tree_map(lambda leaf: next(leaves).to(leaf), self.state)
        self.view.load_state_dict(values["view"])
        self.statistics.load_state_dict(values["statistics"])


def start(policy: RecurrentPolicy, envs: VectorEnvs, seeds: list[int]) -> CollectorState:
    """Reset every lane with its seed and begin every life."""
    view = PolicyInputsTracker(policy, envs.reset(seeds))
    return CollectorState(view, policy.init_state(envs.num_envs), EpisodeStatistics(envs.num_envs))


class _Play:
    """Play, step after step, written down as it goes; the steps are taken inside ``torch.inference_mode``."""

    def __init__(self, policy: RecurrentPolicy, envs: VectorEnvs, carry: CollectorState, capacity: int) -> None:
        self.policy, self.envs, self.carry = policy, envs, carry
        self.snapshot = policy.acting_snapshot()
        self.buffers = RolloutBuffers(policy, carry.view, capacity)
        self.final_rows = FinalRows()

    def step(self, playing: BoolArray | None = None) -> BoolArray:
        """Step every lane; returns ``(B,)`` where memory is erased next.

        Args:
            playing: ``(B,)`` lanes whose step counts; the others idle. None for all.
        """
        carry, view, memory = self.carry, self.carry.view, self.policy.memory
        inputs = view.inputs()
        step = self.snapshot.step(inputs, carry.state, torch.as_tensor(view.is_first, device=self.policy.device))
        self.buffers.write(view.is_first, inputs, step)
        outcome = self.envs.step(self.policy.distribution.to_env(step.actions))
        episode_ends = outcome.terminated | outcome.truncated
        trial_ends = episode_ends & outcome.trial_starts
        lives_end = crosses(memory.lifetime, episode_ends, trial_ends)
        cuts = crosses(memory.credit_boundary, episode_ends, trial_ends)
        carry.state = step.state
        view.advance(outcome, step.actions, lives_end)
        if playing is not None and not playing.all():
            outcome, trial_ends, cuts = _only(playing, outcome), trial_ends & playing, cuts & playing
        carry.statistics.add(outcome.rewards, outcome.finished, outcome.successes, trial_ends)
        if len(outcome.finished):
            self.final_rows.add(self.buffers.num_steps, cuts, step, outcome, view)
        self.buffers.write_outcome(outcome, cuts, playing)
        return lives_end

    def rollout(self, initial_state: State) -> Rollout:
        """Return what was played, next values included, in ordinary tensors."""
        carry, fields = self.carry, self.buffers.fields()
        with torch.inference_mode():
            self.final_rows.write_next_values(fields, self.snapshot, carry.view, carry.state)
        # Out of inference mode: usable wherever gradients flow.
        carry.state = tree_map(Tensor.clone, carry.state)
        carry.view.previous_actions = carry.view.previous_actions.clone()
        return Rollout(**fields, initial_state=initial_state)


def _only(playing: BoolArray, outcome: EnvStep) -> EnvStep:
    """Return the outcome with nothing of the lanes that don't play."""
    finished = playing[outcome.finished]
    return outcome._replace(
        rewards=np.where(playing, outcome.rewards, 0.0),
        terminated=outcome.terminated & playing,
        truncated=outcome.truncated & playing,
        finished=outcome.finished[finished],
        final_observations=tree_map(lambda leaf: leaf[finished], outcome.final_observations),
        successes=outcome.successes[finished],
    )


def collect(policy: RecurrentPolicy, envs: VectorEnvs, carry: CollectorState, num_steps: int) -> Rollout:
    """Let the policy act for ``num_steps`` steps in every lane.

    Args:
        policy: Samples the actions; its weights don't change meanwhile.
        envs: The lanes.
        carry: Where every lane stands; moved on to the end of the rollout.
        num_steps: T.

    Returns:
        The rollout, next values included, in ordinary tensors.
    """
    initial_state = tree_map(Tensor.clone, carry.state)
    play = _Play(policy, envs, carry, num_steps)
    with torch.inference_mode():
        for _ in range(num_steps):
            play.step()
    return play.rollout(initial_state)


def collect_trajectories(
    policy: RecurrentPolicy, envs: VectorEnvs, carry: CollectorState, num_lives: int, seeds: Sequence[int]
) -> Rollout:
    """Let the policy live exactly ``num_lives`` complete lives: episodes, or trials where ``memory.lifetime`` is one.

    Every lane is reset and begins with an empty memory. A lane whose life ends begins the next one until ``num_lives``
    have begun; from then on it idles, ``valid`` False. So which lives are in the batch doesn't depend on their length.

    Args:
        policy: Samples the actions; its weights don't change meanwhile.
        envs: The lanes.
        carry: Begins anew; the means over finished episodes stay.
        num_lives: N.
        seeds: One for the reset of each lane.

    Returns:
        The rollout, as long as the last life in it, in ordinary tensors.

    Raises:
        EnvironmentFailure: If a life does not end.
    """
    carry.begin(policy, envs.reset(seeds))
    initial_state = tree_map(Tensor.clone, carry.state)
    play = _Play(policy, envs, carry, _ROOM_FOR_LIVES)
    playing = np.arange(envs.num_envs) < num_lives
    to_begin = max(0, num_lives - envs.num_envs)
    ages = np.zeros(envs.num_envs, dtype=np.int64)
    with torch.inference_mode():
        while playing.any():
            lives_end = play.step(playing)
            ages = np.where(lives_end, 0, ages + 1)
            _refuse_endless_lives(ages[playing])
            ended = np.flatnonzero(lives_end & playing)
            playing[ended[to_begin:]] = False
            to_begin = max(0, to_begin - len(ended))
    return play.rollout(initial_state)


def _refuse_endless_lives(ages: npt.NDArray[np.int64]) -> None:
    if len(ages) and ages.max() >= _LONGEST_LIFE:
        raise EnvironmentFailure(
            f"A life has not ended after {_LONGEST_LIFE:,} steps, and only complete ones are learnt from here. Give "
            "the env a time limit (max_episode_steps when it is registered), or use ppo, which needs no ends."
        )


def refresh_state(policy: RecurrentPolicy, rollout: Rollout, carry: CollectorState) -> dict[str, float]:
    """Replace the carried state by the one that the present weights give the same past.

    Returns:
        How large the state is and how far the old one was from it, by their tags; nothing where there is no memory.
    """
    refreshed = policy.replay_state(rollout.inputs, rollout.is_first, rollout.initial_state)
    pairs = list(zip(tree_leaves(refreshed), tree_leaves(carry.state), strict=True))
    carry.state = refreshed
    if not pairs:
        return {}
    drift = sum(float((new - old).square().mean()) for new, old in pairs) / len(pairs)
    size = sum(float(new.square().mean()) for new, _ in pairs) / len(pairs)
    return {"recurrent/state_rms": math.sqrt(size), "recurrent/state_staleness_rms": math.sqrt(drift)}
