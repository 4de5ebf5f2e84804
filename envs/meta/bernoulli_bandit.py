"""Bernoulli bandits: which arm pays best has to be found out while earning.

Sources: Y. Duan, J. Schulman, X. Chen, P. L. Bartlett, I. Sutskever, P. Abbeel, "RL²: Fast Reinforcement Learning via
Slow Reinforcement Learning", 2016 (the default: independent arms, one pull an episode); J. X. Wang et al., "Learning to
reinforcement learn", 2016 (two dependent arms, with the probabilities of the replication awjuliani/Meta-RL).
"""

import numpy as np
from gymnasium.spaces import Box, Discrete

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, bound, exact
from rlstm.envs.base.checks import check_choice, check_integer

DEFAULT_NUM_ARMS = 5
BETTER_ARM_PAYS = {"easy": 0.9, "medium": 0.75, "hard": 0.6}
FAMILIES = ("uniform", "correlated", *BETTER_ARM_PAYS)


class BernoulliBandit(BatchedTask):
    """Pull one of the arms; arm i pays 1 with probability p_i, which is hidden.

    The probabilities are the task, so learning which arm is good makes sense where a bandit is kept for many pulls:

    - as in RL², an episode is one pull and a trial of K episodes is K pulls of one bandit: `memory.lifetime` `trial`
      and `memory.episodes_per_trial` K, here `episodes_per_trial=K`;
    - as in Wang et al., an episode is `pulls` pulls of one bandit, so that memory within the episode suffices.

    To a learner both are the same if it sees its previous action and reward, which `inputs.*` gives it: by default in
    the first form, where memory outlives the episode, and when asked for in the second.

    ## Action Space
    Discrete(k): which arm to pull.

    ## Observation Space
    Box(0, 1, (1,), float32), always 1: there is nothing to be seen.

    ## Rewards
    1 if the arm pays, else 0.

    ## Starting State
    Probabilities are drawn. They are the task: `options={"new_task": False}` keeps them.

    | `probabilities` | arms | p |
    |---|---|---|
    | uniform | any number | each uniform on [0, 1) |
    | correlated | 2 | p_0 uniform on [0, 1), p_1 = 1 - p_0 |
    | easy | 2 | .9 and .1, in either order with probability 1/2 |
    | medium | 2 | .75 and .25, likewise |
    | hard | 2 | .6 and .4, likewise |

    ## Episode End
    Terminated after `pulls` pulls. `is_success` tells whether the last pull was of the best arm. At every step
    `info["regret"]` is by how much the pulled arm's probability falls short of the best arm's.

    ## Arguments
    - `num_arms`: k >= 2; default 5 for uniform probabilities, otherwise 2 and nothing else.
    - `probabilities`: "uniform", "correlated", "easy", "medium" or "hard".
    - `pulls`: 1 or more.
    """

    memory = "how often each arm was pulled and has paid, over the episodes of a trial"
    source = "Duan et al., RL², 2016; Wang et al., Learning to reinforcement learn, 2016"
    supports_new_task = True
    state_arrays = ("probabilities",)
    step_info = ("regret",)
    memory_length = None  # From the first pull on, for as long as the bandit is kept.

    def __init__(
        self, num_envs: int, num_arms: int | None = None, probabilities: str = "uniform", pulls: int = 1
    ) -> None:
        check_choice("probabilities", probabilities, FAMILIES)
        if num_arms is None:
            num_arms = DEFAULT_NUM_ARMS if probabilities == "uniform" else 2
        check_integer("num_arms", num_arms, 2)
        if probabilities != "uniform" and num_arms != 2:
            raise ValueError(f"num_arms must be 2 with probabilities {probabilities!r}, but got {num_arms!r}.")
        check_integer("pulls", pulls, 1)
        super().__init__(num_envs, Box(0.0, 1.0, (1,), np.float32), Discrete(num_arms))
        self.num_arms, self.family, self.pulls = num_arms, probabilities, pulls
        self.first_arms = self.every_lane * num_arms  # Where a lane's row of probabilities begins.
        self.probabilities: FloatArray = np.zeros((num_envs, num_arms))
        # All pulls of the best arm, which a learner can't know at first: E[max p] a pull. Of k uniform numbers the
        # largest has the mean k / (k + 1), and max(p, 1 - p) has the mean 3/4.
        means = {"uniform": self.num_arms / (self.num_arms + 1), "correlated": 0.75, **BETTER_ARM_PAYS}
        self.optimal_return = bound(
            self.pulls * means[self.family],
            "E[max p] a pull: pulling the best arm from the start; a learner comes near only late in a long trial",
        )
        self.memoryless_return = exact(0.5 * self.pulls, "every arm pays with probability 1/2 if nothing is known")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw probabilities for a new task."""
        drawn = rows[new_task]
        if not drawn.size:
            return
        if self.family == "uniform":
            self.probabilities[drawn] = self.random.uniform(drawn, (self.num_arms,))
            return
        first = self.random.uniform(drawn)
        if self.family != "correlated":
            better = BETTER_ARM_PAYS[self.family]
            first = np.where(first < 0.5, better, 1.0 - better)
        self.probabilities[drawn] = np.stack([first, 1.0 - first], axis=1)

    def advance(self, actions: Array) -> Transition:
        """Pull the arms."""
        chances = self.probabilities.take(self.first_arms + actions)
        rewards = (self.random.uniform(self.every_lane) < chances).astype(np.float64)
        regret = self.probabilities.max(axis=1) - chances
        return Transition(rewards, self.elapsed_steps >= self.pulls, {"is_success": regret == 0.0, "regret": regret})

    def observe(self) -> Array:
        """Return nothing: always 1, (B, 1)."""
        return np.ones((self.num_envs, 1), dtype=np.float32)

    def render_text(self, lane: int) -> str:
        """Show how many pulls were made, and the arms' hidden probabilities."""
        arms = " ".join(f"{chance:.2f}" for chance in self.probabilities[lane])
        return f"pull {int(self.elapsed_steps[lane])} of {self.pulls}: {arms}"
