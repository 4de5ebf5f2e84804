"""MultiarmedBandit: find the arm that pays best by pulling, seeing only whether the last pull has paid."""

import math

import numpy as np
from gymnasium.spaces import Discrete

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, bound
from rlstm.envs.base.checks import check_integer


class MultiarmedBandit(BatchedTask):
    """Pull the arms of a bandit, learn which one pays best, and stay with it.

    Each of k = `num_arms` >= 2 arms pays with a probability of its own. The observation doesn't tell which arm was
    pulled. So a policy must remember its own last action, to know what a payout speaks for, and what every arm has paid
    so far. popgym's Easy, Medium and Hard are (num_arms, max_steps) = (10, 200), (20, 400), (30, 600).

    ## Action Space
    Discrete(k): the arm to pull.

    ## Observation Space
    Discrete(2): 1 if the last pull has paid, 0 if not and at the start.

    ## Rewards
    1 / T for a pull that pays, -1 / T for one that doesn't, with T = `max_steps` >= 1.

    ## Starting State
    The probabilities of the arms are uniform on [0, 1]. They are the task: `options={"new_task": False}` keeps them.

    ## Episode End
    Truncated after T pulls. `is_success` tells whether the last pull was of the best arm.
    """

    memory = "which arms were pulled and what they have paid"
    source = "Morad et al., POPGym, ICLR 2023"
    supports_new_task = True
    state_arrays = ("payout_probabilities", "paid")
    memory_length = None  # All pulls matter, the later ones less and less.

    def __init__(self, num_envs: int, num_arms: int = 10, max_steps: int = 200) -> None:
        check_integer("num_arms", num_arms, 2)
        check_integer("max_steps", max_steps, 1)
        super().__init__(num_envs, Discrete(2), Discrete(num_arms), max_steps)
        self.num_arms = num_arms
        self.payout_probabilities: FloatArray = np.zeros((num_envs, num_arms))
        self.paid: IntArray = np.zeros(num_envs, dtype=np.int64)  # 0 or 1, of the last pull
        # No policy beats the one that knows the best arm. The largest of k uniform probabilities has the mean
        # k / (k + 1), and a pull that pays with probability p is worth (2 p - 1) / T.
        self.optimal_return = bound(
            2.0 * self.num_arms / (self.num_arms + 1.0) - 1.0,
            "the best arm pulled from the start on, 2 k / (k + 1) - 1; finding it costs pulls",
        )
        # A bound, from staying with one arm as long as it pays and trying others when nothing was paid. A policy
        # without memory pulls with one distribution over arms after a payout and with another one otherwise. Let u and
        # v be the probabilities that such pulls pay, and d = u - v. Pull t = 1, 2, ... pays with probability
        # v (1 - d^t) / (1 - d), which sums to at most T v / (1 - d) + 1/2 over T pulls. The mean of v / (1 - u + v)
        # over the arms' probabilities is convex in u, so the best distribution after a payout is a single arm, which
        # pays with some p. It is concave in v, so it is at most what it is with the mean of v given p,
        # c p + (1 - c) / 2, if this arm has the weight c in the other distribution. c = 0 is best, and (1/2) / (3/2 -
        # p) has the mean ln(3) / 2.
        value = math.log(3.0) - 1.0 + 1.0 / self.step_limit
        reason = "without memory no more than ln(3) / 2 of the pulls pay, and at most half a pull more"
        self.memoryless_return = bound(min(value, self.optimal_return.value or value), reason)

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Forget the last payout; a new task is new probabilities."""
        drawn = rows[new_task]
        self.payout_probabilities[drawn] = self.random.uniform(drawn, (self.num_arms,))
        self.paid[rows] = 0

    def advance(self, actions: Array) -> Transition:
        """Pull the arms."""
        probabilities = self.payout_probabilities[self.every_lane, actions]
        pays = self.random.uniform(self.every_lane) < probabilities
        self.paid = pays.astype(np.int64)
        rewards = np.where(pays, 1.0 / self.step_limit, -1.0 / self.step_limit)
        is_best = probabilities == self.payout_probabilities.max(axis=1)
        return Transition(rewards, np.zeros(self.num_envs, dtype=np.bool_), {"is_success": is_best})

    def observe(self) -> Array:
        """Return whether the last pulls have paid, (B,)."""
        return self.paid.copy()

    def render_text(self, lane: int) -> str:
        """Show the pulls so far, the last payout, and what the arms pay."""
        arms = " ".join(f"{probability:.2f}" for probability in self.payout_probabilities[lane])
        return f"pull {self.elapsed_steps[lane]} of {self.step_limit}, last paid {self.paid[lane]}; arms pay {arms}"
