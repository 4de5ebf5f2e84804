"""Strategies for random tabular MDPs that know how these are drawn, and plan.

The prior is the one that worlds are drawn from: next states Dirichlet(1, ..., 1), mean rewards N(1, 1), and rewards
with noise N(0, 1) around them. At the start of each episode a model of the world is made from what was seen in the
trial, and the policy that is optimal in it for the episode's horizon is followed to the episode's end. Models:

- greedy: the means of the posterior;
- epsilon-greedy: the same, but any action with probability epsilon;
- beb: J. Z. Kolter, A. Y. Ng, "Near-Bayesian Exploration in Polynomial Time", 2009: the means, with a bonus of
  beta / (1 + visits) on the reward of each state and action;
- psrl: I. Osband, D. Russo, B. Van Roy, "(More) Efficient Reinforcement Learning via Posterior Sampling", 2013: one
  sample of the posterior.

Letters in shapes: B tasks, S states, A actions, H the horizon.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scripts.experiments.oracles import FloatArray, IntArray


class Beliefs:
    """The posterior of all tasks.

    Args:
        num_tasks: B.
        num_states: S.
        num_actions: A.
    """

    def __init__(self, num_tasks: int, num_states: int, num_actions: int) -> None:
        self.every_task = np.arange(num_tasks)
        self.next_counts = np.zeros((num_tasks, num_states, num_actions, num_states))  # (B, S, A, S)
        self.visits = np.zeros((num_tasks, num_states, num_actions))  # (B, S, A)
        self.reward_sums = np.zeros_like(self.visits)

    def learn(self, states: IntArray, actions: IntArray, rewards: FloatArray, next_states: IntArray) -> None:
        """Take in one step of each task, (B,) each."""
        self.next_counts[self.every_task, states, actions, next_states] += 1.0
        self.visits[self.every_task, states, actions] += 1.0
        self.reward_sums[self.every_task, states, actions] += rewards

    def mean_transitions(self) -> FloatArray:
        """Return the means of the probabilities of next states, (B, S, A, S)."""
        return (self.next_counts + 1.0) / (self.visits + self.next_counts.shape[-1])[..., None]

    def mean_rewards(self) -> FloatArray:
        """Return the means of the mean rewards, (B, S, A): the prior counts as one reward of 1."""
        return (1.0 + self.reward_sums) / (1.0 + self.visits)

    def sample_transitions(self, rng: np.random.Generator) -> FloatArray:
        """Draw probabilities of next states, (B, S, A, S): Dirichlet, as gamma variables divided by their sum."""
        draws = rng.standard_gamma(self.next_counts + 1.0)
        return draws / draws.sum(axis=-1, keepdims=True)

    def sample_rewards(self, rng: np.random.Generator) -> FloatArray:
        """Draw mean rewards, (B, S, A): their variance is 1 / (1 + visits)."""
        return rng.normal(self.mean_rewards(), 1.0 / np.sqrt(1.0 + self.visits))


def plan(transitions: FloatArray, rewards: FloatArray, horizon: int) -> IntArray:
    """Find the optimal policies of known worlds by backward induction.

    Args:
        transitions: (B, S, A, S).
        rewards: (B, S, A).
        horizon: H.

    Returns:
        The action for each step of an episode and state, (H, B, S).
    """
    num_tasks, num_states, num_actions = rewards.shape
    matrices = transitions.reshape(num_tasks, num_states * num_actions, num_states)
    values = np.zeros((num_tasks, num_states, 1))
    policies = np.zeros((horizon, num_tasks, num_states), dtype=np.int64)
    for step in range(horizon - 1, -1, -1):
        action_values = rewards + (matrices @ values).reshape(rewards.shape)
        policies[step] = action_values.argmax(axis=2)
        values = action_values.max(axis=2, keepdims=True)
    return policies


Model = Callable[[Beliefs, np.random.Generator], tuple[FloatArray, FloatArray]]
"""Makes transitions (B, S, A, S) and rewards (B, S, A) of what is believed."""


def expect(beliefs: Beliefs, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Take the means."""
    return beliefs.mean_transitions(), beliefs.mean_rewards()


def expect_with_bonus(bonus: float) -> Model:
    """Return the model of BEB; ``bonus`` is its beta."""

    def model(beliefs: Beliefs, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        return beliefs.mean_transitions(), beliefs.mean_rewards() + bonus / (1.0 + beliefs.visits)

    return model


def sample(beliefs: Beliefs, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw a world: PSRL."""
    return beliefs.sample_transitions(rng), beliefs.sample_rewards(rng)


class MDPOracle:
    """A model in the middle of a trial.

    Args:
        model: What is planned with; None acts randomly.
        epsilon: Probability of any action instead of the planned one.
        num_tasks: B.
        sizes: S, A and H.
        rng: For the model and for actions.
    """

    def __init__(
        self,
        model: Model | None,
        epsilon: float,
        num_tasks: int,
        sizes: tuple[int, int, int],
        rng: np.random.Generator,
    ) -> None:
        self.model, self.epsilon, self.rng = model, epsilon, rng
        num_states, self.num_actions, self.horizon = sizes
        self.beliefs = Beliefs(num_tasks, num_states, self.num_actions)
        self.policies = np.zeros((self.horizon, num_tasks, num_states), dtype=np.int64)

    def act(self, states: IntArray, step: int) -> IntArray:
        """Return actions, (B,); at the first step of an episode there is a new plan."""
        anything = self.rng.integers(self.num_actions, size=len(states))
        if self.model is None:
            return anything
        if step == 0:
            self.policies = plan(*self.model(self.beliefs, self.rng), self.horizon)
        planned = self.policies[step, self.beliefs.every_task, states]
        return np.where(self.rng.random(len(states)) < self.epsilon, anything, planned)

    def learn(self, states: IntArray, actions: IntArray, rewards: FloatArray, next_states: IntArray) -> None:
        """Update the posterior."""
        self.beliefs.learn(states, actions, rewards, next_states)
