"""The T-maze: a sign at the start tells which way to turn at the end of a long corridor.

Source: B. Bakker, "Reinforcement Learning with Long Short-Term Memory", NIPS 14, 2001.
"""

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rlstm.core.arrays import Array, BoolArray, FloatArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, exact
from rlstm.envs.base.checks import check_boolean, check_integer
from rlstm.envs.base.pictures import enlarge

NORTH, EAST, SOUTH, WEST = range(4)
REWARD_CORRECT_TURN = 4.0
REWARD_WRONG_TURN_OR_BUMP = -0.1
STEPS_ALLOWED_PER_CELL = 10

START_GOAL_NORTH, START_GOAL_SOUTH, CORRIDOR, JUNCTION = range(4)
OBSERVATIONS = np.array([[0, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=np.float32)

COLOUR_WALL, COLOUR_FLOOR, COLOUR_GOAL, COLOUR_AGENT = (40, 40, 40), (225, 225, 225), (60, 170, 80), (200, 60, 50)


class TMaze(BatchedTask):
    """Walk down a corridor and turn to the side that the first observation told.

    The maze is a row of cells 0, ..., N, with N = `corridor_length`: the start is cell 0, the junction cell N. So the
    shortest episode is N moves east and the turn, N + 1 steps, and the sign must be remembered for N steps.

        start                 junction   [ north arm ]
        [ 0 ][ 1 ][ 2 ] ... [ N - 1 ]    [     N     ]
                                         [ south arm ]

    ## Action Space
    Discrete(4): 0 north, 1 east, 2 south, 3 west.

    ## Observation Space
    Box(0, 1, (3,), float32).

    | where | observation |
    |---|---|
    | start, the goal is north | 0 1 1 |
    | start, the goal is south | 1 1 0 |
    | corridor | 1 0 1, or a 0 b with a, b uniform on [0, 1] and new at each step if `noise` |
    | junction | 0 1 0 |

    ## Rewards
    4 for the turn to the goal, -0.1 for the other turn, -0.1 for a bump, that is an action that doesn't change the
    cell (west at the start, north and south before the junction, east at the junction), and 0 for any other move.

    ## Starting State
    Cell 0; the goal is north or south with probability 1/2. It is the task: `options={"new_task": False}` keeps it.

    ## Episode End
    Terminated by a turn at the junction, right or wrong. Truncated after `max_steps`. `is_success` tells whether the
    turn was the right one. Bakker has no step limit, and doesn't say what is seen after the turn: here, the junction.

    ## Arguments
    - `corridor_length`: N >= 1.
    - `noise`: whether corridor observations are noisy.
    - `max_steps`: N + 1 or more; default 10 (N + 1), so that the limit grows with the corridor.
    """

    memory = "on which side the sign at the start was"
    source = "Bakker, Reinforcement Learning with LSTM, NIPS 2001"
    supports_new_task = True
    state_arrays = ("positions", "goal_is_north", "corridor_noise")
    optimal_return = exact(REWARD_CORRECT_TURN, "straight east and the right turn; no other reward is positive")

    def __init__(
        self, num_envs: int, corridor_length: int = 20, noise: bool = False, max_steps: int | None = None
    ) -> None:
        check_integer("corridor_length", corridor_length, 1)
        check_boolean("noise", noise)
        if max_steps is None:
            max_steps = STEPS_ALLOWED_PER_CELL * (corridor_length + 1)
        # Fewer steps than the shortest way would leave every episode without an outcome.
        check_integer(f"max_steps for corridor_length {corridor_length}", max_steps, corridor_length + 1)
        super().__init__(num_envs, Box(0.0, 1.0, (3,), np.float32), Discrete(4), max_steps)
        self.corridor_length, self.noise = corridor_length, noise
        self.positions: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.goal_is_north: BoolArray = np.zeros(num_envs, dtype=np.bool_)
        self.corridor_noise: FloatArray = np.zeros((num_envs, 2))
        kinds = np.full((2, corridor_length + 1), CORRIDOR)
        kinds[:, 0] = START_GOAL_SOUTH, START_GOAL_NORTH
        kinds[:, -1] = JUNCTION
        # What is seen by whether the goal is north and by position, one row after the other.
        self.views: npt.NDArray[np.float32] = OBSERVATIONS[kinds].reshape(-1, 3)
        self.memory_length = self.corridor_length  # From the sign to the turn.
        # Half the turns are right. Without memory the turn at the junction doesn't depend on the goal, so if all
        # episodes end with a turn, half of them earn 4 and half -0.1: 1.95, which always going east and then north
        # attains. Nor does it pay to evade the turn when it would be wrong. Only at the start can the goal change what
        # is done, all that can be done there but going east is to bump, and one bump costs as much as the wrong turn.
        value = 0.5 * REWARD_CORRECT_TURN + 0.5 * REWARD_WRONG_TURN_OR_BUMP
        self.memoryless_return = exact(value, "the junction looks the same for both goals, so half the turns are wrong")

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Go back to the start; a new task is a new side."""
        self.positions[rows] = 0
        drawn = rows[new_task]
        self.goal_is_north[drawn] = self.random.integers(drawn, 2) == 1

    def advance(self, actions: Array) -> Transition:
        """Move, turn or bump."""
        goes_east, goes_west = actions == EAST, actions == WEST
        at_junction = self.positions == self.corridor_length
        moves_east = goes_east & ~at_junction
        moves_west = goes_west & (self.positions > 0)
        turns = at_junction & ~(goes_east | goes_west)
        turns_right = turns & ((actions == NORTH) == self.goal_is_north)
        self.positions += moves_east
        self.positions -= moves_west
        if self.noise:
            self.corridor_noise = self.random.uniform(self.every_lane, (2,))
        rewards = np.where(moves_east | moves_west, 0.0, REWARD_WRONG_TURN_OR_BUMP)
        rewards[turns_right] = REWARD_CORRECT_TURN
        return Transition(rewards, turns, {"is_success": turns_right})

    def observe(self) -> Array:
        """Return what is seen in the present cells, (B, 3)."""
        observations = self.views.take(self.goal_is_north * (self.corridor_length + 1) + self.positions, axis=0)
        if self.noise:
            in_corridor = (self.positions > 0) & (self.positions < self.corridor_length)
            observations[in_corridor, ::2] = self.corridor_noise[in_corridor]
        return observations

    def render_text(self, lane: int) -> str:
        """Show the maze from above: @ the agent, G the goal."""
        indent = " " * self.corridor_length
        arms = ("G", ".") if self.goal_is_north[lane] else (".", "G")
        corridor = ["."] * (self.corridor_length + 1)
        corridor[int(self.positions[lane])] = "@"
        return f"{indent}{arms[0]}\n{''.join(corridor)}\n{indent}{arms[1]}"

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """Draw the maze from above, one square per cell."""
        cells = np.full((3, self.corridor_length + 1, 3), COLOUR_WALL, dtype=np.uint8)
        cells[1] = COLOUR_FLOOR
        cells[:, -1] = COLOUR_FLOOR
        cells[0 if self.goal_is_north[lane] else 2, -1] = COLOUR_GOAL
        cells[1, int(self.positions[lane])] = COLOUR_AGENT
        return enlarge(cells)
