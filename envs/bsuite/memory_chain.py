"""The memory chain of bsuite: bits are shown at the start, and at the end one of them is asked.

Source: I. Osband et al., "Behaviour Suite for Reinforcement Learning", ICLR 2020. Rules, rewards and lengths are those
of google-deepmind/bsuite, bsuite/environments/memory_chain.py, whose experiments memory_len and memory_size are
rlstm/MemoryLength-v0 and rlstm/MemorySize-v0.
"""

import numpy as np
from gymnasium.spaces import Box, Discrete

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, exact
from rlstm.envs.base.checks import check_integer


class MemoryChain(BatchedTask):
    """Some bits are seen; much later one of them is asked.

    With L = `memory_length`, an episode has L + 1 steps. The observation after step k is that of the time
    t = max(k - 1, 0), so the one at the reset is shown once more after the first step: in both the bits are seen, and
    in the last one before the end it is said which bit is asked. Nothing in between tells the bits, so they must be
    remembered for L - 1 steps; with L = 1 the bits are still in view when one is asked.

        steps taken       0         1         2    ...    L          L + 1
        time t            0         0         1    ...    L - 1      L
        seen              bits      bits                  query      (the episode is over)
        the action is     ignored   ignored   ignored     paid

    ## Action Space
    Discrete(2): the answer, 1 for a bit that was shown as 1 and 0 for one that was shown as -1.

    ## Observation Space
    Box of shape (2 + `num_bits`,), float32.

    | index | meaning | range |
    |---|---|---|
    | 0 | the time left, 1 - t / L | 0 to 1 |
    | 1 | the query, that is the number of the bit asked, at t = L - 1; else 0 | 0 to `num_bits` - 1 |
    | 2, ... | the bits, each -1 or 1, at t = 0; else 0 | -1 to 1 |

    The shape is (1, ...) in bsuite; all else is the same.

    ## Rewards
    At the last step 1 for the right answer and -1 for the wrong one; 0 before.

    ## Starting State
    Each bit is 0 or 1 with probability 1/2, and the query is uniform on the bits. The bits are the task:
    `options={"new_task": False}` keeps them; the query is drawn in every episode.

    ## Episode End
    Terminated after L + 1 steps. `is_success` tells whether the answer was right.

    ## Arguments
    - `memory_length`: L >= 1; bsuite's memory_len has 1 to 10, 12, 14, 17, 20, 25, and 30 to 100 in tens, its
      memory_size always 2.
    - `num_bits`: 1 or more; bsuite's memory_len has 1, its memory_size 1 to 10, 12, 14, 17, 20, 25, 30, and 40.
    """

    memory = "the bits shown at the start"
    source = "Osband et al., Behaviour Suite for Reinforcement Learning, ICLR 2020"
    supports_new_task = True
    state_arrays = ("bits", "queries")
    optimal_return = exact(1.0, "the bits were shown, so the answer can be right")

    def __init__(self, num_envs: int, memory_length: int = 20, num_bits: int = 1) -> None:
        check_integer("memory_length", memory_length, 1)
        check_integer("num_bits", num_bits, 1)
        low, high = np.full((2, 2 + num_bits), [[-1.0], [1.0]], dtype=np.float32)
        low[:2] = 0.0
        high[1] = max(num_bits - 1, 1)  # Not 0 with one bit, as Gymnasium warns of a Box without width.
        super().__init__(num_envs, Box(low, high), Discrete(2))
        self.chain_length, self.num_bits = memory_length, num_bits
        self.bits: IntArray = np.zeros((num_envs, num_bits), dtype=np.int64)
        self.queries: IntArray = np.zeros(num_envs, dtype=np.int64)
        # By the steps taken: what is seen of the time, and the factors of what is seen of the query and the bits.
        times = np.maximum(np.arange(memory_length + 2) - 1, 0)
        self.time_left = 1.0 - times / memory_length
        self.shows_query = times == memory_length - 1
        self.shows_bits = times == 0
        self.memory_length = self.chain_length - 1  # From the second and last look at the bits to the query.
        # As many right as wrong answers, if the bits are out of sight when one is asked.
        self.memoryless_return = exact(0.0, "only the last action counts, and nothing in view then tells the bits")
        if self.memory_length == 0:
            self.memoryless_return = exact(1.0, "with memory_length 1 the bits are in view when one is asked")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Draw the query; a new task is new bits."""
        self.queries[rows] = self.random.integers(rows, self.num_bits)
        drawn = rows[new_task]
        self.bits[drawn] = self.random.integers(drawn, 2, (self.num_bits,))

    def advance(self, actions: Array) -> Transition:
        """Let time pass and check the last action."""
        over = self.elapsed_steps == self.chain_length + 1
        right = self.bits[self.every_lane, self.queries] == actions
        rewards = np.where(over, np.where(right, 1.0, -1.0), 0.0)
        return Transition(rewards, over, {"is_success": right & over})

    def observe(self) -> Array:
        """Return the time left, the query and the bits, (B, 2 + num_bits)."""
        steps = self.elapsed_steps
        observations = np.empty((self.num_envs, 2 + self.num_bits), dtype=np.float32)
        observations[:, 0] = self.time_left.take(steps)
        observations[:, 1] = self.queries * self.shows_query.take(steps)
        observations[:, 2:] = (2 * self.bits - 1) * self.shows_bits.take(steps)[:, None]
        return observations

    def render_text(self, lane: int) -> str:
        """Show the time, the bits (in parentheses while out of sight), and the query once it is put."""
        steps = int(self.elapsed_steps[lane])
        bits = "".join("-+"[bit] for bit in self.bits[lane])
        bits = bits if self.shows_bits[steps] else f"({bits})"
        query = f"bit {self.queries[lane]} is asked" if self.shows_query[steps] else "nothing is asked"
        return f"step {steps} of {self.chain_length + 1}: bits {bits}, {query}"
