"""Classical strategies for Bernoulli bandits whose arms pay with probabilities drawn uniformly from [0, 1).

A rule gives every arm a score, and the arm with the highest is pulled. The prior of an arm is Beta(1, 1): one success
and one failure imagined in advance, so its mean is 1/2 before the first pull. Rules and their sources:

- random: any arm;
- greedy: the highest mean of the posterior (uniform prior, no optimism);
- epsilon-greedy: any arm with probability epsilon, otherwise greedy;
- ucb1: P. Auer, N. Cesa-Bianchi, P. Fischer, 2002: mean + c sqrt(2 ln t / m) after t pulls, m of them of this arm, with
  the imagined pulls counted in the mean and in m; the published c is 1;
- thompson: W. R. Thompson, 1933: the highest of one sample an arm;
- optimistic thompson: B. C. May, N. Korda, A. Lee, D. S. Leslie, 2012: the same, samples raised to the mean at least;
- gittins: the Gittins index for the pulls that are left, ``oracles_gittins.py``.

Letters in shapes: B tasks, k arms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scripts.experiments.oracles import FloatArray, IntArray
from scripts.experiments.oracles_gittins import gittins_table


@dataclass
class Counts:
    """What was seen of the arms of all tasks."""

    successes: IntArray  # (B, k)
    pulls: IntArray  # (B, k)
    num_made: int  # Pulls made in each task.
    num_left: int

    @property
    def means(self) -> FloatArray:
        """Return the means of the posterior, (B, k)."""
        return (self.successes + 1.0) / (self.pulls + 2.0)


Rule = Callable[[Counts, np.random.Generator], FloatArray]


def choose_randomly(counts: Counts, rng: np.random.Generator) -> FloatArray:
    """Score all arms by chance."""
    return rng.random(counts.pulls.shape)


def greedy(counts: Counts, rng: np.random.Generator) -> FloatArray:
    """Score by what is expected of one pull."""
    return counts.means


def epsilon_greedy(epsilon: float) -> Rule:
    """Return the rule that explores with probability ``epsilon``."""

    def score(counts: Counts, rng: np.random.Generator) -> FloatArray:
        explores = rng.random((len(counts.pulls), 1)) < epsilon
        return np.where(explores, choose_randomly(counts, rng), counts.means)

    return score


def upper_confidence_bound(constant: float) -> Rule:
    """Return the rule that scores by an upper bound that is ``constant`` times as far from the mean as UCB1's."""

    def score(counts: Counts, rng: np.random.Generator) -> FloatArray:
        spread = np.sqrt(2.0 * np.log(max(counts.num_made, 1)) / (counts.pulls + 2.0))
        return counts.means + constant * spread

    return score


def sample(counts: Counts, rng: np.random.Generator) -> FloatArray:
    """Score by what the arm pays in a world drawn from the posterior."""
    return rng.beta(counts.successes + 1.0, counts.pulls - counts.successes + 1.0)


def sample_optimistically(counts: Counts, rng: np.random.Generator) -> FloatArray:
    """Score as ``sample``, but never below the mean."""
    return np.maximum(sample(counts, rng), counts.means)


def gittins(counts: Counts, rng: np.random.Generator) -> FloatArray:
    """Score by the Gittins index."""
    table = gittins_table(counts.num_made + counts.num_left)
    return table.look_up(counts.successes, counts.pulls, counts.num_left)


class BanditOracle:
    """A rule in the middle of a trial.

    Args:
        rule: Scores the arms.
        num_tasks: B.
        num_arms: k.
        num_pulls: Of a trial.
        rng: For the rule.
    """

    def __init__(self, rule: Rule, num_tasks: int, num_arms: int, num_pulls: int, rng: np.random.Generator) -> None:
        self.rule, self.rng = rule, rng
        self.every_task = np.arange(num_tasks)
        nothing = np.zeros((num_tasks, num_arms), dtype=np.int64)
        self.counts = Counts(nothing, nothing.copy(), 0, num_pulls)

    def act(self, states: IntArray, step: int) -> IntArray:
        """Return the arms to pull, (B,)."""
        return self.rule(self.counts, self.rng).argmax(axis=1)

    def learn(self, states: IntArray, actions: IntArray, rewards: FloatArray, next_states: IntArray) -> None:
        """Count what the arms have paid."""
        self.counts.pulls[self.every_task, actions] += 1
        self.counts.successes[self.every_task, actions] += rewards.astype(np.int64)
        self.counts.num_made += 1
        self.counts.num_left -= 1
