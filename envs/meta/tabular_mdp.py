"""Random tabular MDPs: rewards and transitions of a small world have to be found out while earning in it.

Source: Y. Duan, J. Schulman, X. Chen, P. L. Bartlett, I. Sutskever, P. Abbeel, "RL²: Fast Reinforcement Learning via
Slow Reinforcement Learning", 2016; distributions as in the replication lucaslingle/pytorch_rl2.
"""

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, exact, unknown
from rlstm.envs.base.checks import check_integer

MEAN_REWARD = 1.0  # The mean of the mean rewards.

SingleArray = npt.NDArray[np.float32]
SHIFT_9, HALF, UNIT_OF_23_BITS = np.uint32(9), np.float32(0.5), np.float32(2.0**-23)


class TabularMDP(BatchedTask):
    """Walk through a small random world in which neither rewards nor transitions are known.

    For every state s and action a there is a mean reward, drawn from a normal distribution with mean 1 and variance 1,
    and a distribution of the next state, drawn uniformly from all distributions (Dirichlet(1, ..., 1)). An episode
    starts in state 0 and has `horizon` steps. A trial of K episodes (`episodes_per_trial=K`) is spent in one world, so
    what was found out in the first episodes is worth something in the later ones.

    Memory is needed for the rewards and transitions seen so far, over the episodes of a trial: `memory.lifetime`
    `trial`, with the previous action and reward as inputs, which is the default there.

    ## Action Space
    Discrete(num_actions), 2 or more.

    ## Observation Space
    Discrete(num_states), 1 or more: the state.

    ## Rewards
    Normal with the mean reward of (s, a) and variance 1.

    ## Starting State
    State 0. Mean rewards and transitions are the task: `options={"new_task": False}` keeps them.

    ## Episode End
    Terminated after `horizon` steps, 1 or more; the state then reached is seen. `is_success` tells whether the
    episode's return is greater than `horizon`, the mean of acting without knowledge.
    """

    memory = "rewards and transitions seen so far, over the episodes of a trial"
    source = "Duan et al., RL², 2016"
    supports_new_task = True
    state_arrays = ("states", "returns", "mean_rewards", "cumulative_transitions")
    memory_length = None  # From the first step on, for as long as the world is kept.
    # The return of a policy that knows the world, averaged over worlds, has no closed form. With the default arguments
    # it is 21.82 ± 0.02, by dynamic programming in 20,000 worlds.
    optimal_return = unknown("the return with the world known has to be found by dynamic programming in each world")

    def __init__(self, num_envs: int, num_states: int = 10, num_actions: int = 5, horizon: int = 10) -> None:
        check_integer("num_states", num_states, 1)
        check_integer("num_actions", num_actions, 2)
        check_integer("horizon", horizon, 1)
        super().__init__(num_envs, Discrete(num_states), Discrete(num_actions))
        self.num_states, self.num_actions, self.horizon = num_states, num_actions, horizon
        self.first_pairs = self.every_lane * (num_states * num_actions)  # Where a lane's pairs (s, a) begin.
        self.states: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.returns: FloatArray = np.zeros(num_envs)
        self.mean_rewards: FloatArray = np.zeros((num_envs, num_states, num_actions))
        # The probability that the next state is at most s' after action a in state s, (B, s', s, a): with the next
        # state in front it is quickly cumulated.
        shape = (num_envs, num_states, num_states, num_actions)
        self.cumulative_transitions: SingleArray = np.zeros(shape, dtype=np.float32)
        # 1 a step. Without memory an action depends on the state alone, and which states are visited depends on the
        # transitions alone. Mean rewards are drawn independently of both, so each reward has the mean 1. (With memory
        # it can be more even in a first episode: a state may come again.)
        self.memoryless_return = exact(self.horizon * MEAN_REWARD, "rewards that are not known have the mean 1")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Go back to state 0; a new task is a new world."""
        self.states[rows] = 0
        self.returns[rows] = 0.0
        drawn = rows[new_task]
        if not drawn.size:
            return
        self.mean_rewards[drawn] = MEAN_REWARD + self.random.normal(drawn, (self.num_states, self.num_actions))
        self.cumulative_transitions[drawn] = self._draw_cumulative_transitions(drawn)

    def _draw_cumulative_transitions(self, rows: IntArray) -> SingleArray:
        """Draw from Dirichlet(1, ..., 1), (R, S, S, A): exponential variables, cumulated and divided by their sum.

        These are the many numbers of a new world, so each word gives two of them, and the logarithms are taken in
        single precision, which is much faster.
        """
        num_words = (self.num_actions + 1) // 2
        words = self.random.words(rows, (self.num_states, self.num_states, num_words))
        # 23 bits and a half: so many are exact in single precision, and neither 0 nor 1 can come out.
        bits = words.view(np.uint32)[..., : self.num_actions] >> SHIFT_9
        cumulative: SingleArray = np.log((bits.astype(np.float32) + HALF) * UNIT_OF_23_BITS)
        for state in range(1, self.num_states):  # Faster than cumsum, whose inner loop would be over the states.
            cumulative[:, state] += cumulative[:, state - 1]
        cumulative /= cumulative[:, -1:].copy()
        return cumulative

    def advance(self, actions: Array) -> Transition:
        """Pay the reward of the present state and move to the next one."""
        pairs = self.first_pairs + self.states * self.num_actions + actions
        rewards = self.mean_rewards.take(pairs) + self.random.normal(self.every_lane)
        self.returns += rewards
        cumulative = self.cumulative_transitions[self.every_lane, :, self.states, actions]
        draws = self.random.uniform(self.every_lane)
        # The last probability is 1 up to rounding, and left out so that rounding can't lead beyond the last state.
        self.states = (cumulative[:, :-1] <= draws[:, None]).sum(axis=1)
        terminated = self.elapsed_steps >= self.horizon
        return Transition(rewards, terminated, {"is_success": self.returns > self.horizon * MEAN_REWARD})

    def observe(self) -> Array:
        """Return the states, (B,)."""
        return self.states.copy()

    def render_text(self, lane: int) -> str:
        """Show the state, and the hidden mean rewards of its actions."""
        state = int(self.states[lane])
        means = " ".join(f"{mean:.2f}" for mean in self.mean_rewards[lane, state])
        step = f"step {int(self.elapsed_steps[lane])} of {self.horizon}"
        return f"{step}, return {self.returns[lane]:.2f}, state {state}: mean rewards {means}"
