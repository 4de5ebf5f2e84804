"""The passive and the active T-maze: every episode is just long enough for the way without a detour.

Source: T. Ni, M. Ma, B. Eysenbach, P.-L. Bacon, "When Do Transformers Shine in RL? Decoupling Memory from Credit
Assignment", NeurIPS 2023. Rules, rewards and lengths are those of the authors' code, twni2016/Memory-RL, envs/tmaze.py,
with the penalty of its configurations.
"""

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rlstm.core.arrays import Array, BoolArray, IntArray
from rlstm.envs.base.batched_task import BatchedTask, Transition, exact
from rlstm.envs.base.checks import check_boolean, check_integer
from rlstm.envs.base.pictures import enlarge

EAST, NORTH, WEST, SOUTH = range(4)
REWARD_GOAL = 1.0

COLOUR_WALL, COLOUR_FLOOR, COLOUR_GOAL, COLOUR_AGENT = (40, 40, 40), (225, 225, 225), (60, 170, 80), (200, 60, 50)
COLOUR_ORACLE, COLOUR_ORACLE_USED = (70, 110, 200), (170, 185, 220)


class NiTMaze(BatchedTask):
    """Walk down a corridor without a detour, and be on the side that the oracle told when time is up.

    The maze is a row of cells x = 0, ..., E, with an arm to each side of the last one, the junction. Cell 0 is the
    oracle: the first time that the agent is there it sees on which side the goal is, once. Nothing else tells it, so
    it must be remembered to the end.

        oracle                   junction   [ north arm, y = 1 ]
        [  0 ][  1 ] ... [ E - 1 ]          [         E        ]
                                            [ south arm, y = -1]

    - Passive: the start is the oracle, E = `corridor_length` = L, and an episode has L + 1 steps, as many as the moves
      from the start to the goal.
    - Active (`active`): the start is cell 1, E = L + 1, and an episode has L + 3 steps, so that there is just time to
      look at the oracle first. That it is worth a look must be found out.

    ## Action Space
    Discrete(4): 0 east, 1 north, 2 west, 3 south. A move into a wall changes nothing.

    ## Observation Space
    Box(-1, 1, (2,), float32).

    | where | observation |
    |---|---|
    | oracle, at the first time in the episode | 0, then 1 if the goal is north and -1 if it is south |
    | oracle at any other time, corridor | 0 0 |
    | junction and arms | 1 y |

    ## Rewards
    At the last step 1 for being in the arm of the goal, else 0. At every step t = 1, 2, ... before it -1 / L if the
    agent is behind, that is if x < t when passive, x < t - 1 when active, else 0. The authors' further options (a
    reward that distracts, other observations) are left out.

    ## Starting State
    The goal is north or south with probability 1/2. It is the task: `options={"new_task": False}` keeps it.

    ## Episode End
    Terminated after the L + 1 or L + 3 steps and by nothing else: an arm can be left again. `is_success` tells whether
    the agent is in the arm of the goal then.

    ## Arguments
    - `corridor_length`: L >= 1, the moves from the start to the junction.
    - `active`: whether the oracle is one cell to the west of the start.
    """

    memory = "on which side the goal is, seen once at the oracle"
    source = "Ni et al., When Do Transformers Shine in RL?, NeurIPS 2023"
    supports_new_task = True
    state_arrays = ("cells", "goal_sides", "oracle_speaks", "oracle_visited")
    optimal_return = exact(REWARD_GOAL, "no detour and the right turn; no other reward is positive")
    # Half the turns are right. An agent that saw the oracle and still comes to an arm went to it at once and straight
    # back, as there is no spare step; then only the last action matters, it is taken at the junction, which looks the
    # same for both goals, and with N and S its probabilities of north and south at most N / 2 + S / 2 <= 1/2 is earned.
    # What was done at the oracle can't help: any other action there costs the step that is needed for the turn. Without
    # a look at it nothing is known. No other reward is positive, and always going east, then north, attains 1/2.
    memoryless_return = exact(
        0.5 * REWARD_GOAL, "the junction looks the same for both goals, so half the turns are wrong"
    )

    def __init__(self, num_envs: int, corridor_length: int = 50, active: bool = False) -> None:
        check_integer("corridor_length", corridor_length, 1)
        check_boolean("active", active)
        super().__init__(num_envs, Box(-1.0, 1.0, (2,), np.float32), Discrete(4))
        self.corridor_length, self.active = corridor_length, active
        self.start = 1 if active else 0
        self.junction = self.start + corridor_length
        # To the oracle and back, down the corridor, and the turn.
        self.num_steps = 2 * self.start + corridor_length + 1
        self.cells: IntArray = np.zeros(num_envs, dtype=np.int64)
        self.goal_sides: IntArray = np.zeros(num_envs, dtype=np.int64)  # y of the arm with the goal
        self.oracle_speaks: BoolArray = np.zeros(num_envs, dtype=np.bool_)
        self.oracle_visited: BoolArray = np.zeros(num_envs, dtype=np.bool_)
        # Cells are numbered by x; the two arms come after the junction.
        self.num_cells = self.junction + 3
        north_arm, south_arm = self.junction + 1, self.junction + 2
        self.columns: IntArray = np.minimum(np.arange(self.num_cells), self.junction)
        self.sides: IntArray = np.zeros(self.num_cells, dtype=np.int64)
        self.sides[[north_arm, south_arm]] = 1, -1
        self.views = np.stack([self.columns == self.junction, self.sides], axis=1).astype(np.float32)
        # The next cell by action and cell, one row after the other.
        next_cells = np.tile(np.arange(self.num_cells), (4, 1))
        next_cells[EAST, : self.junction] += 1
        next_cells[WEST, 1 : self.junction + 1] -= 1
        next_cells[[NORTH, SOUTH], self.junction] = north_arm, south_arm
        next_cells[[NORTH, SOUTH], [south_arm, north_arm]] = self.junction
        self.next_cells: IntArray = next_cells.ravel()
        self.memory_length = self.junction  # From the look at the oracle to the turn.

    def begin_episodes(self, rows: IntArray, new_task: BoolArray) -> None:
        """Go back to the start; a new task is a new side."""
        self.cells[rows] = self.start
        # An agent that starts at the oracle sees it at once.
        self.oracle_speaks[rows] = not self.active
        self.oracle_visited[rows] = not self.active
        drawn = rows[new_task]
        self.goal_sides[drawn] = 2 * self.random.integers(drawn, 2) - 1

    def advance(self, actions: Array) -> Transition:
        """Move; pay for the place when time is up, and for being behind before."""
        self.cells = self.next_cells.take(actions * self.num_cells + self.cells)
        at_oracle = self.cells == 0
        self.oracle_speaks = at_oracle & ~self.oracle_visited
        self.oracle_visited = self.oracle_visited | at_oracle
        over = self.elapsed_steps == self.num_steps
        at_goal = over & (self.sides.take(self.cells) == self.goal_sides)
        behind = (self.columns.take(self.cells) < self.elapsed_steps - self.start) & ~over
        rewards = np.where(behind, -1.0 / self.corridor_length, 0.0)
        rewards[at_goal] = REWARD_GOAL
        return Transition(rewards, over, {"is_success": at_goal})

    def observe(self) -> Array:
        """Return whether this is the junction or an arm, and the side, of the goal at the oracle, else of the agent."""
        observations = self.views.take(self.cells, axis=0)
        observations[:, 1] += self.oracle_speaks * self.goal_sides
        return observations

    def render_text(self, lane: int) -> str:
        """Show the maze from above: @ the agent, G the goal, ? the oracle, ! the oracle while it shows the side."""
        indent, cell = " " * self.junction, int(self.cells[lane])
        symbols = np.full(self.num_cells, ".")
        symbols[0] = "?"
        symbols[self.junction + (1 if self.goal_sides[lane] == 1 else 2)] = "G"
        symbols[cell] = "!" if self.oracle_speaks[lane] else "@"
        corridor, (north, south) = "".join(symbols[: self.junction + 1]), symbols[self.junction + 1 :]
        return f"{indent}{north}\n{corridor}\n{indent}{south}\nstep {self.elapsed_steps[lane]} of {self.num_steps}"

    def render_pixels(self, lane: int) -> npt.NDArray[np.uint8]:
        """Draw the maze from above, one square per cell; the oracle pales once it has been visited."""
        squares = np.full((3, self.junction + 1, 3), COLOUR_WALL, dtype=np.uint8)
        squares[1] = COLOUR_FLOOR
        squares[:, -1] = COLOUR_FLOOR
        squares[1, 0] = COLOUR_ORACLE_USED if self.oracle_visited[lane] else COLOUR_ORACLE
        squares[1 - int(self.goal_sides[lane]), -1] = COLOUR_GOAL
        cell = int(self.cells[lane])
        squares[1 - int(self.sides[cell]), int(self.columns[cell])] = COLOUR_AGENT
        return enlarge(squares)
