"""How well do classical strategies play the Bernoulli bandits of RL²? The numbers beside which a learner's stand.

    python scripts/bandit_baselines.py --pulls 100 --arms 5

A trial is `--pulls` one-pull episodes with one bandit of `rlstm/BernoulliBandit-v0`; printed is the mean total reward
of a trial, its standard error over `--trials` bandits, and the published mean where there is one.

Published: Duan et al., "RL²", 2016, as quoted by the README of lucaslingle/pytorch_rl2; a mean over 1,000 bandits has a
standard error of about .5 at 100 pulls of 5 arms. The published means fit Thompson sampling as it is usually written,
with Beta(1, 1) priors and one sample an arm. "UCB1" fits with the constant .2 and with one imagined success and failure
an arm; with the textbook's constant 1 it earns about 66 there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import numpy.typing as npt

import rlstm.envs  # noqa: F401 - registers the environments.

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Successes and failures of all arms (B, k) each, one of both imagined in advance; pulls made; random numbers.
Strategy = Callable[[FloatArray, FloatArray, int, np.random.Generator], IntArray]

UCB1_CONSTANT = 0.2

# (pulls, arms): random, Thompson sampling, UCB1.
PUBLISHED = {
    (10, 5): (5.0, 5.7, 6.7),
    (10, 10): (5.0, 5.5, 6.7),
    (10, 50): (5.1, 5.2, 6.6),
    (100, 5): (49.9, 74.7, 78.0),
    (100, 10): (49.9, 76.7, 82.4),
    (100, 50): (49.8, 64.5, 84.3),
    (500, 5): (249.8, 402.0, 405.8),
    (500, 10): (249.0, 429.5, 437.1),
    (500, 50): (249.6, 427.2, 457.6),
}


def choose_randomly(successes: FloatArray, failures: FloatArray, pulls: int, rng: np.random.Generator) -> IntArray:
    """Return any arm."""
    return rng.integers(successes.shape[1], size=successes.shape[0])


def sample_as_thompson(successes: FloatArray, failures: FloatArray, pulls: int, rng: np.random.Generator) -> IntArray:
    """Return the best arm of a world drawn from what is believed: Thompson sampling with Beta(1, 1) priors."""
    return rng.beta(successes, failures).argmax(axis=1)


def bound_from_above(successes: FloatArray, failures: FloatArray, pulls: int, rng: np.random.Generator) -> IntArray:
    """Return the arm with the highest upper confidence bound: mean + c sqrt(2 ln t / n), c = `UCB1_CONSTANT`."""
    trials = successes + failures
    return (successes / trials + UCB1_CONSTANT * np.sqrt(2.0 * np.log(max(pulls, 1)) / trials)).argmax(axis=1)


STRATEGIES: dict[str, Strategy] = {
    "random": choose_randomly,
    "thompson": sample_as_thompson,
    "ucb1": bound_from_above,
}


def play(strategy: Strategy, num_trials: int, num_pulls: int, num_arms: int, seed: int) -> FloatArray:
    """Return the total reward of each of `num_trials` trials of `num_pulls` pulls, (num_trials,)."""
    envs = gym.make_vec(
        "rlstm/BernoulliBandit-v0",
        num_envs=num_trials,
        vectorization_mode="vector_entry_point",
        num_arms=num_arms,
        episodes_per_trial=num_pulls,
    )
    envs.reset(seed=seed)
    rng = np.random.default_rng(seed)
    every_lane = np.arange(num_trials)
    successes, failures = np.ones((num_trials, num_arms)), np.ones((num_trials, num_arms))
    totals = np.zeros(num_trials)
    for pulls in range(num_pulls):
        arms = strategy(successes, failures, pulls, rng)
        _, rewards, _, _, _ = envs.step(arms)
        totals += rewards
        successes[every_lane, arms] += rewards
        failures[every_lane, arms] += 1.0 - rewards
    return totals


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pulls", type=int, default=100, help="pulls a trial")
    parser.add_argument("--arms", type=int, default=5, help="arms of a bandit")
    parser.add_argument("--trials", type=int, default=10_000, help="bandits to average over")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    published = PUBLISHED.get((arguments.pulls, arguments.arms), (None,) * len(STRATEGIES))
    for (name, strategy), number in zip(STRATEGIES.items(), published, strict=True):
        totals = play(strategy, arguments.trials, arguments.pulls, arguments.arms, arguments.seed)
        error = totals.std() / np.sqrt(totals.size)
        beside = "" if number is None else f"   published {number}"
        print(f"{name:10}{totals.mean():8.2f} ± {error:.2f}{beside}")


if __name__ == "__main__":
    main()
