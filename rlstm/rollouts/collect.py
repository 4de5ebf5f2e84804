"""Collecting: a policy acts in many envs, and what happens becomes a rollout; see ``rlstm.rollouts.rollout``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlstm.cells import State
from rlstm.core.arrays import BoolArray, IntArray
from rlstm.core.errors import EnvironmentFailure
from rlstm.core.ranks import ALONE, Ranks
from rlstm.core.trees import Tree, tree_leaves, tree_map
from rlstm.policies.inputs import PolicyInputs, SampledStep
from rlstm.policies.policy import RecurrentPolicy
from rlstm.rollouts.bootstrap import FinalRows
from rlstm.rollouts.buffers import RolloutBuffers
from rlstm.rollouts.inputs import PolicyInputsTracker, observation_tensors
from rlstm.rollouts.play import crosses, play_step
from rlstm.rollouts.rollout import Onward, Rollout
from rlstm.rollouts.statistics import EpisodeStatistics
from rlstm.vector.adapter import EnvStep, SteppedEnvs

_BLOCK = 64  # Steps whose noise is drawn at once if the number of steps isn't known.
_LONGEST_TRAJECTORY = 100_000  # Steps.


@dataclass
class CollectorState:
    """What is carried from one rollout to the next: where every env stands in its trajectory."""

    tracker: PolicyInputsTracker  # what is seen next
    state: State  # before that, not yet reset
    statistics: EpisodeStatistics
    ranks: Ranks = ALONE  # Those that share the envs; all others in here are this rank's.

    def begin(self, policy: RecurrentPolicy, step: EnvStep) -> None:
        """Begin a trajectory in every env after a reset of all envs."""
        self.tracker = PolicyInputsTracker(policy, step)
        self.state = policy.init_state(len(step.rewards))
        self.statistics.begin()

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain containers, arrays and tensors."""
        return {
            "view": self.tracker.state_dict(),
            "state": tree_leaves(self.state),
            "statistics": self.statistics.state_dict(),
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned; the structure of the state stays that of this one."""
        leaves = iter(values["state"])
        self.state = tree_map(lambda leaf: next(leaves).to(leaf), self.state)
        self.tracker.load_state_dict(values["view"])
        self.statistics.load_state_dict(values["statistics"])


def start(
    policy: RecurrentPolicy,
    envs: SteppedEnvs,
    seeds: Sequence[int],
    statistics: EpisodeStatistics | None = None,
    ranks: Ranks = ALONE,
) -> CollectorState:
    """Reset every env with its seed and begin a trajectory in each, with new statistics unless some are given."""
    tracker = PolicyInputsTracker(policy, envs.reset(seeds))
    if statistics is None:
        statistics = EpisodeStatistics(envs.num_envs, log_info=envs.log_info)
    return CollectorState(tracker, policy.init_state(envs.num_envs), statistics, ranks)


class _Collection:
    """A rollout in the making; its steps are taken inside ``torch.inference_mode``."""

    def __init__(
        self,
        policy: RecurrentPolicy,
        envs: SteppedEnvs,
        collector_state: CollectorState,
        block: int,
        *,
        onward: bool = False,
    ) -> None:
        self.policy, self.envs, self.collector_state = policy, envs, collector_state
        self.initial_state = tree_map(Tensor.clone, collector_state.state)
        self.snapshot = policy.acting_snapshot(block=block, ranks=collector_state.ranks)
        self.buffers = RolloutBuffers()
        self.final_rows = FinalRows()
        self.last_observations: list[tuple[int, IntArray, Tree]] | None = [] if onward else None
        self._all: BoolArray = np.ones(envs.num_envs, dtype=bool)
        self._chosen: SampledStep

    def step(self, active: BoolArray | None = None) -> BoolArray:
        """Step every env; returns ``(B,)`` where memory is reset next.

        Args:
            active: ``(B,)`` envs whose step counts; the others are idle. None for all.
        """
        tracker, statistics = self.collector_state.tracker, self.collector_state.statistics
        is_first = tracker.is_first
        outcome = play_step(self.policy, self.envs, tracker, self._choose)
        step = self._chosen
        self.collector_state.state = step.state

        # Cut credit where its boundary is crossed.
        cuts = crosses(self.policy.memory.credit_boundary, outcome.episode_ends, outcome.trial_ends)
        if active is not None and not active.all():
            outcome, cuts = _only(active, outcome), cuts & active

        # Count episodes, keep what truncated ones are bootstrapped from, store the outcome.
        statistics.add(outcome.rewards, outcome.finished, outcome.successes, outcome.trial_ends, outcome.logged)
        if len(outcome.finished):
            self.final_rows.add(self.buffers.num_steps, cuts, step, outcome, tracker)
            if self.last_observations is not None:
                of_ended = observation_tensors(outcome.final_observations, tracker.types, self.policy.device)
                self.last_observations.append((self.buffers.num_steps, outcome.finished, of_ended))
        self.buffers.write_outcome(outcome, is_first, cuts, self._all if active is None else active.copy())
        return tracker.is_first

    def _choose(self, inputs: PolicyInputs, is_first: Tensor) -> Tensor:
        self._chosen = self.snapshot.sample(inputs, self.collector_state.state, is_first)
        self.buffers.write(inputs, self._chosen)
        return self._chosen.actions

    def rollout(self) -> Rollout:
        """Return what was collected, next values included, in ordinary tensors."""
        carried = self.collector_state
        carried.statistics.settle(carried.ranks)
        steps, flags = self.buffers.stack(self.snapshot)
        with torch.inference_mode():
            self.final_rows.write_next_values(steps, flags.credit_cuts, self.snapshot, carried.tracker, carried.state)
        # Out of inference mode: usable wherever gradients flow.
        carried.state = tree_map(Tensor.clone, carried.state)
        carried.tracker.previous_actions = carried.tracker.previous_actions.clone()
        onward = None if self.last_observations is None else self._onward(steps.inputs, self.last_observations)
        rollout = Rollout(**steps._asdict(), **flags._asdict(), initial_state=self.initial_state, onward=onward)
        rollout.check_finite()
        return rollout

    def _onward(self, inputs: PolicyInputs, last_observations: list[tuple[int, IntArray, Tree]]) -> Onward:
        """Return what each step led to: what is seen next, or the last observation of an episode that ended."""
        tracker = self.collector_state.tracker
        after = tracker.inputs()
        next_observations = tree_map(
            lambda seen, last: torch.cat([seen[1:], last.unsqueeze(0)]), inputs.observations, after.observations
        )
        for t, envs, observations in last_observations:
            rows = torch.as_tensor(envs, device=self.policy.device)
            tree_map(
                lambda leaf, last, t=t, rows=rows: leaf[t].index_copy_(0, rows, last), next_observations, observations
            )
        return Onward(next_observations, after, torch.as_tensor(tracker.is_first.copy(), device=self.policy.device))


def _only(active: BoolArray, outcome: EnvStep) -> EnvStep:
    """Return the outcome with nothing of the envs that are idle."""
    finished = active[outcome.finished]
    return outcome._replace(
        rewards=np.where(active, outcome.rewards, 0.0),
        terminated=outcome.terminated & active,
        truncated=outcome.truncated & active,
        episode_ends=outcome.episode_ends & active,
        trial_ends=outcome.trial_ends & active,
        finished=outcome.finished[finished],
        final_observations=tree_map(lambda leaf: leaf[finished], outcome.final_observations),
        successes=outcome.successes[finished],
        logged=None if outcome.logged is None else np.where(active[:, np.newaxis], outcome.logged, np.nan),
    )


def collect(
    policy: RecurrentPolicy,
    envs: SteppedEnvs,
    collector_state: CollectorState,
    num_steps: int,
    *,
    onward: bool = False,
) -> Rollout:
    """Collect ``num_steps`` steps T of every env, sampling actions with weights that don't change meanwhile.

    The collector's state is moved on to the end of the rollout, which holds next values and ordinary tensors; with
    ``onward`` also what the steps led to.
    """
    collection = _Collection(policy, envs, collector_state, num_steps, onward=onward)
    with torch.inference_mode():
        for _ in range(num_steps):
            collection.step()
    return collection.rollout()


def collect_trajectories(
    policy: RecurrentPolicy,
    envs: SteppedEnvs,
    collector_state: CollectorState,
    num_trajectories: int,
    seeds: Sequence[int],
) -> Rollout:
    """Collect exactly so many complete trajectories: episodes, or trials if ``memory.lifetime`` is one.

    Every env is reset and begins with an empty memory. An env whose trajectory ends begins the next one until
    ``num_trajectories`` have begun; from then on it is idle, ``valid`` False. So which trajectories are in the batch
    doesn't depend on their length. The rollout, as ``collect`` returns it, is as long as the last trajectory in it.

    Args:
        policy: As for ``collect``, like the envs.
        envs: The same.
        collector_state: Begins anew; the means over finished episodes stay.
        num_trajectories: N, of all ranks.
        seeds: One for the reset of each env of all ranks.

    Raises:
        EnvironmentFailure: If a trajectory does not end.
    """
    ranks, num_envs = collector_state.ranks, len(seeds)
    own = ranks.own(num_envs)
    collector_state.begin(policy, envs.reset(seeds[own]))
    collection = _Collection(policy, envs, collector_state, _BLOCK)
    active = np.arange(num_envs) < num_trajectories  # Of the envs of all ranks, as the next ones.
    to_begin = max(0, num_trajectories - num_envs)
    ages = np.zeros(num_envs, dtype=np.int64)
    with torch.inference_mode():
        while active.any():
            memory_ends = _of_all(ranks, collection.step(active[own]))
            ages = np.where(memory_ends, 0, ages + 1)
            _refuse_endless_trajectories(ages[active])
            ended = np.flatnonzero(memory_ends & active)
            active[ended[to_begin:]] = False
            to_begin = max(0, to_begin - len(ended))
    return collection.rollout()


def _of_all(ranks: Ranks, flags: BoolArray) -> BoolArray:
    """Return the flags of all ranks' envs ``(B,)`` from those of this rank's."""
    if ranks.is_alone:
        return flags
    joined: BoolArray = ranks.columns(torch.as_tensor(flags, dtype=torch.uint8).unsqueeze(0))[0][0].numpy() > 0
    return joined


def _refuse_endless_trajectories(ages: IntArray) -> None:
    if len(ages) and ages.max() >= _LONGEST_TRAJECTORY:
        raise EnvironmentFailure(
            f"A trajectory has not ended after {_LONGEST_TRAJECTORY:,} steps, and this agent learns from complete ones "
            "only. Give the env a time limit (max_episode_steps when it is registered), or use ppo, which needs none."
        )


def refresh_state(policy: RecurrentPolicy, rollout: Rollout, collector_state: CollectorState) -> dict[str, float]:
    """Replace the carried state by the one that the present weights give the same past.

    Returns:
        How large the state is and how far the old one was from it, by metric name; nothing if there is no memory.
    """
    refreshed = policy.replay_state(rollout.inputs, rollout.is_first, rollout.initial_state)
    pairs = list(zip(tree_leaves(refreshed), tree_leaves(collector_state.state), strict=True))
    collector_state.state = refreshed
    if not pairs:
        return {}
    drift = sum(float((new - old).square().mean()) for new, old in pairs) / len(pairs)
    size = sum(float(new.square().mean()) for new, _ in pairs) / len(pairs)
    return {"recurrent/state_rms": math.sqrt(size), "recurrent/state_staleness_rms": math.sqrt(drift)}
