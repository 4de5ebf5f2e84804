"""Let oracles play: strategies that know how the tasks are drawn, for all tasks of a batch at once.

An oracle begins with the prior from which tasks are drawn and learns nothing but what it sees in a trial, as a trained
agent does; it differs in that its knowledge of the prior, and what to do with it, was given by hand. Those for bandits
are in ``oracles_bandits.py``, those for random MDPs in ``oracles_mdps.py``.

B: tasks, each played in an env of its own.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rlstm.vector.adapter import VectorEnvs

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Oracle(Protocol):
    """A strategy in the middle of a trial of every task."""

    def act(self, states: IntArray, step: int) -> IntArray:
        """Return an action for each task, (B,).

        Args:
            states: The tasks' present states, (B,); of no meaning in bandits.
            step: Place of this step in its episode, from 0; the same in all tasks.
        """

    def learn(self, states: IntArray, actions: IntArray, rewards: FloatArray, next_states: IntArray) -> None:
        """Take in what the actions have led to; all are (B,), next states before any reset."""


def play_trial(oracle: Oracle, envs: VectorEnvs, seeds: list[int], num_episodes: int) -> FloatArray:
    """Play one trial in every env.

    Args:
        oracle: A fresh one for as many tasks as there are envs.
        envs: SteppedEnvs whose trials have ``num_episodes`` episodes, all of one length.
        seeds: Of the envs, (B,); the same seeds are the same tasks.
        num_episodes: n, episodes of a trial.

    Returns:
        Total rewards, (B,).

    Raises:
        ValueError: If the envs' episodes don't end together.
    """
    states = _plain(envs.reset(seeds).observations)
    totals = np.zeros(envs.num_envs)
    episodes, step = 0, 0
    while episodes < num_episodes:
        actions = oracle.act(states, step)
        outcome = envs.step(actions)
        num_ended = len(outcome.finished)
        if num_ended not in (0, envs.num_envs):
            raise ValueError(f"{num_ended} of {envs.num_envs} episodes ended at step {step}; oracles need all or none.")
        next_states = _plain(outcome.final_observations if num_ended else outcome.observations)
        oracle.learn(states, actions, outcome.rewards, next_states)
        totals += outcome.rewards
        states = _plain(outcome.observations)
        episodes, step = (episodes + 1, 0) if num_ended else (episodes, step + 1)
    return totals


def _plain(observations: Any) -> IntArray:
    """Return observations as one state an env: those of a bandit are all the same, (B, 1)."""
    return np.asarray(observations).reshape(len(observations)).astype(np.int64)
