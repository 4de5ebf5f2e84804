"""The 89-state maze: find the goal with noisy steps and noisy feelers, from an unknown start.

Source: pybrain/pybrain, maze89state.py and polarmaze.py in pybrain/rl/environments/mazes, after M. L. Littman, A. R.
Cassandra, L. P. Kaelbling, "Learning policies for partially observable environments: Scaling up", ICML 1995. Map,
rules, rewards and probabilities are PyBrain's.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, bound, unknown
from rlstm.envs.base.checks import check_integer, check_number

STAY, FORWARD, TURN_AROUND, TURN_RIGHT, TURN_LEFT = range(5)
NUM_ACTIONS, NUM_HEADINGS, NUM_FEELERS = 5, 4, 4

MAP = ("#########", "##     ##", "#  # #  #", "## # # ##", "#  # # G#", "##     ##", "#########")
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # Rows and columns on the map, by heading: north, east, south, west.
CELLS = tuple((row, column) for row in range(len(MAP)) for column in range(len(MAP[0])) if MAP[row][column] != "#")
GOAL = next(index for index, (row, column) in enumerate(CELLS) if MAP[row][column] == "G")

ARROWS = "^>v<"
COLOUR_WALL, COLOUR_FLOOR, COLOUR_GOAL, COLOUR_AGENT = (40, 40, 40), (225, 225, 225), (60, 170, 80), (200, 60, 50)
COLOUR_NOSE = (60, 20, 20)
PIXELS_PER_CELL = 24


def _tables() -> tuple[IntArray, IntArray]:
    """Return the next states by action and state, (5, S), and the walls around each as bits, (S,).

    State 4 c + h is cell c with heading h, for all cells, so S = 92 although the goal's four are one. Bit i of the
    walls is feeler i.
    """
    num_states = len(CELLS) * NUM_HEADINGS
    next_states = np.zeros((NUM_ACTIONS, num_states), dtype=np.int64)
    walls = np.zeros(num_states, dtype=np.int64)
    for cell, (row, column) in enumerate(CELLS):
        ahead = [(row + down, column + right) for down, right in MOVES]
        for heading in range(NUM_HEADINGS):
            state = cell * NUM_HEADINGS + heading
            front = CELLS.index(ahead[heading]) if ahead[heading] in CELLS else cell
            next_states[:, state] = cell * NUM_HEADINGS + (heading + np.array([0, 0, 2, 1, 3])) % NUM_HEADINGS
            next_states[FORWARD, state] = front * NUM_HEADINGS + heading
            feelers = [ahead[(heading + turn) % NUM_HEADINGS] not in CELLS for turn in range(NUM_FEELERS)]
            walls[state] = sum(is_wall << feeler for feeler, is_wall in enumerate(feelers))
    return next_states, walls


NEXT_STATES, WALLS = _tables()
IS_GOAL = np.arange(WALLS.size) // NUM_HEADINGS == GOAL
START_STATES = np.flatnonzero(~IS_GOAL)
FEELINGS = ((np.arange(2**NUM_FEELERS)[:, None] >> np.arange(NUM_FEELERS)) & 1).astype(np.float32)


@cache
def best_return_if_all_was_seen(max_steps: int, action_noise: float) -> float:
    """Return the probability of reaching the goal in time for the best policy that sees cell, heading and clock.

    V_k(s) = max_a (1 - p) V_{k-1}(next(s, a)) + p mean_b V_{k-1}(next(s, b)),    V_k(goal) = 1,    V_0(s) = 0

    with k = 1, ..., max_steps the steps left and p = `action_noise`; averaged over the starts.
    """
    values = IS_GOAL.astype(np.float64)
    for _ in range(max_steps):
        after = values[NEXT_STATES]
        before = (1.0 - action_noise) * after.max(axis=0) + action_noise * after.mean(axis=0)
        before[IS_GOAL] = 1.0
        if np.array_equal(before, values):  # More steps change nothing.
            break
        values = before
    return float(values[START_STATES].mean())


class Maze89(BatchedTask):
    """Find the goal, feeling only the walls around, and those not reliably.

    The agent is in one of 23 cells and looks to one of the four sides; with the goal as one state these are 22 * 4 + 1
    = 89 states. It feels whether there are walls in front, to the right, behind and to the left. Many places feel the
    same, and the feelers err, so that only the history, of what was felt and done, tells where the agent is.

        #########
        ##     ##        # wall, G goal
        #  # #  #
        ## # # ##
        #  # # G#
        ##     ##
        #########

    ## Action Space
    Discrete(5): 0 stay, 1 forward (a wall leaves the agent where it is), 2 turn around, 3 turn right, 4 turn left. With
    probability `action_noise` one of the five, drawn uniformly, is done instead. PyBrain calls 3 left and 4 right: on
    the map as it prints it, the one above, 3 is right.

    ## Observation Space
    Box(0, 1, (4,), float32): 1 for a wall and 0 for none, in front, to the right, behind, to the left. Each of the four
    is wrong with probability `feeler_noise`, anew at each step.

    ## Rewards
    1 for reaching the goal, else 0.

    ## Starting State
    Any cell but the goal and any heading, uniformly. Goal and walls are always the same: there is no task to keep for
    trials.

    ## Episode End
    Terminated at the goal. Truncated after `max_steps`. `is_success` tells whether the goal was reached. PyBrain has no
    step limit; 100 is chosen here, as in much longer episodes a good policy without memory mostly arrives, too.

    ## Arguments
    - `max_steps`: 1 or more.
    - `action_noise`, `feeler_noise`: probabilities.
    """

    memory = "what was felt and done, which tells where in the maze this is"
    source = "PyBrain's 89-state maze, after Littman et al., ICML 1995"
    state_arrays = ("states", "feelings")
    memory_length = None  # The whole way may matter.
    memoryless_return = unknown("the best stochastic map from feelings to actions is not known")

    def __init__(
        self, num_envs: int, max_steps: int = 100, action_noise: float = 0.1, feeler_noise: float = 0.1
    ) -> None:
        check_integer("max_steps", max_steps, 1)
        check_number("action_noise", action_noise, 0.0, 1.0)
        check_number("feeler_noise", feeler_noise, 0.0, 1.0)
        super().__init__(num_envs, Box(0.0, 1.0, (NUM_FEELERS,), np.float32), Discrete(NUM_ACTIONS), max_steps)
        self.states: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.feelings: IntArray = np.zeros(num_envs, dtype=np.int64)  # As bits, errors included.
        # A uniform number below edge i, and not below those before it, means outcome i: the random action i, and past
        # the last edge the chosen one; or the set i of wrong feelers, as bits.
        self.action_edges: FloatArray = action_noise * np.arange(1, NUM_ACTIONS + 1) / NUM_ACTIONS
        num_wrong = FEELINGS.sum(axis=1, dtype=np.float64)
        chances = feeler_noise**num_wrong * (1.0 - feeler_noise) ** (NUM_FEELERS - num_wrong)
        self.feeler_edges: FloatArray = np.cumsum(chances)[:-1]
        self.optimal_return = bound(
            best_return_if_all_was_seen(int(max_steps), float(action_noise)),
            "what the best policy earns that sees cell and heading, by dynamic programming",
        )

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Place the agent anywhere in the maze; `new_task` means nothing here."""
        draws = self.random.uniform(rows, (2,))
        self.states[rows] = START_STATES[(draws[:, 0] * START_STATES.size).astype(np.int64)]
        self.feelings[rows] = WALLS[self.states[rows]] ^ self.feeler_edges.searchsorted(draws[:, 1], side="right")

    def advance(self, actions: Array) -> Transition:
        """Move, by the chosen or a random action, and feel the walls around."""
        draws = self.random.uniform(self.every_lane, (2,))
        outcomes = self.action_edges.searchsorted(draws[:, 0], side="right")
        done = np.where(outcomes == NUM_ACTIONS, actions, outcomes)
        self.states = NEXT_STATES[done, self.states]
        self.feelings = WALLS[self.states] ^ self.feeler_edges.searchsorted(draws[:, 1], side="right")
        at_goal = IS_GOAL[self.states]
        return Transition(at_goal.astype(np.float64), at_goal, {"is_success": at_goal.copy()})

    def observe(self) -> Array:
        """Return what the feelers tell, (B, 4)."""
        return FEELINGS.take(self.feelings, axis=0)

    def render_text(self, lane: int) -> str:
        """Show the map with the agent as an arrow, and what it feels: # a wall, . none."""
        cell, heading = divmod(int(self.states[lane]), NUM_HEADINGS)
        rows = [list(row) for row in MAP]
        rows[CELLS[cell][0]][CELLS[cell][1]] = ARROWS[heading]
        felt = "".join(".#"[int(is_wall)] for is_wall in FEELINGS[self.feelings[lane]])
        return "\n".join("".join(row) for row in rows) + f"\nfeels {felt}"

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """Draw the map, one square per cell; the agent's dark edge is its front."""
        cells = np.full((len(MAP), len(MAP[0]), 3), COLOUR_WALL, dtype=np.uint8)
        cells[tuple(np.transpose(CELLS))] = COLOUR_FLOOR
        cells[CELLS[GOAL]] = COLOUR_GOAL
        pixels = cells.repeat(PIXELS_PER_CELL, axis=0).repeat(PIXELS_PER_CELL, axis=1)
        cell, heading = divmod(int(self.states[lane]), NUM_HEADINGS)
        agent = np.full((PIXELS_PER_CELL, PIXELS_PER_CELL, 3), COLOUR_AGENT, dtype=np.uint8)
        agent[: PIXELS_PER_CELL // 4] = COLOUR_NOSE
        top, left = (place * PIXELS_PER_CELL for place in CELLS[cell])
        # rot90 turns to the left, headings count to the right.
        pixels[top : top + PIXELS_PER_CELL, left : left + PIXELS_PER_CELL] = np.rot90(agent, -heading)
        return pixels
