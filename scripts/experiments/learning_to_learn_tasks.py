"""List the tasks on which learning to learn is measured: oracles with tuned constants, and the published numbers.

Constants were tuned by ``python -m scripts.experiments.learning_to_learn --tune``, on tasks of their own.

Published: Y. Duan et al., "RL²", 2016, and N. Mishra et al., "A Simple Neural Attentive Meta-Learner", 2017, as quoted
by the README of lucaslingle/pytorch_rl2. Strategies of the same name need not be the same in every detail: ours know
the prior that tasks are drawn from, and which prior, bonus or index the published ones had is not said there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

import scripts.experiments.oracles_bandits as bandits
import scripts.experiments.oracles_mdps as mdps
from rlstm.vector.config import EnvConfig
from scripts.experiments.oracles import Oracle

MakeOracle = Callable[[int, np.random.Generator], Oracle]
"""Makes an oracle of a number of tasks and a random generator."""

BANDIT, MDP = "rlstm/BernoulliBandit-v0", "rlstm/TabularMDP-v0"
MDP_SIZES = (10, 5, 10)  # States, actions, horizon.

BANDIT_REFERENCES = ("ucb1", "thompson")  # An agent is compared with the better one.
MDP_REFERENCES = ("beb", "psrl")

UCB1_CONSTANT = 0.2
GRIDS: dict[str, tuple[float, ...]] = {
    "ucb1": (0.1, 0.15, 0.2, 0.25, 0.3),
    "epsilon-greedy": (0.01, 0.02, 0.05, 0.1),
    "beb": (0.25, 0.5, 0.75, 1.0, 1.5),
}
"""Constants among which each strategy's was chosen."""

_BANDIT_COLUMNS = ("random", "gittins", "thompson", "optimistic thompson", "ucb1", "epsilon-greedy", "greedy")
_MDP_COLUMNS = ("random", "psrl", "beb", "epsilon-greedy", "greedy")
_PUBLISHED_BANDITS = {
    (10, 5): (5.0, 6.6, 5.7, 6.5, 6.7, 6.6, 6.6, 6.7, 6.6),
    (10, 10): (5.0, 6.6, 5.5, 6.2, 6.7, 6.6, 6.6, 6.7, 6.7),
    (10, 50): (5.1, 6.5, 5.2, 5.5, 6.6, 6.5, 6.5, 6.8, 6.7),
    (100, 5): (49.9, 78.3, 74.7, 77.9, 78.0, 75.4, 74.8, 78.7, 79.1),
    (100, 10): (49.9, 82.8, 76.7, 81.4, 82.4, 77.4, 77.1, 83.5, 83.5),
    (100, 50): (49.8, 85.2, 64.5, 67.7, 84.3, 78.3, 78.0, 84.9, 85.1),
    (500, 5): (249.8, 405.8, 402.0, 406.7, 405.8, 388.2, 380.6, 401.6, 408.1),
    (500, 10): (249.0, 437.8, 429.5, 438.9, 437.1, 408.0, 395.0, 432.5, 432.4),
    (500, 50): (249.6, 463.7, 427.2, 437.6, 457.6, 413.6, 402.8, 438.9, 442.6),
}
_PUBLISHED_MDPS = {
    10: (100.1, 138.1, 150.2, 132.8, 134.8, 156.2, 159.1),
    25: (250.2, 408.8, 427.8, 377.3, 368.8, 445.7, 447.2),
    50: (499.7, 904.4, 917.8, 823.3, 769.3, 936.1, 942.3),
    75: (749.9, 1417.1, 1422.6, 1293.9, 1172.9, 1428.8, 1447.5),
    100: (999.4, 1939.5, 1935.1, 1778.2, 1578.5, 1913.7, 1953.1),
}
LEARNERS = ("RL²", "SNAIL")  # The last two columns of the published numbers.


def bandit_epsilon(num_pulls: int) -> float:
    """Return epsilon for bandits: longer trials repay more exploration."""
    return 0.02 if num_pulls < 250 else 0.05


def beb_bonus(num_episodes: int) -> float:
    """Return BEB's beta: longer trials repay more exploration."""
    return 0.5 if num_episodes < 20 else 0.75 if num_episodes < 40 else 1.0


MDP_EPSILON = 0.01


@dataclass(frozen=True)
class Task:
    """Trials of ``episodes`` episodes of bandits with ``arms`` arms, or of random MDPs."""

    kind: Literal["bandit", "mdp"]
    episodes: int
    arms: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        if (self.kind == "bandit") != (self.arms is not None):
            raise ValueError(
                f"The task is {self.kind} {self.title}: bandits are named by episodes and arms, MDPs by episodes."
            )
        if self.episodes < 1 or (self.arms is not None and self.arms < 2):
            raise ValueError(f"The task is {self.kind} {self.title}: 1 episode a trial and 2 arms are the least.")

    @classmethod
    def of_run(cls, env: EnvConfig, episodes_per_trial: int | None) -> Self:
        """Return the task that an agent was trained on.

        Raises:
            ValueError: If it is none on which oracles are played here.
        """
        allowed: dict[str, dict[str, Any]] = {
            BANDIT: {"probabilities": "uniform", "pulls": 1},
            MDP: dict(zip(("num_states", "num_actions", "horizon"), MDP_SIZES, strict=True)),
        }
        others = {key: value for key, value in env.env_kwargs.items() if key != "num_arms"}
        fits = env.env in allowed and all(allowed[env.env].get(key) == value for key, value in others.items())
        if not fits or env.env_wrappers or episodes_per_trial is None:
            raise ValueError(
                f"The run is of '{env.env}' with {env.env_kwargs}, wrappers {env.env_wrappers} and episodes_per_trial "
                f"{episodes_per_trial}. Give one of {BANDIT} with one pull an episode or of {MDP} with its default "
                "sizes, without wrappers, in trials."
            )
        if env.env == MDP:
            return cls("mdp", episodes_per_trial)
        return cls("bandit", episodes_per_trial, int(env.env_kwargs.get("num_arms") or 5))

    @classmethod
    def of_flags(cls, bandit: str | None, mdp: int | None) -> Self:
        """Return the task named by a flag's value: "n,k" or n.

        Raises:
            ValueError: If these are no numbers, or impossible ones.
        """
        if mdp is not None:
            return cls("mdp", mdp)
        episodes, _, arms = str(bandit).partition(",")
        try:
            return cls("bandit", int(episodes), int(arms) if arms else None)
        except ValueError as error:
            raise ValueError(f"'{bandit}' is no bandit ({error}). Give n,k: n pulls of k arms, as 10,5.") from error

    @property
    def title(self) -> str:
        """Return the numbers that tell the task from others of its kind."""
        return f"{self.episodes}" if self.arms is None else f"{self.episodes}, {self.arms}"

    @property
    def flag(self) -> str:
        """Return the flag that names the task."""
        return f"--mdp {self.episodes}" if self.arms is None else f"--bandit {self.episodes},{self.arms}"

    @property
    def env(self) -> EnvConfig:
        """Return the env, for any number of them."""
        return EnvConfig(env=MDP) if self.arms is None else EnvConfig(env=BANDIT, env_kwargs={"num_arms": self.arms})

    @property
    def references(self) -> tuple[str, str]:
        """Strategies with the better of which an agent is compared: one of optimism and one of posterior sampling."""
        return MDP_REFERENCES if self.arms is None else BANDIT_REFERENCES

    @property
    def published(self) -> dict[str, float]:
        """Return published means by strategy; empty if there are none."""
        if self.arms is None:
            names, numbers = (*_MDP_COLUMNS, *LEARNERS), _PUBLISHED_MDPS.get(self.episodes, ())
        else:
            names, numbers = (*_BANDIT_COLUMNS, *LEARNERS), _PUBLISHED_BANDITS.get((self.episodes, self.arms), ())
        return dict(zip(names, numbers, strict=False))

    def oracles(self) -> dict[str, MakeOracle]:
        """Return what makes the oracles, by name."""
        tuned: dict[str, float]
        if self.arms is None:
            tuned = {"epsilon-greedy": MDP_EPSILON, "beb": beb_bonus(self.episodes)}
            names = ("random", "greedy", "epsilon-greedy", "psrl", "beb")
        else:
            tuned = {"epsilon-greedy": bandit_epsilon(self.episodes), "ucb1": UCB1_CONSTANT}
            names = ("random", "greedy", "epsilon-greedy", "thompson", "optimistic thompson", "ucb1", "gittins")
        return {name: self.oracle(name, tuned.get(name, 0.0)) for name in names}

    def oracle(self, name: str, constant: float) -> MakeOracle:
        """Return what makes one oracle with a constant, if it has one."""
        if self.arms is None:
            models: dict[str, mdps.Model | None] = {
                "random": None,
                "greedy": mdps.expect,
                "epsilon-greedy": mdps.expect,
                "psrl": mdps.sample,
                "beb": mdps.expect_with_bonus(constant),
            }
            epsilon = constant if name == "epsilon-greedy" else 0.0
            return lambda num_tasks, rng: mdps.MDPOracle(models[name], epsilon, num_tasks, MDP_SIZES, rng)
        rules: dict[str, bandits.Rule] = {
            "random": bandits.choose_randomly,
            "greedy": bandits.greedy,
            "epsilon-greedy": bandits.epsilon_greedy(constant),
            "thompson": bandits.sample,
            "optimistic thompson": bandits.sample_optimistically,
            "ucb1": bandits.upper_confidence_bound(constant),
            "gittins": bandits.gittins,
        }
        num_arms = self.arms
        return lambda num_tasks, rng: bandits.BanditOracle(rules[name], num_tasks, num_arms, self.episodes, rng)
