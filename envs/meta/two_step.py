"""The two-step task: whether a choice was good depends on where it led, and mostly, but not always, it leads there.

Source: J. X. Wang et al., "Prefrontal cortex as a meta-reinforcement learning system", Nature Neuroscience 2018; the
probabilities are those of the replication mtrazzi/two-step-task. The task goes back to N. D. Daw et al., "Model-based
influences on humans' choices and striatal prediction errors", Neuron 2011.
"""

import functools

import numpy as np
from gymnasium.spaces import Discrete

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, exact
from rlstm.envs.base.checks import check_integer, check_number

FIRST_STAGE, LEFT, RIGHT = range(3)
STEPS_PER_TRIAL = 2
NUM_BELIEFS = 2_001  # Of the grid on which the best return is computed.


class TwoStep(BatchedTask):
    """Choose a side; the choice leads mostly to its own second stage, and one of the two second stages pays well.

    An episode is `num_trials` trials of two steps each. (These trials are not the trials of several episodes that
    `episodes_per_trial` makes.)

    1. At the first stage, action 0 leads to the left second stage with probability `common_probability` and else to
       the right one; action 1 the other way round.
    2. At the second stage any action ends the trial. One of the two, the rich one, pays with probability
       `reward_probability`, the other with 1 - `reward_probability`.

    After each trial the rich stage swaps sides with probability `swap_probability`. So a reward after a rare
    transition speaks for the other action: repeating what was rewarded, without regard to where it led, is
    called model-free behaviour, and regarding it model-based. The usual analysis is how often the first action is
    repeated after rewarded and unrewarded trials with common and rare transitions: actions and rewards are in a
    rollout, and `info["is_common"]` tells, at both steps of a trial, whether its transition was the common one.

    The present observation tells nothing of the last trials at the first stage; choices and rewards are seen as
    previous action and previous reward (`inputs.*`).

    ## Action Space
    Discrete(2): 0 left, 1 right; without effect at the second stage.

    ## Observation Space
    Discrete(3): 0 first stage, 1 left second stage, 2 right second stage.

    ## Rewards
    1 or 0 at the second stage, 0 at the first.

    ## Starting State
    First stage; the rich side is left or right with probability 1/2. It is the task: `options={"new_task": False}`
    keeps it as it is after the last episode's swaps.

    ## Episode End
    Terminated after 2 `num_trials` steps. `is_success` tells whether the last choice was of the rich side. The
    replication swaps before each trial; that is the same, as at first both sides are equally likely. It takes one
    decision a trial, for both steps; here each step is one of the environment.

    ## Arguments
    - `num_trials`: 2 or more.
    - `common_probability`, `reward_probability`: in [0.5, 1].
    - `swap_probability`: in [0, 1].
    """

    memory = "the last choices, where they led, and whether they paid"
    source = "Wang et al., Prefrontal cortex as a meta-RL system, 2018"
    supports_new_task = True
    state_arrays = ("places", "rich_places", "is_common", "has_paid")
    step_info = ("is_common",)

    def __init__(
        self,
        num_envs: int,
        num_trials: int = 100,
        common_probability: float = 0.8,
        reward_probability: float = 0.9,
        swap_probability: float = 0.025,
    ) -> None:
        check_integer("num_trials", num_trials, 2)
        check_number("common_probability", common_probability, 0.5, 1.0)
        check_number("reward_probability", reward_probability, 0.5, 1.0)
        check_number("swap_probability", swap_probability, 0.0, 1.0)
        super().__init__(num_envs, Discrete(3), Discrete(2))
        self.num_trials, self.swap_probability = num_trials, swap_probability
        self.common_probability, self.reward_probability = common_probability, reward_probability
        self.places: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.rich_places: IntArray = np.full(num_envs, LEFT)
        self.is_common: BoolArray = np.zeros(num_envs, dtype=np.bool_)  # The last transition.
        self.has_paid: BoolArray = np.zeros(num_envs, dtype=np.bool_)  # The last trial.
        # The probability of a common transition or of a reward by place and rich place, one row after the other.
        chances = np.full((3, 3), 1.0 - reward_probability)
        np.fill_diagonal(chances, reward_probability)
        chances[FIRST_STAGE] = common_probability
        self.chances = chances.ravel()
        is_chance = 0.5 in (self.common_probability, self.reward_probability, self.swap_probability)
        # The last trial counts most, but those before it do too; 0 where nothing can be known anyway.
        self.memory_length = 0 if is_chance else None
        # Always choosing the side that is more probably the rich one. With m the probability of that side, the rich
        # stage is reached with probability c m + (1 - c) (1 - m), where c is `common_probability`, and likewise for the
        # reward. What is learned in a trial is the same whatever is chosen: a reward speaks for the stage where it was
        # given as much as no reward speaks against it. So choosing for the present trial alone is best.
        certainty = mean_certainty(self.reward_probability, self.swap_probability, self.num_trials)
        reaches_rich = _either(self.common_probability, certainty)
        self.optimal_return = exact(
            self.num_trials * _either(self.reward_probability, reaches_rich),
            "the more probable side by Bayes' rule at each trial, the rich side being unknown at first; by computation",
        )
        # Half the trials pay. The first stage looks always the same, so without memory each choice is independent of
        # where the rich side is.
        self.memoryless_return = exact(0.5 * self.num_trials, "the first stage doesn't tell which side is rich")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Go back to the first stage; a new task is a new rich side."""
        self.places[rows] = FIRST_STAGE
        self.is_common[rows] = False
        self.has_paid[rows] = False
        drawn = rows[new_task]
        if drawn.size:
            self.rich_places[drawn] = LEFT + self.random.integers(drawn, 2)

    def advance(self, actions: Array) -> Transition:
        """Go from the first stage to a second one, or from there back, with a reward and perhaps a swap."""
        draws = self.random.uniform(self.every_lane, (2,))
        at_first = self.places == FIRST_STAGE
        happens = draws[:, 0] < self.chances.take(self.places * 3 + self.rich_places)
        self.is_common = np.where(at_first, happens, self.is_common)
        self.has_paid = np.where(at_first, self.has_paid, happens)
        rewards = (happens & ~at_first).astype(np.float64)
        # The choice was of the rich side if a common transition led there, or a rare one to the other side.
        chose_rich = ~at_first & ((self.places == self.rich_places) == self.is_common)
        # Left if action 0 had its common transition or action 1 its rare one.
        self.places = at_first * (RIGHT - (actions != happens))
        swaps = ~at_first & (draws[:, 1] < self.swap_probability)
        self.rich_places = np.where(swaps, LEFT + RIGHT - self.rich_places, self.rich_places)
        terminated = self.elapsed_steps >= STEPS_PER_TRIAL * self.num_trials
        return Transition(rewards, terminated, {"is_success": chose_rich, "is_common": self.is_common.copy()})

    def observe(self) -> Array:
        """Return the stages, (B,)."""
        return self.places.copy()

    def render_text(self, lane: int) -> str:
        """Show the last trial's outcome, and the second stages above the first: @ the agent, $ the rich side."""
        signs = [".", *("$" if place == self.rich_places[lane] else "." for place in (LEFT, RIGHT))]
        signs[int(self.places[lane])] = "@"
        trial = min(int(self.elapsed_steps[lane]) // STEPS_PER_TRIAL + 1, self.num_trials)
        outcome = "paid" if self.has_paid[lane] else "nothing"
        head = f"trial {trial} of {self.num_trials}, last: {outcome}"
        return f"{head}\n{signs[LEFT]} {signs[RIGHT]}\n {signs[FIRST_STAGE]} "


def _either(probability: float, other: float) -> float:
    """Return the probability that two independent events both happen or both don't."""
    return probability * other + (1.0 - probability) * (1.0 - other)


@functools.cache
def mean_certainty(reward_probability: float, swap_probability: float, num_trials: int) -> float:
    """Return the mean over trials of E[max(b, 1 - b)], with b the probability that left is rich, given all seen.

    With q = `reward_probability` and s = `swap_probability`, b starts at 1/2. A trial speaks for the left, that is it
    pays on the left or fails on the right, with probability q b + (1 - q) (1 - b), and then b becomes
    q b / (q b + (1 - q) (1 - b)), otherwise (1 - q) b / ((1 - q) b + q (1 - b)); after that b becomes
    (1 - s) b + s (1 - b). The distribution of b is followed on a grid.
    """
    beliefs = np.linspace(0.0, 1.0, NUM_BELIEFS)
    moves = []  # For each outcome of a trial its probability, the grid point below the new belief, and the share above.
    for pays in (reward_probability, 1.0 - reward_probability):
        chances = pays * beliefs + (1.0 - pays) * (1.0 - beliefs)
        updated = np.divide(pays * beliefs, chances, out=np.zeros(NUM_BELIEFS), where=chances > 0.0)
        updated = (1.0 - swap_probability) * updated + swap_probability * (1.0 - updated)
        below = np.minimum((updated * (NUM_BELIEFS - 1)).astype(np.int64), NUM_BELIEFS - 2)
        moves.append((chances, below, updated * (NUM_BELIEFS - 1) - below))
    distribution = np.zeros(NUM_BELIEFS)
    distribution[NUM_BELIEFS // 2] = 1.0
    certainty = 0.0
    for _ in range(num_trials):
        certainty += float(distribution @ np.maximum(beliefs, 1.0 - beliefs))
        after = np.zeros(NUM_BELIEFS)
        for chances, below, share in moves:
            mass = distribution * chances
            after += np.bincount(below, mass * (1.0 - share), NUM_BELIEFS)
            after += np.bincount(below + 1, mass * share, NUM_BELIEFS)
        distribution = after
    return certainty / num_trials
